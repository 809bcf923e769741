//! The `file` driver: a directory of volumes (names: [`names`]).
//!
//! A volume is a sparse raw file. Where the file system shares blocks between files (XFS, btrfs), snapshots and clones are
//! reflinks. Elsewhere a snapshot puts an overlay on top ([`crate::qcow2`]): quick, whatever the volume's size. Deleting
//! a snapshot merges its overlay into the layer below, also while the volume is open. A chain has at most
//! [`FileConfig::chain_max`] overlays: the snapshot after that is copied out into a file of its own. Clones are then
//! full copies, made over a temporary snapshot.
//!
//! Invariants:
//! - Work on a volume goes through its [`owner`]: one process at a time, by `flock` on a lock file.
//! - Every change becomes visible by one rename (or, for a grown size or a chain's link, one sector), with everything it names durable
//!   before and the rename durable before the call returns. So each call may be repeated after a crash anywhere.
//! - The work is synchronous code on blocking threads. Dropping a call's future does not stop it; its claim does.
//!
//! A call that needs a volume which another process has open fails with `Busy`.

mod config;
mod dir;

mod info;
mod installation;
mod inventory;
mod manage;
pub mod names;
mod owner;
mod snapshot;
mod together;
mod volume;

use std::fmt;
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use model::block::Device;
use model::job::Claim;
use model::{GiB, JobId};
use tokio::sync::Semaphore;

pub use config::FileConfig;
use dir::Dir;
pub use installation::Installation;
use owner::{Owner, Owners};

use crate::blob::SharedBlob;
use crate::device::Handle;
use crate::error::{DriverError, ErrorKind, Result};
use crate::fault::Faults;
use crate::qcow2::header::BootId;
use crate::{
    BackendStats, Capabilities, Driver, Found, Manageable, OpenMode, Openable, Provider, SnapshotRef, Source,
    Transport, VolumeRef,
};

/// Calls at work at the same time. Each has a thread; the others of Tokio's 512 are left to volumes' I/O, which calls wait for.
const CALLS_MAX: usize = 128;

/// The driver.
pub struct FileDriver {
    config: FileConfig,
    faults: Option<Arc<Faults>>,
    started: OnceLock<Arc<Backend>>,
    calls: Arc<Semaphore>,
}

impl fmt::Debug for FileDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileDriver").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The driver once it has started.
#[derive(Debug)]
struct Backend {
    config: FileConfig,
    dir: Arc<Dir>,
    owners: Owners,
    boot: BootId,
    reflink: bool,
}

impl FileDriver {
    /// A driver for a directory; it is touched when the driver starts.
    pub fn new(config: FileConfig) -> Self {
        Self { config, faults: None, started: OnceLock::new(), calls: Arc::new(Semaphore::new(CALLS_MAX)) }
    }

    /// The same, dying when `faults` says so: for crash suites.
    pub fn with_faults(config: FileConfig, faults: Arc<Faults>) -> Self {
        Self { faults: Some(faults), ..Self::new(config) }
    }

    /// Whether snapshots and clones share blocks here. Known after the start.
    pub fn reflinks(&self) -> bool {
        self.started.get().is_some_and(|b| b.reflink)
    }

    fn backend(&self) -> Result<Arc<Backend>> {
        self.started
            .get()
            .cloned()
            .ok_or_else(|| DriverError::new(ErrorKind::Backend, "the file driver has not been started"))
    }

