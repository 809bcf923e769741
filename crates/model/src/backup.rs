//! Backups of volumes.

use std::collections::BTreeMap;

use crate::{BackupId, SnapshotId, Time, VolumeId};

text_enum! {
    /// `backups.status`.
    BackupStatus {
        Creating = "creating",
        Available = "available",
        Error = "error",
        ErrorDeleting = "error_deleting",
        Deleting = "deleting",
        Deleted = "deleted",
        Restoring = "restoring",
    }
}

/// A backup as answers show it.
#[derive(Debug, Clone)]
pub struct Backup {
    pub id: BackupId,
    pub volume_id: VolumeId,
    pub user_id: Option<String>,
    pub project_id: Option<String>,
    /// The backup service that holds it.
    pub host: Option<String>,
    pub availability_zone: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub container: Option<String>,
    pub status: BackupStatus,
    pub fail_reason: Option<String>,
    /// The object prefix in the container (backup.md 2).
    pub service_metadata: Option<String>,
    /// The driver that wrote it, by Cinder's class path.
    pub service: Option<String>,
    /// GiB.
    pub size: Option<u32>,
    pub object_count: Option<i32>,
    pub parent_id: Option<BackupId>,
    pub num_dependent_backups: Option<i32>,
    pub snapshot_id: Option<SnapshotId>,
    pub data_timestamp: Option<Time>,
    pub restore_volume_id: Option<VolumeId>,
    pub temp_volume_id: Option<VolumeId>,
    pub temp_snapshot_id: Option<SnapshotId>,
    pub encryption_key_id: Option<String>,
    pub created_at: Option<Time>,
    pub updated_at: Option<Time>,
    pub metadata: BTreeMap<String, String>,
}
