//! Hosted sparse extents: a vmdk in one file, `monolithicSparse` or `streamOptimized` (VMware's Virtual Disk Format 5.0). Numbers
//! are little-endian, places and sizes in sectors of 512 bytes.
//!
//! Programs read the embedded descriptor by searching for words in it, not by lines; so each word that steers them may occur once.

use super::{Content, Refusal, unacceptable};

const SECTOR: u64 = 512;
/// Where the grain directory is said to be when the true header is a footer.
const AT_END: u64 = u64::MAX;
/// A descriptor is a few hundred bytes of text in 20 sectors.
const MAX_DESCRIPTOR: u64 = 1 << 20;
/// Where QEMU looks for a parent's name, whatever the header says: 20 sectors from here.
const FIXED_DESCRIPTOR: std::ops::Range<u64> = SECTOR..21 * SECTOR;
const KINDS: [&str; 2] = ["monolithicSparse", "streamOptimized"];

struct Header {
    raw: [u8; 80],
}

impl Header {
    fn read(content: &(impl Content + ?Sized), at: u64) -> Result<Self, Refusal> {
        let mut raw = [0; 80];
        content.read_at(at, &mut raw)?;
        let header = Self { raw };
        if !header.raw.starts_with(b"KDMV") {
            return Err(unacceptable("the vmdk's footer is not one"));
        }
        let version = u32::from_le_bytes(header.raw[4..8].try_into().expect("four bytes"));
        if !(1..=3).contains(&version) {
            return Err(unacceptable(format!("vmdk version {version} is not known")));
        }
        Ok(header)
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.raw[at..at + 8].try_into().expect("eight bytes"))
    }

    fn capacity(&self) -> u64 {
        self.u64(12)
    }

    fn descriptor(&self) -> (u64, u64) {
        (self.u64(28), self.u64(36))
    }

    fn directory(&self) -> u64 {
        self.u64(56)
    }
}

/// Whether an image starts with the text of a descriptor: it has its data in other files.
pub fn is_text(head: &[u8]) -> bool {
    let text = head.trim_ascii_start();
    let starts = |word: &[u8]| text.len() >= word.len() && text[..word.len()].eq_ignore_ascii_case(word);
    starts(b"# disk descriptorfile") || starts(b"#disk descriptorfile")
}

/// How many bytes the image holds.
///
/// # Errors
/// It is of another kind than those two (or than `allowed`), refers to other files, or is malformed.
pub fn holds(content: &(impl Content + ?Sized), length: u64, allowed: &[String]) -> Result<u64, Refusal> {
    let header = Header::read(content, 0)?;
    let capacity = header.capacity();
    if capacity == 0 {
        // Programs would take the descriptor's extents instead.
        return Err(unacceptable("a vmdk whose header names no size is not allowed"));
    }
    if header.directory() == AT_END {
        let at =
            length.checked_sub(2 * SECTOR).ok_or_else(|| unacceptable("the vmdk's footer is missing"))?;
        let footer = Header::read(content, at)?;
        if footer.capacity() != capacity || footer.directory() == AT_END {
            return Err(unacceptable("the vmdk's footer contradicts its header"));
        }
    }
    let (at, sectors) = header.descriptor();
    let size = sectors.checked_mul(SECTOR).filter(|size| (1..=MAX_DESCRIPTOR).contains(size));
    let place = at.checked_mul(SECTOR).filter(|place| *place > 0);
    let (Some(place), Some(size)) = (place, size) else {
        return Err(unacceptable("a vmdk without an embedded descriptor is not allowed"));
    };
    let mut descriptor = vec![0; size as usize];
    content.read_at(place, &mut descriptor)?;
    let fixed_end = FIXED_DESCRIPTOR.end.min(length);
    let mut fixed = vec![0; fixed_end.saturating_sub(FIXED_DESCRIPTOR.start) as usize];
    content.read_at(FIXED_DESCRIPTOR.start, &mut fixed)?;
    if count(&descriptor, b"parentFileNameHint") + count(&fixed, b"parentFileNameHint") > 0 {
        return Err(unacceptable("a vmdk with a parent is not allowed"));
    }
    check_descriptor(&descriptor, capacity, allowed)?;
    capacity.checked_mul(SECTOR).ok_or_else(|| unacceptable("the vmdk's size is not possible"))
}

fn count(text: &[u8], word: &[u8]) -> usize {
    text.windows(word.len()).filter(|window| window.eq_ignore_ascii_case(word)).count()
}

fn check_descriptor(raw: &[u8], capacity: u64, allowed: &[String]) -> Result<(), Refusal> {
    if count(raw, b"createType") != 1 {
        return Err(unacceptable("the vmdk's descriptor does not name one createType"));
    }
    let end = raw.iter().position(|byte| *byte == 0).unwrap_or(raw.len());
    let text =
        std::str::from_utf8(&raw[..end]).map_err(|_| unacceptable("the vmdk's descriptor is not text"))?;
    let mut kind = None;
    let mut extents = 0;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some((name, value)) = line.split_once('=') {
            let value = value.trim().trim_matches('"');
            match name.trim() {
                "createType" => kind = Some(value),
                "parentCID" if !value.eq_ignore_ascii_case("ffffffff") => {
                    return Err(unacceptable("a vmdk with a parent is not allowed"));
                }
                _ => {}
            }
        } else if ["RW", "RDONLY", "NOACCESS"].iter().any(|access| line.starts_with(access)) {
            check_extent(line, capacity)?;
            extents += 1;
        }
    }
    let kind = kind.ok_or_else(|| unacceptable("the vmdk's descriptor does not name one createType"))?;
    if !KINDS.contains(&kind) || !allowed.iter().any(|name| name == kind) {
        return Err(unacceptable(format!("a vmdk of the kind {kind:?} is not allowed")));
    }
    if extents != 1 {
        return Err(unacceptable(format!("the vmdk has {extents} extents where one is allowed")));
    }
    Ok(())
}

/// `RW 2048 SPARSE "name.vmdk"`: the extent is this very file, whose name means nothing here but must not be a path.
fn check_extent(line: &str, capacity: u64) -> Result<(), Refusal> {
    let mut words = line.splitn(4, ' ');
    let (access, sectors, kind) = (words.next(), words.next(), words.next());
    let name = words.next().unwrap_or_default().trim();
    if !matches!(access, Some("RW" | "RDONLY")) || kind != Some("SPARSE") {
        return Err(unacceptable("the vmdk has an extent that is not sparse"));
    }
    let name = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
    let plain = |name: &str| !name.contains(['/', '\\', '"', ':']) && name != ".." && name != ".";
    if !name.is_some_and(plain) {
        return Err(unacceptable("the vmdk's descriptor names a path"));
    }
    if sectors.and_then(|sectors| sectors.parse().ok()) != Some(capacity) {
        return Err(unacceptable("the vmdk's descriptor contradicts its header"));
    }
    Ok(())
}
