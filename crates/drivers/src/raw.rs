//! A file or block device served as it is: no driver, no names, one lock.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::Arc;

use model::block::Device;
use rustix::fs::{FlockOperation, flock};

use crate::OpenMode;
use crate::blob::FileBlob;
use crate::device::{Handle, Served};
use crate::stack::Stack;

/// Opens the regular file or block device at `path`. Whoever writes to it has it alone: an exclusive lock (`flock`) is
/// held on it for as long as the device lives; readers share one. Blocks; call it off the event loop.
///
/// # Errors
/// `ResourceBusy` when another process has it open through this function; `InvalidInput` when it is neither kind.
pub fn open(path: &Path, mode: OpenMode) -> io::Result<Device> {
    let write = mode == OpenMode::Write;
    let file = OpenOptions::new().read(true).write(write).open(path)?;
    let lock =
        if write { FlockOperation::NonBlockingLockExclusive } else { FlockOperation::NonBlockingLockShared };
    flock(&file, lock).map_err(|e| match io::Error::from(e) {
        e if e.kind() == io::ErrorKind::WouldBlock => {
            io::Error::new(io::ErrorKind::ResourceBusy, format!("{} is open elsewhere", path.display()))
        }
        e => e,
    })?;
    let stack = Stack::raw(Arc::new(FileBlob::new(file)?));
    Ok(Arc::new(Handle::new(Served::new(stack), !write, Box::new(()))))
}
