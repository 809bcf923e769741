//! A typed HTTP client of the Block Storage API v3, and the user command line built on it ([`cli`]).
//!
//! Works against this service and against Cinder: requests ask for the newest microversion that the server speaks, and
//! answers are read leniently (what we do not know is kept and shown, what is missing is absent). Only jobs
//! ([`job`]) are ours alone. One file per resource; [`Client`] gets its methods there.

pub mod attachment;
pub mod backup;
pub mod cli;
mod connection;
mod error;
pub mod job;
mod list;
pub mod message;
pub mod pool;
pub mod quota;
pub mod service;
pub mod snapshot;
pub mod volume;
pub mod volume_type;
mod wait;

pub use connection::{Auth, Client, Endpoint};
pub use error::{Error, Result};
pub use list::Query;
pub use wait::{Progress, Waited};

/// What a resource holds beyond the fields that we name: kept, and shown by `--json`.
pub type Extra = serde_json::Map<String, serde_json::Value>;
