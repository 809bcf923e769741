//! A store in a directory, in the layout of Cinder's POSIX, NFS and GlusterFS drivers.
//!
//! ```text
//! <root>/<container>/<object>                 mode 0660, the container's directory 0770
//! <root>/<container>/.<object>.<run>.part     an unfinished object
//! ```
//!
//! An object is written under its unfinished name, fsynced, renamed; [`settle`](Store::settle) fsyncs the directory.
//! The hidden name keeps unfinished objects out of what Cinder lists (it compares by prefix). Links are not followed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::OFlags;
use tokio::sync::mpsc;

use super::{Download, Listing, READ_SIZE, Store, Upload, Wanted, check_container, check_object};
use crate::config::PosixConfig;
use crate::error::{Error, Result};

/// Cinder's mode of an object.
const FILE_MODE: u32 = 0o660;
/// Cinder's mode of a container.
const DIR_MODE: u32 = 0o770;
/// How often a container's directory is made again when another's deletion removes a parent in between.
const MKDIR_TRIES: usize = 5;
/// Names read from a directory at a time.
const LIST_BATCH: usize = 512;

/// Containers under a directory.
#[derive(Debug, Clone)]
pub struct PosixStore {
    root: PathBuf,
    create_containers: bool,
}

impl PosixStore {
    /// A store under `root` (`backup_posix_path`), which [`start`](Store::start) makes if need be.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), create_containers: true }
    }

    /// The store that `config` describes.
    pub fn from_config(config: &PosixConfig) -> Self {
        Self { root: config.path.clone(), create_containers: config.create_containers }
    }

    fn directory(&self, container: &str) -> Result<PathBuf> {
        check_container(container)?;
        Ok(self.root.join(container))
    }

    fn object(&self, container: &str, name: &str) -> Result<PathBuf> {
        check_name(name)?;
        Ok(self.directory(container)?.join(name))
    }
}

#[async_trait]
impl Store for PosixStore {
    async fn start(&self) -> Result<()> {
        let root = self.root.clone();
        blocking(move || {
            let probe = root.join(".probe");
            make_directories(&root)
                .and_then(|()| fs::write(&probe, b"")) // tells a read-only mount from a usable one
                .and_then(|()| remove(&probe))
                .map_err(|e| Error::file("use", &root.display().to_string(), e))
        })
        .await
    }

    async fn prepare(&self, container: &str) -> Result<()> {
        let directory = self.directory(container)?;
        let (name, create) = (container.to_owned(), self.create_containers);
        blocking(move || {
            if !create && !directory.is_dir() {
                return Err(Error::NotFound(format!("backup container {name} (and none may be made)")));
            }
            make_container(&directory).map_err(|e| Error::file("make", &name, e))
        })
        .await
    }

    async fn create(&self, container: &str, name: &str, run: &str) -> Result<Box<dyn Upload>> {
        let target = self.object(container, name)?;
        check_name(run)?;
        let part = target.with_file_name(unfinished_name(name, run));
        let name = name.to_owned();
        let upload = blocking(move || {
            let file = open_part(&part).map_err(|e| Error::file("create", &name, e))?;
            Ok(PosixUpload { file: Some(file), published: false, length: 0, part, target, name })
        })
        .await?;
        Ok(Box::new(upload))
    }

    async fn open(&self, container: &str, name: &str) -> Result<Box<dyn Download>> {
        let path = self.object(container, name)?;
        let name = name.to_owned();
        let download = blocking(move || {
            let file = open_object(&path).map_err(|e| Error::file("open", &name, e))?;
            Ok(PosixDownload { file: Some(file), name })
        })
        .await?;
        Ok(Box::new(download))
    }

    async fn list(&self, container: &str, prefix: &str) -> Result<Box<dyn Listing>> {
        let prefix = prefix.to_owned();
        let wanted = move |name: &str| !name.starts_with('.') && name.starts_with(&prefix);
        Ok(Box::new(PosixListing::new(self.directory(container)?, wanted)))
    }

    async fn delete(&self, container: &str, name: &str) -> Result<()> {
        let path = self.object(container, name)?;
        let name = name.to_owned();
        blocking(move || remove(&path).map_err(|e| Error::file("delete", &name, e))).await
    }

    async fn drop_unfinished(&self, container: &str, wanted: &Wanted<'_>) -> Result<()> {
        let directory = self.directory(container)?;
        let mut listing = PosixListing::new(directory.clone(), |name| finished_name(name).is_some());
        while let Some(names) = listing.next().await? {
            let names = names.into_iter().filter(|name| finished_name(name).is_some_and(wanted));
            let found: Vec<PathBuf> = names.map(|name| directory.join(name)).collect();
            blocking(move || {
                found.iter().try_for_each(|path| {
                    remove(path).map_err(|e| Error::file("delete", &path.display().to_string(), e))
                })
            })
            .await?;
        }
        Ok(())
    }

    async fn settle(&self, container: &str) -> Result<()> {
        let directory = self.directory(container)?;
        let name = container.to_owned();
        blocking(move || match sync_directory(&directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|e| Error::file("sync", &name, e)),
        })
        .await
    }

    async fn tidy(&self, container: &str) -> Result<()> {
        let (root, directory) = (self.root.clone(), self.directory(container)?);
        if !self.create_containers {
            return Ok(()); // whoever made it wants it to stay
        }
        blocking(move || {
            let mut path = directory.as_path();
            // Stops at the first directory that still holds something.
            while path != root && fs::remove_dir(path).is_ok() {
                match path.parent() {
                    Some(parent) => path = parent,
                    None => break,
                }
            }
            Ok(())
        })
        .await
    }
}

