//! When a driver is done: what it promises is tried, every call is repeated, and every call is cut off at every point
//! where its process could have died.
//!
//! [`run`] goes through all suites and returns the names of those that ran; a failed promise is an error that says which.

mod basics;
mod content;
mod crash;
mod manage;
mod snapshots;
mod together;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model::job::Claim;
use model::{GiB, JobId, SnapshotId, VolumeId};

use crate::error::{DriverError, ErrorKind};
use crate::fault::Faults;
use crate::{Provider, SharedDriver, SnapshotRef, VolumeRef};

/// A broken promise, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

impl From<DriverError> for Broken {
    fn from(error: DriverError) -> Self {
        let cause = error.source.as_ref().map(|s| format!(": {s}")).unwrap_or_default();
        Self(format!("unexpected {:?}: {error}{cause}", error.kind))
    }
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self(format!("unexpected {:?}: {error}", error.kind()))
    }
}

/// A suite's outcome.
pub type Check<T = ()> = Result<T, Broken>;

/// Fails with `why` unless `holds`.
fn ensure(holds: bool, why: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(Broken(why())) }
}

/// Fails unless `result` is an error of `kind`.
fn refused<T>(result: crate::Result<T>, kind: ErrorKind, what: &str) -> Check {
    match result {
        Err(e) if e.kind == kind => Ok(()),
        Err(e) => Err(Broken(format!("{what} failed with {:?} ({e}), not {kind:?}", e.kind))),
        Ok(_) => Err(Broken(format!("{what} succeeded instead of failing with {kind:?}"))),
    }
}

/// Makes drivers on one backend, which is empty at first.
#[async_trait]
pub trait Factory: Send + Sync {
    /// A new instance, started: what a new process would have.
    async fn driver(&self) -> SharedDriver;

    /// A new instance that dies when `faults` says so; `None` where that cannot be done.
    async fn dying(&self, _faults: Arc<Faults>) -> Option<SharedDriver> {
        None
    }

    /// Told what was done: a suite with its milliseconds, a call with the points at which it was cut off.
    fn note(&self, _what: &str, _count: u64) {}
}

/// One suite.
type Suite = for<'a> fn(&'a dyn Factory) -> boxed::BoxCheck<'a>;

/// The one type that an asynchronous function has behind a pointer.
mod boxed {
    use std::future::Future;
    use std::pin::Pin;

    pub type BoxCheck<'a> = Pin<Box<dyn Future<Output = super::Check> + Send + 'a>>;
}

/// All suites, by name.
const SUITES: &[(&str, Suite)] = &[
    ("a volume is made, used and removed", |f| Box::pin(basics::life(f))),
    ("one process has a volume", |f| Box::pin(basics::ownership(f))),
    ("a volume grows", |f| Box::pin(basics::growth(f))),
    ("stretches are given back and read as zeros", |f| Box::pin(basics::discards(f))),
    ("a volume is cloned", |f| Box::pin(basics::clones(f))),
    ("a copy is cancelled", |f| Box::pin(basics::cancels(f))),
    ("a lost claim publishes nothing", |f| Box::pin(basics::lost_claims(f))),
    ("the figures make sense", |f| Box::pin(basics::figures(f))),
    ("a snapshot stays as it was", |f| Box::pin(snapshots::frozen(f))),
    ("snapshots go in any order", |f| Box::pin(snapshots::any_order(f))),
    ("a snapshot under load is a moment", |f| Box::pin(snapshots::under_load(f))),
    ("a volume has many snapshots", |f| Box::pin(snapshots::many(f))),
    ("a volume is set back", |f| Box::pin(snapshots::reverts(f))),
    ("what is given up is taken over again", |f| Box::pin(manage::taken_over(f))),
    ("snapshots of several volumes are of one moment", |f| Box::pin(together::under_load(f))),
    ("snapshots of several volumes are cut off and taken anew", |f| Box::pin(together::cut_off(f))),
    ("any call may be cut off and repeated", |f| Box::pin(crash::repeated(f))),
    ("any call may be cut off and undone", |f| Box::pin(crash::undone(f))),
];

/// Runs every suite on an empty backend, which is empty again afterwards.
///
/// # Errors
/// The first broken promise.
pub async fn run(factory: &dyn Factory) -> Check<Vec<&'static str>> {
    let mut ran = Vec::new();
    for (name, suite) in SUITES {
        let start = std::time::Instant::now();
        suite(factory).await.map_err(|e| Broken(format!("{name}: {e}")))?;
        let left = factory.driver().await.list().await?;
        ensure(left.is_empty(), || format!("{name}: left {left:?}"))?;
        factory.note(name, start.elapsed().as_millis() as u64);
        ran.push(*name);
    }
    Ok(ran)
}

/// A new volume's reference.
pub fn volume(size: u32) -> VolumeRef {
    let id = VolumeId::new();
    VolumeRef { id, name: format!("volume-{id}"), size: GiB(size), provider: Provider::default() }
}

/// A new snapshot's reference.
pub fn snapshot(volume: &VolumeRef) -> SnapshotRef {
    let id = SnapshotId::new();
    SnapshotRef {
        id,
        name: format!("snapshot-{id}"),
        size: volume.size,
        provider: Provider::default(),
        volume: volume.clone(),
    }
}

/// A job's first claim.
pub fn claim() -> Claim {
    Claim::new(JobId::new(), 1, Duration::from_secs(3600))
}

/// The claim of the run after this one.
fn next(claim: &Claim) -> Claim {
    Claim::new(claim.job, claim.epoch + 1, Duration::from_secs(3600))
}
