//! Taking over files that somebody else has put into the directory, and giving volumes and snapshots up.
//!
//! A file is taken over by renaming it, and only if it is certain what it is: one regular file of this very directory, with one name,
//! that nobody has open or locked and that is raw. What looks like a disk image of any format is refused, because as a raw volume it
//! would not be the disk that it stands for; nothing that its header names is ever looked at. What is given up keeps its bytes
//! under [`names::released`] of its old name: a name that is not ours, so that housekeeping passes it by. That its content is raw is
//! known then, because we have written it.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use model::job::Claim;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::Backend;
use super::info::Info;
use super::names::{self, Name};
use crate::error::{DriverError, During, ErrorKind, Result};
use crate::{Manageable, OpenMode, SnapshotRef, VolumeRef};

/// How image formats begin: what, where, and its name.
const FORMATS: [(&[u8], u64, &str); 9] = [
    (b"QFI\xfb", 0, "qcow2"),
    (b"QED\0", 0, "qed"),
    (b"KDMV", 0, "vmdk"),
    (b"COWD", 0, "vmdk"),
    (b"# Disk Descriptor", 0, "vmdk"),
    (b"vhdxfile", 0, "vhdx"),
    (b"conectix", 0, "vhd"),
    (b"\x7f\x10\xda\xbe", 64, "vdi"),
    (b"WithoutFreeSpace", 0, "parallels"),
];
/// A fixed VHD has its mark in the last sector.
const FOOTER: u64 = 512;

fn invalid(text: impl Into<String>) -> DriverError {
    DriverError::new(ErrorKind::Invalid, text)
}

impl Backend {
    /// What there is that could become a volume or a snapshot. What has a volume's name is listed too: whether it has a row is for
    /// the caller to say.
    pub(super) fn manageable(&self) -> Result<Vec<Manageable>> {
        let mut found = Vec::new();
        for name in self.dir.names()? {
            let id = match Name::parse(&name) {
                Name::Volume(id) => Some(id),
                Name::Foreign if names::check_source(&name).is_ok() => None,
                _ => continue,
            };
            if !self.dir.is_file(&name)? {
                continue;
            }
            let of = names::released_snapshot(&name).map(|(volume, _)| volume.to_owned());
            let (bytes, refusal) = match self.examine(&name, OpenMode::Read) {
                Ok(bytes) => (bytes, None),
                Err(e) if e.kind == ErrorKind::NotFound => continue,
                Err(e) => (self.dir.len_of(&name)?.unwrap_or(0), Some(e.context)),
            };
            found.push(Manageable { name, bytes, volume: id, of, refusal });
        }
        Ok(found)
    }

    /// The file that `source` means for a volume, with its size.
    pub(super) fn volume_candidate(&self, source: &str) -> Result<Manageable> {
        let name = self.resolve(source)?;
        let bytes = self.examine(&name, OpenMode::Write)?;
        let id = names::volume_id(&name);
        Ok(Manageable { name, bytes, volume: id, of: None, refusal: None })
    }

    /// The same for a snapshot of `volume`.
    pub(super) fn snapshot_candidate(&self, volume: &str, source: &str) -> Result<Manageable> {
        names::check(volume)?;
        let name = self.resolve_snapshot(volume, source)?;
        let bytes = self.examine(&name, OpenMode::Write)?;
        Ok(Manageable { name, bytes, volume: None, of: Some(volume.to_owned()), refusal: None })
    }

    /// Makes a file a volume of its size in whole GiB. One that is there already was taken by an earlier run.
    pub(super) fn adopt_volume(&self, volume: &VolumeRef, source: &str, claim: &Claim) -> Result<()> {
        names::check(&volume.name)?;
        if self.dir.has(&volume.name)? {
            // Where a rename takes two steps, an earlier run may have made the first.
            if self.dir.same(source, &volume.name)? {
                self.dir.remove(source)?;
            }
        } else {
            let file = self.resolve(source)?;
            let bytes = self.take(&file, &volume.name, claim)?;
            if bytes > volume.size.bytes() {
                // It has grown since it was measured. Nobody has seen the volume yet.
                self.dir.rename_new(&volume.name, &file)?;
                self.dir.sync()?;
                return Err(invalid(format!(
                    "{file} has {bytes} bytes, which do not fit into {}",
                    volume.size
                )));
            }
        }
        let blob = self.dir.blob(&volume.name, OpenMode::Write)?;
        if blob.len() < volume.size.bytes() {
            blob.set_len(volume.size.bytes()).during(|| format!("sizing {}", volume.name))?;
            blob.sync().during(|| format!("syncing {}", volume.name))?;
        }
        self.dir.sync()
    }

