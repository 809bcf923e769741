//! The qcow2 version 3 header, as much of it as an overlay needs.
//!
//! The whole header, backing name included, is kept inside the first 512 bytes, so that every change of it is one sector's
//! write, which power loss does not tear.

use std::io;

/// Bits of a cluster's size: 64 KiB, QEMU's default.
pub const CLUSTER_BITS: u32 = 16;
/// A cluster in bytes.
pub const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Entries of an L2 table, which fills one cluster.
pub const L2_ENTRIES: u64 = CLUSTER / 8;
/// Entries of a refcount block of 16-bit counts.
pub const REFBLOCK_ENTRIES: u64 = CLUSTER / 2;
/// What the header must fit into.
pub const SECTOR: usize = 512;
/// The largest L1 table that QEMU opens.
const L1_MAX_BYTES: u64 = 32 << 20;

const MAGIC: u32 = 0x5146_49fb;
const HEADER_LENGTH: u32 = 104;
const EXT_END: u32 = 0;
const EXT_BACKING_FORMAT: u32 = 0xe279_2aca;
/// Ours: the id of the boot in which the file was last written. Unknown extensions are skipped by other programs.
const EXT_BOOT: u32 = 0x6362_6c6b;
const INCOMPATIBLE_DIRTY: u64 = 1;
const COMPATIBLE_LAZY_REFCOUNTS: u64 = 1;

/// A boot of a machine (`/proc/sys/kernel/random/boot_id`): within one, what was written to the page cache is still there after
/// a process has died.
pub type BootId = [u8; 16];

/// The format of a file in a chain. Recorded by who made the file, never guessed from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Raw,
    Qcow2,
}

impl Format {
    fn text(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// What an overlay lies on: a file in the same directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backing {
    pub name: String,
    pub format: Format,
}

/// The header of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The virtual size in bytes.
    pub size: u64,
    pub l1_size: u32,
    pub l1_offset: u64,
    pub reftable_offset: u64,
    pub reftable_clusters: u32,
    /// Refcounts are behind: they are rebuilt before anybody else may allocate.
    pub dirty: bool,
    pub boot: Option<BootId>,
    pub backing: Option<Backing>,
}

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at + 4))
}

impl Header {
    /// Entries of the L1 table that `size` bytes need.
    pub fn l1_needed(size: u64) -> u64 {
        size.div_ceil(CLUSTER * L2_ENTRIES)
    }

