//! The directory: every file is reached through it, by one plain name, never through a symbolic link.
//!
//! What is made is made under a name that carries the claim ([`Making`]), synced, and published by rename; the rename is
//! durable when [`Dir::sync`] returns.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::job::Claim;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::names;
use crate::OpenMode;
use crate::blob::{FileBlob, SharedBlob};
use crate::error::{DriverError, During, ErrorKind, Result};
use crate::fault::{FaultBlob, Faults};

/// How often, and how long apart, a lock that is held is asked for again: 100 ms in all.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// The largest text file read whole.
const TEXT_MAX: u64 = 1 << 20;

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
    mode: Mode,
    faults: Option<Arc<Faults>>,
}

impl Dir {
    /// Opens the directory at `path`, made for its owner alone if it is missing. New files get `mode`.
    pub fn open(path: &Path, mode: u32, faults: Option<Arc<Faults>>) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .during(|| format!("making the directory {}", path.display()))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(io::Error::from)
            .during(|| format!("opening the directory {}", path.display()))?;
        Ok(Self { fd, path: path.to_owned(), mode: Mode::from_raw_mode(mode), faults })
    }

    fn hit(&self) -> io::Result<()> {
        self.faults.as_ref().map_or(Ok(()), |f| f.hit())
    }

    fn what(&self, doing: &str, name: &str) -> String {
        format!("{doing} {}", self.path.join(name).display())
    }

    fn open_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(rustix::fs::openat(&self.fd, name, flags, self.mode)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(file)
    }

    fn wrap(&self, file: File) -> io::Result<SharedBlob> {
        let blob: SharedBlob = Arc::new(FileBlob::new(file)?);
        Ok(match &self.faults {
            Some(faults) => Arc::new(FaultBlob { inner: blob, faults: Arc::clone(faults) }),
            None => blob,
        })
    }

    /// Opens an existing file.
    pub fn blob(&self, name: &str, mode: OpenMode) -> Result<SharedBlob> {
        let flags = if mode == OpenMode::Write { OFlags::RDWR } else { OFlags::RDONLY };
        self.open_file(name, flags).and_then(|f| self.wrap(f)).during(|| self.what("opening", name))
    }

    /// The length of a file, `None` when there is none of that name.
    pub fn len_of(&self, name: &str) -> Result<Option<u64>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.st_size as u64)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(DriverError::io(self.what("looking at", name), e.into())),
        }
    }

    /// Whether that name is a regular file's; links are none.
    pub fn is_file(&self, name: &str) -> Result<bool> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(DriverError::io(self.what("looking at", name), e.into())),
        }
    }

    /// Whether there is a file of that name.
    pub fn has(&self, name: &str) -> Result<bool> {
        Ok(self.len_of(name)?.is_some())
    }

    /// A small text file, `None` when it is missing.
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        let read = |file: File| -> io::Result<String> {
            let mut text = String::new();
            file.take(TEXT_MAX).read_to_string(&mut text)?;
            Ok(text)
        };
        match self.open_file(name, OFlags::RDONLY) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            file => file.and_then(read).map(Some).during(|| self.what("reading", name)),
        }
    }

    /// Starts to make `name` under `claim`. What this very run, or an earlier one of the same job, had begun is dropped.
    pub fn make(self: &Arc<Self>, name: &str, claim: &Claim) -> Result<Making> {
        claim.check()?;
        self.drop_earlier(name, claim)?;
        let tmp = names::intermediate(name, claim);
        let create = || -> io::Result<SharedBlob> {
            self.hit()?;
            self.wrap(self.open_file(&tmp, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?)
        };
        let blob = create().during(|| self.what("creating", &tmp))?;
        Ok(Making { dir: Arc::clone(self), tmp, name: name.to_owned(), blob, done: false })
    }

    /// Removes intermediates of `name` by this run or earlier ones of its job: a paused owner finds its work gone.
    fn drop_earlier(&self, name: &str, claim: &Claim) -> Result<()> {
        self.remove(&names::intermediate(name, claim))?;
        if claim.epoch <= 1 {
            return Ok(());
        }
        for found in self.names()? {
            if names::intermediate_of(&found)
                .is_some_and(|(of, job, epoch)| of == name && job == claim.job && epoch < claim.epoch)
            {
                self.remove(&found)?;
            }
        }
        Ok(())
    }

    /// Removes a file; whether there was one.
    pub fn remove(&self, name: &str) -> Result<bool> {
        let unlink = || -> io::Result<bool> {
            self.hit()?;
            match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
                Ok(()) => Ok(true),
                Err(Errno::NOENT) => Ok(false),
                Err(e) => Err(e.into()),
            }
        };
        unlink().during(|| self.what("removing", name))
    }

    /// Renames a file to a name that nothing else has. Not durable before [`Dir::sync`].
    pub fn rename_new(&self, from: &str, to: &str) -> Result<()> {
        let rename = || -> io::Result<()> {
            self.hit()?;
            match rustix::fs::renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE) {
                // NFS cannot do that: the file gets its new name, then loses the old one.
                Err(Errno::INVAL) => {
                    rustix::fs::linkat(&self.fd, from, &self.fd, to, AtFlags::empty())?;
                    self.hit()?;
                    Ok(rustix::fs::unlinkat(&self.fd, from, AtFlags::empty())?)
                }
                other => Ok(other?),
            }
        };
        // A run that died between the two is ended here.
        if self.same(from, to)? {
            return self.remove(from).map(drop);
        }
        rename().during(|| format!("{} as {to}", self.what("renaming", from)))
    }

    /// Whether two names are there and are one file.
    pub fn same(&self, one: &str, other: &str) -> Result<bool> {
        let stat = |name: &str| match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some((stat.st_dev, stat.st_ino))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(DriverError::io(self.what("looking at", name), e.into())),
        };
        let one = stat(one)?;
        Ok(one.is_some() && one == stat(other)?)
    }

    /// Makes renames and removals durable.
    pub fn sync(&self) -> Result<()> {
        let sync = || -> io::Result<()> {
            self.hit()?;
            Ok(rustix::fs::fsync(&self.fd)?)
        };
        sync().during(|| format!("syncing {}", self.path.display()))
    }

    /// All names.
    pub fn names(&self) -> Result<Vec<String>> {
        let read = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in rustix::fs::Dir::read_from(&self.fd)? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if name != "." && name != ".." {
                    names.push(name);
                }
            }
            Ok(names)
        };
        read().during(|| format!("listing {}", self.path.display()))
    }

    /// Bytes in all, and bytes that we may still use.
    pub fn space(&self) -> Result<(u64, u64)> {
        let vfs = rustix::fs::fstatvfs(&self.fd)
            .map_err(io::Error::from)
            .during(|| format!("asking for the space of {}", self.path.display()))?;
        Ok((vfs.f_blocks * vfs.f_frsize, vfs.f_bavail * vfs.f_frsize))
    }

    /// Locks the lock file of `name`, alone or with other readers, for as long as the result lives.
    ///
    /// # Errors
    /// `Busy` when another has it.
    pub fn lock(&self, name: &str, mode: OpenMode) -> Result<File> {
        let lock = names::lock(name);
        let how = match mode {
            OpenMode::Write => FlockOperation::NonBlockingLockExclusive,
            OpenMode::Read => FlockOperation::NonBlockingLockShared,
        };
        let mut patience = LOCK_TRIES;
        loop {
            let file = self
                .open_file(&lock, OFlags::RDWR | OFlags::CREATE)
                .during(|| self.what("opening", &lock))?;
            match rustix::fs::flock(&file, how) {
                Ok(()) => {}
                // A child between fork and exec shares our descriptors, and with them a lock that was just let go; flock has no
                // time limit of its own to wait that out with.
                Err(Errno::WOULDBLOCK) if patience > 0 => {
                    patience -= 1;
                    std::thread::park_timeout(LOCK_PAUSE);
                    continue;
                }
                Err(Errno::WOULDBLOCK) => {
                    return Err(DriverError::new(ErrorKind::Busy, format!("{name} is open elsewhere")));
                }
                Err(Errno::INTR) => continue,
                Err(e) => return Err(DriverError::io(self.what("locking", &lock), e.into())),
            }
            // A lock on a file that was removed meanwhile locks nothing.
            if std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) > 0 {
                return Ok(file);
            }
        }
    }
}

