//! Manage: `POST /manageable_volumes` and `/os-volume-manage`. What is on a backend already becomes a volume.
//!
//! ```text
//! place    the backend passes the scheduler's filters for the type
//! measure  the backend says what the reference means, and how large that is
//! count    the size becomes the row's, and use of the quota and the pool        undo: all three taken back
//! adopt    the backend makes it the volume's own                                undo: under its old name again
//! ```
//! A volume that could not be managed is `error_managing`; deleting it touches nothing on the backend ([`super::unmanage`]).

use db::Tx;
use db::transition::Outcome;
use drivers::{Openable, Provider};
use model::job::ResourceRef;
use model::service::Service;
use model::transition::VolumeOp;
use model::{GiB, JobId, PoolRef, Volume, VolumeId, VolumeStatus, VolumeType};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::create::pool_of;
use super::relocation::row;
use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{self, Act, At, Failure, Output, Step, Work};
use crate::error::{Error, Resource, Result};
use crate::policy::{Action, Target};
use crate::request::{ManageVolume, MoveTo};
use crate::scheduler::Operation;
use crate::{locks, manageable, placing, quota};

/// The operation's table.
pub const OPERATION: engine::Operation = engine::Operation {
    name: "volume.manage",
    steps: &[
        Step {
            name: "place",
            at: At::Scheduler,
            act: Act::Record(|work, tx| Box::pin(place(work, tx))),
            undo: None,
        },
        Step { name: "measure", at: At::Volume, act: Act::Do(|work| Box::pin(measure(work))), undo: None },
        Step {
            name: "count",
            at: At::Volume,
            act: Act::Record(|work, tx| Box::pin(count(work, tx))),
            undo: Some(|work| Box::pin(uncount(work))),
        },
        Step {
            name: "adopt",
            at: At::Volume,
            act: Act::Do(|work| Box::pin(adopt(work))),
            undo: Some(|work| Box::pin(give_back(work))),
        },
    ],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, _| Box::pin(fail(work, tx)),
};

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    /// As the administrator gave it.
    reference: Value,
    /// The zone that was asked for.
    zones: Vec<String>,
}

/// What `measure` leaves behind.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    /// Its name on the backend.
    name: String,
    gb: u32,
    /// The volume whose name it has.
    volume: Option<VolumeId>,
}

/// As Cinder's text has it, whoever manages what.
const MANAGED: &str = "Unable to manage existing volume. The volume is already managed";

impl Cloud {
    /// `POST /manageable_volumes`: a volume that is being managed, shown as `creating`, and the job that takes it over.
    ///
    /// # Errors
    /// Forbidden, an unknown or encrypted type, what is managed already, no such backend or one that is down, over quota.
    pub async fn volume_manage(&self, context: &Context, wanted: ManageVolume) -> Result<Volume> {
        self.policy.require(Action::VolumeManage, context, &Target::own(context))?;
        let kind = self.type_to_manage(context, &wanted).await?;
        let service = self.service_to_manage(&wanted.place).await?;
        let pool = match &wanted.place {
            MoveTo::Host(host) if host.contains('#') => host.as_str(),
            _ => service.host.as_str(),
        };
        let pool: PoolRef = pool.parse().unwrap_or_else(|never| match never {});
        let zone = wanted
            .availability_zone
            .clone()
            .or(service.availability_zone)
            .unwrap_or_else(|| self.settings.zone.clone());
        let limits = self.limits(&context.project_id).await?;
        let (id, job) = (VolumeId::new(), JobId::new());
        let mut tx = self.db.begin().await?;
        let usage = quota::of_volume(GiB(0), Some(&kind.name), 1);
        quota::take(&mut tx, &context.project_id, &usage, &limits).await?;
        let new = db::volume::NewVolume {
            availability_zone: Some(zone.clone()),
            ..new_row(context, &wanted, &kind, id)
        };
        db::volume::insert(&mut tx, &new).await?;
        // The answer is of the row as it was made.
        let recorded = db::volume::get(&mut tx, id).await?;
        db::volume::place(&mut tx, id, &pool, &zone).await?;
        let (name, by) = (id.to_string(), crate::context::by(context, job));
        let to = Some(VolumeStatus::Managing.as_str());
        let change = db::event::Change { kind: "volume", id: &name, from: None, to, by, detail: None };
        db::event::append(&mut tx, change).await?;
        db::job::insert(&mut tx, new_job(context, wanted, id, job)).await?;
        self.commit(tx).await?;
        recorded.ok_or_else(|| Error::NotFound(Resource::Volume, name))
    }

