//! A session as the rest of the target sees it: who it is, how to end it, what it has done.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::export::ExportState;
use crate::chap::Chap;
use crate::pdu::text;
use crate::scsi::unit::Order;

/// A normal session.
#[derive(Debug)]
pub struct Session {
    pub tsih: u16,
    pub cid: u16,
    pub initiator: String,
    /// The initiator port's name: what reservations are held by.
    pub port: Arc<str>,
    pub peer: SocketAddr,
    pub export: Arc<ExportState>,
    pub read_only: bool,
    pub proof: Option<Chap>,
    /// Reaches the connection.
    pub orders: mpsc::Sender<Order>,
    /// Asks the connection to end.
    pub cut: CancellationToken,
    /// The connection has ended: none of its commands touches the medium any more.
    pub ended: CancellationToken,
    pub counters: Counters,
}

/// What a session has done. Counted by its connection, read by reports.
#[derive(Debug, Default)]
pub struct Counters {
    pub commands: AtomicU64,
    pub bytes_read: AtomicU64,
    pub bytes_written: AtomicU64,
}

/// A session in a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionReport {
    pub iqn: String,
    pub initiator: String,
    pub peer: SocketAddr,
    pub tsih: u16,
    pub read_only: bool,
    pub commands: u64,
    /// Bytes sent to the initiator.
    pub bytes_read: u64,
    /// Bytes received from it.
    pub bytes_written: u64,
}

/// What all sessions of a target have done since it began, those that have ended too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sessions that there have been.
    pub sessions: u64,
    pub commands: u64,
    /// Bytes sent to initiators.
    pub bytes_read: u64,
    /// Bytes received from them.
    pub bytes_written: u64,
}

impl Totals {
    /// With what a session has done.
    #[must_use]
    pub const fn with(self, one: &SessionReport) -> Self {
        Self {
            sessions: self.sessions.wrapping_add(1),
            commands: self.commands.wrapping_add(one.commands),
            bytes_read: self.bytes_read.wrapping_add(one.bytes_read),
            bytes_written: self.bytes_written.wrapping_add(one.bytes_written),
        }
    }
}

/// The name of an initiator port: the initiator's name and ISID (RFC 7143 4.4.1).
pub fn port_name(initiator: &str, isid: [u8; 6]) -> String {
    format!("{initiator},i,{}", text::hex(&isid))
}

impl Session {
    /// Whether it may go on as it is.
    pub fn entitled(&self) -> bool {
        self.export
            .right(&self.initiator, self.proof.as_ref())
            .is_some_and(|right| right.read_only == self.read_only)
    }

    /// Waits until the connection has let go of units that are gone.
    pub async fn meet_units(&self) {
        let (done, wait) = oneshot::channel();
        if self.orders.send(Order::MeetUnits { done }).await.is_ok() {
            // An error means that the connection has ended.
            let _ = wait.await;
        }
    }

    /// What it is and has done.
    pub fn report(&self) -> SessionReport {
        SessionReport {
            iqn: self.export.iqn.clone(),
            initiator: self.initiator.clone(),
            peer: self.peer,
            tsih: self.tsih,
            read_only: self.read_only,
            commands: self.counters.commands.load(Ordering::Relaxed),
            bytes_read: self.counters.bytes_read.load(Ordering::Relaxed),
            bytes_written: self.counters.bytes_written.load(Ordering::Relaxed),
        }
    }
}
