//! Volumes.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::connection::segment;
use crate::list::find;
use crate::{Client, Extra, Query, Result};

/// A volume as `GET /volumes/{id}` shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Volume {
    pub id: String,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    pub status: String,
    /// In GiB.
    pub size: u64,
    #[serde(default)]
    pub volume_type: Option<String>,
    /// `"true"` or `"false"`: a text.
    #[serde(default)]
    pub bootable: Option<String>,
    #[serde(default)]
    pub multiattach: bool,
    #[serde(default)]
    pub availability_zone: Option<String>,
    #[serde(default)]
    pub snapshot_id: Option<String>,
    #[serde(default)]
    pub source_volid: Option<String>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub attachments: Vec<VolumeAttachment>,
    #[serde(default)]
    pub created_at: Option<String>,
    #[serde(default)]
    pub updated_at: Option<String>,
    #[serde(flatten)]
    pub extra: Extra,
}

/// An attachment as a volume shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VolumeAttachment {
    pub attachment_id: String,
    #[serde(default)]
    pub server_id: Option<String>,
    #[serde(default)]
    pub host_name: Option<String>,
    #[serde(default)]
    pub device: Option<String>,
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a new volume shall be.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NewVolume {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// In GiB; may be left out with a source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_volid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// What is deleted with a volume, and in spite of what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VolumeDelete {
    /// With its snapshots.
    pub cascade: bool,
    /// Whatever its status (administrators).
    pub force: bool,
}

/// What of a name and description shall change.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Naming {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl Naming {
    /// Whether nothing shall change.
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.description.is_none()
    }
}

impl Client {
    /// Volumes, with all their fields.
    ///
    /// # Errors
    /// As any request.
    pub async fn volumes(&self, query: &Query) -> Result<Vec<Volume>> {
        self.pages("volumes/detail", "volumes", query).await
    }

    /// One volume.
    ///
    /// # Errors
    /// As any request; 404 when there is none.
    pub async fn volume(&self, id: &str) -> Result<Volume> {
        self.v3(Method::GET, &format!("volumes/{}", segment(id))).member("volume").await
    }

    /// The volume that a name or id means.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`], [`crate::Error::Ambiguous`], and as any request.
    pub async fn find_volume(&self, name: &str) -> Result<Volume> {
        let named = Query::named(name);
        find("volume", name, self.volume(name), self.volumes(&named), |volume| &volume.id).await
    }

    /// Begins to create a volume; it is `creating` when this returns.
    ///
    /// # Errors
    /// As any request; 413 over quota.
    pub async fn create_volume(&self, wanted: &NewVolume) -> Result<Volume> {
        self.v3(Method::POST, "volumes").body(json!({ "volume": wanted })).member("volume").await
    }

    /// Changes a volume's name or description.
    ///
    /// # Errors
    /// As any request.
    pub async fn rename_volume(&self, id: &str, naming: &Naming) -> Result<Volume> {
        self.v3(Method::PUT, &format!("volumes/{}", segment(id)))
            .body(json!({ "volume": naming }))
            .member("volume")
            .await
    }

    /// Adds or overwrites metadata of a volume; returns all of it.
    ///
    /// # Errors
    /// As any request.
    pub async fn set_volume_metadata(
        &self,
        id: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>> {
        let request = self.v3(Method::POST, &format!("volumes/{}/metadata", segment(id)));
        request.body(json!({ "metadata": metadata })).member("metadata").await
    }

    /// Removes one key of a volume's metadata.
    ///
    /// # Errors
    /// As any request; 404 when there is no such key.
    pub async fn unset_volume_metadata(&self, id: &str, key: &str) -> Result<()> {
        self.v3(Method::DELETE, &format!("volumes/{}/metadata/{}", segment(id), segment(key))).done().await
    }

    /// Begins to grow a volume to `size` GiB.
    ///
    /// # Errors
    /// As any request; 400 when it is not larger.
    pub async fn extend_volume(&self, id: &str, size: u64) -> Result<()> {
        self.volume_action(id, "os-extend", json!({ "new_size": size })).await
    }

    /// Marks a volume as read-only or not; attachments made from then on follow it.
    ///
    /// # Errors
    /// As any request.
    pub async fn set_volume_readonly(&self, id: &str, readonly: bool) -> Result<()> {
        self.volume_action(id, "os-update_readonly_flag", json!({ "readonly": readonly })).await
    }

    /// Marks a volume as bootable or not.
    ///
    /// # Errors
    /// As any request.
    pub async fn set_volume_bootable(&self, id: &str, bootable: bool) -> Result<()> {
        self.volume_action(id, "os-set_bootable", json!({ "bootable": bootable })).await
    }

    /// An action that answers nothing: `{"<action>": <body>}`.
    ///
    /// # Errors
    /// As any request.
    pub async fn volume_action(&self, id: &str, action: &str, body: Value) -> Result<()> {
        self.v3(Method::POST, &format!("volumes/{}/action", segment(id)))
            .body(json!({ action: body }))
            .done()
            .await
    }

    /// Begins to delete a volume.
    ///
    /// # Errors
    /// As any request; 400 while it is attached or has snapshots.
    pub async fn delete_volume(&self, id: &str, how: VolumeDelete) -> Result<()> {
        let request = self.v3(Method::DELETE, &format!("volumes/{}", segment(id)));
        request
            .maybe("cascade", how.cascade.then_some(true))
            .maybe("force", how.force.then_some(true))
            .done()
            .await
    }
}
