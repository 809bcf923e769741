//! Restore: `POST /backups/{id}/restore`, to a new volume or over an existing one.
//!
//! Overwriting in place is fenced by the driver's block owner (I4): the volume is opened for writing, which one process at a time can.

use ::backup::{Level, Restore, TargetState};
use db::Tx;
use db::transition::{Begin, Outcome};
use drivers::{OpenMode, Openable};
use model::job::ResourceRef;
use model::transition::{BackupOp, VolumeOp};
use model::{Backup, BackupId, BackupStatus, GiB, JobId, Volume, VolumeId, VolumeStatus};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Act, At, Failure, Operation, Output, Step, Work};
use crate::error::{Error, Result};
use crate::locks;
use crate::message::{self, Detail};
use crate::policy::Action;
use crate::request::{NewVolume, RestoreBackup};
use crate::volume::{self, create::pool_of};

/// The operation's table.
pub const OPERATION: Operation = Operation {
    name: "backup.restore",
    steps: &[Step { name: "copy", at: At::Backup, act: Act::Do(|work| Box::pin(copy(work))), undo: None }],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, failure| Box::pin(fail(work, tx, failure)),
};

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    volume_id: VolumeId,
    backup_host: String,
    /// The volume was made for this: it is of no use before it is restored.
    new: bool,
}

/// Longest chain of incrementals that is followed.
const MAX_CHAIN: usize = 4096;

impl Cloud {
    /// `POST /backups/{id}/restore`; the volume that it goes to. A new volume is created first, and waited for.
    ///
    /// # Errors
    /// Not there, forbidden, not available, too small, over quota, the backup's service not up.
    pub async fn backup_restore(
        &self,
        context: &Context,
        id: BackupId,
        wanted: RestoreBackup,
    ) -> Result<Volume> {
        let backup = self.backup_for(context, id, Action::BackupRestore).await?;
        if backup.status != BackupStatus::Available {
            return Err(Error::InvalidBackup("Backup status must be available".into()));
        }
        let host = self.keeper_of(&backup).await?;
        let (volume, new) = match wanted.volume_id {
            Some(volume) => (self.volume_for(context, volume, Action::VolumeShow).await?, false),
            None => (self.volume_to_restore(context, &backup, wanted.name).await?, true),
        };
        if volume.status != VolumeStatus::Available {
            return Err(Error::InvalidVolume("Volume to be restored to must be available".into()));
        }
        let size = backup.size.unwrap_or(0);
        if volume.size < GiB(size) {
            return Err(Error::InvalidVolume(format!(
                "volume size {} is too small to restore backup of size {size}.",
                volume.size.0
            )));
        }
        self.begin_restore(context, &backup, &volume, host, new).await?;
        Ok(volume)
    }

    async fn volume_to_restore(
        &self,
        context: &Context,
        backup: &Backup,
        name: Option<String>,
    ) -> Result<Volume> {
        let wanted = NewVolume {
            size: Some(GiB(backup.size.unwrap_or(0))),
            name: Some(name.unwrap_or_else(|| format!("restore_backup_{}", backup.id))),
            description: backup.description.clone(),
            ..NewVolume::default()
        };
        let (recorded, job) = self.volume_begin_create(context, wanted).await?;
        self.wait(job, self.settings.patience).await?;
        self.volume_again(recorded.id).await
    }

    async fn begin_restore(
        &self,
        context: &Context,
        backup: &Backup,
        volume: &Volume,
        host: String,
        new: bool,
    ) -> Result<()> {
        let job = JobId::new();
        let by = db::event::By {
            job: Some(job),
            request_id: Some(&context.request_id),
            project_id: Some(&context.project_id),
        };
        let mut tx = self.db.begin().await?;
        if db::transition::begin_backup(&mut tx, backup.id, BackupOp::Restore, by).await? != Begin::Moved {
            return Err(Error::InvalidBackup("Backup status must be available".into()));
        }
        if db::transition::begin_volume(&mut tx, volume.id, VolumeOp::Restore, by).await? != Begin::Moved {
            return Err(Error::InvalidVolume("Volume to be restored to must be available".into()));
        }
        db::backup::restoring_to(&mut tx, backup.id, Some(volume.id)).await?;
        let request = Request { volume_id: volume.id, backup_host: host.clone(), new };
        let new = db::job::NewJob {
            id: job,
            operation: OPERATION.name,
            resource: ResourceRef { kind: "backup".into(), id: backup.id.to_string() },
            project_id: Some(context.project_id.clone()),
            user_id: Some(context.user_id.clone()),
            request_id: Some(context.request_id.clone()),
            queue: Self::backup_queue(&host),
            request: serde_json::to_value(request).unwrap_or_default(),
            locks: vec![locks::change_volume(volume.id), locks::keep_backup(backup.id)],
        };
        db::job::insert(&mut tx, new).await?;
        Ok(self.commit(tx).await?)
    }

    /// A new volume from a backup (3.47): made empty, then restored to; it is `creating` until both are done.
    ///
    /// # Errors
    /// As [`backup_restore`](Self::backup_restore).
    pub async fn volume_from_backup(
        &self,
        context: &Context,
        id: BackupId,
        wanted: NewVolume,
    ) -> Result<Volume> {
        let backup = self.backup_for(context, id, Action::BackupShow).await?;
        if backup.status != BackupStatus::Available {
            return Err(Error::InvalidBackup(
                "Originating backup status must be one of 'available' values".into(),
            ));
        }
        let least = GiB(backup.size.unwrap_or(0));
        let size = wanted.size.unwrap_or(least);
        if size < least {
            return Err(Error::InvalidInput(format!(
                "Volume size {}GB cannot be smaller than the backup size {}GB. They must be >= original backup size.",
                size.0, least.0
            )));
        }
        let host = self.keeper_of(&backup).await?;
        let wanted = NewVolume { size: Some(size), backup_id: None, ..wanted };
        let (recorded, job) = self.volume_begin_create(context, wanted).await?;
        self.wait(job, self.settings.patience).await?;
        let volume = self.volume_again(recorded.id).await?;
        self.begin_restore(context, &backup, &volume, host, true).await?;
        Ok(recorded)
    }
}

