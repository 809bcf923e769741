//! The job engine: operations as tables of steps, and the runner that carries jobs through them (I1, I3, I4).
//!
//! An operation is a short straight list of named steps. A step may run any number of times: after a crash the next claim
//! repeats the one that was not recorded as complete. When a step fails for good, the steps so far are undone in
//! reverse. What ends the operation in the database (`finish` or `fail`) happens in the transaction that ends the job, and
//! both are refused when the claim is over.

mod fault;
mod runner;

use std::fmt;
use std::sync::Arc;

use db::Tx;
use futures::future::BoxFuture;
use model::job::{Claim, Job, Stop};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cloud::Cloud;
use crate::message::Detail;
use crate::node::Node;

pub use fault::kill_points;
pub use runner::{Runner, RunnerConfig};

/// Where a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Scheduler,
    /// The volume service of the volume's backend.
    Volume,
    /// The process that has, or is to have, the volume open: the target of its node while there is an export of it, else
    /// the volume service. Asked again at every claim, so that a step which met a volume that had just been exported
    /// (`Busy`) is tried again where it is open.
    Owner,
    /// The backup service of the backup.
    Backup,
    /// Whoever it was queued for.
    Queued,
}

/// Under this name a job's data says which step is being taken back, the failed tries so far, and why the last failed.
pub(crate) const UNDO: &str = "undo";

/// Under this name a job's data has the steps that could not be taken back, and why.
const LEFT: &str = "left";

/// What a step leaves behind for later steps and for whoever resumes.
pub type Output = Result<Value, Failure>;

/// How a step acts.
#[derive(Clone, Copy)]
pub enum Act {
    /// On the world outside the database. Repeatable.
    Do(for<'a> fn(&'a Work) -> BoxFuture<'a, Output>),
    /// On the database only, in the transaction that records the step as complete.
    Record(for<'a> fn(&'a Work, &'a mut Tx) -> BoxFuture<'a, Output>),
}

/// How a step is taken back.
pub type Undo = for<'a> fn(&'a Work) -> BoxFuture<'a, Result<(), Failure>>;

/// One step.
pub struct Step {
    pub name: &'static str,
    pub at: At,
    pub act: Act,
    /// Takes back what the step did, or may have begun to do. Repeatable. `None`: nothing to take back.
    pub undo: Option<Undo>,
}

/// An operation.
pub struct Operation {
    /// `volume.create`.
    pub name: &'static str,
    pub steps: &'static [Step],
    /// Ends it well.
    pub finish: for<'a> fn(&'a Work, &'a mut Tx) -> BoxFuture<'a, db::Result<()>>,
    /// Ends it badly, after everything has been undone.
    pub fail: for<'a> fn(&'a Work, &'a mut Tx, &'a Failure) -> BoxFuture<'a, db::Result<()>>,
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A claimed job in the hands of a process.
#[derive(Debug, Clone)]
pub struct Work {
    pub cloud: Cloud,
    pub node: Arc<Node>,
    pub job: Arc<Job>,
    pub claim: Claim,
}

impl Work {
    /// The request, as the operation's own type.
    ///
    /// # Errors
    /// It was written by another version that means something else.
    pub fn request<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_value(self.job.request.clone()).map_err(|error| {
            Failure::permanent(format!("this version cannot read the job's request: {error}"))
        })
    }

    /// What attempts before this one failed with, elsewhere.
    pub fn tried(&self) -> &[Value] {
        self.job.data["tried"].as_array().map_or(&[], Vec::as_slice)
    }

    /// What step `name` left behind.
    pub fn output(&self, name: &str) -> &Value {
        &self.job.data[name]
    }

    /// Whether what step `name` did could not be taken back: what is left is the resource's, until it is deleted.
    pub fn is_left(&self, name: &str) -> bool {
        !self.job.data[LEFT][name].is_null()
    }

    /// Who makes the changes of this job, for the event log.
    pub fn by(&self) -> db::event::By<'_> {
        db::event::By {
            job: Some(self.job.id),
            request_id: self.job.request_id.as_deref(),
            project_id: self.job.project_id.as_deref(),
        }
    }
}

/// Why a step did not succeed.
#[derive(Debug, Clone)]
pub struct Failure {
    pub kind: FailureKind,
    /// For the log and the job's row: what failed and why.
    pub message: String,
    /// What the user is told (`messages`).
    pub detail: Detail,
    /// What else is kept with the job: under `failure`, or under `waits` while it is tried again.
    pub data: Value,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// It may work later: the step is tried again, some times.
    Again,
    /// It will not work: undo.
    Permanent,
    /// It may work elsewhere: undo, then begin again from the first step. The failure's `data` is added to the job's `tried`.
    Elsewhere,
    /// The user asked to stop: undo.
    Cancelled,
    /// The claim is over: stop and change nothing.
    Lost,
}

impl Failure {
    /// Trying again does not help.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::Permanent,
            message: message.into(),
            detail: Detail::Unknown,
            data: Value::Null,
        }
    }

    /// Trying again may help.
    pub fn again(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Again, message: message.into(), detail: Detail::Unknown, data: Value::Null }
    }

    /// With what the user is told.
    pub fn telling(mut self, detail: Detail) -> Self {
        self.detail = detail;
        self
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        let kind = match stop {
            Stop::LeaseLost => FailureKind::Lost,
            Stop::Cancelled => FailureKind::Cancelled,
        };
        Self { kind, message: stop.to_string(), detail: Detail::Unknown, data: Value::Null }
    }
}

impl From<db::Error> for Failure {
    fn from(error: db::Error) -> Self {
        match error {
            db::Error::Fenced(_) => Self::from(Stop::LeaseLost),
            db::Error::Sql(_) => Self::again(error.to_string()),
            other => Self::permanent(other.to_string()),
        }
    }
}

impl From<drivers::DriverError> for Failure {
    fn from(error: drivers::DriverError) -> Self {
        use drivers::ErrorKind;
        let text = with_causes(&error);
        match error.kind {
            ErrorKind::Stopped(stop) => stop.into(),
            // These texts name the caller's own things: they may be read while it is waited for.
            ErrorKind::Busy => Self { data: serde_json::json!({ "busy": text }), ..Self::again(text) },
            ErrorKind::NoSpace => Self::permanent(text).telling(Detail::NotEnoughSpace),
            _ => Self::permanent(text),
        }
    }
}

/// An error with everything beneath it, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
