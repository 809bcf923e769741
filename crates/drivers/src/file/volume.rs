//! Volumes: made, copied, removed.

use std::sync::Arc;

use model::job::Claim;

use super::dir::Making;
use super::info::Info;
use super::names::{self, Name};
use super::owner::Owner;
use super::{Backend, Origin, reflink};
use crate::error::{DriverError, During, ErrorKind, Result};
use crate::stack::{Layer, Stack, copy_to};
use crate::{SnapshotRef, VolumeRef};

impl Backend {
    /// Makes a volume. One that is there already was published whole by an earlier run.
    pub(super) fn create_volume(&self, volume: &VolumeRef, source: &Origin, claim: &Claim) -> Result<()> {
        names::check(&volume.name)?;
        if !self.dir.has(&volume.name)? {
            let making = self.dir.make(&volume.name, claim)?;
            match source {
                Origin::Blank => {}
                Origin::Snapshot(snapshot) => self.fill_from_snapshot(&making, volume, snapshot, claim)?,
                Origin::Volume(source) => self.fill_from_volume(&making, volume, source, claim)?,
            }
            making.blob().set_len(volume.size.bytes()).during(|| format!("sizing {}", volume.name))?;
            making.publish_new(claim)?;
        }
        self.dir.sync()?;
        if let Origin::Volume(source) = source {
            self.drop_temp_snapshots(&source.name, claim);
        }
        Ok(())
    }

    fn fill_from_snapshot(
        &self,
        making: &Making,
        volume: &VolumeRef,
        snapshot: &SnapshotRef,
        claim: &Claim,
    ) -> Result<()> {
        let stack = self.snapshot_stack(snapshot)?;
        self.fill(making, volume, &stack, claim)
    }

    /// The source's content at one moment. Without reflinks that is a temporary snapshot, so that the source stays in
    /// use while it is copied.
    fn fill_from_volume(
        &self,
        making: &Making,
        volume: &VolumeRef,
        source: &VolumeRef,
        claim: &Claim,
    ) -> Result<()> {
        let key = names::temp_snapshot_key(claim);
        let frozen = {
            let owner = self.own(&source.name)?;
            fits(owner.served.size(), volume)?;
            let mut state = owner.work();
            if self.reflink && state.files.len() == 1 {
                return self.reflink_open(&owner, making);
            }
            self.drop_temp_overlays(&owner, &mut state, claim);
            self.push_overlay(&owner, &mut state, &key, claim)?;
            let below = owner.served.stack().layers()[1..].to_vec();
            Stack::new(below)
        };
        // The layers below the new overlay stay as they are until it is merged, which only the owner of this job does. The volume itself
        // is free meanwhile, for other processes too.
        let copied = self.fill(making, volume, &frozen, claim);
        drop(frozen);
        if copied.is_err() {
            self.drop_temp_snapshots(&source.name, claim);
        }
        copied
    }

    /// Makes `making` share the blocks of a volume that is one raw file, as it is between two writes.
    pub(super) fn reflink_open(&self, owner: &Owner, making: &Making) -> Result<()> {
        // What is dirty is written before the volume's I/O is parked, so that little is left to do then.
        owner.served.stack().flush()?;
        owner
            .served
            .parked(|stack| {
                stack.flush()?;
                reflink(stack.layers()[0].blob(), making.blob())
            })
            .during(|| format!("sharing the blocks of {}", owner.volume))
    }

    /// Copies what a frozen stack holds, by sharing blocks where that can be done.
    pub(super) fn fill(
        &self,
        making: &Making,
        volume: &VolumeRef,
        from: &Stack,
        claim: &Claim,
    ) -> Result<()> {
        fits(from.size(), volume)?;
        if let (true, [Layer::Raw(blob)]) = (self.reflink, from.layers()) {
            return reflink(blob, making.blob()).during(|| format!("sharing blocks with {}", volume.name));
        }
        self.copy(making, from, claim)
    }

