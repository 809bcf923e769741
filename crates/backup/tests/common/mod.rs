//! Devices to back up and restore in tests.
#![allow(dead_code)] // each test binary uses a part

pub mod faulty;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use backup::store::{PosixStore, SharedStore};
use backup::{
    BackupResult, CreateBackup, Level, Naming, ParentRef, PipelineConfig, Restore, Restored, TargetState,
    create, restore,
};
use futures::future::BoxFuture;
use model::block::{BlockDevice, Device, Extent, ExtentKind, check_range};
use model::job::Claim;
use model::{BackupId, VolumeId};

/// What a device tells of itself where nothing was written.
const GRAIN: usize = 4096;

/// A device in memory that knows which 4 KiB were ever written.
#[derive(Debug)]
pub struct MemoryDevice {
    state: Mutex<Memory>,
    size: u64,
    pub flushes: AtomicU64,
    /// Bytes that reads have asked for.
    pub read_bytes: AtomicU64,
    /// A byte behind which writes fail for want of space.
    pub full_at: AtomicU64,
}

#[derive(Debug)]
struct Memory {
    bytes: Vec<u8>,
    written: Vec<bool>,
}

impl MemoryDevice {
    pub fn new(size: usize) -> Self {
        let state = Memory { bytes: vec![0; size], written: vec![false; size.div_ceil(GRAIN)] };
        Self {
            state: Mutex::new(state),
            size: size as u64,
            flushes: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            full_at: AtomicU64::new(u64::MAX),
        }
    }

    /// Every byte `fill`, all of it written.
    pub fn filled(size: usize, fill: u8) -> Self {
        let device = Self::new(size);
        device.put(0, &vec![fill; size]);
        device
    }

    pub fn put(&self, offset: usize, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let mut state = self.state.lock().unwrap();
        state.bytes[offset..offset + data.len()].copy_from_slice(data);
        let last = (offset + data.len() - 1) / GRAIN;
        state.written[offset / GRAIN..=last].fill(true);
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.state.lock().unwrap().bytes.clone()
    }

    /// Bytes in grains that were written.
    pub fn allocated(&self) -> usize {
        self.state.lock().unwrap().written.iter().filter(|w| **w).count() * GRAIN
    }
}

#[async_trait]
impl BlockDevice for MemoryDevice {
    fn size(&self) -> u64 {
        self.size
    }

    async fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(offset, buf.len() as u64, self.size)?;
        self.read_bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        let state = self.state.lock().unwrap();
        buf.copy_from_slice(&state.bytes[offset as usize..offset as usize + buf.len()]);
        Ok(())
    }

    async fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        check_range(offset, data.len() as u64, self.size)?;
        if offset + data.len() as u64 > self.full_at.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.put(offset as usize, data);
        Ok(())
    }

    async fn flush(&self) -> io::Result<()> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.write_zeroes(offset, length).await
    }

    async fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        check_range(offset, length, self.size)?;
        let mut state = self.state.lock().unwrap();
        state.bytes[offset as usize..(offset + length) as usize].fill(0);
        Ok(())
    }

    async fn block_status(&self, offset: u64, length: u64) -> io::Result<Extent> {
        check_range(offset, length, self.size)?;
        let state = self.state.lock().unwrap();
        let first = state.written[offset as usize / GRAIN];
        let mut end = offset as usize / GRAIN + 1;
        while end < state.written.len()
            && state.written[end] == first
            && ((end * GRAIN) as u64) < offset + length
        {
            end += 1;
        }
        let length = ((end * GRAIN) as u64 - offset).min(length);
        Ok(Extent { length, kind: if first { ExtentKind::Data } else { ExtentKind::Hole } })
    }
}

/// A sparse file.
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    size: u64,
}

impl FileDevice {
    pub fn create(path: &Path, size: u64) -> Self {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
        file.set_len(size).unwrap();
        Self { file, size }
    }

