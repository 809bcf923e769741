//! Revert: the volume's content becomes that of its latest snapshot again; both stay.

use db::Tx;
use db::transition::{Begin, Outcome};
use model::job::ResourceRef;
use model::transition::{SnapshotOp, VolumeOp};
use model::{JobId, Snapshot, SnapshotId, Volume, VolumeId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::create::pool_of;
use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Act, At, Failure, Operation, Output, Step, Work};
use crate::error::{Error, Result};
use crate::policy::Action;
use crate::{locks, snapshot};

/// The operation's table.
pub const OPERATION: Operation = Operation {
    name: "volume.revert",
    // The backend goes back in one step of its own: before it the volume is as it was, after it as it is to be.
    steps: &[Step {
        name: "content",
        at: At::Owner,
        act: Act::Do(|work| Box::pin(content(work))),
        undo: None,
    }],
    finish: |work, tx| Box::pin(end(work, tx, Outcome::Done)),
    fail: |work, tx, _| Box::pin(end(work, tx, Outcome::Failed)),
};

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    snapshot_id: SnapshotId,
}

impl Cloud {
    /// `revert`: back to the latest snapshot, which the caller names.
    ///
    /// # Errors
    /// Not there, forbidden, not the latest, of another size, or either is not available.
    pub async fn volume_revert(&self, context: &Context, id: VolumeId, wanted: Option<&str>) -> Result<()> {
        let volume = self.volume_for(context, id, Action::VolumeRevert).await?;
        let snapshots = db::snapshot::of_volume(&mut self.db.read(), id).await?;
        let latest = snapshots.into_iter().max_by_key(|snapshot| (snapshot.created_at, snapshot.id));
        let latest =
            latest.ok_or_else(|| Error::Invalid(format!("Volume {id} doesn't have any snapshots.")))?;
        check(&volume, &latest, wanted)?;
        let job = JobId::new();
        let by = db::event::By {
            job: Some(job),
            request_id: Some(&context.request_id),
            project_id: volume.project_id.as_deref(),
        };
        let refused = |what: &str| {
            Error::Conflict(format!(
                "Invalid {}: Can't revert volume {id} to its latest snapshot {}. {what}'s status must be 'available'.",
                what.to_lowercase(),
                latest.id
            ))
        };
        let mut tx = self.db.begin().await?;
        if db::transition::begin_volume(&mut tx, id, VolumeOp::Revert, by).await? != Begin::Moved {
            return Err(refused("Volume"));
        }
        if db::transition::begin_snapshot(&mut tx, latest.id, SnapshotOp::Revert, by).await? != Begin::Moved {
            return Err(refused("Snapshot"));
        }
        let new = db::job::NewJob {
            id: job,
            operation: OPERATION.name,
            resource: ResourceRef { kind: "volume".into(), id: id.to_string() },
            project_id: volume.project_id.clone(),
            user_id: Some(context.user_id.clone()),
            request_id: Some(context.request_id.clone()),
            queue: super::home_queue(&volume),
            request: serde_json::to_value(Request { snapshot_id: latest.id }).unwrap_or_default(),
            locks: vec![locks::change_volume(id), locks::keep_snapshot(latest.id)],
        };
        db::job::insert(&mut tx, new).await?;
        Ok(self.commit(tx).await?)
    }
}

fn check(volume: &Volume, latest: &Snapshot, wanted: Option<&str>) -> Result<()> {
    if wanted != Some(latest.id.to_string().as_str()) {
        return Err(Error::Invalid(format!(
            "Specified snapshot {} is None or not the latest one of volume {}.",
            wanted.unwrap_or("None"),
            volume.id
        )));
    }
    if volume.size != latest.volume_size {
        return Err(Error::Invalid(format!(
            "Can't revert volume {} to its latest snapshot {}. The volume size must be equal to the snapshot size.",
            volume.id, latest.id
        )));
    }
    Ok(())
}

async fn content(work: &Work) -> Output {
    let request: Request = work.request()?;
    let id =
        crate::cloud::volume_of(&work.job).ok_or_else(|| Failure::permanent("the job names no volume"))?;
    let read = &mut work.cloud.db.read();
    let volume = db::volume::get(read, id).await?;
    let volume = volume.ok_or_else(|| Failure::permanent(format!("volume {id} is gone")))?;
    let row = db::snapshot::get(read, request.snapshot_id).await?;
    let row = row.ok_or_else(|| Failure::permanent(format!("snapshot {} is gone", request.snapshot_id)))?;
    let driver = work.node.driver(&pool_of(&volume)?)?;
    driver.revert(&snapshot::reference(&row, &volume), &work.claim).await?;
    Ok(Value::Null)
}

async fn end(work: &Work, tx: &mut Tx, outcome: Outcome) -> db::Result<()> {
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    db::transition::finish_snapshot(tx, request.snapshot_id, SnapshotOp::Revert, outcome, work.by()).await?;
    let Some(id) = crate::cloud::volume_of(&work.job) else { return Ok(()) };
    db::transition::finish_volume(tx, id, VolumeOp::Revert, outcome, work.by()).await
}
