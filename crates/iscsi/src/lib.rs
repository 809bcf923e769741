//! iSCSI: a target and an initiator on [`model::BlockDevice`]. Neither knows of volumes or databases.
//!
//! - [`Target`] serves devices: RFC 7143 at error recovery level 0, SCSI by SPC-4 and SBC-3.
//! - [`RemoteLun`] is our initiator, in user space: it makes a LUN of any target a device.
//!
//! Both ends share [`pdu`] and [`chap`]. Standards: RFC 7143, RFC 7144, SAM-5, SPC-4, SBC-3.

pub mod chap;
mod conn;
mod initiator;
mod login;
pub mod pdu;
mod scsi;
mod stream;
mod target;

pub use chap::{Chap, Credential};
pub use initiator::{Discovered, InitiatorConfig, InitiatorError, InitiatorLimits, RemoteLun, send_targets};
pub use scsi::reservation::{ReservationState, ReservationStore};
pub use target::export::{Access, Export, Grant, Lun};
pub use target::session::{SessionReport, Totals};
pub use target::{Limits, Target, TargetConfig, TargetError};
