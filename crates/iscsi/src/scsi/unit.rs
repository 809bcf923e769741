//! A logical unit, and a nexus: one initiator port's view of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use model::block::Device;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, mpsc, oneshot};
use uuid::Uuid;

use super::attention::{Attention, Attentions};
use super::copy::Copies;
use super::flush::FlushGroup;
use super::ranges::Ranges;
use super::reservation::Reservations;
use super::sense::{Sense, key};

/// What a unit says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What its world-wide names are derived from: the same volume has the same names everywhere and for ever.
    pub uuid: Uuid,
    /// VPD page 80.
    pub serial: String,
    /// At most 8 ASCII characters.
    pub vendor: String,
    /// At most 16 ASCII characters.
    pub product: String,
}

/// A locally administered identifier stands where a manufacturer's would: the 100 bits after it come from a hash.
const LOCAL_OUI: u64 = 0x02_cb_10;

impl Identity {
    /// The NAA 6 (registered extended) name.
    pub fn naa(&self) -> [u8; 16] {
        let digest = Sha256::digest(self.uuid.as_bytes());
        let mut name = [0; 16];
        name.copy_from_slice(&digest[..16]);
        // 4 bits of format, 24 bits of identifier, 100 bits of hash.
        let head = 0x6 << 60 | LOCAL_OUI << 36 | (u64::from_be_bytes(first8(&name)) & 0xf_ffff_ffff);
        name[..8].copy_from_slice(&head.to_be_bytes());
        name
    }
}

fn first8(bytes: &[u8; 16]) -> [u8; 8] {
    let mut head = [0; 8];
    head.copy_from_slice(&bytes[..8]);
    head
}

/// A logical unit: a device with the state that all its nexuses share.
#[derive(Debug)]
pub struct LogicalUnit {
    pub number: u16,
    pub device: Device,
    pub identity: Identity,
    /// Logical block length in bytes: a power of two, 512 to 4096.
    pub block_size: u32,
    /// Write protected for everybody.
    pub read_only: AtomicBool,
    pub removable: bool,
    /// Only a removable unit can be.
    pub ejected: AtomicBool,
    /// Mode page 0a: sense data in descriptor format.
    pub descriptor_sense: AtomicBool,
    /// Mode page 0a: software write protect.
    pub software_protect: AtomicBool,
    /// A SANITIZE is under way.
    pub sanitizing: AtomicBool,
    /// Blocks that the device writes all or not at all, power loss included; none when 0.
    pub atomic_blocks: u32,
    pub reservations: Reservations,
    pub ranges: Ranges,
    pub flushes: FlushGroup,
    nexuses: Mutex<Vec<Weak<Nexus>>>,
    in_flight: AtomicUsize,
    /// No new commands: somebody waits for `in_flight` to fall to zero.
    closed: AtomicBool,
    idle: Notify,
}

/// What a connection can be told to do by others. It answers when it is done.
#[derive(Debug)]
pub enum Order {
    /// Abort the tasks on a unit: done when none of them can touch the medium any more.
    Abort { lun: u16, done: oneshot::Sender<()> },
    /// Look at the target's units again: done when those that are gone are let go.
    MeetUnits { done: oneshot::Sender<()> },
}

/// One initiator port's view of a unit (an I_T_L nexus).
#[derive(Debug)]
pub struct Nexus {
    /// The initiator port: its name and ISID.
    pub port: Arc<str>,
    /// The target port: the target's name and portal group.
    pub target_port: Arc<str>,
    pub unit: Arc<LogicalUnit>,
    /// This initiator may not write.
    pub read_only: bool,
    pub attentions: Attentions,
    /// It has prevented medium removal.
    pub prevents_removal: AtomicBool,
    /// How its latest EXTENDED COPY commands ended.
    pub copies: Copies,
    /// Reaches the connection.
    pub orders: mpsc::Sender<Order>,
}

