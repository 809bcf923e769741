//! MODE SENSE and MODE SELECT.
//!
//! All pages are shared by all nexuses. D_SENSE and SWP of the control page can be changed; nothing is saved.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::attention::Attention;
use super::sense::Sense;
use super::unit::{LogicalUnit, Nexus};
use super::{Answer, Job, Plan, Request, be16, be32};

/// Written data may be lost until it is flushed: WCE.
pub const WRITE_CACHE: bool = true;

/// The pages there are: page, subpage.
const PAGES: [(u8, u8); 6] = [(0x01, 0), (0x02, 0), (0x08, 0), (0x0a, 0), (0x0a, 1), (0x1c, 0)];

const D_SENSE: u8 = 0x04;
const SWP: u8 = 0x08;

/// Which values are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    Current,
    Changeable,
    Default,
}

pub fn sense6(request: &Request<'_>) -> Result<Plan, Answer> {
    let cdb = request.cdb;
    sense(request, usize::from(cdb[4]), false)
}

pub fn sense10(request: &Request<'_>) -> Result<Plan, Answer> {
    let cdb = request.cdb;
    sense(request, usize::from(be16(cdb, 7)), true)
}

fn sense(request: &Request<'_>, allocation: usize, long: bool) -> Result<Plan, Answer> {
    let (cdb, unit) = (request.cdb, &request.nexus.unit);
    let values = match cdb[2] >> 6 {
        0 => Values::Current,
        1 => Values::Changeable,
        2 => Values::Default,
        _ => return Err(Sense::new(super::sense::key::ILLEGAL_REQUEST, 0x39, 0x00).into()),
    };
    let (page, subpage) = (cdb[2] & 0x3f, cdb[3]);
    let wanted: Vec<(u8, u8)> = PAGES
        .into_iter()
        .filter(|(p, s)| (page == 0x3f || *p == page) && (subpage == 0xff || *s == subpage))
        .collect();
    if wanted.is_empty() {
        return Err(Sense::invalid_cdb(2).into());
    }
    let descriptor =
        if cdb[1] & 0x08 != 0 { Vec::new() } else { block_descriptor(unit, long && cdb[1] & 0x10 != 0) };
    let protected = request.nexus.read_only || unit.protected();
    // WP, and DPOFUA: both bits are accepted.
    let device = if protected { 0x80 } else { 0 } | 0x10;
    let pages: Vec<u8> = wanted.into_iter().flat_map(|(p, s)| page_of(unit, p, s, values)).collect();
    let mut data = if long {
        let long_lba = u8::from(descriptor.len() == 16);
        let [high, low] = (descriptor.len() as u16).to_be_bytes();
        vec![0, 0, 0, device, long_lba, 0, high, low]
    } else {
        vec![0, 0, device, descriptor.len() as u8]
    };
    data.extend_from_slice(&descriptor);
    data.extend_from_slice(&pages);
    if long {
        let length = (data.len() - 2) as u16;
        data[..2].copy_from_slice(&length.to_be_bytes());
    } else {
        data[0] = u8::try_from(data.len() - 1).unwrap_or(u8::MAX);
    }
    Ok(Plan::Answer(Answer::data(data, allocation)))
}

fn block_descriptor(unit: &LogicalUnit, long: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16);
    if long {
        bytes.extend_from_slice(&unit.blocks().to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
    } else {
        bytes.extend_from_slice(&u32::try_from(unit.blocks()).unwrap_or(u32::MAX).to_be_bytes());
    }
    bytes.extend_from_slice(&unit.block_size.to_be_bytes());
    bytes
}

fn page_of(unit: &LogicalUnit, page: u8, subpage: u8, values: Values) -> Vec<u8> {
    let mut bytes = match (page, subpage) {
        // Read-write error recovery.
        (0x01, _) => with_header(0x01, 10),
        // Disconnect-reconnect: nothing to say over iSCSI.
        (0x02, _) => with_header(0x02, 14),
        (0x08, _) => {
            let mut caching = with_header(0x08, 18);
            if WRITE_CACHE && values != Values::Changeable {
                caching[2] = 0x04;
            }
            caching
        }
        (0x0a, 0) => control(unit, values),
        // Control extension.
        (0x0a, _) => {
            let mut extension = vec![0; 32];
            extension[..4].copy_from_slice(&[0x4a, 0x01, 0x00, 0x1c]);
            extension
        }
        // Informational exceptions: reported nowhere.
        _ => with_header(0x1c, 10),
    };
    if page == 0x1c && values != Values::Changeable {
        // DEXCPT.
        bytes[2] = 0x08;
    }
    bytes
}

fn with_header(page: u8, length: u8) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(length) + 2];
    bytes[0] = page;
    bytes[1] = length;
    bytes
}