/// An object being written under its unfinished name.
#[derive(Debug)]
struct PosixUpload {
    /// `None` while a blocking call has it.
    file: Option<File>,
    published: bool,
    length: u64,
    part: PathBuf,
    target: PathBuf,
    name: String,
}

impl PosixUpload {
    /// Runs `work` on the file, off the event loop.
    async fn with_file(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&mut File) -> io::Result<()> + Send + 'static,
    ) -> Result<()> {
        let Some(mut file) = self.file.take() else {
            return Err(Error::file(action, &self.name, io::Error::other("an earlier write was abandoned")));
        };
        let (file, outcome) = blocking(move || {
            let outcome = work(&mut file);
            Ok((file, outcome))
        })
        .await?;
        self.file = Some(file);
        outcome.map_err(|e| Error::file(action, &self.name, e))
    }
}

#[async_trait]
impl Upload for PosixUpload {
    async fn write(&mut self, data: Bytes) -> Result<()> {
        let length = data.len() as u64;
        self.with_file("write", move |file| file.write_all(&data)).await?;
        self.length += length;
        Ok(())
    }

    async fn write_zeroes(&mut self, length: u64) -> Result<()> {
        let end = self.length + length;
        self.with_file("write", move |file| {
            file.set_len(end)?; // a hole: the zeros of an uncompressed object take no space
            file.seek(SeekFrom::Start(end)).map(drop)
        })
        .await?;
        self.length = end;
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        let (part, target) = (self.part.clone(), self.target.clone());
        self.with_file("write", move |file| {
            file.sync_all()?;
            fs::rename(&part, &target)
        })
        .await?;
        self.published = true;
        Ok(())
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        blocking(move || {
            drop(self);
            Ok(())
        })
        .await
    }
}

impl Drop for PosixUpload {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.part); // what stays is removed by the next run's sweep
        }
    }
}

/// An object being read.
#[derive(Debug)]
struct PosixDownload {
    /// `None` while a blocking call has it, and after a failure.
    file: Option<File>,
    name: String,
}

#[async_trait]
impl Download for PosixDownload {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(mut file) = self.file.take() else {
            return Err(Error::file("read", &self.name, io::Error::other("an earlier read was abandoned")));
        };
        let (file, outcome) = blocking(move || {
            let mut buffer = Vec::with_capacity(READ_SIZE);
            let outcome = Read::by_ref(&mut file).take(READ_SIZE as u64).read_to_end(&mut buffer);
            Ok((file, outcome.map(|_| buffer)))
        })
        .await?;
        self.file = Some(file);
        let buffer = outcome.map_err(|e| Error::file("read", &self.name, e))?;
        Ok((!buffer.is_empty()).then(|| buffer.into()))
    }
}

/// Runs `work` off the event loop.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    crate::run::joined(tokio::task::spawn_blocking(work)).await
}

/// Checks the name of an object, which is one file in its container's directory.
fn check_name(name: &str) -> Result<()> {
    check_object(name)?;
    match name.contains('/') {
        true => Err(Error::Invalid(format!("{name:?} cannot be the name of a file"))),
        false => Ok(()),
    }
}

fn unfinished_name(name: &str, run: &str) -> String {
    format!(".{name}.{run}.part")
}

/// The object's name in the name of an unfinished one.
fn finished_name(unfinished: &str) -> Option<&str> {
    let (name, _run) = unfinished.strip_prefix('.')?.strip_suffix(".part")?.rsplit_once('.')?;
    Some(name)
}

fn open_part(part: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits() as i32;
    let file = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(part)?;
    file.set_permissions(fs::Permissions::from_mode(FILE_MODE))?; // whatever the umask
    Ok(file)
}

/// Opens a plain file; a pipe or device in its place must neither block nor be read.
fn open_object(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file")),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes a container's directory below `root`.
fn make_container(directory: &Path) -> io::Result<()> {
    make_directories(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(DIR_MODE))?;
    sync_directory(directory)
}

/// Makes `directory` and its missing parents, each durable in its own parent.
fn make_directories(directory: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = directory.ancestors().take_while(|path| !path.is_dir()).collect();
    let mut outcome = Ok(());
    for _ in 0..MKDIR_TRIES {
        outcome = fs::create_dir_all(directory);
        match &outcome {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            _ => break,
        }
    }
    outcome?;
    missing.iter().filter_map(|path| path.parent()).try_for_each(sync_directory)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The names in a directory; reading goes on off the event loop, at most one batch ahead.
#[derive(Debug)]
struct PosixListing(mpsc::Receiver<Result<Vec<String>>>);

impl PosixListing {
    fn new(directory: PathBuf, wanted: impl Fn(&str) -> bool + Send + 'static) -> Self {
        let (batches, receive) = mpsc::channel(1);
        tokio::task::spawn_blocking(move || {
            if let Err(e) = send_names(&directory, wanted, &batches) {
                let e = Error::file("list", &directory.display().to_string(), e);
                let _ = batches.blocking_send(Err(e)); // nobody reads any more: nobody needs to know
            }
        });
        Self(receive)
    }
}

#[async_trait]
impl Listing for PosixListing {
    async fn next(&mut self) -> Result<Option<Vec<String>>> {
        self.0.recv().await.transpose()
    }
}

fn send_names(
    directory: &Path,
    wanted: impl Fn(&str) -> bool,
    batches: &mpsc::Sender<Result<Vec<String>>>,
) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut batch = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let Some(name) = name.to_str().filter(|name| wanted(name)) else { continue };
        batch.push(name.to_owned());
        if batch.len() == LIST_BATCH && batches.blocking_send(Ok(std::mem::take(&mut batch))).is_err() {
            return Ok(());
        }
    }
    if !batch.is_empty() {
        let _ = batches.blocking_send(Ok(batch)); // likewise
    }
    Ok(())
}
