//! One connection in full feature phase: commands out, answers in.

use std::collections::HashMap;
use std::io;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::login::Agreed;
use crate::login::params::SEGMENT_MAX;
use crate::pdu::digest::{DIGEST_LEN, crc32c, crc32c_of};
use crate::pdu::{BHS_LEN, Bhs, NO_TAG, flag, op, padding, sn_before};
use crate::scsi::capacity::lun_field;
use crate::scsi::sense::Sense;
use crate::stream::buffer::Pool;
use crate::stream::inbox::Inbox;
use crate::stream::layout::{Digests, finish_data, lay_out, wire_length, write_header};
use crate::stream::outbox::Outbox;

/// How a command ended.
#[derive(Debug)]
pub struct Reply {
    pub status: u8,
    pub sense: Option<Sense>,
    /// What came; no more than was expected.
    pub data: Vec<u8>,
}

/// A command.
#[derive(Debug)]
pub struct Command {
    pub cdb: [u8; 16],
    /// Bytes to send.
    pub data_out: Vec<u8>,
    /// Bytes to receive, at most.
    pub expected: u32,
    pub reply: oneshot::Sender<io::Result<Reply>>,
    /// How often its connection was lost.
    pub losses: u32,
}

/// A command that was sent.
#[derive(Debug)]
struct Sent {
    command: Command,
    /// In the order of sending.
    number: u64,
    at: Instant,
    data_in: Vec<u8>,
    received: u32,
}

/// Where the data segment of an incoming PDU goes.
#[derive(Debug)]
enum Place {
    /// Into a command's data.
    Data(u32, usize),
    Own(Vec<u8>),
}

#[derive(Debug)]
struct Incoming {
    bhs: Bhs,
    place: Place,
    filled: usize,
}

/// A connection.
pub struct Link {
    pub stream: TcpStream,
    inbox: Inbox,
    incoming: Option<Incoming>,
    outbox: Outbox,
    pool: Pool,
    lun: [u8; 8],
    digests: Digests,
    segment: u32,
    max_burst: u32,
    immediate: u32,
    cmd_sn: u32,
    max_cmd_sn: u32,
    exp_stat_sn: u32,
    next_itt: u32,
    numbers: u64,
    sent: HashMap<u32, Sent>,
    pub last_received: Instant,
    pub pinged: bool,
    /// The target has answered our logout.
    pub logged_out: bool,
}

impl Link {
    /// A connection that was logged in.
    pub fn new(agreed: Agreed, lun: u16) -> Self {
        let immediate = if agreed.immediate_data { agreed.first_burst.min(agreed.segment) } else { 0 };
        Self {
            stream: agreed.stream,
            inbox: agreed.inbox,
            incoming: None,
            outbox: Outbox::default(),
            pool: Pool::default(),
            lun: lun_field(lun),
            digests: agreed.digests,
            segment: agreed.segment,
            max_burst: agreed.max_burst,
            immediate,
            cmd_sn: agreed.cmd_sn,
            max_cmd_sn: agreed.max_cmd_sn,
            exp_stat_sn: agreed.exp_stat_sn,
            next_itt: 0,
            numbers: 0,
            sent: HashMap::new(),
            last_received: Instant::now(),
            pinged: false,
            logged_out: false,
        }
    }

    /// Commands in flight.
    pub fn in_flight(&self) -> usize {
        self.sent.len()
    }

    /// Whether the target takes another command.
    pub fn window_open(&self) -> bool {
        !sn_before(self.max_cmd_sn, self.cmd_sn)
    }

    /// Whether something waits to be sent.
    pub fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// When the oldest command was sent.
    pub fn oldest(&self) -> Option<Instant> {
        self.sent.values().map(|sent| sent.at).min()
    }

