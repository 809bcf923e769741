//! Snapshots: taken, read, merged away, gone back to.
//!
//! Taking one with an overlay:
//!
//! ```text
//! before            volume-V                       <- writes
//! after             volume-V  <-  volume-V.S       <- writes      S is what volume-V holds
//! S deleted         volume-V                       <- writes      merged down, also under writes
//! ```

use std::sync::Arc;

use model::block::Device;
use model::job::Claim;

use super::dir::Making;
use super::info::Info;
use super::names;
use super::owner::{Owner, State, format_of, open_chain};
use super::{Backend, reflink};
use crate::device::{Handle, Served};
use crate::error::{DriverError, During, ErrorKind, Result};
use crate::qcow2::Overlay;
use crate::qcow2::header::{Backing, CLUSTER};
use crate::stack::{Layer, Stack};
use crate::{OpenMode, SnapshotRef};

/// Clusters merged at a time while the volume's I/O waits: 1 MiB, a millisecond.
const MERGE_STEP: usize = 16;
/// Overlays beyond the chain's bound that clones under way may add.
const TEMPORARY_MAX: usize = 16;

/// An empty overlay that is to be a volume's top, with the record that says so.
pub(super) struct NextTop {
    file: String,
    info: Info,
    top: Overlay,
}

impl Backend {
    /// Takes a snapshot.
    pub(super) fn create_snapshot(&self, snapshot: &SnapshotRef, claim: &Claim) -> Result<()> {
        let volume = &snapshot.volume.name;
        let owner = self.own(volume)?;
        let mut state = owner.work();
        let key = snapshot.id.to_string();
        let flat = names::flat(volume, snapshot.id);
        let overlays = Info::load(&self.dir, volume)?.overlays;
        let deleting = names::deleting_key(snapshot.id);
        if overlays.contains_key(&deleting) {
            // What a deletion has begun cannot be taken back; the snapshot is a new one.
            self.remove_overlay(&owner, &mut state, &deleting, &names::overlay(volume, &key), claim)?;
        }
        let is_overlay = overlays.contains_key(&key);
        if self.dir.has(&flat)? {
            // Complete since it was published; an interrupted run may have left the overlay that it was copied from.
            self.dir.sync()?;
            return self.remove_overlay(&owner, &mut state, &key, &names::overlay(volume, &key), claim);
        }
        if is_overlay {
            // Recorded, but by a run that may have ended before its record was durable.
            self.dir.sync()?;
        } else if self.reflink && state.files.len() == 1 {
            let making = self.dir.make(&flat, claim)?;
            self.reflink_open(&owner, &making)?;
            making.publish_new(claim)?;
            return self.dir.sync();
        } else {
            self.push_overlay(&owner, &mut state, &key, claim)?;
        }
        if state.files.len() - 1 > self.config.chain_max {
            self.flatten(&owner, &mut state, snapshot, claim)?;
        }
        Ok(())
    }

    /// Puts an empty overlay on top of a volume: from then on what is below is frozen.
    pub(super) fn push_overlay(
        &self,
        owner: &Owner,
        state: &mut State,
        key: &str,
        claim: &Claim,
    ) -> Result<()> {
        let next = self.prepare_overlay(owner, state, key, claim)?;
        let stack = owner.served.stack();
        // Most of what is dirty is written before the volume's I/O is parked.
        stack.flush()?;
        owner.served.parked(|served| {
            served.flush()?;
            self.switch(served, state, next, claim)
        })?;
        seal(&stack.layers()[0]);
        Ok(())
    }

