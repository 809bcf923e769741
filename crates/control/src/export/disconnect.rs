//! Disconnect: the target cuts what is ending, then the attachment goes. The back half of deleting an attachment, of `os-detach`
//! and of `os-terminate_connection`.
//!
//! The front half counts the holder out, which makes the export `ending` in the transaction that records this job: from
//! then on no restart serves it again. The row goes after the session (I8).

use db::Tx;
use db::export::Of;
use model::job::ResourceRef;
use model::{AttachStatus, AttachmentId, JobId, Volume, VolumeId, VolumeStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Act, At, Failure, Operation, Output, Step, Work};

/// The operation's table.
pub const OPERATION: Operation = Operation {
    name: "volume.disconnect",
    steps: &[Step { name: "cut", at: At::Owner, act: Act::Do(|work| Box::pin(step(work))), undo: None }],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, _| Box::pin(fail(work, tx)),
};

/// What is to be cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub volume_id: VolumeId,
    /// What goes afterwards.
    pub attachment_id: Option<AttachmentId>,
}

impl Cloud {
    /// Records the job that cuts what is ending. The caller commits and waits.
    pub(crate) async fn begin_disconnect(
        &self,
        tx: &mut Tx,
        context: &Context,
        volume: &Volume,
        attachment: Option<AttachmentId>,
    ) -> db::Result<JobId> {
        let id = JobId::new();
        let resource = match attachment {
            Some(id) => ResourceRef { kind: "attachment".into(), id: id.to_string() },
            None => ResourceRef { kind: "volume".into(), id: volume.id.to_string() },
        };
        let request = Request { volume_id: volume.id, attachment_id: attachment };
        let queue = match &volume.host {
            Some(place) => Self::target_queue(&place.host),
            None => Self::target_queue(&self.settings.host),
        };
        let new = db::job::NewJob {
            id,
            operation: OPERATION.name,
            resource,
            project_id: volume.project_id.clone(),
            user_id: Some(context.user_id.clone()),
            request_id: Some(context.request_id.clone()),
            queue,
            request: serde_json::to_value(request)?,
            locks: Vec::new(),
        };
        db::job::insert(tx, new).await?;
        Ok(id)
    }
}

/// Has the target of this process cut the exports of a volume that are ending.
///
/// # Errors
/// They could not be cut, or another process serves them: worth repeating there. That the volume's other exports cannot be served is
/// no error of this one's.
pub(crate) async fn cut(work: &Work, volume: VolumeId) -> Result<(), Failure> {
    let synced = match &work.node.target {
        Some(target) => target.sync(volume).await,
        None => Ok(()),
    };
    let left = db::export::of_volume(&mut work.cloud.db.read(), volume).await?;
    if left.iter().any(|export| export.ending) {
        return synced.and(Err(Failure::again("the volume is served by another process")));
    }
    Ok(())
}

/// The end of an attachment whose export has been cut, or that never had one.
pub(crate) async fn detached(
    tx: &mut Tx,
    volume: VolumeId,
    attachment: AttachmentId,
    by: db::event::By<'_>,
) -> db::Result<bool> {
    db::volume::hold(tx, volume, VolumeStatus::ALL).await?;
    // What it may have come to hold since: it ends with it.
    db::export::release(tx, volume, &attachment.to_string(), Of::Any).await?;
    db::volume::drop_metadata(tx, db::volume::Metadata::Admin, volume, "attached_mode").await?;
    db::transition::move_attachment(tx, attachment, AttachStatus::ALL, AttachStatus::Detached, by).await
}

async fn step(work: &Work) -> Output {
    let request: Request = work.request()?;
    cut(work, request.volume_id).await?;
    Ok(Value::Null)
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    if let Some(id) = request.attachment_id {
        detached(tx, request.volume_id, id, work.by()).await?;
    }
    Ok(())
}

async fn fail(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    if let Some(id) = request.attachment_id {
        db::volume::hold(tx, request.volume_id, VolumeStatus::ALL).await?;
        let to = AttachStatus::ErrorDetaching;
        db::transition::move_attachment(tx, id, AttachStatus::ALL, to, work.by()).await?;
    }
    Ok(())
}