    /// Copies byte by byte what is not zeros, with progress, until the claim stops it.
    pub(super) fn copy(&self, making: &Making, from: &Stack, claim: &Claim) -> Result<()> {
        claim.set_done(0);
        claim.set_total(from.size());
        copy_to(from, &**making.blob(), |bytes| {
            claim.add_done(bytes);
            claim.check().map_err(DriverError::from)
        })
    }

    /// Removes a volume, its intermediates and what else of it an interrupted removal left.
    pub(super) fn delete_volume(&self, volume: &VolumeRef, claim: &Claim) -> Result<()> {
        let name = &volume.name;
        let owner = match self.own(name) {
            Ok(owner) => Some(owner),
            Err(e) if e.kind == ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        if let Some(owner) = &owner {
            let _state = owner.work();
            self.check_no_snapshots(name)?;
            owner.begin_delete()?;
            claim.check()?;
        }
        // The volume's own file goes first: without it nothing opens, and a repeated call ends what is left.
        self.dir.remove(name)?;
        self.dir.sync()?;
        for file in self.dir.names()? {
            let of_volume = match Name::parse(&file) {
                Name::Overlay { volume, .. } | Name::TempSnapshot { volume, .. } | Name::Info { volume } => {
                    volume == *name
                }
                Name::Intermediate { .. } => names::intermediate_of(&file).is_some_and(|(of, ..)| {
                    of == name || of.strip_prefix(name).is_some_and(|r| r.starts_with('.'))
                }),
                Name::Lock => {
                    file == names::lock(name) || file.starts_with(&names::lock(&format!("{name}.")))
                }
                _ => false,
            };
            if of_volume {
                self.dir.remove(&file)?;
            }
        }
        self.dir.sync()?;
        drop(owner);
        Ok(())
    }

    /// A volume with snapshots cannot go: overlay or copy, they are gone through first.
    pub(super) fn check_no_snapshots(&self, volume: &str) -> Result<()> {
        let info = Info::load(&self.dir, volume)?;
        let overlays = info.overlays.keys().any(|key| names::temp_snapshot_run(key).is_none());
        let id = names::volume_id(volume);
        let flats = self
            .dir
            .names()?
            .iter()
            .any(|file| matches!(Name::parse(file), Name::Flat { volume, .. } if Some(volume) == id));
        if overlays || flats {
            return Err(DriverError::new(ErrorKind::Busy, format!("{volume} has snapshots")));
        }
        Ok(())
    }

    /// Removes the temporary snapshots that this job has on a source. What cannot be removed now stays listed as an
    /// intermediate.
    fn drop_temp_snapshots(&self, source: &str, claim: &Claim) {
        match self.own(source) {
            Ok(owner) => self.drop_temp_overlays(&owner, &mut owner.work(), claim),
            Err(e) if e.kind == ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(volume = source, %error, "temporary snapshots stay for the reconciler");
            }
        }
    }

    fn drop_temp_overlays(&self, owner: &Arc<Owner>, state: &mut super::owner::State, claim: &Claim) {
        // A cancelled job cleans up all the same.
        let cleaning = Claim::new(claim.job, claim.epoch, claim.left());
        let result = Info::load(&self.dir, &owner.volume).and_then(|info| {
            info.overlays
                .keys()
                .filter(|key| {
                    names::temp_snapshot_run(key).is_some_and(|(job, e)| job == claim.job && e <= claim.epoch)
                })
                .try_for_each(|key| {
                    self.remove_overlay(owner, state, key, &names::overlay(&owner.volume, key), &cleaning)
                })
        });
        if let Err(error) = result {
            tracing::warn!(volume = owner.volume, %error, "temporary snapshots stay for the reconciler");
        }
    }
}

/// Whether a source's bytes fit into the volume.
fn fits(bytes: u64, volume: &VolumeRef) -> Result<()> {
    if bytes > volume.size.bytes() {
        return Err(DriverError::new(
            ErrorKind::Invalid,
            format!("{bytes} bytes do not fit into {}, of {}", volume.name, volume.size),
        ));
    }
    Ok(())
}
