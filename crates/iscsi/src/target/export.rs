//! Exports: what is served under an IQN, and to whom.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use model::block::Device;
use uuid::Uuid;

use crate::chap::Chap;
use crate::login::auth::Credentials;
use crate::scsi::attention::Attention;
use crate::scsi::reservation::ReservationStore;
use crate::scsi::unit::LogicalUnit;

/// How many initiator ports an export remembers, to tell a lost nexus from a first one.
const SEEN_MAX: usize = 256;

/// A unit of an export.
#[derive(Debug, Clone)]
pub struct Lun {
    /// Below 16384.
    pub number: u16,
    pub device: Device,
    /// The volume: the unit's world-wide names come from it.
    pub uuid: Uuid,
    /// Shown as the unit's serial number; the UUID when empty.
    pub serial: String,
    /// At most 8 ASCII characters.
    pub vendor: String,
    /// At most 16 ASCII characters.
    pub product: String,
    /// Logical block length in bytes: 512, 1024, 2048 or 4096.
    pub block_size: u32,
    /// Write protected for everybody.
    pub read_only: bool,
    /// The medium can be ejected.
    pub removable: bool,
    /// Bytes that the device writes all or not at all, even through power loss, whatever their alignment to blocks;
    /// WRITE ATOMIC is offered up to it. 0 unless the backend promises it.
    pub atomic_write: u32,
    /// Where persistent reservations are kept; without it they end with the export.
    pub reservations: Option<Arc<dyn ReservationStore>>,
}

impl Lun {
    /// A plain unit with blocks of 512 bytes.
    pub fn new(number: u16, device: Device, uuid: Uuid) -> Self {
        Self {
            number,
            device,
            uuid,
            serial: String::new(),
            vendor: "CINDER".to_owned(),
            product: "cinderblock".to_owned(),
            block_size: 512,
            read_only: false,
            removable: false,
            atomic_write: 0,
            reservations: None,
        }
    }
}

/// The right of one initiator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The initiator's iSCSI name.
    pub initiator: String,
    /// What it has to prove; nothing when `None`.
    pub chap: Option<Chap>,
    /// It may not write.
    pub read_only: bool,
}

/// Who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Everybody. Refused unless all portals are on loopback.
    Open,
    /// Whoever knows the secret, under any initiator name.
    Chap(Chap),
    /// These initiators.
    List(Vec<Grant>),
}

/// What is served under one IQN.
#[derive(Debug, Clone)]
pub struct Export {
    /// The target's name, lower case.
    pub iqn: String,
    pub luns: Vec<Lun>,
    pub access: Access,
}

/// Whether an initiator may try to log in.
#[derive(Debug)]
pub enum Admission {
    Refused,
    /// With what it has to prove.
    Allowed(Credentials),
}

/// What an initiator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    pub read_only: bool,
}

#[derive(Debug)]
struct Current {
    access: Access,
    units: Arc<[Arc<LogicalUnit>]>,
}

/// A live export.
#[derive(Debug)]
pub struct ExportState {
    pub iqn: String,
    current: RwLock<Current>,
    /// Counts changes of the units: sessions look again when it has moved.
    generation: AtomicU64,
    removed: AtomicBool,
    /// Initiator ports that have had a session, newest last.
    seen: Mutex<VecDeque<Arc<str>>>,
}

impl ExportState {
    /// An export of these units.
    pub fn new(iqn: String, access: Access, units: Arc<[Arc<LogicalUnit>]>) -> Self {
        Self {
            iqn,
            current: RwLock::new(Current { access, units }),
            generation: AtomicU64::new(0),
            removed: AtomicBool::new(false),
            seen: Mutex::default(),
        }
    }

    /// Replaces what is served and to whom.
    pub fn replace(&self, access: Access, units: Arc<[Arc<LogicalUnit>]>) {
        let mut current = self.current.write().expect("no code panics while it holds this lock");
        let changed = current.units.len() != units.len()
            || current.units.iter().zip(units.iter()).any(|(old, new)| !Arc::ptr_eq(old, new));
        *current = Current { access, units };
        if changed {
            self.generation.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Ends it: nobody may log in any more.
    pub fn remove(&self) {
        self.removed.store(true, Ordering::SeqCst);
    }

    /// The number of the last change of the units.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The units, by ascending number.
    pub fn units(&self) -> Arc<[Arc<LogicalUnit>]> {
        self.current.read().expect("no code panics while it holds this lock").units.clone()
    }

    /// Whether an initiator may try to log in, and what it has to prove.
    pub fn admit(&self, initiator: &str) -> Admission {
        let current = self.current.read().expect("no code panics while it holds this lock");
        if self.removed.load(Ordering::SeqCst) {
            return Admission::Refused;
        }
        match &current.access {
            Access::Open => Admission::Allowed(Credentials::none()),
            Access::Chap(chap) => {
                Admission::Allowed(Credentials { any_of: vec![chap.clone()], optional: false })
            }
            Access::List(grants) => {
                let mine: Vec<&Grant> = grants.iter().filter(|grant| grant.initiator == initiator).collect();
                if mine.is_empty() {
                    return Admission::Refused;
                }
                Admission::Allowed(Credentials {
                    any_of: mine.iter().filter_map(|grant| grant.chap.clone()).collect(),
                    optional: mine.iter().any(|grant| grant.chap.is_none()),
                })
            }
        }
    }

    /// What an initiator may do that has proved `proof`.
    pub fn right(&self, initiator: &str, proof: Option<&Chap>) -> Option<Right> {
        let current = self.current.read().expect("no code panics while it holds this lock");
        if self.removed.load(Ordering::SeqCst) {
            return None;
        }
        let full = Right { read_only: false };
        match &current.access {
            Access::Open => Some(full),
            Access::Chap(chap) => (proof == Some(chap)).then_some(full),
            Access::List(grants) => grants
                .iter()
                .find(|grant| grant.initiator == initiator && grant.chap.as_ref() == proof)
                .map(|grant| Right { read_only: grant.read_only }),
        }
    }

    /// Notes that a port has a session now, and says what its units have to tell it first.
    pub fn arrives(&self, port: &Arc<str>) -> Attention {
        let mut seen = self.seen.lock().expect("no code panics while it holds this lock");
        let known = seen.iter().position(|other| other == port);
        if let Some(at) = known {
            seen.remove(at);
        } else if seen.len() == SEEN_MAX {
            seen.pop_front();
        }
        seen.push_back(port.clone());
        if known.is_some() { Attention::NEXUS_LOSS } else { Attention::POWER_ON }
    }
}