    /// Gives up the connection: what was in flight, in the order of sending.
    pub fn give_up(self) -> Vec<Command> {
        let mut sent: Vec<Sent> = self.sent.into_values().collect();
        sent.sort_by_key(|sent| sent.number);
        sent.into_iter().map(|sent| sent.command).collect()
    }

    fn new_itt(&mut self) -> u32 {
        loop {
            self.next_itt = self.next_itt.wrapping_add(1);
            if self.next_itt != NO_TAG && !self.sent.contains_key(&self.next_itt) {
                return self.next_itt;
            }
        }
    }

    /// Sends a command; the window is open.
    pub fn start(&mut self, command: Command) {
        let itt = self.new_itt();
        let mut bhs = Bhs::new(op::SCSI_COMMAND);
        // Simple task attribute.
        bhs.0[1] |= 1;
        let len = command.data_out.len() as u32;
        if len > 0 {
            bhs.0[1] |= flag::WRITE;
            bhs.set_ttt(len);
        } else if command.expected > 0 {
            bhs.0[1] |= flag::READ;
            bhs.set_ttt(command.expected);
        }
        bhs.set_lun(self.lun);
        bhs.set_itt(itt);
        bhs.set_sn(self.cmd_sn);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        bhs.set_exp_sn(self.exp_stat_sn);
        bhs.0[32..48].copy_from_slice(&command.cdb);
        let immediate = len.min(self.immediate) as usize;
        self.push(bhs, &command.data_out[..immediate]);
        self.numbers += 1;
        let data_in = vec![0; command.expected as usize];
        self.sent
            .insert(itt, Sent { command, number: self.numbers, at: Instant::now(), data_in, received: 0 });
    }

    fn push(&mut self, bhs: Bhs, data: &[u8]) {
        push(&mut self.outbox, &mut self.pool, self.digests, bhs, data);
    }

    /// Asks the target whether it is there.
    pub fn ping(&mut self) {
        let itt = self.new_itt();
        let mut bhs = Bhs::new(op::NOP_OUT);
        bhs.set_immediate();
        bhs.set_itt(itt);
        bhs.set_ttt(NO_TAG);
        bhs.set_sn(self.cmd_sn);
        bhs.set_exp_sn(self.exp_stat_sn);
        self.pinged = true;
        self.push(bhs, &[]);
    }

    /// Ends the session in good order.
    pub fn log_out(&mut self) {
        let mut bhs = Bhs::new(op::LOGOUT);
        bhs.set_immediate();
        bhs.set_itt(self.new_itt());
        bhs.set_sn(self.cmd_sn);
        bhs.set_exp_sn(self.exp_stat_sn);
        self.push(bhs, &[]);
    }

