//! Nouns and rules of block storage: ids, sizes, statuses, operations, connectors, the block trait.
//!
//! This crate does no I/O and knows no database, HTTP or backend. Every other crate may use it; it uses
//! none of ours.

#[macro_use]
mod text;
pub mod attachment;
pub mod backup;
pub mod block;
pub mod catalogue;
pub mod cluster;
pub mod config;
pub mod connector;
pub mod encryption;
pub mod group;
pub mod group_type;
pub mod id;
pub mod job;
pub mod list;
pub mod message;
pub mod pool;
pub mod qos;
pub mod quota;
pub mod secret;
pub mod service;
pub mod size;
pub mod snapshot;
pub mod transfer;
pub mod transition;
pub mod volume;
pub mod volume_type;

pub use attachment::{AttachMode, AttachStatus, Attachment};
pub use backup::{Backup, BackupStatus};
pub use block::{BlockDevice, Extent, ExtentKind};
pub use catalogue::Catalogue;
pub use connector::{ConnectionInfo, Connector};
pub use encryption::Encryption;
pub use group::{Group, GroupSnapshot, GroupSnapshotStatus, GroupStatus};
pub use group_type::GroupType;
pub use id::*;
pub use message::Message;
pub use pool::PoolRef;
pub use qos::QosSpecs;
pub use secret::Secret;
pub use service::Service;
pub use size::GiB;
pub use snapshot::{Snapshot, SnapshotStatus};
pub use text::UnknownText;
pub use transfer::Transfer;
pub use volume::{Volume, VolumeStatus};
pub use volume_type::{DEFAULT_TYPE_NAME, VolumeType};

/// A point in time, UTC, to the microsecond.
pub type Time = chrono::DateTime<chrono::Utc>;
