//! From bytes to PDUs: framing, digests, and where each data segment goes.

use std::io;
use std::time::Instant;

use super::task::{Slot, Stage};
use super::{Connection, OUTBOX_BATCH, OUTBOX_HIGH, Phase};
use crate::login::TEXT_MAX;
use crate::login::params::SEGMENT_MAX;
use crate::pdu::digest::{DIGEST_LEN, crc32c, crc32c_of};
use crate::pdu::{BHS_LEN, Bhs, op, padding, reject};

/// A PDU whose header is here and whose data segment is coming in.
#[derive(Debug)]
pub struct Incoming {
    pub bhs: Bhs,
    pub place: Place,
    filled: usize,
}

/// Where a data segment goes, and so what becomes of its PDU.
#[derive(Debug)]
pub enum Place {
    /// A SCSI command; its immediate data goes into its buffer, or nowhere when it has none.
    Command(Slot),
    /// Data-Out, at this offset of the command's buffer.
    DataOut(Slot, usize),
    /// A request of another kind.
    Request(Vec<u8>),
    /// The PDU is dropped.
    Ignore,
    /// The PDU is refused.
    Reject(u8),
    /// The PDU is refused and the connection closed.
    Fatal(u8),
}

impl Connection {
    /// Receives what the socket has.
    pub(super) fn receive(&mut self) -> io::Result<()> {
        let mut none = [];
        let direct: &mut [u8] = match &mut self.incoming {
            // What is in the inbox comes first.
            Some(incoming) if self.inbox.bytes().is_empty() => {
                let (filled, end) = (incoming.filled, incoming.bhs.data_len());
                match &mut incoming.place {
                    Place::Request(data) => data.get_mut(filled..end).unwrap_or(&mut none),
                    Place::Command(slot) => {
                        segment_place(&mut self.tasks, *slot, 0, filled, end).unwrap_or(&mut none)
                    }
                    Place::DataOut(slot, at) => {
                        segment_place(&mut self.tasks, *slot, *at, filled, end).unwrap_or(&mut none)
                    }
                    Place::Ignore | Place::Reject(_) | Place::Fatal(_) => &mut none,
                }
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
        Ok(())
    }

    /// Handles every complete PDU that is here.
    pub(super) fn parse(&mut self) -> io::Result<()> {
        while self.phase == Phase::Open {
            if self.outbox.len() >= OUTBOX_BATCH {
                self.transmit()?;
                if self.outbox.len() >= OUTBOX_HIGH {
                    return Ok(());
                }
            }
            let progress = if self.incoming.is_some() { self.take_segment()? } else { self.take_header()? };
            if !progress {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes the next header off the inbox; false when it is not all there.
    fn take_header(&mut self) -> io::Result<bool> {
        let bytes = self.inbox.bytes();
        let Some(header) = bytes.first_chunk::<BHS_LEN>() else { return Ok(false) };
        let bhs = Bhs(*header);
        let covered = BHS_LEN + bhs.ahs_len();
        let whole = covered + if self.params.digests.header { DIGEST_LEN } else { 0 };
        if bhs.data_len() > SEGMENT_MAX as usize {
            return Err(invalid("a data segment is longer than we take"));
        }
        if bytes.len() < whole {
            return Ok(false);
        }
        if self.params.digests.header && bytes[covered..whole] != crc32c(&bytes[..covered]) {
            return Err(invalid("a header digest is wrong"));
        }
        self.inbox.consume(whole);
        let place = self.place(&bhs);
        self.incoming = Some(Incoming { bhs, place, filled: 0 });
        Ok(true)
    }

    /// Decides where a PDU's data goes.
    fn place(&mut self, bhs: &Bhs) -> Place {
        match bhs.opcode() {
            op::SCSI_COMMAND => self.place_command(bhs),
            op::DATA_OUT => self.place_data_out(bhs),
            op::NOP_OUT => Place::Request(vec![0; bhs.data_len()]),
            op::TEXT if bhs.data_len() > TEXT_MAX => Place::Reject(reject::OUT_OF_RESOURCES),
            op::TEXT | op::TASK_MANAGEMENT | op::LOGOUT => {
                Place::Request(vec![0; bhs.data_len().min(TEXT_MAX)])
            }
            op::SNACK => Place::Reject(reject::SNACK),
            op::LOGIN => Place::Fatal(reject::PROTOCOL),
            _ => Place::Reject(reject::NOT_SUPPORTED),
        }
    }

    /// Takes what is there of a data segment off the inbox, and handles the PDU when it is complete; false when it is
    /// not.
    fn take_segment(&mut self) -> io::Result<bool> {
        let Some(incoming) = &mut self.incoming else { return Ok(false) };
        let end = incoming.bhs.data_len();
        let filled = incoming.filled;
        if filled < end {
            let taken = match &mut incoming.place {
                Place::Request(data) => data.get_mut(filled..end).map(|to| self.inbox.take(to)),
                Place::Command(slot) => {
                    segment_place(&mut self.tasks, *slot, 0, filled, end).map(|to| self.inbox.take(to))
                }
                Place::DataOut(slot, at) => {
                    segment_place(&mut self.tasks, *slot, *at, filled, end).map(|to| self.inbox.take(to))
                }
                Place::Ignore | Place::Reject(_) | Place::Fatal(_) => None,
            };
            // Without a place it is dropped.
            incoming.filled += taken.unwrap_or_else(|| {
                let count = self.inbox.bytes().len().min(end - filled);
                self.inbox.consume(count);
                count
            });
            if incoming.filled < end {
                return Ok(false);
            }
        }
        let digest = if self.params.digests.data && end > 0 { DIGEST_LEN } else { 0 };
        let tail = padding(end) + digest;
        if self.inbox.bytes().len() < tail {
            return Ok(false);
        }
        let right = digest == 0 || self.data_digest_is_right(end);
        self.inbox.consume(tail);
        let Some(incoming) = self.incoming.take() else { return Ok(false) };
        if !right {
            self.reject(&incoming.bhs, reject::DATA_DIGEST);
            self.phase = Phase::Closing;
            return Ok(true);
        }
        self.complete(incoming);
        Ok(true)
    }

    /// Checks the data digest of a segment that is in its place. One that went nowhere is not checked.
    fn data_digest_is_right(&mut self, end: usize) -> bool {
        let Some(incoming) = &mut self.incoming else { return true };
        let data: Option<&mut [u8]> = match &mut incoming.place {
            Place::Request(data) => data.get_mut(..end),
            Place::Command(slot) => segment_place(&mut self.tasks, *slot, 0, 0, end),
            Place::DataOut(slot, at) => segment_place(&mut self.tasks, *slot, *at, 0, end),
            Place::Ignore | Place::Reject(_) | Place::Fatal(_) => None,
        };
        let (pad, digest) = self.inbox.bytes()[..padding(end) + DIGEST_LEN].split_at(padding(end));
        data.is_none_or(|data| crc32c_of(&[data, pad]) == digest)
    }

    /// Handles a PDU that is all there.
    fn complete(&mut self, incoming: Incoming) {
        let bhs = incoming.bhs;
        match incoming.place {
            Place::Command(slot) => self.command(slot, &bhs),
            Place::DataOut(slot, _) => self.data_out(slot, &bhs),
            Place::Request(data) => self.request(&bhs, &data),
            Place::Ignore => {}
            Place::Reject(reason) => self.reject(&bhs, reason),
            Place::Fatal(reason) => {
                self.reject(&bhs, reason);
                self.phase = Phase::Closing;
            }
        }
    }

    /// Sends a Reject with the header that it is about.
    pub(super) fn reject(&mut self, about: &Bhs, reason: u8) {
        tracing::info!(peer = %self.peer, opcode = about.opcode(), reason, "PDU rejected");
        let mut bhs = Bhs::new(op::REJECT);
        bhs.0[2] = reason;
        bhs.set_itt(crate::pdu::NO_TAG);
        self.stamp(&mut bhs, true);
        self.send(bhs, &about.0);
    }
}

/// The part of a command's buffer that a data segment still has to fill; `None` when the command has no buffer or is
/// gone.
fn segment_place(
    tasks: &mut super::task::Tasks,
    slot: Slot,
    at: usize,
    filled: usize,
    end: usize,
) -> Option<&mut [u8]> {
    match &mut tasks.get_mut(slot)?.stage {
        Stage::Receiving(inbound) => inbound.buf.get_mut(at + filled..at + end),
        _ => None,
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