    pub fn put(&self, offset: u64, data: &[u8]) {
        self.file.write_all_at(data, offset).unwrap();
    }

    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Runs `work` on a copy of the file's handle, off the event loop.
async fn on<T: Send + 'static>(
    file: &File,
    work: impl FnOnce(File) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let file = file.try_clone()?;
    tokio::task::spawn_blocking(move || work(file)).await.unwrap()
}

#[async_trait]
impl BlockDevice for FileDevice {
    fn size(&self) -> u64 {
        self.size
    }

    async fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(offset, buf.len() as u64, self.size)?;
        let length = buf.len();
        let data = on(&self.file, move |file| {
            let mut data = vec![0; length];
            file.read_exact_at(&mut data, offset).map(|()| data)
        })
        .await?;
        buf.copy_from_slice(&data);
        Ok(())
    }

    async fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        check_range(offset, data.len() as u64, self.size)?;
        let data = data.to_vec();
        on(&self.file, move |file| file.write_all_at(&data, offset)).await
    }

    async fn flush(&self) -> io::Result<()> {
        on(&self.file, |file| file.sync_data()).await
    }

    async fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.write_zeroes(offset, length).await
    }

    async fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        check_range(offset, length, self.size)?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        on(&self.file, move |file| Ok(fallocate(&file, flags, offset, length)?)).await
    }

    async fn block_status(&self, offset: u64, length: u64) -> io::Result<Extent> {
        use rustix::fs::{SeekFrom, seek};
        check_range(offset, length, self.size)?;
        let data = match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(at) => at,
            Err(rustix::io::Errno::NXIO) => self.size,
            Err(e) => return Err(e.into()),
        };
        if data > offset {
            return Ok(Extent { length: (data - offset).min(length), kind: ExtentKind::Hole });
        }
        let hole = seek(&self.file, SeekFrom::Hole(offset))?;
        Ok(Extent { length: (hole - offset).min(length), kind: ExtentKind::Data })
    }
}

/// A device whose content is different each time it is read.
#[derive(Debug)]
pub struct Restless(pub MemoryDevice, pub AtomicBool);

#[async_trait]
impl BlockDevice for Restless {
    fn size(&self) -> u64 {
        self.0.size()
    }

    async fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, buf).await?;
        if self.1.load(Ordering::Relaxed) {
            buf[0] = buf[0].wrapping_add(self.0.read_bytes.load(Ordering::Relaxed) as u8 | 1);
            self.0.put(offset as usize, &buf[..1]);
        }
        Ok(())
    }

    async fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data).await
    }

    async fn flush(&self) -> io::Result<()> {
        self.0.flush().await
    }

    async fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.0.discard(offset, length).await
    }

    async fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.0.write_zeroes(offset, length).await
    }

    async fn block_status(&self, offset: u64, length: u64) -> io::Result<Extent> {
        self.0.block_status(offset, length).await
    }
}

/// A device that calls a hook before each read and write.
pub struct Hooked {
    pub inner: Arc<MemoryDevice>,
    calls: AtomicU64,
    hook: Hook,
}

/// Gets the operation and how many there were before.
pub type Hook = Box<dyn Fn(&'static str, u64) -> BoxFuture<'static, ()> + Send + Sync>;

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooked").finish_non_exhaustive()
    }
}

impl Hooked {
    pub fn new(
        inner: Arc<MemoryDevice>,
        hook: impl Fn(&'static str, u64) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { inner, calls: AtomicU64::new(0), hook: Box::new(hook) })
    }

    /// Calls `act` before the operation `what` when there were `count` calls.
    pub fn at(
        inner: &Arc<MemoryDevice>,
        what: &'static str,
        count: u64,
        act: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::new(Arc::clone(inner), move |op, calls| {
            if op == what && calls == count {
                act();
            }
            Box::pin(std::future::ready(()))
        })
    }

    async fn call(&self, what: &'static str) {
        (self.hook)(what, self.calls.fetch_add(1, Ordering::SeqCst)).await;
    }
}

#[async_trait]
impl BlockDevice for Hooked {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    async fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.call("read").await;
        self.inner.read(offset, buf).await
    }

