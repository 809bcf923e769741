//! INQUIRY: vital product data pages.

use super::block::COMPARE_AND_WRITE_MAX;
use super::inquiry::padded;
use super::thin::{UNMAP_BLOCKS_MAX, UNMAP_DESCRIPTORS_MAX, WRITE_SAME_MAX};
use super::unit::{LogicalUnit, Nexus};
use super::{TRANSFER_MAX, copy, mode};

/// The pages there are, ascending.
const PAGES: [u8; 10] = [0x00, 0x80, 0x83, 0x86, 0x87, 0x88, 0x8f, 0xb0, 0xb1, 0xb2];

/// A page with its header, or nothing when it is not offered.
pub fn page(nexus: &Nexus, page: u8) -> Option<Vec<u8>> {
    let body = match page {
        0x00 => PAGES.to_vec(),
        0x80 => nexus.unit.identity.serial.bytes().filter(u8::is_ascii_graphic).take(252).collect(),
        0x83 => device_identification(nexus),
        0x86 => extended_inquiry(),
        // Every mode page has one set of values for all.
        0x87 => vec![0x3f, 0xff, 0x00, 0x00],
        0x88 => ports(nexus),
        0x8f => copy::third_party_page(),
        0xb0 => block_limits(&nexus.unit),
        0xb1 => characteristics(),
        // LBPU, LBPWS, LBPWS10, LBPRZ; thin.
        0xb2 => vec![0x00, 0xe4, 0x02, 0x00],
        _ => return None,
    };
    let mut data = vec![0, page];
    data.extend_from_slice(&(body.len() as u16).to_be_bytes());
    data.extend_from_slice(&body);
    Some(data)
}

/// Designator codes: code set, association and type.
const BINARY: u8 = 1;
const ASCII: u8 = 2;
const UTF8: u8 = 3;
const OF_UNIT: u8 = 0x00;
const OF_PORT: u8 = 0x10;
const PROTOCOL_ISCSI: u8 = 0x50;
const PROTOCOL_VALID: u8 = 0x80;

fn designator(list: &mut Vec<u8>, code_set: u8, association: u8, kind: u8, body: &[u8]) {
    let (protocol, valid) = if association == OF_UNIT { (0, 0) } else { (PROTOCOL_ISCSI, PROTOCOL_VALID) };
    list.extend_from_slice(&[protocol | code_set, valid | association | kind, 0, body.len() as u8]);
    list.extend_from_slice(body);
}

fn device_identification(nexus: &Nexus) -> Vec<u8> {
    let identity = &nexus.unit.identity;
    let mut list = Vec::with_capacity(256);
    designator(&mut list, BINARY, OF_UNIT, 3, &identity.naa());
    let mut vendor_id = vec![b' '; 8];
    padded(&mut vendor_id, &identity.vendor);
    vendor_id.extend(identity.serial.bytes().filter(u8::is_ascii_graphic).take(200));
    designator(&mut list, ASCII, OF_UNIT, 1, &vendor_id);
    designator(&mut list, BINARY, OF_PORT, 4, &[0, 0, 0, 1]);
    designator(&mut list, BINARY, OF_PORT, 5, &[0, 0, 0, 1]);
    designator(&mut list, UTF8, OF_PORT, 8, &port_name(nexus));
    list
}

/// The target port's name, with its terminator, padded to four bytes.
fn port_name(nexus: &Nexus) -> Vec<u8> {
    let mut name: Vec<u8> = nexus.target_port.bytes().take(240).collect();
    name.push(0);
    name.resize(name.len().next_multiple_of(4), 0);
    name
}

fn extended_inquiry() -> Vec<u8> {
    let mut body = vec![0; 60];
    // SIMPSUP: simple tasks. The others are accepted and treated alike.
    body[1] = 0x07;
    // V_SUP: there is a volatile cache.
    body[2] = 0x01;
    // Nexus losses are reported.
    body[3] = 0x00;
    body
}

/// SCSI ports: one relative port with its name.
fn ports(nexus: &Nexus) -> Vec<u8> {
    let mut name = Vec::new();
    designator(&mut name, UTF8, OF_PORT, 8, &port_name(nexus));
    let mut body = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&(name.len() as u16).to_be_bytes());
    body.extend_from_slice(&name);
    body
}

fn block_limits(unit: &LogicalUnit) -> Vec<u8> {
    let (block_size, granularity) = (unit.block_size, 1u32 << unit.physical_exponent());
    let mut body = vec![0; 0x3c];
    body[1] = COMPARE_AND_WRITE_MAX;
    body[2..4].copy_from_slice(&(granularity as u16).to_be_bytes());
    body[4..8].copy_from_slice(&TRANSFER_MAX.to_be_bytes());
    body[8..12].copy_from_slice(&(OPTIMAL_TRANSFER / block_size).to_be_bytes());
    body[16..20].copy_from_slice(&UNMAP_BLOCKS_MAX.to_be_bytes());
    body[20..24].copy_from_slice(&UNMAP_DESCRIPTORS_MAX.to_be_bytes());
    // Page-cache pages and filesystem blocks are 4 KiB: smaller holes give nothing back.
    let unmap = granularity.max(4096 / block_size);
    body[24..28].copy_from_slice(&unmap.to_be_bytes());
    // UGAVALID, alignment 0.
    body[28] = 0x80;
    body[32..40].copy_from_slice(&WRITE_SAME_MAX.to_be_bytes());
    body[40..44].copy_from_slice(&unit.atomic_blocks.to_be_bytes());
    body
}

/// What suits the target's buffers best, in bytes.
const OPTIMAL_TRANSFER: u32 = 1 << 20;

fn characteristics() -> Vec<u8> {
    let mut body = vec![0; 60];
    // Not rotating.
    body[1] = 0x01;
    // After a block erase or a cryptographic erase reads work at once: WABEREQ and WACEREQ are 1.
    body[3] = 0x50;
    body
}

/// Keeps the promise of page 86 honest: what the caching page says and what this one says are one fact.
const _: () = assert!(mode::WRITE_CACHE);
