//! Logs, metrics, and what is said on standard error.

mod format;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use api::host::{LogLevel, LogLevels};
use clap::ValueEnum;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::JsonFields;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// As OpenStack's services write theirs.
    Oslo,
}

/// Puts a filter in the place of the one that is in force.
type Reload = Box<dyn Fn(EnvFilter) -> Result<(), tracing_subscriber::reload::Error> + Send + Sync>;

/// The filter of log lines, which operators change while the process runs.
pub struct Levels {
    /// What the process was started with.
    base: String,
    /// What was changed since, by the beginning of names.
    changed: Mutex<BTreeMap<String, LogLevel>>,
    reload: Reload,
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Levels").field("base", &self.base).finish_non_exhaustive()
    }
}

/// Starts logging to standard error. `CINDERBLOCK_LOG` holds the filter (`debug`, `control=debug,info`, ...).
pub fn start_logging(format: LogFormat, debug: bool) -> Arc<Levels> {
    let default = if debug { "debug,sqlx=info,hyper=info" } else { "info,sqlx=warn" };
    let given = std::env::var("CINDERBLOCK_LOG").ok().filter(|text| EnvFilter::try_new(text).is_ok());
    let base = given.unwrap_or_else(|| default.to_owned());
    // Told of on standard error, an error of standard error would be a panic: a full disk under the log must not end work.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&base))
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    let reload: Reload = match format {
        LogFormat::Text => {
            let builder = builder.with_target(false).with_ansi(use_colour()).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| handle.reload(filter))
        }
        LogFormat::Json => {
            let builder = builder.fmt_fields(JsonFields::new()).event_format(format::Json);
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| handle.reload(filter))
        }
        LogFormat::Oslo => {
            let builder = builder.fmt_fields(JsonFields::new()).event_format(format::Oslo::new());
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| handle.reload(filter))
        }
    };
    Arc::new(Levels { base, changed: Mutex::default(), reload })
}

/// The names whose levels are shown: our crates, and the one of others that says most.
const NAMES: [&str; 8] = ["api", "backup", "cinderblock", "control", "db", "drivers", "iscsi", "sqlx"];
/// More changes than this are not kept.
const MAX_CHANGES: usize = 100;

impl Levels {
    /// The filter in force, as text.
    fn filter(&self, changed: &BTreeMap<String, LogLevel>) -> String {
        let word = |level: LogLevel| match level {
            LogLevel::Error => "error",
            LogLevel::Warning => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
        };
        let mut filter = self.base.clone();
        for (prefix, level) in changed {
            filter.push(',');
            if !prefix.is_empty() {
                filter.push_str(prefix);
                filter.push('=');
            }
            filter.push_str(word(*level));
        }
        filter
    }
}

/// The level of a name under a filter: the longest beginning of it that the filter names decides, the last one of equals.
fn level_of(filter: &str, name: &str) -> LogLevel {
    let mut best = (0, LogLevel::Error);
    for part in filter.split(',').map(str::trim) {
        let (prefix, word) = part.split_once('=').unwrap_or(("", part));
        let level = match word.to_ascii_lowercase().as_str() {
            "error" | "off" => LogLevel::Error,
            "warn" => LogLevel::Warning,
            "info" => LogLevel::Info,
            "debug" | "trace" => LogLevel::Debug,
            _ => continue,
        };
        if name.starts_with(prefix) && prefix.len() >= best.0 {
            best = (prefix.len(), level);
        }
    }
    best.1
}

impl LogLevels for Levels {
    fn levels(&self, prefix: &str) -> BTreeMap<String, LogLevel> {
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let filter = self.filter(&changed);
        let names = NAMES.iter().copied().chain(changed.keys().map(String::as_str));
        let shown = names.filter(|name| !name.is_empty() && name.starts_with(prefix));
        shown.map(|name| (name.to_owned(), level_of(&filter, name))).collect()
    }

    fn set(&self, prefix: &str, level: LogLevel) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = changed.clone();
        if prefix.is_empty() {
            // Everything: what was said of single names no longer holds.
            wanted.clear();
        }
        wanted.insert(prefix.to_owned(), level);
        let filter = EnvFilter::try_new(self.filter(&wanted)).ok().filter(|_| wanted.len() <= MAX_CHANGES);
        match filter.map(|filter| (self.reload)(filter)) {
            Some(Ok(())) => *changed = wanted,
            _ => tracing::warn!(prefix, "this log level cannot be set"),
        }
    }
}

fn use_colour() -> bool {
    use std::io::IsTerminal as _;
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What can be seen of a process, and changed of what is seen.
#[derive(Debug)]
pub struct Telemetry {
    pub metrics: PrometheusHandle,
    pub logs: Arc<Levels>,
}

/// Starts collecting metrics.
///
/// # Errors
/// Another recorder is installed.
pub fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new().set_buckets(control::measure::BUCKETS)?.install_recorder()?;
    control::measure::describe();
    Ok(handle)
}

/// Prints an error and its causes in one line.
pub fn say_error(error: &anyhow::Error) {
    // With standard error closed there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels() -> Levels {
        let reload: Reload = Box::new(|_| Ok(()));
        Levels { base: "info,sqlx=warn".into(), changed: Mutex::default(), reload }
    }

    #[test]
    fn the_longest_name_decides() {
        let levels = levels();
        let shown = |prefix: &str| levels.levels(prefix).into_iter().collect::<Vec<_>>();
        assert_eq!(shown("sq"), [("sqlx".to_owned(), LogLevel::Warning)]);
        assert_eq!(shown("db"), [("db".to_owned(), LogLevel::Info)]);
        levels.set("db", LogLevel::Debug);
        levels.set("db::conn", LogLevel::Error);
        assert_eq!(
            shown("db"),
            [("db".to_owned(), LogLevel::Debug), ("db::conn".to_owned(), LogLevel::Error)]
        );
        assert_eq!(shown("api"), [("api".to_owned(), LogLevel::Info)]);
        levels.set("", LogLevel::Warning);
        assert_eq!(shown("db"), [("db".to_owned(), LogLevel::Warning)]);
    }

    #[test]
    fn names_that_are_none_change_nothing() {
        let levels = levels();
        levels.set("a=b=c[", LogLevel::Debug);
        assert_eq!(levels.levels("").len(), NAMES.len());
        for n in 0..2 * MAX_CHANGES {
            levels.set(&format!("x{n}"), LogLevel::Debug);
        }
        assert_eq!(levels.levels("x").len(), MAX_CHANGES);
    }
}
