//! Why a backup, restore, check or deletion failed.

use std::io;

use model::job::Stop;

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller does differently about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nothing is there under that name.
    NotFound,
    /// What is in the store cannot be used: damaged, incomplete, of an unknown version, or hostile.
    Corrupt,
    /// The store or the restored volume's backend is full.
    NoSpace,
    /// The claim ended or was cancelled.
    Stopped,
    /// The parent does not fit: only a full backup is possible.
    ParentMismatch,
    /// The request or the configuration is wrong.
    Invalid,
    /// The volume could not be read or written.
    Device,
    /// The store failed; trying again may help.
    Store,
}

/// A failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} does not exist")]
    NotFound(String),
    #[error("{0}")]
    Corrupt(String),
    #[error("no space left: {0}")]
    NoSpace(String),
    #[error(transparent)]
    Stopped(#[from] Stop),
    /// The text is Cinder's and ends with `Do a full backup.`
    #[error("{0}")]
    ParentMismatch(String),
    #[error("{0}")]
    Invalid(String),
    #[error("cannot {action} the volume at byte {offset}")]
    Device { action: &'static str, offset: u64, source: io::Error },
    #[error("cannot {action} {name} in the backup store")]
    Store { action: &'static str, name: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// A restore that had begun to overwrite the volume; its content is neither old nor new.
    #[error("{written} of {total} bytes were restored before this: {cause}")]
    Partial { written: u64, total: u64, cause: Box<Error> },
}

impl Error {
    /// What to do about it. A [`Partial`](Self::Partial) restore has the kind of its cause.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Corrupt(_) => ErrorKind::Corrupt,
            Self::NoSpace(_) => ErrorKind::NoSpace,
            Self::Stopped(_) => ErrorKind::Stopped,
            Self::ParentMismatch(_) => ErrorKind::ParentMismatch,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Device { .. } => ErrorKind::Device,
            Self::Store { .. } => ErrorKind::Store,
            Self::Partial { cause, .. } => cause.kind(),
        }
    }

    /// A device's failure to do `action` at `offset`.
    pub(crate) fn device(action: &'static str, offset: u64, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace(format!("the volume's backend is full at byte {offset}"))
            }
            _ => Self::Device { action, offset, source },
        }
    }

    /// A file store's failure to do `action` on the object `name`.
    pub(crate) fn file(action: &'static str, name: &str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound(name.to_owned()),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace(format!("the backup store is full: cannot {action} {name}"))
            }
            _ => Self::Store { action, name: name.to_owned(), source: source.into() },
        }
    }
}
