//! Delete: `DELETE /attachments/{id}`, and what `os-detach` shares with it.

use db::Tx;
use db::export::{CONNECTION, Of};
use model::{Attachment, AttachmentId, JobId, Volume, VolumeStatus};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Resource, Result};
use crate::export::{self, connect, disconnect};
use crate::policy::Action;

impl Cloud {
    /// `DELETE /attachments/{id}`: when this returns, the host's session has been cut and the attachment is gone. Answers with
    /// the volume's remaining attachments.
    ///
    /// # Errors
    /// Not there, forbidden, in use by a server; or the session could not be cut.
    pub async fn attachment_delete(&self, context: &Context, id: AttachmentId) -> Result<Vec<Attachment>> {
        let (_, volume) = self.attachment_for(context, id, Some(Action::AttachmentDelete)).await?;
        self.check_deletion(context, &volume, Some(&id.to_string())).await?;
        self.detach(context, &volume, id).await?;
        Ok(db::attachment::of_volume(&mut self.db.read(), volume.id).await?)
    }

    /// Removes an attachment, after its export if it is the last to need it.
    pub(crate) async fn detach(&self, context: &Context, volume: &Volume, id: AttachmentId) -> Result<()> {
        let mut tx = self.db.begin().await?;
        db::volume::hold(&mut tx, volume.id, VolumeStatus::ALL).await?;
        if db::attachment::hold(&mut tx, id).await?.is_none() {
            return Err(Error::NotFound(Resource::Attachment, id.to_string()));
        }
        let job = match export::active(&mut tx, disconnect::OPERATION.name, &id.to_string()).await?.first() {
            Some(job) => Some(job.id),
            None => self.begin_detach(&mut tx, context, volume, id).await?,
        };
        self.commit(tx).await?;
        let Some(job) = job else { return Ok(()) };
        self.wait(job, self.settings.patience).await.map(drop).map_err(|error| match error {
            Error::Failed(why) => {
                tracing::warn!(attachment.id = %id, error = why, "detaching");
                Error::Failed("Unable to terminate volume connection from backend.".into())
            }
            other => other,
        })
    }

    /// Counts the attachment out. If that ends no export it is gone with this transaction, else with the job.
    async fn begin_detach(
        &self,
        tx: &mut Tx,
        context: &Context,
        volume: &Volume,
        id: AttachmentId,
    ) -> Result<Option<JobId>> {
        for job in export::active(tx, connect::OPERATION.name, &id.to_string()).await? {
            db::job::cancel(tx, job.id).await?;
        }
        let mut ended = db::export::release(tx, volume.id, &id.to_string(), Of::Any).await?;
        let last = db::attachment::of_volume(tx, volume.id).await?.iter().all(|other| other.id == id);
        if last {
            // The volume will be free: what an old-style client connected and did not terminate ends with it.
            ended.extend(db::export::release(tx, volume.id, CONNECTION, Of::Any).await?);
        }
        if ended.is_empty() {
            disconnect::detached(tx, volume.id, id, export::by(context, volume, None)).await?;
            return Ok(None);
        }
        Ok(Some(self.begin_disconnect(tx, context, volume, Some(id)).await?))
    }
}
