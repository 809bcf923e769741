//! Waiting with a progress bar on standard error; nothing is drawn when that is no terminal.

use indicatif::{ProgressBar, ProgressStyle};

use super::Session;
use super::fields::WaitFields;
use crate::{Progress, Result, Waited};

impl Session {
    /// Waits when asked to; see [`crate::Client::wait`].
    pub async fn wait(&self, fields: WaitFields, kind: &'static str, id: &str, until: &[&str]) -> Result<()> {
        if !fields.wait {
            return Ok(());
        }
        let bar = Bar::new(format!("{kind} {id}"));
        let waited = Waited { kind, id: id.to_owned(), until, limit: fields.limit() };
        let result = self.client.wait(&waited, |progress| bar.show(progress)).await;
        bar.end();
        result
    }
}

/// A spinner while nothing is known, a bar once there is a total.
pub struct Bar {
    bar: ProgressBar,
    what: String,
}

impl Bar {
    pub fn new(what: String) -> Self {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        Self { bar, what }
    }

    /// Shows how far the work has come.
    pub fn show(&self, progress: &Progress) {
        let job = progress.job.as_ref();
        let step =
            job.and_then(|job| job.step.as_deref()).map(|step| format!(" ({step})")).unwrap_or_default();
        self.bar.set_message(format!("{} {}{step}", self.what, progress.status));
        let Some(work) = job.map(|job| job.progress).filter(|work| work.total > 0) else { return };
        if self.bar.length().is_none() {
            let template = "{spinner} {msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            let style = ProgressStyle::with_template(template).expect("a constant template is valid");
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.set_length(work.total);
        self.bar.set_position(work.done.min(work.total));
    }

    /// Takes it off the screen.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
