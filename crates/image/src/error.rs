//! Why an image could not be had, used or made.

use std::io;

use model::job::Stop;

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure; a variant exists where callers act differently.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Glance does not know it, or does not show it to the bearer of this token.
    #[error("image {0} could not be found")]
    NotFound(String),
    /// More than one image has that name.
    #[error("several images are named {0}")]
    Ambiguous(String),
    /// Cinder's words; the reason names what is wrong with the image.
    #[error("Image {id} is unacceptable: {reason}")]
    Unacceptable { id: String, reason: String },
    /// What it holds is larger than the volume, in bytes.
    #[error("image {id} holds {needed} bytes, more than the volume's {room}")]
    TooBig { id: String, needed: u64, room: u64 },
    /// The bytes are not those that were uploaded.
    #[error("the data of image {id} is damaged: {what}")]
    Damaged { id: String, what: String },
    #[error(transparent)]
    Stopped(#[from] Stop),
    /// Glance has no room, or the project's quota there is used up.
    #[error("the image service refused the data: {0}")]
    NoRoom(String),
    /// Glance said no.
    #[error("the image service refused to {action} (status {status}): {text}")]
    Refused { action: &'static str, status: u16, text: String },
    /// No answer, a broken stream, a status of 500 or more: trying again may help.
    #[error("the image service failed to {action}: {text}")]
    Away { action: &'static str, text: String },
    /// An answer that is not Glance's.
    #[error("cannot read the image service's answer: {0}")]
    Unreadable(String),
    #[error("cannot {action} the volume")]
    Device { action: &'static str, source: io::Error },
    /// The folder for conversions.
    #[error("cannot use the folder for image conversion")]
    Scratch(#[source] io::Error),
    /// `qemu-img` failed; its own words.
    #[error("the image could not be converted: {0}")]
    Conversion(String),
    /// `qemu-img` is not there or cannot be started.
    #[error("images cannot be converted on this host: {0}")]
    NoConverter(String),
}

impl Error {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Away { .. })
    }

    /// Whether a backend or folder is full.
    pub fn is_full(&self) -> bool {
        let full = |source: &io::Error| {
            matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        match self {
            Self::Device { source, .. } | Self::Scratch(source) => full(source),
            _ => false,
        }
    }
}
