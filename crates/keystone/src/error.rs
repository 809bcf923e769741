//! Why Keystone, or a service found through it, gave no useful answer.

use model::catalogue::Wanted;

/// What went wrong. Cheap to clone: one failure is told to everybody who waited for the same answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No connection, no answer in time, or an answer that says "not now". Trying later may help.
    #[error("{url}: {what}")]
    Unreachable { url: String, what: String },
    /// The service's own credentials, or its right to ask, were refused.
    #[error("{url}: refused with status {status}: {what}")]
    Refused { url: String, status: u16, what: String },
    /// An answer that is none of this protocol.
    #[error("{url}: unreadable answer: {what}")]
    Unreadable { url: String, what: String },
    /// The catalogue lacks a service.
    #[error("the service catalogue has no {wanted}")]
    NoEndpoint { wanted: Box<Wanted> },
    /// More is under way than is good for anyone.
    #[error("too many token validations are under way")]
    Overloaded,
    /// It took longer than any request may wait.
    #[error("no answer within {seconds} s")]
    Deadline { seconds: u64 },
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
