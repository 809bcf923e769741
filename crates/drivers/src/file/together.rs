//! Snapshots of several volumes at one moment.
//!
//! The volumes' I/O is parked, one after the other in the order of their names; when all stand still, each is frozen; then all are
//! let go. A write that waits is acknowledged afterwards, so that whoever writes to a second volume what follows from a write to
//! the first finds both on the same side of the moment. The hold is a lock in this process's memory: it ends with the process.

use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use model::job::Claim;

use super::dir::Making;
use super::info::Info;
use super::names;
use super::owner::{Owner, State};
use super::snapshot::{NextTop, seal};
use super::{Backend, reflink};
use crate::SnapshotRef;
use crate::device::Parked;
use crate::error::{DriverError, During, ErrorKind, Result};
use crate::stack::Layer;

/// How long volumes are held at most: far below what initiators wait for. Asked between volumes, so that one flush more may be
/// waited for.
const HOLD_MAX: Duration = Duration::from_secs(10);
/// Volumes in one call: each is a lock and two open files.
const VOLUMES_MAX: usize = 256;

/// How a volume is to be frozen.
enum Plan {
    /// By a file that shares its blocks.
    Share(Making),
    /// By an overlay on top.
    Overlay(Box<NextTop>),
}

/// One volume, ready to be frozen.
struct Member<'a> {
    snapshot: &'a SnapshotRef,
    owner: &'a Arc<Owner>,
    state: MutexGuard<'a, State>,
    plan: Plan,
    /// What takes the writes until then.
    top: Layer,
}

impl Backend {
    /// Takes the snapshots.
    pub(super) fn create_snapshots(&self, snapshots: &[SnapshotRef], claim: &Claim) -> Result<()> {
        let mut snapshots: Vec<&SnapshotRef> = snapshots.iter().collect();
        snapshots.sort_by(|a, b| a.volume.name.cmp(&b.volume.name));
        check(&snapshots)?;
        let mut taken = 0;
        for snapshot in &snapshots {
            taken += usize::from(self.is_taken(snapshot)?);
        }
        if taken == snapshots.len() {
            // An earlier run has taken them, at one moment: it would have begun by removing others.
            self.dir.sync()?;
            return snapshots.iter().try_for_each(|snapshot| self.create_snapshot(snapshot, claim));
        }
        for snapshot in &snapshots {
            // What an interrupted run has left is of another moment.
            if self.is_begun(snapshot)? {
                self.delete_snapshot(snapshot, claim)?;
            }
        }
        let owners: Vec<Arc<Owner>> =
            snapshots.iter().map(|snapshot| self.own(&snapshot.volume.name)).collect::<Result<_>>()?;
        let mut members = Vec::with_capacity(snapshots.len());
        for (snapshot, owner) in snapshots.into_iter().zip(&owners) {
            members.push(self.prepare(snapshot, owner, claim)?);
        }
        let frozen = self.freeze(members, claim)?;
        for member in frozen {
            self.complete(member, claim)?;
        }
        self.dir.sync()
    }

    fn is_taken(&self, snapshot: &SnapshotRef) -> Result<bool> {
        let volume = &snapshot.volume.name;
        names::check(volume)?;
        let key = snapshot.id.to_string();
        Ok(self.dir.has(&names::flat(volume, snapshot.id))?
            || Info::load(&self.dir, volume)?.overlays.contains_key(&key))
    }

    /// Whether there is anything of it, complete or not.
    fn is_begun(&self, snapshot: &SnapshotRef) -> Result<bool> {
        let volume = &snapshot.volume.name;
        let overlay = names::overlay(volume, &snapshot.id.to_string());
        let recorded = Info::load(&self.dir, volume)?.overlays.values().any(|file| *file == overlay);
        Ok(recorded || self.is_taken(snapshot)? || self.dir.has(&overlay)?)
    }

    /// Everything that can be done before the volumes stand still.
    fn prepare<'a>(
        &self,
        snapshot: &'a SnapshotRef,
        owner: &'a Arc<Owner>,
        claim: &Claim,
    ) -> Result<Member<'a>> {
        let state = owner.work();
        let plan = if self.reflink && state.files.len() == 1 {
            Plan::Share(self.dir.make(&names::flat(&owner.volume, snapshot.id), claim)?)
        } else {
            let key = snapshot.id.to_string();
            Plan::Overlay(Box::new(self.prepare_overlay(owner, &state, &key, claim)?))
        };
        let stack = owner.served.stack();
        // Most of what is dirty is written before the volume's I/O is parked.
        stack.flush()?;
        let top = stack.layers()[0].clone();
        Ok(Member { snapshot, owner, state, plan, top })
    }

    /// The moment: from the last park to the first letting go nothing is written to any of the volumes.
    fn freeze<'a>(&self, members: Vec<Member<'a>>, claim: &Claim) -> Result<Vec<Frozen<'a>>> {
        let begun = Instant::now();
        let owners: Vec<&Arc<Owner>> = members.iter().map(|member| member.owner).collect();
        let mut held: Vec<Parked<'_>> = owners.iter().map(|owner| owner.served.park()).collect();
        for stack in &held {
            in_time(begun)?;
            stack.flush()?;
        }
        let mut frozen = Vec::with_capacity(members.len());
        for (mut member, stack) in members.into_iter().zip(&mut held) {
            in_time(begun)?;
            let making = match member.plan {
                Plan::Share(making) => {
                    reflink(stack.layers()[0].blob(), making.blob())
                        .during(|| format!("sharing the blocks of {}", member.owner.volume))?;
                    Some(making)
                }
                Plan::Overlay(next) => {
                    self.switch(stack, &mut member.state, *next, claim)?;
                    None
                }
            };
            let Member { snapshot, owner, state, top, .. } = member;
            frozen.push(Frozen { snapshot, owner, state, making, top });
        }
        tracing::debug!(
            volumes = frozen.len(),
            held_ms = begun.elapsed().as_secs_f64() * 1e3,
            "volumes were held and frozen"
        );
        Ok(frozen)
    }

    /// What remains to be done once the volume goes on.
    fn complete(&self, member: Frozen<'_>, claim: &Claim) -> Result<()> {
        let Frozen { snapshot, owner, mut state, making, top } = member;
        match making {
            Some(making) => {
                making.publish_new(claim)?;
            }
            None => {
                seal(&top);
                if state.files.len() - 1 > self.config.chain_max {
                    self.flatten(owner, &mut state, snapshot, claim)?;
                }
            }
        }
        Ok(())
    }
}

/// One volume that has been frozen.
struct Frozen<'a> {
    snapshot: &'a SnapshotRef,
    owner: &'a Arc<Owner>,
    state: MutexGuard<'a, State>,
    /// The file that shares its blocks, unpublished; none where an overlay is on top.
    making: Option<Making>,
    top: Layer,
}

fn check(snapshots: &[&SnapshotRef]) -> Result<()> {
    if snapshots.windows(2).any(|pair| pair[0].volume.name == pair[1].volume.name) {
        return Err(DriverError::new(ErrorKind::Invalid, "a volume is named twice"));
    }
    if snapshots.len() > VOLUMES_MAX {
        let text =
            format!("{} volumes are more than the {VOLUMES_MAX} that are held at once", snapshots.len());
        return Err(DriverError::new(ErrorKind::Invalid, text));
    }
    Ok(())
}

/// Lets go rather than keeping initiators waiting: the caller tries again.
fn in_time(begun: Instant) -> Result<()> {
    if begun.elapsed() > HOLD_MAX {
        return Err(DriverError::new(ErrorKind::Busy, "the volumes could not be frozen in time"));
    }
    Ok(())
}
