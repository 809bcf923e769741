//! Storage backends behind one trait, `Driver`, with the conformance suite that says when one is done.
//!
//! Drivers know no database, bus, quota, policy or status: they get references and return facts. Ownership of open
//! volumes (design.md 8) lives inside the driver: `open` takes the backend's lock and holds it for as long as the
//! device is open, and work on an open volume goes through the process that has it open.

pub mod blob;
pub mod conformance;
pub mod device;
pub mod error;
pub mod fault;
pub mod file;
pub mod qcow2;
pub mod raw;
pub mod stack;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use model::block::Device;
use model::job::Claim;
use model::{ConnectionInfo, Connector, GiB, SnapshotId, VolumeId};
use serde::{Deserialize, Serialize};

pub use error::{DriverError, ErrorKind, Result};

/// What a driver is told of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRef {
    pub id: VolumeId,
    /// The name it has on the backend: `volume-<id>`.
    pub name: String,
    pub size: GiB,
    /// What the driver returned when it made the volume.
    pub provider: Provider,
}

/// What a driver is told of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRef {
    pub id: SnapshotId,
    /// The name it has on the backend: `snapshot-<id>`.
    pub name: String,
    /// The volume's size when it was taken.
    pub size: GiB,
    pub provider: Provider,
    pub volume: VolumeRef,
}

/// What the backend needs to find a thing again; stored with its row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    pub location: Option<String>,
    pub id: Option<String>,
}

/// What a new volume starts from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// Zeros.
    Blank,
    Snapshot(&'a SnapshotRef),
    /// The source's content at one moment, also while it is in use.
    Volume(&'a VolumeRef),
}

/// What can be opened.
#[derive(Debug, Clone, Copy)]
pub enum Openable<'a> {
    Volume(&'a VolumeRef),
    Snapshot(&'a SnapshotRef),
}

/// How.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    Read,
    Write,
}

/// How a volume reaches an initiator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Through one of our export helpers, over the opened device.
    Target,
    /// By the backend's own protocol ([`Driver::connection_info`]).
    Own,
}

/// What a driver can ever do; conformance tests that it tells the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    pub transport: Transport,
    /// Volumes can grow while they are open.
    pub extend_online: bool,
    /// A volume can be set back to its latest snapshot.
    pub revert: bool,
    /// Several initiators may share a volume.
    pub multiattach: bool,
    /// The backend is reachable from one node only.
    pub node_bound: bool,
    /// What others have put on the backend can become a volume, and volumes can be given up without losing their bytes.
    pub manage: bool,
    /// Snapshots of several volumes can be taken at one moment.
    pub consistent_groups: bool,
}

/// One pool's figures (scheduler.md 9). Sizes in GiB.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolStats {
    pub pool_name: String,
    pub total_capacity_gb: f64,
    pub free_capacity_gb: f64,
    /// The sum of the sizes of all volumes on it, as the backend sees them.
    pub provisioned_capacity_gb: f64,
    pub thin_provisioning_support: bool,
    pub thick_provisioning_support: bool,
    pub total_volumes: u64,
}

/// A backend's report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendStats {
    pub vendor_name: String,
    pub driver_version: String,
    /// `iSCSI`, `ceph`, `nfs`, ...
    pub storage_protocol: String,
    pub pools: Vec<PoolStats>,
}

/// What exists on a backend, for the reconciler: it compares this with the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A volume, with its size in bytes.
    Volume {
        id: VolumeId,
        bytes: u64,
    },
    Snapshot {
        id: SnapshotId,
        volume: Option<VolumeId>,
    },
    /// Something half-made that carries a job's name and epoch.
    Intermediate {
        name: String,
        job: model::JobId,
        epoch: i64,
    },
    /// Something we did not make.
    Foreign {
        name: String,
    },
}

/// Something on a backend that is not a volume or snapshot of ours, but could become one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manageable {
    /// Its name there: the `source-name` of references to it.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The volume whose name it has; the caller knows whether there is one.
    pub volume: Option<VolumeId>,
    /// The backend's name of the volume that it is a snapshot of.
    pub of: Option<String>,
    /// Why it cannot become one as it is.
    pub refusal: Option<String>,
}

/// A storage backend. After a crash any call may be repeated with the same arguments and must succeed: creating what
/// exists, deleting what is gone. What a call has made before it returned `Ok` is complete or invisible: it is built
/// under a name that carries the claim and published by rename (I4).
#[async_trait]
pub trait Driver: Send + Sync + Debug {
    fn capabilities(&self) -> Capabilities;

    /// Checks that the backend is usable and prepares it; called once at start.
    async fn start(&self) -> Result<()>;

    /// What it has room for now.
    async fn stats(&self) -> Result<BackendStats>;

