//! Snapshots of volumes.

use std::collections::BTreeMap;

use crate::{GiB, SnapshotId, Time, TypeId, VolumeId};

text_enum! {
    /// `snapshots.status`.
    SnapshotStatus {
        Creating = "creating",
        Available = "available",
        Error = "error",
        Deleting = "deleting",
        Deleted = "deleted",
        Updating = "updating",
        ErrorDeleting = "error_deleting",
        Unmanaging = "unmanaging",
        BackingUp = "backing-up",
        Restoring = "restoring",
    }
}

/// A snapshot as answers show it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub id: SnapshotId,
    pub volume_id: VolumeId,
    pub user_id: Option<String>,
    pub project_id: Option<String>,
    pub status: SnapshotStatus,
    /// `"0%"` to `"100%"`.
    pub progress: Option<String>,
    pub volume_size: GiB,
    pub name: Option<String>,
    pub description: Option<String>,
    pub type_id: TypeId,
    pub provider_location: Option<String>,
    pub provider_id: Option<String>,
    pub group_snapshot_id: Option<String>,
    pub cgsnapshot_id: Option<String>,
    pub encryption_key_id: Option<String>,
    pub use_quota: bool,
    pub created_at: Option<Time>,
    pub updated_at: Option<Time>,
    pub metadata: BTreeMap<String, String>,
}

impl Snapshot {
    /// The name the backend stores it under.
    pub fn backend_name(&self) -> String {
        format!("snapshot-{}", self.id)
    }
}
