//! Commands that move blocks: READ, WRITE, VERIFY, WRITE AND VERIFY, ORWRITE, COMPARE AND WRITE, PRE-FETCH,
//! SYNCHRONIZE CACHE.

use std::sync::Arc;

use super::ranges::Hold;
use super::sense::Sense;
use super::unit::LogicalUnit;
use super::{
    Answer, Blocks, Job, Plan, Request, TRANSFER_MAX, be16, be32, be64, read_failure, write_failure,
};

/// The most blocks of one COMPARE AND WRITE.
pub const COMPARE_AND_WRITE_MAX: u8 = 128;

/// How much of the medium a comparison reads at a time, in bytes.
const COMPARE_STEP: usize = 256 << 10;

const FUA: u8 = 0x08;

/// What becomes of received data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// Written; durable before the answer when `fua`.
    Write { fua: bool },
    /// Written and compared with what the medium holds then.
    WriteVerify { compare: bool },
    /// Compared with the medium.
    Compare,
    /// One block, compared with each of the blocks.
    CompareEach { count: u32 },
    /// Or-ed into the medium, atomically.
    Or { fua: bool },
}

/// Address and length of a CDB by the size of its group.
fn blocks(request: &Request<'_>) -> Result<Blocks, Answer> {
    let cdb = request.cdb;
    let (lba, count) = match cdb[0] >> 5 {
        0 => {
            let lba = u64::from(be32(cdb, 0) & 0x1f_ffff);
            (lba, if cdb[4] == 0 { 256 } else { u32::from(cdb[4]) })
        }
        1 | 2 => (u64::from(be32(cdb, 2)), u32::from(be16(cdb, 7))),
        5 => (u64::from(be32(cdb, 2)), be32(cdb, 6)),
        _ => (be64(cdb, 2), be32(cdb, 10)),
    };
    within(&request.nexus.unit, lba, u64::from(count))?;
    Ok(Blocks { lba, count })
}

/// Checks that a stretch lies inside the unit. An address past the end is wrong even for no blocks.
pub fn within(unit: &LogicalUnit, lba: u64, count: u64) -> Result<(), Answer> {
    let size = unit.blocks();
    match lba.checked_add(count) {
        Some(end) if end <= size => Ok(()),
        _ => Err(Sense::lba_out_of_range().into()),
    }
}

/// [`blocks`] of a transfer: not longer than announced in the block limits page, and without protection information.
fn transfer(request: &Request<'_>) -> Result<Blocks, Answer> {
    if request.cdb[0] >> 5 != 0 && request.cdb[1] & 0xe0 != 0 {
        return Err(Sense::invalid_cdb(1).into());
    }
    let blocks = blocks(request)?;
    if blocks.count > TRANSFER_MAX {
        return Err(Sense::invalid_cdb(if request.cdb[0] >> 5 == 4 { 10 } else { 7 }).into());
    }
    Ok(blocks)
}

/// READ.
pub fn read(request: &Request<'_>) -> Result<Plan, Answer> {
    transfer(request).map(Plan::Read)
}

/// WRITE.
pub fn write(request: &Request<'_>) -> Result<Plan, Answer> {
    let fua = request.cdb[0] >> 5 != 0 && request.cdb[1] & FUA != 0;
    Ok(Plan::Write(transfer(request)?, Sink::Write { fua }))
}

/// ORWRITE.
pub fn orwrite(request: &Request<'_>) -> Result<Plan, Answer> {
    Ok(Plan::Write(transfer(request)?, Sink::Or { fua: request.cdb[1] & FUA != 0 }))
}

/// WRITE AND VERIFY.
pub fn write_verify(request: &Request<'_>) -> Result<Plan, Answer> {
    let compare = match request.cdb[1] >> 1 & 3 {
        0 => false,
        1 => true,
        _ => return Err(Sense::invalid_cdb(1).into()),
    };
    Ok(Plan::Write(transfer(request)?, Sink::WriteVerify { compare }))
}

