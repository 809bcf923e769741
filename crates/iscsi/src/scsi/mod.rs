//! The SCSI device server: commands of SPC-4 and SBC-3 on a [`model::BlockDevice`].
//!
//! [`plan`] decodes a command and makes every check that can be made without touching the medium. What is left is a
//! [`Plan`]: an answer, a transfer of blocks, or a [`Job`]. The connection moves the data and then runs [`sink`] or
//! [`run`]. This module knows nothing of PDUs; nothing in it blocks, and nothing in it can be made to panic by a CDB
//! or a parameter list.

pub mod attention;
mod block;
pub mod capacity;
mod copy;
pub mod flush;
mod inquiry;
mod legacy;
mod mode;
mod opcodes;
mod persist;
pub mod ranges;
pub mod reservation;
mod sanitize;
pub mod sense;
mod thin;
pub mod unit;
mod vpd;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use block::{Sink, sink};
use opcodes::{Access, Command};
use sense::{Sense, status};
use unit::Nexus;

/// The longest transfer of one command, in blocks.
pub const TRANSFER_MAX: u32 = 65_536;

/// The longest parameter list or data-out that a [`Plan::Collect`] gathers, in bytes.
pub const COLLECT_MAX: u32 = 1 << 20;

/// A command as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub nexus: &'a Arc<Nexus>,
    pub cdb: &'a [u8; 16],
    /// The data-out length that the initiator announced; zero unless it sends data.
    pub data_out: u32,
    /// The target's LUNs.
    pub luns: &'a [u16],
}

/// How a command ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u8,
    pub sense: Option<Sense>,
    /// Data-in, cut to the allocation length.
    pub data: Vec<u8>,
}

impl Answer {
    /// GOOD.
    pub const fn good() -> Self {
        Self { status: status::GOOD, sense: None, data: Vec::new() }
    }

    /// GOOD with the first `allocation` bytes of `data`.
    pub fn data(mut data: Vec<u8>, allocation: usize) -> Self {
        data.truncate(allocation);
        Self { status: status::GOOD, sense: None, data }
    }

    /// A status without sense data.
    pub const fn status(status: u8) -> Self {
        Self { status, sense: None, data: Vec::new() }
    }

    /// RESERVATION CONFLICT.
    pub const fn conflict() -> Self {
        Self::status(status::RESERVATION_CONFLICT)
    }
}

impl From<Sense> for Answer {
    fn from(sense: Sense) -> Self {
        Self { status: status::CHECK_CONDITION, sense: Some(sense), data: Vec::new() }
    }
}

/// What is left to do for a command.
#[derive(Debug)]
pub enum Plan {
    /// Nothing: this is the answer.
    Answer(Answer),
    /// Send these blocks.
    Read(Blocks),
    /// Receive these blocks and put each piece through [`sink`].
    Write(Blocks, Sink),
    /// Receive `length` bytes of data-out, at most [`COLLECT_MAX`], then [`run`].
    Collect { length: u32, job: Job },
    /// [`run`].
    Run(Job),
}

/// A stretch of logical blocks that lies inside the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    pub lba: u64,
    pub count: u32,
}

impl Blocks {
    /// The end, exclusive. Cannot overflow: it was checked against the unit's size.
    pub const fn end(&self) -> u64 {
        self.lba + self.count as u64
    }
}

/// Work that needs the device or other nexuses.
#[derive(Debug)]
pub enum Job {
    Flush,
    /// VERIFY without data-out: the blocks must be readable.
    Probe(Blocks),
    Unmap,
    WriteSame {
        lba: u64,
        count: u64,
        unmap: bool,
        no_data: bool,
    },
    CompareAndWrite {
        blocks: Blocks,
        fua: bool,
    },
    AtomicWrite {
        blocks: Blocks,
        fua: bool,
    },
    Copy,
    Erase,
    LbaStatus {
        lba: u64,
        allocation: u32,
    },
    ModeSelect {
        long: bool,
    },
    PersistOut(persist::Out),
    Eject,
}

