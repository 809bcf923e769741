//! The one trait through which bytes of a volume are read and written.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;

/// What a stretch of a device holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentKind {
    /// Bytes that were written.
    Data,
    /// Reads as zeros and takes no space.
    Hole,
    /// Reads as zeros; may take space.
    Zero,
}

/// The state of a stretch that starts at the offset asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Bytes from the offset asked for over which `kind` holds; at least 1.
    pub length: u64,
    /// What they hold.
    pub kind: ExtentKind,
}

/// A random-access block device: a volume, a snapshot, or a remote LUN.
///
/// Ordering is that of a disk: requests in flight together may be applied in any order; [`flush`](Self::flush)
/// makes every write that completed before it was called durable, through power loss. Offsets and lengths are
/// bytes. A request that reaches beyond the end fails with `InvalidInput` and does nothing. A device out of space fails
/// with `StorageFull`; a read-only one refuses writes with `ReadOnlyFilesystem`.
#[async_trait]
pub trait BlockDevice: Send + Sync + Debug {
    /// The size in bytes now; it may grow while the device is open.
    fn size(&self) -> u64;

    /// The smallest unit that the device writes without a read-modify-write, in bytes: 512 or 4096.
    fn block_size(&self) -> u32 {
        512
    }

    /// Whether writes are refused.
    fn read_only(&self) -> bool {
        false
    }

    /// Fills `buf` from `offset`.
    async fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Writes all of `data` at `offset`; durable only after a [`flush`](Self::flush).
    async fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Makes completed writes durable.
    async fn flush(&self) -> io::Result<()>;

    /// Gives the stretch back to the backend: it reads as zeros afterwards.
    async fn discard(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Makes the stretch read as zeros, allocated or not as the device sees fit.
    async fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()>;

    /// The state of the stretch at `offset`, looking at most `length` bytes ahead.
    async fn block_status(&self, offset: u64, length: u64) -> io::Result<Extent>;
}

/// A shared open device.
pub type Device = Arc<dyn BlockDevice>;

/// Checks that `offset..offset + length` lies inside `size` bytes.
///
/// # Errors
/// `InvalidInput` when it does not, overflow included.
pub fn check_range(offset: u64, length: u64, size: u64) -> io::Result<()> {
    match offset.checked_add(length) {
        Some(end) if end <= size => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{length} bytes at {offset} reach beyond the device's {size}"),
        )),
    }
}
