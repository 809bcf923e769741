//! Stops everything at a chosen call into the kernel, as if the process had died there: how tests try every instruction.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::blob::{Blob, SharedBlob, Wait};

/// A countdown of changing calls. When it is over every further call fails, also those of clean-up code.
#[derive(Debug, Default)]
pub struct Faults {
    /// Calls left, negative when there is no limit.
    left: AtomicI64,
    seen: AtomicU64,
}

impl Faults {
    /// Dies at the call after `calls` more.
    pub fn after(calls: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(calls as i64), seen: AtomicU64::new(0) })
    }

    /// Never dies, only counts.
    pub fn counting() -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(i64::MAX), seen: AtomicU64::new(0) })
    }

    /// How many changing calls were made.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    /// Whether it has died.
    pub fn dead(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    /// Notes a call.
    ///
    /// # Errors
    /// When the process has "died".
    pub fn hit(&self) -> io::Result<()> {
        self.seen.fetch_add(1, Ordering::SeqCst);
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| Some(n.max(0) - 1)) <= Ok(0) {
            return Err(io::Error::other("the test ended this process here"));
        }
        Ok(())
    }
}

/// A blob whose changes count.
#[derive(Debug)]
pub struct FaultBlob {
    pub inner: SharedBlob,
    pub faults: Arc<Faults>,
}

impl Blob for FaultBlob {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8], wait: Wait) -> io::Result<()> {
        self.inner.read_at(offset, buf, wait)
    }

    fn write_at(&self, offset: u64, data: &[u8], wait: Wait) -> io::Result<()> {
        self.faults.hit()?;
        self.inner.write_at(offset, data, wait)
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.hit()?;
        self.inner.sync()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.hit()?;
        self.inner.set_len(len)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.faults.hit()?;
        self.inner.punch(offset, len)
    }

    fn data_at(&self, offset: u64, len: u64) -> io::Result<(bool, u64)> {
        self.inner.data_at(offset, len)
    }

    fn sector(&self) -> u32 {
        self.inner.sector()
    }

    fn file(&self) -> Option<&File> {
        self.inner.file()
    }
}
