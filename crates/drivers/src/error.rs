//! What can go wrong on a backend.

use std::io;

/// A driver's result.
pub type Result<T, E = DriverError> = std::result::Result<T, E>;

/// What a caller does about an error depends on this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The thing is not on the backend.
    NotFound,
    /// In use by another process or by dependents: try again, or where the owner is.
    Busy,
    /// The backend is full.
    NoSpace,
    /// Not something this driver does.
    Unsupported,
    /// The request makes no sense to the backend.
    Invalid,
    /// The claim ran out or was cancelled: stop, change nothing more.
    Stopped(model::job::Stop),
    /// Anything else.
    Backend,
}

/// An error of a driver: what it was doing, to what, and why it failed. Its text is for operators.
#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct DriverError {
    pub kind: ErrorKind,
    /// What was being done to what.
    pub context: String,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl DriverError {
    /// An error without a cause beneath it.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }

    /// This driver does not do `what`.
    pub fn unsupported(what: &str) -> Self {
        Self::new(ErrorKind::Unsupported, format!("this backend does not support {what}"))
    }

    /// An I/O error met while doing `context`.
    pub fn io(context: impl Into<String>, error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            io::ErrorKind::ResourceBusy | io::ErrorKind::WouldBlock => ErrorKind::Busy,
            io::ErrorKind::InvalidInput => ErrorKind::Invalid,
            _ => ErrorKind::Backend,
        };
        Self { kind, context: context.into(), source: Some(Box::new(error)) }
    }
}

impl From<io::Error> for DriverError {
    fn from(error: io::Error) -> Self {
        Self::io("a file of the backend failed", error)
    }
}

/// Says what was being done when an I/O error is turned into a driver's.
pub trait During<T> {
    /// The result with `context` in its error.
    fn during(self, context: impl FnOnce() -> String) -> Result<T>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, context: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| DriverError::io(context(), e))
    }
}

impl From<model::job::Stop> for DriverError {
    fn from(stop: model::job::Stop) -> Self {
        Self::new(ErrorKind::Stopped(stop), stop.to_string())
    }
}
