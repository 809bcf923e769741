//! Delete: `DELETE /snapshots/{id}`, also whatever its status (force).

use db::Tx;
use db::transition::{Begin, Outcome};
use drivers::ErrorKind;
use model::job::ResourceRef;
use model::transition::SnapshotOp;
use model::{JobId, Snapshot, SnapshotId, SnapshotStatus, Volume};
use serde_json::Value;

use super::create::Request;
use super::{id_of, reference};
use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Act, At, Failure, Operation, Output, Step, Work};
use crate::error::{Error, Resource, Result};
use crate::message::{self, Detail};
use crate::policy::Action;
use crate::{locks, quota, volume};

/// The operation's table.
pub const OPERATION: Operation = Operation {
    name: "snapshot.delete",
    steps: &[Step { name: "remove", at: At::Owner, act: Act::Do(|work| Box::pin(remove(work))), undo: None }],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, failure| Box::pin(fail(work, tx, failure)),
};

impl Cloud {
    /// `DELETE /snapshots/{id}`.
    ///
    /// # Errors
    /// Not there, forbidden, in a status that forbids it.
    pub async fn snapshot_delete(&self, context: &Context, id: SnapshotId) -> Result<()> {
        let snapshot = self.snapshot_for(context, id, Action::SnapshotDelete).await?;
        self.begin_snapshot_delete(context, &snapshot, SnapshotOp::Delete).await
    }

    /// `os-force_delete`: whatever its status.
    ///
    /// # Errors
    /// Not there, forbidden, part of a group.
    pub async fn snapshot_force_delete(&self, context: &Context, id: SnapshotId) -> Result<()> {
        let snapshot = self.snapshot_for(context, id, Action::SnapshotForceDelete).await?;
        self.begin_snapshot_delete(context, &snapshot, SnapshotOp::ForceDelete).await
    }

    async fn begin_snapshot_delete(
        &self,
        context: &Context,
        snapshot: &Snapshot,
        op: SnapshotOp,
    ) -> Result<()> {
        let volume = db::volume::get(&mut self.db.read(), snapshot.volume_id).await?;
        if let Some(volume) = &volume {
            self.check_not_frozen(volume).await?;
        }
        let job = JobId::new();
        let by = db::event::By {
            job: Some(job),
            request_id: Some(&context.request_id),
            project_id: snapshot.project_id.as_deref(),
        };
        let mut tx = self.db.begin().await?;
        match db::transition::begin_snapshot(&mut tx, snapshot.id, op, by).await? {
            Begin::Moved => {}
            Begin::Missing => return Err(Error::NotFound(Resource::Snapshot, snapshot.id.to_string())),
            Begin::Refused { .. } => return Err(Error::InvalidSnapshot(refusal(op).into())),
        }
        match volume.filter(|volume| volume.host.is_some()) {
            Some(volume) => {
                db::job::insert(&mut tx, new_job(context, OPERATION.name, snapshot, &volume, job)).await?;
            }
            // Without a volume on a backend there is nothing on any.
            None => gone(&mut tx, self, snapshot, by).await?,
        }
        Ok(self.commit(tx).await?)
    }
}

pub(super) fn refusal(op: SnapshotOp) -> &'static str {
    match op {
        // The text that Cinder makes of its template without a status.
        SnapshotOp::ForceDelete => "Snapshot  must not be part of a group.",
        _ => "Snapshot status must be available or error and must not be part of a group.",
    }
}

/// The job that takes a snapshot away, in one way or another.
pub(super) fn new_job(
    context: &Context,
    operation: &'static str,
    snapshot: &Snapshot,
    volume: &Volume,
    job: JobId,
) -> db::job::NewJob {
    db::job::NewJob {
        id: job,
        operation,
        resource: ResourceRef { kind: "snapshot".into(), id: snapshot.id.to_string() },
        project_id: snapshot.project_id.clone(),
        user_id: Some(context.user_id.clone()),
        request_id: Some(context.request_id.clone()),
        queue: volume::home_queue(volume),
        request: serde_json::to_value(Request { volume_id: volume.id }).unwrap_or_default(),
        locks: vec![locks::keep_volume(volume.id), locks::change_snapshot(snapshot.id)],
    }
}

/// As for volumes: what an operator has reset may be in use again.
///
/// # Errors
/// It was reset.
pub(crate) fn check_status(snapshot: &Snapshot) -> std::result::Result<(), Failure> {
    if matches!(snapshot.status, SnapshotStatus::Deleting | SnapshotStatus::Unmanaging) {
        return Ok(());
    }
    let (id, status) = (snapshot.id, snapshot.status);
    Err(Failure::permanent(format!("snapshot {id} was reset to {status} meanwhile: it is kept")))
}

async fn remove(work: &Work) -> Output {
    let mut read = work.cloud.db.read();
    // Gone already: with its volume, in a cascade.
    let Some(snapshot) = db::snapshot::get(&mut read, id_of(work)?).await? else { return Ok(Value::Null) };
    check_status(&snapshot)?;
    let Some(volume) = db::volume::get(&mut read, snapshot.volume_id).await? else { return Ok(Value::Null) };
    let driver = work.node.driver(&volume::create::pool_of(&volume)?)?;
    match driver.delete_snapshot(&reference(&snapshot, &volume), &work.claim).await {
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

/// The row goes, and with it what it counted for.
pub(crate) async fn gone(
    tx: &mut Tx,
    cloud: &Cloud,
    snapshot: &Snapshot,
    by: db::event::By<'_>,
) -> db::Result<()> {
    if let (Some(project), true) = (&snapshot.project_id, snapshot.use_quota) {
        let names = db::volume_type::names(tx, [snapshot.type_id].into_iter()).await?;
        let type_name = names.get(&snapshot.type_id).map(String::as_str);
        let usage = quota::of_snapshot(snapshot.volume_size, type_name, cloud.settings.snapshot_gb_free, -1);
        quota::give_back(tx, project, &usage).await?;
    }
    db::transition::finish_snapshot(tx, snapshot.id, SnapshotOp::Delete, Outcome::Done, by).await
}

async fn fail(work: &Work, tx: &mut Tx, failure: &Failure) -> db::Result<()> {
    let Ok(id) = id_of(work) else { return Ok(()) };
    if db::snapshot::get(tx, id).await?.is_none() {
        return Ok(());
    }
    let ttl = work.cloud.settings.message_ttl;
    let (action, otherwise) = (message::Action::SnapshotDelete, Detail::SnapshotDeleteFailed);
    message::leave(tx, &work.job, "VOLUME_SNAPSHOT", action, failure, otherwise, ttl).await?;
    // A busy one was not touched: it can be used and deleted later.
    let outcome = if failure.detail == Detail::SnapshotBusy { Outcome::Undone } else { Outcome::Failed };
    db::transition::finish_snapshot(tx, id, SnapshotOp::Delete, outcome, work.by()).await
}
