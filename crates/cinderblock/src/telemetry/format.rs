//! Log lines for programs. What the spans around an event say (request, user, job) is at hand in every line, so that whatever
//! was done for one request is found by its id alone.

use std::fmt;

use chrono::{Local, SecondsFormat, Utc};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// One JSON object a line.
pub struct Json;

/// `date time pid LEVEL name [request user project - - -] message key=value`, as oslo.log's default.
pub struct Oslo {
    pid: u32,
}

impl Oslo {
    pub fn new() -> Self {
        Self { pid: std::process::id() }
    }
}

/// An event's own fields.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, control::engine::with_causes(value));
    }
}

/// What the spans around an event say, outermost first, so that the innermost wins; they are kept as JSON ([`super::start_logging`]).
fn around<S, N>(context: &FmtContext<'_, S, N>) -> Map<String, Value>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let mut all = Map::new();
    for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
        if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
            && let Ok(fields) = serde_json::from_str::<Map<String, Value>>(fields)
        {
            all.extend(fields);
        }
    }
    all
}

fn own(event: &Event<'_>) -> Map<String, Value> {
    let mut fields = Fields::default();
    event.record(&mut fields);
    fields.0
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Map::new();
        let about = event.metadata();
        line.insert("timestamp".into(), Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true).into());
        line.insert("level".into(), about.level().as_str().into());
        line.insert("target".into(), about.target().into());
        for (name, value) in around(context).into_iter().chain(own(event)) {
            line.insert(name, value);
        }
        writeln!(writer, "{}", Value::Object(line))
    }
}

impl<S, N> FormatEvent<S, N> for Oslo
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let about = event.metadata();
        let level = match *about.level() {
            Level::WARN => "WARNING",
            other => other.as_str(),
        };
        let name = about.target().replace("::", ".");
        let now = Local::now().format("%Y-%m-%d %H:%M:%S%.3f");
        write!(writer, "{now} {} {level} {name} ", self.pid)?;
        let mut around = around(context);
        let mut take = |name: &str| match around.remove(name) {
            Some(Value::String(text)) if !text.is_empty() => text,
            _ => "-".to_owned(),
        };
        let (global, request) = (take("global_request_id"), take("request_id"));
        let (user, project) = (take("user_id"), take("project_id"));
        match (global.as_str(), request.as_str()) {
            ("-", "-") => write!(writer, "[-] ")?,
            ("-", _) => write!(writer, "[{request} {user} {project} - - -] ")?,
            _ => write!(writer, "[{global} {request} {user} {project} - - -] ")?,
        }
        let mut own = own(event);
        match own.remove("message") {
            Some(Value::String(text)) => write!(writer, "{}", one_line(&text))?,
            Some(other) => write!(writer, "{other}")?,
            None => {}
        }
        for (name, value) in around.into_iter().chain(own) {
            match value {
                Value::String(text) => write!(writer, " {name}={}", one_line(&text))?,
                other => write!(writer, " {name}={other}")?,
            }
        }
        writeln!(writer)
    }
}

/// Whoever is named in a log line must not be able to write a second one.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
