//! Create: `POST /snapshots`. The volume's content at one moment, also while it is in use.

use db::Tx;
use db::transition::Outcome;
use model::job::ResourceRef;
use model::transition::SnapshotOp;
use model::{JobId, Snapshot, SnapshotId, Volume, VolumeId, VolumeStatus};
use serde::{Deserialize, Serialize};

use super::{id_of, reference, with_volume};
use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Act, At, Failure, Operation, Output, Step, Work};
use crate::error::{Error, Resource, Result};
use crate::message::{self, Detail};
use crate::policy::Action;
use crate::request::NewSnapshot;
use crate::{locks, quota, volume};

/// The operation's table.
pub const OPERATION: Operation = Operation {
    name: "snapshot.create",
    steps: &[Step {
        name: "take",
        at: At::Owner,
        act: Act::Do(|work| Box::pin(take(work))),
        undo: Some(|work| Box::pin(discard(work))),
    }],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, failure| Box::pin(fail(work, tx, failure)),
};

/// What a snapshot's job is told; `volume_id` is also what leads it to its queue.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub volume_id: VolumeId,
}

impl Cloud {
    /// `POST /snapshots`: a snapshot that is `creating`, and the job that takes it. Its project is the caller's.
    ///
    /// # Errors
    /// The volume is not there, or in a status that forbids it; over quota, forbidden.
    pub async fn snapshot_create(&self, context: &Context, wanted: NewSnapshot) -> Result<Snapshot> {
        let volume = self.volume_for(context, wanted.volume_id, Action::SnapshotCreate).await?;
        self.check_not_frozen(&volume).await?;
        self.snapshot_record(context, volume, wanted, |volume, id, job| new_job(context, volume, id, job))
            .await
    }

    /// Records a snapshot that is `creating`, and the job that brings it about.
    ///
    /// # Errors
    /// The volume is in a status that forbids it; over quota.
    pub(super) async fn snapshot_record(
        &self,
        context: &Context,
        volume: Volume,
        wanted: NewSnapshot,
        job_of: impl FnOnce(&Volume, SnapshotId, JobId) -> db::job::NewJob,
    ) -> Result<Snapshot> {
        let limits = self.limits(&context.project_id).await?;
        let (id, job) = (SnapshotId::new(), JobId::new());
        let mut tx = self.db.begin().await?;
        let statuses: &[VolumeStatus] = if wanted.in_use { &IN_USE } else { &IN_USE[..1] };
        let held = db::volume::hold(&mut tx, volume.id, statuses).await?;
        // As it is now that it is held: it may have grown since it was looked up.
        let volume = db::volume::get(&mut tx, volume.id)
            .await?
            .ok_or_else(|| Error::NotFound(Resource::Volume, volume.id.to_string()))?;
        check(&volume, statuses, held)?;
        let free = self.settings.snapshot_gb_free;
        let usage = quota::of_snapshot(volume.size, volume.type_name.as_deref(), free, 1);
        quota::take(&mut tx, &context.project_id, &usage, &limits).await?;
        db::snapshot::insert(&mut tx, &row(context, wanted, &volume, id)).await?;
        let by = crate::context::by(context, job);
        db::event::created(&mut tx, "snapshot", &id.to_string(), by).await?;
        db::job::insert(&mut tx, job_of(&volume, id, job)).await?;
        self.commit(tx).await?;
        self.snapshot_again(id).await
    }
}

const IN_USE: [VolumeStatus; 2] = [VolumeStatus::Available, VolumeStatus::InUse];

