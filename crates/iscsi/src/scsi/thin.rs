//! Thin provisioning and repeated blocks: UNMAP, WRITE SAME, GET LBA STATUS.

use model::ExtentKind;

use super::block::within;
use super::ranges::Hold;
use super::sense::Sense;
use super::unit::LogicalUnit;
use super::{Answer, Job, Plan, Request, be16, be32, be64, read_failure, write_failure};

/// The most blocks that one UNMAP gives back.
pub const UNMAP_BLOCKS_MAX: u32 = 1 << 20;
/// The most descriptors of one UNMAP.
pub const UNMAP_DESCRIPTORS_MAX: u32 = 256;
/// The most blocks of one WRITE SAME.
pub const WRITE_SAME_MAX: u64 = 1 << 23;

/// How much of a repeated pattern is written at a time, in bytes.
const PATTERN_STEP: usize = 256 << 10;
/// The most descriptors in one answer to GET LBA STATUS.
const STATUS_DESCRIPTORS_MAX: usize = 256;

pub fn write_same10(request: &Request<'_>) -> Result<Plan, Answer> {
    let cdb = request.cdb;
    write_same_plan(request, u64::from(be32(cdb, 2)), u64::from(be16(cdb, 7)), 7, false)
}

pub fn write_same16(request: &Request<'_>) -> Result<Plan, Answer> {
    let cdb = request.cdb;
    write_same_plan(request, be64(cdb, 2), u64::from(be32(cdb, 10)), 10, cdb[1] & 0x01 != 0)
}

/// `length_at` is the place of the length field, `no_data` the NDOB bit.
fn write_same_plan(
    request: &Request<'_>,
    lba: u64,
    count: u64,
    length_at: u16,
    no_data: bool,
) -> Result<Plan, Answer> {
    let (unit, flags) = (&request.nexus.unit, request.cdb[1]);
    // Protection information, ANCHOR, PBDATA and LBDATA are not supported.
    if flags & 0xf6 != 0 {
        return Err(Sense::invalid_cdb(1).into());
    }
    within(unit, lba, count)?;
    let count = if count == 0 { unit.blocks() - lba } else { count };
    if count > WRITE_SAME_MAX {
        return Err(Sense::invalid_cdb(length_at).into());
    }
    let job = Job::WriteSame { lba, count, unmap: flags & 0x08 != 0, no_data };
    if no_data {
        return Ok(Plan::Run(job));
    }
    if request.data_out != unit.block_size {
        return Err(Sense::invalid_cdb(length_at).into());
    }
    Ok(Plan::Collect { length: unit.block_size, job })
}

/// Repeats a block; none means zeros. With `unmap` the blocks are given back to the pool instead, and read as zeros,
/// whatever the block holds: SBC-3 lets the device choose, LIO and Linux' scsi_debug do it this way, and initiators
/// that ask for it send zeros.
pub async fn write_same(
    unit: &LogicalUnit,
    lba: u64,
    count: u64,
    unmap: bool,
    pattern: Option<&[u8]>,
) -> Result<Answer, Answer> {
    let size = u64::from(unit.block_size);
    let (offset, length) = (lba * size, count * size);
    let _guard = unit.ranges.hold(lba..lba + count, Hold::Shared).await;
    if length == 0 {
        return Ok(Answer::good());
    }
    if unmap || pattern.is_none_or(|block| block.iter().all(|byte| *byte == 0)) {
        let done = if unmap {
            unit.device.discard(offset, length).await
        } else {
            unit.device.write_zeroes(offset, length).await
        };
        return done.map(|()| Answer::good()).map_err(|e| write_failure(&e));
    }
    let block = pattern.unwrap_or_default();
    let step = (PATTERN_STEP as u64).min(length);
    let repeated = block.repeat((step / size) as usize);
    let mut at = 0;
    while at < length {
        let piece = &repeated[..(length - at).min(step) as usize];
        unit.device.write(offset + at, piece).await.map_err(|e| write_failure(&e))?;
        at += piece.len() as u64;
    }
    Ok(Answer::good())
}