    /// Makes the overlay that [`switch`](Self::switch) puts on top. Nothing has changed until then.
    pub(super) fn prepare_overlay(
        &self,
        owner: &Owner,
        state: &State,
        key: &str,
        claim: &Claim,
    ) -> Result<NextTop> {
        let file = names::overlay(&owner.volume, key);
        if state.files.contains(&file) {
            let text = format!("{file} is in the chain of {} without being recorded", owner.volume);
            return Err(DriverError::new(ErrorKind::Backend, text));
        }
        if state.files.len() > self.config.chain_max + TEMPORARY_MAX {
            return Err(DriverError::new(
                ErrorKind::Busy,
                format!(
                    "the chain of {} has all the overlays it may have ({}): it goes on when snapshots are deleted",
                    owner.volume, self.config.chain_max
                ),
            ));
        }
        let mut info = Info::load(&self.dir, &owner.volume)?;
        let stack = owner.served.stack();
        let making = self.new_overlay(&file, stack.size(), &state.files[0], &stack.layers()[0], claim)?;
        let blob = making.publish_over(claim)?;
        let top = Overlay::open(blob, true, self.boot).during(|| format!("opening the overlay {file}"))?;
        info.active.clone_from(&file);
        info.overlays.insert(key.to_owned(), file.clone());
        Ok(NextTop { file, info, top })
    }

    /// Puts an overlay on top of a volume whose I/O is parked and flushed.
    pub(super) fn switch(
        &self,
        served: &mut Stack,
        state: &mut State,
        next: NextTop,
        claim: &Claim,
    ) -> Result<()> {
        let stored = next.info.store(&self.dir, claim)?;
        served.push(Layer::Overlay(Arc::new(next.top)));
        state.files.insert(0, next.file);
        stored.durable()
    }

    /// An empty overlay of `size` bytes over the file `below`, in the making.
    fn new_overlay(
        &self,
        file: &str,
        size: u64,
        below: &str,
        layer: &Layer,
        claim: &Claim,
    ) -> Result<Making> {
        let making = self.dir.make(file, claim)?;
        let backing = Backing { name: below.to_owned(), format: format_of(layer) };
        Overlay::format(making.blob(), size, Some(backing))
            .during(|| format!("writing the overlay {file}"))?;
        Ok(making)
    }

    /// Turns the newest snapshot from an overlay into a copy of its own, so that the chain stays within its bound.
    pub(super) fn flatten(
        &self,
        owner: &Owner,
        state: &mut State,
        snapshot: &SnapshotRef,
        claim: &Claim,
    ) -> Result<()> {
        let key = snapshot.id.to_string();
        let file = names::overlay(&owner.volume, &key);
        let Some(index) = state.files.iter().position(|f| *f == file) else { return Ok(()) };
        let flat = names::flat(&owner.volume, snapshot.id);
        let below = owner.served.stack().layers()[index + 1..].to_vec();
        let making = self.dir.make(&flat, claim)?;
        let frozen = Stack::new(below);
        self.copy(&making, &frozen, claim)?;
        making.blob().set_len(frozen.size())?;
        making.publish_new(claim)?;
        self.dir.sync()?;
        self.remove_overlay(owner, state, &key, &file, claim)
    }

