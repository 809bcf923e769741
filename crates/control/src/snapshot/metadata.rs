//! A snapshot's metadata.

use std::collections::BTreeMap;

use model::SnapshotId;

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::policy::Action;
use crate::request::MetadataWrite;

impl Cloud {
    /// `GET /snapshots/{id}/metadata`.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn snapshot_metadata(
        &self,
        context: &Context,
        id: SnapshotId,
    ) -> Result<BTreeMap<String, String>> {
        Ok(self.snapshot_for(context, id, Action::SnapshotMetadataShow).await?.metadata)
    }

    /// `POST` (merge) and `PUT` (replace) `/snapshots/{id}/metadata`; all of it afterwards.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn snapshot_metadata_write(
        &self,
        context: &Context,
        id: SnapshotId,
        wanted: &BTreeMap<String, String>,
        how: MetadataWrite,
    ) -> Result<BTreeMap<String, String>> {
        self.snapshot_for(context, id, Action::SnapshotMetadataUpdate).await?;
        let mut tx = self.db.begin().await?;
        match how {
            MetadataWrite::Replace => db::snapshot::replace_metadata(&mut tx, id, wanted).await?,
            MetadataWrite::Merge => {
                for (key, value) in wanted {
                    db::snapshot::put_metadata(&mut tx, id, key, value).await?;
                }
            }
        }
        self.commit(tx).await?;
        Ok(self.snapshot_again(id).await?.metadata)
    }

    /// `PUT /snapshots/{id}/metadata/{key}`.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn snapshot_metadata_set(
        &self,
        context: &Context,
        id: SnapshotId,
        key: &str,
        value: &str,
    ) -> Result<()> {
        self.snapshot_for(context, id, Action::SnapshotMetadataUpdate).await?;
        let mut tx = self.db.begin().await?;
        db::snapshot::put_metadata(&mut tx, id, key, value).await?;
        Ok(self.commit(tx).await?)
    }

    /// `DELETE /snapshots/{id}/metadata/{key}`.
    ///
    /// # Errors
    /// The snapshot or the key is not there, or forbidden.
    pub async fn snapshot_metadata_unset(&self, context: &Context, id: SnapshotId, key: &str) -> Result<()> {
        self.snapshot_for(context, id, Action::SnapshotMetadataDelete).await?;
        let mut tx = self.db.begin().await?;
        if !db::snapshot::drop_metadata(&mut tx, id, key).await? {
            return Err(Error::Missing(format!("Snapshot {id} has no metadata with key {key}.")));
        }
        Ok(self.commit(tx).await?)
    }
}
