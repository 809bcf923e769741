//! Create: `POST /backups`, full or incremental, of a volume (also in use) or of one of its snapshots.
//!
//! A volume in use is frozen by a snapshot of the driver's, taken by the volume's block owner, read, and removed again. That snapshot
//! has the backup's own id and no row: `backups.temp_snapshot_id` names it while it exists.

use ::backup::{CreateBackup, ParentRef};
use db::Tx;
use db::transition::{Begin, Outcome};
use drivers::{OpenMode, Openable, SnapshotRef};
use model::job::ResourceRef;
use model::transition::{BackupOp, SnapshotOp, VolumeOp};
use model::{
    Backup, BackupId, BackupStatus, JobId, Snapshot, SnapshotId, SnapshotStatus, Volume, VolumeId,
    VolumeStatus,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Act, At, Failure, Operation, Output, Step, Work};
use crate::error::{Error, Result};
use crate::message::{self, Detail};
use crate::policy::{Action, Target};
use crate::request::NewBackup;
use crate::volume::create::pool_of;
use crate::{locks, quota, snapshot, volume};

/// The operation's table.
pub const OPERATION: Operation = Operation {
    name: "backup.create",
    steps: &[
        Step {
            name: "place",
            at: At::Scheduler,
            act: Act::Record(|work, tx| Box::pin(place(work, tx))),
            undo: None,
        },
        Step {
            name: "freeze",
            at: At::Owner,
            act: Act::Do(|work| Box::pin(freeze(work))),
            undo: Some(|work| Box::pin(async { thaw(work).await.map(drop) })),
        },
        Step {
            name: "copy",
            at: At::Backup,
            act: Act::Do(|work| Box::pin(copy(work))),
            undo: Some(|work| Box::pin(discard(work))),
        },
        Step { name: "thaw", at: At::Owner, act: Act::Do(|work| Box::pin(thaw(work))), undo: None },
    ],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, failure| Box::pin(fail(work, tx, failure)),
};

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    volume_id: VolumeId,
    /// The snapshot to back up, instead of the volume.
    snapshot_id: Option<SnapshotId>,
    /// The volume is in use: freeze it.
    in_use: bool,
    zone: Option<String>,
    /// A parent in a directory of one host pins the backup to it.
    pinned: Option<String>,
}

/// What was checked before anything is written.
struct Spec {
    volume: Volume,
    snapshot: Option<Snapshot>,
    parent: Option<Backup>,
    in_use: bool,
}

impl Cloud {
    /// `POST /backups`: a backup that is `creating`, and the job that makes it.
    ///
    /// # Errors
    /// A volume or snapshot that is not there or not ready, no parent for an incremental one, over quota, forbidden.
    pub async fn backup_create(&self, context: &Context, wanted: NewBackup) -> Result<Backup> {
        self.policy.require(Action::BackupCreate, context, &Target::own(context))?;
        let spec = self.check_backup(context, &wanted).await?;
        let limits = self.limits(&context.project_id).await?;
        let (id, job) = (BackupId::new(), JobId::new());
        let by = db::event::By {
            job: Some(job),
            request_id: Some(&context.request_id),
            project_id: Some(&context.project_id),
        };
        let size = spec.snapshot.as_ref().map_or(spec.volume.size, |snapshot| snapshot.volume_size).0;
        let mut tx = self.db.begin().await?;
        quota::take(&mut tx, &context.project_id, &quota::of_backup(size, 1), &limits).await?;
        begin(&mut tx, &spec, by).await?;
        let zone = wanted.availability_zone.clone();
        let row = db::backup::NewBackup {
            id,
            volume_id: spec.volume.id,
            snapshot_id: spec.snapshot.as_ref().map(|snapshot| snapshot.id),
            parent_id: spec.parent.as_ref().map(|parent| parent.id),
            user_id: context.user_id.clone(),
            project_id: context.project_id.clone(),
            name: wanted.name,
            description: wanted.description,
            container: wanted.container,
            size,
            host: None,
            availability_zone: zone.clone(),
            data_timestamp: spec.snapshot.as_ref().and_then(|snapshot| snapshot.created_at),
            metadata: wanted.metadata,
        };
        db::backup::insert(&mut tx, &row).await?;
        db::event::created(&mut tx, "backup", &id.to_string(), by).await?;
        let request = Request {
            volume_id: spec.volume.id,
            snapshot_id: row.snapshot_id,
            in_use: spec.in_use,
            zone,
            pinned: spec.parent.as_ref().and_then(|parent| parent.host.clone()),
        };
        db::job::insert(&mut tx, new_job(context, &row, job, &request, &spec)).await?;
        self.commit(tx).await?;
        let backup = db::backup::get(&mut self.db.read(), id).await?;
        backup.ok_or_else(|| Error::NotFound(crate::error::Resource::Backup, id.to_string()))
    }

