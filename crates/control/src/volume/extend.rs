//! Extend: `os-extend`. The pool is asked, the backend grows the volume, its target tells the initiators; the new size is
//! recorded last.
//!
//! What it will use is promised while it runs, in the project's quota and on the pool, and becomes use in the transaction that
//! records the size (I6).

use db::Tx;
use db::transition::{Begin, Outcome};
use model::job::ResourceRef;
use model::quota::Usage;
use model::transition::VolumeOp;
use model::{GiB, JobId, TypeId, Volume, VolumeId, VolumeStatus};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::create::{check_type_size, pool_of};
use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{self, Act, At, Failure, Output, Step, Work};
use crate::error::{Error, Resource, Result};
use crate::message::{self, Detail};
use crate::policy::Action;
use crate::request::ExtendVolume;
use crate::scheduler::Operation;
use crate::{locks, placing, quota};

/// The operation's table.
pub const OPERATION: engine::Operation = engine::Operation {
    name: "volume.extend",
    steps: &[
        Step {
            name: "place",
            at: At::Scheduler,
            act: Act::Record(|work, tx| Box::pin(place(work, tx))),
            // `fail` takes the promise back, in the transaction that ends the job.
            undo: None,
        },
        Step { name: "grow", at: At::Owner, act: Act::Do(|work| Box::pin(grow(work))), undo: None },
    ],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, failure| Box::pin(fail(work, tx, failure)),
};

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    new_size: GiB,
    /// What was promised: how many GiB, to whom. The type's name may change until it is settled.
    more: i64,
    project_id: Option<String>,
    type_id: TypeId,
    /// Whether it was attached when it began.
    in_use: bool,
}

impl Request {
    fn op(&self) -> VolumeOp {
        if self.in_use { VolumeOp::ExtendInUse } else { VolumeOp::Extend }
    }
}

impl Cloud {
    /// `os-extend`: the volume is `extending`, and a job grows it.
    ///
    /// # Errors
    /// Not there, forbidden, not larger than it is, in a status that forbids it, over quota.
    pub async fn volume_extend(&self, context: &Context, id: VolumeId, wanted: ExtendVolume) -> Result<()> {
        let seen = self.volume_show(context, id).await?;
        let in_use = wanted.in_use && seen.status == VolumeStatus::InUse;
        let action = if in_use { Action::VolumeExtendAttached } else { Action::VolumeExtend };
        self.policy.require(action, context, &super::target(&seen))?;
        let kind = self.type_by_id(seen.type_id).await.ok();
        let limits = self.limits(&context.project_id).await?;
        let owner_limits = match &seen.project_id {
            Some(project) => self.limits(project).await?,
            None => limits.clone(),
        };
        let job = JobId::new();
        let by = db::event::By {
            job: Some(job),
            request_id: Some(&context.request_id),
            project_id: seen.project_id.as_deref(),
        };
        let mut tx = self.db.begin().await?;
        let op = if in_use { VolumeOp::ExtendInUse } else { VolumeOp::Extend };
        let begun = db::transition::begin_volume(&mut tx, id, op, by).await?;
        // As it is now that it is ours.
        let volume = db::volume::get(&mut tx, id).await?.filter(|_| begun != Begin::Missing);
        let volume = volume.ok_or_else(|| Error::NotFound(Resource::Volume, id.to_string()))?;
        check_size(&volume, wanted.new_size)?;
        if let Some(kind) = &kind {
            check_type_size(kind, wanted.new_size)?;
        }
        if let Begin::Refused { status, .. } = begun {
            return Err(refused(id, in_use, &status));
        }
        quota::check_volume_size(wanted.new_size, &limits)?;
        let request = Request {
            new_size: wanted.new_size,
            more: i64::from(wanted.new_size.0) - i64::from(volume.size.0),
            project_id: volume.project_id.clone().filter(|_| volume.use_quota),
            type_id: volume.type_id,
            in_use,
        };
        if let Some(project) = &request.project_id {
            let usage = quota::gigabytes(request.more, volume.type_name.as_deref());
            quota::reserve(&mut tx, project, &usage, &owner_limits).await?;
        }
        db::job::insert(&mut tx, new_job(context, &volume, &request, job)).await?;
        Ok(self.commit(tx).await?)
    }

    /// `os-extend_volume_completion`: for backends that wait for the host of an attached volume, of which there are none: what such a
    /// backend would have left with the volume is always missing.
    ///
    /// # Errors
    /// Always, in Cinder's words.
    pub async fn volume_extend_completion(&self, context: &Context, id: VolumeId) -> Result<()> {
        let volume = self.volume_for(context, id, Action::VolumeExtendCompletion).await?;
        Err(Error::InvalidVolume(if volume.status == VolumeStatus::Extending {
            "Required volume admin metadata is malformed or missing.".into()
        } else {
            "Volume is not being extended.".into()
        }))
    }
}

fn check_size(volume: &Volume, new_size: GiB) -> Result<()> {
    if new_size > volume.size {
        return Ok(());
    }
    Err(Error::InvalidInput(format!(
        "New size for extend must be greater than current size. (current: {}, extended: {}).",
        volume.size.0, new_size.0
    )))
}

