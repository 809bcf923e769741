//! Delete: `DELETE /volumes/{id}`, also with its snapshots (cascade) or whatever its status (force).

use db::Tx;
use db::transition::{Begin, Outcome};
use model::job::ResourceRef;
use model::transition::{Guard, SnapshotOp, VolumeOp};
use model::{JobId, Snapshot, SnapshotId, SnapshotStatus, Volume, VolumeId, VolumeStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::unmanage;
use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Act, At, Failure, Operation, Output, Step, Work};
use crate::error::{Error, Resource, Result};
use crate::policy::Action;
use crate::request::DeleteVolume;
use crate::{export, locks, quota, snapshot};

/// The operation's table.
pub const OPERATION: Operation = Operation {
    name: "volume.delete",
    steps: &[
        Step { name: "cut", at: At::Owner, act: Act::Do(|work| Box::pin(cut(work))), undo: None },
        Step { name: "snapshots", at: At::Owner, act: Act::Do(|work| Box::pin(snapshots(work))), undo: None },
        Step { name: "volume", at: At::Owner, act: Act::Do(|work| Box::pin(volume(work))), undo: None },
    ],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, _| Box::pin(fail(work, tx)),
};

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    force: bool,
    /// Those that go with it.
    snapshots: Vec<SnapshotId>,
}

/// The request of a deletion that takes nothing along.
pub(super) fn alone() -> Value {
    serde_json::to_value(Request { force: false, snapshots: Vec::new() }).unwrap_or_default()
}

pub(super) const REFUSED: &str = "Volume status must be available or error or error_restoring or error_extending or error_managing \
                       and must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, or \
                       be disassociated from snapshots after volume transfer.";

impl Cloud {
    /// `DELETE /volumes/{id}`.
    ///
    /// # Errors
    /// Not there, forbidden, in a state that forbids it.
    pub async fn volume_delete(&self, context: &Context, id: VolumeId, how: DeleteVolume) -> Result<()> {
        let volume = self.volume_for(context, id, Action::VolumeDelete).await?;
        if how.force {
            self.policy.require(Action::VolumeDeleteForced, context, &super::target(&volume))?;
        }
        self.begin_volume_delete(context, volume, how).await
    }

    /// `os-force_delete`: whatever its status.
    ///
    /// # Errors
    /// Not there, forbidden, attached, with snapshots, migrating, in a group.
    pub async fn volume_force_delete(&self, context: &Context, id: VolumeId) -> Result<()> {
        let volume = self.volume_for(context, id, Action::VolumeForceDelete).await?;
        self.policy.require(Action::VolumeDelete, context, &super::target(&volume))?;
        self.begin_volume_delete(context, volume, DeleteVolume { force: true, cascade: false }).await
    }

    async fn begin_volume_delete(&self, context: &Context, seen: Volume, how: DeleteVolume) -> Result<()> {
        self.check_not_frozen(&seen).await?;
        let id = seen.id;
        let op = if how.force { VolumeOp::ForceDelete } else { VolumeOp::Delete };
        let job = JobId::new();
        let by = db::event::By {
            job: Some(job),
            request_id: Some(&context.request_id),
            project_id: seen.project_id.as_deref(),
        };
        let mut tx = self.db.begin().await?;
        let begun = if how.cascade {
            db::transition::begin_volume_without(&mut tx, id, op, Guard::NoSnapshots, by).await?
        } else {
            db::transition::begin_volume(&mut tx, id, op, by).await?
        };
        if begun == Begin::Missing {
            return Err(Error::NotFound(Resource::Volume, id.to_string()));
        }
        if begun != Begin::Moved {
            return Err(Error::InvalidVolume(REFUSED.into()));
        }
        // As it is now that it is ours: it may have been placed or grown since it was looked up.
        let volume = db::volume::get(&mut tx, id).await?;
        let volume = volume.ok_or_else(|| Error::NotFound(Resource::Volume, id.to_string()))?;
        db::volume::terminated(&mut tx, id).await?;
        let snapshots =
            if how.cascade { take_along(&mut tx, context, id, how, by).await? } else { Vec::new() };
        if volume.host.is_none() {
            // Never placed: there is nothing on any backend.
            gone(&mut tx, &volume, by).await?;
            return Ok(self.commit(tx).await?);
        }
        if volume.previous_status.as_deref() == Some(VolumeStatus::ErrorManaging.as_str()) {
            // What it was to take over was never ours to remove.
            let new = unmanage::new_job(context, &volume, job, unmanage::Asked::Delete);
            db::job::insert(&mut tx, new).await?;
            return Ok(self.commit(tx).await?);
        }
        let mut locks = vec![locks::change_volume(id)];
        locks.extend(snapshots.iter().map(|snapshot| locks::change_snapshot(snapshot.id)));
        let request =
            Request { force: how.force, snapshots: snapshots.iter().map(|snapshot| snapshot.id).collect() };
        let new = db::job::NewJob {
            id: job,
            operation: OPERATION.name,
            resource: ResourceRef { kind: "volume".into(), id: id.to_string() },
            project_id: volume.project_id.clone(),
            user_id: Some(context.user_id.clone()),
            request_id: Some(context.request_id.clone()),
            queue: super::home_queue(&volume),
            request: serde_json::to_value(request).unwrap_or_default(),
            locks,
        };
        db::job::insert(&mut tx, new).await?;
        Ok(self.commit(tx).await?)
    }
}