/// Decodes a command, checks it, and says what is left to do.
pub fn plan(request: &Request<'_>) -> Plan {
    match admit(request) {
        Ok(command) => (command.run)(request).unwrap_or_else(Plan::Answer),
        Err(answer) => Plan::Answer(answer),
    }
}

/// The checks that come before a command's own, in the order of SAM-5: unit attention, existence, reservations, write
/// protection.
fn admit(request: &Request<'_>) -> Result<&'static Command, Answer> {
    let (nexus, unit) = (request.nexus, &request.nexus.unit);
    let found = opcodes::find(request.cdb);
    let exempt = found.as_ref().is_ok_and(|command| command.attention_exempt);
    if !exempt && let Some(attention) = nexus.attentions.take() {
        return Err(attention.sense().into());
    }
    let command = found?;
    if request.cdb[command.usage.len() - 1] & NACA != 0 {
        return Err(Sense::invalid_cdb(command.usage.len() as u16 - 1).into());
    }
    if !unit.reservations.allow(&nexus.port, command.access, command.legacy_exempt) {
        return Err(Answer::conflict());
    }
    if command.writes && (nexus.read_only || unit.protected()) {
        return Err(Sense::write_protected().into());
    }
    if unit.sanitizing.load(Ordering::Relaxed) && !command.attention_exempt {
        return Err(Sense::new(sense::key::NOT_READY, 0x04, 0x1b).into());
    }
    if command.access != Access::Always {
        unit.check_medium()?;
    }
    Ok(command)
}

/// The control byte's bit that asks for auto contingent allegiance, which is not supported.
const NACA: u8 = 0x04;

/// The answer for a LUN that does not exist: INQUIRY and REPORT LUNS work, REQUEST SENSE reports, the rest fails.
/// `luns` are those of the target.
pub fn plan_absent(cdb: &[u8; 16], luns: &[u16]) -> Answer {
    match cdb[0] {
        0x12 => inquiry::absent(cdb),
        0xa0 => capacity::report_luns_of(cdb, luns).unwrap_or_else(|answer| answer),
        0x03 => legacy::request_sense_absent(cdb),
        _ => Sense::no_such_lun().into(),
    }
}

/// Does a [`Job`]. `data` is what a [`Plan::Collect`] gathered.
pub async fn run(nexus: &Arc<Nexus>, job: Job, data: &[u8]) -> Answer {
    let unit = &nexus.unit;
    let outcome = match job {
        Job::Flush => unit.flushes.flush().await.map(|()| Answer::good()).map_err(|e| write_failure(&e)),
        Job::Probe(blocks) => block::probe(unit, blocks).await,
        Job::Unmap => thin::unmap(unit, data).await,
        Job::WriteSame { lba, count, unmap, no_data } => {
            let pattern = (!no_data).then_some(data);
            thin::write_same(unit, lba, count, unmap, pattern).await
        }
        Job::CompareAndWrite { blocks, fua } => block::compare_and_write(unit, blocks, fua, data).await,
        Job::AtomicWrite { blocks, fua } => block::atomic_write(unit, blocks, fua, data).await,
        Job::Copy => copy::copy(nexus, data).await,
        Job::Erase => sanitize::erase(unit).await,
        Job::LbaStatus { lba, allocation } => thin::lba_status(unit, lba, allocation).await,
        Job::ModeSelect { long } => mode::select(nexus, data, long),
        Job::PersistOut(out) => persist::out(nexus, &out, data).await,
        Job::Eject => legacy::eject(unit).await,
    };
    outcome.unwrap_or_else(|answer| answer)
}

/// What a failed write or flush means to the initiator.
fn write_failure(error: &io::Error) -> Answer {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Sense::space_exhausted(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Sense::write_protected(),
        // The size was checked: the device has shrunk since.
        io::ErrorKind::InvalidInput => Sense::lba_out_of_range(),
        _ => Sense::write_error(),
    }
    .into()
}

/// What a failed read means to the initiator.
pub fn read_failure(error: &io::Error) -> Answer {
    match error.kind() {
        io::ErrorKind::InvalidInput => Sense::lba_out_of_range(),
        _ => Sense::read_error(),
    }
    .into()
}

/// Big-endian fields of CDBs and parameter lists. All callers have checked the length.
fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at + 4))
}