    /// Runs `work` on a blocking thread.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Backend) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let backend = self.backend()?;
        // Held by the work, which goes on when its caller stops waiting. The semaphore is never closed.
        let turn = Arc::clone(&self.calls).acquire_owned().await;
        blocking(move || {
            let _turn = turn;
            work(&backend)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| DriverError {
        source: Some(Box::new(e)),
        ..DriverError::new(ErrorKind::Backend, "the work panicked")
    })?
}

/// A [`Source`] that can move to another thread.
#[derive(Debug, Clone)]
enum Origin {
    Blank,
    Snapshot(SnapshotRef),
    Volume(VolumeRef),
}

#[async_trait]
impl Driver for FileDriver {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            transport: Transport::Target,
            extend_online: true,
            revert: true,
            multiattach: true,
            node_bound: true,
            manage: true,
            consistent_groups: true,
        }
    }

    async fn start(&self) -> Result<()> {
        if self.started.get().is_some() {
            return Ok(());
        }
        let (config, faults) = (self.config.clone(), self.faults.clone());
        let backend = blocking(move || Backend::open(config, faults)).await?;
        // Whoever came first has opened the same directory.
        let _ = self.started.set(Arc::new(backend));
        Ok(())
    }

    async fn stats(&self) -> Result<BackendStats> {
        self.run(Backend::stats).await
    }

    async fn create_volume(&self, volume: &VolumeRef, source: Source<'_>, claim: &Claim) -> Result<Provider> {
        let (volume, claim) = (volume.clone(), claim.clone());
        let source = match source {
            Source::Blank => Origin::Blank,
            Source::Snapshot(snapshot) => Origin::Snapshot(snapshot.clone()),
            Source::Volume(volume) => Origin::Volume(volume.clone()),
        };
        self.run(move |b| b.create_volume(&volume, &source, &claim)).await?;
        Ok(Provider::default())
    }

    async fn extend_volume(&self, volume: &VolumeRef, size: GiB, claim: &Claim) -> Result<()> {
        let (volume, claim) = (volume.clone(), claim.clone());
        self.run(move |b| b.extend_volume(&volume, size, &claim)).await
    }

    async fn delete_volume(&self, volume: &VolumeRef, claim: &Claim) -> Result<()> {
        let (volume, claim) = (volume.clone(), claim.clone());
        self.run(move |b| b.delete_volume(&volume, &claim)).await
    }

    async fn create_snapshot(&self, snapshot: &SnapshotRef, claim: &Claim) -> Result<Provider> {
        let (snapshot, claim) = (snapshot.clone(), claim.clone());
        self.run(move |b| b.create_snapshot(&snapshot, &claim)).await?;
        Ok(Provider::default())
    }

    async fn create_snapshots(&self, snapshots: &[SnapshotRef], claim: &Claim) -> Result<Vec<Provider>> {
        let (snapshots, claim) = (snapshots.to_vec(), claim.clone());
        let providers = vec![Provider::default(); snapshots.len()];
        self.run(move |b| b.create_snapshots(&snapshots, &claim)).await?;
        Ok(providers)
    }

    async fn delete_snapshot(&self, snapshot: &SnapshotRef, claim: &Claim) -> Result<()> {
        let (snapshot, claim) = (snapshot.clone(), claim.clone());
        self.run(move |b| b.delete_snapshot(&snapshot, &claim)).await
    }

    async fn revert(&self, to: &SnapshotRef, claim: &Claim) -> Result<()> {
        let (to, claim) = (to.clone(), claim.clone());
        self.run(move |b| b.revert(&to, &claim)).await
    }

    async fn open(&self, what: Openable<'_>, mode: OpenMode) -> Result<Device> {
        match what {
            Openable::Volume(volume) => {
                let volume = volume.clone();
                self.run(move |b| b.open_volume(&volume, mode)).await
            }
            Openable::Snapshot(snapshot) => {
                let snapshot = snapshot.clone();
                self.run(move |b| b.open_snapshot(&snapshot, mode)).await
            }
        }
    }

    fn is_open(&self, volume: &VolumeRef) -> bool {
        self.started.get().is_some_and(|b| b.owners.is_open(&volume.name))
    }

    async fn manageable(&self) -> Result<Vec<Manageable>> {
        self.run(Backend::manageable).await
    }

    async fn candidate(&self, what: Openable<'_>, source: &str) -> Result<Manageable> {
        let source = source.to_owned();
        match what {
            Openable::Volume(_) => self.run(move |b| b.volume_candidate(&source)).await,
            Openable::Snapshot(snapshot) => {
                let volume = snapshot.volume.name.clone();
                self.run(move |b| b.snapshot_candidate(&volume, &source)).await
            }
        }
    }

    async fn adopt(&self, what: Openable<'_>, source: &str, claim: &Claim) -> Result<Provider> {
        let (source, claim) = (source.to_owned(), claim.clone());
        match what {
            Openable::Volume(volume) => {
                let volume = volume.clone();
                self.run(move |b| b.adopt_volume(&volume, &source, &claim)).await?;
            }
            Openable::Snapshot(snapshot) => {
                let snapshot = snapshot.clone();
                self.run(move |b| b.adopt_snapshot(&snapshot, &source, &claim)).await?;
            }
        }
        Ok(Provider::default())
    }

    async fn release(&self, what: Openable<'_>, to: Option<&str>, claim: &Claim) -> Result<()> {
        let (to, claim) = (to.map(str::to_owned), claim.clone());
        match what {
            Openable::Volume(volume) => {
                let volume = volume.clone();
                self.run(move |b| b.release_volume(&volume, to.as_deref(), &claim)).await
            }
            Openable::Snapshot(snapshot) => {
                let snapshot = snapshot.clone();
                self.run(move |b| b.release_snapshot(&snapshot, to.as_deref(), &claim)).await
            }
        }
    }

    async fn list(&self) -> Result<Vec<Found>> {
        self.run(Backend::list).await
    }

    async fn discard_intermediate(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.run(move |b| b.discard_intermediate(&name)).await
    }
}