    /// The type asked for, or the project's; and whether the reference is somebody's already, which Cinder asks in between.
    async fn type_to_manage(&self, context: &Context, wanted: &ManageVolume) -> Result<VolumeType> {
        let asked = match &wanted.volume_type {
            Some(name) => {
                Some(self.type_by_name_or_id(context, name).await.map_err(|error| match error {
                    Error::NotFound(..) | Error::Missing(_) => {
                        Error::InvalidVolumeType(format!("Cannot find requested '{name}' volume type"))
                    }
                    other => other,
                })?)
            }
            None => None,
        };
        let source = manageable::source_name(&wanted.reference);
        if let Some(id) = source.and_then(|name| name.strip_prefix("volume-")).and_then(|id| id.parse().ok())
            && db::volume::tombstone(&mut self.db.read(), id).await? == Some(false)
        {
            return Err(Error::Invalid(MANAGED.into()));
        }
        let kind = match asked {
            Some(kind) => kind,
            None => self.default_type_of(&context.project_id).await?,
        };
        let traits = db::retype::traits(&mut self.db.read(), kind.id).await?;
        if traits.encryption.is_some() {
            return Err(Error::Invalid("Managing to an encrypted volume type is not supported.".into()));
        }
        Ok(kind)
    }

    async fn service_to_manage(&self, place: &MoveTo) -> Result<Service> {
        match self.serving(place).await? {
            Some(service) => Ok(service),
            None => Err(Error::Invalid(match place {
                MoveTo::Host(name) => format!("Host '{name}' not found"),
                MoveTo::Cluster(name) => format!("Cluster '{name}' not found"),
            })),
        }
    }
}

fn new_row(
    context: &Context,
    wanted: &ManageVolume,
    kind: &VolumeType,
    id: VolumeId,
) -> db::volume::NewVolume {
    db::volume::NewVolume {
        op: VolumeOp::Manage,
        id,
        user_id: context.user_id.clone(),
        project_id: context.project_id.clone(),
        size: GiB(0),
        availability_zone: None,
        name: wanted.name.clone(),
        description: wanted.description.clone(),
        type_id: kind.id,
        snapshot_id: None,
        source_volid: None,
        bootable: wanted.bootable,
        multiattach: kind.multiattach(),
        use_quota: true,
        metadata: wanted.metadata.clone(),
        replication_status: None,
    }
}

fn new_job(context: &Context, wanted: ManageVolume, id: VolumeId, job: JobId) -> db::job::NewJob {
    let request =
        Request { reference: wanted.reference, zones: wanted.availability_zone.into_iter().collect() };
    db::job::NewJob {
        id: job,
        operation: OPERATION.name,
        resource: ResourceRef { kind: "volume".into(), id: id.to_string() },
        project_id: Some(context.project_id.clone()),
        user_id: Some(context.user_id.clone()),
        request_id: Some(context.request_id.clone()),
        queue: crate::cloud::SCHEDULER.into(),
        request: serde_json::to_value(request).unwrap_or_default(),
        locks: vec![locks::change_volume(id)],
    }
}

/// Asks whether the backend takes volumes of the type, and which pool of it if none was named.
async fn place(work: &Work, tx: &mut Tx) -> Output {
    let request: Request = work.request()?;
    let volume = row(work, tx).await?;
    let kind = db::volume_type::get(tx, volume.type_id).await?;
    let kind = kind.ok_or_else(|| Failure::permanent("the volume's type is gone"))?;
    let wanted = placing::Wanted {
        volume: &volume,
        kind: &kind,
        operation: Operation::Other,
        new_size: None,
        zones: &request.zones,
        bound_to: Some(pool_of(&volume)?.to_string()),
        hints: &Map::new(),
        tried: &[],
    };
    let chosen = placing::choose(&work.cloud, tx, &wanted).await?;
    let zone = volume.availability_zone.as_ref().unwrap_or(&chosen.zone);
    db::volume::place(tx, volume.id, &chosen.pool, zone).await?;
    Ok(json!({ "pool": chosen.pool.to_string(), "decision": chosen.decision }))
}

