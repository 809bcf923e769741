//! Jobs: durable runs of operations, with progress and cancel. Ours alone; Cinder has none.

use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::connection::segment;
use crate::{Client, Extra, Result};

/// A durable run of an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub id: String,
    /// The operation's name: `volume.create`.
    pub operation: String,
    /// What it works on: `volume`, `snapshot`, `attachment`, `backup`.
    pub resource_type: String,
    pub resource_id: String,
    /// `queued`, `running`, `undoing`, `done`, `failed`, `cancelled`.
    pub state: String,
    /// The step that runs or failed.
    #[serde(default)]
    pub step: Option<String>,
    /// All steps of its operation, in order.
    #[serde(default)]
    pub steps: Vec<String>,
    #[serde(default)]
    pub attempts: u64,
    /// Why nobody works on it now.
    #[serde(default)]
    pub waits: Option<JobWaits>,
    #[serde(default)]
    pub can_be_cancelled: bool,
    #[serde(default)]
    pub cancel_requested: bool,
    /// Where the scheduler put it and why; for administrators.
    #[serde(default)]
    pub scheduling: Option<Scheduling>,
    #[serde(default)]
    pub progress: JobProgress,
    #[serde(default)]
    pub error: Option<String>,
    #[serde(default)]
    pub created_at: Option<String>,
    #[serde(default)]
    pub started_at: Option<String>,
    #[serde(default)]
    pub finished_at: Option<String>,
    #[serde(flatten)]
    pub extra: Extra,
}

/// How far a job has come, in bytes; a total of 0 means that it is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobProgress {
    #[serde(default)]
    pub done: u64,
    #[serde(default)]
    pub total: u64,
}

/// What a job waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobWaits {
    /// `lock`, `retry`, `service`, `turn`.
    #[serde(rename = "for")]
    pub what: String,
    pub message: String,
    #[serde(flatten)]
    pub extra: Extra,
}

/// A decision of the scheduler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scheduling {
    /// The pool; none will do without it.
    #[serde(default)]
    pub chosen: Option<String>,
    /// Why none will do.
    #[serde(default)]
    pub reason: Option<String>,
    /// What became of every pool.
    #[serde(default)]
    pub verdicts: Vec<Verdict>,
}

/// What became of a pool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub pool: String,
    /// `refused`, `weighed`, `set_aside`.
    pub outcome: String,
    /// The filter that refused it.
    #[serde(default)]
    pub filter: Option<String>,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub total: Option<f64>,
    #[serde(flatten)]
    pub extra: Extra,
}

impl Scheduling {
    /// A line a pool, the chosen one first.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.chosen.iter().map(|pool| format!("chosen {pool}")).collect();
        lines.extend(self.reason.clone());
        for verdict in &self.verdicts {
            let total = verdict.total.map(|total| format!(", weight {total:.3}")).unwrap_or_default();
            let reason = verdict.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let filter = verdict.filter.as_deref().map(|filter| format!(" by {filter}")).unwrap_or_default();
            lines.push(format!(
                "{} {}{filter}{reason}{total}",
                verdict.pool,
                verdict.outcome.replace('_', " ")
            ));
        }
        lines
    }
}

impl Job {
    /// Whether it has not ended.
    pub fn is_under_way(&self) -> bool {
        matches!(self.state.as_str(), "queued" | "running" | "undoing")
    }
}

impl JobProgress {
    /// In hundredths; `None` when the total is not known.
    pub fn percent(self) -> Option<u64> {
        (self.total > 0)
            .then(|| (u128::from(self.done.min(self.total)) * 100 / u128::from(self.total)) as u64)
    }
}

impl Client {
    /// The jobs that the service remembers.
    ///
    /// # Errors
    /// As any request; 404 when the service has no jobs (Cinder).
    pub async fn jobs(&self) -> Result<Vec<Job>> {
        self.own(Method::GET, "jobs").member("jobs").await
    }

    /// The jobs that worked or work on a resource.
    ///
    /// # Errors
    /// As any request.
    pub async fn jobs_of(&self, resource: &str) -> Result<Vec<Job>> {
        let jobs: Vec<Job> =
            self.own(Method::GET, "jobs").query("resource_id", resource).member("jobs").await?;
        Ok(jobs.into_iter().filter(|job| job.resource_id == resource).collect())
    }

    /// One job.
    ///
    /// # Errors
    /// As any request; 404 when there is none.
    pub async fn job(&self, id: &str) -> Result<Job> {
        self.own(Method::GET, &format!("jobs/{}", segment(id))).member("job").await
    }

    /// Asks a job to stop; what it did so far is undone.
    ///
    /// # Errors
    /// As any request; 409 when it has ended.
    pub async fn cancel_job(&self, id: &str) -> Result<()> {
        self.own(Method::POST, &format!("jobs/{}/cancel", segment(id))).done().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_has_no_percentage_without_a_total_and_never_exceeds_it() {
        assert_eq!(JobProgress { done: 5, total: 0 }.percent(), None);
        assert_eq!(JobProgress { done: 1, total: 3 }.percent(), Some(33));
        assert_eq!(JobProgress { done: 9, total: 3 }.percent(), Some(100));
        assert_eq!(JobProgress { done: u64::MAX, total: u64::MAX }.percent(), Some(100));
    }
}
