//! A connection of the target: one task that owns the socket, the session's sequence numbers and all its commands.
//!
//! ```text
//!          receive as much as there is          send everything that is ready
//!   socket ------> inbox --> PDUs --> commands --> outbox ------> socket
//!                                       |   ^
//!                                   device futures
//! ```
//!
//! The task never waits in the middle of anything: it receives, starts what is complete, collects what has finished,
//! sends, and only then sleeps until one of these can go on. A device that answers at once (page cache) is answered in
//! the same round, without a task switch; one that does not is polled beside the socket.
//!
//! Invariants: a command's buffer lives in the command or in its device future, never in both; a device future is never
//! dropped before it is done, whatever happens to the connection, so that no write can reach the medium after the session
//! has ended.

mod abort;
mod command;
mod control;
mod data_out;
mod login;
mod receive;
mod task;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::login::Granted;
use crate::login::params::Params;
use crate::pdu::{Bhs, sn_before};
use crate::scsi::unit::{Nexus, Order};
use crate::stream::buffer::Pool;
use crate::stream::inbox::Inbox;
use crate::stream::layout::{lay_out, wire_length};
use crate::stream::outbox::Outbox;
use crate::target::listener::LoginPlace;
use crate::target::registry::{Registry, Seat};
use crate::target::session::Session;
use abort::{Aborts, Scope};
use receive::Incoming;
use task::{Done, Slot, Tasks};

/// Size of the receive buffer in login and after it, in bytes.
const INBOX_LOGIN: usize = 16 << 10;
const INBOX_FULL: usize = 256 << 10;
/// With more than this to send, in bytes, no more commands are read.
const OUTBOX_HIGH: usize = 4 << 20;
/// With more than this to send, in bytes, it is sent before more is parsed.
const OUTBOX_BATCH: usize = 256 << 10;
/// How long a connection that is to be closed may take to send what is left.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// How often the clocks of a connection are looked at.
const TICK: Duration = Duration::from_secs(1);

/// Device work in flight.
type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// How the connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Nothing more is read; what is in the outbox is sent, then it ends.
    Closing,
}

/// A connection in full feature phase.
struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    registry: Arc<Registry>,
    /// `None` for a discovery session.
    session: Option<Arc<Session>>,
    initiator: String,
    params: Params,
    phase: Phase,
    inbox: Inbox,
    incoming: Option<Incoming>,
    outbox: Outbox,
    pool: Pool,
    accounted: usize,
    stat_sn: u32,
    exp_cmd_sn: u32,
    tasks: Tasks,
    working: FuturesUnordered<Work>,
    aborts: Aborts,
    orders: mpsc::Receiver<Order>,
    nexuses: Vec<Arc<Nexus>>,
    luns: Vec<u16>,
    generation: u64,
    text: control::TextState,
    managed: Vec<control::Managed>,
    managed_count: u32,
    /// Commands that wait for room: reads for the outbox, writes for a buffer.
    waiting: VecDeque<Slot>,
    /// CmdSNs that were aborted before they came.
    skipped: Vec<u32>,
    next_ttt: u32,
    last_received: Instant,
    last_sent: Instant,
    pinged: bool,
}

/// Serves a connection from accept to its end.
pub async fn serve(stream: TcpStream, peer: SocketAddr, registry: Arc<Registry>, place: LoginPlace) {
    let limit = registry.limits().login_time;
    let mut inbox = Inbox::new(INBOX_LOGIN);
    let granted = tokio::select! {
        () = registry.stopping.cancelled() => return,
        granted = tokio::time::timeout(limit, login::login(&stream, peer, &registry, &mut inbox)) => granted,
    };
    drop(place);
    let (granted, seat) = match granted {
        Ok(Ok(Some(entered))) => entered,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "connection lost in login");
            return;
        }
        Err(_) => {
            tracing::info!(%peer, "login took too long: closed");
            return;
        }
    };
    run(stream, peer, registry, *granted, seat, inbox).await;
}

/// Serves the full feature phase. The session is over when this returns, even if its code panics.
async fn run(
    stream: TcpStream,
    peer: SocketAddr,
    registry: Arc<Registry>,
    granted: Granted,
    mut seat: Option<Seat>,
    inbox: Inbox,
) {
    let session = seat.as_ref().map(|seat| seat.session.clone());
    // A discovery session has nobody who could give it orders.
    let orders = seat.as_mut().and_then(Seat::take_orders).unwrap_or_else(|| mpsc::channel(1).1);
    let cut = session.as_ref().map_or_else(|| registry.stopping.clone(), |session| session.cut.clone());
    let mut connection =
        Connection::new(stream, peer, registry.clone(), granted, session.clone(), orders, inbox);
    let outcome = AssertUnwindSafe(connection.work(&cut)).catch_unwind().await;
    let reason = match outcome {
        Ok(Ok(())) => "closed".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => {
            tracing::error!(%peer, "a connection's code panicked: connection ended");
            "internal error".to_owned()
        }
    };
    connection.finish().await;
    drop(connection);
    if let Some(session) = session {
        tracing::info!(%peer, initiator = %session.initiator, target = %session.export.iqn, reason, "session ended");
    }
    drop(seat);
}