    async fn check_backup(&self, context: &Context, wanted: &NewBackup) -> Result<Spec> {
        if let Some(container) = wanted.container.as_deref().filter(|container| !container.is_empty()) {
            ::backup::store::check_container(container)
                .map_err(|error| Error::InvalidInput(error.to_string()))?;
        }
        let volume = self.volume_for(context, wanted.volume_id, Action::VolumeShow).await?;
        let snapshot = match wanted.snapshot_id {
            Some(id) => Some(self.snapshot_for(context, id, Action::SnapshotShow).await?),
            None => None,
        };
        if let Some(snapshot) = &snapshot {
            if snapshot.volume_id != volume.id {
                return Err(Error::InvalidSnapshot(format!(
                    "Volume {} does not match with snapshot.volume_id {}.",
                    volume.id, snapshot.volume_id
                )));
            }
            if snapshot.status != SnapshotStatus::Available {
                return Err(Error::InvalidSnapshot(format!(
                    "Snapshot to be backed up must be available, but the current status is \"{}\".",
                    snapshot.status
                )));
            }
        } else {
            if !READY.contains(&volume.status) {
                return Err(Error::InvalidVolume(format!(
                    "Volume to be backed up must be available or in-use, but the current status is \"{}\".",
                    volume.status
                )));
            }
            if volume.status == VolumeStatus::InUse && !wanted.force {
                return Err(Error::InvalidVolume(
                    "Backing up an in-use volume must use the force flag.".into(),
                ));
            }
        }
        let parent = if wanted.incremental {
            let before = snapshot.as_ref().and_then(|snapshot| snapshot.created_at);
            let found =
                db::backup::parent(&mut self.db.read(), volume.id, &context.project_id, before).await?;
            Some(found.ok_or_else(|| {
                Error::InvalidBackup("No backups available to do an incremental backup.".into())
            })?)
        } else {
            None
        };
        let in_use = snapshot.is_none() && volume.status == VolumeStatus::InUse;
        Ok(Spec { volume, snapshot, parent, in_use })
    }
}

const READY: [VolumeStatus; 2] = [VolumeStatus::Available, VolumeStatus::InUse];

/// Moves what is backed up to its status and holds the parent.
async fn begin(tx: &mut Tx, spec: &Spec, by: db::event::By<'_>) -> Result<()> {
    let begun = match &spec.snapshot {
        Some(snapshot) => db::transition::begin_snapshot(tx, snapshot.id, SnapshotOp::BackUp, by).await?,
        None => db::transition::begin_volume(tx, spec.volume.id, volume_op(spec.in_use), by).await?,
    };
    if begun != Begin::Moved {
        return Err(Error::InvalidVolume(
            "Volume to be backed up must be available or in-use, but its status changed meanwhile.".into(),
        ));
    }
    if let Some(parent) = &spec.parent
        && !db::backup::hold(tx, parent.id, &[BackupStatus::Available]).await?
    {
        return Err(Error::InvalidBackup("No backups available to do an incremental backup.".into()));
    }
    Ok(())
}

fn volume_op(in_use: bool) -> VolumeOp {
    if in_use { VolumeOp::BackUpInUse } else { VolumeOp::BackUp }
}

fn new_job(
    context: &Context,
    row: &db::backup::NewBackup,
    job: JobId,
    request: &Request,
    spec: &Spec,
) -> db::job::NewJob {
    let mut locks = vec![locks::keep_volume(row.volume_id)];
    if let Some(snapshot) = &spec.snapshot {
        locks.push(locks::keep_snapshot(snapshot.id));
    }
    db::job::NewJob {
        id: job,
        operation: OPERATION.name,
        resource: ResourceRef { kind: "backup".into(), id: row.id.to_string() },
        project_id: Some(context.project_id.clone()),
        user_id: Some(context.user_id.clone()),
        request_id: Some(context.request_id.clone()),
        queue: crate::cloud::SCHEDULER.into(),
        request: serde_json::to_value(request).unwrap_or_default(),
        locks,
    }
}

