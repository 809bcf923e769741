//! Chunked backups: the pipeline, Cinder's on-store formats, and object stores.
//!
//! A backup made by Cinder's chunked drivers restores here and one made here restores there: names, metadata file, hash
//! file and compressions are Cinder's (reference: backup.md). Bytes flow through bounded stages (read, hash, compress,
//! put) in memory that depends neither on the volume's size nor on the chunk size; even the metadata and hash files are
//! written and read as streams.
//!
//! # What a run promises
//!
//! - **Nothing half-made looks whole.** Data objects come first, then the hash file, and the metadata file last; every
//!   object is invisible until it is complete and durable. A backup without its metadata file is no backup.
//! - **Runs never mix (I4).** The object prefix carries a time stamp derived from the backup's creation time *and the
//!   claim's epoch*, so each run of a job writes under a prefix of its own, and only the run whose prefix the database
//!   records exists for readers. A rerun first removes whatever earlier runs of the same backup left and starts over; a
//!   stopped owner that wakes up can publish nothing under the winner's prefix.
//! - **Stops are prompt.** The claim is checked before each object, before each publication and before each write to a
//!   restored volume.
//! - **Hostile input is refused.** What is read from a store is parsed as a stream with a limit on every value; names must
//!   be exactly those that the format prescribes, extents must lie inside the device in ascending order, and no object
//!   is unpacked beyond its declared length.
//!
//! Deliberately absent: database, HTTP, statuses, quota, the choice of a parent. The caller finds the device, the chain and
//! the rows; see [`create()`], [`restore()`], [`verify()`], [`delete()`] and [`discard()`].

mod compression;
pub mod config;
mod create;
mod delete;
mod error;
pub mod format;
mod run;
pub mod store;

pub use compression::{Codec, Compression};
pub use config::{PipelineConfig, PosixConfig};
pub use create::{BackupResult, CreateBackup, ParentRef, create};
pub use delete::{delete, discard};
pub use error::{Error, ErrorKind, Result};
pub use format::name::Naming;
pub use restore::{Level, Restore, Restored, TargetState, restore};
pub use store::{SharedStore, Store};
pub use verify::{Problem, Verified, verify};

mod restore;
mod verify;

/// The version that Cinder's chunked drivers write into both control files, and the only one that they restore.
pub const DRIVER_VERSION: &str = "1.0.0";

/// The class path that Cinder records for backups in a POSIX directory.
pub const POSIX_SERVICE: &str = "cinder.backup.drivers.posix.PosixBackupDriver";
