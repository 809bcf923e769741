//! An administrator's reset of a volume's statuses.

use db::Tx;
use db::transition::Resettable;
use db::volume::Metadata;
use model::volume::VolumeAttachStatus;
use model::{AttachStatus, VolumeId, VolumeStatus};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Resource, Result};
use crate::policy::Action;
use crate::request::ResetVolume;

/// Statuses that only work itself may lead to. Cinder means to refuse all three and, by a slip, refuses the first.
const NEVER: [VolumeStatus; 3] =
    [VolumeStatus::Deleting, VolumeStatus::ErrorDeleting, VolumeStatus::Detaching];

impl Cloud {
    /// `os-reset_status`. A job that works on the volume goes on and leaves a status that was reset alone; one that
    /// takes the volume away stops at its next step, for the volume may be in use again.
    ///
    /// # Errors
    /// Not there, forbidden, a status that cannot be set.
    pub async fn volume_reset(&self, context: &Context, id: VolumeId, wanted: ResetVolume) -> Result<()> {
        let volume = self.volume_for(context, id, Action::VolumeResetStatus).await?;
        if let Some(status) = wanted.status.filter(|status| NEVER.contains(status)) {
            return Err(Error::Invalid(format!("Cannot reset-state to {status}")));
        }
        let by = db::event::By {
            job: None,
            request_id: Some(&context.request_id),
            project_id: volume.project_id.as_deref(),
        };
        let mut tx = self.db.begin().await?;
        let attachments = db::attachment::of_volume(&mut tx, id).await?;
        if wanted.status == Some(VolumeStatus::InUse) && attachments.is_empty() {
            return Err(Error::Invalid(
                "Cannot reset-state to in-use because volume does not have any attachments.".into(),
            ));
        }
        if wanted.attach_status == Some(VolumeAttachStatus::Detached) {
            forget_attachments(&mut tx, id, by).await?;
        }
        // After the attachments: what is asked for outranks what follows from their end.
        let status = wanted.status.map(|status| ("status", Some(status.as_str())));
        let attach_status = wanted.attach_status.map(|status| ("attach_status", Some(status.as_str())));
        let migration =
            wanted.migration_status.as_ref().map(|status| ("migration_status", status.as_deref()));
        let columns: Vec<_> = [status, attach_status, migration].into_iter().flatten().collect();
        if !db::transition::reset(&mut tx, Resettable::Volume, &id.to_string(), &columns, by).await? {
            return Err(Error::NotFound(Resource::Volume, id.to_string()));
        }
        Ok(self.commit(tx).await?)
    }
}

/// Every attachment of the volume ends, and with it what only it needed.
async fn forget_attachments(tx: &mut Tx, id: VolumeId, by: db::event::By<'_>) -> Result<()> {
    for attachment in db::attachment::of_volume(tx, id).await? {
        db::transition::move_attachment(tx, attachment.id, AttachStatus::ALL, AttachStatus::Detached, by)
            .await?;
        db::export::release(tx, id, &attachment.id.to_string(), db::export::Of::Any).await?;
    }
    db::volume::drop_metadata(tx, Metadata::Admin, id, "attached_mode").await?;
    Ok(())
}
