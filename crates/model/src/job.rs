//! Jobs: durable runs of operations, and the locks they declare (design: I1, I3, I4).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{JobId, Time};

text_enum! {
    /// Where a job stands.
    JobState {
        /// Waits to be claimed by the service of its queue.
        Queued = "queued",
        /// Claimed and leased; its steps run.
        Running = "running",
        /// Failed for good; the undo of its steps runs (also claimed and leased).
        Undoing = "undoing",
        Done = "done",
        Failed = "failed",
        Cancelled = "cancelled",
    }
}

text_enum! {
    /// How a lock is held.
    LockMode { Shared = "shared", Exclusive = "exclusive" }
}

/// One lock of a job's lock set. Names are Cinder's (locks.md): `<id>-delete_volume`, `<id>`, ...
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Lock {
    pub name: String,
    pub mode: LockMode,
}

impl Lock {
    /// The lock named `name`, alone.
    pub fn exclusive(name: impl Into<String>) -> Self {
        Self { name: name.into(), mode: LockMode::Exclusive }
    }

    /// The lock named `name`, beside other shared holders.
    pub fn shared(name: impl Into<String>) -> Self {
        Self { name: name.into(), mode: LockMode::Shared }
    }
}

/// What a job works on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ResourceRef {
    /// `volume`, `snapshot`, `attachment`, `backup`.
    pub kind: String,
    pub id: String,
}

/// A job's row.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: JobId,
    /// Drawn when it was created; jobs waiting for one lock get it in this order.
    pub ticket: i64,
    /// The operation's name: `volume.create`.
    pub operation: String,
    pub resource: ResourceRef,
    pub project_id: Option<String>,
    pub user_id: Option<String>,
    pub request_id: Option<String>,
    /// The topic of the service that runs its next step.
    pub queue: String,
    pub state: JobState,
    /// What was asked for; never a token.
    pub request: Value,
    /// What the steps so far found out, by step name.
    pub data: Value,
    /// How many steps are complete (while undoing: how many are still to be undone).
    pub steps_done: i32,
    /// Who has claimed it.
    pub owner: Option<String>,
    /// The number of its latest claim; never reused.
    pub epoch: i64,
    pub attempts: i32,
    pub cancel_requested: bool,
    /// Units done of `progress_total` (bytes for copies).
    pub progress_done: i64,
    pub progress_total: i64,
    /// Why it failed, for a person.
    pub error: Option<String>,
    pub created_at: Time,
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
    /// It is not claimed before.
    pub run_after: Time,
    /// Until when its latest claim holds; `None`: it is not claimed.
    pub lease_until: Option<Time>,
    pub locks: Vec<Lock>,
}

/// A worker's hold on a job, handed down to whatever does the work: the name of this run, its time limit, its
/// cancel flag and its progress. Cloning shares them.
///
/// Whoever overwrites or publishes something calls [`check`](Self::check) right before, so that an owner whose lease
/// has run out (a stopped process, say) changes nothing that another has taken over (I4).
#[derive(Debug, Clone)]
pub struct Claim {
    /// The job.
    pub job: JobId,
    /// This claim's number: what the run creates outside the database carries it in its name.
    pub epoch: i64,
    heeds_cancel: bool,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    origin: Instant,
    /// Milliseconds after `origin` at which the executor must have stopped.
    deadline_ms: AtomicU64,
    cancelled: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
}

/// Why work under a claim must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The lease is about to end or has ended: another may own the job now.
    #[error("the lease on this job has run out")]
    LeaseLost,
    /// The user asked for it.
    #[error("cancelled on request")]
    Cancelled,
}

impl Claim {
    /// A claim that holds for `lease` from now by this machine's monotonic clock.
    pub fn new(job: JobId, epoch: i64, lease: Duration) -> Self {
        let shared = Shared {
            origin: Instant::now(),
            deadline_ms: AtomicU64::new(lease.as_millis() as u64),
            cancelled: AtomicBool::new(false),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
        };
        Self { job, epoch, heeds_cancel: true, shared: Arc::new(shared) }
    }

    /// A claim that does not run out: for work that no job carries (a command-line copy, a test).
    pub fn unbounded() -> Self {
        Self::new(JobId::new(), 1, Duration::from_secs(u64::MAX / 2000))
    }

    /// Extends the lease to `lease` from `since`, the moment before the database was asked.
    pub fn renew(&self, since: Instant, lease: Duration) {
        let at = since.saturating_duration_since(self.shared.origin) + lease;
        self.shared.deadline_ms.fetch_max(at.as_millis() as u64, Ordering::SeqCst);
    }

    /// Ends the lease at once: the database says that another has the job.
    pub fn lose(&self) {
        self.shared.deadline_ms.store(0, Ordering::SeqCst);
    }

    /// The same claim for taking back what was done: a cancelled job still cleans up.
    pub fn for_undo(&self) -> Self {
        Self { heeds_cancel: false, ..self.clone() }
    }

    /// Asks the work to stop.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::SeqCst);
    }

    /// What is left of the lease; zero when it is over.
    pub fn left(&self) -> Duration {
        let deadline = Duration::from_millis(self.shared.deadline_ms.load(Ordering::SeqCst));
        deadline.saturating_sub(self.shared.origin.elapsed())
    }

    /// Whether work may go on.
    ///
    /// # Errors
    /// [`Stop`] says why not.
    pub fn check(&self) -> Result<(), Stop> {
        if self.left().is_zero() {
            return Err(Stop::LeaseLost);
        }
        if self.heeds_cancel && self.shared.cancelled.load(Ordering::SeqCst) {
            return Err(Stop::Cancelled);
        }
        Ok(())
    }

    /// Sets how much there is to do, in bytes.
    pub fn set_total(&self, total: u64) {
        self.shared.total.store(total, Ordering::Relaxed);
    }

    /// Reports how much is done in all, in bytes.
    pub fn set_done(&self, done: u64) {
        self.shared.done.store(done, Ordering::Relaxed);
    }

    /// Reports `more` bytes done.
    pub fn add_done(&self, more: u64) {
        self.shared.done.fetch_add(more, Ordering::Relaxed);
    }

    /// Bytes done, and of how many.
    pub fn progress(&self) -> (u64, u64) {
        (self.shared.done.load(Ordering::Relaxed), self.shared.total.load(Ordering::Relaxed))
    }
}
