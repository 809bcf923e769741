//! EXTENDED COPY (LID1) within a unit, and RECEIVE COPY RESULTS (SPC-4 sections 6.4 and 6.18).
//!
//! Only block to block segments whose source and destination are the unit itself: another unit may belong to somebody
//! else, and a copy must not reach further than the initiator that asks for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::block::within;
use super::ranges::Hold;
use super::sense::{Sense, key};
use super::unit::{LogicalUnit, Nexus};
use super::{Answer, Job, Plan, Request, be16, be32, be64, read_failure, write_failure};

/// The most CSCD and segment descriptors of one command, and their bytes.
pub const TARGETS_MAX: u16 = 8;
pub const SEGMENTS_MAX: u16 = 32;
pub const LIST_MAX: u32 = 2048;

const HEADER: usize = 16;
const TARGET_LEN: usize = 32;
const SEGMENT_LEN: usize = 28;
/// Descriptor types: a unit by its designator, and blocks to blocks.
const BY_DESIGNATOR: u8 = 0xe4;
const BLOCK_TO_BLOCK: u8 = 0x02;
/// How much is copied at a time, in bytes.
const STEP: u64 = 1 << 20;
/// List identifiers whose outcome is remembered, per nexus.
const REMEMBERED: usize = 8;

/// How a copy ended.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    list: u8,
    good: bool,
    segments: u16,
    bytes: u64,
}

/// The outcomes of the latest copies of a nexus.
#[derive(Debug, Default)]
pub struct Copies(Mutex<VecDeque<Outcome>>);

impl Copies {
    fn remember(&self, outcome: Outcome) {
        let mut list = self.0.lock().expect("no code panics while it holds this lock");
        list.retain(|other| other.list != outcome.list);
        if list.len() == REMEMBERED {
            list.pop_front();
        }
        list.push_back(outcome);
    }

    fn find(&self, list: u8) -> Option<Outcome> {
        let outcomes = self.0.lock().expect("no code panics while it holds this lock");
        outcomes.iter().find(|outcome| outcome.list == list).copied()
    }
}

/// A stretch to copy.
#[derive(Debug, Clone, Copy)]
struct Segment {
    from: u64,
    to: u64,
    blocks: u64,
}

/// EXTENDED COPY: gathers the parameter list.
pub fn plan(request: &Request<'_>) -> Result<Plan, Answer> {
    let length = be32(request.cdb, 10);
    if length == 0 {
        return Ok(Plan::Answer(Answer::good()));
    }
    if length < HEADER as u32
        || length > HEADER as u32 + LIST_MAX + TARGET_LEN as u32
        || request.data_out < length
    {
        return Err(Sense::parameter_list_length().into());
    }
    Ok(Plan::Collect { length, job: Job::Copy })
}

/// Does an EXTENDED COPY.
pub async fn copy(nexus: &Arc<Nexus>, list: &[u8]) -> Result<Answer, Answer> {
    let unit = &nexus.unit;
    let segments = read_list(unit, list)?;
    let mut outcome = Outcome { list: list[0], good: true, segments: 0, bytes: 0 };
    // List identifier usage 3: nobody will ask.
    let discard = list[1] >> 3 & 3 == 3;
    let mut result = Ok(Answer::good());
    for segment in segments {
        if let Err(answer) = copy_segment(unit, segment).await {
            outcome.good = false;
            result = Err(answer);
            break;
        }
        outcome.segments += 1;
        outcome.bytes += segment.blocks * u64::from(unit.block_size);
    }
    if !discard {
        nexus.copies.remember(outcome);
    }
    result
}

const fn aborted(asc: u8, ascq: u8) -> Sense {
    Sense::new(key::COPY_ABORTED, asc, ascq)
}

/// The segments of a parameter list, all checked.
fn read_list(unit: &LogicalUnit, list: &[u8]) -> Result<Vec<Segment>, Answer> {
    let (targets, segments) = (usize::from(be16(list, 2)), be32(list, 8) as usize);
    let inline = be32(list, 12);
    let descriptors = targets.checked_add(segments).filter(|sum| *sum <= LIST_MAX as usize);
    let end = descriptors.map(|sum| sum + HEADER).filter(|end| *end <= list.len());
    let end = end.ok_or_else(Sense::parameter_list_length)?;
    if inline != 0 {
        return Err(Sense::invalid_parameter(12).into());
    }
    let (targets, segments) = list[HEADER..end].split_at(targets);
    let own = read_targets(unit, targets)?;
    read_segments(unit, segments, &own)
}

/// For each CSCD descriptor whether it names this unit.
fn read_targets(unit: &LogicalUnit, list: &[u8]) -> Result<Vec<bool>, Answer> {
    if !list.len().is_multiple_of(TARGET_LEN) {
        return Err(Sense::parameter_list_length().into());
    }
    if list.len() / TARGET_LEN > usize::from(TARGETS_MAX) {
        return Err(Sense::new(key::ILLEGAL_REQUEST, 0x26, 0x06).into());
    }
    list.chunks_exact(TARGET_LEN)
        .map(|one| {
            if one[0] != BY_DESIGNATOR {
                return Err(Sense::new(key::ILLEGAL_REQUEST, 0x26, 0x07).into());
            }
            // Binary, of the unit, NAA, 16 bytes.
            let naa = one[4] & 0x0f == 1 && one[5] & 0x3f == 3 && one[7] == 16;
            Ok(naa && one[8..24] == unit.identity.naa())
        })
        .collect()
}

