//! What is in an image, checked against what its record says (CVE-2022-47951, CVE-2024-32498).
//!
//! Content never decides the format: it can only contradict the declared one. What passes refers to nothing outside itself and
//! fits into the volume.

mod qcow2;
mod vmdk;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::DiskFormat;

/// How much of the start of an image is looked at for signatures: beyond the volume descriptor of a CD at 32 KiB.
pub const HEAD: usize = 36 << 10;

/// What an image may be.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The most bytes that it may hold when it is unpacked.
    pub room: u64,
    /// Kinds of vmdk that are taken; of these only `monolithicSparse` and `streamOptimized` ever are.
    pub vmdk_types: Vec<String>,
}

/// Why an image is not used.
#[derive(Debug)]
pub enum Refusal {
    /// A reason for its owner.
    Unacceptable(String),
    /// What it holds, in bytes.
    TooBig(u64),
    /// It could not be read.
    Unreadable(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return unacceptable("the image ends within its own header");
        }
        Self::Unreadable(error)
    }
}

fn unacceptable(reason: impl Into<String>) -> Refusal {
    Refusal::Unacceptable(reason.into())
}

/// Bytes that can be read at any offset.
pub trait Content {
    /// How many there are.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn length(&self) -> io::Result<u64>;

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` beyond the end.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

impl Content for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buf, offset)
    }
}

impl Content for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(self.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Checks a whole image; how many bytes it holds when unpacked.
///
/// # Errors
/// It is not what it is declared to be, refers to something outside itself, is malformed, or does not fit.
pub fn inspect(
    content: &(impl Content + ?Sized),
    declared: DiskFormat,
    rules: &Rules,
) -> Result<u64, Refusal> {
    let length = content.length()?;
    let mut head = vec![0; HEAD.min(usize::try_from(length).unwrap_or(HEAD))];
    content.read_at(0, &mut head)?;
    check_signatures(&head, declared)?;
    let holds = match declared {
        DiskFormat::Raw | DiskFormat::Iso => length,
        DiskFormat::Qcow2 => qcow2::holds(content)?,
        DiskFormat::Vmdk => vmdk::holds(content, length, &rules.vmdk_types)?,
    };
    if holds > rules.room {
        return Err(Refusal::TooBig(holds));
    }
    Ok(holds)
}

/// Where the formats that refer to other places or need unpacking have their marks.
const MARKS: &[(&str, usize, &[u8])] = &[
    ("qcow2", 0, b"QFI\xfb"),
    ("vmdk", 0, b"KDMV"),
    ("vmdk (COWD)", 0, b"COWD"),
    ("qed", 0, b"QED\0"),
    ("vhd", 0, b"conectix"),
    ("vhdx", 0, b"vhdxfile"),
    ("vdi", 0x40, b"\x7f\x10\xda\xbe"),
    ("parallels", 0, b"WithoutFreeSpace"),
    ("parallels", 0, b"WithouFreSpacExt"),
    ("bochs", 0, b"Bochs Virtual HD Image"),
    ("iso", 0x8001, b"CD001"),
];

/// Checks the start of an image (all of it, or its first [`HEAD`] bytes) for the marks of formats: exactly that of the declared one
/// may be there. A CD that is declared `raw` is its bytes, a partition table is part of them; a CD that is something else as
/// well is read differently by different programs, and refused.
///
/// # Errors
/// Its content contradicts the declaration.
pub fn check_signatures(head: &[u8], declared: DiskFormat) -> Result<(), Refusal> {
    let has = |at: usize, mark: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(mark));
    let mut found: Vec<&str> =
        MARKS.iter().filter(|(_, at, mark)| has(*at, mark)).map(|(name, ..)| *name).collect();
    if vmdk::is_text(head) {
        found.push("vmdk (text descriptor)");
    }
    let contradiction =
        |name: &str| unacceptable(format!("its content is {name}, but its disk_format is {declared}"));
    let wanted = match declared {
        DiskFormat::Raw => {
            found.retain(|name| *name != "iso");
            return found.first().map_or(Ok(()), |name| Err(contradiction(name)));
        }
        DiskFormat::Iso => "iso",
        DiskFormat::Qcow2 => "qcow2",
        DiskFormat::Vmdk => "vmdk",
    };
    if let Some(other) = found.iter().find(|name| **name != wanted) {
        return Err(contradiction(other));
    }
    if found.is_empty() {
        return Err(unacceptable(format!("its content is not {declared}, which its disk_format says")));
    }
    Ok(())
}