/// A file in the making. Dropped unpublished, it is removed.
#[derive(Debug)]
pub struct Making {
    dir: Arc<Dir>,
    tmp: String,
    name: String,
    blob: SharedBlob,
    done: bool,
}

impl Making {
    /// The file.
    pub fn blob(&self) -> &SharedBlob {
        &self.blob
    }

    /// Writes a text as the file's whole content.
    pub fn write_text(&self, text: &str) -> Result<()> {
        let write = || -> io::Result<()> {
            self.dir.hit()?;
            self.blob.file().map_or(Ok(()), |mut f| f.write_all(text.as_bytes()))
        };
        write().during(|| self.dir.what("writing", &self.tmp))
    }

    /// Publishes the file under its name unless that exists: then this one is dropped, because an earlier run has
    /// finished. Not durable before [`Dir::sync`].
    pub fn publish_new(mut self, claim: &Claim) -> Result<SharedBlob> {
        self.ready(claim)?;
        match self.rename(RenameFlags::NOREPLACE) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => self.link_new()?,
            other => {
                other.during(|| self.dir.what("publishing", &self.name))?;
                self.done = true;
            }
        }
        Ok(Arc::clone(&self.blob))
    }

    /// For file systems without `RENAME_NOREPLACE` (NFS).
    fn link_new(&self) -> Result<()> {
        match rustix::fs::linkat(&self.dir.fd, &self.tmp, &self.dir.fd, &self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(DriverError::io(self.dir.what("publishing", &self.name), e.into())),
        }
    }

    /// Publishes the file under its name, in the place of what has it. Not durable before [`Dir::sync`].
    pub fn publish_over(mut self, claim: &Claim) -> Result<SharedBlob> {
        self.ready(claim)?;
        self.rename(RenameFlags::empty()).during(|| self.dir.what("publishing", &self.name))?;
        self.done = true;
        Ok(Arc::clone(&self.blob))
    }

    fn ready(&self, claim: &Claim) -> Result<()> {
        self.blob.sync().during(|| self.dir.what("syncing", &self.tmp))?;
        claim.check()?;
        Ok(())
    }

    fn rename(&self, flags: RenameFlags) -> io::Result<()> {
        self.dir.hit()?;
        if flags.is_empty() {
            rustix::fs::renameat(&self.dir.fd, &self.tmp, &self.dir.fd, &self.name)?;
        } else {
            rustix::fs::renameat_with(&self.dir.fd, &self.tmp, &self.dir.fd, &self.name, flags)?;
        }
        Ok(())
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.done
            && let Err(error) = self.dir.remove(&self.tmp)
        {
            tracing::warn!(file = self.tmp, %error, "an unfinished file stays for the reconciler");
        }
    }
}
