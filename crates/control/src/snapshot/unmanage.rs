//! Unmanage: `os-unmanage`. The row goes as in a deletion, and the backend keeps the bytes, apart from the volume's.

use db::Tx;
use db::transition::{Begin, Outcome};
use drivers::{ErrorKind, Openable};
use model::transition::SnapshotOp;
use model::{JobId, SnapshotId};
use serde_json::Value;

use super::delete::{self, gone};
use super::{id_of, reference};
use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Act, At, Failure, Operation, Output, Step, Work};
use crate::error::{Error, Resource, Result};
use crate::message::Detail;
use crate::policy::Action;
use crate::volume;

/// The operation's table.
pub const OPERATION: Operation = Operation {
    name: "snapshot.unmanage",
    steps: &[Step {
        name: "release",
        at: At::Owner,
        act: Act::Do(|work| Box::pin(release(work))),
        undo: None,
    }],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, failure| Box::pin(fail(work, tx, failure)),
};

impl Cloud {
    /// `os-unmanage` of a snapshot.
    ///
    /// # Errors
    /// Not there, forbidden, in a status that forbids it.
    pub async fn snapshot_unmanage(&self, context: &Context, id: SnapshotId) -> Result<()> {
        let snapshot = self.snapshot_for(context, id, Action::SnapshotUnmanage).await?;
        self.policy.require(Action::SnapshotDelete, context, &super::target(&snapshot))?;
        let job = JobId::new();
        let by = db::event::By {
            job: Some(job),
            request_id: Some(&context.request_id),
            project_id: snapshot.project_id.as_deref(),
        };
        let mut tx = self.db.begin().await?;
        match db::transition::begin_snapshot(&mut tx, id, SnapshotOp::Unmanage, by).await? {
            Begin::Moved => {}
            Begin::Missing => return Err(Error::NotFound(Resource::Snapshot, id.to_string())),
            Begin::Refused { .. } => {
                return Err(Error::InvalidSnapshot(delete::refusal(SnapshotOp::Unmanage).into()));
            }
        }
        let volume = db::volume::get(&mut tx, snapshot.volume_id).await?;
        match volume.filter(|volume| volume.host.is_some()) {
            Some(volume) => {
                let new = delete::new_job(context, OPERATION.name, &snapshot, &volume, job);
                db::job::insert(&mut tx, new).await?;
            }
            None => gone(&mut tx, self, &snapshot, by).await?,
        }
        Ok(self.commit(tx).await?)
    }
}

async fn release(work: &Work) -> Output {
    let mut read = work.cloud.db.read();
    let Some(snapshot) = db::snapshot::get(&mut read, id_of(work)?).await? else { return Ok(Value::Null) };
    super::delete::check_status(&snapshot)?;
    let Some(volume) = db::volume::get(&mut read, snapshot.volume_id).await? else { return Ok(Value::Null) };
    let driver = work.node.driver(&volume::create::pool_of(&volume)?)?;
    let what = reference(&snapshot, &volume);
    match driver.release(Openable::Snapshot(&what), None, &work.claim).await {
        Ok(()) => Ok(Value::Null),
        Err(error) if error.kind == ErrorKind::Busy => {
            Err(Failure::from(error).telling(Detail::SnapshotBusy))
        }
        Err(error) => Err(error.into()),
    }
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let Ok(id) = id_of(work) else { return Ok(()) };
    let Some(snapshot) = db::snapshot::get(tx, id).await? else { return Ok(()) };
    gone(tx, &work.cloud, &snapshot, work.by()).await
}

async fn fail(work: &Work, tx: &mut Tx, failure: &Failure) -> db::Result<()> {
    let Ok(id) = id_of(work) else { return Ok(()) };
    // A busy one was not touched.
    let outcome = if failure.detail == Detail::SnapshotBusy { Outcome::Undone } else { Outcome::Failed };
    db::transition::finish_snapshot(tx, id, SnapshotOp::Unmanage, outcome, work.by()).await
}
