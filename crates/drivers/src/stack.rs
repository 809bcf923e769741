//! A volume's files as one device: what is written goes to the top layer, what is not there is read from below.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::block::check_range;
use model::{Extent, ExtentKind};

use crate::blob::{Blob, SharedBlob, Wait};
use crate::qcow2::Overlay;
use crate::qcow2::header::CLUSTER;
use crate::qcow2::table::Kind;

/// What a merge needs beside its data: the header's new places, the file system's own tables.
const MERGE_MARGIN: u64 = 1 << 20;

/// One file of a volume.
#[derive(Debug, Clone)]
pub enum Layer {
    /// The bytes as they are; the lowest layer.
    Raw(SharedBlob),
    /// What changed over the layer below.
    Overlay(Arc<Overlay>),
}

impl Layer {
    /// Its size in bytes: what it reads beyond that is zeros.
    pub fn size(&self) -> u64 {
        match self {
            Self::Raw(blob) => blob.len(),
            Self::Overlay(overlay) => overlay.size(),
        }
    }

    /// Its file.
    pub fn blob(&self) -> &SharedBlob {
        match self {
            Self::Raw(blob) => blob,
            Self::Overlay(overlay) => overlay.blob(),
        }
    }

    /// Makes completed writes durable.
    pub fn flush(&self) -> io::Result<()> {
        match self {
            Self::Raw(blob) => blob.sync(),
            Self::Overlay(overlay) => overlay.flush(),
        }
    }

    /// Sets its size, durably.
    pub fn grow(&self, size: u64) -> io::Result<()> {
        match self {
            Self::Raw(blob) if size > blob.len() => {
                blob.set_len(size)?;
                blob.sync()
            }
            Self::Raw(_) => Ok(()),
            Self::Overlay(overlay) => overlay.grow(size),
        }
    }
}

/// A chain of layers, top first. Only the top changes, except while it is being merged into the next: then both take every
/// write, so that at any moment the top alone decides what is read, and dropping it changes nothing once everything is copied.
#[derive(Clone)]
pub struct Stack {
    layers: Vec<Layer>,
    mirror: Option<Arc<Mirror>>,
    /// The lock that makes the layers ours; it goes when the last request that can reach them has gone.
    _lock: Option<Arc<dyn Any + Send + Sync>>,
}

/// Whether the second layer has taken every write since mirroring began.
#[derive(Debug, Default)]
pub struct Mirror {
    broken: AtomicBool,
}

impl Mirror {
    /// Whether a write did not reach it: the merge has to be given up.
    pub fn broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Notes a failure, which must not fail the write: the top layer has it.
    fn note(&self, result: io::Result<()>) -> io::Result<()> {
        match result {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => {
                tracing::warn!(error = %e, "a write could not be mirrored into the layer below");
                self.broken.store(true, Ordering::Release);
                Ok(())
            }
            other => other,
        }
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("layers", &self.layers)
            .field("mirror", &self.mirror)
            .finish_non_exhaustive()
    }
}

impl Stack {
    /// A stack of these layers, top first; there must be one.
    pub fn new(layers: Vec<Layer>) -> Self {
        assert!(!layers.is_empty(), "a stack has a layer");
        Self { layers, mirror: None, _lock: None }
    }

    /// The same stack, holding a lock for as long as it or a copy of it exists.
    pub fn locked_by(mut self, lock: impl Any + Send + Sync) -> Self {
        self._lock = Some(Arc::new(lock));
        self
    }

    /// One raw file.
    pub fn raw(blob: SharedBlob) -> Self {
        Self::new(vec![Layer::Raw(blob)])
    }