async fn copy(work: &Work) -> Output {
    let request: Request = work.request()?;
    let row = super::row(work).await?.ok_or_else(|| Failure::permanent("the backup is gone"))?;
    let volume = db::volume::get(&mut work.cloud.db.read(), request.volume_id).await?;
    let volume = volume.ok_or_else(|| Failure::permanent("the volume is gone"))?;
    let keeper = super::keeper(work)?;
    let chain = chain(work, row).await?;
    let driver = work.node.driver(&pool_of(&volume)?)?;
    let reference = volume::reference(&volume);
    let target = driver.open(Openable::Volume(&reference), OpenMode::Write).await?;
    // Also a volume made for this: it was available for a moment, and not every backend gives zeros.
    let restore = Restore { store: keeper.store.clone(), chain, target, state: TargetState::Used };
    let restored = ::backup::restore(restore, &work.claim).await?;
    Ok(json!({ "volume_meta": restored.volume_meta }))
}

/// The backup and all it builds on, base first.
async fn chain(work: &Work, backup: Backup) -> std::result::Result<Vec<Level>, Failure> {
    let mut levels = Vec::new();
    let mut next = Some(backup);
    while let Some(backup) = next {
        let (Some(container), Some(prefix)) = (backup.container, backup.service_metadata) else {
            return Err(Failure::permanent(format!("backup {} has no objects", backup.id)));
        };
        levels.push(Level { backup: backup.id, container, prefix });
        if levels.len() > MAX_CHAIN {
            return Err(Failure::permanent("the chain of incremental backups is too long"));
        }
        next =
            match backup.parent_id {
                None => None,
                Some(id) => {
                    let parent = db::backup::get(&mut work.cloud.db.read(), id).await?;
                    Some(parent.ok_or_else(|| {
                        Failure::permanent(format!("backup {id}, which it builds on, is gone"))
                    })?)
                }
            };
    }
    levels.reverse();
    Ok(levels)
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    let Ok(id) = work.job.resource.id.parse() else { return Ok(()) };
    let Some(row) = db::backup::get(tx, id).await? else { return Ok(()) };
    if let Some(volume) = db::volume::get(tx, request.volume_id).await? {
        for meta in work.output("copy")["volume_meta"].as_array().into_iter().flatten() {
            if let Some(text) = meta.as_str() {
                apply_meta(tx, &row, &volume, text).await?;
            }
        }
        if row.volume_id != volume.id {
            let (kind, key) = (db::volume::Metadata::User, "src_backup_id");
            db::volume::put_metadata(tx, kind, volume.id, key, &row.id.to_string()).await?;
        }
    }
    db::transition::finish_volume(tx, request.volume_id, VolumeOp::Restore, Outcome::Done, work.by()).await?;
    db::transition::finish_backup(tx, id, BackupOp::Restore, Outcome::Done, work.by()).await
}

/// What the backup remembers goes back to the volume (backup.md 3).
async fn apply_meta(tx: &mut Tx, backup: &Backup, volume: &Volume, text: &str) -> db::Result<()> {
    let Ok(meta) = ::backup::format::volume_meta::VolumeMeta::decode(text) else {
        tracing::warn!(backup.id = %backup.id, "the backup's volume metadata cannot be read and is left out");
        return Ok(());
    };
    let unnamed =
        volume.name.as_deref().is_none_or(|name| name.is_empty() || name.starts_with("restore_backup_"));
    if backup.name.is_some() && unnamed {
        let name = meta.base.get("display_name").and_then(|name| name.as_str());
        let description = meta.base.get("display_description").and_then(|text| text.as_str());
        db::volume::rename(tx, volume.id, Some(name), Some(description)).await?;
    }
    let texts = |map: &serde_json::Map<String, serde_json::Value>| {
        map.iter()
            .map(|(key, value)| {
                (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            })
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    if !meta.metadata.is_empty() {
        db::volume::replace_metadata(tx, db::volume::Metadata::User, volume.id, &texts(&meta.metadata))
            .await?;
    }
    if !meta.glance.is_empty() {
        db::volume::replace_metadata(tx, db::volume::Metadata::Image, volume.id, &texts(&meta.glance))
            .await?;
        db::volume::set_bootable(tx, volume.id, true).await?;
    }
    Ok(())
}

async fn fail(work: &Work, tx: &mut Tx, failure: &Failure) -> db::Result<()> {
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    let Ok(id) = work.job.resource.id.parse() else { return Ok(()) };
    let (action, otherwise) = (message::Action::BackupRestore, Detail::BackupRestoreFailed);
    let ttl = work.cloud.settings.message_ttl;
    message::leave(tx, &work.job, "VOLUME_BACKUP", action, failure, otherwise, ttl).await?;
    // Cancelled before it was begun, it has overwritten nothing.
    let untouched = !request.new && work.job.data["failure"]["data"]["begun"] == false;
    let outcome = if untouched { Outcome::Undone } else { Outcome::Failed };
    db::transition::finish_volume(tx, request.volume_id, VolumeOp::Restore, outcome, work.by()).await?;
    db::transition::finish_backup(tx, id, BackupOp::Restore, Outcome::Failed, work.by()).await
}
