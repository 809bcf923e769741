//! The few operations that volumes need of the file beneath them.
//!
//! [`Blob`] is where bytes meet the kernel: a regular file, a block device, or, in the power-loss tests, a recording of
//! what a disk was told. Nothing here is asynchronous: callers say with [`Wait`] whether the call may sleep.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev2};

/// Whether an operation may sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Only what the page cache answers; anything else fails with `WouldBlock` and has done no harm. Where the kernel cannot
    /// promise that for buffered writes (ext4), a write into the page cache is made all the same.
    Brief,
    /// Until it is done.
    Full,
}

/// A random-access store of bytes: a file or block device.
pub trait Blob: Send + Sync + Debug {
    /// Its length in bytes.
    fn len(&self) -> u64;

    /// Whether it holds nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset`. What lies beyond the end reads as zeros.
    fn read_at(&self, offset: u64, buf: &mut [u8], wait: Wait) -> io::Result<()>;

    /// Writes all of `data`; grows a file that is shorter.
    fn write_at(&self, offset: u64, data: &[u8], wait: Wait) -> io::Result<()>;

    /// Makes all completed writes durable, with the metadata needed to find them.
    fn sync(&self) -> io::Result<()>;

    /// Grows or cuts a file. A block device takes only lengths up to its own.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the stretch read as zeros and gives its space back where the store can.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Whether `offset` holds data, and for how many bytes (at most `len`) that stays so.
    fn data_at(&self, offset: u64, len: u64) -> io::Result<(bool, u64)>;

    /// The smallest unit it writes without reading first.
    fn sector(&self) -> u32 {
        512
    }

    /// The file beneath, where there is one (for reflinks).
    fn file(&self) -> Option<&File> {
        None
    }
}

/// A shared blob.
pub type SharedBlob = Arc<dyn Blob>;

/// The largest zero buffer written where the store cannot punch holes.
const ZERO_CHUNK: usize = 1 << 20;

/// A regular file or block device.
#[derive(Debug)]
pub struct FileBlob {
    file: File,
    len: AtomicU64,
    device: bool,
    sector: u32,
    nowait_reads: AtomicBool,
    nowait_writes: AtomicBool,
    /// A sync has failed. The kernel reports that once and then forgets which pages it lost, so no later sync of this file may succeed.
    lost: AtomicBool,
}

impl FileBlob {
    /// Wraps an open regular file or block device.
    ///
    /// # Errors
    /// `InvalidInput` when it is neither.
    pub fn new(file: File) -> io::Result<Self> {
        let meta = file.metadata()?;
        let device = meta.file_type().is_block_device();
        if !device && !meta.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "neither a regular file nor a block device",
            ));
        }
        let len = if device { seek(&file, SeekFrom::End(0))? } else { meta.len() };
        let sector = if device { rustix::fs::ioctl_blksszget(&file)? } else { 512 };
        Ok(Self {
            file,
            len: AtomicU64::new(len),
            device,
            sector,
            nowait_reads: AtomicBool::new(true),
            nowait_writes: AtomicBool::new(true),
            lost: AtomicBool::new(false),
        })
    }

    /// One read without sleeping; `WouldBlock` when the bytes are not at hand.
    fn read_now(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if !self.nowait_reads.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match preadv2(&self.file, &mut [IoSliceMut::new(buf)], offset, ReadWriteFlags::NOWAIT) {
            Err(Errno::OPNOTSUPP) => {
                self.nowait_reads.store(false, Ordering::Relaxed);
                Err(io::ErrorKind::WouldBlock.into())
            }
            other => Ok(other?),
        }
    }

    /// How many of `len` bytes from `offset` lie in a hole. Reading those would fill the page cache with zeros, which costs the
    /// kernel more than the question, and other data its place.
    fn hole_at(&self, offset: u64, len: usize) -> usize {
        if self.device || offset >= self.len() {
            return 0;
        }
        // Data that was written but has no place on the disk yet is data to the kernel, too.
        match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(at) => usize::try_from(at.saturating_sub(offset)).unwrap_or(len).min(len),
            Err(Errno::NXIO) => len,
            Err(_) => 0,
        }
    }

    /// One write that does not sleep where the kernel can promise that.
    fn write_now(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        if self.nowait_writes.load(Ordering::Relaxed) {
            match pwritev2(&self.file, &[IoSlice::new(data)], offset, ReadWriteFlags::NOWAIT) {
                Err(Errno::OPNOTSUPP) => self.nowait_writes.store(false, Ordering::Relaxed),
                other => return Ok(other?),
            }
        }
        self.file.write_at(data, offset)
    }

    /// Writes zeros where no hole can be punched.
    fn write_zeros(&self, mut offset: u64, mut len: u64) -> io::Result<()> {
        let zeros = vec![0u8; ZERO_CHUNK.min(usize::try_from(len).unwrap_or(ZERO_CHUNK))];
        while len > 0 {
            let chunk = len.min(zeros.len() as u64);
            self.write_at(offset, &zeros[..chunk as usize], Wait::Full)?;
            offset += chunk;
            len -= chunk;
        }
        Ok(())
    }
}

impl Blob for FileBlob {
    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8], wait: Wait) -> io::Result<()> {
        if wait == Wait::Full {
            let hole = self.hole_at(offset, buf.len());
            buf[..hole].fill(0);
            (offset, buf) = (offset + hole as u64, &mut buf[hole..]);
        }
        while !buf.is_empty() {
            let got = match wait {
                Wait::Brief => self.read_now(offset, buf),
                Wait::Full => self.file.read_at(buf, offset),
            };
            match got {
                Ok(0) => {
                    buf.fill(0);
                    return Ok(());
                }
                Ok(n) => {
                    offset += n as u64;
                    buf = &mut buf[n..];
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn write_at(&self, mut offset: u64, mut data: &[u8], wait: Wait) -> io::Result<()> {
        while !data.is_empty() {
            let put = match wait {
                Wait::Brief => self.write_now(offset, data),
                Wait::Full => self.file.write_at(data, offset),
            };
            match put {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    offset += n as u64;
                    data = &data[n..];
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if !self.device {
            self.len.fetch_max(offset, Ordering::AcqRel);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.lost.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier sync of this file failed"));
        }
        self.file.sync_data().inspect_err(|_| self.lost.store(true, Ordering::Release))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.device {
            return match len.cmp(&self.len()) {
                std::cmp::Ordering::Greater => {
                    let now = seek(&self.file, SeekFrom::End(0))?;
                    self.len.store(now, Ordering::Release);
                    if len > now { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(()) }
                }
                _ => Ok(()),
            };
        }
        self.file.set_len(len)?;
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let zero = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        for mode in [hole, zero] {
            match fallocate(&self.file, mode, offset, len) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
                other => return Ok(other?),
            }
        }
        self.write_zeros(offset, len)
    }

    fn data_at(&self, offset: u64, len: u64) -> io::Result<(bool, u64)> {
        if self.device {
            return Ok((true, len));
        }
        match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(at) if at > offset => Ok((false, (at - offset).min(len))),
            Ok(_) => match seek(&self.file, SeekFrom::Hole(offset)) {
                Ok(at) => Ok((true, (at - offset).clamp(1, len))),
                Err(Errno::NXIO) => Ok((false, len)),
                Err(e) => Err(e.into()),
            },
            Err(Errno::NXIO) => Ok((false, len)),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok((true, len)),
            Err(e) => Err(e.into()),
        }
    }

    fn sector(&self) -> u32 {
        self.sector
    }

    fn file(&self) -> Option<&File> {
        Some(&self.file)
    }
}
