//! Migrate: `os-migrate_volume`, to another backend or pool, by a copy ([`super::relocation`]); `os-migrate_volume_completion`.

use db::Tx;
use db::migration::Destination;
use db::transition::Outcome;
use model::job::ResourceRef;
use model::transition::VolumeOp;
use model::{AttachMode, JobId, Volume, VolumeId, VolumeStatus};
use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::relocation;
use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{self, Act, At, Failure, Output, Step, Work};
use crate::error::{Error, Result};
use crate::message::{self, Detail};
use crate::policy::Action;
use crate::request::{AttachVolume, CompleteMigration, DetachVolume, MigrateVolume, MoveTo};
use crate::scheduler::Operation;
use crate::{export, locks, placing, service};

/// The operation's table.
pub const OPERATION: engine::Operation = engine::Operation {
    name: "volume.migrate",
    steps: &[
        Step {
            name: "place",
            at: At::Scheduler,
            act: Act::Record(|work, tx| Box::pin(place(work, tx))),
            undo: Some(|work| Box::pin(relocation::unplace(work))),
        },
        Step {
            name: "build",
            at: At::Volume,
            act: Act::Do(|work| Box::pin(relocation::build(work))),
            undo: Some(|work| Box::pin(relocation::unbuild(work))),
        },
        Step {
            name: "copy",
            at: At::Volume,
            act: Act::Do(|work| Box::pin(relocation::copy(work))),
            undo: None,
        },
    ],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, failure| Box::pin(fail(work, tx, failure)),
};

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    /// The backend or pool it goes to.
    host: String,
    /// The id of the row of its new place.
    destination: VolumeId,
    /// Whether it is this migration that put the volume under maintenance.
    locked: bool,
}

impl Cloud {
    /// `os-migrate_volume`: the volume's `migration_status` is `starting`, and a job moves it.
    ///
    /// # Errors
    /// Not there, forbidden, no such service that is up, a state that forbids it.
    pub async fn volume_migrate(&self, context: &Context, id: VolumeId, wanted: MigrateVolume) -> Result<()> {
        let volume = self.volume_for(context, id, Action::VolumeMigrate).await?;
        let (named, cluster) = match &wanted.to {
            MoveTo::Host(host) => (host, None),
            MoveTo::Cluster(cluster) => (cluster, Some(cluster)),
        };
        let host = self.destination(&wanted.to).await?;
        let job = JobId::new();
        let by = export::by(context, &volume, Some(job));
        let destination = match cluster {
            Some(cluster) => Destination::Cluster(cluster),
            None => Destination::Host(named),
        };
        let mut tx = self.db.begin().await?;
        let Some(now) = db::migration::begin(&mut tx, id, destination, wanted.lock, by).await? else {
            return Err(Error::InvalidVolume(format!(
                "Volume {id} status must be available or in-use, must not be migrating, have snapshots, be replicated, be \
                 part of a group and destination host/cluster must be different than the current one"
            )));
        };
        let locked = now == VolumeStatus::Maintenance;
        let request = Request { host, destination: VolumeId::new(), locked };
        let new = db::job::NewJob {
            id: job,
            operation: OPERATION.name,
            resource: ResourceRef { kind: "volume".into(), id: id.to_string() },
            project_id: volume.project_id.clone(),
            user_id: Some(context.user_id.clone()),
            request_id: Some(context.request_id.clone()),
            queue: crate::cloud::SCHEDULER.into(),
            locks: vec![locks::change_volume(id), locks::change_volume(request.destination)],
            request: serde_json::to_value(request).unwrap_or_default(),
        };
        db::job::insert(&mut tx, new).await?;
        Ok(self.commit(tx).await?)
    }

    /// The service of a destination that is up and enabled, with the pool if one was named.
    async fn destination(&self, to: &MoveTo) -> Result<String> {
        let down_us = self.settings.service_down.as_micros() as i64;
        let services = db::service::list(&mut self.db.read(), down_us).await?;
        let backend = |name: &str| name.split('#').next().unwrap_or_default().to_owned();
        let mut usable = services.iter().filter(|s| s.binary == service::VOLUME && s.up && !s.disabled);
        let (name, found) = match to {
            MoveTo::Host(host) => (host, usable.any(|s| s.host == backend(host)).then(|| host.clone())),
            MoveTo::Cluster(cluster) => {
                let wanted = Some(backend(cluster));
                (cluster, usable.find(|s| s.cluster_name == wanted).map(|s| s.host.clone()))
            }
        };
        found.ok_or_else(|| Error::Invalid(format!("Invalid host: No available service named '{name}'")))
    }

