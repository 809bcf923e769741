//! What a volume keeps of the image that it was made from, and operators' and users' changes of it.

use std::collections::BTreeMap;

use db::volume::Metadata;
use model::VolumeId;

use super::metadata::check_writable;
use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::policy::Action;

impl Cloud {
    /// `os-show_image_metadata`.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn volume_image_metadata(
        &self,
        context: &Context,
        id: VolumeId,
    ) -> Result<BTreeMap<String, String>> {
        Ok(self.volume_for(context, id, Action::VolumeMetadataShow).await?.image_metadata)
    }

    /// `os-set_image_metadata`: added to what is there; all of it afterwards.
    ///
    /// # Errors
    /// Not there, forbidden, in a status that forbids it.
    pub async fn volume_image_metadata_set(
        &self,
        context: &Context,
        id: VolumeId,
        wanted: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>> {
        check_writable(&self.volume_for(context, id, Action::VolumeImageMetadataSet).await?)?;
        let mut tx = self.db.begin().await?;
        for (key, value) in wanted {
            db::volume::put_metadata(&mut tx, Metadata::Image, id, key, value).await?;
        }
        self.commit(tx).await?;
        Ok(self.volume_again(id).await?.image_metadata)
    }

    /// `os-unset_image_metadata`.
    ///
    /// # Errors
    /// The volume or the key is not there, forbidden, in a status that forbids it.
    pub async fn volume_image_metadata_unset(
        &self,
        context: &Context,
        id: VolumeId,
        key: &str,
    ) -> Result<()> {
        check_writable(&self.volume_for(context, id, Action::VolumeImageMetadataRemove).await?)?;
        let mut tx = self.db.begin().await?;
        if !db::volume::drop_metadata(&mut tx, Metadata::Image, id, key).await? {
            return Err(Error::Missing(format!("Glance metadata for volume/snapshot {id} cannot be found.")));
        }
        Ok(self.commit(tx).await?)
    }
}
