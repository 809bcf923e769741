//! The header of a qcow2 image (QEMU's docs/interop/qcow2.rst). Numbers are big-endian.

use super::{Content, Refusal, unacceptable};

const HEADER_V2: u64 = 72;
const HEADER_V3: u64 = 104;
/// Bits of `incompatible_features`.
const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
/// Header extensions.
const END: u32 = 0;
const DATA_FILE_NAME: u32 = 0x4441_5441;
const ENCRYPTION: u32 = 0x0537_be77;
/// More than any program writes.
const MAX_EXTENSIONS: usize = 64;

struct Header([u8; HEADER_V3 as usize]);

impl Header {
    fn u32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }
}

/// How many bytes the image holds.
///
/// # Errors
/// It refers to another file, is encrypted, damaged or of an unknown kind.
pub fn holds(content: &(impl Content + ?Sized)) -> Result<u64, Refusal> {
    let mut header = Header([0; HEADER_V3 as usize]);
    content.read_at(0, &mut header.0[..HEADER_V2 as usize])?;
    let length = match header.u32(4) {
        2 => HEADER_V2,
        3 => {
            content.read_at(0, &mut header.0)?;
            u64::from(header.u32(100))
        }
        version => return Err(unacceptable(format!("qcow2 version {version} is not known"))),
    };
    if header.u64(8) != 0 || header.u32(16) != 0 {
        return Err(unacceptable("a qcow2 image with a backing file is not allowed"));
    }
    if header.u32(32) != 0 {
        return Err(unacceptable("an encrypted qcow2 image is not supported"));
    }
    let cluster_bits = header.u32(20);
    if !(9..=21).contains(&cluster_bits) {
        return Err(unacceptable(format!("a qcow2 cluster of 2^{cluster_bits} bytes is not possible")));
    }
    let cluster = 1u64 << cluster_bits;
    if header.u32(4) == 3 {
        check_features(header.u64(72))?;
        if length < HEADER_V3 || length > cluster || length % 8 != 0 {
            return Err(unacceptable("the length of its qcow2 header is wrong"));
        }
    }
    check_extensions(content, length, cluster)?;
    Ok(header.u64(24))
}

fn check_features(features: u64) -> Result<(), Refusal> {
    if features & DATA_FILE != 0 {
        return Err(unacceptable("a qcow2 image with a data file is not allowed"));
    }
    if features & CORRUPT != 0 {
        return Err(unacceptable("the qcow2 image is marked as corrupt"));
    }
    let unknown = features & !(DIRTY | COMPRESSION | EXTENDED_L2);
    if unknown != 0 {
        return Err(unacceptable(format!("the qcow2 image has unknown features ({unknown:#x})")));
    }
    Ok(())
}

/// Header extensions follow the header within the first cluster. A data file's name is refused even where the feature bit that would
/// make it count is not set.
fn check_extensions(content: &(impl Content + ?Sized), start: u64, cluster: u64) -> Result<(), Refusal> {
    let mut at = start;
    for _ in 0..MAX_EXTENSIONS {
        if at + 8 > cluster {
            return Ok(());
        }
        let mut raw = [0; 8];
        content.read_at(at, &mut raw)?;
        let kind = u32::from_be_bytes([raw[0], raw[1], raw[2], raw[3]]);
        let length = u64::from(u32::from_be_bytes([raw[4], raw[5], raw[6], raw[7]]));
        match kind {
            END => return Ok(()),
            DATA_FILE_NAME => return Err(unacceptable("a qcow2 image with a data file is not allowed")),
            ENCRYPTION => return Err(unacceptable("an encrypted qcow2 image is not supported")),
            _ => {}
        }
        at += 8 + length.next_multiple_of(8);
        if at > cluster {
            return Err(unacceptable("a qcow2 header extension is longer than the header"));
        }
    }
    Err(unacceptable("the qcow2 header has too many extensions"))
}
