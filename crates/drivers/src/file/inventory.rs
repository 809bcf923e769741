//! What there is in the directory, and how much room is left.

use std::collections::{BTreeMap, BTreeSet};

use model::job::Claim;
use model::{JobId, SnapshotId};

use super::Backend;
use super::info::Info;
use super::names::{self, Name};
use super::owner::open_chain;
use crate::blob::Wait;
use crate::error::{DriverError, ErrorKind, Result};
use crate::qcow2::header::Header;
use crate::{BackendStats, Found, OpenMode, PoolStats};

const GIB: f64 = (1u64 << 30) as f64;

impl Backend {
    /// Everything in the directory.
    pub(super) fn list(&self) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        let mut snapshots: BTreeMap<SnapshotId, String> = BTreeMap::new();
        for name in self.dir.names()? {
            match Name::parse(&name) {
                Name::Volume(id) => {
                    // One that went meanwhile is not there.
                    if let Some(bytes) = self.size_or_length(&name)? {
                        found.push(Found::Volume { id, bytes });
                    }
                }
                Name::Flat { volume, snapshot } => {
                    snapshots.insert(snapshot, format!("volume-{volume}"));
                }
                Name::Overlay { volume, snapshot } => {
                    if !self.belongs_to_the_volume(&volume, &name, snapshot).unwrap_or_else(|e| {
                        tracing::warn!(file = name, error = %e, "an overlay whose chain cannot be read");
                        false
                    }) {
                        snapshots.insert(snapshot, volume);
                    }
                }
                Name::Intermediate { job, epoch } | Name::TempSnapshot { job, epoch, .. } => {
                    found.push(Found::Intermediate { name, job, epoch });
                }
                Name::Info { .. } | Name::Lock | Name::Installation => {}
                Name::Foreign => found.push(Found::Foreign { name }),
            }
        }
        found.extend(
            snapshots
                .into_iter()
                .map(|(id, volume)| Found::Snapshot { id, volume: names::volume_id(&volume) }),
        );
        Ok(found)
    }

    /// Whether an overlay is no snapshot's although it carries one's name: Cinder, deleting the latest snapshot of a volume in
    /// use, lets the overlay go on as the volume's active file.
    fn belongs_to_the_volume(&self, volume: &str, file: &str, snapshot: SnapshotId) -> Result<bool> {
        let info = Info::load(&self.dir, volume)?;
        if [snapshot.to_string(), names::deleting_key(snapshot)]
            .iter()
            .any(|key| info.overlays.contains_key(key))
        {
            return Ok(false);
        }
        if info.active == file {
            return Ok(true);
        }
        if info.active == volume {
            return Ok(false);
        }
        Ok(match open_chain(&self.dir, volume, &info.active, OpenMode::Read, self.boot) {
            Ok(chain) => chain.iter().any(|(name, _)| name == file),
            Err(e) if e.kind == ErrorKind::NotFound => false,
            Err(e) => return Err(e),
        })
    }

    /// The size of a volume; where its record cannot be read, the length of its own file: one broken volume must not hide the
    /// others.
    fn size_or_length(&self, volume: &str) -> Result<Option<u64>> {
        self.volume_size(volume).or_else(|error| {
            tracing::warn!(volume, %error, "a volume whose size cannot be read");
            self.dir.len_of(volume)
        })
    }

    /// The size of a volume in bytes: that of its active file.
    fn volume_size(&self, volume: &str) -> Result<Option<u64>> {
        let active = Info::load(&self.dir, volume)?.active;
        if active == volume {
            return self.dir.len_of(volume);
        }
        let blob = match self.dir.blob(&active, OpenMode::Read) {
            Ok(blob) => blob,
            Err(e) if e.kind == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut first = [0u8; 4096];
        blob.read_at(0, &mut first, Wait::Full)?;
        Ok(Some(Header::decode(&first)?.size))
    }

    /// Removes an intermediate. A temporary snapshot is merged away.
    pub(super) fn discard_intermediate(&self, name: &str) -> Result<()> {
        match Name::parse(name) {
            Name::Intermediate { .. } => {
                self.dir.remove(name)?;
                self.dir.sync()
            }
            Name::TempSnapshot { volume, job, epoch } => {
                let owner = match self.own(&volume) {
                    Err(e) if e.kind == ErrorKind::NotFound => {
                        self.dir.remove(name)?;
                        return self.dir.sync();
                    }
                    owner => owner?,
                };
                let claim = Claim::new(JobId::new(), 1, Claim::unbounded().left());
                let key = names::temp_snapshot_key(&Claim::new(job, epoch, claim.left()));
                self.remove_overlay(&owner, &mut owner.work(), &key, name, &claim)
            }
            _ => Err(DriverError::new(ErrorKind::Invalid, format!("{name:?} is not an intermediate"))),
        }
    }

    /// One pool: the file system.
    pub(super) fn stats(&self) -> Result<BackendStats> {
        let (total, free) = self.dir.space()?;
        let mut provisioned = 0;
        let mut volumes = BTreeSet::new();
        for name in self.dir.names()? {
            if let Name::Volume(id) = Name::parse(&name)
                && let Some(bytes) = self.size_or_length(&name)?
            {
                provisioned += bytes;
                volumes.insert(id);
            }
        }
        Ok(BackendStats {
            vendor_name: "cinderblock".to_owned(),
            driver_version: env!("CARGO_PKG_VERSION").to_owned(),
            storage_protocol: "iSCSI".to_owned(),
            pools: vec![PoolStats {
                pool_name: self.config.pool_name.clone(),
                total_capacity_gb: total as f64 / GIB,
                free_capacity_gb: free as f64 / GIB,
                provisioned_capacity_gb: provisioned as f64 / GIB,
                thin_provisioning_support: true,
                thick_provisioning_support: false,
                total_volumes: volumes.len() as u64,
            }],
        })
    }
}