/// UNMAP: gathers the parameter list.
pub fn unmap_plan(request: &Request<'_>) -> Result<Plan, Answer> {
    let cdb = request.cdb;
    // ANCHOR is not supported.
    if cdb[1] & 0x01 != 0 {
        return Err(Sense::invalid_cdb(1).into());
    }
    let length = u32::from(be16(cdb, 7));
    if length == 0 {
        return Ok(Plan::Answer(Answer::good()));
    }
    if length < 8 || request.data_out < length {
        return Err(Sense::parameter_list_length().into());
    }
    Ok(Plan::Collect { length, job: Job::Unmap })
}

/// The stretches of an UNMAP parameter list, all checked before the first is given back.
fn unmap_list(unit: &LogicalUnit, list: &[u8]) -> Result<Vec<(u64, u64)>, Answer> {
    if list.len() < 8 {
        return Err(Sense::parameter_list_length().into());
    }
    let (data_length, descriptors) = (usize::from(be16(list, 0)), usize::from(be16(list, 2)));
    if data_length + 2 < 8 || data_length + 2 > list.len() {
        return Err(Sense::parameter_list_length().into());
    }
    if descriptors > list.len() - 8 {
        return Err(Sense::parameter_list_length().into());
    }
    // A descriptor that is cut short is ignored, as the standard wants it.
    let stretches: Vec<(u64, u64)> = list[8..8 + descriptors]
        .chunks_exact(16)
        .map(|descriptor| (be64(descriptor, 0), u64::from(be32(descriptor, 8))))
        .collect();
    if stretches.len() > UNMAP_DESCRIPTORS_MAX as usize {
        return Err(Sense::invalid_parameter(2).into());
    }
    let mut total = 0;
    for (lba, count) in &stretches {
        within(unit, *lba, *count)?;
        total += count;
    }
    if total > u64::from(UNMAP_BLOCKS_MAX) {
        return Err(Sense::invalid_parameter(8).into());
    }
    Ok(stretches)
}

/// Gives the stretches of a parameter list back to the pool.
pub async fn unmap(unit: &LogicalUnit, list: &[u8]) -> Result<Answer, Answer> {
    let size = u64::from(unit.block_size);
    for (lba, count) in unmap_list(unit, list)? {
        if count > 0 {
            let _guard = unit.ranges.hold(lba..lba + count, Hold::Shared).await;
            unit.device.discard(lba * size, count * size).await.map_err(|e| write_failure(&e))?;
        }
    }
    Ok(Answer::good())
}

pub fn lba_status_plan(request: &Request<'_>) -> Result<Plan, Answer> {
    let (lba, allocation) = (be64(request.cdb, 2), be32(request.cdb, 10));
    if lba >= request.nexus.unit.blocks() {
        return Err(Sense::lba_out_of_range().into());
    }
    Ok(Plan::Run(Job::LbaStatus { lba, allocation }))
}

/// GET LBA STATUS: as many descriptors as the allocation length has room for, at least one.
pub async fn lba_status(unit: &LogicalUnit, lba: u64, allocation: u32) -> Result<Answer, Answer> {
    let size = u64::from(unit.block_size);
    let room = (allocation.saturating_sub(8) as usize / 16).clamp(1, STATUS_DESCRIPTORS_MAX);
    // (first block, blocks, deallocated)
    let mut stretches: Vec<(u64, u32, bool)> = Vec::new();
    let (mut at, end) = (lba, unit.blocks());
    while at < end {
        let extent =
            unit.device.block_status(at * size, (end - at) * size).await.map_err(|e| read_failure(&e))?;
        let hole = extent.kind == ExtentKind::Hole;
        // A stretch that ends inside a block: the block counts as mapped.
        let whole = if hole { extent.length / size } else { extent.length.div_ceil(size) };
        let (count, hole) = if whole == 0 { (1, false) } else { (whole.min(end - at), hole) };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let full = stretches.len() == room;
        let joins =
            stretches.last_mut().filter(|(_, last, kind)| *kind == hole && last.checked_add(count).is_some());
        match joins {
            Some((_, last, _)) => *last += count,
            None if full => break,
            None => stretches.push((at, count, hole)),
        }
        at += u64::from(count);
    }
    let mut data = vec![0; 8];
    for (first, count, hole) in stretches {
        data.extend_from_slice(&first.to_be_bytes());
        data.extend_from_slice(&count.to_be_bytes());
        data.extend_from_slice(&[u8::from(hole), 0, 0, 0]);
    }
    let length = (data.len() - 4) as u32;
    data[..4].copy_from_slice(&length.to_be_bytes());
    Ok(Answer::data(data, allocation as usize))
}
