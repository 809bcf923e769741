//! Update: `PUT /attachments/{id}` gives an attachment its connector, which connects it.

use db::Tx;
use model::{AttachMode, Attachment, AttachmentId, Connector, Volume};
use tokio::time::Instant;

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Resource, Result};
use crate::export;
use crate::export::connect::{Begun, Request};
use crate::policy::Action;

const FAILED: &str = "Unable to update the attachment.";

impl Cloud {
    /// `PUT /attachments/{id}`: the attachment `attaching`, with its connection info. The same request again, also while the
    /// first is under way, answers the same.
    ///
    /// # Errors
    /// Not there, forbidden; the volume is in an error state or connected to the same host already (409); a connector
    /// that cannot be used; the volume could not be exported (the attachment stays as it was).
    pub async fn attachment_update(
        &self,
        context: &Context,
        id: AttachmentId,
        connector: Connector,
    ) -> Result<Attachment> {
        let (_, volume) = self.attachment_for(context, id, Some(Action::AttachmentUpdate)).await?;
        self.check_connector(&volume, &connector).await?;
        let until = Instant::now() + self.settings.patience;
        let failed = |error: Error| {
            tracing::warn!(attachment.id = %id, %error, "attaching");
            Error::Failed(FAILED.into())
        };
        loop {
            let mut tx = self.db.begin().await?;
            let (volume, request) = check(&mut tx, &volume, id, &connector).await?;
            let begun = self.begin_connect(&mut tx, context, &volume, &request).await?;
            self.commit(tx).await?;
            match begun {
                Begun::Job(job) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if let Err(error) = self.wait(job, left).await {
                        tracing::warn!(attachment.id = %id, %error, "attaching");
                        return Err(self.not_connected(volume.id, FAILED).await);
                    }
                    return self.attachment_again(id).await;
                }
                Begun::After(job) => self.wait_for_end(job, until).await.map_err(failed)?,
            }
        }
    }
}

/// What is to be connected, from rows that are held until the transaction ends.
async fn check(
    tx: &mut Tx,
    volume: &Volume,
    id: AttachmentId,
    connector: &Connector,
) -> Result<(Volume, Request)> {
    let missing = || Error::NotFound(Resource::Attachment, id.to_string());
    db::volume::hold(tx, volume.id, model::VolumeStatus::ALL).await?;
    let volume = db::volume::get(tx, volume.id).await?.ok_or_else(missing)?;
    let attachment = db::attachment::hold(tx, id).await?.ok_or_else(missing)?;
    let leaving = export::active(tx, export::disconnect::OPERATION.name, &id.to_string()).await?;
    if !leaving.is_empty() {
        return Err(missing());
    }
    if volume.status.is_error() {
        return Err(Error::Conflict(format!(
            "Resource conflict: Volume attachments can not be updated if the volume is in an error state. The Volume {} \
             currently has a status of: {} ",
            volume.id, volume.status
        )));
    }
    if !volume.multiattach && connected_elsewhere(&volume, id, connector) {
        return Err(Error::Conflict(format!(
            "Resource conflict: duplicate connectors detected on volume {}",
            volume.id
        )));
    }
    let mode = super::mode_of(&volume, attachment.mode, connector);
    let mut connector = connector.clone();
    if attachment.mode.is_some_and(|mode| mode != AttachMode::Unset) {
        connector.0.insert("mode".into(), mode.as_str().into());
    }
    let request = Request { volume_id: volume.id, attachment_id: Some(id), connector, mode, fresh: false };
    Ok((volume, request))
}

/// Whether another attachment connects this host already. Two of one server on two hosts are a server that is moving: Cinder
/// means to allow them, though its check refuses every second connection.
fn connected_elsewhere(volume: &Volume, id: AttachmentId, connector: &Connector) -> bool {
    volume.attachments.iter().any(|one| {
        one.id != id
            && one.connection_info.is_some()
            && one.connector.as_ref().and_then(Connector::host) == connector.host()
    })
}
