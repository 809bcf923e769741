//! Use cases: what the service does, one file per operation, over database, drivers and target.
//!
//! Nothing here knows HTTP, JSON shapes or SQL. The front half of an operation (check, begin) runs in the API's process;
//! its steps run wherever the job's queue leads.

pub mod context;
pub mod error;
pub mod policy;
pub mod request;

pub use context::Context;
pub use error::{Error, Result};