    /// `os-migrate_volume_completion`: the id of the volume that goes on. A migration of this service completes by itself: it is
    /// waited for, or with `error` given up. For volumes that are not migrating (a server has exchanged one for the other by
    /// itself), the records of the attachments move to the new one.
    ///
    /// # Errors
    /// Not there, forbidden, volumes that are not source and destination of one migration; a migration that failed.
    pub async fn volume_migrate_completion(
        &self,
        context: &Context,
        id: VolumeId,
        wanted: CompleteMigration,
    ) -> Result<VolumeId> {
        let volume = self.volume_for(context, id, Action::VolumeMigrateCompletion).await?;
        let new = self.volume_show(context, wanted.new_volume).await?;
        match (volume.migration_status.as_deref(), new.migration_status.as_deref()) {
            (None, None) => {
                if !wanted.error {
                    self.move_records(context, &volume, &new).await?;
                }
                return Ok(new.id);
            }
            (None, _) => return Err(Error::InvalidVolume("Source volume not mid-migration.".into())),
            (_, None) => return Err(Error::InvalidVolume("Destination volume not mid-migration.".into())),
            (_, Some(status)) if status != format!("target:{id}") => {
                return Err(Error::InvalidVolume(format!(
                    "Destination has migration_status {status}, expected target:{id}."
                )));
            }
            _ => {}
        }
        let jobs = migrations(&mut self.db.read(), id).await?;
        let Some(job) = jobs.first().copied() else { return Ok(id) };
        if wanted.error {
            let mut tx = self.db.begin().await?;
            db::job::cancel(&mut tx, job).await?;
            self.commit(tx).await?;
            return Ok(id);
        }
        match self.wait(job, self.settings.patience).await {
            Ok(_) => Ok(id),
            Err(Error::Failed(reason)) => {
                Err(Error::InvalidVolume(format!("The migration of volume {id} has failed: {reason}")))
            }
            Err(other) => Err(other),
        }
    }

    async fn move_records(&self, context: &Context, volume: &Volume, new: &Volume) -> Result<()> {
        for attachment in &volume.attachments {
            let detach = DetachVolume { attachment_id: Some(attachment.id) };
            self.volume_detach(context, volume.id, detach).await?;
            let attach = AttachVolume {
                instance_uuid: attachment.instance_uuid.clone(),
                host_name: attachment.attached_host.clone(),
                mountpoint: attachment.mountpoint.clone().unwrap_or_default(),
                mode: attachment.mode.unwrap_or(AttachMode::ReadWrite),
            };
            self.volume_attach(context, new.id, attach).await?;
        }
        Ok(())
    }
}

/// The active jobs that move a volume.
async fn migrations(from: &mut impl db::Read, id: VolumeId) -> db::Result<Vec<JobId>> {
    let name = id.to_string();
    let mut moving: Vec<JobId> =
        export::active(from, OPERATION.name, &name).await?.into_iter().map(|job| job.id).collect();
    let retypes = export::active(from, super::retype::OPERATION.name, &name).await?;
    moving.extend(retypes.into_iter().filter(|job| job.data["place"]["moves"] == true).map(|job| job.id));
    Ok(moving)
}

/// Whoever connects to a volume may write to it: a move under way is given up, in the transaction that records the connection.
pub(crate) async fn interrupt(tx: &mut Tx, id: VolumeId) -> db::Result<()> {
    for job in migrations(tx, id).await? {
        db::job::cancel(tx, job).await?;
    }
    Ok(())
}

/// Asks whether the destination takes the volume, promises its room there, and records the destination's row.
async fn place(work: &Work, tx: &mut Tx) -> Output {
    let request: Request = work.request()?;
    let volume = relocation::row(work, tx).await?;
    let kind = db::volume_type::get(tx, volume.type_id).await?;
    let kind = kind.ok_or_else(|| Failure::permanent("the volume's type is gone"))?;
    let wanted = placing::Wanted {
        volume: &volume,
        kind: &kind,
        operation: Operation::Other,
        new_size: None,
        zones: &[],
        bound_to: Some(request.host),
        hints: &Map::new(),
        tried: &[],
    };
    let chosen = placing::choose(&work.cloud, tx, &wanted).await?;
    relocation::begin(work, tx, &volume, &kind, &chosen).await
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    relocation::publish(work, tx).await?;
    end(work, tx, Outcome::Done).await
}

async fn fail(work: &Work, tx: &mut Tx, failure: &Failure) -> db::Result<()> {
    relocation::fail(work, tx).await?;
    if failure.detail == Detail::NoBackend {
        let ttl = work.cloud.settings.message_ttl;
        message::leave(tx, &work.job, "VOLUME", message::Action::Schedule, failure, Detail::NoBackend, ttl)
            .await?;
    }
    end(work, tx, Outcome::Failed).await
}

/// Ends the maintenance that the migration has begun; an operator's stays.
async fn end(work: &Work, tx: &mut Tx, outcome: Outcome) -> db::Result<()> {
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    if !request.locked {
        return Ok(());
    }
    let Some(id) = crate::cloud::volume_of(&work.job) else { return Ok(()) };
    db::transition::finish_volume(tx, id, VolumeOp::MigrateLocked, outcome, work.by()).await
}
