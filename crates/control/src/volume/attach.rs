//! The old style's records: `os-attach`, `os-detach`, `os-force_detach`.

use db::Tx;
use db::volume::Metadata;
use model::{AttachMode, AttachStatus, Attachment, AttachmentId, Volume, VolumeId, VolumeStatus};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::export::by;
use crate::policy::Action;
use crate::request::{AttachVolume, DetachVolume, ForceDetachVolume};

impl Cloud {
    /// `os-attach`: the volume is `in-use` by a server or host. Repeating it changes nothing.
    ///
    /// # Errors
    /// Not there, forbidden, under maintenance, attached already and not shareable, read-only.
    pub async fn volume_attach(&self, context: &Context, id: VolumeId, wanted: AttachVolume) -> Result<()> {
        let volume = self.volume_for(context, id, Action::VolumeAttach).await?;
        if volume.status == VolumeStatus::Maintenance {
            return Err(Error::InvalidVolume("The volume cannot be attached in maintenance mode.".into()));
        }
        let mut tx = self.db.begin().await?;
        db::volume::hold(&mut tx, id, VolumeStatus::ALL).await?;
        let volume = db::volume::get(&mut tx, id).await?.unwrap_or(volume);
        let metadata = &volume.admin_metadata;
        match metadata.get("readonly").map(String::as_str) {
            Some("True") if wanted.mode != AttachMode::ReadOnly => {
                let mode = wanted.mode;
                return Err(Error::Invalid(format!("Invalid attaching mode '{mode}' for volume {id}.")));
            }
            Some(_) => {}
            None => db::volume::put_metadata(&mut tx, Metadata::Admin, id, "readonly", "False").await?,
        }
        if volume.status == VolumeStatus::Attaching
            && metadata
                .get("attached_mode")
                .is_some_and(|mode| !mode.is_empty() && mode != wanted.mode.as_str())
        {
            return Err(refused("being attached by different mode"));
        }
        let host = wanted.host_name.as_deref().map(sane_host);
        if find(&volume, wanted.instance_uuid.as_deref(), host.as_deref()).is_some() {
            db::transition::derive_volume(&mut tx, id, by(context, &volume, None)).await?;
            return Ok(self.commit(tx).await?);
        }
        if volume.status == VolumeStatus::InUse && !volume.multiattach && volume.migration_status.is_none() {
            return Err(refused("volume is already attached and multiple attachments are not enabled"));
        }
        if volume.status.is_service_owned() || volume.status == VolumeStatus::AwaitingTransfer {
            return Err(refused("status must be available or attaching"));
        }
        record(&mut tx, context, &volume, &wanted, host).await?;
        Ok(self.commit(tx).await?)
    }

    /// `os-detach`: when this returns, the attachment and its export are gone.
    ///
    /// # Errors
    /// Not there, forbidden, under maintenance, in use by a server, more than one attachment and none named.
    pub async fn volume_detach(&self, context: &Context, id: VolumeId, wanted: DetachVolume) -> Result<()> {
        let volume = self.volume_for(context, id, Action::VolumeDetach).await?;
        let named = wanted.attachment_id.map(|id| id.to_string());
        self.detach_named(context, &volume, named.as_deref()).await
    }

    /// `os-force_detach`: terminates the host's connection, then detaches.
    ///
    /// # Errors
    /// As [`volume_detach`](Self::volume_detach).
    pub async fn volume_force_detach(
        &self,
        context: &Context,
        id: VolumeId,
        wanted: ForceDetachVolume,
    ) -> Result<()> {
        let volume = self.volume_for(context, id, Action::VolumeForceDetach).await?;
        self.volume_terminate_connection(context, id, wanted.connector).await?;
        self.policy.require(Action::VolumeDetach, context, &super::target(&volume))?;
        self.detach_named(context, &volume, wanted.attachment_id.as_deref()).await
    }

    async fn detach_named(&self, context: &Context, volume: &Volume, named: Option<&str>) -> Result<()> {
        let named = named.filter(|name| !name.is_empty());
        self.check_deletion(context, volume, named).await?;
        if volume.status == VolumeStatus::Maintenance {
            return Err(Error::InvalidVolume("The volume cannot be detached in maintenance mode.".into()));
        }
        let one: Option<AttachmentId> = match (named, volume.attachments.as_slice()) {
            (Some(name), all) => all.iter().map(|one| one.id).find(|id| id.to_string() == name),
            (None, []) => None,
            (None, [only]) => Some(only.id),
            (None, _) => {
                return Err(Error::Invalid(
                    "Error detaching volume - InvalidVolume: Invalid volume: Detach volume failed: More than one \
                     attachment, but no attachment_id provided."
                        .into(),
                ));
            }
        };
        match one {
            Some(id) => match self.detach(context, volume, id).await {
                // Gone since it was looked up: that is what was wanted.
                Err(Error::NotFound(..)) => Ok(()),
                other => other,
            },
            None => self.settle(context, volume).await,
        }
    }

    /// Nothing is attached under that name: the volume does not stay `detaching` for it.
    async fn settle(&self, context: &Context, volume: &Volume) -> Result<()> {
        use VolumeStatus::{Attaching, Detaching, InUse, Reserved};
        let mut tx = self.db.begin().await?;
        if db::volume::hold(&mut tx, volume.id, &[Attaching, Detaching, InUse, Reserved]).await? {
            db::transition::derive_volume(&mut tx, volume.id, by(context, volume, None)).await?;
        }
        Ok(self.commit(tx).await?)
    }
}

fn refused(why: &str) -> Error {
    Error::Invalid(format!("Error attaching volume - InvalidVolume: Invalid volume: {why}"))
}

/// The attachment that a server, or else a host, has of the volume.
fn find<'a>(volume: &'a Volume, instance: Option<&str>, host: Option<&str>) -> Option<&'a Attachment> {
    volume.attachments.iter().find(|one| match (instance, host) {
        (Some(instance), _) => one.instance_uuid.as_deref() == Some(instance),
        (None, host) => one.instance_uuid.is_none() && one.attached_host.as_deref() == host,
    })
}

async fn record(
    tx: &mut Tx,
    context: &Context,
    volume: &Volume,
    wanted: &AttachVolume,
    host: Option<String>,
) -> Result<()> {
    let new = db::attachment::NewAttachment {
        id: AttachmentId::new(),
        volume_id: volume.id,
        instance_uuid: wanted.instance_uuid.clone(),
        attached_host: host,
        mountpoint: Some(wanted.mountpoint.clone()),
        mode: wanted.mode,
        status: AttachStatus::Attaching,
    };
    db::attachment::insert(tx, &new).await?;
    db::attachment::attached(tx, new.id, None, wanted.mode).await?;
    db::volume::put_metadata(tx, Metadata::Admin, volume.id, "attached_mode", wanted.mode.as_str()).await?;
    let by = by(context, volume, None);
    let from = &[AttachStatus::Attaching];
    db::transition::move_attachment(tx, new.id, from, AttachStatus::Attached, by).await?;
    Ok(())
}

/// A host's name as Cinder stores it: lower case, words joined by hyphens, nothing that a name cannot have.
fn sane_host(name: &str) -> String {
    let kept: String = name
        .chars()
        .map(|c| if matches!(c, ' ' | '_') { '-' } else { c })
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
        .collect();
    kept.to_lowercase().trim_matches(['.', '-']).to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn host_names_are_made_sane() {
        assert_eq!(super::sane_host("My_Host 1.example/"), "my-host-1.example");
        assert_eq!(super::sane_host("-.x.-"), "x");
    }
}