/// Begins the deletion of every snapshot of the volume; all or none.
async fn take_along(
    tx: &mut Tx,
    context: &Context,
    volume: VolumeId,
    how: DeleteVolume,
    by: db::event::By<'_>,
) -> Result<Vec<Snapshot>> {
    let snapshots = db::snapshot::of_volume(tx, volume).await?;
    for snapshot in &snapshots {
        if !super::visible(context, snapshot.project_id.as_deref()) {
            return Err(Error::InvalidVolume("Unable to delete snapshots of another project".into()));
        }
        let op = if how.force { SnapshotOp::ForceDelete } else { SnapshotOp::Delete };
        let already = snapshot.status == SnapshotStatus::Deleting;
        if !already && db::transition::begin_snapshot(tx, snapshot.id, op, by).await? != Begin::Moved {
            return Err(Error::InvalidVolume(REFUSED.into()));
        }
    }
    Ok(snapshots)
}

/// The volume; gone, or taken off its backend, if whoever made it gave up meanwhile.
pub(super) async fn row(work: &Work) -> std::result::Result<Option<Volume>, Failure> {
    let id =
        crate::cloud::volume_of(&work.job).ok_or_else(|| Failure::permanent("the job names no volume"))?;
    Ok(db::volume::get(&mut work.cloud.db.read(), id).await?)
}

pub(super) async fn cut(work: &Work) -> Output {
    if let Some(volume) = row(work).await? {
        cut_off(work, &volume).await?;
    }
    Ok(Value::Null)
}

/// Ends what still makes the volume reachable: an old-style connection that nobody terminated, attachments of a volume that is
/// deleted by force.
///
/// # Errors
/// It was reset meanwhile; or the target cannot be told.
pub(crate) async fn cut_off(work: &Work, volume: &Volume) -> std::result::Result<(), Failure> {
    check_status(volume)?;
    if db::export::of_volume(&mut work.cloud.db.read(), volume.id).await?.is_empty() {
        return Ok(());
    }
    let mut tx = work.cloud.db.begin().await?;
    db::job::fence(&mut tx, &work.job).await?;
    if !db::volume::hold(&mut tx, volume.id, LEAVING).await? {
        return Err(Failure::again("the volume's status has changed"));
    }
    db::export::withdraw(&mut tx, volume.id).await?;
    work.cloud.commit(tx).await?;
    export::disconnect::cut(work, volume.id).await
}

/// What a volume shows that is being deleted or given up.
const LEAVING: &[VolumeStatus] = &[VolumeStatus::Deleting, VolumeStatus::Unmanaging];

/// Work that takes a volume away stops when an operator has reset its status: it may be in use again.
///
/// # Errors
/// It was reset.
pub(crate) fn check_status(volume: &Volume) -> std::result::Result<(), Failure> {
    if LEAVING.contains(&volume.status) {
        return Ok(());
    }
    let (id, status) = (volume.id, volume.status);
    Err(Failure::permanent(format!("volume {id} was reset to {status} meanwhile: it is kept")))
}

async fn snapshots(work: &Work) -> Output {
    let request: Request = work.request()?;
    let Some(volume) = row(work).await? else { return Ok(Value::Null) };
    check_status(&volume)?;
    let Some(pool) = &volume.host else { return Ok(Value::Null) };
    let driver = work.node.driver(pool)?;
    for id in request.snapshots.iter().rev() {
        let Some(row) = db::snapshot::get(&mut work.cloud.db.read(), *id).await? else { continue };
        snapshot::delete::check_status(&row)?;
        driver.delete_snapshot(&snapshot::reference(&row, &volume), &work.claim).await?;
    }
    Ok(Value::Null)
}

async fn volume(work: &Work) -> Output {
    let Some(volume) = row(work).await? else { return Ok(Value::Null) };
    check_status(&volume)?;
    let Some(pool) = &volume.host else { return Ok(Value::Null) };
    let driver = work.node.driver(pool)?;
    driver.delete_volume(&super::reference(&volume), &work.claim).await?;
    Ok(Value::Null)
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    let Some(id) = crate::cloud::volume_of(&work.job) else { return Ok(()) };
    let Some(volume) = db::volume::get(tx, id).await? else { return Ok(()) };
    for id in request.snapshots {
        if let Some(row) = db::snapshot::get(tx, id).await? {
            snapshot::delete::gone(tx, &work.cloud, &row, work.by()).await?;
        }
    }
    gone(tx, &volume, work.by()).await
}

/// The row goes, and with it what it counted for.
pub(crate) async fn gone(tx: &mut Tx, volume: &Volume, by: db::event::By<'_>) -> db::Result<()> {
    if let (Some(project), true) = (&volume.project_id, volume.use_quota) {
        let usage = quota::of_volume(volume.size, volume.type_name.as_deref(), -1);
        quota::give_back(tx, project, &usage).await?;
    }
    if let Some(pool) = &volume.host {
        db::pool::allocate(tx, &pool.to_string(), -i64::from(volume.size.0)).await?;
    }
    db::transition::remove_attachments(tx, volume.id, by).await?;
    db::export::remove_all(tx, volume.id).await?;
    db::export::store_reservations(tx, &volume.id.to_string(), None).await?;
    db::transition::finish_volume(tx, volume.id, VolumeOp::Delete, Outcome::Done, by).await
}

async fn fail(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    let Some(id) = crate::cloud::volume_of(&work.job) else { return Ok(()) };
    for id in request.snapshots {
        db::transition::finish_snapshot(tx, id, SnapshotOp::Delete, Outcome::Failed, work.by()).await?;
    }
    db::transition::finish_volume(tx, id, VolumeOp::Delete, Outcome::Failed, work.by()).await
}
