//! Complete: `os-complete` says that the host has the device.

use model::{AttachStatus, AttachmentId};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Resource, Result};
use crate::export;
use crate::policy::Action;

impl Cloud {
    /// `POST /attachments/{id}/action` with `os-complete`: the attachment is `attached`, its volume `in-use`.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn attachment_complete(&self, context: &Context, id: AttachmentId) -> Result<()> {
        let (_, volume) = self.attachment_for(context, id, Some(Action::AttachmentComplete)).await?;
        let by = export::by(context, &volume, None);
        let mut tx = self.db.begin().await?;
        db::volume::hold(&mut tx, volume.id, model::VolumeStatus::ALL).await?;
        if !db::transition::move_attachment(&mut tx, id, AttachStatus::ALL, AttachStatus::Attached, by)
            .await?
        {
            return Err(Error::NotFound(Resource::Attachment, id.to_string()));
        }
        Ok(self.commit(tx).await?)
    }
}