/// VERIFY.
pub fn verify(request: &Request<'_>) -> Result<Plan, Answer> {
    if request.cdb[1] & 0xe0 != 0 {
        return Err(Sense::invalid_cdb(1).into());
    }
    match request.cdb[1] >> 1 & 3 {
        0 => Ok(Plan::Run(Job::Probe(blocks(request)?))),
        1 => Ok(Plan::Write(transfer(request)?, Sink::Compare)),
        3 => {
            let blocks = blocks(request)?;
            let one = Blocks { lba: blocks.lba, count: blocks.count.min(1) };
            Ok(Plan::Write(one, Sink::CompareEach { count: blocks.count }))
        }
        _ => Err(Sense::invalid_cdb(1).into()),
    }
}

/// PRE-FETCH. Nothing is fetched: the page cache decides for itself. CONDITION MET would promise that all of it fits.
pub fn prefetch(request: &Request<'_>) -> Result<Plan, Answer> {
    blocks(request)?;
    Ok(Plan::Answer(Answer::good()))
}

/// SYNCHRONIZE CACHE: of the whole unit, whatever the range. IMMED may be answered early; it is not.
pub fn synchronize(request: &Request<'_>) -> Result<Plan, Answer> {
    let blocks = blocks(request)?;
    // Zero blocks means to the end: the address alone must be inside.
    within(&request.nexus.unit, blocks.lba, 0)?;
    Ok(Plan::Run(Job::Flush))
}

/// COMPARE AND WRITE: gathers both halves of the data.
pub fn compare_and_write_plan(request: &Request<'_>) -> Result<Plan, Answer> {
    let cdb = request.cdb;
    if cdb[1] & 0xe0 != 0 {
        return Err(Sense::invalid_cdb(1).into());
    }
    let blocks = Blocks { lba: be64(cdb, 2), count: u32::from(cdb[13]) };
    within(&request.nexus.unit, blocks.lba, u64::from(blocks.count))?;
    if cdb[13] > COMPARE_AND_WRITE_MAX {
        return Err(Sense::invalid_cdb(13).into());
    }
    let length = 2 * blocks.count * request.nexus.unit.block_size;
    if request.data_out != length {
        return Err(Sense::invalid_cdb(13).into());
    }
    Ok(Plan::Collect { length, job: Job::CompareAndWrite { blocks, fua: cdb[1] & FUA != 0 } })
}

/// WRITE ATOMIC (16).
pub fn atomic_write_plan(request: &Request<'_>) -> Result<Plan, Answer> {
    let (cdb, unit) = (request.cdb, &request.nexus.unit);
    if unit.atomic_blocks == 0 {
        return Err(Sense::invalid_opcode().into());
    }
    if cdb[1] & 0xe0 != 0 {
        return Err(Sense::invalid_cdb(1).into());
    }
    let blocks = Blocks { lba: be64(cdb, 2), count: u32::from(be16(cdb, 12)) };
    within(unit, blocks.lba, u64::from(blocks.count))?;
    // Atomic boundaries are not supported.
    if be16(cdb, 10) != 0 || blocks.count > unit.atomic_blocks {
        return Err(Sense::invalid_cdb(12).into());
    }
    let length = blocks.count * unit.block_size;
    if request.data_out != length {
        return Err(Sense::invalid_cdb(12).into());
    }
    Ok(Plan::Collect { length, job: Job::AtomicWrite { blocks, fua: cdb[1] & FUA != 0 } })
}

/// Writes all of it in one request to the device, beside nobody.
pub async fn atomic_write(
    unit: &LogicalUnit,
    blocks: Blocks,
    fua: bool,
    data: &[u8],
) -> Result<Answer, Answer> {
    if blocks.count > 0 {
        let _guard = unit.ranges.hold(blocks.lba..blocks.end(), Hold::Exclusive).await;
        let offset = blocks.lba * u64::from(unit.block_size);
        unit.device.write(offset, data).await.map_err(|e| write_failure(&e))?;
    }
    if fua {
        unit.flushes.flush().await.map_err(|e| write_failure(&e))?;
    }
    Ok(Answer::good())
}

