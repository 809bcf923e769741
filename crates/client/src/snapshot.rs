//! Snapshots of volumes.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::connection::segment;
use crate::list::find;
use crate::volume::Naming;
use crate::{Client, Extra, Query, Result};

/// A snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Snapshot {
    pub id: String,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    pub status: String,
    pub volume_id: String,
    /// In GiB.
    pub size: u64,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub created_at: Option<String>,
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a new snapshot shall be.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NewSnapshot {
    pub volume_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl Client {
    /// Snapshots, with all their fields.
    ///
    /// # Errors
    /// As any request.
    pub async fn snapshots(&self, query: &Query) -> Result<Vec<Snapshot>> {
        self.pages("snapshots/detail", "snapshots", query).await
    }

    /// One snapshot.
    ///
    /// # Errors
    /// As any request; 404 when there is none.
    pub async fn snapshot(&self, id: &str) -> Result<Snapshot> {
        self.v3(Method::GET, &format!("snapshots/{}", segment(id))).member("snapshot").await
    }

    /// The snapshot that a name or id means.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`], [`crate::Error::Ambiguous`], and as any request.
    pub async fn find_snapshot(&self, name: &str) -> Result<Snapshot> {
        let named = Query::named(name);
        find("snapshot", name, self.snapshot(name), self.snapshots(&named), |snapshot| &snapshot.id).await
    }

    /// Begins to create a snapshot, also of a volume in use.
    ///
    /// # Errors
    /// As any request; 400 when the volume's status does not allow it, 413 over quota.
    pub async fn create_snapshot(&self, wanted: &NewSnapshot) -> Result<Snapshot> {
        self.v3(Method::POST, "snapshots").body(json!({ "snapshot": wanted })).member("snapshot").await
    }

    /// Changes a snapshot's name or description.
    ///
    /// # Errors
    /// As any request.
    pub async fn rename_snapshot(&self, id: &str, naming: &Naming) -> Result<Snapshot> {
        self.v3(Method::PUT, &format!("snapshots/{}", segment(id)))
            .body(json!({ "snapshot": naming }))
            .member("snapshot")
            .await
    }

    /// Adds or overwrites metadata of a snapshot; returns all of it.
    ///
    /// # Errors
    /// As any request.
    pub async fn set_snapshot_metadata(
        &self,
        id: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>> {
        let request = self.v3(Method::POST, &format!("snapshots/{}/metadata", segment(id)));
        request.body(json!({ "metadata": metadata })).member("metadata").await
    }

    /// Begins to delete a snapshot; `force` whatever its status (administrators).
    ///
    /// # Errors
    /// As any request.
    pub async fn delete_snapshot(&self, id: &str, force: bool) -> Result<()> {
        if force {
            let request = self.v3(Method::POST, &format!("snapshots/{}/action", segment(id)));
            return request.body(json!({ "os-force_delete": {} })).done().await;
        }
        self.v3(Method::DELETE, &format!("snapshots/{}", segment(id))).done().await
    }
}
