//! The target: what it serves, to whom, and how it is controlled.
//!
//! ```text
//!   bind -> put, put, ... -> start -> put, remove, capacity_changed, sessions ... -> shutdown
//! ```
//!
//! Between `bind` and `start` connections wait in the listen queue: exports are in place before the first login.

pub mod export;
pub(crate) mod listener;
pub(crate) mod registry;
pub mod session;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::chap::Chap;
use crate::login::proper_name;
use crate::scsi::COLLECT_MAX;
use crate::scsi::attention::Attention;
use crate::scsi::reservation::Reservations;
use crate::scsi::unit::{Identity, LogicalUnit};
use export::{Access, Export, ExportState, Lun};
use registry::Registry;
use session::{Session, SessionReport, Totals};

/// Bounds on what peers can make the target do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// From accept to full feature.
    pub login_time: Duration,
    /// Connections that have not logged in yet.
    pub logins: usize,
    /// The same, from one address.
    pub logins_per_address: usize,
    /// Sessions in all; below 65535.
    pub sessions: usize,
    /// Sessions of one target.
    pub sessions_per_target: usize,
    /// Commands of a session in flight.
    pub commands: u32,
    /// Buffers of one connection, in bytes.
    pub connection_memory: usize,
    /// Buffers of all connections, in bytes: above, commands get TASK SET FULL.
    pub memory: usize,
    /// A silent connection is pinged after this, and closed when it stays silent as long again.
    pub idle: Duration,
    /// A peer that owes data, or does not take any, for this long is cut off.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            login_time: Duration::from_secs(15),
            logins: 256,
            logins_per_address: 16,
            sessions: 4096,
            sessions_per_target: 256,
            commands: 128,
            connection_memory: 64 << 20,
            memory: 1 << 30,
            idle: Duration::from_secs(30),
            stall: Duration::from_secs(30),
        }
    }
}

/// How a target listens.
#[derive(Debug, Clone)]
pub struct TargetConfig {
    /// Addresses to listen on; port 0 picks a free one.
    pub portals: Vec<SocketAddr>,
    /// Addresses to tell in discovery, where they differ from `portals`.
    pub advertised: Vec<SocketAddr>,
    /// The portal group tag of all portals.
    pub portal_group: u16,
    /// What a discovery session has to prove.
    pub discovery: Option<Chap>,
    pub limits: Limits,
}

impl TargetConfig {
    /// Defaults, listening on `portals`.
    pub fn new(portals: Vec<SocketAddr>) -> Self {
        Self { portals, advertised: Vec::new(), portal_group: 1, discovery: None, limits: Limits::default() }
    }
}

