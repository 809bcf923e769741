//! A device that waits where a test wants it to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use model::{BlockDevice, Extent};
use tokio::sync::Semaphore;

use super::device::Memory;

/// A device whose writes wait for a permit each, and whose reads fail while it is broken.
#[derive(Debug)]
pub struct Gated {
    pub inner: Arc<Memory>,
    pub gate: Semaphore,
    /// Writes that have come so far.
    pub entered: AtomicUsize,
    /// Those of them that are done.
    pub left: AtomicUsize,
    pub broken: AtomicBool,
}

impl Gated {
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            inner: Memory::new(bytes),
            gate: Semaphore::new(0),
            entered: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
        })
    }

    /// Waits until so many writes have come.
    pub async fn entered(&self, count: usize) {
        super::until(|| self.entered.load(Ordering::SeqCst) >= count).await;
    }
}

#[async_trait]
impl BlockDevice for Gated {
    fn size(&self) -> u64 {
        self.inner.size()
    }
    async fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::Error::other("broken"));
        }
        self.inner.read(offset, buf).await
    }
    async fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.entered.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        let done = self.inner.write(offset, data).await;
        self.left.fetch_add(1, Ordering::SeqCst);
        done
    }
    async fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    async fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.inner.discard(offset, length).await
    }
    async fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.inner.write_zeroes(offset, length).await
    }
    async fn block_status(&self, offset: u64, length: u64) -> io::Result<Extent> {
        self.inner.block_status(offset, length).await
    }
}
