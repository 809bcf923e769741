//! Backups of volumes.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::connection::segment;
use crate::list::find;
use crate::volume::Naming;
use crate::{Client, Extra, Query, Result};

/// A backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Backup {
    pub id: String,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub description: Option<String>,
    pub status: String,
    #[serde(default)]
    pub volume_id: Option<String>,
    #[serde(default)]
    pub snapshot_id: Option<String>,
    /// In GiB; not known before it is made.
    #[serde(default)]
    pub size: Option<u64>,
    #[serde(default)]
    pub object_count: Option<u64>,
    #[serde(default)]
    pub container: Option<String>,
    #[serde(default)]
    pub is_incremental: bool,
    #[serde(default)]
    pub has_dependent_backups: bool,
    #[serde(default)]
    pub fail_reason: Option<String>,
    #[serde(default)]
    pub created_at: Option<String>,
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a new backup shall be.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NewBackup {
    pub volume_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Only what changed since the newest backup of the volume.
    pub incremental: bool,
    /// Also of a volume in use.
    pub force: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// The short form in which creating answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackupSummary {
    pub id: String,
    #[serde(default)]
    pub name: Option<String>,
}

/// Where a backup is restored to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreTo {
    /// Over an existing volume.
    Volume(String),
    /// Into a new volume of this name.
    New(Option<String>),
}

/// What restoring answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Restore {
    pub backup_id: String,
    pub volume_id: String,
    #[serde(default)]
    pub volume_name: Option<String>,
}

impl Client {
    /// Backups, with all their fields.
    ///
    /// # Errors
    /// As any request.
    pub async fn backups(&self, query: &Query) -> Result<Vec<Backup>> {
        self.pages("backups/detail", "backups", query).await
    }

    /// One backup.
    ///
    /// # Errors
    /// As any request; 404 when there is none.
    pub async fn backup(&self, id: &str) -> Result<Backup> {
        self.v3(Method::GET, &format!("backups/{}", segment(id))).member("backup").await
    }

    /// The backup that a name or id means.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`], [`crate::Error::Ambiguous`], and as any request.
    pub async fn find_backup(&self, name: &str) -> Result<Backup> {
        let named = Query::named(name);
        find("backup", name, self.backup(name), self.backups(&named), |backup| &backup.id).await
    }

    /// Begins to back up a volume.
    ///
    /// # Errors
    /// As any request; 400 for a volume in use without `force`, 413 over quota.
    pub async fn create_backup(&self, wanted: &NewBackup) -> Result<BackupSummary> {
        self.v3(Method::POST, "backups").body(json!({ "backup": wanted })).member("backup").await
    }

    /// Changes a backup's name or description.
    ///
    /// # Errors
    /// As any request.
    pub async fn rename_backup(&self, id: &str, naming: &Naming) -> Result<BackupSummary> {
        self.v3(Method::PUT, &format!("backups/{}", segment(id)))
            .body(json!({ "backup": naming }))
            .member("backup")
            .await
    }

    /// Begins to restore a backup.
    ///
    /// # Errors
    /// As any request; 400 when the volume is not available or too small.
    pub async fn restore_backup(&self, id: &str, to: &RestoreTo) -> Result<Restore> {
        let body = match to {
            RestoreTo::Volume(volume) => json!({ "volume_id": volume }),
            RestoreTo::New(Some(name)) => json!({ "name": name }),
            RestoreTo::New(None) => json!({}),
        };
        self.v3(Method::POST, &format!("backups/{}/restore", segment(id)))
            .body(json!({ "restore": body }))
            .member("restore")
            .await
    }

    /// Begins to delete a backup; `force` whatever its status (administrators).
    ///
    /// # Errors
    /// As any request; 400 while increments depend on it.
    pub async fn delete_backup(&self, id: &str, force: bool) -> Result<()> {
        if force {
            let request = self.v3(Method::POST, &format!("backups/{}/action", segment(id)));
            return request.body(json!({ "os-force_delete": {} })).done().await;
        }
        self.v3(Method::DELETE, &format!("backups/{}", segment(id))).done().await
    }
}
