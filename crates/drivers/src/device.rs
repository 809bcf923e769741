//! A [`Stack`] as a [`BlockDevice`]: the gate that parks its I/O, the fast path, and flushes that are shared.
//!
//! What the page cache can answer is answered on the calling task, without a change of thread. Everything else goes to
//! Tokio's blocking threads and holds the gate until it is done, even when the caller has stopped waiting for it.

use std::any::Any;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use model::block::check_range;
use model::{BlockDevice, Extent};
use tokio::sync::{Mutex, OwnedRwLockReadGuard, RwLock, RwLockWriteGuard};

use crate::blob::Wait;
use crate::stack::Stack;

/// The largest request answered on the calling task: copying it takes less than a change of thread is worth worrying about.
const INLINE_MAX: usize = 256 << 10;
/// A write on the calling task that took this long was throttled by the kernel, or the machine is very busy: for a while writes
/// go to other threads ...
const INLINE_SLOW: Duration = Duration::from_millis(5);
/// ... for so long at first, in milliseconds, and each time that the next try is slow again, twice as long ...
const PAUSE_MIN: u64 = 4;
/// ... up to this.
const PAUSE_MAX: u64 = 1024;

/// A volume's stack while it is open. One exists for each open volume; [`Handle`]s share it.
#[derive(Debug)]
pub struct Served {
    stack: Arc<RwLock<Stack>>,
    size: AtomicU64,
    sector: u32,
    /// Flushes asked for so far.
    flushes_asked: AtomicU64,
    /// Up to which of them are done.
    flushes_done: Mutex<u64>,
    /// Flushes and other requests that hold the file system's journal.
    heavy: AtomicUsize,
    born: Instant,
    /// Milliseconds after `born` before which writes are not made on the calling task.
    inline_after: AtomicU64,
    /// The latest such pause in milliseconds; zero when the last write was not slow.
    inline_pause: AtomicU64,
}

impl Served {
    /// Serves `stack`.
    pub fn new(stack: Stack) -> Arc<Self> {
        Arc::new(Self {
            size: AtomicU64::new(stack.size()),
            sector: stack.sector(),
            stack: Arc::new(RwLock::new(stack)),
            flushes_asked: AtomicU64::new(0),
            flushes_done: Mutex::new(0),
            heavy: AtomicUsize::new(0),
            born: Instant::now(),
            inline_after: AtomicU64::new(0),
            inline_pause: AtomicU64::new(0),
        })
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Waits until nothing is under way, keeps new requests waiting, and lets `change` have the stack. On a blocking thread only.
    pub fn parked<T>(&self, change: impl FnOnce(&mut Stack) -> T) -> T {
        change(&mut self.park())
    }

    /// Waits until nothing is under way, and keeps new requests waiting for as long as the result lives. On a blocking thread only.
    /// Whoever parks several does so in one order.
    pub fn park(&self) -> Parked<'_> {
        Parked { stack: self.stack.blocking_write(), size: &self.size }
    }

    /// The layers as they are now. On a blocking thread only.
    pub fn stack(&self) -> Stack {
        self.stack.blocking_read().clone()
    }