    /// Makes a volume of `size` from `source`. Bytes beyond the source read as zeros.
    async fn create_volume(&self, volume: &VolumeRef, source: Source<'_>, claim: &Claim) -> Result<Provider>;

    /// Grows a volume to `size`, also while it is open here; the open device reports the new size on return.
    async fn extend_volume(&self, volume: &VolumeRef, size: GiB, claim: &Claim) -> Result<()>;

    /// Removes a volume; its data is never visible again. Fails with `Busy` while it is open or has snapshots.
    async fn delete_volume(&self, volume: &VolumeRef, claim: &Claim) -> Result<()>;

    /// Freezes a volume's content at one moment between its acknowledged writes.
    async fn create_snapshot(&self, snapshot: &SnapshotRef, claim: &Claim) -> Result<Provider>;

    /// Freezes the contents of several volumes, each named once, and returns what [`create_snapshot`](Self::create_snapshot) would
    /// for each. Where `capabilities().consistent_groups` that is at one moment: no write to any of them was acknowledged before
    /// it and is missing, or was begun after one that is missing and is there. Volumes that are open must be so here. A call that
    /// failed may leave some of the snapshots; a repeated one takes them all anew.
    async fn create_snapshots(&self, snapshots: &[SnapshotRef], claim: &Claim) -> Result<Vec<Provider>> {
        let mut providers = Vec::with_capacity(snapshots.len());
        for snapshot in snapshots {
            providers.push(self.create_snapshot(snapshot, claim).await?);
        }
        Ok(providers)
    }

    /// Removes a snapshot, in any order among its volume's, also while the volume is open here. Fails with `Busy` while it is open
    /// itself, and with `NoSpace`, having changed nothing, when what it takes does not fit. Once it has begun, a call that failed
    /// or was stopped leaves a snapshot that can only be deleted.
    async fn delete_snapshot(&self, snapshot: &SnapshotRef, claim: &Claim) -> Result<()>;

    /// Sets the volume's content back to its latest snapshot. Only where `capabilities().revert`.
    async fn revert(&self, _to: &SnapshotRef, _claim: &Claim) -> Result<()> {
        Err(DriverError::unsupported("revert"))
    }

    /// Opens a volume or snapshot. Opening a volume, in either mode, makes this process its block owner: `Busy` when another
    /// process is. Opening again in the same process shares the device. The volume is closed when the last clone of the
    /// device is dropped; what was not flushed then may still be lost with the power. Snapshots are opened for reading
    /// only, by any number of processes.
    async fn open(&self, what: Openable<'_>, mode: OpenMode) -> Result<Device>;

    /// Whether this process has the volume open.
    fn is_open(&self, volume: &VolumeRef) -> bool;

    /// How `connector` reaches the volume by the backend's own protocol. Only where `capabilities().transport` is `Own`.
    async fn connection_info(&self, _volume: &VolumeRef, _connector: &Connector) -> Result<ConnectionInfo> {
        Err(DriverError::unsupported("connection_info"))
    }

    /// What there is on the backend that could become a volume or a snapshot. Only where `capabilities().manage`, as the three that
    /// follow.
    async fn manageable(&self) -> Result<Vec<Manageable>> {
        Err(DriverError::unsupported("manage"))
    }

    /// What an administrator means by `source`, when `what` could be made of it: `NotFound`, `Invalid` or `Busy` when not.
    async fn candidate(&self, _what: Openable<'_>, _source: &str) -> Result<Manageable> {
        Err(DriverError::unsupported("manage"))
    }

    /// Makes `source` the volume or snapshot `what`, in one step; a volume then grows with zeros to its size. The caller has seen to it
    /// that `source` belongs to no volume of ours.
    async fn adopt(&self, _what: Openable<'_>, _source: &str, _claim: &Claim) -> Result<Provider> {
        Err(DriverError::unsupported("manage"))
    }

    /// Gives a volume or snapshot up: its bytes stay on the backend, under the name `to` or else one that [`manageable`] tells and
    /// that [`candidate`] finds by the old one. `Busy` while it is open or has snapshots.
    ///
    /// [`manageable`]: Self::manageable
    /// [`candidate`]: Self::candidate
    async fn release(&self, _what: Openable<'_>, _to: Option<&str>, _claim: &Claim) -> Result<()> {
        Err(DriverError::unsupported("manage"))
    }

    /// Everything there is on the backend.
    async fn list(&self) -> Result<Vec<Found>>;

    /// Removes what a dead run left: an intermediate of `list`.
    async fn discard_intermediate(&self, name: &str) -> Result<()>;
}

/// A shared driver.
pub type SharedDriver = Arc<dyn Driver>;
