//! Why a use case refused or failed. The texts are Cinder's, which clients match on (api-routes.md 4); `api::fault` gives each its
//! status.

use std::fmt;

/// A use case's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A kind of thing that can be missing, with the words Cinder uses for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Volume,
    Snapshot,
    Backup,
    VolumeType,
    Attachment,
    Message,
    Service,
    Job,
    Qos,
    Transfer,
    GroupType,
    Group,
    GroupSnapshot,
}

/// A refusal or a failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 404: not there, or not the caller's to see.
    #[error("{}", missing(*.0, .1))]
    NotFound(Resource, String),
    /// 404 with a text of its own.
    #[error("{0}")]
    Missing(String),
    /// 400 with a text of its own.
    #[error("{0}")]
    Invalid(String),
    /// 400.
    #[error("Invalid volume: {0}")]
    InvalidVolume(String),
    /// 400.
    #[error("Invalid snapshot: {0}")]
    InvalidSnapshot(String),
    /// 400.
    #[error("Invalid backup: {0}")]
    InvalidBackup(String),
    /// 400.
    #[error("Invalid input received: {0}")]
    InvalidInput(String),
    /// 400.
    #[error("Invalid volume type: {0}")]
    InvalidVolumeType(String),
    /// 403; the rule that said no.
    #[error("Policy doesn't allow {0} to be performed.")]
    Forbidden(String),
    /// 409.
    #[error("{0}")]
    Conflict(String),
    /// 413; the class and the text, as in `VolumeLimitExceeded: Maximum number ...`.
    #[error("{0}")]
    OverQuota(OverQuota),
    /// 503.
    #[error("{0}")]
    Unavailable(String),
    /// 500 with a text the caller may see.
    #[error("{0}")]
    Failed(String),
    /// 500 without details: a bug or the database gone; logged with the request's id.
    #[error("internal: {0}")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The ways to be over quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverQuota {
    Volumes { quota: String, limit: i64 },
    Gigabytes { quota: String, requested: i64, limit: i64, used: i64 },
    VolumeSize { size: i64, limit: i64 },
    Snapshots { limit: i64 },
    Backups { limit: i64 },
    BackupGigabytes { requested: i64, limit: i64, used: i64 },
    Groups { limit: i64 },
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volumes { quota, limit } => write!(
                f,
                "VolumeLimitExceeded: Maximum number of volumes allowed ({limit}) exceeded for quota '{quota}'."
            ),
            Self::Gigabytes { quota, requested, limit, used } => write!(
                f,
                "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed {quota} quota. \
                 Requested {requested}G, quota is {limit}G and {used}G has been consumed."
            ),
            Self::VolumeSize { size, limit } => write!(
                f,
                "VolumeSizeExceedsLimit: Requested volume size {size}G is larger than maximum allowed limit {limit}G."
            ),
            Self::Snapshots { limit } => {
                write!(f, "SnapshotLimitExceeded: Maximum number of snapshots allowed ({limit}) exceeded")
            }
            Self::Backups { limit } => {
                write!(f, "BackupLimitExceeded: Maximum number of backups allowed ({limit}) exceeded")
            }
            Self::BackupGigabytes { requested, limit, used } => write!(
                f,
                "VolumeBackupSizeExceedsAvailableQuota: Requested backup exceeds allowed Backup gigabytes quota. \
                 Requested {requested}G, quota is {limit}G and {used}G has been consumed."
            ),
            Self::Groups { limit } => {
                write!(f, "GroupLimitExceeded: Maximum number of groups allowed ({limit}) exceeded")
            }
        }
    }
}

fn missing(what: Resource, id: &str) -> String {
    match what {
        Resource::Volume => format!("Volume {id} could not be found."),
        Resource::Snapshot => format!("Snapshot {id} could not be found."),
        Resource::Backup => format!("Backup {id} could not be found."),
        Resource::VolumeType => format!("Volume type {id} could not be found."),
        Resource::Attachment => {
            format!("Volume attachment could not be found with filter: attachment_id = {id}.")
        }
        Resource::Message => format!("Message {id} could not be found."),
        Resource::Service => format!("Service {id} could not be found."),
        Resource::Job => format!("Job {id} could not be found."),
        Resource::Qos => format!("No such QoS spec {id}."),
        Resource::Transfer => format!("Transfer {id} could not be found."),
        Resource::GroupType => format!("Group type {id} could not be found."),
        Resource::Group => format!("Group {id} could not be found."),
        Resource::GroupSnapshot => format!("GroupSnapshot {id} could not be found."),
    }
}

impl From<db::Error> for Error {
    fn from(error: db::Error) -> Self {
        match error {
            db::Error::BadSortKey(_) => Self::InvalidInput("Invalid sort key".into()),
            error if error.is_full() => {
                tracing::error!(%error, "the database has no room");
                Self::Unavailable(
                    "The service's database has run out of space. Nothing was changed; try again later."
                        .into(),
                )
            }
            error if error.is_away() => {
                tracing::error!(%error, "the database is away");
                Self::Unavailable("The service's database is not available. Please try again later.".into())
            }
            other => Self::Internal(Box::new(other)),
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Internal(Box::new(error))
    }
}

impl Error {
    /// An unknown marker of a list is an unknown item of that kind.
    pub fn of_list(error: db::Error, what: Resource) -> Self {
        match error {
            db::Error::BadMarker(id) => Self::NotFound(what, id),
            other => other.into(),
        }
    }
}