    /// Deletes a snapshot.
    pub(super) fn delete_snapshot(&self, snapshot: &SnapshotRef, claim: &Claim) -> Result<()> {
        let volume = &snapshot.volume.name;
        names::check(volume)?;
        let key = snapshot.id.to_string();
        let (flat, overlay) = (names::flat(volume, snapshot.id), names::overlay(volume, &key));
        let readers = self.dir.lock(&flat, OpenMode::Write)?;
        let recorded = Info::load(&self.dir, volume)?.overlays.values().any(|file| *file == overlay);
        if recorded || self.dir.has(&overlay)? {
            match self.own(volume) {
                Ok(owner) => {
                    let mut state = owner.work();
                    let deleting = names::deleting_key(snapshot.id);
                    self.begin_delete(&owner, &state, &key, &deleting, claim)?;
                    self.remove_overlay(&owner, &mut state, &deleting, &overlay, claim)?;
                }
                Err(e) if e.kind == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        claim.check()?;
        for file in self.dir.names()? {
            if names::intermediate_of(&file).is_some_and(|(of, ..)| of == flat || of == overlay) {
                self.dir.remove(&file)?;
            }
        }
        self.dir.remove(&flat)?;
        self.dir.remove(&names::lock(&flat))?;
        self.dir.sync()?;
        drop(readers);
        Ok(())
    }

    /// Takes the snapshot out of sight before its bytes change: the layer that holds them is what its overlay is merged into.
    ///
    /// # Errors
    /// `NoSpace`, with nothing changed, when the merge would not fit.
    fn begin_delete(
        &self,
        owner: &Owner,
        state: &State,
        key: &str,
        deleting: &str,
        claim: &Claim,
    ) -> Result<()> {
        let mut info = Info::load(&self.dir, &owner.volume)?;
        let Some(file) = info.overlays.remove(key) else { return Ok(()) };
        if let Some(index) = state.files.iter().position(|f| *f == file) {
            let (_, free) = self.dir.space()?;
            let needed = owner.served.stack().merge_needs(index, free)?;
            if needed > free {
                let text = format!("merging {file} needs {needed} bytes, and {free} are free");
                return Err(DriverError::new(ErrorKind::NoSpace, text));
            }
        }
        info.overlays.insert(deleting.to_owned(), file);
        info.store(&self.dir, claim)?.durable()
    }

    /// Merges an overlay into the layer below and takes it out, while I/O goes on. Until the last step nothing that can be read
    /// of the volume, or of other snapshots, has changed.
    pub(super) fn remove_overlay(
        &self,
        owner: &Owner,
        state: &mut State,
        key: &str,
        file: &str,
        claim: &Claim,
    ) -> Result<()> {
        let mut info = Info::load(&self.dir, &owner.volume)?;
        let recorded = info.overlays.remove(key);
        let file = recorded.clone().unwrap_or_else(|| file.to_owned());
        match state.files.iter().position(|f| *f == file) {
            Some(index) if index + 1 < state.files.len() => {
                let done = self.merge(owner, state, index, &mut info, claim);
                if done.is_err() {
                    owner.served.parked(Stack::stop_mirror);
                }
                done?;
            }
            Some(_) => {
                let text = format!("{file} has nothing below it to be merged into");
                return Err(DriverError::new(ErrorKind::Backend, text));
            }
            None if recorded.is_some() => info.store(&self.dir, claim)?.durable()?,
            None => {}
        }
        self.dir.remove(&file)?;
        self.dir.sync()
    }

    fn merge(
        &self,
        owner: &Owner,
        state: &mut State,
        index: usize,
        info: &mut Info,
        claim: &Claim,
    ) -> Result<()> {
        let stack = owner.served.stack();
        let (upper, lower) = (&stack.layers()[index], &stack.layers()[index + 1]);
        lower.grow(upper.size())?;
        claim.set_done(0);
        claim.set_total(stack.size());
        if index == 0 {
            self.merge_top(owner, state, info, claim)
        } else {
            let mut next = 0;
            while let Some((cluster, _)) = stack.merge_down(index, next, MERGE_STEP)? {
                progress(claim, &mut next, cluster)?;
            }
            stack.flush_layer(index + 1)?;
            seal(lower);
            claim.check()?;
            if let Layer::Overlay(above) = &stack.layers()[index - 1] {
                let backing = Backing { name: state.files[index + 1].clone(), format: format_of(lower) };
                above.set_backing(Some(backing))?;
            }
            // Out of the chain: from here on only the record names it.
            owner.served.parked(|served| served.remove(index));
            state.files.remove(index);
            info.store(&self.dir, claim)?.durable()
        }
    }

    /// Copies the top layer down while it is written to, and takes it out: every write goes to both layers meanwhile, and
    /// I/O waits for each step.
    fn merge_top(&self, owner: &Owner, state: &mut State, info: &mut Info, claim: &Claim) -> Result<()> {
        let mirror = owner.served.parked(Stack::start_mirror);
        let whole = || {
            if mirror.broken() {
                let text = format!("a write to {} did not reach the layer that is merged into", owner.volume);
                return Err(DriverError::new(ErrorKind::NoSpace, text));
            }
            Ok(())
        };
        let mut next = 0;
        while let Some((cluster, _)) = owner.served.parked(|stack| stack.merge_down(0, next, MERGE_STEP))? {
            progress(claim, &mut next, cluster)?;
            whole()?;
        }
        // Most of what is dirty is written before the volume's I/O is parked.
        owner.served.stack().flush_layer(1)?;
        owner.served.parked(|served| {
            served.flush_layer(1)?;
            whole()?;
            info.active.clone_from(&state.files[1]);
            let stored = info.store(&self.dir, claim)?;
            served.remove(0);
            state.files.remove(0);
            stored.durable()
        })
    }

    /// Opens a snapshot's bytes.
    pub(super) fn open_snapshot(&self, snapshot: &SnapshotRef, mode: OpenMode) -> Result<Device> {
        if mode == OpenMode::Write {
            return Err(DriverError::new(ErrorKind::Invalid, "a snapshot cannot be opened for writing"));
        }
        let stack = self.snapshot_stack(snapshot)?;
        Ok(Arc::new(Handle::new(Served::new(stack), true, Box::new(()))))
    }

    /// The layers that a snapshot is made of, which stay as they are for as long as the stack lives.
    pub(super) fn snapshot_stack(&self, snapshot: &SnapshotRef) -> Result<Stack> {
        let volume = &snapshot.volume.name;
        names::check(volume)?;
        let flat = names::flat(volume, snapshot.id);
        let locked = self.dir.lock(&flat, OpenMode::Read)?;
        let missing = || DriverError::new(ErrorKind::NotFound, format!("{} does not exist", snapshot.name));
        let layers = if self.dir.has(&flat)? {
            vec![Layer::Raw(self.dir.blob(&flat, OpenMode::Read)?)]
        } else {
            let info = Info::load(&self.dir, volume)?;
            let Some(file) = info.overlays.get(&snapshot.id.to_string()) else {
                self.dir.remove(&names::lock(&flat))?;
                return Err(missing());
            };
            self.layers_below(volume, file)?
        };
        if layers.is_empty() {
            return Err(missing());
        }
        Ok(Stack::new(layers).locked_by(locked))
    }

    /// The layers below an overlay. Another snapshot's deletion may take one out while we look: then we look again.
    fn layers_below(&self, volume: &str, file: &str) -> Result<Vec<Layer>> {
        for _ in 0..8 {
            match open_chain(&self.dir, volume, file, OpenMode::Read, self.boot) {
                Err(e) if e.kind == ErrorKind::NotFound => {}
                chain => return Ok(chain?.into_iter().skip(1).map(|(_, layer)| layer).collect()),
            }
        }
        Err(DriverError::new(ErrorKind::Backend, format!("the chain below {file} is not whole")))
    }

    /// Sets a volume back to its latest snapshot. It keeps its size.
    pub(super) fn revert(&self, to: &SnapshotRef, claim: &Claim) -> Result<()> {
        let volume = &to.volume.name;
        let owner = self.own(volume)?;
        let state = owner.work();
        let flat = names::flat(volume, to.id);
        let info = Info::load(&self.dir, volume)?;
        match info.overlays.get(&to.id.to_string()) {
            Some(file) if *file == state.files[0] => {
                let stack = owner.served.stack();
                let making =
                    self.new_overlay(file, stack.size(), &state.files[1], &stack.layers()[1], claim)?;
                self.replace_top(&owner, &state, making, claim)
            }
            Some(_) if names::is_temporary(&state.files[0]) => {
                Err(DriverError::new(ErrorKind::Busy, format!("{volume} is being cloned")))
            }
            Some(_) => {
                Err(DriverError::new(ErrorKind::Invalid, format!("{} is not the latest snapshot", to.name)))
            }
            None if self.dir.has(&flat)? => self.revert_to_copy(&owner, &state, &flat, claim),
            None => Err(DriverError::new(ErrorKind::NotFound, format!("{} does not exist", to.name))),
        }
    }

    /// Goes back to a snapshot that is a file of its own.
    fn revert_to_copy(&self, owner: &Owner, state: &State, flat: &str, claim: &Claim) -> Result<()> {
        let blob = self.dir.blob(flat, OpenMode::Read)?;
        let stack = owner.served.stack();
        let making = if state.files.len() == 1 {
            let making = self.dir.make(&owner.volume, claim)?;
            if !self.reflink || reflink(&blob, making.blob()).is_err() {
                self.copy(&making, &Stack::raw(blob), claim)?;
            }
            making.blob().set_len(stack.size())?;
            making
        } else {
            let making =
                self.new_overlay(&state.files[0], stack.size(), &state.files[1], &stack.layers()[1], claim)?;
            let top = Overlay::open(Arc::clone(making.blob()), true, self.boot)?;
            let mut layers = stack.layers().to_vec();
            layers[0] = Layer::Overlay(Arc::new(top));
            overwrite(&Stack::new(layers.clone()), &Stack::raw(blob), claim)?;
            layers[0].flush()?;
            seal(&layers[0]);
            making
        };
        self.replace_top(owner, state, making, claim)
    }

    /// Publishes `making` in the place of the top layer's file and goes on with it.
    fn replace_top(&self, owner: &Owner, state: &State, making: Making, claim: &Claim) -> Result<()> {
        let blob = Arc::clone(making.blob());
        let layer = match &owner.served.stack().layers()[0] {
            Layer::Raw(_) => Layer::Raw(blob),
            Layer::Overlay(_) => Layer::Overlay(Arc::new(
                Overlay::open(blob, true, self.boot).during(|| format!("opening {}", state.files[0]))?,
            )),
        };
        owner.served.parked(|served| {
            making.publish_over(claim)?;
            served.replace_top(layer);
            self.dir.sync()
        })
    }
}

/// Completes a layer that takes no more writes, for the sake of other programs; we can do without, on a full disk for
/// instance.
pub(super) fn seal(layer: &Layer) {
    if let Layer::Overlay(overlay) = layer
        && let Err(error) = overlay.seal()
    {
        tracing::warn!(%error, "an overlay stays marked as being in use");
    }
}

/// Notes how far a merge has come.
fn progress(claim: &Claim, next: &mut u64, cluster: u64) -> Result<()> {
    *next = cluster;
    claim.set_done(cluster.saturating_mul(CLUSTER).min(claim.progress().1));
    claim.check()?;
    Ok(())
}

/// Makes `to` read like `from`, and as zeros beyond it.
fn overwrite(to: &Stack, from: &Stack, claim: &Claim) -> Result<()> {
    use crate::blob::Wait;
    use model::ExtentKind;
    claim.set_done(0);
    claim.set_total(to.size());
    let mut buf = vec![0u8; 1 << 20];
    let mut offset = 0;
    while offset < to.size() {
        claim.check()?;
        let extent = if offset < from.size() {
            from.status(offset, from.size() - offset)?
        } else {
            model::Extent { length: to.size() - offset, kind: ExtentKind::Hole }
        };
        let len = if extent.kind == ExtentKind::Data {
            let chunk = &mut buf[..extent.length.min(1 << 20) as usize];
            from.read(offset, chunk, Wait::Full)?;
            to.write(offset, chunk, Wait::Full)?;
            chunk.len() as u64
        } else {
            to.discard(offset, extent.length)?;
            extent.length
        };
        offset += len;
        claim.add_done(len);
    }
    Ok(())
}
