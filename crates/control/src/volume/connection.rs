//! The old style's connections: `os-initialize_connection`, `os-terminate_connection`.

use db::export::{CONNECTION, Of};
use model::{AttachMode, ConnectionInfo, Connector, VolumeId, VolumeStatus};
use tokio::time::Instant;

use crate::attachment::mode_of;
use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Resource, Result};
use crate::export::connect::{self, Begun, Request};
use crate::export::{self, initiator};
use crate::policy::Action;

impl Cloud {
    /// `os-initialize_connection`: how the host reaches the volume. No state changes; repeating it answers the same.
    ///
    /// # Errors
    /// Not there, forbidden, under maintenance, a connector that cannot be used, or the volume could not be exported.
    pub async fn volume_initialize_connection(
        &self,
        context: &Context,
        id: VolumeId,
        connector: Connector,
    ) -> Result<ConnectionInfo> {
        let volume = self.volume_for(context, id, Action::VolumeInitializeConnection).await?;
        if volume.status == VolumeStatus::Maintenance {
            return Err(Error::InvalidVolume(
                "The volume connection cannot be initialized in maintenance mode.".into(),
            ));
        }
        if !connect::CONNECTABLE.contains(&volume.status) {
            return Err(connect::refused(volume.status));
        }
        self.check_connector(&volume, &connector).await?;
        let attached = match volume.admin_metadata.get("attached_mode").map(String::as_str) {
            Some("ro") => Some(AttachMode::ReadOnly),
            Some("rw") => Some(AttachMode::ReadWrite),
            _ => None,
        };
        let mode = mode_of(&volume, attached, &connector);
        let request = Request { volume_id: id, attachment_id: None, connector, mode, fresh: false };
        let until = Instant::now() + self.settings.patience;
        let mut tx = self.db.begin().await?;
        if !db::volume::hold(&mut tx, id, connect::CONNECTABLE).await? {
            return Err(match db::volume::get(&mut tx, id).await? {
                Some(volume) => connect::refused(volume.status),
                None => Error::NotFound(Resource::Volume, id.to_string()),
            });
        }
        let (Begun::Job(job) | Begun::After(job)) =
            self.begin_connect(&mut tx, context, &volume, &request).await?;
        self.commit(tx).await?;
        let left = until.saturating_duration_since(Instant::now());
        match self.wait(job, left).await {
            Ok(job) => self.connection_of(&job).await,
            Err(error) => {
                tracing::warn!(volume.id = %id, %error, "initializing a connection");
                let otherwise = "Unable to fetch connection information from backend.";
                Err(self.not_connected(id, otherwise).await)
            }
        }
    }

    /// `os-terminate_connection`: the host's connection (without a connector: every connection) is cut, and the volume no
    /// longer reserved. What attachments need stays. Nothing when there is none.
    ///
    /// # Errors
    /// Not there, forbidden, in use by a server; or the session could not be cut.
    pub async fn volume_terminate_connection(
        &self,
        context: &Context,
        id: VolumeId,
        connector: Option<Connector>,
    ) -> Result<()> {
        let volume = self.volume_for(context, id, Action::VolumeTerminateConnection).await?;
        self.check_deletion(context, &volume, None).await?;
        let initiator = connector.as_ref().and_then(initiator);
        let of = initiator.as_deref().map_or(Of::Any, Of::Initiator);
        let mut tx = self.db.begin().await?;
        db::volume::hold(&mut tx, id, VolumeStatus::ALL).await?;
        for job in export::active(&mut tx, connect::OPERATION.name, &id.to_string()).await? {
            let theirs: Option<Request> = serde_json::from_value(job.request).ok();
            let theirs = theirs.and_then(|request| export::initiator(&request.connector));
            if initiator.is_none() || theirs == initiator {
                db::job::cancel(&mut tx, job.id).await?;
            }
        }
        let ended = db::export::release(&mut tx, id, CONNECTION, of).await?;
        let job = if ended.is_empty() {
            None
        } else {
            Some(self.begin_disconnect(&mut tx, context, &volume, None).await?)
        };
        self.commit(tx).await?;
        if let Some(job) = job {
            self.wait(job, self.settings.patience).await.map_err(|error| {
                tracing::warn!(volume.id = %id, %error, "terminating a connection");
                Error::Failed("Unable to terminate volume connection from backend.".into())
            })?;
        }
        self.unreserve(context, &volume).await
    }
}