/// Cinder shows the expectation as Python would.
fn refused(id: VolumeId, in_use: bool, status: &str) -> Error {
    let expected = if in_use { VolumeStatus::InUse } else { VolumeStatus::Available };
    Error::InvalidVolume(format!(
        "Volume {id} status must be '{{'status': '{expected}'}}' to extend, currently {status}."
    ))
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
        locks: vec![locks::change_volume(volume.id)],
    }
}

async fn row(work: &Work, from: &mut impl db::Read) -> std::result::Result<Volume, Failure> {
    let id =
        crate::cloud::volume_of(&work.job).ok_or_else(|| Failure::permanent("the job names no volume"))?;
    let volume = db::volume::get(from, id).await?;
    volume.ok_or_else(|| Failure::permanent(format!("volume {id} is gone")))
}

/// Asks whether its pool has room for the growth, and promises it there.
async fn place(work: &Work, tx: &mut Tx) -> Output {
    let request: Request = work.request()?;
    let volume = row(work, tx).await?;
    let pool = pool_of(&volume)?;
    let kind = db::volume_type::get(tx, volume.type_id).await?;
    let kind = kind.ok_or_else(|| Failure::permanent("the volume's type is gone"))?;
    let wanted = placing::Wanted {
        volume: &volume,
        kind: &kind,
        operation: Operation::ExtendVolume,
        new_size: Some(request.new_size),
        zones: &[],
        bound_to: Some(pool.to_string()),
        hints: &Map::new(),
        tried: &[],
    };
    let chosen = placing::choose(&work.cloud, tx, &wanted).await?;
    let gb = i64::from(request.new_size.0) - i64::from(volume.size.0);
    Ok(json!({ "pool": chosen.pool.to_string(), "gb": gb, "decision": chosen.decision }))
}

async fn grow(work: &Work) -> Output {
    let request: Request = work.request()?;
    let volume = row(work, &mut work.cloud.db.read()).await?;
    let driver = work.node.driver(&pool_of(&volume)?)?;
    driver.extend_volume(&super::reference(&volume), request.new_size, &work.claim).await?;
    work.node.capacity_changed(volume.id, request.new_size).await?;
    Ok(Value::Null)
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    settle(work, tx, &request, true).await?;
    let Some(id) = crate::cloud::volume_of(&work.job) else { return Ok(()) };
    db::transition::finish_volume(tx, id, request.op(), Outcome::Done, work.by()).await
}

/// Ends both promises. When it has grown, its row and what it counts for follow: by what its row lacks, which is not what was promised
/// if something else has changed it meanwhile (an operator's reset lets two extensions overlap).
async fn settle(work: &Work, tx: &mut Tx, request: &Request, grown: bool) -> db::Result<()> {
    let names = db::volume_type::names(tx, [request.type_id].into_iter()).await?;
    let type_name = names.get(&request.type_id).map(String::as_str);
    if let Some(project) = &request.project_id {
        db::quota::settle(tx, project, &quota::gigabytes(request.more, type_name), false).await?;
    }
    let placed = work.output("place");
    if let (Some(pool), Some(gb)) = (placed["pool"].as_str(), placed["gb"].as_i64()) {
        db::pool::unpromise(tx, pool, gb).await?;
    }
    let Some(id) = crate::cloud::volume_of(&work.job) else { return Ok(()) };
    let volume = db::volume::get(tx, id).await?;
    let Some(volume) = volume.filter(|volume| grown && volume.size < request.new_size) else {
        return Ok(());
    };
    let more = i64::from(request.new_size.0) - i64::from(volume.size.0);
    if let Some(project) = volume.project_id.as_ref().filter(|_| volume.use_quota) {
        let usage: Vec<Usage> = quota::gigabytes(more, volume.type_name.as_deref());
        quota::count(tx, project, &usage).await?;
    }
    if let Some(pool) = &volume.host {
        db::pool::allocate(tx, &pool.to_string(), more).await?;
    }
    db::volume::resize(tx, id, request.new_size).await
}

async fn fail(work: &Work, tx: &mut Tx, failure: &Failure) -> db::Result<()> {
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    settle(work, tx, &request, false).await?;
    let Some(id) = crate::cloud::volume_of(&work.job) else { return Ok(()) };
    if db::volume::get(tx, id).await?.is_none() {
        // Deleted by force meanwhile: there is nobody to tell.
        return Ok(());
    }
    // Refused before the backend was asked: nothing has happened.
    let placed = !work.output("place").is_null();
    let (otherwise, outcome) =
        if placed { (Detail::ExtendFailed, Outcome::Failed) } else { (Detail::NoBackend, Outcome::Undone) };
    let ttl = work.cloud.settings.message_ttl;
    message::leave(tx, &work.job, "VOLUME", message::Action::Extend, failure, otherwise, ttl).await?;
    db::transition::finish_volume(tx, id, request.op(), outcome, work.by()).await
}