impl Connection {
    fn new(
        stream: TcpStream,
        peer: SocketAddr,
        registry: Arc<Registry>,
        granted: Granted,
        session: Option<Arc<Session>>,
        orders: mpsc::Receiver<Order>,
        mut inbox: Inbox,
    ) -> Self {
        let now = Instant::now();
        inbox.grow(INBOX_FULL);
        let commands = registry.limits().commands;
        let mut connection = Self {
            stream,
            peer,
            session,
            initiator: granted.initiator,
            params: granted.params,
            phase: Phase::Open,
            inbox,
            incoming: None,
            outbox: Outbox::default(),
            pool: Pool::default(),
            accounted: 0,
            stat_sn: granted.stat_sn,
            exp_cmd_sn: granted.cmd_sn,
            tasks: Tasks::new(commands),
            working: FuturesUnordered::new(),
            aborts: Aborts::default(),
            orders,
            nexuses: Vec::new(),
            luns: Vec::new(),
            generation: 0,
            text: control::TextState::default(),
            managed: Vec::new(),
            managed_count: 0,
            last_received: now,
            last_sent: now,
            pinged: false,
            waiting: VecDeque::new(),
            skipped: Vec::new(),
            next_ttt: 0,
            registry,
        };
        connection.meet_units();
        connection
    }