impl LogicalUnit {
    /// A unit on `device`.
    pub fn new(number: u16, device: Device, identity: Identity, block_size: u32) -> Self {
        Self {
            number,
            flushes: FlushGroup::new(device.clone()),
            device,
            identity,
            block_size,
            read_only: AtomicBool::new(false),
            removable: false,
            ejected: AtomicBool::new(false),
            descriptor_sense: AtomicBool::new(false),
            software_protect: AtomicBool::new(false),
            sanitizing: AtomicBool::new(false),
            atomic_blocks: 0,
            reservations: Reservations::default(),
            ranges: Ranges::default(),
            nexuses: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            idle: Notify::new(),
        }
    }

    /// The number of logical blocks now.
    pub fn blocks(&self) -> u64 {
        self.device.size() / u64::from(self.block_size)
    }

    /// Whether writes are refused for everybody.
    pub fn protected(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
            || self.software_protect.load(Ordering::Relaxed)
            || self.device.read_only()
    }

    /// Fails when the medium was ejected.
    pub fn check_medium(&self) -> Result<(), Sense> {
        let ejected = self.ejected.load(Ordering::Relaxed);
        if ejected { Err(Sense::new(key::NOT_READY, 0x3a, 0x00)) } else { Ok(()) }
    }

    /// The device's own block length as a power of two of logical blocks.
    pub fn physical_exponent(&self) -> u8 {
        (self.device.block_size() / self.block_size).checked_ilog2().unwrap_or(0) as u8
    }

    /// Enters a nexus.
    pub fn attach(&self, nexus: &Arc<Nexus>) {
        let mut nexuses = self.nexuses.lock().expect("no code panics while it holds this lock");
        nexuses.retain(|other| other.strong_count() > 0);
        nexuses.push(Arc::downgrade(nexus));
    }

    /// A nexus goes away: what belongs to it alone goes with it. Persistent reservations stay.
    pub fn detach(&self, nexus: &Arc<Nexus>) {
        let mut nexuses = self.nexuses.lock().expect("no code panics while it holds this lock");
        nexuses.retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(nexus)));
        drop(nexuses);
        self.reservations.release_legacy(&nexus.port);
        nexus.prevents_removal.store(false, Ordering::Relaxed);
    }

    /// The nexuses there are.
    pub fn nexuses(&self) -> Vec<Arc<Nexus>> {
        let nexuses = self.nexuses.lock().expect("no code panics while it holds this lock");
        nexuses.iter().filter_map(Weak::upgrade).collect()
    }

    /// Raises a unit attention for every nexus but one.
    pub fn raise(&self, attention: Attention, except: Option<&Arc<Nexus>>) {
        for nexus in self.nexuses() {
            if !except.is_some_and(|one| Arc::ptr_eq(one, &nexus)) {
                nexus.attentions.raise(attention);
            }
        }
    }

    /// Aborts the tasks of these nexuses and waits until they cannot touch the medium any more.
    pub async fn abort(&self, nexuses: impl IntoIterator<Item = Arc<Nexus>>) {
        let mut waits = Vec::new();
        for nexus in nexuses {
            let (done, wait) = oneshot::channel();
            if nexus.orders.send(Order::Abort { lun: self.number, done }).await.is_ok() {
                waits.push(wait);
            }
        }
        for wait in waits {
            // An error means that the connection has ended, which it does only after its tasks.
            let _ = wait.await;
        }
    }

    /// Counts a command that may use the device for as long as the guard lives; `None` once the unit is closed.
    pub fn enter(self: &Arc<Self>) -> Option<InFlight> {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let guard = InFlight(self.clone());
        (!self.closed.load(Ordering::SeqCst)).then_some(guard)
    }

    /// Lets no new command in.
    pub fn shut(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Waits until no command uses the device; it was [shut](Self::shut).
    pub async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.in_flight.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// A command that may use a unit's device.
#[derive(Debug)]
pub struct InFlight(Arc<LogicalUnit>);

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 && self.0.closed.load(Ordering::SeqCst) {
            self.0.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_naa_6_and_differ_by_volume() {
        let identity = |uuid: u128| Identity {
            uuid: Uuid::from_u128(uuid),
            serial: String::new(),
            vendor: String::new(),
            product: String::new(),
        };
        let name = identity(1).naa();
        assert_eq!(name[..3], [0x60, 0x2c, 0xb1]);
        assert_eq!(name[3] >> 4, 0);
        assert_eq!(name, identity(1).naa());
        assert_ne!(name, identity(2).naa());
    }
}