/// Cinder's refusals, in its order.
pub(crate) fn check(volume: &Volume, statuses: &[VolumeStatus], held: bool) -> Result<()> {
    let refuse = |text: &str| Err(Error::InvalidVolume(text.into()));
    if volume.host.is_none() {
        return refuse("The snapshot cannot be created because volume has not been scheduled to any host.");
    }
    if volume.status == VolumeStatus::Maintenance {
        return refuse("The snapshot cannot be created when the volume is in maintenance mode.");
    }
    if volume.migrating() {
        return refuse("Snapshot cannot be created while volume is migrating.");
    }
    if volume.status == VolumeStatus::Error {
        return refuse("The snapshot cannot be created when the volume is in error status.");
    }
    if !held {
        let wanted: Vec<&str> = statuses.iter().map(|status| status.as_str()).collect();
        return Err(Error::InvalidVolume(format!(
            "Volume {} status must be {}, but current status is: {}.",
            volume.id,
            wanted.join(", "),
            volume.status
        )));
    }
    Ok(())
}

fn row(context: &Context, wanted: NewSnapshot, volume: &Volume, id: SnapshotId) -> db::snapshot::NewSnapshot {
    db::snapshot::NewSnapshot {
        id,
        volume_id: volume.id,
        user_id: context.user_id.clone(),
        project_id: context.project_id.clone(),
        size: volume.size,
        name: wanted.name,
        description: wanted.description,
        type_id: volume.type_id,
        use_quota: true,
        metadata: wanted.metadata,
    }
}

fn new_job(context: &Context, volume: &Volume, id: SnapshotId, job: JobId) -> db::job::NewJob {
    db::job::NewJob {
        id: job,
        operation: OPERATION.name,
        resource: ResourceRef { kind: "snapshot".into(), id: id.to_string() },
        project_id: Some(context.project_id.clone()),
        user_id: Some(context.user_id.clone()),
        request_id: Some(context.request_id.clone()),
        queue: volume::home_queue(volume),
        request: serde_json::to_value(Request { volume_id: volume.id }).unwrap_or_default(),
        locks: vec![locks::keep_volume(volume.id), locks::change_snapshot(id)],
    }
}

async fn take(work: &Work) -> Output {
    let (snapshot, volume) = with_volume(&mut work.cloud.db.read(), id_of(work)?).await?;
    if volume.size != snapshot.volume_size {
        // The locks forbid it; a snapshot of another size than its row says must never come to be.
        return Err(Failure::permanent(format!("volume {} is {} now", volume.id, volume.size)));
    }
    let driver = work.node.driver(&volume::create::pool_of(&volume)?)?;
    let provider = driver.create_snapshot(&reference(&snapshot, &volume), &work.claim).await?;
    Ok(serde_json::to_value(provider).unwrap_or_default())
}

async fn discard(work: &Work) -> std::result::Result<(), Failure> {
    let mut read = work.cloud.db.read();
    let Some(snapshot) = db::snapshot::get(&mut read, id_of(work)?).await? else { return Ok(()) };
    let Some(volume) = db::volume::get(&mut read, snapshot.volume_id).await? else { return Ok(()) };
    let driver = work.node.driver(&volume::create::pool_of(&volume)?)?;
    Ok(driver.delete_snapshot(&reference(&snapshot, &volume), &work.claim).await?)
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let Ok(id) = id_of(work) else { return Ok(()) };
    let provider: drivers::Provider = serde_json::from_value(work.output("take").clone()).unwrap_or_default();
    let (location, provider_id) = (provider.location.as_deref(), provider.id.as_deref());
    db::snapshot::taken(tx, id, location, provider_id, "100%").await?;
    db::transition::finish_snapshot(tx, id, SnapshotOp::Create, Outcome::Done, work.by()).await
}

async fn fail(work: &Work, tx: &mut Tx, failure: &Failure) -> db::Result<()> {
    let Ok(id) = id_of(work) else { return Ok(()) };
    if db::snapshot::get(tx, id).await?.is_none() {
        // Deleted by force meanwhile: there is nobody to tell.
        return Ok(());
    }
    let ttl = work.cloud.settings.message_ttl;
    let (action, otherwise) = (message::Action::SnapshotCreate, Detail::SnapshotCreateFailed);
    message::leave(tx, &work.job, "VOLUME_SNAPSHOT", action, failure, otherwise, ttl).await?;
    db::transition::finish_snapshot(tx, id, SnapshotOp::Create, Outcome::Failed, work.by()).await
}
