//! Retype: `os-retype`, where the volume is if its new type allows that, else by moving it ([`super::relocation`]).
//!
//! The new type's share of the quota is promised while it runs and becomes use, in place of the old one's, in the transaction that
//! changes the type (I6). Volumes and gigabytes as such stay as they are counted. Snapshots have their volume's type.

use db::Tx;
use db::transition::{Begin, Outcome};
use model::job::ResourceRef;
use model::quota::Usage;
use model::transition::VolumeOp;
use model::{JobId, Snapshot, TypeId, Volume, VolumeId, VolumeStatus, VolumeType};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::relocation;
use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{self, Act, At, Failure, Output, Step, Work};
use crate::error::{Error, Resource, Result};
use crate::message::{self, Detail};
use crate::policy::Action;
use crate::request::RetypeVolume;
use crate::scheduler::{Migration, Operation};
use crate::{export, locks, placing, quota};

/// The operation's table.
pub const OPERATION: engine::Operation = engine::Operation {
    name: "volume.retype",
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

const REFUSED: &str = "Retype needs volume to be in available or in-use state, not be part of an active migration or a \
                       consistency group, requested type has to be different that the one from the volume, and for \
                       in-use volumes front-end qos specs cannot change.";

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    type_id: TypeId,
    /// Whether it may move.
    on_demand: bool,
    /// The id of the row of its new place, if it moves.
    destination: VolumeId,
    /// Whose quota, and what was promised of it.
    project_id: Option<String>,
    promised: Share,
}

/// What a volume with its snapshots takes of its type's quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Share {
    gigabytes: i64,
    snapshots: i64,
}

impl Share {
    fn of(volume: &Volume, snapshots: &[Snapshot], snapshots_free: bool) -> Self {
        let counted = || snapshots.iter().filter(|snapshot| snapshot.use_quota);
        let of_snapshots: i64 = counted().map(|snapshot| i64::from(snapshot.volume_size.0)).sum();
        Self {
            gigabytes: i64::from(volume.size.0) + if snapshots_free { 0 } else { of_snapshots },
            snapshots: counted().count() as i64,
        }
    }

    /// `sign` is 1 to take, -1 to give back.
    fn usage(self, type_name: &str, sign: i64) -> Vec<Usage> {
        let mut usage = vec![
            Usage::of(format!("volumes_{type_name}"), sign),
            Usage::of(format!("gigabytes_{type_name}"), self.gigabytes * sign),
        ];
        if self.snapshots > 0 {
            usage.push(Usage::of(format!("snapshots_{type_name}"), self.snapshots * sign));
        }
        usage
    }
}

impl Cloud {
    /// `os-retype`: the volume is `retyping`, and a job gives it the type.
    ///
    /// # Errors
    /// No such volume or type, forbidden, a state or a difference of the types that forbids it, over quota.
    pub async fn volume_retype(&self, context: &Context, id: VolumeId, wanted: RetypeVolume) -> Result<()> {
        let seen = self.volume_for(context, id, Action::VolumeRetype).await?;
        let kind = self.type_by_name_or_id(context, &wanted.new_type).await?;
        self.check_multiattach(context, &seen, &kind).await?;
        let owner_limits = match &seen.project_id {
            Some(project) => self.limits(project).await?,
            None => Default::default(),
        };
        let job = JobId::new();
        let by = export::by(context, &seen, Some(job));
        let mut tx = self.db.begin().await?;
        let begun = db::transition::begin_volume(&mut tx, id, VolumeOp::Retype, by).await?;
        let volume = db::volume::get(&mut tx, id).await?.filter(|_| begun != Begin::Missing);
        let volume = volume.ok_or_else(|| Error::NotFound(Resource::Volume, id.to_string()))?;
        let in_use = volume.previous_status.as_deref() == Some(VolumeStatus::InUse.as_str());
        if begun != Begin::Moved
            || volume.type_id == kind.id
            || (in_use && !same_in_front(&mut tx, volume.type_id, kind.id).await?)
            // Attached since it was looked at.
            || (in_use && volume.multiattach != kind.multiattach())
        {
            return Err(Error::InvalidVolume(REFUSED.into()));
        }
        let snapshots = db::snapshot::of_volume(&mut tx, id).await?;
        let request = Request {
            type_id: kind.id,
            on_demand: wanted.on_demand,
            destination: VolumeId::new(),
            project_id: volume.project_id.clone().filter(|_| volume.use_quota),
            promised: Share::of(&volume, &snapshots, self.settings.snapshot_gb_free),
        };
        if let Some(project) = &request.project_id {
            let usage = request.promised.usage(&kind.name, 1);
            quota::reserve(&mut tx, project, &usage, &owner_limits).await?;
        }
        db::job::insert(&mut tx, new_job(context, &volume, &request, job)).await?;
        Ok(self.commit(tx).await?)
    }

