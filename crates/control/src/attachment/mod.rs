//! Attachments: reading them, who may remove them, and one file per operation on them.

mod complete;
mod create;
mod delete;
mod update;

use std::time::Duration;

use model::list::{ListQuery, Listed};
use model::{AttachMode, Attachment, AttachmentId, Connector, JobId, Volume};
use tokio::time::Instant;

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Resource, Result};
use crate::policy::Action;
use crate::volume;

/// How a volume is to be connected: read-only wins, then what the attachment was made with, then what the connector says.
pub(crate) fn mode_of(volume: &Volume, asked: Option<AttachMode>, connector: &Connector) -> AttachMode {
    let readonly = volume.admin_metadata.get("readonly").is_some_and(|value| value == "True");
    match (readonly, asked, connector.mode()) {
        (true, ..) | (false, Some(AttachMode::ReadOnly), _) => AttachMode::ReadOnly,
        (false, None | Some(AttachMode::Unset), Some("ro")) => AttachMode::ReadOnly,
        _ => AttachMode::ReadWrite,
    }
}

/// 409: the attachment is a server's.
fn used_by(server: &str) -> Error {
    let text = format!("Detach volume from instance {server} using the Compute API");
    Error::Conflict(format!("ConflictNovaUsingAttachment: {text}"))
}

impl Cloud {
    /// An attachment the caller may know of, and its volume. Another project's is not there (404).
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub(crate) async fn attachment_for(
        &self,
        context: &Context,
        id: AttachmentId,
        action: Option<Action>,
    ) -> Result<(Attachment, Volume)> {
        let read = &mut self.db.read();
        let missing = || Error::NotFound(Resource::Attachment, id.to_string());
        let attachment = db::attachment::get(read, id).await?.ok_or_else(missing)?;
        let volume = db::volume::get(read, attachment.volume_id).await?;
        let volume = volume
            .filter(|volume| volume::visible(context, volume.project_id.as_deref()))
            .ok_or_else(missing)?;
        if let Some(action) = action {
            self.policy.require(action, context, &volume::target(&volume))?;
        }
        Ok((attachment, volume))
    }

    /// `GET /attachments/{id}`.
    ///
    /// # Errors
    /// Not there.
    pub async fn attachment_show(&self, context: &Context, id: AttachmentId) -> Result<Attachment> {
        let (mut attachment, volume) = self.attachment_for(context, id, None).await?;
        self.reveal_all(std::slice::from_mut(&mut attachment)).await?;
        if let (Some(info), Some(format)) =
            (attachment.connection_info.as_mut(), volume.admin_metadata.get("format"))
        {
            info.data.insert("format".into(), format.clone().into());
        }
        Ok(attachment)
    }

    /// `GET /attachments`, `/attachments/detail`.
    ///
    /// # Errors
    /// An unknown marker, a bad sort key.
    pub async fn attachment_list(&self, _context: &Context, query: &ListQuery) -> Result<Listed<Attachment>> {
        let mut listed = db::attachment::list(&mut self.db.read(), query)
            .await
            .map_err(|error| Error::of_list(error, Resource::Attachment))?;
        self.reveal_all(&mut listed.items).await?;
        Ok(listed)
    }

    /// Refuses to take an attachment from a server that uses it, unless a service asks (OSSA-2023-003, CVE-2023-2088). `wanted` is
    /// what the caller named; without a name, the volume's only attachment is meant.
    ///
    /// # Errors
    /// 409 when a server uses it or it cannot be told which attachment is meant, 400 when it is another volume's, 503 when the
    /// compute service does not say.
    pub(crate) async fn check_deletion(
        &self,
        context: &Context,
        volume: &Volume,
        wanted: Option<&str>,
    ) -> Result<()> {
        if context.service_roles.iter().any(|role| self.settings.service_roles.contains(role)) {
            return Ok(());
        }
        let meant = match wanted {
            None if volume.attachments.is_empty() => return Ok(()),
            None => match volume.attachments.as_slice() {
                [only] => Some(only.clone()),
                _ => None,
            },
            Some(text) => match text.parse() {
                Ok(id) => db::attachment::get(&mut self.db.read(), id).await?,
                Err(_) => None,
            },
        };
        match meant {
            Some(found) if found.volume_id == volume.id => self.check_use(context, &found).await,
            Some(_) => Err(Error::InvalidInput("Mismatched volume and attachment".into())),
            None => Err(used_by("")),
        }
    }

    /// Refuses an attachment by which a server uses its volume. That only the compute service can say: where there is none, no
    /// attachment is in use by a server.
    async fn check_use(&self, context: &Context, attachment: &Attachment) -> Result<()> {
        let Some(compute) = self.compute() else { return Ok(()) };
        let Some(server) = attachment.instance_uuid.as_deref().filter(|server| !server.is_empty()) else {
            return Ok(());
        };
        if attachment.connection_info.is_none() {
            return Ok(());
        }
        let used = compute.attachment_of(context, server, attachment.volume_id).await?;
        if used.is_some_and(|id| id == attachment.id.to_string()) {
            tracing::warn!(attachment.id = %attachment.id, server, "only the compute service may take this attachment away");
            return Err(used_by(server));
        }
        Ok(())
    }

    /// Waits for a job that had to be stopped first, however it ends.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it does not end in time.
    pub(crate) async fn wait_for_end(&self, job: JobId, until: Instant) -> Result<()> {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match self.wait(job, left).await {
            Ok(_) | Err(Error::Failed(_)) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// An attachment that was there a moment ago, with its secret.
    pub(crate) async fn attachment_again(&self, id: AttachmentId) -> Result<Attachment> {
        let attachment = db::attachment::get(&mut self.db.read(), id).await?;
        let mut attachment =
            attachment.ok_or_else(|| Error::NotFound(Resource::Attachment, id.to_string()))?;
        self.reveal_all(std::slice::from_mut(&mut attachment)).await?;
        Ok(attachment)
    }
}
