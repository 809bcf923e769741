//! Devices for tests and examples: memory, and a sparse file.
#![allow(clippy::unwrap_used)] // test code

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use async_trait::async_trait;
use model::block::check_range;
use model::{BlockDevice, Extent, ExtentKind};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};

/// A device in memory; it can grow.
#[derive(Debug)]
pub struct Memory(RwLock<Vec<u8>>);

impl Memory {
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self(RwLock::new(vec![0; bytes])))
    }

    pub fn grow(&self, bytes: usize) {
        self.0.write().unwrap().resize(bytes, 0);
    }

    pub fn bytes(&self, offset: usize, len: usize) -> Vec<u8> {
        self.0.read().unwrap()[offset..offset + len].to_vec()
    }

    pub fn fill(&self, offset: usize, len: usize, byte: u8) {
        self.0.write().unwrap()[offset..offset + len].fill(byte);
    }
}

#[async_trait]
impl BlockDevice for Memory {
    fn size(&self) -> u64 {
        self.0.read().unwrap().len() as u64
    }

    async fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(offset, buf.len() as u64, self.size())?;
        buf.copy_from_slice(&self.0.read().unwrap()[offset as usize..][..buf.len()]);
        Ok(())
    }

    async fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        check_range(offset, data.len() as u64, self.size())?;
        self.0.write().unwrap()[offset as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }

    async fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    async fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.write_zeroes(offset, length).await
    }

    async fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        check_range(offset, length, self.size())?;
        self.0.write().unwrap()[offset as usize..][..length as usize].fill(0);
        Ok(())
    }

    async fn block_status(&self, offset: u64, length: u64) -> io::Result<Extent> {
        check_range(offset, length, self.size())?;
        Ok(Extent { length, kind: ExtentKind::Data })
    }
}

/// A sparse file. Reads and writes are done at once, on the caller's thread: good enough for what is in the page cache.
#[derive(Debug)]
pub struct SparseFile {
    file: Arc<File>,
    size: AtomicU64,
    block_size: u32,
}

impl SparseFile {
    pub fn open(path: &Path) -> io::Result<Arc<Self>> {
        Self::with_block_size(path, 512)
    }

    pub fn with_block_size(path: &Path, block_size: u32) -> io::Result<Arc<Self>> {
        let file = File::options().read(true).write(true).open(path)?;
        let size = AtomicU64::new(file.metadata()?.len());
        Ok(Arc::new(Self { file: Arc::new(file), size, block_size }))
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        check_range(offset, length, self.size())?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&self.file, flags, offset, length)?)
    }
}

#[async_trait]
impl BlockDevice for SparseFile {
    fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    fn block_size(&self) -> u32 {
        self.block_size
    }

    async fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    async fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        check_range(offset, data.len() as u64, self.size())?;
        self.file.write_all_at(data, offset)
    }

    async fn flush(&self) -> io::Result<()> {
        let file = self.file.clone();
        tokio::task::spawn_blocking(move || file.sync_data()).await.map_err(io::Error::other)?
    }

    async fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.punch(offset, length)
    }

    async fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.punch(offset, length)
    }

    async fn block_status(&self, offset: u64, length: u64) -> io::Result<Extent> {
        check_range(offset, length, self.size())?;
        let data = match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(at) => at,
            Err(rustix::io::Errno::NXIO) => offset + length,
            Err(error) => return Err(error.into()),
        };
        if data > offset {
            return Ok(Extent { length: length.min(data - offset), kind: ExtentKind::Hole });
        }
        let hole = seek(&self.file, SeekFrom::Hole(offset))?;
        Ok(Extent { length: length.min(hole - offset), kind: ExtentKind::Data })
    }
}