    /// Sends what the socket takes.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn transmit(&mut self) -> io::Result<()> {
        self.outbox.send(&self.stream, &mut self.pool).map(drop)
    }

    /// Receives what there is and handles it.
    ///
    /// # Errors
    /// The connection is gone, or the target breaks the protocol.
    pub fn receive(&mut self) -> io::Result<()> {
        let mut none = [];
        let direct: &mut [u8] = match &mut self.incoming {
            Some(incoming) if self.inbox.bytes().is_empty() => {
                segment_place(&mut self.sent, incoming).unwrap_or(&mut none)
            }
            _ => &mut none,
        };
        if let Some(placed) = self.inbox.receive(&self.stream, direct)? {
            if let Some(incoming) = &mut self.incoming {
                incoming.filled += placed;
            }
            self.last_received = Instant::now();
            self.pinged = false;
        }
        loop {
            let progress = if self.incoming.is_some() { self.take_segment()? } else { self.take_header()? };
            if !progress {
                return Ok(());
            }
        }
    }

    fn take_header(&mut self) -> io::Result<bool> {
        let bytes = self.inbox.bytes();
        let Some(header) = bytes.first_chunk::<BHS_LEN>() else { return Ok(false) };
        let bhs = Bhs(*header);
        let covered = BHS_LEN + bhs.ahs_len();
        let whole = covered + if self.digests.header { DIGEST_LEN } else { 0 };
        if bhs.data_len() > SEGMENT_MAX as usize {
            return Err(broken("a data segment is longer than we take"));
        }
        if bytes.len() < whole {
            return Ok(false);
        }
        if self.digests.header && bytes[covered..whole] != crc32c(&bytes[..covered]) {
            return Err(broken("a header digest is wrong"));
        }
        self.inbox.consume(whole);
        let place = match bhs.opcode() {
            op::DATA_IN => self.place_data_in(&bhs)?,
            _ => Place::Own(vec![0; bhs.data_len()]),
        };
        self.incoming = Some(Incoming { bhs, place, filled: 0 });
        Ok(true)
    }

    fn place_data_in(&mut self, bhs: &Bhs) -> io::Result<Place> {
        let sent = self.sent.get(&bhs.itt()).ok_or_else(|| broken("data for an unknown command"))?;
        let end = u64::from(bhs.offset()) + bhs.data_len() as u64;
        if bhs.offset() != sent.received || end > sent.data_in.len() as u64 {
            return Err(broken("data outside of what was asked for"));
        }
        Ok(Place::Data(bhs.itt(), bhs.offset() as usize))
    }

    fn take_segment(&mut self) -> io::Result<bool> {
        let Some(incoming) = &mut self.incoming else { return Ok(false) };
        let end = incoming.bhs.data_len();
        if incoming.filled < end {
            let Some(place) = segment_place(&mut self.sent, incoming) else {
                return Err(broken("data for a command that has ended"));
            };
            let taken = self.inbox.take(place);
            incoming.filled += taken;
            if incoming.filled < end {
                return Ok(false);
            }
        }
        let digest = if self.digests.data && end > 0 { DIGEST_LEN } else { 0 };
        let tail = padding(end) + digest;
        if self.inbox.bytes().len() < tail {
            return Ok(false);
        }
        if digest > 0 {
            incoming.filled = 0;
            let (pad, digest) = self.inbox.bytes()[..tail].split_at(padding(end));
            let data = segment_place(&mut self.sent, incoming);
            if data.is_none_or(|data| crc32c_of(&[data, pad]) != digest) {
                return Err(broken("a data digest is wrong"));
            }
        }
        self.inbox.consume(tail);
        match self.incoming.take() {
            Some(incoming) => self.handle(incoming).map(|()| true),
            None => Ok(false),
        }
    }

    fn handle(&mut self, incoming: Incoming) -> io::Result<()> {
        let bhs = incoming.bhs;
        let max_cmd_sn = bhs.u32_at(32);
        if sn_before(self.max_cmd_sn, max_cmd_sn) {
            self.max_cmd_sn = max_cmd_sn;
        }
        match (bhs.opcode(), incoming.place) {
            (op::DATA_IN, _) => {
                if let Some(sent) = self.sent.get_mut(&bhs.itt()) {
                    sent.received += bhs.data_len() as u32;
                }
                if bhs.has(flag::STATUS) {
                    self.exp_stat_sn = bhs.sn().wrapping_add(1);
                    self.finish(&bhs, None)?;
                }
                Ok(())
            }
            (op::SCSI_RESPONSE, Place::Own(data)) => {
                self.exp_stat_sn = bhs.sn().wrapping_add(1);
                if bhs.0[2] != 0 {
                    return Err(broken("a command failed in the target"));
                }
                // The sense data follows its two-byte length.
                self.finish(&bhs, data.get(2..).and_then(Sense::decode))
            }
            (op::R2T, _) => self.send_data(&bhs),
            (op::NOP_IN, Place::Own(data)) => {
                if bhs.ttt() != NO_TAG {
                    let mut answer = Bhs::new(op::NOP_OUT);
                    answer.set_immediate();
                    answer.set_lun(bhs.lun());
                    answer.set_itt(NO_TAG);
                    answer.set_ttt(bhs.ttt());
                    answer.set_sn(self.cmd_sn);
                    answer.set_exp_sn(self.exp_stat_sn);
                    let len = data.len().min(self.segment as usize);
                    self.push(answer, &data[..len]);
                } else {
                    self.exp_stat_sn = bhs.sn().wrapping_add(1);
                }
                Ok(())
            }
            (op::LOGOUT_RESPONSE, _) => {
                self.logged_out = true;
                Ok(())
            }
            // SCSI events come again as unit attentions; all others mean that the connection ends.
            (op::ASYNC, _) if bhs.0[36] == 0 => {
                self.exp_stat_sn = bhs.sn().wrapping_add(1);
                Ok(())
            }
            (op::ASYNC, _) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the target asked us to leave"))
            }
            (op::REJECT, _) => Err(broken("the target rejected a request")),
            _ => Err(broken("an unexpected PDU")),
        }
    }

    fn finish(&mut self, bhs: &Bhs, sense: Option<Sense>) -> io::Result<()> {
        let sent = self.sent.remove(&bhs.itt()).ok_or_else(|| broken("an answer to an unknown command"))?;
        let mut data = sent.data_in;
        data.truncate(sent.received as usize);
        // The one who asked may have lost interest.
        let _ = sent.command.reply.send(Ok(Reply { status: bhs.0[3], sense, data }));
        Ok(())
    }

    /// Sends the data that an R2T asks for.
    fn send_data(&mut self, r2t: &Bhs) -> io::Result<()> {
        let sent = self.sent.get(&r2t.itt()).ok_or_else(|| broken("R2T for an unknown command"))?;
        let (start, wanted) = (r2t.offset() as usize, r2t.u32_at(44));
        let data = start
            .checked_add(wanted as usize)
            .filter(|_| wanted > 0 && wanted <= self.max_burst)
            .and_then(|end| sent.command.data_out.get(start..end))
            .ok_or_else(|| broken("R2T outside of the data"))?;
        let pieces = data.chunks(self.segment as usize);
        let last = pieces.len() - 1;
        for (n, piece) in pieces.enumerate() {
            let mut bhs = Bhs::new(op::DATA_OUT);
            bhs.0[1] = if n == last { flag::FINAL } else { 0 };
            bhs.set_lun(r2t.lun());
            bhs.set_itt(r2t.itt());
            bhs.set_ttt(r2t.ttt());
            bhs.set_exp_sn(self.exp_stat_sn);
            bhs.set_u32(36, n as u32);
            bhs.set_u32(40, (start + n * self.segment as usize) as u32);
            push(&mut self.outbox, &mut self.pool, self.digests, bhs, piece);
        }
        Ok(())
    }
}

/// Queues a PDU. Long data gets a buffer of its own.
fn push(outbox: &mut Outbox, pool: &mut Pool, digests: Digests, mut bhs: Bhs, data: &[u8]) {
    bhs.set_data_len(data.len());
    let total = wire_length(digests, data.len());
    if data.len() < 2048 {
        lay_out(digests, outbox.append(total, pool), &bhs, data);
        return;
    }
    let mut buf = pool.take(total);
    let start = write_header(digests, &mut buf, &bhs);
    buf[start..start + data.len()].copy_from_slice(data);
    finish_data(digests, &mut buf[start..], data.len());
    outbox.push(buf, total);
}

/// What a data segment still has to fill.
fn segment_place<'a>(sent: &'a mut HashMap<u32, Sent>, incoming: &'a mut Incoming) -> Option<&'a mut [u8]> {
    let (filled, end) = (incoming.filled, incoming.bhs.data_len());
    match &mut incoming.place {
        Place::Own(data) => data.get_mut(filled..end),
        Place::Data(itt, at) => sent.get_mut(itt)?.data_in.get_mut(*at + filled..*at + end),
    }
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
