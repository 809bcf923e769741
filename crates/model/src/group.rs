//! Groups of volumes, and snapshots of them.

use crate::{GroupId, GroupSnapshotId, GroupTypeId, PoolRef, Time, TypeId};

/// The group type that legacy consistency groups have: such groups are worked on by their own paths only.
pub const CONSISTENCY_TYPE: &str = "default_cgsnapshot_type";

/// The spec by which a group type asks for snapshots of one moment.
pub const CONSISTENT_SNAPSHOTS: &str = "consistent_group_snapshot_enabled";

text_enum! {
    /// `groups.status`, in Cinder's order.
    GroupStatus {
        Error = "error",
        Available = "available",
        Creating = "creating",
        Deleting = "deleting",
        Deleted = "deleted",
        Updating = "updating",
        InUse = "in-use",
        ErrorDeleting = "error_deleting",
    }
}

text_enum! {
    /// `group_snapshots.status`, in Cinder's order.
    GroupSnapshotStatus {
        Error = "error",
        Available = "available",
        Creating = "creating",
        Deleting = "deleting",
        Deleted = "deleted",
        Updating = "updating",
        ErrorDeleting = "error_deleting",
    }
}

/// A group as answers show it.
#[derive(Debug, Clone)]
pub struct Group {
    pub id: GroupId,
    pub user_id: Option<String>,
    pub project_id: Option<String>,
    /// The backend of its volumes; `None` until it is scheduled.
    pub host: Option<PoolRef>,
    pub availability_zone: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub type_id: GroupTypeId,
    /// Whether it is a legacy consistency group.
    pub legacy: bool,
    pub status: GroupStatus,
    /// What it was made from.
    pub group_snapshot_id: Option<GroupSnapshotId>,
    pub source_group_id: Option<GroupId>,
    pub replication_status: Option<String>,
    /// The types that its volumes may have.
    pub volume_types: Vec<TypeId>,
    pub created_at: Option<Time>,
}

/// A group snapshot as answers show it.
#[derive(Debug, Clone)]
pub struct GroupSnapshot {
    pub id: GroupSnapshotId,
    pub group_id: GroupId,
    pub type_id: Option<GroupTypeId>,
    /// Whether it is of a legacy consistency group.
    pub legacy: bool,
    pub user_id: Option<String>,
    pub project_id: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub status: GroupSnapshotStatus,
    pub created_at: Option<Time>,
}
