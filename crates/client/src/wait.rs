//! Waiting for a resource to reach a state, with its job's progress where the service tells it.

use std::time::{Duration, Instant};

use crate::job::Job;
use crate::list::absent;
use crate::{Client, Error, Result};

/// The contract has no event for a status, so it is asked for: soon at first, then less often.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What is waited for: how to look, when it is over, and for how long.
pub struct Waited<'a> {
    /// `volume`, `snapshot`, `backup`.
    pub kind: &'static str,
    pub id: String,
    /// Statuses that end the waiting well. A resource that is gone ends it well when this is empty.
    pub until: &'a [&'a str],
    pub limit: Duration,
}

/// How far the work has come, told while waiting.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The resource's status.
    pub status: String,
    /// The job that works on it, when there is one.
    pub job: Option<Job>,
}

/// A look at a resource: its status, and why it failed if it did.
pub(crate) struct Look {
    pub status: String,
    pub reason: Option<String>,
}

impl Client {
    /// Waits until a volume, snapshot or backup is in one of the wanted statuses, or gone when none is wanted.
    ///
    /// # Errors
    /// [`Error::Ended`] when it comes to rest in an error status, [`Error::TimedOut`] when `limit` has passed.
    pub async fn wait(&self, waited: &Waited<'_>, mut tell: impl FnMut(&Progress)) -> Result<()> {
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let look = absent(self.look(waited.kind, &waited.id).await)?;
            let Some(look) = look else {
                return match waited.until {
                    [] => Ok(()),
                    _ => Err(Error::NotFound { kind: waited.kind, name: waited.id.clone() }),
                };
            };
            if waited.until.contains(&look.status.as_str()) {
                return Ok(());
            }
            if look.status.starts_with("error") {
                let Look { status, reason } = look;
                let reason = reason.or(self.reason(&waited.id).await);
                return Err(Error::Ended { kind: waited.kind, id: waited.id.clone(), status, reason });
            }
            if start.elapsed() > waited.limit {
                let seconds = waited.limit.as_secs();
                return Err(Error::TimedOut {
                    kind: waited.kind,
                    id: waited.id.clone(),
                    status: look.status,
                    seconds,
                });
            }
            tell(&Progress { status: look.status, job: self.running_job(&waited.id).await });
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }

    async fn look(&self, kind: &str, id: &str) -> Result<Look> {
        match kind {
            "snapshot" => self.snapshot(id).await.map(|one| Look { status: one.status, reason: None }),
            "backup" => self.backup(id).await.map(|one| Look { status: one.status, reason: one.fail_reason }),
            _ => self.volume(id).await.map(|one| Look { status: one.status, reason: None }),
        }
    }

    /// The job that works on a resource; `None` also when the service does not tell.
    async fn running_job(&self, resource: &str) -> Option<Job> {
        let jobs = self.jobs_of(resource).await.ok()?;
        jobs.into_iter().find(Job::is_under_way)
    }

    /// The newest message about a resource, else the newest job's error.
    async fn reason(&self, resource: &str) -> Option<String> {
        let message = self.newest_message(resource).await.ok().flatten().map(|message| message.user_message);
        let jobs = self.jobs_of(resource).await.unwrap_or_default();
        let newest_failed =
            jobs.into_iter().filter(|job| job.error.is_some()).max_by_key(|job| job.created_at.clone());
        message.or(newest_failed.and_then(|job| job.error))
    }
}
