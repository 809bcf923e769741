//! What a target knows: its exports and sessions. Connections and the public API share it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::export::{Admission, ExportState};
use super::session::{Counters, Session, Totals, port_name};
use super::{Limits, TargetConfig};
use crate::login::auth::Credentials;
use crate::login::{Granted, Purpose, Status};
use crate::scsi::unit::Order;

/// Orders that wait for a connection; whoever gives one more waits.
const ORDERS: usize = 16;

#[derive(Debug, Default)]
struct Sessions {
    by_tsih: HashMap<u16, Arc<Session>>,
    last_tsih: u16,
    /// What those have done that have ended.
    past: Totals,
}

/// Whether an identity is free.
enum Place<'a> {
    Taken(Arc<Session>),
    Free(u16, MutexGuard<'a, Sessions>),
}

/// A session's place in the registry. The session is over when it is dropped, whatever the reason.
#[derive(Debug)]
pub struct Seat {
    registry: Arc<Registry>,
    pub session: Arc<Session>,
    orders: Option<mpsc::Receiver<Order>>,
}

impl Seat {
    /// What the session is told to do; only the first time.
    pub const fn take_orders(&mut self) -> Option<mpsc::Receiver<Order>> {
        self.orders.take()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut sessions = self.registry.sessions();
        if sessions.by_tsih.remove(&self.session.tsih).is_some() {
            sessions.past = sessions.past.with(&self.session.report());
        }
        drop(sessions);
        self.session.ended.cancel();
    }
}

/// The shared state of a target.
#[derive(Debug)]
pub struct Registry {
    config: TargetConfig,
    /// The addresses that are listened on.
    portals: Vec<SocketAddr>,
    exports: RwLock<HashMap<String, Arc<ExportState>>>,
    sessions: Mutex<Sessions>,
    /// Bytes of buffers in use by all connections.
    memory: AtomicUsize,
    /// The whole target goes down.
    pub stopping: CancellationToken,
}