fn control(unit: &LogicalUnit, values: Values) -> Vec<u8> {
    let mut bytes = with_header(0x0a, 10);
    match values {
        Values::Changeable => {
            bytes[2] = D_SENSE;
            bytes[4] = SWP;
        }
        Values::Current => {
            bytes[2] = if unit.descriptor_sense.load(Ordering::Relaxed) { D_SENSE } else { 0 };
            bytes[4] = if unit.software_protect.load(Ordering::Relaxed) { SWP } else { 0 };
        }
        Values::Default => {}
    }
    if values != Values::Changeable {
        // Unrestricted reordering; busy time-out without limit.
        bytes[3] = 0x10;
        bytes[8..10].copy_from_slice(&[0xff, 0xff]);
    }
    bytes
}

pub fn select6(request: &Request<'_>) -> Result<Plan, Answer> {
    select_plan(request, u32::from(request.cdb[4]), false)
}

pub fn select10(request: &Request<'_>) -> Result<Plan, Answer> {
    select_plan(request, u32::from(be16(request.cdb, 7)), true)
}

fn select_plan(request: &Request<'_>, length: u32, long: bool) -> Result<Plan, Answer> {
    // PF must be set; nothing can be saved.
    if request.cdb[1] & 0x11 != 0x10 {
        return Err(Sense::invalid_cdb(1).into());
    }
    if length == 0 {
        return Ok(Plan::Answer(Answer::good()));
    }
    if request.data_out < length {
        return Err(Sense::parameter_list_length().into());
    }
    Ok(Plan::Collect { length, job: Job::ModeSelect { long } })
}

/// Applies a parameter list: all of it or, when any page is wrong, nothing.
pub fn select(nexus: &Arc<Nexus>, list: &[u8], long: bool) -> Result<Answer, Answer> {
    let unit = &nexus.unit;
    let header = if long { 8 } else { 4 };
    if list.len() < header {
        return Err(Sense::parameter_list_length().into());
    }
    let descriptors = if long { usize::from(be16(list, 6)) } else { usize::from(list[3]) };
    if list.len() < header + descriptors {
        return Err(Sense::parameter_list_length().into());
    }
    check_descriptor(unit, &list[header..header + descriptors], header as u16)?;
    let mut new_control = None;
    let mut at = header + descriptors;
    while at < list.len() {
        let (page, subpage) = (list[at] & 0x3f, list[at] & 0x40 != 0);
        let start = if subpage { 4 } else { 2 };
        if list.len() < at + start {
            return Err(Sense::parameter_list_length().into());
        }
        let length = if subpage { usize::from(be16(list, at + 2)) } else { usize::from(list[at + 1]) };
        let end = at + start + length;
        if end > list.len() {
            return Err(Sense::parameter_list_length().into());
        }
        let number = if subpage { list[at + 1] } else { 0 };
        check_page(unit, &list[at..end], (page, number), at as u16)?;
        if (page, number) == (0x0a, 0) {
            new_control = Some((list[at + 2] & D_SENSE != 0, list[at + 4] & SWP != 0));
        }
        at = end;
    }
    if let Some((descriptor_sense, protect)) = new_control {
        let was = unit.descriptor_sense.swap(descriptor_sense, Ordering::Relaxed);
        let protected = unit.software_protect.swap(protect, Ordering::Relaxed);
        if (was, protected) != (descriptor_sense, protect) {
            unit.raise(Attention::MODE_CHANGED, Some(nexus));
        }
    }
    Ok(Answer::good())
}

/// A block descriptor must say what is so already.
fn check_descriptor(unit: &LogicalUnit, descriptor: &[u8], at: u16) -> Result<(), Answer> {
    let block_size = match descriptor.len() {
        0 => return Ok(()),
        8 => be32(descriptor, 4) & 0xff_ffff,
        16 => be32(descriptor, 12),
        _ => return Err(Sense::invalid_parameter(at - 1).into()),
    };
    if block_size == unit.block_size { Ok(()) } else { Err(Sense::invalid_parameter(at + 4).into()) }
}

/// A page must be one of ours, of its right length, and may differ only in what can be changed.
fn check_page(unit: &LogicalUnit, new: &[u8], name: (u8, u8), at: u16) -> Result<(), Answer> {
    if !PAGES.contains(&name) {
        return Err(Sense::invalid_parameter(at).into());
    }
    let current = page_of(unit, name.0, name.1, Values::Current);
    let changeable = page_of(unit, name.0, name.1, Values::Changeable);
    if new.len() != current.len() {
        return Err(Sense::invalid_parameter(at + 1).into());
    }
    let header = if name.1 == 0 { 2 } else { 4 };
    for n in header..new.len() {
        if (new[n] ^ current[n]) & !changeable[n] != 0 {
            return Err(Sense::invalid_parameter(at + n as u16).into());
        }
    }
    Ok(())
}
