//! Use cases: what the service does, one file per operation, over database, drivers and target.
//!
//! Nothing here knows HTTP, JSON shapes or SQL. The front half of an operation (check, begin) runs in the API's process;
//! its steps run wherever the job's queue leads.

pub mod attachment;
pub mod backup;
pub mod bus;
pub mod cloud;
pub mod cluster;
pub mod compute;
pub mod context;
mod copying;
mod default_type;
pub mod encryption;
pub mod engine;
pub mod error;
pub mod export;
pub mod group;
pub mod group_snapshot;
pub mod group_type;
pub mod host;
pub mod job;
pub mod locks;
pub mod manageable;
pub mod measure;
pub mod message;
pub mod node;
pub mod operations;
mod placing;
pub mod policy;
pub mod qos;
mod quota;
mod quota_set;
pub mod reconcile;
pub mod request;
pub mod scheduler;
pub mod seal;
pub mod service;
pub mod settings;
pub mod snapshot;
pub mod target;
pub mod transfer;
pub mod volume;
pub mod volume_type;

pub use cloud::{Cloud, Parts};
pub use context::Context;
pub use error::{Error, Result};