async fn measure(work: &Work) -> Output {
    let request: Request = work.request()?;
    let volume = row(work, &mut work.cloud.db.read()).await?;
    let source = manageable::source_name(&request.reference)
        .ok_or_else(|| Failure::permanent(manageable::no_name(&request.reference)))?;
    let driver = work.node.driver(&pool_of(&volume)?)?;
    let found = driver
        .candidate(Openable::Volume(&super::reference(&volume)), source)
        .await
        .map_err(manageable::at_once)?;
    let gb = manageable::gibibytes(found.bytes)?;
    Ok(serde_json::to_value(Measured { name: found.name, gb, volume: found.volume }).unwrap_or_default())
}

/// What a reference turned out to be.
fn measured(work: &Work) -> std::result::Result<Measured, Failure> {
    serde_json::from_value(work.output("measure").clone())
        .map_err(|error| Failure::permanent(format!("it was not measured: {error}")))
}

async fn count(work: &Work, tx: &mut Tx) -> Output {
    let volume = row(work, tx).await?;
    let Measured { gb, volume: named, .. } = measured(work)?;
    if let Some(id) = named
        && let Some(deleted) = db::volume::tombstone(tx, id).await?
    {
        let why = if deleted { "it is left of a volume that was deleted" } else { MANAGED };
        return Err(Failure::permanent(why));
    }
    if let Some(project) = volume.project_id.as_ref().filter(|_| volume.use_quota) {
        let refused = |error: Error| Failure::permanent(error.to_string());
        let limits = work.cloud.limits(project).await.map_err(refused)?;
        quota::check_volume_size(GiB(gb), &limits).map_err(refused)?;
        let usage = quota::gigabytes(i64::from(gb), volume.type_name.as_deref());
        quota::take(tx, project, &usage, &limits).await.map_err(refused)?;
    }
    resize(tx, &volume, gb).await?;
    Ok(json!({ "gb": gb }))
}

/// Gives the row and its pool another size.
async fn resize(tx: &mut Tx, volume: &Volume, gb: u32) -> std::result::Result<(), Failure> {
    if let Some(pool) = &volume.host {
        let more = i64::from(gb) - i64::from(volume.size.0);
        db::pool::allocate(tx, &pool.to_string(), more).await?;
    }
    Ok(db::volume::resize(tx, volume.id, GiB(gb)).await?)
}

async fn uncount(work: &Work) -> std::result::Result<(), Failure> {
    let mut tx = work.cloud.db.begin().await?;
    db::job::fence(&mut tx, &work.job).await?;
    let volume = row(work, &mut tx).await?;
    if volume.size.0 == 0 {
        return Ok(());
    }
    if let Some(project) = volume.project_id.as_ref().filter(|_| volume.use_quota) {
        let usage = quota::gigabytes(-i64::from(volume.size.0), volume.type_name.as_deref());
        quota::give_back(&mut tx, project, &usage).await?;
    }
    resize(&mut tx, &volume, 0).await?;
    Ok(work.cloud.commit(tx).await?)
}

async fn adopt(work: &Work) -> Output {
    let volume = row(work, &mut work.cloud.db.read()).await?;
    let driver = work.node.driver(&pool_of(&volume)?)?;
    let name = measured(work)?.name;
    let what = super::reference(&volume);
    let provider = driver.adopt(Openable::Volume(&what), &name, &work.claim).await?;
    Ok(serde_json::to_value(provider).unwrap_or_default())
}

/// What was taken is what it was before. Nobody has seen the volume.
async fn give_back(work: &Work) -> std::result::Result<(), Failure> {
    let volume = row(work, &mut work.cloud.db.read()).await?;
    let driver = work.node.driver(&pool_of(&volume)?)?;
    let (what, name) = (super::reference(&volume), measured(work)?.name);
    let claim = work.claim.for_undo();
    Ok(driver.release(Openable::Volume(&what), Some(&name), &claim).await?)
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let Some(id) = crate::cloud::volume_of(&work.job) else { return Ok(()) };
    let provider: Provider = serde_json::from_value(work.output("adopt").clone()).unwrap_or_default();
    let host = db::volume::get(tx, id).await?.and_then(|volume| volume.host);
    let service = host.and_then(|pool| work.node.services.get(&pool.service_host()).copied());
    db::volume::launched(tx, id, provider.location.as_deref(), provider.id.as_deref(), service).await?;
    db::transition::finish_volume(tx, id, VolumeOp::Manage, Outcome::Done, work.by()).await
}

async fn fail(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let Some(id) = crate::cloud::volume_of(&work.job) else { return Ok(()) };
    db::transition::finish_volume(tx, id, VolumeOp::Manage, Outcome::Failed, work.by()).await
}