/// Puts a piece of received data where it belongs. `at` is its first block and `data` holds whole blocks.
///
/// # Errors
/// The answer that ends the command.
pub async fn sink(unit: &LogicalUnit, how: Sink, at: u64, data: &[u8]) -> Result<(), Answer> {
    let size = u64::from(unit.block_size);
    let (offset, count) = (at * size, data.len() as u64 / size);
    match how {
        Sink::Write { .. } => {
            let _guard = unit.ranges.hold(at..at + count, Hold::Shared).await;
            unit.device.write(offset, data).await.map_err(|e| write_failure(&e))
        }
        Sink::WriteVerify { compare } => {
            let _guard = unit.ranges.hold(at..at + count, Hold::Exclusive).await;
            unit.device.write(offset, data).await.map_err(|e| write_failure(&e))?;
            unit.flushes.flush().await.map_err(|e| write_failure(&e))?;
            if compare { same(unit, offset, data, 0).await } else { Ok(()) }
        }
        Sink::Compare => same(unit, offset, data, 0).await,
        Sink::CompareEach { count } => {
            let repeated = data.repeat((COMPARE_STEP as u64 / size).min(u64::from(count)) as usize);
            let (mut at, end) = (0, u64::from(count) * size);
            while at < end {
                let piece = &repeated[..(end - at).min(repeated.len() as u64) as usize];
                same(unit, offset + at, piece, at).await?;
                at += piece.len() as u64;
            }
            Ok(())
        }
        Sink::Or { .. } => {
            let _guard = unit.ranges.hold(at..at + count, Hold::Exclusive).await;
            let mut merged = vec![0; data.len()];
            unit.device.read(offset, &mut merged).await.map_err(|e| read_failure(&e))?;
            for (byte, new) in merged.iter_mut().zip(data) {
                *byte |= new;
            }
            unit.device.write(offset, &merged).await.map_err(|e| write_failure(&e))
        }
    }
}

impl Sink {
    /// Whether the answer must wait for a flush after all data is down.
    pub const fn durable(self) -> bool {
        matches!(self, Self::Write { fua: true } | Self::Or { fua: true })
    }
}

/// Compares the medium at `offset` with `data`; a difference is reported `base` bytes further on.
async fn same(unit: &LogicalUnit, offset: u64, data: &[u8], base: u64) -> Result<(), Answer> {
    let mut medium = vec![0; data.len().min(COMPARE_STEP)];
    for (n, piece) in data.chunks(COMPARE_STEP).enumerate() {
        let done = (n * COMPARE_STEP) as u64;
        let medium = &mut medium[..piece.len()];
        unit.device.read(offset + done, medium).await.map_err(|e| read_failure(&e))?;
        if medium != piece {
            let at = medium.iter().zip(piece).position(|(a, b)| a != b).unwrap_or(0);
            return Err(Sense::miscompare(base + done + at as u64).into());
        }
    }
    Ok(())
}

/// Reads blocks to see whether they can be read.
pub async fn probe(unit: &LogicalUnit, blocks: Blocks) -> Result<Answer, Answer> {
    let size = u64::from(unit.block_size);
    let (mut offset, end) = (blocks.lba * size, blocks.end() * size);
    let mut scratch = vec![0; usize::try_from(end - offset).unwrap_or(usize::MAX).min(COMPARE_STEP)];
    while offset < end {
        // Holes cannot fail.
        let extent = unit.device.block_status(offset, end - offset).await.map_err(|e| read_failure(&e))?;
        let length = extent.length.clamp(1, end - offset);
        if extent.kind != model::ExtentKind::Data {
            offset += length;
            continue;
        }
        let step = length.min(scratch.len() as u64);
        let piece = &mut scratch[..step as usize];
        unit.device.read(offset, piece).await.map_err(|e| read_failure(&e))?;
        offset += step;
    }
    Ok(Answer::good())
}

/// COMPARE AND WRITE: `data` holds the expected blocks, then the new ones.
pub async fn compare_and_write(
    unit: &Arc<LogicalUnit>,
    blocks: Blocks,
    fua: bool,
    data: &[u8],
) -> Result<Answer, Answer> {
    if blocks.count == 0 {
        return Ok(Answer::good());
    }
    let (expected, new) = data.split_at(data.len() / 2);
    let offset = blocks.lba * u64::from(unit.block_size);
    {
        let _guard = unit.ranges.hold(blocks.lba..blocks.end(), Hold::Exclusive).await;
        same(unit, offset, expected, 0).await?;
        unit.device.write(offset, new).await.map_err(|e| write_failure(&e))?;
    }
    if fua {
        unit.flushes.flush().await.map_err(|e| write_failure(&e))?;
    }
    Ok(Answer::good())
}