/// Chooses the backup service.
async fn place(work: &Work, tx: &mut Tx) -> Output {
    let request: Request = work.request()?;
    let hosts = work
        .cloud
        .backup_hosts(request.zone.as_deref())
        .await
        .map_err(|error| Failure::again(error.to_string()))?;
    let wanted = request.pinned.as_ref();
    let host =
        hosts.into_iter().find(|host| wanted.is_none_or(|wanted| wanted == host)).ok_or_else(|| {
            Failure::permanent("no backup service takes work").telling(Detail::BackupUnscheduled)
        })?;
    let id: BackupId =
        work.job.resource.id.parse().map_err(|_| Failure::permanent("the job names no backup"))?;
    db::backup::assign(tx, id, &host).await?;
    Ok(json!({ "host": host }))
}

/// The snapshot that freezes a volume in use for this backup.
fn frozen(backup: BackupId, volume: &Volume) -> SnapshotRef {
    let id = SnapshotId(backup.0);
    SnapshotRef {
        id,
        name: format!("snapshot-{id}"),
        size: volume.size,
        provider: drivers::Provider::default(),
        volume: volume::reference(volume),
    }
}

async fn source(work: &Work) -> std::result::Result<(Request, Backup, Volume), Failure> {
    let request: Request = work.request()?;
    let backup = super::row(work).await?.ok_or_else(|| Failure::permanent("the backup is gone"))?;
    let volume = db::volume::get(&mut work.cloud.db.read(), request.volume_id).await?;
    let volume = volume.ok_or_else(|| Failure::permanent("the volume is gone"))?;
    Ok((request, backup, volume))
}

async fn freeze(work: &Work) -> Output {
    let (request, backup, volume) = source(work).await?;
    if !request.in_use {
        return Ok(Value::Null);
    }
    let snapshot = frozen(backup.id, &volume);
    // Named before it exists, so that a crash leaves nothing that nobody knows of.
    let mut tx = work.cloud.db.begin().await?;
    db::backup::through(&mut tx, backup.id, Some(snapshot.id)).await?;
    work.cloud.commit(tx).await?;
    let driver = work.node.driver(&pool_of(&volume)?)?;
    let provider = driver.create_snapshot(&snapshot, &work.claim).await?;
    Ok(serde_json::to_value(provider).unwrap_or_default())
}

async fn thaw(work: &Work) -> Output {
    let (request, backup, volume) = source(work).await?;
    if !request.in_use {
        return Ok(Value::Null);
    }
    let driver = work.node.driver(&pool_of(&volume)?)?;
    let mut snapshot = frozen(backup.id, &volume);
    snapshot.provider = serde_json::from_value(work.output("freeze").clone()).unwrap_or_default();
    driver.delete_snapshot(&snapshot, &work.claim.for_undo()).await?;
    let mut tx = work.cloud.db.begin().await?;
    db::backup::through(&mut tx, backup.id, None).await?;
    work.cloud.commit(tx).await?;
    Ok(Value::Null)
}

async fn copy(work: &Work) -> Output {
    let (request, row, volume) = source(work).await?;
    let keeper = super::keeper(work)?;
    let driver = work.node.driver(&pool_of(&volume)?)?;
    let device = match request.snapshot_id {
        Some(id) => {
            let (snapshot_row, origin) = snapshot::with_volume(&mut work.cloud.db.read(), id).await?;
            let snapshot = snapshot::reference(&snapshot_row, &origin);
            driver.open(Openable::Snapshot(&snapshot), OpenMode::Read).await?
        }
        None if request.in_use => {
            let mut snapshot = frozen(row.id, &volume);
            snapshot.provider = serde_json::from_value(work.output("freeze").clone()).unwrap_or_default();
            driver.open(Openable::Snapshot(&snapshot), OpenMode::Read).await?
        }
        None => driver.open(Openable::Volume(&volume::reference(&volume)), OpenMode::Read).await?,
    };
    let parent = match row.parent_id {
        Some(id) => Some(parent(work, id).await?),
        None => None,
    };
    let create = CreateBackup {
        backup: row.id,
        volume: row.volume_id,
        name: row.name.clone(),
        description: row.description.clone(),
        created_at: row.created_at.unwrap_or_default(),
        size: model::GiB(row.size.unwrap_or(0)).bytes().min(device.size()),
        source: device,
        parent,
        store: keeper.store.clone(),
        naming: keeper.naming.clone(),
        container: row.container.clone(),
        config: keeper.pipeline.clone(),
        volume_meta: Some(volume_meta(&volume)),
    };
    let made = ::backup::create(create, &work.claim).await?;
    Ok(json!({
        "container": made.container,
        "prefix": made.service_metadata,
        "objects": made.object_count,
    }))
}