    /// The loop: see the module's description.
    async fn work(&mut self, cut: &CancellationToken) -> io::Result<()> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.resume();
            // The first time: what came in the same packet as the last login request.
            self.parse()?;
            self.transmit()?;
            if self.phase == Phase::Closing && self.outbox.is_empty() {
                return Ok(());
            }
            let readable = self.wants_input();
            tokio::select! {
                biased;
                () = cut.cancelled() => return Ok(()),
                Some(done) = self.working.next(), if !self.working.is_empty() => {
                    self.done(done);
                    while let Some(Some(done)) = self.working.next().now_or_never() {
                        self.done(done);
                    }
                }
                ready = self.stream.readable(), if readable => {
                    ready?;
                    self.receive()?;
                }
                ready = self.stream.writable(), if !self.outbox.is_empty() => ready?,
                Some(order) = self.orders.recv() => self.obey(order),
                _ = tick.tick() => self.check_clocks()?,
                // What was done in this round has made room for those that wait: no event will say so.
                () = tokio::task::yield_now(), if self.can_resume() => {}
            }
        }
    }

    /// Whether a command that waited for room has some now.
    fn can_resume(&self) -> bool {
        !self.waiting.is_empty() && self.has_room() && self.outbox.len() <= OUTBOX_HIGH
    }

    /// Whether the connection may have another buffer.
    fn has_room(&self) -> bool {
        self.pool.in_use() <= self.registry.limits().connection_memory
    }

    /// Whether more may be read: not while the peer does not take our answers.
    fn wants_input(&self) -> bool {
        self.phase == Phase::Open && self.outbox.len() < OUTBOX_HIGH
    }

    /// Sends what the socket takes.
    fn transmit(&mut self) -> io::Result<()> {
        if !self.outbox.is_empty() && self.outbox.send(&self.stream, &mut self.pool)? > 0 {
            self.last_sent = Instant::now();
        }
        self.account();
        Ok(())
    }

    fn account(&mut self) {
        let now = self.pool.in_use();
        if now != self.accounted {
            self.registry.account(self.accounted, now);
            self.accounted = now;
        }
    }

    /// Looks after peers that have gone silent or stalled.
    fn check_clocks(&mut self) -> io::Result<()> {
        let limits = self.registry.limits();
        let silent = self.last_received.elapsed();
        let stalled = (!self.outbox.is_empty() && self.last_sent.elapsed() > limits.stall)
            || (self.tasks.any_receiving() && silent > limits.stall)
            || (self.incoming.is_some() && silent > limits.stall);
        if stalled {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer has stalled"));
        }
        if silent > limits.idle * 2 && self.pinged {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not answer"));
        }
        if silent > limits.idle && !self.pinged && self.phase == Phase::Open {
            self.pinged = true;
            self.ping();
        }
        Ok(())
    }

    /// After the end of the loop: waits for the device, so that nothing touches the medium any more, and leaves the units.
    async fn finish(&mut self) {
        if self.phase == Phase::Closing {
            let _ = tokio::time::timeout(CLOSE_TIME, self.linger()).await;
        }
        self.phase = Phase::Closing;
        self.abort(Scope::All);
        // Others may wait for these very commands, and these for those of others: orders are still obeyed.
        while !self.working.is_empty() {
            tokio::select! {
                // A device that panics has done its worst with that.
                done = AssertUnwindSafe(self.working.next()).catch_unwind() => {
                    if let Ok(Some(done)) = done {
                        self.done(done);
                    }
                }
                Some(order) = self.orders.recv() => self.obey(order),
            }
        }
        self.tasks.clear();
        self.orders.close();
        for nexus in self.nexuses.drain(..) {
            nexus.unit.detach(&nexus);
        }
        self.registry.account(self.accounted, 0);
    }

    /// Lets the peer read what was sent last: closing with unread input would take it away again.
    async fn linger(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        loop {
            self.stream.readable().await?;
            let unread = self.inbox.bytes().len();
            self.inbox.consume(unread);
            self.inbox.receive(&self.stream, &mut [])?;
        }
    }

    /// Looks up the session's units, when they have changed.
    fn meet_units(&mut self) {
        let Some(session) = &self.session else { return };
        self.generation = session.export.generation();
        let units = session.export.units();
        let first = self.nexuses.is_empty();
        let greeting = session.export.arrives(&session.port);
        let target_port: Arc<str> =
            format!("{},t,0x{:04x}", session.export.iqn, self.registry.portal_group()).into();
        let mut nexuses = Vec::with_capacity(units.len());
        for unit in units.iter() {
            if let Some(known) = self.nexuses.iter().find(|nexus| Arc::ptr_eq(&nexus.unit, unit)) {
                nexuses.push(known.clone());
                continue;
            }
            let nexus = Arc::new(Nexus {
                port: session.port.clone(),
                target_port: target_port.clone(),
                unit: unit.clone(),
                read_only: session.read_only,
                attentions: Default::default(),
                prevents_removal: Default::default(),
                copies: Default::default(),
                orders: session.orders.clone(),
            });
            nexus.attentions.raise(if first {
                greeting
            } else {
                crate::scsi::attention::Attention::POWER_ON
            });
            unit.attach(&nexus);
            nexuses.push(nexus);
        }
        for gone in self.nexuses.iter().filter(|old| !nexuses.iter().any(|kept| Arc::ptr_eq(kept, old))) {
            gone.unit.detach(gone);
        }
        if !first {
            for nexus in &nexuses {
                nexus.attentions.raise(crate::scsi::attention::Attention::LUNS_CHANGED);
            }
        }
        self.luns = nexuses.iter().map(|nexus| nexus.unit.number).collect();
        self.nexuses = nexuses;
    }

    /// The nexus of a LUN.
    fn nexus(&mut self, lun: u16) -> Option<Arc<Nexus>> {
        if self.session.as_ref().is_some_and(|session| session.export.generation() != self.generation) {
            self.meet_units();
        }
        self.nexuses.iter().find(|nexus| nexus.unit.number == lun).cloned()
    }

    /// The highest CmdSN that may come.
    fn max_cmd_sn(&self) -> u32 {
        self.exp_cmd_sn.wrapping_add(self.tasks.free()).wrapping_sub(1)
    }

    /// Whether a CmdSN is one that we wait for.
    fn in_window(&self, cmd_sn: u32) -> bool {
        !sn_before(cmd_sn, self.exp_cmd_sn) && !sn_before(self.max_cmd_sn(), cmd_sn)
    }

    /// Fills in StatSN and the window; `counts` when the PDU carries status.
    fn stamp(&mut self, bhs: &mut Bhs, counts: bool) {
        bhs.set_sn(self.stat_sn);
        bhs.set_window(self.exp_cmd_sn, self.max_cmd_sn());
        if counts {
            self.stat_sn = self.stat_sn.wrapping_add(1);
        }
    }

    /// Queues a PDU with a short data segment.
    fn send(&mut self, mut bhs: Bhs, data: &[u8]) {
        bhs.set_data_len(data.len());
        let total = wire_length(self.params.digests, data.len());
        let place = self.outbox.append(total, &mut self.pool);
        lay_out(self.params.digests, place, &bhs, data);
    }

    /// Counts bytes of the session.
    fn count(&self, commands: u64, read: u64, written: u64) {
        if let Some(session) = &self.session {
            session.counters.commands.fetch_add(commands, Ordering::Relaxed);
            session.counters.bytes_read.fetch_add(read, Ordering::Relaxed);
            session.counters.bytes_written.fetch_add(written, Ordering::Relaxed);
        }
    }
}
