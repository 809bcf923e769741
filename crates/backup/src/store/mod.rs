//! Where backups are kept: containers of named objects.
//!
//! A [`Store`] is small on purpose: an object appears whole or not at all, reading is sequential, listing visits names.
//! Two implementations: [`posix`] (a directory, also on NFS and GlusterFS mounts), written against the file system
//! itself because an acknowledged backup must survive power loss, which takes an fsync of file *and* directory; and
//! [`remote`], any service that `opendal` speaks.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, Result};

pub mod posix;
pub mod remote;

pub use posix::PosixStore;
pub use remote::RemoteStore;

/// The size in which objects are read, in bytes; an implementation may return less.
pub const READ_SIZE: usize = 1 << 20;

/// A shared store.
pub type SharedStore = Arc<dyn Store>;

/// Containers of objects. Names of containers and objects are checked before they are used: none can lead elsewhere.
#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// Checks that the store is usable, and prepares it; called once at start, and again to see whether it still is.
    async fn start(&self) -> Result<()>;

    /// Makes sure that `container` exists, durably.
    async fn prepare(&self, container: &str) -> Result<()>;

    /// Begins an object. It is invisible until [`Upload::finish`], which replaces an object of that name. `run` names
    /// the run that makes it and becomes part of the unfinished object's name, so that two runs never share one.
    async fn create(&self, container: &str, name: &str, run: &str) -> Result<Box<dyn Upload>>;

    /// Opens an object for reading from its start. `NotFound` when there is none.
    async fn open(&self, container: &str, name: &str) -> Result<Box<dyn Download>>;

    /// Lists the names of all objects that start with `prefix`, in any order; none when there is no such container.
    /// Unfinished objects are not listed. Objects may be deleted while a listing is read.
    async fn list(&self, container: &str, prefix: &str) -> Result<Box<dyn Listing>>;

    /// Removes an object; one that does not exist is removed already.
    async fn delete(&self, container: &str, name: &str) -> Result<()>;

    /// Removes unfinished objects whose names `wanted` accepts, so that the runs that were making them cannot finish
    /// them. A store that drops them by itself does nothing.
    async fn drop_unfinished(&self, container: &str, wanted: &Wanted<'_>) -> Result<()>;

    /// Makes all finished objects and deletions in `container` durable.
    async fn settle(&self, container: &str) -> Result<()>;

    /// Removes `container` if nothing is left in it, where containers are cheap; otherwise does nothing.
    async fn tidy(&self, container: &str) -> Result<()>;
}

/// Chooses objects by name.
pub type Wanted<'a> = dyn Fn(&str) -> bool + Send + Sync + 'a;

/// An object in the making. Dropping it unfinished removes it, or leaves it to [`Store::drop_unfinished`].
#[async_trait]
pub trait Upload: Send + Debug {
    /// Appends `data`.
    async fn write(&mut self, data: Bytes) -> Result<()>;

    /// Appends `length` zero bytes.
    async fn write_zeroes(&mut self, mut length: u64) -> Result<()> {
        while length > 0 {
            let piece = ZEROES.slice(..length.min(ZEROES.len() as u64) as usize);
            length -= piece.len() as u64;
            self.write(piece).await?;
        }
        Ok(())
    }

    /// Makes the object's bytes durable and the object visible, whole.
    async fn finish(self: Box<Self>) -> Result<()>;

    /// Gives it up.
    async fn abort(self: Box<Self>) -> Result<()>;
}

/// An object being read.
#[async_trait]
pub trait Download: Send + Debug {
    /// The next bytes, never empty; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>>;
}

/// Names being listed.
#[async_trait]
pub trait Listing: Send + Debug {
    /// The next names, never none of them; `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<String>>>;
}

/// A page of zeros to write from and compare with.
pub(crate) static ZEROES: Bytes = Bytes::from_static(&[0; 1 << 20]);

/// The longest name of a container's part or of an object's part, in bytes; leaves room for a run's name.
const MAX_PART: usize = 180;

/// Checks a container's name: relative, of ordinary parts only.
///
/// # Errors
/// `Invalid` says what is wrong with it.
pub fn check_container(name: &str) -> Result<()> {
    check_parts("container", name)
}

/// Checks an object's name or prefix.
///
/// # Errors
/// `Invalid` says what is wrong with it.
pub fn check_object(name: &str) -> Result<()> {
    check_parts("object", name)
}

fn check_parts(what: &str, name: &str) -> Result<()> {
    let refuse = || Error::Invalid(format!("{name:?} cannot be the name of a backup {what}"));
    if name.len() > 4 * MAX_PART || name.bytes().any(|b| b < b' ' || b == 0x7f) {
        return Err(refuse());
    }
    // A leading dot would also reach the names of unfinished objects.
    if name.split('/').any(|part| part.is_empty() || part.starts_with('.') || part.len() > MAX_PART) {
        return Err(refuse());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let long = "x".repeat(MAX_PART + 1);
        for name in ["", "/etc", "a//b", "..", "a/../b", "./a", ".a", "a\0b", "a\n", "a/", &long] {
            assert!(check_container(name).is_err(), "{name:?}");
            assert!(check_object(name).is_err(), "{name:?}");
        }
        check_container("3e/16/3e165958-5169-462c-8b74-7273b1912aef").unwrap();
        check_container("volumebackups").unwrap();
    }
}