    /// Runs `work` on a blocking thread with the gate held open.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Stack) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let stack: OwnedRwLockReadGuard<Stack> = Arc::clone(&self.stack).read_owned().await;
        tokio::task::spawn_blocking(move || work(&stack)).await.map_err(io::Error::other)?
    }

    /// Runs `work` likewise, and keeps writes off the calling tasks meanwhile.
    async fn blocking_heavy<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Stack) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let _heavy = Heavy::new(&self.heavy);
        self.blocking(work).await
    }

    async fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(offset, buf.len() as u64, self.size())?;
        if buf.len() <= INLINE_MAX
            && let Ok(stack) = self.stack.try_read()
        {
            match stack.read(offset, buf, Wait::Brief) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
        let len = buf.len();
        let data = self
            .blocking(move |stack| {
                let mut data = vec![0; len];
                stack.read(offset, &mut data, Wait::Full).map(|()| data)
            })
            .await?;
        buf.copy_from_slice(&data);
        Ok(())
    }

    async fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        check_range(offset, data.len() as u64, self.size())?;
        if let Some(done) = self.write_inline(offset, data) {
            return done;
        }
        let data = data.to_vec();
        self.blocking(move |stack| stack.write(offset, &data, Wait::Full)).await
    }

    /// Tries the write on the calling task; `None` when it belongs on another thread.
    fn write_inline(&self, offset: u64, data: &[u8]) -> Option<io::Result<()>> {
        if data.len() > INLINE_MAX || self.heavy.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let start = Instant::now();
        let now = start.duration_since(self.born).as_millis() as u64;
        if now < self.inline_after.load(Ordering::Relaxed) {
            return None;
        }
        let stack = self.stack.try_read().ok()?;
        let done = stack.write(offset, data, Wait::Brief);
        let pause = self.inline_pause.load(Ordering::Relaxed);
        if start.elapsed() > INLINE_SLOW {
            let pause = (pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
            self.inline_pause.store(pause, Ordering::Relaxed);
            self.inline_after.store(now + INLINE_SLOW.as_millis() as u64 + pause, Ordering::Relaxed);
        } else if pause != 0 {
            self.inline_pause.store(0, Ordering::Relaxed);
        }
        match done {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
            done => Some(done),
        }
    }

    /// Flushes; requests that arrive during one share the next.
    async fn flush(&self) -> io::Result<()> {
        let ours = self.flushes_asked.fetch_add(1, Ordering::AcqRel) + 1;
        let mut done = self.flushes_done.lock().await;
        if *done >= ours {
            return Ok(());
        }
        let covered = self.flushes_asked.load(Ordering::Acquire);
        self.blocking_heavy(Stack::flush).await?;
        *done = covered;
        Ok(())
    }
}

/// A device whose I/O waits.
pub struct Parked<'a> {
    stack: RwLockWriteGuard<'a, Stack>,
    size: &'a AtomicU64,
}

impl Deref for Parked<'_> {
    type Target = Stack;

    fn deref(&self) -> &Stack {
        &self.stack
    }
}

impl DerefMut for Parked<'_> {
    fn deref_mut(&mut self) -> &mut Stack {
        &mut self.stack
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.size.store(self.stack.size(), Ordering::Release);
    }
}

/// Counts something heavy while it lives.
struct Heavy<'a>(&'a AtomicUsize);

impl<'a> Heavy<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Heavy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a handle keeps alive: the lock on the volume, say.
pub type Hold = Box<dyn Any + Send + Sync>;

/// One opening of a volume.
pub struct Handle {
    served: Arc<Served>,
    read_only: bool,
    _hold: Hold,
}

impl Handle {
    /// A handle that keeps `hold` for as long as it lives.
    pub fn new(served: Arc<Served>, read_only: bool, hold: Hold) -> Self {
        Self { served, read_only, _hold: hold }
    }

    fn writable(&self) -> io::Result<()> {
        if self.read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("size", &self.served.size())
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl BlockDevice for Handle {
    fn size(&self) -> u64 {
        self.served.size()
    }

    fn block_size(&self) -> u32 {
        self.served.sector
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    async fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.served.read(offset, buf).await
    }

    async fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.writable()?;
        self.served.write(offset, data).await
    }

    async fn flush(&self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.served.flush().await
    }

    async fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.writable()?;
        check_range(offset, length, self.size())?;
        self.served.blocking_heavy(move |stack| stack.discard(offset, length)).await
    }

    async fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.discard(offset, length).await
    }

    async fn block_status(&self, offset: u64, length: u64) -> io::Result<Extent> {
        check_range(offset, length, self.size())?;
        self.served.blocking(move |stack| stack.status(offset, length)).await
    }
}