/// Why the target refused an order.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("{0:?} is not an iSCSI name")]
    BadName(String),
    #[error("LUN {0}: {1}")]
    BadLun(u16, &'static str),
    #[error("open access is for loopback only, and {0} is not")]
    OpenBeyondLoopback(SocketAddr),
    #[error("a CHAP secret must be 12 to 255 bytes, and differ between the two directions")]
    BadSecret,
    #[error("no target {0}")]
    NoSuchTarget(String),
    #[error("cannot load the reservations of LUN {0}")]
    Reservations(u16, #[source] io::Error),
}

/// An iSCSI target. Clones control the same one. It runs on the runtime that called [`Target::start`] and stops with
/// [`Target::shutdown`]; when the last clone is dropped without that, connections are cut off where they are.
#[derive(Debug, Clone)]
pub struct Target {
    registry: Arc<Registry>,
    listeners: Arc<Mutex<Vec<TcpListener>>>,
    running: Arc<Mutex<JoinSet<()>>>,
    /// One change of the exports at a time.
    changing: Arc<tokio::sync::Mutex<()>>,
}

impl Target {
    /// Takes the portals. Nobody is served before [`Target::start`].
    ///
    /// # Errors
    /// A portal cannot be listened on.
    pub async fn bind(config: TargetConfig) -> io::Result<Self> {
        let mut listeners = Vec::new();
        let mut portals = Vec::new();
        for portal in &config.portals {
            let listener = TcpListener::bind(portal)
                .await
                .map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {portal}: {e}")))?;
            portals.push(listener.local_addr()?);
            listeners.push(listener);
        }
        Ok(Self {
            registry: Arc::new(Registry::new(config, portals)),
            listeners: Arc::new(Mutex::new(listeners)),
            running: Arc::default(),
            changing: Arc::default(),
        })
    }

    /// The addresses it listens on.
    pub fn portals(&self) -> Vec<SocketAddr> {
        self.registry.portals().to_vec()
    }

    /// Begins to serve. Does nothing the second time.
    pub fn start(&self) {
        let listeners = std::mem::take(&mut *self.lock_listeners());
        let mut running = self.running.lock().expect("no code panics while it holds this lock");
        for listener in listeners {
            running.spawn(listener::serve(listener, self.registry.clone()));
        }
    }

    fn lock_listeners(&self) -> std::sync::MutexGuard<'_, Vec<TcpListener>> {
        self.listeners.lock().expect("no code panics while it holds this lock")
    }

    /// Creates an export, or replaces the one of that name. Idempotent. Sessions that keep their right and their units go
    /// on undisturbed; those that lost it have ended when this returns, and none of their commands runs any more. The
    /// same holds for a unit that is gone or whose device is another one.
    ///
    /// # Errors
    /// The export is not proper, or its reservations cannot be loaded: nothing has changed.
    pub async fn put(&self, export: Export) -> Result<(), TargetError> {
        let iqn = proper_name(&export.iqn).ok_or_else(|| TargetError::BadName(export.iqn.clone()))?;
        self.check(&export)?;
        let _one_at_a_time = self.changing.lock().await;
        let old = self.registry.export(&iqn);
        let old_units = old.as_ref().map_or_else(|| Arc::from([]), |old| old.units());
        let mut units = Vec::with_capacity(export.luns.len());
        for lun in &export.luns {
            let kept = old_units.iter().find(|unit| same_unit(unit, lun));
            match kept {
                Some(unit) => units.push(unit.clone()),
                None => units.push(Arc::new(new_unit(lun).await?)),
            }
        }
        for (unit, lun) in units.iter().zip(&export.luns) {
            unit.read_only.store(lun.read_only, std::sync::atomic::Ordering::Relaxed);
        }
        units.sort_by_key(|unit| unit.number);
        let units: Arc<[Arc<LogicalUnit>]> = units.into();
        let Some(old) = old else {
            self.registry.insert_export(Arc::new(ExportState::new(iqn, export.access, units)));
            return Ok(());
        };
        old.replace(export.access, units.clone());
        let lost =
            self.registry.sessions_of(&old).into_iter().filter(|session| !session.entitled()).collect();
        end(lost).await;
        let gone: Vec<_> =
            old_units.iter().filter(|unit| !units.iter().any(|kept| Arc::ptr_eq(kept, unit))).collect();
        for unit in &gone {
            unit.shut();
        }
        if !same(&old_units, &units) {
            for session in self.registry.sessions_of(&old) {
                session.meet_units().await;
            }
        }
        for unit in gone {
            unit.drained().await;
        }
        Ok(())
    }

    /// Removes an export. When this returns its sessions have ended, no command of theirs runs any more and its devices
    /// are dropped. Removing what is not there succeeds.
    pub async fn remove(&self, iqn: &str) {
        let Some(iqn) = proper_name(iqn) else { return };
        let _one_at_a_time = self.changing.lock().await;
        if let Some(export) = self.registry.remove_export(&iqn) {
            end(self.registry.sessions_of(&export)).await;
            for unit in export.units().iter() {
                unit.shut();
                unit.drained().await;
            }
        }
    }

    /// The IQNs of all exports.
    pub fn exports(&self) -> Vec<String> {
        self.registry.iqns()
    }

    /// Tells every nexus of a unit that its capacity has changed. READ CAPACITY follows the device at once anyway.
    ///
    /// # Errors
    /// There is no such target or unit.
    pub fn capacity_changed(&self, iqn: &str, lun: u16) -> Result<(), TargetError> {
        let export = proper_name(iqn).and_then(|iqn| self.registry.export(&iqn));
        let export = export.ok_or_else(|| TargetError::NoSuchTarget(iqn.to_owned()))?;
        let units = export.units();
        let unit = units.iter().find(|unit| unit.number == lun);
        unit.ok_or(TargetError::BadLun(lun, "there is none"))?.raise(Attention::CAPACITY_CHANGED, None);
        Ok(())
    }

    /// The sessions there are.
    pub fn sessions(&self) -> Vec<SessionReport> {
        self.registry.all_sessions().iter().map(|session| session.report()).collect()
    }

    /// What all sessions have done since the target began.
    pub fn totals(&self) -> Totals {
        self.registry.totals()
    }

    /// Stops: takes no more connections, ends every session, and waits until no command runs any more. Devices are
    /// flushed by whoever owns them.
    pub async fn shutdown(&self) {
        self.lock_listeners().clear();
        self.registry.stopping.cancel();
        let mut running =
            std::mem::take(&mut *self.running.lock().expect("no code panics while it holds this lock"));
        while running.join_next().await.is_some() {}
        end(self.registry.all_sessions()).await;
    }

    fn check(&self, export: &Export) -> Result<(), TargetError> {
        for (n, lun) in export.luns.iter().enumerate() {
            let bad = |why| Err(TargetError::BadLun(lun.number, why));
            if lun.number >= 0x4000 {
                return bad("the number is too large");
            }
            if export.luns[..n].iter().any(|other| other.number == lun.number) {
                return bad("the number is there twice");
            }
            if !matches!(lun.block_size, 512 | 1024 | 2048 | 4096) {
                return bad("the block length must be 512, 1024, 2048 or 4096");
            }
        }
        match &export.access {
            Access::Open => match self.registry.portals().iter().find(|portal| !portal.ip().is_loopback()) {
                Some(portal) => Err(TargetError::OpenBeyondLoopback(*portal)),
                None => Ok(()),
            },
            Access::Chap(chap) => check_secret(chap),
            Access::List(grants) => {
                for grant in grants {
                    if proper_name(&grant.initiator).is_none_or(|name| name != grant.initiator) {
                        return Err(TargetError::BadName(grant.initiator.clone()));
                    }
                    grant.chap.as_ref().map_or(Ok(()), check_secret)?;
                }
                Ok(())
            }
        }
    }
}

