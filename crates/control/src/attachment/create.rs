//! Create: `POST /attachments`. Reserves the volume; with a connector also connects it, in the same request.

use db::Tx;
use db::transition::Begin;
use model::transition::VolumeMove;
use model::{AttachMode, AttachStatus, Attachment, AttachmentId, Volume, VolumeStatus};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::export::connect::{Begun, Request};
use crate::policy::Action;
use crate::request::NewAttachment;
use crate::volume;
use crate::{export, export::by};

impl Cloud {
    /// `POST /attachments`: an attachment that is `reserved`, or, with a connector, `attaching` with its connection info.
    ///
    /// # Errors
    /// The volume is not there, in a state that forbids it, or taken by another; forbidden; a connector that cannot be
    /// used; the volume could not be exported (the attachment is gone again then).
    pub async fn attachment_create(&self, context: &Context, wanted: NewAttachment) -> Result<Attachment> {
        let volume = self.volume_for(context, wanted.volume_id, Action::AttachmentCreate).await?;
        if volume.status.is_error() {
            return Err(Error::InvalidVolume(format!(
                "Volume attachments can not be created if the volume is in an error state. The Volume {} currently has a \
                 status of: {} ",
                volume.id, volume.status
            )));
        }
        if volume.multiattach && volume.status == VolumeStatus::InUse && volume.bootable {
            self.policy.require(Action::MultiattachBootable, context, &volume::target(&volume))?;
        }
        if let Some(connector) = &wanted.connector {
            self.check_connector(&volume, connector).await?;
        }
        let id = AttachmentId::new();
        let mut tx = self.db.begin().await?;
        reserve(&mut tx, context, &volume, wanted.instance_uuid.as_deref()).await?;
        insert(&mut tx, context, &volume, &wanted, id).await?;
        let Some(connector) = wanted.connector else {
            self.commit(tx).await?;
            return self.attachment_again(id).await;
        };
        let mode = super::mode_of(&volume, wanted.mode, &connector);
        let request = Request { volume_id: volume.id, attachment_id: Some(id), connector, mode, fresh: true };
        let (Begun::Job(job) | Begun::After(job)) =
            self.begin_connect(&mut tx, context, &volume, &request).await?;
        self.commit(tx).await?;
        if let Err(error) = self.wait(job, self.settings.patience).await {
            tracing::warn!(attachment.id = %id, %error, "attaching");
            let otherwise = "Unable to create attachment for volume.";
            return Err(self.not_connected(volume.id, otherwise).await);
        }
        self.attachment_again(id).await
    }
}

/// Reserves the volume: free, or shareable, or already this server's (which is moving to another host).
async fn reserve(tx: &mut Tx, context: &Context, volume: &Volume, instance: Option<&str>) -> Result<()> {
    let how =
        if volume.multiattach { VolumeMove::AttachmentReserveMulti } else { VolumeMove::AttachmentReserve };
    let refused = match db::transition::move_volume(tx, volume.id, how, by(context, volume, None)).await? {
        Begin::Moved => return Ok(()),
        Begin::Refused { status, .. } => status,
        Begin::Missing => VolumeStatus::Deleted.to_string(),
    };
    let held = [VolumeStatus::InUse, VolumeStatus::Reserved];
    if instance.is_some() && db::volume::hold(tx, volume.id, &held).await? {
        let attachments = db::attachment::of_volume(tx, volume.id).await?;
        if attachments.iter().any(|one| one.instance_uuid.as_deref() == instance) {
            return Ok(());
        }
    }
    let statuses =
        if volume.multiattach { "available or in-use or downloading" } else { "available or downloading" };
    Err(Error::InvalidVolume(format!(
        "Volume {} status must be {statuses} to reserve, but the current status is {refused}.",
        volume.id
    )))
}

async fn insert(
    tx: &mut Tx,
    context: &Context,
    volume: &Volume,
    wanted: &NewAttachment,
    id: AttachmentId,
) -> Result<()> {
    let readonly = volume.admin_metadata.get("readonly").is_some_and(|value| value == "True");
    let new = db::attachment::NewAttachment {
        id,
        volume_id: volume.id,
        instance_uuid: wanted.instance_uuid.clone(),
        attached_host: None,
        mountpoint: None,
        mode: if readonly { AttachMode::ReadOnly } else { wanted.mode.unwrap_or(AttachMode::Unset) },
        status: AttachStatus::Reserved,
    };
    db::attachment::insert(tx, &new).await?;
    let (name, of) = (id.to_string(), volume.id.to_string());
    let change = db::event::Change {
        kind: "attachment",
        id: &name,
        from: None,
        to: Some(AttachStatus::Reserved.as_str()),
        by: export::by(context, volume, None),
        detail: Some(&of),
    };
    Ok(db::event::append(tx, change).await?)
}