impl Registry {
    /// A registry without exports.
    pub fn new(config: TargetConfig, portals: Vec<SocketAddr>) -> Self {
        Self {
            config,
            portals,
            exports: RwLock::default(),
            sessions: Mutex::default(),
            memory: AtomicUsize::new(0),
            stopping: CancellationToken::new(),
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().expect("no code panics while it holds this lock")
    }

    /// What all sessions have done so far.
    pub fn totals(&self) -> Totals {
        let sessions = self.sessions();
        sessions.by_tsih.values().fold(sessions.past, |totals, session| totals.with(&session.report()))
    }

    pub const fn limits(&self) -> &Limits {
        &self.config.limits
    }

    pub const fn portal_group(&self) -> u16 {
        self.config.portal_group
    }

    /// What a discovery session has to prove.
    pub fn discovery_credential(&self) -> Credentials {
        match &self.config.discovery {
            Some(chap) => Credentials { any_of: vec![chap.clone()], optional: false },
            None => Credentials::none(),
        }
    }

    /// The addresses to tell an initiator that came in on `local`.
    pub fn addresses(&self, local: SocketAddr) -> Vec<SocketAddr> {
        if !self.config.advertised.is_empty() {
            return self.config.advertised.clone();
        }
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for portal in &self.portals {
            // A wildcard listener is reached on the address that this connection came in on.
            let ip = if portal.ip().is_unspecified() { local.ip() } else { portal.ip() };
            let address = SocketAddr::new(ip, portal.port());
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// The addresses that are listened on.
    pub fn portals(&self) -> &[SocketAddr] {
        &self.portals
    }

    pub fn export(&self, iqn: &str) -> Option<Arc<ExportState>> {
        self.exports.read().expect("no code panics while it holds this lock").get(iqn).cloned()
    }

    pub fn insert_export(&self, export: Arc<ExportState>) {
        let mut exports = self.exports.write().expect("no code panics while it holds this lock");
        exports.insert(export.iqn.clone(), export);
    }

    pub fn remove_export(&self, iqn: &str) -> Option<Arc<ExportState>> {
        let removed = self.exports.write().expect("no code panics while it holds this lock").remove(iqn)?;
        removed.remove();
        Some(removed)
    }

    /// Every IQN.
    pub fn iqns(&self) -> Vec<String> {
        self.exports.read().expect("no code panics while it holds this lock").keys().cloned().collect()
    }

    /// The IQNs that an initiator may see, sorted.
    pub fn visible(&self, initiator: &str) -> Vec<String> {
        let exports = self.exports.read().expect("no code panics while it holds this lock");
        let mut names: Vec<String> = exports
            .values()
            .filter(|export| matches!(export.admit(initiator), Admission::Allowed(_)))
            .map(|export| export.iqn.clone())
            .collect();
        names.sort_unstable();
        names
    }

    /// Whether a session has this TSIH and initiator.
    pub fn has_session(&self, tsih: u16, initiator: &str) -> bool {
        self.sessions().by_tsih.get(&tsih).is_some_and(|session| session.initiator == initiator)
    }

    /// Every normal session.
    pub fn all_sessions(&self) -> Vec<Arc<Session>> {
        self.sessions().by_tsih.values().cloned().collect()
    }

    /// The sessions of an export.
    pub fn sessions_of(&self, export: &Arc<ExportState>) -> Vec<Arc<Session>> {
        let mut sessions = self.all_sessions();
        sessions.retain(|session| Arc::ptr_eq(&session.export, export));
        sessions
    }

    /// Makes a login a session. One with the same identity that lives is ended first, with all its commands.
    ///
    /// # Errors
    /// The status to refuse the login with.
    pub async fn enter(self: &Arc<Self>, granted: &Granted, peer: SocketAddr) -> Result<Seat, Status> {
        let Purpose::Normal { export, read_only, proof } = &granted.purpose else {
            return Err(Status::SESSION_TYPE);
        };
        let port: Arc<str> = port_name(&granted.initiator, granted.isid).into();
        let seat = loop {
            let old = match self.place(granted, &port, export)? {
                Place::Taken(old) => old,
                Place::Free(tsih, mut sessions) => {
                    let (orders, received) = mpsc::channel(ORDERS);
                    let session = Arc::new(Session {
                        tsih,
                        cid: granted.cid,
                        initiator: granted.initiator.clone(),
                        port: port.clone(),
                        peer,
                        export: export.clone(),
                        read_only: *read_only,
                        proof: proof.clone(),
                        orders,
                        cut: self.stopping.child_token(),
                        ended: CancellationToken::new(),
                        counters: Counters::default(),
                    });
                    sessions.by_tsih.insert(tsih, session.clone());
                    break Seat { registry: self.clone(), session, orders: Some(received) };
                }
            };
            old.cut.cancel();
            old.ended.cancelled().await;
        };
        // The access list may have changed while the login went on. Whoever changes it looks at the sessions
        // afterwards; a session that has entered looks at the list afterwards: one of the two sees the other.
        if seat.session.entitled() { Ok(seat) } else { Err(Status::NOT_AUTHORISED) }
    }

    /// Finds who has the identity that a login wants, or a TSIH for it.
    fn place(
        &self,
        granted: &Granted,
        port: &Arc<str>,
        export: &Arc<ExportState>,
    ) -> Result<Place<'_>, Status> {
        let mut sessions = self.sessions();
        let same = |session: &&Arc<Session>| session.port == *port && Arc::ptr_eq(&session.export, export);
        match sessions.by_tsih.values().find(same).cloned() {
            Some(old) if granted.tsih != 0 && granted.tsih != old.tsih => Err(Status::NO_SUCH_SESSION),
            Some(old) if granted.tsih != 0 && granted.cid != old.cid => Err(Status::TOO_MANY_CONNECTIONS),
            Some(old) => Ok(Place::Taken(old)),
            None => {
                let tsih = self.new_tsih(&mut sessions, export)?;
                Ok(Place::Free(tsih, sessions))
            }
        }
    }

    fn new_tsih(&self, sessions: &mut Sessions, export: &Arc<ExportState>) -> Result<u16, Status> {
        let of_export = sessions.by_tsih.values().filter(|s| Arc::ptr_eq(&s.export, export)).count();
        if of_export >= self.limits().sessions_per_target || sessions.by_tsih.len() >= self.limits().sessions
        {
            return Err(Status::OUT_OF_RESOURCES);
        }
        loop {
            sessions.last_tsih = sessions.last_tsih.wrapping_add(1).max(1);
            if !sessions.by_tsih.contains_key(&sessions.last_tsih) {
                return Ok(sessions.last_tsih);
            }
        }
    }

    /// Counts memory in use up or down.
    pub fn account(&self, before: usize, now: usize) {
        if now > before {
            self.memory.fetch_add(now - before, Ordering::Relaxed);
        } else if before > now {
            self.memory.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    /// Whether all connections together use more than they should.
    pub fn memory_short(&self) -> bool {
        self.memory.load(Ordering::Relaxed) > self.limits().memory
    }
}
