//! What use cases are asked for: requests in their newest shape, parsed and checked as far as they can be without the
//! database. The edge builds them from JSON; tests and the demo build them by hand.
//!
//! `Option<Option<T>>` in an update means: leave alone, clear, or set.

use std::collections::BTreeMap;

use model::volume::VolumeAttachStatus;
use model::{
    AttachMode, AttachmentId, BackupId, BackupStatus, Connector, GiB, SnapshotId, SnapshotStatus, VolumeId,
    VolumeStatus,
};
use serde_json::{Map, Value};

/// A new volume. At most one of the sources may be given; the use case says so in Cinder's words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewVolume {
    /// `None`: the size of its source.
    pub size: Option<GiB>,
    pub name: Option<String>,
    pub description: Option<String>,
    /// A type's name or id.
    pub volume_type: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub snapshot_id: Option<SnapshotId>,
    pub source_volid: Option<VolumeId>,
    pub backup_id: Option<BackupId>,
    /// An image's id or name, freed of any URL before it.
    pub image: Option<String>,
    pub availability_zone: Option<String>,
    pub group_id: Option<String>,
    pub consistencygroup_id: Option<String>,
    /// `OS-SCH-HNT:scheduler_hints`.
    pub hints: Map<String, Value>,
}

/// What changes of a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateVolume {
    pub name: Option<Option<String>>,
    pub description: Option<Option<String>>,
    /// Replaces all of it.
    pub metadata: Option<BTreeMap<String, String>>,
}

/// How a volume is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeleteVolume {
    /// Its snapshots too.
    pub cascade: bool,
    /// Whatever its status.
    pub force: bool,
}

/// `os-extend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtendVolume {
    pub new_size: GiB,
    /// Whether an attached volume may grow (the caller's microversion knows it).
    pub in_use: bool,
}

/// `os-retype`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetypeVolume {
    /// A type's name or id.
    pub new_type: String,
    /// Whether it may move to another backend for it.
    pub on_demand: bool,
}

/// Where a volume goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoveTo {
    /// `host@backend` or `host@backend#pool`.
    Host(String),
    /// `cluster@backend`.
    Cluster(String),
}

/// `os-migrate_volume`. Every migration here copies through the host: `force_host_copy` changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrateVolume {
    pub to: MoveTo,
    /// Whether an available volume is under maintenance meanwhile.
    pub lock: bool,
}

/// `os-migrate_volume_completion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompleteMigration {
    pub new_volume: VolumeId,
    /// Whether the migration went wrong.
    pub error: bool,
}

/// `POST /manageable_volumes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManageVolume {
    /// The backend or pool where it is.
    pub place: MoveTo,
    /// What it is called there, in the words of the backend.
    pub reference: Value,
    pub name: Option<String>,
    pub description: Option<String>,
    /// A type's name or id.
    pub volume_type: Option<String>,
    pub availability_zone: Option<String>,
    pub bootable: bool,
    pub metadata: BTreeMap<String, String>,
}

/// `POST /manageable_snapshots`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManageSnapshot {
    pub volume_id: VolumeId,
    /// What it is called on the volume's backend, in the words of that.
    pub reference: Value,
    pub name: Option<String>,
    pub description: Option<String>,
    pub metadata: BTreeMap<String, String>,
}

/// `os-attach`: the old style, without an attachment made before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachVolume {
    pub instance_uuid: Option<String>,
    pub host_name: Option<String>,
    pub mountpoint: String,
    pub mode: AttachMode,
}

/// `os-reset_status` of a volume; at least one is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResetVolume {
    pub status: Option<VolumeStatus>,
    pub attach_status: Option<VolumeAttachStatus>,
    /// `Some(None)`: no migration.
    pub migration_status: Option<Option<String>>,
}

/// How metadata is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataWrite {
    /// Added to what is there.
    Merge,
    /// In place of what is there.
    Replace,
}

/// A new snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSnapshot {
    pub volume_id: VolumeId,
    pub name: Option<String>,
    pub description: Option<String>,
    /// Whether the volume may be in use (`force`, or a microversion at which that goes without saying).
    pub in_use: bool,
    pub metadata: BTreeMap<String, String>,
}

/// What changes of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateSnapshot {
    pub name: Option<Option<String>>,
    pub description: Option<Option<String>>,
}

/// `os-update_snapshot_status`: a hypervisor's report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportSnapshot {
    /// As sent: the use case decides what follows from what.
    pub status: String,
    /// `"0%"` to `"100%"`.
    pub progress: Option<String>,
}

/// `os-reset_status` of a snapshot.
pub type ResetSnapshot = SnapshotStatus;

/// A new attachment.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAttachment {
    pub volume_id: VolumeId,
    pub instance_uuid: Option<String>,
    /// `None`: only reserve.
    pub connector: Option<Connector>,
    /// `None`: not said; the connector may say it.
    pub mode: Option<AttachMode>,
}

/// `os-detach`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DetachVolume {
    /// Needed when there are several.
    pub attachment_id: Option<AttachmentId>,
}

/// `os-force_detach`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ForceDetachVolume {
    /// Text as sent: it need not be an id at all.
    pub attachment_id: Option<String>,
    pub connector: Option<Connector>,
}

/// A new volume type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewType {
    pub name: String,
    pub description: Option<String>,
    pub is_public: bool,
    pub extra_specs: BTreeMap<String, String>,
}

/// What changes of a volume type; at least one is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateType {
    pub name: Option<String>,
    pub description: Option<String>,
    pub is_public: Option<bool>,
}

/// Which types a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeVisibility {
    /// Public ones; for a project that is no administrator also private ones it has access to.
    Public,
    /// Private ones (administrators).
    Private,
    /// Both (administrators).
    All,
}

/// A new backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBackup {
    pub volume_id: VolumeId,
    pub name: Option<String>,
    pub description: Option<String>,
    pub container: Option<String>,
    pub incremental: bool,
    /// Whether the volume may be in use.
    pub force: bool,
    pub snapshot_id: Option<SnapshotId>,
    pub metadata: BTreeMap<String, String>,
    pub availability_zone: Option<String>,
}

/// What changes of a backup; nothing is fine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateBackup {
    pub name: Option<Option<String>>,
    pub description: Option<Option<String>>,
    /// Replaces all of it.
    pub metadata: Option<BTreeMap<String, String>>,
}

/// Where a backup is restored to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreBackup {
    /// `None`: a new volume.
    pub volume_id: Option<VolumeId>,
    /// The new volume's name.
    pub name: Option<String>,
}

/// `os-reset_status` of a backup.
pub type ResetBackup = BackupStatus;

/// New limits of a project or a class: resource and limit, in the order sent. Names are already known ones, limits are
/// -1 or more.
pub type QuotaChange = Vec<(String, i64)>;

/// A service to be found by host and binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceName {
    /// `host` or `host@backend`.
    pub host: String,
    /// `cinder-volume`, ...
    pub binary: String,
}

/// Whether a service takes new work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceSwitch {
    Enable,
    /// With a reason for the people who run it.
    Disable(Option<String>),
}

/// Which jobs to list, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListJobs {
    /// Everybody's, for administrators.
    pub every_project: bool,
    pub resource_id: Option<String>,
    /// Only those that have not ended.
    pub active: bool,
    pub limit: u32,
}
