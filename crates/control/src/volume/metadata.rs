//! A volume's user metadata, its read-only and bootable flags.

use std::collections::BTreeMap;

use db::volume::Metadata;
use model::{Volume, VolumeId, VolumeStatus};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::policy::Action;
use crate::request::MetadataWrite;

/// Whether metadata may be written.
pub(super) fn check_writable(volume: &Volume) -> Result<()> {
    match volume.status {
        VolumeStatus::Maintenance => Err(Error::InvalidVolume(
            "The volume metadata cannot be updated when the volume is in maintenance status.".into(),
        )),
        VolumeStatus::Uploading => Err(Error::InvalidVolume(
            "The volume metadata cannot be updated when the volume is in uploading status.".into(),
        )),
        _ => Ok(()),
    }
}

impl Cloud {
    /// `GET /volumes/{id}/metadata`.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn volume_metadata(&self, context: &Context, id: VolumeId) -> Result<BTreeMap<String, String>> {
        Ok(self.volume_for(context, id, Action::VolumeMetadataShow).await?.metadata)
    }

    /// `POST` (merge) and `PUT` (replace) `/volumes/{id}/metadata`; all of it afterwards.
    ///
    /// # Errors
    /// Not there, forbidden, in a status that forbids it.
    pub async fn volume_metadata_write(
        &self,
        context: &Context,
        id: VolumeId,
        wanted: &BTreeMap<String, String>,
        how: MetadataWrite,
    ) -> Result<BTreeMap<String, String>> {
        let action = match how {
            MetadataWrite::Merge => Action::VolumeMetadataCreate,
            MetadataWrite::Replace => Action::VolumeMetadataUpdate,
        };
        check_writable(&self.volume_for(context, id, action).await?)?;
        let mut tx = self.db.begin().await?;
        match how {
            MetadataWrite::Replace => {
                db::volume::replace_metadata(&mut tx, Metadata::User, id, wanted).await?
            }
            MetadataWrite::Merge => {
                for (key, value) in wanted {
                    db::volume::put_metadata(&mut tx, Metadata::User, id, key, value).await?;
                }
            }
        }
        self.commit(tx).await?;
        Ok(self.volume_again(id).await?.metadata)
    }

    /// `PUT /volumes/{id}/metadata/{key}`.
    ///
    /// # Errors
    /// Not there, forbidden, in a status that forbids it.
    pub async fn volume_metadata_set(
        &self,
        context: &Context,
        id: VolumeId,
        key: &str,
        value: &str,
    ) -> Result<()> {
        check_writable(&self.volume_for(context, id, Action::VolumeMetadataUpdate).await?)?;
        let mut tx = self.db.begin().await?;
        db::volume::put_metadata(&mut tx, Metadata::User, id, key, value).await?;
        Ok(self.commit(tx).await?)
    }

    /// `DELETE /volumes/{id}/metadata/{key}`.
    ///
    /// # Errors
    /// The volume or the key is not there, forbidden, in a status that forbids it.
    pub async fn volume_metadata_unset(&self, context: &Context, id: VolumeId, key: &str) -> Result<()> {
        check_writable(&self.volume_for(context, id, Action::VolumeMetadataDelete).await?)?;
        let mut tx = self.db.begin().await?;
        if !db::volume::drop_metadata(&mut tx, Metadata::User, id, key).await? {
            return Err(Error::Missing(format!("Volume {id} has no metadata with key {key}.")));
        }
        Ok(self.commit(tx).await?)
    }

    /// `os-update_readonly_flag`.
    ///
    /// # Errors
    /// Not there, forbidden, not available.
    pub async fn volume_set_readonly(&self, context: &Context, id: VolumeId, readonly: bool) -> Result<()> {
        let volume = self.volume_for(context, id, Action::VolumeReadonly).await?;
        if volume.status != VolumeStatus::Available {
            return Err(Error::InvalidVolume(format!(
                "Volume {id} status must be available to update readonly flag, but current status is: {}.",
                volume.status
            )));
        }
        let mut tx = self.db.begin().await?;
        let value = if readonly { "True" } else { "False" };
        db::volume::put_metadata(&mut tx, Metadata::Admin, id, "readonly", value).await?;
        Ok(self.commit(tx).await?)
    }

    /// `os-set_bootable`.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn volume_set_bootable(&self, context: &Context, id: VolumeId, bootable: bool) -> Result<()> {
        self.volume_for(context, id, Action::VolumeUpdate).await?;
        let mut tx = self.db.begin().await?;
        db::volume::set_bootable(&mut tx, id, bootable).await?;
        Ok(self.commit(tx).await?)
    }
}
