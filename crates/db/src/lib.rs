//! The database: connections, one file per resource, state transitions, jobs and locks, schema.
//!
//! The schema is Cinder's own (release 29) plus tables of ours, on SQLite, PostgreSQL or MySQL/MariaDB. A function that
//! writes takes a [`Tx`], so that the caller owns atomicity; one that reads takes any [`Read`]. Nothing but SQL
//! happens inside a transaction.

pub mod attachment;
pub mod backup;
pub mod backup_record;
pub mod cluster;
mod conn;
pub mod default_type;
pub mod dialect;
pub mod encryption;
mod error;
pub mod event;
pub mod export;
mod group;
pub mod group_snapshot;
pub mod group_type;
pub mod host;
pub mod installation;
pub mod job;
mod key_value;
pub mod message;
pub mod migration;
mod page;
pub mod pool;
pub mod qos;
pub mod quota;
pub mod retype;
pub mod schema;
pub mod service;
pub mod snapshot;
pub mod sql;
pub mod transfer;
pub mod transition;
pub mod unique;
mod url;
pub mod volume;
pub mod volume_group;
pub mod volume_type;

pub use conn::{Db, Outside, Read, Tx};
pub use error::{Error, Result};
