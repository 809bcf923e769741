//! Unmanage: `os-unmanage`. The row goes as in a deletion, and the backend keeps the bytes, under a name that is not ours.
//!
//! A volume that could not be managed goes the same way when it is deleted: what its reference meant was never ours to remove.

use db::Tx;
use db::transition::{Begin, Outcome};
use drivers::Openable;
use model::job::ResourceRef;
use model::transition::VolumeOp;
use model::{JobId, Volume, VolumeId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::delete;
use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Act, At, Operation, Output, Step, Work};
use crate::error::{Error, Resource, Result};
use crate::message::{self, Detail};
use crate::policy::Action;
use crate::{export, locks};

/// The operation's table.
pub const OPERATION: Operation = Operation {
    name: "volume.unmanage",
    steps: &[
        Step { name: "cut", at: At::Owner, act: Act::Do(|work| Box::pin(delete::cut(work))), undo: None },
        Step { name: "release", at: At::Owner, act: Act::Do(|work| Box::pin(release(work))), undo: None },
    ],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, _| Box::pin(fail(work, tx)),
};

/// How it was asked for, which says where it ends when that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Asked {
    Unmanage,
    Delete,
}

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    asked: Asked,
}

impl Cloud {
    /// `os-unmanage`.
    ///
    /// # Errors
    /// Not there, forbidden, in a state that forbids a deletion, encrypted.
    pub async fn volume_unmanage(&self, context: &Context, id: VolumeId) -> Result<()> {
        let seen = self.volume_for(context, id, Action::VolumeUnmanage).await?;
        self.policy.require(Action::VolumeDelete, context, &super::target(&seen))?;
        let job = JobId::new();
        let by = export::by(context, &seen, Some(job));
        let mut tx = self.db.begin().await?;
        if seen.host.is_some() && seen.encryption_key_id.is_some() {
            let told = db::message::NewMessage {
                project_id: &context.project_id,
                request_id: Some(&context.request_id),
                resource_type: "VOLUME",
                resource_uuid: &id.to_string(),
                action_id: message::Action::Unmanage.id(),
                detail_id: Detail::UnmanageEncrypted.id(),
                ttl: self.settings.message_ttl,
            };
            db::message::insert(&mut tx, &told).await?;
            self.commit(tx).await?;
            // Cinder's reason gets lost on its way.
            return Err(Error::Invalid("Unacceptable parameters.".into()));
        }
        match db::transition::begin_volume(&mut tx, id, VolumeOp::Unmanage, by).await? {
            Begin::Moved => {}
            Begin::Missing => return Err(Error::NotFound(Resource::Volume, id.to_string())),
            Begin::Refused { .. } => return Err(Error::InvalidVolume(delete::REFUSED.into())),
        }
        let volume = db::volume::get(&mut tx, id).await?;
        let volume = volume.ok_or_else(|| Error::NotFound(Resource::Volume, id.to_string()))?;
        db::volume::terminated(&mut tx, id).await?;
        if volume.host.is_none() {
            delete::gone(&mut tx, &volume, by).await?;
        } else {
            db::job::insert(&mut tx, new_job(context, &volume, job, Asked::Unmanage)).await?;
        }
        Ok(self.commit(tx).await?)
    }
}

/// The job that gives a volume up.
pub(super) fn new_job(context: &Context, volume: &Volume, job: JobId, asked: Asked) -> db::job::NewJob {
    db::job::NewJob {
        id: job,
        operation: OPERATION.name,
        resource: ResourceRef { kind: "volume".into(), id: volume.id.to_string() },
        project_id: volume.project_id.clone(),
        user_id: Some(context.user_id.clone()),
        request_id: Some(context.request_id.clone()),
        queue: super::home_queue(volume),
        request: serde_json::to_value(Request { asked }).unwrap_or_default(),
        locks: vec![locks::change_volume(volume.id)],
    }
}

async fn release(work: &Work) -> Output {
    let Some(volume) = delete::row(work).await? else { return Ok(Value::Null) };
    delete::check_status(&volume)?;
    let Some(pool) = &volume.host else { return Ok(Value::Null) };
    let driver = work.node.driver(pool)?;
    driver.release(Openable::Volume(&super::reference(&volume)), None, &work.claim).await?;
    Ok(Value::Null)
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let Some(id) = crate::cloud::volume_of(&work.job) else { return Ok(()) };
    let Some(volume) = db::volume::get(tx, id).await? else { return Ok(()) };
    // Before it goes: housekeeping removes what a deletion has left, never what was given up (I5).
    db::volume::given_up(tx, id).await?;
    delete::gone(tx, &volume, work.by()).await
}

async fn fail(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    let op = match request.asked {
        Asked::Unmanage => VolumeOp::Unmanage,
        Asked::Delete => VolumeOp::Delete,
    };
    let Some(id) = crate::cloud::volume_of(&work.job) else { return Ok(()) };
    db::transition::finish_volume(tx, id, op, Outcome::Failed, work.by()).await
}