fn read_segments(unit: &LogicalUnit, mut list: &[u8], own: &[bool]) -> Result<Vec<Segment>, Answer> {
    let mut segments = Vec::new();
    while !list.is_empty() {
        if list[0] != BLOCK_TO_BLOCK {
            return Err(Sense::new(key::ILLEGAL_REQUEST, 0x26, 0x09).into());
        }
        if list.len() < SEGMENT_LEN || usize::from(be16(list, 2)) != SEGMENT_LEN - 4 {
            return Err(Sense::parameter_list_length().into());
        }
        if segments.len() == usize::from(SEGMENTS_MAX) {
            return Err(Sense::new(key::ILLEGAL_REQUEST, 0x26, 0x08).into());
        }
        let known = |index: u16| own.get(usize::from(index)).copied().unwrap_or(false);
        if !known(be16(list, 4)) || !known(be16(list, 6)) {
            // Copy target device not reachable.
            return Err(aborted(0x0d, 0x02).into());
        }
        let segment = Segment { blocks: u64::from(be16(list, 10)), from: be64(list, 12), to: be64(list, 20) };
        for start in [segment.from, segment.to] {
            within(unit, start, segment.blocks).map_err(|_| aborted(0x00, 0x00))?;
        }
        segments.push(segment);
        list = &list[SEGMENT_LEN..];
    }
    Ok(segments)
}

async fn copy_segment(unit: &LogicalUnit, segment: Segment) -> Result<(), Answer> {
    let size = u64::from(unit.block_size);
    let _guard = unit.ranges.hold(segment.to..segment.to + segment.blocks, Hold::Shared).await;
    let (from, to, length) = (segment.from * size, segment.to * size, segment.blocks * size);
    let mut buf = vec![0; length.min(STEP) as usize];
    let mut done = 0;
    while done < length {
        let piece = &mut buf[..(length - done).min(STEP) as usize];
        unit.device.read(from + done, piece).await.map_err(|e| read_failure(&e))?;
        unit.device.write(to + done, piece).await.map_err(|e| write_failure(&e))?;
        done += piece.len() as u64;
    }
    Ok(())
}

/// RECEIVE COPY RESULTS: COPY STATUS of a list identifier.
pub fn status(request: &Request<'_>) -> Result<Plan, Answer> {
    let outcome = request.nexus.copies.find(request.cdb[2]).ok_or_else(|| Sense::invalid_cdb(2))?;
    let mut data = vec![0, 0, 0, 8, if outcome.good { 0x01 } else { 0x02 }];
    data.extend_from_slice(&outcome.segments.to_be_bytes());
    // The count is in KiB.
    data.push(0x01);
    data.extend_from_slice(&u32::try_from(outcome.bytes >> 10).unwrap_or(u32::MAX).to_be_bytes());
    Ok(Plan::Answer(Answer::data(data, be32(request.cdb, 10) as usize)))
}

/// RECEIVE COPY RESULTS: OPERATING PARAMETERS.
pub fn parameters(request: &Request<'_>) -> Result<Plan, Answer> {
    let mut data = vec![0; 46];
    data[3] = 42;
    // SNLID: copies without a list identifier are fine.
    data[4] = 0x01;
    data[8..10].copy_from_slice(&TARGETS_MAX.to_be_bytes());
    data[10..12].copy_from_slice(&SEGMENTS_MAX.to_be_bytes());
    data[12..16].copy_from_slice(&LIST_MAX.to_be_bytes());
    data[16..20].copy_from_slice(&(u32::from(u16::MAX) * request.nexus.unit.block_size).to_be_bytes());
    // Copies at a time, in all and of a nexus.
    data[34..36].copy_from_slice(&32u16.to_be_bytes());
    data[36] = 32;
    data[37] = request.nexus.unit.block_size.trailing_zeros() as u8;
    data[43] = 2;
    data[44] = BLOCK_TO_BLOCK;
    data[45] = BY_DESIGNATOR;
    Ok(Plan::Answer(Answer::data(data, be32(request.cdb, 10) as usize)))
}

/// The body of VPD page 8f.
pub fn third_party_page() -> Vec<u8> {
    let mut page = Vec::new();
    // Supported commands: EXTENDED COPY (LID1); RECEIVE COPY RESULTS, status and parameters.
    page.extend_from_slice(&[0x00, 0x01, 0x00, 0x08, 7, 0x83, 1, 0x00, 0x84, 2, 0x00, 0x03]);
    // Parameter data.
    let mut parameters = [0; 32];
    parameters[..4].copy_from_slice(&[0x00, 0x04, 0x00, 0x1c]);
    parameters[8..10].copy_from_slice(&TARGETS_MAX.to_be_bytes());
    parameters[10..12].copy_from_slice(&SEGMENTS_MAX.to_be_bytes());
    parameters[12..16].copy_from_slice(&LIST_MAX.to_be_bytes());
    page.extend_from_slice(&parameters);
    // Supported descriptors.
    page.extend_from_slice(&[0x00, 0x08, 0x00, 0x04, 2, BLOCK_TO_BLOCK, BY_DESIGNATOR, 0x00]);
    // General copy operations: one at a time of each, as many as there are commands.
    let mut general = [0; 36];
    general[..4].copy_from_slice(&[0x80, 0x01, 0x00, 0x20]);
    general[4..8].copy_from_slice(&32u32.to_be_bytes());
    general[8..12].copy_from_slice(&32u32.to_be_bytes());
    page.extend_from_slice(&general);
    page
}