    async fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.call("write").await;
        self.inner.write(offset, data).await
    }

    async fn flush(&self) -> io::Result<()> {
        self.inner.flush().await
    }

    async fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.inner.discard(offset, length).await
    }

    async fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.call("write").await;
        self.inner.write_zeroes(offset, length).await
    }

    async fn block_status(&self, offset: u64, length: u64) -> io::Result<Extent> {
        self.inner.block_status(offset, length).await
    }
}

/// A store, a volume, and the backups made of it.
pub struct Bench {
    pub directory: tempfile::TempDir,
    pub volume: VolumeId,
    pub config: PipelineConfig,
    pub chain: Vec<Level>,
}

impl Bench {
    /// Small objects: chunks of 64 KiB, hash blocks of 4 KiB.
    pub fn new(compression: &str) -> Self {
        let config = PipelineConfig {
            chunk_size: 64 << 10,
            block_size: 4 << 10,
            compression: compression.parse().unwrap(),
            ..PipelineConfig::default()
        };
        Self { directory: scratch(), volume: VolumeId::new(), config, chain: Vec::new() }
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    pub fn store(&self) -> SharedStore {
        Arc::new(PosixStore::new(self.root()))
    }

    /// A backup of `source` on top of the chain.
    pub fn request(&self, backup: BackupId, source: Device) -> CreateBackup {
        let parent = self.chain.last().map(|level| ParentRef {
            backup: level.backup,
            container: level.container.clone(),
            prefix: level.prefix.clone(),
        });
        CreateBackup {
            backup,
            volume: self.volume,
            name: Some("nightly".into()),
            description: None,
            created_at: "2026-11-21T19:32:04.5Z".parse().unwrap(),
            size: source.size(),
            source,
            parent,
            store: self.store(),
            naming: Naming::Posix { container: None },
            container: None,
            config: self.config.clone(),
            volume_meta: Some(r#"{"version": 2}"#.into()),
        }
    }

    /// Makes a backup on top of the chain and appends it.
    pub async fn back_up(&mut self, source: Device) -> BackupResult {
        let backup = BackupId::new();
        let made = create(self.request(backup, source), &Claim::unbounded()).await.unwrap();
        self.push(backup, &made);
        made
    }

    pub fn push(&mut self, backup: BackupId, made: &BackupResult) {
        let (container, prefix) = (made.container.clone(), made.service_metadata.clone());
        self.chain.push(Level { backup, container, prefix });
    }

    pub async fn restore_to(&self, target: Device, state: TargetState) -> backup::Result<Restored> {
        let request = Restore { store: self.store(), chain: self.chain.clone(), target, state };
        restore(request, &Claim::unbounded()).await
    }

    /// Where an object of the newest backup is.
    pub fn object(&self, suffix: &str) -> PathBuf {
        let level = self.chain.last().unwrap();
        self.root().join(&level.container).join(format!("{}{suffix}", level.prefix))
    }

    /// Every file under the store, hidden ones too, by its path below it.
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![self.root().to_owned()];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => open.push(path),
                    false => found.push(path.strip_prefix(self.root()).unwrap().to_str().unwrap().to_owned()),
                }
            }
        }
        found.sort();
        found
    }
}

/// A temporary directory in memory, where there is one: fsync costs nothing there.
pub fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// A small deterministic generator of bytes and numbers (xorshift).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Bytes that do not compress.
    pub fn noise(&mut self, length: usize) -> Vec<u8> {
        let mut out: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        out.truncate(length);
        out
    }

    /// Bytes that compress about to a half.
    pub fn text(&mut self, length: usize) -> Vec<u8> {
        let mut out = self.noise(length);
        out.iter_mut().for_each(|byte| *byte = b"etaoin shrdlucmf"[usize::from(*byte & 15)]);
        out
    }
}