    /// The layers, top first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.layers[0].size()
    }

    /// The smallest unit written without reading first, in bytes.
    pub fn sector(&self) -> u32 {
        self.layers[0].blob().sector()
    }

    /// From now on writes also go to the second layer.
    pub fn start_mirror(&mut self) -> Arc<Mirror> {
        let mirror = Arc::new(Mirror::default());
        self.mirror = Some(Arc::clone(&mirror));
        mirror
    }

    /// Writes go to the top alone again.
    pub fn stop_mirror(&mut self) {
        self.mirror = None;
    }

    /// Does `write` to the mirror, if there is one.
    fn mirrored(&self, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match &self.mirror {
            Some(mirror) if !mirror.broken() => mirror.note(write()),
            _ => Ok(()),
        }
    }

    /// Puts a layer on top.
    pub fn push(&mut self, layer: Layer) {
        self.mirror = None;
        self.layers.insert(0, layer);
    }

    /// Takes a layer out, which no longer matters.
    pub fn remove(&mut self, index: usize) -> Layer {
        self.mirror = None;
        self.layers.remove(index)
    }

    /// Puts another layer in the place of the top.
    pub fn replace_top(&mut self, layer: Layer) {
        self.mirror = None;
        self.layers[0] = layer;
    }

    /// Fills `buf` from `offset`.
    pub fn read(&self, offset: u64, buf: &mut [u8], wait: Wait) -> io::Result<()> {
        check_range(offset, buf.len() as u64, self.size())?;
        self.read_layer(0, offset, buf, wait)
    }

    fn read_layer(&self, index: usize, mut offset: u64, mut buf: &mut [u8], wait: Wait) -> io::Result<()> {
        let Some(layer) = self.layers.get(index) else {
            buf.fill(0);
            return Ok(());
        };
        let inside = layer.size().saturating_sub(offset).min(buf.len() as u64) as usize;
        buf[inside..].fill(0);
        buf = &mut buf[..inside];
        let overlay = match layer {
            Layer::Raw(blob) => return blob.read_at(offset, buf, wait),
            Layer::Overlay(overlay) => overlay,
        };
        while !buf.is_empty() {
            let (kind, run) = overlay.map(offset, buf.len() as u64, wait)?;
            let (now, rest) = buf.split_at_mut(run as usize);
            match kind {
                Kind::Data(host) | Kind::Shared(host) => overlay.blob().read_at(host, now, wait)?,
                Kind::Zero => now.fill(0),
                Kind::Absent => self.read_layer(index + 1, offset, now, wait)?,
            }
            offset += run;
            buf = rest;
        }
        Ok(())
    }

    /// Writes all of `data` at `offset`.
    pub fn write(&self, offset: u64, data: &[u8], wait: Wait) -> io::Result<()> {
        check_range(offset, data.len() as u64, self.size())?;
        self.write_layer(0, offset, data, wait)?;
        self.mirrored(|| self.write_layer(1, offset, data, wait))
    }

    fn write_layer(&self, index: usize, offset: u64, data: &[u8], wait: Wait) -> io::Result<()> {
        match &self.layers[index] {
            Layer::Raw(blob) => blob.write_at(offset, data, wait),
            Layer::Overlay(overlay) => {
                let below = |at: u64, buf: &mut [u8]| self.read_layer(index + 1, at, buf, Wait::Full);
                overlay.write(offset, data, &below, wait)
            }
        }
    }

    /// Makes completed writes durable.
    pub fn flush(&self) -> io::Result<()> {
        self.layers[0].flush()
    }

    /// Makes completed writes to a layer durable.
    pub fn flush_layer(&self, index: usize) -> io::Result<()> {
        self.layers[index].flush()
    }

    /// Makes the stretch read as zeros and gives back what space can be given back.
    pub fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        check_range(offset, len, self.size())?;
        self.discard_layer(0, offset, len)?;
        self.mirrored(|| self.discard_layer(1, offset, len))
    }

    fn discard_layer(&self, index: usize, offset: u64, len: u64) -> io::Result<()> {
        match &self.layers[index] {
            Layer::Raw(blob) => blob.punch(offset, len),
            Layer::Overlay(overlay) => {
                let below = |at: u64, buf: &mut [u8]| self.read_layer(index + 1, at, buf, Wait::Full);
                let zero = |at: u64, len: u64| {
                    let extent = self.status_layer(index + 1, at, len)?;
                    Ok((extent.kind != ExtentKind::Data, extent.length))
                };
                overlay.discard(offset, len, &below, &zero)
            }
        }
    }

    /// What is at `offset`.
    pub fn status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        check_range(offset, len, self.size())?;
        if len == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the state of nothing"));
        }
        self.status_layer(0, offset, len)
    }

    fn status_layer(&self, index: usize, offset: u64, len: u64) -> io::Result<Extent> {
        let hole = Extent { length: len, kind: ExtentKind::Hole };
        let Some(layer) = self.layers.get(index) else { return Ok(hole) };
        let inside = layer.size().saturating_sub(offset).min(len);
        if inside == 0 {
            return Ok(hole);
        }
        match layer {
            Layer::Raw(blob) => {
                let (data, length) = blob.data_at(offset, inside)?;
                Ok(Extent { length, kind: if data { ExtentKind::Data } else { ExtentKind::Hole } })
            }
            Layer::Overlay(overlay) => {
                let (kind, run) = overlay.map(offset, inside, Wait::Full)?;
                match kind {
                    Kind::Data(_) | Kind::Shared(_) => Ok(Extent { length: run, kind: ExtentKind::Data }),
                    Kind::Zero => Ok(Extent { length: run, kind: ExtentKind::Zero }),
                    Kind::Absent => self.status_layer(index + 1, offset, run),
                }
            }
        }
    }

    /// Copies what layer `index` (an overlay) holds in the clusters from `cluster` on into the layer below it, about `most` clusters at a
    /// time. Returns where to go on and how many clusters were looked at, or `None` when nothing is left. Until the
    /// layer is taken out, this changes nothing that can be read.
    ///
    /// # Errors
    /// `StorageFull` and others leave the stack as it reads; the copy can be tried again.
    pub fn merge_down(&self, index: usize, cluster: u64, most: usize) -> io::Result<Option<(u64, u64)>> {
        let Layer::Overlay(overlay) = &self.layers[index] else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a raw layer cannot be merged"));
        };
        let Some((clusters, next)) = overlay.clusters_from(cluster)? else { return Ok(None) };
        let mut buf = vec![0u8; CLUSTER as usize];
        let size = overlay.size();
        for (done, (cluster, kind)) in clusters.iter().enumerate() {
            if done == most {
                return Ok(Some((*cluster, done as u64)));
            }
            let offset = cluster * CLUSTER;
            let len = CLUSTER.min(size.saturating_sub(offset));
            match kind {
                Kind::Data(host) | Kind::Shared(host) => {
                    let buf = &mut buf[..len as usize];
                    overlay.blob().read_at(*host, buf, Wait::Full)?;
                    if buf.iter().all(|b| *b == 0) {
                        self.discard_layer(index + 1, offset, len)?;
                    } else {
                        self.write_layer(index + 1, offset, buf, Wait::Full)?;
                    }
                }
                Kind::Zero => self.discard_layer(index + 1, offset, len)?,
                Kind::Absent => {}
            }
        }
        Ok(Some((next.max(cluster + 1), clusters.len() as u64)))
    }

    /// Bytes that the layer below `index` grows by when that layer is merged into it; when it is certain that they are at most
    /// `enough`, perhaps more than it really is.
    pub fn merge_needs(&self, index: usize, enough: u64) -> io::Result<u64> {
        let Layer::Overlay(overlay) = &self.layers[index] else { return Ok(0) };
        let length = overlay.blob().len();
        if length <= enough {
            return Ok(length);
        }
        // New tables in the layer below.
        let mut needed = MERGE_MARGIN;
        let mut next = 0;
        while let Some((clusters, following)) = overlay.clusters_from(next)? {
            next = following;
            needed += CLUSTER;
            for (cluster, kind) in clusters {
                if matches!(kind, Kind::Data(_) | Kind::Shared(_))
                    && !self.holds(index + 1, cluster * CLUSTER)?
                {
                    needed += CLUSTER;
                }
            }
        }
        Ok(needed)
    }

    /// Whether a layer has space of its own for the cluster at `offset`.
    fn holds(&self, index: usize, offset: u64) -> io::Result<bool> {
        Ok(match self.layers.get(index) {
            Some(Layer::Raw(blob)) if offset < blob.len() => {
                blob.data_at(offset, CLUSTER)? == (true, CLUSTER)
            }
            Some(Layer::Overlay(overlay)) if offset < overlay.size() => {
                matches!(overlay.map(offset, 1, Wait::Full)?.0, Kind::Data(_))
            }
            _ => false,
        })
    }
}