    /// Makes a snapshot that was given up one of its volume again.
    pub(super) fn adopt_snapshot(&self, snapshot: &SnapshotRef, source: &str, claim: &Claim) -> Result<()> {
        let volume = &snapshot.volume.name;
        names::check(volume)?;
        let flat = names::flat(volume, snapshot.id);
        if !self.dir.has(&flat)? {
            let file = self.resolve_snapshot(volume, source)?;
            self.take(&file, &flat, claim)?;
        }
        self.dir.sync()
    }

    /// Gives a volume up: its file stays, as `to` or under its released name. One that is not there has been given up before.
    pub(super) fn release_volume(&self, volume: &VolumeRef, to: Option<&str>, claim: &Claim) -> Result<()> {
        let name = &volume.name;
        let to = target(name, to)?;
        // Whoever is about to take the file holds this; it must not do so after we have looked.
        let taking = self.dir.lock(&to, OpenMode::Write)?;
        let released = self.release_to(name, &to, claim);
        self.dir.remove(&names::lock(&to))?;
        drop(taking);
        released?;
        self.dir.sync()
    }

    fn release_to(&self, name: &str, to: &str, claim: &Claim) -> Result<()> {
        let owner = match self.own(name) {
            Ok(owner) => owner,
            Err(e) if e.kind == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut state = owner.work();
        self.check_no_snapshots(name)?;
        // What earlier times have left in the chain becomes part of the file itself.
        while state.files.len() > 1 {
            let top = state.files[0].clone();
            self.remove_overlay(&owner, &mut state, "", &top, claim)?;
        }
        owner.begin_delete()?;
        owner.served.stack().flush()?;
        claim.check()?;
        self.dir.rename_new(name, to)?;
        self.dir.remove(&names::info(name))?;
        self.dir.remove(&names::lock(name))?;
        Ok(())
    }

    /// Gives a snapshot up: its bytes stay in a file of their own, which needs the volume no more.
    pub(super) fn release_snapshot(
        &self,
        snapshot: &SnapshotRef,
        to: Option<&str>,
        claim: &Claim,
    ) -> Result<()> {
        let volume = &snapshot.volume.name;
        names::check(volume)?;
        let flat = names::flat(volume, snapshot.id);
        let to = target(&flat, to)?;
        let key = snapshot.id.to_string();
        if !self.dir.has(&flat)? && Info::load(&self.dir, volume)?.overlays.contains_key(&key) {
            let owner = self.own(volume)?;
            self.flatten(&owner, &mut owner.work(), snapshot, claim)?;
        }
        if self.dir.has(&flat)? {
            let readers = self.dir.lock(&flat, OpenMode::Write)?;
            claim.check()?;
            self.dir.rename_new(&flat, &to)?;
            self.dir.remove(&names::lock(&flat))?;
            drop(readers);
        }
        self.dir.sync()
    }

    /// Renames a file that is certain to what it is from now on; its size. Two runs do not do so at once.
    fn take(&self, file: &str, name: &str, claim: &Claim) -> Result<u64> {
        let taking = self.dir.lock(file, OpenMode::Write)?;
        let taken = self.examine(file, OpenMode::Write).and_then(|bytes| {
            claim.check()?;
            self.dir.rename_new(file, name)?;
            Ok(bytes)
        });
        self.dir.remove(&names::lock(file))?;
        drop(taking);
        taken
    }

    /// The file that a reference means: the one of that name, else what was given up under it.
    fn resolve(&self, source: &str) -> Result<String> {
        names::check_source(source)?;
        if self.dir.has(source)? {
            return Ok(source.to_owned());
        }
        let released = names::released(source);
        if names::check_source(&released).is_ok() && self.dir.has(&released)? {
            return Ok(released);
        }
        Err(DriverError::new(ErrorKind::NotFound, format!("there is no file {source:?} in the directory")))
    }

    /// As [`resolve`](Self::resolve); a snapshot may also be called by the name that its backend has for it, or by Cinder's.
    fn resolve_snapshot(&self, volume: &str, source: &str) -> Result<String> {
        let named = source.strip_prefix('_').unwrap_or(source);
        let by_id = named.strip_prefix("snapshot-").and_then(|id| id.parse().ok());
        let name = match by_id {
            Some(id) => names::released(&names::flat(volume, id)),
            None => self.resolve(source)?,
        };
        match names::released_snapshot(&name) {
            Some((of, _)) if of == volume && self.dir.has(&name)? => Ok(name),
            Some((of, _)) if of != volume => {
                Err(invalid(format!("{name} is a snapshot of {of}, not of {volume}")))
            }
            Some(_) => Err(DriverError::new(
                ErrorKind::NotFound,
                format!("there is no file {name:?} in the directory"),
            )),
            None => Err(invalid(format!("{name} is not a snapshot that was given up"))),
        }
    }

    /// The size of a file that may be taken over.
    ///
    /// # Errors
    /// `Invalid` when it is not certain to be a raw disk of its own, `Busy` when somebody uses it.
    fn examine(&self, name: &str, mode: OpenMode) -> Result<u64> {
        let blob = self.dir.blob(name, mode)?;
        let file = blob.file().ok_or_else(|| invalid(format!("{name} is not a file")))?;
        let metadata = file.metadata().during(|| format!("looking at {name}"))?;
        if metadata.nlink() != 1 {
            return Err(invalid(format!("{name} has {} names: it is also something else", metadata.nlink())));
        }
        let bytes = metadata.len();
        if bytes == 0 {
            return Err(invalid(format!("{name} is empty")));
        }
        if names::volume_id(name).is_some() {
            self.check_alone(name)?;
        }
        if !names::was_ours(name)
            && let Some(format) = format_of(file, bytes).during(|| format!("reading {name}"))?
        {
            return Err(invalid(format!(
                "{name} looks like a {format} image: only raw files become volumes"
            )));
        }
        if mode == OpenMode::Write && in_use(file).during(|| format!("asking who uses {name}"))? {
            return Err(DriverError::new(ErrorKind::Busy, format!("{name} is in use")));
        }
        Ok(bytes)
    }

    /// Refuses a volume's file that is not all there is of it.
    fn check_alone(&self, name: &str) -> Result<()> {
        let beside = |file: &String| file.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        match self.dir.names()?.iter().find(|file| beside(file)) {
            Some(other) => {
                Err(invalid(format!("{name} is part of a chain or has snapshots: there is {other}")))
            }
            None => Ok(()),
        }
    }
}

/// Where something that was called `name` goes.
fn target(name: &str, to: Option<&str>) -> Result<String> {
    match to {
        Some(to) => names::check_source(to).map(|()| to.to_owned()),
        None => Ok(names::released(name)),
    }
}

/// The image format that a file seems to have.
fn format_of(file: &File, bytes: u64) -> io::Result<Option<&'static str>> {
    let mut buffer = [0u8; 32];
    for (magic, at, name) in FORMATS {
        let part = &mut buffer[..magic.len()];
        if bytes >= at + magic.len() as u64 {
            file.read_exact_at(part, at)?;
            if part == magic {
                return Ok(Some(name));
            }
        }
    }
    if bytes >= FOOTER {
        let mut footer = [0u8; 8];
        file.read_exact_at(&mut footer, bytes - FOOTER)?;
        if &footer == b"conectix" {
            return Ok(Some("vhd"));
        }
    }
    Ok(None)
}

/// Whether another program has the file locked: QEMU by record locks, others as a whole. The file is open for writing.
fn in_use(file: &File) -> io::Result<bool> {
    let locked = |result: Result<(), Errno>| match result {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK | Errno::ACCESS) => Ok(true),
        // A file system without such locks cannot say.
        Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(e) => Err(io::Error::from(e)),
    };
    let whole = locked(rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive))?;
    let records = locked(rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive))?;
    if !whole {
        rustix::fs::flock(file, FlockOperation::Unlock)?;
    }
    if !records {
        rustix::fs::fcntl_lock(file, FlockOperation::Unlock)?;
    }
    Ok(whole || records)
}
