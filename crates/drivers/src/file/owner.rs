//! Block owners: the one place in this process through which an open volume is reached, and the lock that keeps other
//! processes out.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::dir::Dir;
use super::info::Info;
use super::names;
use crate::OpenMode;
use crate::device::Served;
use crate::error::{DriverError, During, ErrorKind, Result};
use crate::qcow2::Overlay;
use crate::qcow2::header::{Backing, BootId, Format};
use crate::stack::{Layer, Stack};

/// More layers than this are not a chain of ours: bounds the walk.
const LAYERS_MAX: usize = 64;
/// How long the next owner in this process waits for requests of the last one that nobody waits for any more.
const RELEASE_WAIT: Duration = Duration::from_secs(10);

/// A volume that this process has, alone.
#[derive(Debug)]
pub struct Owner {
    pub volume: String,
    pub served: Arc<Served>,
    state: Mutex<State>,
    use_count: Mutex<Use>,
}

/// What work on a volume changes; locked by [`Owner::work`].
#[derive(Debug)]
pub struct State {
    /// The files of the served stack, top first.
    pub files: Vec<String>,
}

#[derive(Debug, Default)]
struct Use {
    handles: usize,
    deleted: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Owner {
    fn open(dir: &Dir, volume: &str, boot: BootId, released: &Arc<Released>) -> Result<Self> {
        // The volume first, so that opening what does not exist leaves no lock file.
        if !dir.has(volume)? {
            return Err(DriverError::new(ErrorKind::NotFound, format!("{volume} does not exist")));
        }
        let locked =
            Locked { file: Some(dir.lock(volume, OpenMode::Write)?), released: Arc::clone(released) };
        *lock(&released.0) = false;
        let info = Info::load(dir, volume)?;
        let (files, layers) =
            open_chain(dir, volume, &info.active, OpenMode::Write, boot)?.into_iter().unzip();
        let served = Served::new(Stack::new(layers).locked_by(locked));
        Ok(Self {
            volume: volume.to_owned(),
            served,
            state: Mutex::new(State { files }),
            use_count: Mutex::default(),
        })
    }

    /// Work on the volume, one piece at a time; I/O goes on beside it.
    pub fn work(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Counts one more handle.
    pub fn opened(self: &Arc<Self>) -> Result<Opened> {
        let mut count = lock(&self.use_count);
        if count.deleted {
            return Err(DriverError::new(ErrorKind::NotFound, format!("{} is being deleted", self.volume)));
        }
        count.handles += 1;
        Ok(Opened(Arc::clone(self)))
    }

    /// Whether there are handles.
    pub fn is_open(&self) -> bool {
        lock(&self.use_count).handles > 0
    }

    /// Refuses handles from now on.
    ///
    /// # Errors
    /// `Busy` while there are any.
    pub fn begin_delete(&self) -> Result<()> {
        let mut count = lock(&self.use_count);
        if count.handles > 0 {
            return Err(DriverError::new(ErrorKind::Busy, format!("{} is open", self.volume)));
        }
        count.deleted = true;
        Ok(())
    }
}

/// A handle's share of its owner.
#[derive(Debug)]
pub struct Opened(Arc<Owner>);

impl Drop for Opened {
    fn drop(&mut self) {
        lock(&self.0.use_count).handles -= 1;
    }
}

/// The files below and with `top`, top first.
pub fn open_chain(
    dir: &Dir,
    volume: &str,
    top: &str,
    mode: OpenMode,
    boot: BootId,
) -> Result<Vec<(String, Layer)>> {
    let mut chain: Vec<(String, Layer)> = Vec::new();
    // The volume's own file is raw, the others are overlays: both by our own making.
    let format = if top == volume { Format::Raw } else { Format::Qcow2 };
    let mut next = Some(Backing { name: top.to_owned(), format });
    while let Some(backing) = next {
        let name = names::backing(volume, &backing.name)?;
        if chain.len() == LAYERS_MAX || chain.iter().any(|(known, _)| *known == name) {
            return Err(DriverError::new(ErrorKind::Backend, format!("the chain of {volume} does not end")));
        }
        let blob = dir.blob(&name, mode)?;
        let layer = match backing.format {
            Format::Raw => {
                next = None;
                Layer::Raw(blob)
            }
            Format::Qcow2 => {
                // Only the top takes writes, but a merge makes a lower one the top.
                let overlay = Overlay::open(blob, mode == OpenMode::Write, boot)
                    .during(|| format!("opening the overlay {name}"))?;
                next = overlay.backing();
                Layer::Overlay(Arc::new(overlay))
            }
        };
        chain.push((name, layer));
    }
    Ok(chain)
}

/// The format that a layer has as a backing file.
pub fn format_of(layer: &Layer) -> Format {
    match layer {
        Layer::Raw(_) => Format::Raw,
        Layer::Overlay(_) => Format::Qcow2,
    }
}

/// Whether the lock of a volume's last owner in this process has been given back.
#[derive(Debug)]
struct Released(Mutex<bool>, Condvar);

impl Default for Released {
    fn default() -> Self {
        Self(Mutex::new(true), Condvar::new())
    }
}

impl Released {
    /// Waits until it has, or long enough.
    fn wait(&self) {
        let held = |released: &mut bool| !*released;
        drop(
            self.1
                .wait_timeout_while(lock(&self.0), RELEASE_WAIT, held)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
}

/// The lock on a volume.
#[derive(Debug)]
struct Locked {
    file: Option<File>,
    released: Arc<Released>,
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.file = None;
        *lock(&self.released.0) = true;
        self.released.1.notify_all();
    }
}

/// One volume's place among the owners.
#[derive(Debug, Default)]
struct Place {
    owner: Weak<Owner>,
    released: Arc<Released>,
}

type Slot = Arc<Mutex<Place>>;

/// The owners of this process, by volume name.
#[derive(Debug, Default)]
pub struct Owners {
    slots: Mutex<HashMap<String, Slot>>,
}

impl Owners {
    /// The volume's owner: the one that exists, or a new one.
    ///
    /// # Errors
    /// `Busy` when another process has the volume, `NotFound` when there is none.
    pub fn own(&self, dir: &Dir, volume: &str, boot: BootId) -> Result<Arc<Owner>> {
        let slot = {
            let mut slots = lock(&self.slots);
            if slots.len() >= 256 && !slots.contains_key(volume) {
                slots.retain(|_, slot| Arc::strong_count(slot) > 1 || lock(slot).owner.strong_count() > 0);
            }
            Arc::clone(slots.entry(volume.to_owned()).or_default())
        };
        let mut slot = lock(&slot);
        if let Some(owner) = slot.owner.upgrade() {
            return Ok(owner);
        }
        // The last owner may be on its way out on another thread.
        slot.released.wait();
        let owner = Arc::new(Owner::open(dir, volume, boot, &slot.released)?);
        slot.owner = Arc::downgrade(&owner);
        Ok(owner)
    }

    /// Whether this process has handles on the volume.
    pub fn is_open(&self, volume: &str) -> bool {
        let slot = lock(&self.slots).get(volume).cloned();
        slot.and_then(|slot| lock(&slot).owner.upgrade()).is_some_and(|owner| owner.is_open())
    }
}