/// Secrets of fewer than 96 bits are refused (RFC 7143 9.2.1), and Windows wants 12 to 16 bytes.
fn check_secret(chap: &Chap) -> Result<(), TargetError> {
    let long = |secret: &model::Secret<String>| (12..=255).contains(&secret.expose().len());
    let mutual = chap.mutual.as_ref().is_none_or(|ours| long(&ours.secret) && ours.secret != chap.secret);
    if long(&chap.secret) && mutual && !chap.user.is_empty() { Ok(()) } else { Err(TargetError::BadSecret) }
}

/// Whether a live unit is what `lun` asks for, but for what can be changed in place.
fn same_unit(unit: &LogicalUnit, lun: &Lun) -> bool {
    unit.number == lun.number
        && Arc::ptr_eq(&unit.device, &lun.device)
        && unit.block_size == lun.block_size
        && unit.removable == lun.removable
        && unit.atomic_blocks == atomic_blocks(lun)
        && unit.identity == identity(lun)
}

fn same(one: &[Arc<LogicalUnit>], other: &[Arc<LogicalUnit>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| Arc::ptr_eq(a, b))
}

fn identity(lun: &Lun) -> Identity {
    Identity {
        uuid: lun.uuid,
        serial: if lun.serial.is_empty() { lun.uuid.to_string() } else { lun.serial.clone() },
        vendor: lun.vendor.clone(),
        product: lun.product.clone(),
    }
}

/// No more than is gathered for one command.
fn atomic_blocks(lun: &Lun) -> u32 {
    lun.atomic_write.min(COLLECT_MAX) / lun.block_size
}

async fn new_unit(lun: &Lun) -> Result<LogicalUnit, TargetError> {
    let mut unit = LogicalUnit::new(lun.number, lun.device.clone(), identity(lun), lun.block_size);
    unit.removable = lun.removable;
    unit.atomic_blocks = atomic_blocks(lun);
    unit.reservations = Reservations::load(lun.reservations.clone())
        .await
        .map_err(|e| TargetError::Reservations(lun.number, e))?;
    Ok(unit)
}

/// Ends sessions and waits until they have ended.
async fn end(sessions: Vec<Arc<Session>>) {
    for session in &sessions {
        session.cut.cancel();
    }
    for session in sessions {
        session.ended.cancelled().await;
    }
}
