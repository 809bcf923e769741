//! An iSCSI initiator in user space: makes a remote LUN a [`model::BlockDevice`].
//!
//! ```text
//!   RemoteLun (device.rs)     bytes -> commands, unit attentions, limits of the target
//!     | requests, answers
//!   engine (engine.rs)        one task: owns the connection, reconnects, sends again
//!     |
//!   Link (link.rs)            one connection: sequence numbers, PDUs, data
//!   login.rs                  how a connection begins
//! ```
//!
//! A connection that is lost is made again, with the same session identity, and what was in flight is sent again: the
//! target ends the old session first, so that no old write can come after a new one. Retries are bounded in number and
//! time. When the target has lost its power or its process in between, writes that were not flushed may be gone: the next
//! flush then fails, once, instead of promising what nobody can know.

mod device;
mod discovery;
mod engine;
mod link;
mod login;
mod scsi;

use std::io;
use std::time::Duration;

use crate::chap::Chap;

pub use device::RemoteLun;
pub use discovery::{Discovered, send_targets};

/// How to reach a LUN.
#[derive(Debug, Clone)]
pub struct InitiatorConfig {
    /// `host:port` of each portal; tried in turn.
    pub portals: Vec<String>,
    /// The target's IQN.
    pub target: String,
    pub lun: u16,
    /// Our name.
    pub initiator: String,
    /// Tells sessions of one name apart; random when `None`. The same name and ISID take over an existing session.
    pub isid: Option<[u8; 6]>,
    /// What we prove, and with `mutual` what the target has to prove.
    pub chap: Option<Chap>,
    /// CRC32C on headers and data.
    pub digests: bool,
    /// Writes are refused here already.
    pub read_only: bool,
    pub limits: InitiatorLimits,
}

impl InitiatorConfig {
    /// Defaults for a LUN.
    pub fn new(
        portal: impl Into<String>,
        target: impl Into<String>,
        lun: u16,
        initiator: impl Into<String>,
    ) -> Self {
        Self {
            portals: vec![portal.into()],
            target: target.into(),
            lun,
            initiator: initiator.into(),
            isid: None,
            chap: None,
            digests: false,
            read_only: false,
            limits: InitiatorLimits::default(),
        }
    }
}

/// Bounds on waiting and trying.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitiatorLimits {
    /// Connect and login of one attempt.
    pub connect: Duration,
    /// One command, before the connection is given up.
    pub command: Duration,
    /// A lost connection is tried again for this long; then what waits fails.
    pub reconnect: Duration,
    /// How often one command is sent again after its connection was lost.
    pub resends: u32,
    /// Commands in flight.
    pub queue_depth: usize,
    /// A silent connection is pinged after this.
    pub idle: Duration,
}

impl Default for InitiatorLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            command: Duration::from_secs(30),
            reconnect: Duration::from_secs(60),
            resends: 5,
            queue_depth: 64,
            idle: Duration::from_secs(5),
        }
    }
}

/// Why a target could not be used.
#[derive(Debug, thiserror::Error)]
pub enum InitiatorError {
    #[error("cannot reach {portal}")]
    Connect { portal: String, source: io::Error },
    #[error("login refused: {reason} (status {class:02x}{detail:02x})")]
    Refused { class: u8, detail: u8, reason: &'static str },
    #[error("the target did not prove who it is")]
    TargetNotProved,
    #[error("the target breaks the protocol: {0}")]
    Protocol(&'static str),
    #[error("connection lost")]
    Lost(#[source] io::Error),
    #[error("no portal was given")]
    NoPortal,
    #[error("LUN {lun}: {why}")]
    BadLun { lun: u16, why: String },
}

impl InitiatorError {
    /// Whether another attempt may succeed.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Lost(_) => true,
            // A target that is being set up or is short of something says so with class 3; one that has just been
            // restarted may not have its exports yet.
            Self::Refused { class, detail, .. } => *class == 3 || (*class == 2 && *detail == 3),
            Self::TargetNotProved | Self::Protocol(_) | Self::NoPortal | Self::BadLun { .. } => false,
        }
    }
}

impl From<InitiatorError> for io::Error {
    fn from(error: InitiatorError) -> Self {
        let kind = match &error {
            InitiatorError::Connect { source, .. } | InitiatorError::Lost(source) => source.kind(),
            InitiatorError::Refused { .. } | InitiatorError::TargetNotProved => {
                io::ErrorKind::PermissionDenied
            }
            InitiatorError::Protocol(_) => io::ErrorKind::InvalidData,
            InitiatorError::NoPortal | InitiatorError::BadLun { .. } => io::ErrorKind::NotFound,
        };
        Self::new(kind, error)
    }
}