/// Copies the part of `from` that is not zeros to the start of `to`, a fresh blob that reads as zeros. `step(bytes)` is called
/// for every stretch passed and may stop the copy.
///
/// # Errors
/// Whatever reading, writing or `step` answers; `to` is then incomplete.
pub fn copy_to<E: From<io::Error>>(
    from: &Stack,
    to: &dyn Blob,
    mut step: impl FnMut(u64) -> Result<(), E>,
) -> Result<(), E> {
    const CHUNK: u64 = 1 << 20;
    let size = from.size();
    let mut buf = vec![0u8; CHUNK as usize];
    let mut offset = 0;
    while offset < size {
        let extent = from.status(offset, size - offset)?;
        if extent.kind != ExtentKind::Data {
            offset += extent.length;
            step(extent.length)?;
            continue;
        }
        let len = extent.length.min(CHUNK - offset % CHUNK);
        let chunk = &mut buf[..len as usize];
        from.read(offset, chunk, Wait::Full)?;
        let mut at = offset;
        for piece in chunk.chunks(CLUSTER as usize) {
            if piece.iter().any(|b| *b != 0) {
                to.write_at(at, piece, Wait::Full)?;
            }
            at += piece.len() as u64;
        }
        offset += len;
        step(len)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::qcow2::header::{Backing, Format};

    /// A file in memory that can be full.
    #[derive(Debug, Default)]
    struct Memory {
        bytes: Mutex<Vec<u8>>,
        full: AtomicBool,
    }

    impl Memory {
        fn room(&self) -> io::Result<()> {
            if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl Blob for Memory {
        fn len(&self) -> u64 {
            self.bytes.lock().unwrap().len() as u64
        }

        fn read_at(&self, offset: u64, buf: &mut [u8], _wait: Wait) -> io::Result<()> {
            let bytes = self.bytes.lock().unwrap();
            let start = bytes.len().min(offset as usize);
            let inside = buf.len().min(bytes.len() - start);
            buf[..inside].copy_from_slice(&bytes[start..start + inside]);
            buf[inside..].fill(0);
            Ok(())
        }

        fn write_at(&self, offset: u64, data: &[u8], _wait: Wait) -> io::Result<()> {
            self.room()?;
            let mut bytes = self.bytes.lock().unwrap();
            let end = offset as usize + data.len();
            let len = bytes.len().max(end);
            bytes.resize(len, 0);
            bytes[offset as usize..end].copy_from_slice(data);
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.bytes.lock().unwrap().resize(len as usize, 0);
            Ok(())
        }

        fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
            self.write_at(offset, &vec![0; len as usize], Wait::Full)
        }

        fn data_at(&self, _offset: u64, len: u64) -> io::Result<(bool, u64)> {
            Ok((true, len))
        }
    }

    const SIZE: u64 = 16 * CLUSTER;

    fn stack() -> (Arc<Memory>, Arc<Memory>, Stack) {
        let (below, above) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
        below.set_len(SIZE).unwrap();
        let blob: SharedBlob = above.clone();
        let backing = Backing { name: "below".into(), format: Format::Raw };
        Overlay::format(&blob, SIZE, Some(backing)).unwrap();
        let top = Overlay::open(blob, true, [1; 16]).unwrap();
        let layers = vec![Layer::Overlay(Arc::new(top)), Layer::Raw(below.clone())];
        (below, above, Stack::new(layers))
    }

    fn read(stack: &Stack, offset: u64) -> u8 {
        let mut byte = [0];
        stack.read(offset, &mut byte, Wait::Full).unwrap();
        byte[0]
    }

    #[test]
    fn i7_a_write_that_misses_the_mirror_is_not_lost() {
        let (below, _, mut stack) = stack();
        stack.write(0, &[1; 100], Wait::Full).unwrap();
        let mirror = stack.start_mirror();
        stack.write(50, &[2; 100], Wait::Full).unwrap();
        assert!(!mirror.broken());
        below.full.store(true, Ordering::SeqCst);
        stack.write(CLUSTER, &[3; 100], Wait::Full).unwrap();
        stack.discard(0, 10).unwrap();
        assert!(mirror.broken());
        assert!(stack.merge_down(0, 0, 16).is_err());
        stack.stop_mirror();
        below.full.store(false, Ordering::SeqCst);
        stack.write(2 * CLUSTER, &[4; 100], Wait::Full).unwrap();
        let held = [(0, 0), (20, 1), (60, 2), (CLUSTER, 3), (2 * CLUSTER, 4)];
        for (offset, value) in held {
            assert_eq!(read(&stack, offset), value, "at {offset}");
        }
        // The merge done again takes all of it down.
        stack.start_mirror();
        let mut next = 0;
        while let Some((cluster, _)) = stack.merge_down(0, next, 1).unwrap() {
            next = cluster;
        }
        stack.remove(0);
        for (offset, value) in held {
            assert_eq!(read(&stack, offset), value, "merged, at {offset}");
        }
    }

    #[test]
    fn a_full_overlay_keeps_what_it_had() {
        let (_, above, stack) = stack();
        stack.write(0, &[1; 100], Wait::Full).unwrap();
        above.full.store(true, Ordering::SeqCst);
        let error = stack.write(CLUSTER - 10, &[2; 20], Wait::Full).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!((read(&stack, 0), read(&stack, CLUSTER)), (1, 0));
        above.full.store(false, Ordering::SeqCst);
        stack.write(CLUSTER - 10, &[2; 20], Wait::Full).unwrap();
        assert_eq!(
            (read(&stack, CLUSTER - 1), read(&stack, CLUSTER + 1), read(&stack, CLUSTER + 10)),
            (2, 2, 0)
        );
    }

    #[test]
    fn what_cannot_be_answered_at_once_is_not_begun() {
        let (_, _, stack) = stack();
        let write = stack.write(0, &[1; 100], Wait::Brief).unwrap_err();
        assert_eq!(write.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(read(&stack, 0), 0);
        stack.write(0, &[1; 100], Wait::Full).unwrap();
        stack.write(50, &[2; 10], Wait::Brief).unwrap();
        assert_eq!((read(&stack, 49), read(&stack, 55), read(&stack, 60)), (1, 2, 1));
    }
}
