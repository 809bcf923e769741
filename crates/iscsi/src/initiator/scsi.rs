//! The commands that the initiator sends.

/// READ CAPACITY (16) and its answer.
pub const CAPACITY_LEN: u32 = 32;
/// How much of a VPD page is read.
pub const VPD_LEN: u32 = 255;

fn cdb(bytes: &[u8]) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[..bytes.len()].copy_from_slice(bytes);
    cdb
}

/// A CDB of 16 bytes with a 64-bit address and a 32-bit length.
fn long(opcode: u8, flags: u8, lba: u64, count: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[1] = flags;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&count.to_be_bytes());
    cdb
}

pub fn test_unit_ready() -> [u8; 16] {
    cdb(&[0x00])
}

pub fn inquiry() -> [u8; 16] {
    cdb(&[0x12, 0, 0, 0, 96])
}

pub fn vital(page: u8) -> [u8; 16] {
    cdb(&[0x12, 1, page, 0, VPD_LEN as u8])
}

pub fn read_capacity() -> [u8; 16] {
    long(0x9e, 0x10, 0, CAPACITY_LEN)
}

pub fn mode_sense() -> [u8; 16] {
    // All pages, without block descriptors.
    cdb(&[0x1a, 0x08, 0x3f, 0, 255])
}

pub fn read(lba: u64, count: u32) -> [u8; 16] {
    long(0x88, 0, lba, count)
}

pub fn write(lba: u64, count: u32) -> [u8; 16] {
    long(0x8a, 0, lba, count)
}

pub fn synchronize_cache() -> [u8; 16] {
    long(0x91, 0, 0, 0)
}

/// WRITE SAME (16), with UNMAP or without.
pub fn write_same(lba: u64, count: u32, unmap: bool) -> [u8; 16] {
    long(0x93, if unmap { 0x08 } else { 0 }, lba, count)
}

pub fn lba_status(lba: u64, allocation: u32) -> [u8; 16] {
    long(0x9e, 0x12, lba, allocation)
}

pub fn unmap(list_length: u16) -> [u8; 16] {
    let [high, low] = list_length.to_be_bytes();
    cdb(&[0x42, 0, 0, 0, 0, 0, 0, high, low, 0])
}

/// The parameter list of an UNMAP.
pub fn unmap_list(stretches: &[(u64, u32)]) -> Vec<u8> {
    let descriptors = (stretches.len() * 16) as u16;
    let mut list = Vec::with_capacity(8 + usize::from(descriptors));
    list.extend_from_slice(&(descriptors + 6).to_be_bytes());
    list.extend_from_slice(&descriptors.to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    for (lba, count) in stretches {
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&count.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
    }
    list
}
