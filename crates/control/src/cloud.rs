//! The service as its use cases see it: database, bus, policy, settings. One per process; cloning shares it.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use db::{Db, Tx};
use model::job::{Job, JobState};
use model::{JobId, PoolRef, VolumeId};
use tokio::time::Instant;

use crate::bus::Bus;
use crate::compute::Compute;
use crate::engine::{At, Failure};
use crate::error::{Error, Result};
use crate::group::Members;
use crate::policy::Policy;
use crate::scheduler;
use crate::seal::Sealer;
use crate::settings::Settings;

/// The topic of the scheduler.
pub const SCHEDULER: &str = "cinder-scheduler";

/// What every use case works with.
#[derive(Debug)]
pub struct Parts {
    pub db: Db,
    pub bus: Arc<dyn Bus>,
    pub policy: Policy,
    pub settings: Settings,
    pub scheduler: scheduler::Options,
    pub sealer: Sealer,
}

/// The service.
#[derive(Debug, Clone)]
pub struct Cloud {
    parts: Arc<Parts>,
    compute: Option<Arc<dyn Compute>>,
}

impl Deref for Cloud {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Cloud {
    /// Puts it together.
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts), compute: None }
    }

    /// The same, with a compute service to ask about servers.
    pub fn with_compute(self, compute: Arc<dyn Compute>) -> Self {
        Self { compute: Some(compute), ..self }
    }

    /// The compute service, where there is one.
    pub(crate) fn compute(&self) -> Option<&dyn Compute> {
        self.compute.as_deref()
    }

    /// Commits, then rings what the transaction wants rung (I1: never before).
    ///
    /// # Errors
    /// The database is away or another transaction won.
    pub async fn commit(&self, tx: Tx) -> db::Result<()> {
        for topic in tx.commit().await? {
            self.bus.ring(&topic);
        }
        Ok(())
    }

    /// The topic of the volume service that runs a backend.
    pub fn volume_queue(service_host: &str) -> String {
        format!("cinder-volume.{service_host}")
    }

    /// The topic of a node's target.
    pub fn target_queue(node: &str) -> String {
        format!("cinder-target.{node}")
    }

    /// The topic of a backup service.
    pub fn backup_queue(host: &str) -> String {
        format!("cinder-backup.{host}")
    }

    /// The queue of a job's step. A job whose volume is gone or has no place stays where it is: its step says what follows.
    ///
    /// # Errors
    /// The job names no volume, or the database is away.
    pub async fn queue_of(&self, at: At, job: &Job) -> std::result::Result<String, Failure> {
        let stay = job.queue.clone();
        match at {
            At::Scheduler => Ok(SCHEDULER.into()),
            At::Queued => Ok(stay),
            At::Backup => {
                let placed = job.data["place"]["host"].as_str().or(job.request["backup_host"].as_str());
                let host = placed.unwrap_or(&self.settings.host);
                Ok(Self::backup_queue(host))
            }
            At::Volume => {
                Ok(self.place_of(job).await?.map_or(stay, |place| Self::volume_queue(&place.service_host())))
            }
            At::Owner => match self.exported_at(job).await? {
                Some(node) => Ok(Self::target_queue(&node)),
                None => {
                    let place = self.place_of(job).await?;
                    Ok(place.map_or(stay, |place| Self::volume_queue(&place.service_host())))
                }
            },
        }
    }

    /// The node that serves a volume which the job reads or changes on its backend. A new volume's is its source: it is built
    /// where the source is open.
    async fn exported_at(&self, job: &Job) -> std::result::Result<Option<String>, Failure> {
        let read = &mut self.db.read();
        if let Some(members) = Members::of(job) {
            // All of them in one process: those that nobody has open are opened where others are.
            for volume in members.volumes {
                if let Some(export) = db::export::of_volume(read, volume).await?.into_iter().next() {
                    return Ok(Some(export.node));
                }
            }
            return Ok(None);
        }
        let source = match job.request["snapshot_id"].as_str().and_then(|id| id.parse().ok()) {
            Some(snapshot) => db::snapshot::get(read, snapshot).await?.map(|snapshot| snapshot.volume_id),
            None => job.request["source_volid"].as_str().and_then(|id| id.parse().ok()),
        };
        for volume in [source, volume_of(job)].into_iter().flatten() {
            if let Some(export) = db::export::of_volume(read, volume).await?.into_iter().next() {
                return Ok(Some(export.node));
            }
        }
        Ok(None)
    }

    /// Where the job's volume is; `None` if it is gone or on no backend.
    async fn place_of(&self, job: &Job) -> std::result::Result<Option<PoolRef>, Failure> {
        if let Some(members) = Members::of(job) {
            return Ok(members.host.parse().ok());
        }
        let id = volume_of(job).ok_or_else(|| Failure::permanent("the job names no volume"))?;
        let volume = db::volume::get(&mut self.db.read(), id).await?;
        Ok(volume.and_then(|volume| volume.host))
    }

    /// Waits until a job has ended.
    ///
    /// # Errors
    /// [`Error::Failed`] with the job's reason when it failed; [`Error::Unavailable`] when patience ran out (the job goes on).
    pub async fn wait(&self, id: JobId, patience: Duration) -> Result<Job> {
        let deadline = Instant::now() + patience;
        let topic = db::job::done_topic(id);
        let mut bell = self.bus.listen();
        loop {
            let job = db::job::get(&mut self.db.read(), id).await?;
            match job {
                Some(job) if job.state == JobState::Done => return Ok(job),
                Some(job) if matches!(job.state, JobState::Failed | JobState::Cancelled) => {
                    return Err(Error::Failed(job.error.unwrap_or_else(|| "the operation failed".into())));
                }
                Some(_) => {}
                None => return Err(Error::Failed(format!("job {id} is gone"))),
            }
            tokio::select! {
                () = bell.heard(|rung| rung == topic) => {}
                // Rings of other processes may not reach us.
                () = tokio::time::sleep(Duration::from_millis(250)) => {}
                () = tokio::time::sleep_until(deadline) => {
                    return Err(Error::Unavailable(format!("the operation is taking long; job {id} goes on")));
                }
            }
        }
    }
}

/// The volume a job works on.
pub(crate) fn volume_of(job: &Job) -> Option<VolumeId> {
    if job.resource.kind == "volume" {
        return job.resource.id.parse().ok();
    }
    job.request["volume_id"].as_str()?.parse().ok()
}