    /// Checks that an image of `size` bytes can exist.
    ///
    /// # Errors
    /// `InvalidInput` above 2 PiB.
    pub fn check_size(size: u64) -> io::Result<()> {
        if Self::l1_needed(size) * 8 > L1_MAX_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{size} bytes are too large for qcow2"),
            ));
        }
        Ok(())
    }

    /// The first sector of the file.
    ///
    /// # Errors
    /// `InvalidInput` when the backing name is too long for it.
    pub fn encode(&self) -> io::Result<[u8; SECTOR]> {
        let mut out = Vec::with_capacity(SECTOR);
        let name = self.backing.as_ref().map_or("", |b| b.name.as_str());
        let mut extensions = Vec::new();
        if let Some(backing) = &self.backing {
            extension(&mut extensions, EXT_BACKING_FORMAT, backing.format.text().as_bytes());
        }
        if let Some(boot) = &self.boot {
            extension(&mut extensions, EXT_BOOT, boot);
        }
        extension(&mut extensions, EXT_END, &[]);
        let name_offset =
            if name.is_empty() { 0 } else { u64::from(HEADER_LENGTH) + extensions.len() as u64 };
        out.extend(MAGIC.to_be_bytes());
        out.extend(3u32.to_be_bytes());
        out.extend(name_offset.to_be_bytes());
        out.extend((name.len() as u32).to_be_bytes());
        out.extend(CLUSTER_BITS.to_be_bytes());
        out.extend(self.size.to_be_bytes());
        out.extend(0u32.to_be_bytes()); // no encryption
        out.extend(self.l1_size.to_be_bytes());
        out.extend(self.l1_offset.to_be_bytes());
        out.extend(self.reftable_offset.to_be_bytes());
        out.extend(self.reftable_clusters.to_be_bytes());
        out.extend(0u32.to_be_bytes()); // no internal snapshots
        out.extend(0u64.to_be_bytes());
        out.extend(if self.dirty { INCOMPATIBLE_DIRTY } else { 0 }.to_be_bytes());
        out.extend(COMPATIBLE_LAZY_REFCOUNTS.to_be_bytes());
        out.extend(0u64.to_be_bytes());
        out.extend(4u32.to_be_bytes()); // 16-bit refcounts
        out.extend(HEADER_LENGTH.to_be_bytes());
        out.extend(extensions);
        out.extend(name.as_bytes());
        if out.len() > SECTOR {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("backing name {name:?} is too long"),
            ));
        }
        let mut sector = [0u8; SECTOR];
        sector[..out.len()].copy_from_slice(&out);
        Ok(sector)
    }

    /// Reads the header from a file's first cluster.
    ///
    /// # Errors
    /// `InvalidData` for anything that is not an image of the plain kind that overlays are: other versions and cluster sizes,
    /// encryption, internal snapshots, external data, extended entries, or positions that cannot be.
    pub fn decode(bytes: &[u8]) -> io::Result<Self> {
        if bytes.len() < SECTOR || be32(bytes, 0) != MAGIC {
            return Err(bad("not a qcow2 image"));
        }
        if be32(bytes, 4) != 3 || be32(bytes, 20) != CLUSTER_BITS || be32(bytes, 96) != 4 {
            return Err(bad("a qcow2 image of another version, cluster size or refcount width"));
        }
        if be32(bytes, 32) != 0 || be32(bytes, 60) != 0 {
            return Err(bad("an encrypted qcow2 image or one with internal snapshots"));
        }
        let incompatible = be64(bytes, 72);
        if incompatible & !INCOMPATIBLE_DIRTY != 0 {
            return Err(bad(format!("qcow2 features {incompatible:#x} are not supported")));
        }
        let header_length = be32(bytes, 100) as usize;
        if !(HEADER_LENGTH as usize..=SECTOR).contains(&header_length) {
            return Err(bad("the qcow2 header has an impossible length"));
        }
        let (format, boot) = extensions(bytes, header_length)?;
        let header = Self {
            size: be64(bytes, 24),
            l1_size: be32(bytes, 36),
            l1_offset: be64(bytes, 40),
            reftable_offset: be64(bytes, 48),
            reftable_clusters: be32(bytes, 56),
            dirty: incompatible & INCOMPATIBLE_DIRTY != 0,
            boot,
            backing: backing(bytes, format)?,
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> io::Result<()> {
        let aligned = |offset: u64| offset != 0 && offset.is_multiple_of(CLUSTER) && offset < 1 << 56;
        if !aligned(self.l1_offset) || !aligned(self.reftable_offset) || self.reftable_clusters == 0 {
            return Err(bad("the qcow2 header points to impossible places"));
        }
        let l1 = u64::from(self.l1_size);
        if l1 < Self::l1_needed(self.size) || l1 * 8 > L1_MAX_BYTES || self.reftable_clusters > 1 << 10 {
            return Err(bad("the qcow2 header has impossible table sizes"));
        }
        Ok(())
    }
}

fn extension(out: &mut Vec<u8>, kind: u32, data: &[u8]) {
    out.extend(kind.to_be_bytes());
    out.extend((data.len() as u32).to_be_bytes());
    out.extend(data);
    out.resize(out.len().next_multiple_of(8), 0);
}

/// The backing format and our boot id among the header's extensions.
fn extensions(bytes: &[u8], start: usize) -> io::Result<(Option<Format>, Option<BootId>)> {
    let (mut format, mut boot) = (None, None);
    let mut at = start;
    while at + 8 <= bytes.len() {
        let (kind, length) = (be32(bytes, at), be32(bytes, at + 4) as usize);
        let data =
            bytes.get(at + 8..at + 8 + length).ok_or_else(|| bad("a qcow2 header extension is too long"))?;
        match kind {
            EXT_END => break,
            EXT_BACKING_FORMAT => {
                format = Some(match data {
                    b"raw" => Format::Raw,
                    b"qcow2" => Format::Qcow2,
                    _ => return Err(bad("the qcow2 header names an unknown backing format")),
                });
            }
            EXT_BOOT => boot = data.try_into().ok(),
            _ => {}
        }
        at += 8 + length.next_multiple_of(8);
    }
    Ok((format, boot))
}

/// The backing file; its format must be recorded, because guessing it would let a guest choose it.
fn backing(bytes: &[u8], format: Option<Format>) -> io::Result<Option<Backing>> {
    let (offset, length) = (be64(bytes, 8) as usize, be32(bytes, 16) as usize);
    if offset == 0 || length == 0 {
        return Ok(None);
    }
    let name = offset
        .checked_add(length)
        .and_then(|end| bytes.get(offset..end))
        .and_then(|name| std::str::from_utf8(name).ok())
        .ok_or_else(|| bad("the qcow2 header's backing name cannot be read"))?;
    let format = format.ok_or_else(|| bad("the qcow2 header does not record its backing file's format"))?;
    Ok(Some(Backing { name: name.to_owned(), format }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Header {
        Header {
            size: 10 << 30,
            l1_size: 8192,
            l1_offset: 3 * CLUSTER,
            reftable_offset: CLUSTER,
            reftable_clusters: 1,
            dirty: true,
            boot: Some([7; 16]),
            backing: Some(Backing {
                name: format!("volume-{0}.tmp-snap-{0}", "01234567-89ab-cdef-0123-456789abcdef"),
                format: Format::Qcow2,
            }),
        }
    }

    #[test]
    fn a_header_reads_back() {
        let header = sample();
        assert_eq!(Header::decode(&header.encode().unwrap()).unwrap(), header);
        let bare = Header { backing: None, boot: None, dirty: false, ..header };
        assert_eq!(Header::decode(&bare.encode().unwrap()).unwrap(), bare);
    }

    #[test]
    fn what_a_header_must_not_say_is_refused() {
        let good = sample().encode().unwrap();
        for (at, value) in [(0, 0u8), (7, 2), (23, 9), (35, 1), (63, 1), (79, 4), (47, 1), (103, 0), (99, 3)]
        {
            let mut bytes = good;
            bytes[at] = value;
            assert!(Header::decode(&bytes).is_err(), "byte {at} = {value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 512..1024), valid in proptest::bool::ANY) {
            if valid {
                bytes[..104].copy_from_slice(&sample().encode().unwrap()[..104]);
            }
            let _ = Header::decode(&bytes);
        }
    }
}
