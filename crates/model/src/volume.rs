//! Volumes: their states and what one is.

use std::collections::BTreeMap;

use crate::{Attachment, GiB, PoolRef, ServiceId, SnapshotId, Time, TypeId, VolumeId};

text_enum! {
    /// `volumes.status`, as Cinder 29 stores it (states.md 1).
    VolumeStatus {
        Creating = "creating",
        Available = "available",
        Deleting = "deleting",
        Error = "error",
        ErrorDeleting = "error_deleting",
        ErrorManaging = "error_managing",
        Managing = "managing",
        Attaching = "attaching",
        InUse = "in-use",
        Detaching = "detaching",
        Maintenance = "maintenance",
        RestoringBackup = "restoring-backup",
        ErrorRestoring = "error_restoring",
        Reserved = "reserved",
        AwaitingTransfer = "awaiting-transfer",
        BackingUp = "backing-up",
        ErrorBackingUp = "error_backing-up",
        ErrorExtending = "error_extending",
        Downloading = "downloading",
        Uploading = "uploading",
        Retyping = "retyping",
        Extending = "extending",
        Reverting = "reverting",
        Unmanaging = "unmanaging",
        ErrorUnmanaging = "error_unmanaging",
        ErrorManagingDeleting = "error_managing_deleting",
        Deleted = "deleted",
    }
}

text_enum! {
    /// `volumes.attach_status`.
    VolumeAttachStatus {
        Detached = "detached",
        Attached = "attached",
        Attaching = "attaching",
        Detaching = "detaching",
        Reserved = "reserved",
        ErrorAttaching = "error_attaching",
        ErrorDetaching = "error_detaching",
        Deleted = "deleted",
    }
}

impl VolumeStatus {
    /// What clients are shown: three internal states hide behind others (api-routes-volumes.md).
    pub const fn shown(self) -> Self {
        match self {
            Self::Managing => Self::Creating,
            Self::ErrorManaging => Self::Error,
            Self::ErrorManagingDeleting => Self::Deleting,
            other => other,
        }
    }

    /// Whether the service itself brings the volume out of this status (I3): nobody else writes it meanwhile.
    pub const fn is_service_owned(self) -> bool {
        match self {
            Self::Creating
            | Self::Deleting
            | Self::Managing
            | Self::Maintenance
            | Self::RestoringBackup
            | Self::BackingUp
            | Self::Downloading
            | Self::Uploading
            | Self::Retyping
            | Self::Extending
            | Self::Reverting
            | Self::Unmanaging
            | Self::ErrorManagingDeleting
            | Self::Deleted => true,
            Self::Available
            | Self::Error
            | Self::ErrorDeleting
            | Self::ErrorManaging
            | Self::Attaching
            | Self::InUse
            | Self::Detaching
            | Self::ErrorRestoring
            | Self::Reserved
            | Self::AwaitingTransfer
            | Self::ErrorBackingUp
            | Self::ErrorExtending
            | Self::ErrorUnmanaging => false,
        }
    }

    /// Whether it says that something failed: such a volume is not attached (states.md 2).
    pub fn is_error(self) -> bool {
        self.as_str().contains("error")
    }
}

/// A volume with everything that a detailed answer shows of it.
#[derive(Debug, Clone)]
pub struct Volume {
    pub id: VolumeId,
    /// The id under which the backend knows it, when a migration left that different from `id`.
    pub name_id: Option<VolumeId>,
    pub user_id: Option<String>,
    pub project_id: Option<String>,
    /// Where it lives; `None` until it is scheduled.
    pub host: Option<PoolRef>,
    pub cluster_name: Option<String>,
    pub size: GiB,
    pub availability_zone: Option<String>,
    pub status: VolumeStatus,
    pub previous_status: Option<String>,
    pub attach_status: Option<VolumeAttachStatus>,
    pub migration_status: Option<String>,
    pub replication_status: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    /// What the driver needs to find it again.
    pub provider_location: Option<String>,
    pub provider_id: Option<String>,
    pub snapshot_id: Option<SnapshotId>,
    pub source_volid: Option<VolumeId>,
    pub type_id: TypeId,
    /// The type's name; `None` when its row is gone.
    pub type_name: Option<String>,
    pub bootable: bool,
    pub multiattach: bool,
    pub encryption_key_id: Option<String>,
    pub group_id: Option<String>,
    pub consistencygroup_id: Option<String>,
    pub service_uuid: Option<ServiceId>,
    pub shared_targets: Option<bool>,
    /// Whether it counts towards the project's quota.
    pub use_quota: bool,
    pub created_at: Option<Time>,
    pub updated_at: Option<Time>,
    pub launched_at: Option<Time>,
    pub metadata: BTreeMap<String, String>,
    pub admin_metadata: BTreeMap<String, String>,
    pub image_metadata: BTreeMap<String, String>,
    /// Live attachments, oldest first.
    pub attachments: Vec<Attachment>,
}

impl Volume {
    /// The name the backend stores it under (`volume_name_template`'s default).
    pub fn backend_name(&self) -> String {
        format!("volume-{}", self.name_id.unwrap_or(self.id))
    }

    /// Whether a migration is under way ("not migrating" in states.md).
    pub fn migrating(&self) -> bool {
        !matches!(self.migration_status.as_deref(), None | Some("deleting" | "error" | "success"))
    }
}

/// The sums over a project's volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeSummary {
    pub count: u64,
    /// GiB in all.
    pub size: u64,
    /// Each metadata key with its distinct values.
    pub metadata: BTreeMap<String, Vec<String>>,
}
