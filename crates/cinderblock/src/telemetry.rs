//! Logs, metrics, and what is said on standard error.

use std::io::Write as _;

use clap::ValueEnum;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to standard error. `CINDERBLOCK_LOG` holds the filter (`debug`, `control=debug,info`, ...).
pub fn start_logging(format: LogFormat, debug: bool) {
    let default = if debug { "debug,sqlx=info,hyper=info" } else { "info,sqlx=warn" };
    let filter = EnvFilter::try_from_env("CINDERBLOCK_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_target(false).with_ansi(use_colour()).init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).init(),
    }
}

fn use_colour() -> bool {
    use std::io::IsTerminal as _;
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Starts collecting metrics.
///
/// # Errors
/// Another recorder is installed.
pub fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    Ok(PrometheusBuilder::new().install_recorder()?)
}

/// Prints an error and its causes in one line.
pub fn say_error(error: &anyhow::Error) {
    // With standard error closed there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
}