    async fn check_multiattach(&self, context: &Context, volume: &Volume, kind: &VolumeType) -> Result<()> {
        if volume.multiattach != kind.multiattach() {
            if volume.status != VolumeStatus::Available {
                return Err(Error::InvalidInput(format!(
                    "Invalid volume_type passed, retypes affecting multiattach are only allowed on available volumes, \
                     the specified volume however currently has a status of: {}.",
                    volume.status
                )));
            }
            if kind.multiattach() {
                self.policy.require(Action::VolumeMultiattach, context, &super::target(volume))?;
            }
        }
        let traits = db::retype::traits(&mut self.db.read(), kind.id).await?;
        if kind.multiattach() && traits.encryption.is_some() {
            return Err(Error::InvalidInput(
                "Retype requested both encryption and multi-attach, which is not supported.".into(),
            ));
        }
        Ok(())
    }
}

/// Whether hypervisors have nothing to change: the same specs, or none that they enforce.
async fn same_in_front(tx: &mut Tx, old: TypeId, new: TypeId) -> Result<bool> {
    let (old, new) = (db::retype::traits(tx, old).await?, db::retype::traits(tx, new).await?);
    Ok(old.qos == new.qos || !(old.qos_in_front || new.qos_in_front))
}

fn new_job(context: &Context, volume: &Volume, request: &Request, job: JobId) -> db::job::NewJob {
    db::job::NewJob {
        id: job,
        operation: OPERATION.name,
        resource: ResourceRef { kind: "volume".into(), id: volume.id.to_string() },
        project_id: volume.project_id.clone(),
        user_id: Some(context.user_id.clone()),
        request_id: Some(context.request_id.clone()),
        queue: crate::cloud::SCHEDULER.into(),
        request: serde_json::to_value(request).unwrap_or_default(),
        locks: vec![locks::change_volume(volume.id), locks::change_volume(request.destination)],
    }
}

/// Chooses the pool: the one it is on, if that will do for the new type; else another, if it may move.
async fn place(work: &Work, tx: &mut Tx) -> Output {
    let request: Request = work.request()?;
    let volume = relocation::row(work, tx).await?;
    let kind = db::volume_type::get(tx, request.type_id).await?;
    let kind = kind.ok_or_else(|| Failure::permanent("the new type is gone"))?;
    let (old, new) = (db::retype::traits(tx, volume.type_id).await?, db::retype::traits(tx, kind.id).await?);
    if old.encryption != new.encryption {
        return Err(Failure::permanent(
            "the types differ in their encryption: the volume would have to be written anew",
        ));
    }
    let current = super::create::pool_of(&volume)?;
    let migration = if request.on_demand { Migration::OnDemand } else { Migration::Never };
    let hints = Map::new();
    let wanted = placing::Wanted {
        volume: &volume,
        kind: &kind,
        operation: Operation::Other,
        new_size: None,
        zones: &[],
        bound_to: None,
        hints: &hints,
        tried: &[],
    };
    let chosen = placing::choose_for_retype(&work.cloud, tx, &wanted, &current, migration).await?;
    if chosen.pool == current {
        return Ok(json!({ "pool": current.to_string(), "moves": false, "decision": chosen.decision }));
    }
    relocation::begin(work, tx, &volume, &kind, &chosen).await
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    relocation::publish(work, tx).await?;
    settle(work, tx, &request, true).await?;
    let Some(id) = crate::cloud::volume_of(&work.job) else { return Ok(()) };
    db::transition::finish_volume(tx, id, VolumeOp::Retype, Outcome::Done, work.by()).await
}

/// Ends the promise. When the type changes, what is used follows, by what there is now.
async fn settle(work: &Work, tx: &mut Tx, request: &Request, changed: bool) -> db::Result<()> {
    let new = db::volume_type::get(tx, request.type_id).await?;
    if let (Some(project), Some(new)) = (&request.project_id, &new) {
        db::quota::settle(tx, project, &request.promised.usage(&new.name, 1), false).await?;
    }
    let Some(id) = crate::cloud::volume_of(&work.job).filter(|_| changed) else { return Ok(()) };
    let Some(volume) = db::volume::get(tx, id).await? else { return Ok(()) };
    let Some(new) = new else {
        return Err(db::Error::Unusable("the new type is gone".into()));
    };
    if let Some(project) = volume.project_id.as_ref().filter(|_| volume.use_quota) {
        let snapshots = db::snapshot::of_volume(tx, id).await?;
        let share = Share::of(&volume, &snapshots, work.cloud.settings.snapshot_gb_free);
        if let Some(old) = &volume.type_name {
            quota::give_back(tx, project, &share.usage(old, -1)).await?;
        }
        quota::count(tx, project, &share.usage(&new.name, 1)).await?;
    }
    db::retype::change(tx, id, new.id, new.multiattach()).await
}

async fn fail(work: &Work, tx: &mut Tx, failure: &Failure) -> db::Result<()> {
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    relocation::fail(work, tx).await?;
    settle(work, tx, &request, false).await?;
    if failure.detail == Detail::NoBackend {
        let ttl = work.cloud.settings.message_ttl;
        message::leave(tx, &work.job, "VOLUME", message::Action::Schedule, failure, Detail::NoBackend, ttl)
            .await?;
    }
    let Some(id) = crate::cloud::volume_of(&work.job) else { return Ok(()) };
    db::transition::finish_volume(tx, id, VolumeOp::Retype, Outcome::Failed, work.by()).await
}