impl Backend {
    fn open(config: FileConfig, faults: Option<Arc<Faults>>) -> Result<Self> {
        let dir = Arc::new(Dir::open(&config.directory, config.file_mode, faults)?);
        if let Some(installation) = &config.installation {
            installation.take(&dir, &config.directory)?;
        }
        let reflink = config.reflink && probe_reflink(&dir)?;
        tracing::info!(directory = %config.directory.display(), reflink, "file backend opened");
        Ok(Self { boot: boot_id(), config, dir, owners: Owners::default(), reflink })
    }

    /// The owner of `volume`.
    fn own(&self, volume: &str) -> Result<Arc<Owner>> {
        names::check(volume)?;
        self.owners.own(&self.dir, volume, self.boot)
    }

    fn open_volume(&self, volume: &VolumeRef, mode: OpenMode) -> Result<Device> {
        let owner = self.own(&volume.name)?;
        let opened = owner.opened()?;
        let read_only = mode == OpenMode::Read;
        Ok(Arc::new(Handle::new(Arc::clone(&owner.served), read_only, Box::new(opened))))
    }

    fn extend_volume(&self, volume: &VolumeRef, size: GiB, claim: &Claim) -> Result<()> {
        let owner = self.own(&volume.name)?;
        let _state = owner.work();
        // What is dirty is written before the volume's I/O is parked; and with it a size that a run which ended before its own
        // sync has left.
        owner.served.stack().flush()?;
        if owner.served.size() >= size.bytes() {
            return Ok(());
        }
        claim.check()?;
        owner.served.parked(|stack| stack.layers()[0].grow(size.bytes()))?;
        Ok(())
    }
}

/// Whether two files can share blocks.
fn probe_reflink(dir: &Arc<Dir>) -> Result<bool> {
    let claim = Claim::new(JobId::new(), 1, std::time::Duration::from_secs(60));
    let from = dir.make("probe-from", &claim)?;
    let to = dir.make("probe-to", &claim)?;
    from.blob().write_at(0, &[1; 4096], crate::blob::Wait::Full)?;
    Ok(reflink(from.blob(), to.blob()).is_ok())
}

/// Makes `to` share all blocks of `from`, which it equals from then on.
fn reflink(from: &SharedBlob, to: &SharedBlob) -> std::io::Result<()> {
    match (from.file(), to.file()) {
        (Some(from_file), Some(to_file)) => {
            rustix::fs::ioctl_ficlone(to_file.as_fd(), from_file.as_fd())?;
            to.set_len(from.len())
        }
        _ => Err(std::io::ErrorKind::Unsupported.into()),
    }
}

/// The id of this boot; where the machine has none, one of its own for each process, so that nothing is trusted.
fn boot_id() -> BootId {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()
        .and_then(|text| uuid::Uuid::parse_str(text.trim()).ok())
        .unwrap_or_else(|| JobId::new().0)
        .into_bytes()
}
