//! Typed identifiers. All are UUIDs, stored and shown as 36 lower-case characters.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

macro_rules! ids {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh random id.
            #[allow(clippy::new_without_default)] // a default id would not say that it is random
            pub fn new() -> Self { Self(Uuid::new_v4()) }
        }
        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self { Self(id) }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(&self.0.as_hyphenated(), f) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{}", self.0.as_hyphenated()) }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> { Uuid::parse_str(text).map(Self) }
        }
    )+ };
}

ids! {
    /// A volume.
    VolumeId,
    /// A snapshot of a volume.
    SnapshotId,
    /// One connection of a volume to one host or instance.
    AttachmentId,
    /// A backup of a volume.
    BackupId,
    /// A volume type.
    TypeId,
    /// An installation: a database and everything that belongs to it.
    InstallationId,
    /// A durable run of an operation.
    JobId,
    /// A user message.
    MessageId,
    /// A set of QoS specs.
    QosId,
    /// A running role's row in `services`.
    ServiceId,
    /// The encryption of a volume type.
    EncryptionId,
    /// An offer of a volume to another project.
    TransferId,
    /// A group type.
    GroupTypeId,
    /// A group of volumes.
    GroupId,
    /// Snapshots of a group's volumes at one moment.
    GroupSnapshotId,
}