async fn parent(work: &Work, id: BackupId) -> std::result::Result<ParentRef, Failure> {
    let parent = db::backup::get(&mut work.cloud.db.read(), id).await?;
    let parent = parent.ok_or_else(|| Failure::permanent(format!("the parent backup {id} is gone")))?;
    match (parent.container, parent.service_metadata) {
        (Some(container), Some(prefix)) => Ok(ParentRef { backup: id, container, prefix }),
        _ => Err(Failure::permanent(format!("the parent backup {id} has no objects"))),
    }
}

/// What the backup remembers of the volume (backup.md 3).
fn volume_meta(volume: &Volume) -> String {
    let text = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect()
    };
    let base = json!({
        "id": volume.id,
        "display_name": volume.name,
        "display_description": volume.description,
        "size": volume.size.0,
        "volume_type_id": volume.type_id,
        "availability_zone": volume.availability_zone,
        "bootable": volume.bootable,
        "multiattach": volume.multiattach,
        "encryption_key_id": volume.encryption_key_id,
        "user_id": volume.user_id,
        "project_id": volume.project_id,
    });
    let meta = ::backup::format::volume_meta::VolumeMeta {
        base: base.as_object().cloned().unwrap_or_default(),
        metadata: text(&volume.metadata),
        glance: text(&volume.image_metadata),
        version: ::backup::format::volume_meta::VERSION,
    };
    meta.encode()
}

async fn discard(work: &Work) -> std::result::Result<(), Failure> {
    let Some(row) = super::row(work).await? else { return Ok(()) };
    let keeper = super::keeper(work)?;
    let container = keeper.naming.container(row.id, row.container.as_deref());
    Ok(::backup::discard(keeper.store.as_ref(), &container, row.volume_id, row.id).await?)
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    let Ok(id) = work.job.resource.id.parse() else { return Ok(()) };
    let Some(row) = db::backup::get(tx, id).await? else { return Ok(()) };
    let made = work.output("copy");
    let zone = work.cloud.settings.zone.clone();
    let place = db::backup::Place {
        service: work.node.backup.as_ref().map_or(::backup::POSIX_SERVICE, |keeper| &keeper.service),
        container: made["container"].as_str().unwrap_or_default(),
        service_metadata: made["prefix"].as_str().unwrap_or_default(),
        host: row.host.as_deref().unwrap_or(&work.cloud.settings.host),
        availability_zone: row.availability_zone.as_deref().unwrap_or(&zone),
    };
    db::backup::place(tx, id, place).await?;
    db::backup::written(tx, &row, made["objects"].as_u64().unwrap_or(0) as u32).await?;
    db::transition::finish_backup(tx, id, BackupOp::Create, Outcome::Done, work.by()).await?;
    release_source(work, tx, &request, Outcome::Done).await
}

async fn release_source(work: &Work, tx: &mut Tx, request: &Request, outcome: Outcome) -> db::Result<()> {
    match request.snapshot_id {
        Some(id) => db::transition::finish_snapshot(tx, id, SnapshotOp::BackUp, outcome, work.by()).await,
        None => {
            let op = volume_op(request.in_use);
            db::transition::finish_volume(tx, request.volume_id, op, outcome, work.by()).await
        }
    }
}

async fn fail(work: &Work, tx: &mut Tx, failure: &Failure) -> db::Result<()> {
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    let Ok(id) = work.job.resource.id.parse() else { return Ok(()) };
    db::backup::failed(tx, id, Some(&failure.message)).await?;
    db::transition::finish_backup(tx, id, BackupOp::Create, Outcome::Failed, work.by()).await?;
    let (action, otherwise) = (message::Action::BackupCreate, Detail::BackupCreateFailed);
    let ttl = work.cloud.settings.message_ttl;
    message::leave(tx, &work.job, "VOLUME_BACKUP", action, failure, otherwise, ttl).await?;
    release_source(work, tx, &request, Outcome::Failed).await
}
