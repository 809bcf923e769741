//! Overlays: qcow2 images that hold what was written since a snapshot, over a file that no longer changes.
//!
//! The files are plain qcow2 version 3 with lazy refcounts, which QEMU and Cinder read, and the code writes no more
//! of the format than overlays need: no compression, encryption, internal snapshots or external data. Invariants:
//!
//! - **A host cluster belongs to one guest cluster for ever.** Space is taken at the end of the file only; a discarded
//!   cluster is punched and kept. Nothing that a table points to is ever moved or reused, so that no order of writes
//!   reaching the disk can make one cluster appear in another's place.
//! - **A flush is two steps**: data first, then the entries that point to it lose their "unflushed" mark. Power loss
//!   undoes marked entries (what they replaced is still below), a process's death alone does not ([`table::Entry`]).
//! - **The header is one sector**, changed in place.
//!
//! Refcounts are written by [`Overlay::seal`] when an overlay stops being written to; until then the image is marked
//! dirty, as the format provides.

pub mod header;
mod refcount;
pub mod table;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use header::{Backing, BootId, CLUSTER, Header, L2_ENTRIES, SECTOR};
use table::{Entry, Kind, TableCache, place};

use crate::blob::{SharedBlob, Wait};

/// Locks that serialise allocation, by cluster.
const STRIPES: u64 = 64;
/// Unflushed clusters after which a writer flushes on its own: 4 GiB of new data, a few MiB of memory.
const PENDING_MAX: usize = 1 << 16;
/// L2 tables kept in memory for each overlay: 64 KiB each, for 512 MiB of volume each.
const TABLES: usize = 32;
/// The bit that says that a table belongs to this L1 table alone.
const COPIED: u64 = 1 << 63;
const L1_OFFSET: u64 = 0x00ff_ffff_ffff_0000;

/// Reads what lies below an overlay.
pub type Below<'a> = &'a dyn Fn(u64, &mut [u8]) -> io::Result<()>;

/// An open overlay.
#[derive(Debug)]
pub struct Overlay {
    blob: SharedBlob,
    boot: BootId,
    head: Mutex<Header>,
    size: AtomicU64,
    l1: RwLock<Vec<u64>>,
    tables: TableCache,
    /// Where the next cluster goes.
    end: AtomicU64,
    /// Entries to be flushed, by guest cluster.
    pending: Mutex<HashMap<u64, Entry>>,
    stripes: Vec<Mutex<()>>,
    /// Whether the file says that it is dirty since this boot.
    marked: AtomicBool,
    /// The first host cluster whose refcount is missing.
    uncounted: AtomicU64,
    flushing: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Overlay {
    /// Writes an empty image of `size` bytes over `backing` into an empty file. Not durable until the file is synced.
    ///
    /// # Errors
    /// `InvalidInput` for a size or name beyond the format.
    pub fn format(blob: &SharedBlob, size: u64, backing: Option<Backing>) -> io::Result<()> {
        Header::check_size(size)?;
        let l1_clusters = (Header::l1_needed(size) * 8).div_ceil(CLUSTER).max(1);
        let reftable_clusters = refcount::table_clusters(size);
        let reftable_offset = CLUSTER;
        let refblock_offset = reftable_offset + reftable_clusters * CLUSTER;
        let l1_offset = refblock_offset + CLUSTER;
        let end = l1_offset + l1_clusters * CLUSTER;
        let header = Header {
            size,
            l1_size: (l1_clusters * L2_ENTRIES) as u32,
            l1_offset,
            reftable_offset,
            reftable_clusters: reftable_clusters as u32,
            dirty: false,
            boot: None,
            backing,
        };
        blob.set_len(end)?;
        blob.write_at(0, &header.encode()?, Wait::Full)?;
        blob.write_at(reftable_offset, &refblock_offset.to_be_bytes(), Wait::Full)?;
        let counts: Vec<u8> = [0u8, 1].repeat((end / CLUSTER) as usize);
        blob.write_at(refblock_offset, &counts, Wait::Full)
    }

    /// Opens an image. For writing, an image that was not sealed is first brought to a state in which nothing is unflushed.
    ///
    /// # Errors
    /// `InvalidData` for an image that is not of the kind [`format`](Self::format) makes.
    pub fn open(blob: SharedBlob, write: bool, boot: BootId) -> io::Result<Self> {
        let mut first = [0u8; 4096];
        blob.read_at(0, &mut first, Wait::Full)?;
        let head = Header::decode(&first)?;
        let mut bytes = vec![0u8; head.l1_size as usize * 8];
        blob.read_at(head.l1_offset, &mut bytes, Wait::Full)?;
        let mut end =
            blob.len().next_multiple_of(CLUSTER).max(head.l1_offset + (bytes.len() as u64).max(CLUSTER));
        let mut l1 = Vec::with_capacity(head.l1_size as usize);
        for entry in bytes.chunks_exact(8) {
            let entry = u64::from_be_bytes(entry.try_into().expect("chunks of eight"));
            let offset = entry & L1_OFFSET;
            if entry & !(COPIED | L1_OFFSET) != 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "an impossible entry in an L1 table"));
            }
            // Power loss may have kept the pointer but not the length of the file.
            end = end.max(if offset == 0 { 0 } else { offset + CLUSTER });
            l1.push(offset);
        }
        let trusted = head.boot == Some(boot);
        let dirty = head.dirty;
        let overlay = Self {
            size: AtomicU64::new(head.size),
            uncounted: AtomicU64::new(if dirty { 0 } else { end / CLUSTER }),
            head: Mutex::new(head),
            blob,
            boot,
            l1: RwLock::new(l1),
            tables: TableCache::new(TABLES),
            end: AtomicU64::new(end),
            pending: Mutex::default(),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            marked: AtomicBool::new(false),
            flushing: Mutex::default(),
        };
        if write && dirty {
            overlay.recover(trusted)?;
        }
        Ok(overlay)
    }

    /// Settles every unflushed entry that a dead process left: keeps it if the page cache has outlived the process, else goes back
    /// to what it replaced.
    fn recover(&self, trusted: bool) -> io::Result<()> {
        let tables: Vec<u64> = self.l1_read().iter().copied().filter(|o| *o != 0).collect();
        if trusted {
            self.blob.sync()?;
        }
        for offset in tables {
            let table = self.tables.get(offset);
            let marked: Vec<u64> =
                table.used(&*self.blob)?.into_iter().filter(|(_, e)| e.unflushed()).map(|(i, _)| i).collect();
            table
                .update(&*self.blob, marked, |_, e| Some(if trusted { e.flushed() } else { e.reverted() }))?;
        }
        self.blob.sync()
    }

    /// The virtual size in bytes.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// What it lies on.
    pub fn backing(&self) -> Option<Backing> {
        lock(&self.head).backing.clone()
    }

    /// The file.
    pub fn blob(&self) -> &SharedBlob {
        &self.blob
    }

    fn l1_read(&self) -> std::sync::RwLockReadGuard<'_, Vec<u64>> {
        self.l1.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, cluster: u64, wait: Wait) -> io::Result<Entry> {
        let (l1, index) = place(cluster);
        match self.l1_read().get(l1).copied() {
            None | Some(0) => Ok(Entry(0)),
            Some(offset) => self.tables.get(offset).get(&*self.blob, index, wait),
        }
    }

    /// What is at `offset`, and for how many bytes (at most `len`) it goes on so, host offsets running along.
    pub fn map(&self, offset: u64, len: u64, wait: Wait) -> io::Result<(Kind, u64)> {
        let mut cluster = offset / CLUSTER;
        let within = offset % CLUSTER;
        let first = self.run_start(cluster, len, wait)?;
        let (kind, mut run) = match first {
            (Kind::Absent, run) if run > CLUSTER => return Ok((Kind::Absent, (run - within).min(len))),
            (kind, _) => (kind, CLUSTER - within),
        };
        while run < len {
            cluster += 1;
            let next = self.entry(cluster, wait)?.kind()?;
            let goes_on = match (kind, next) {
                (Kind::Data(host), Kind::Data(at)) | (Kind::Shared(host), Kind::Shared(at)) => {
                    at == host + within + run
                }
                (a, b) => a == b,
            };
            if !goes_on {
                break;
            }
            run += CLUSTER;
        }
        let kind = match kind {
            Kind::Data(host) => Kind::Data(host + within),
            Kind::Shared(host) => Kind::Shared(host + within),
            other => other,
        };
        Ok((kind, run.min(len)))
    }

    /// The kind of `cluster`; where whole tables are missing, for how many bytes from its start.
    fn run_start(&self, cluster: u64, len: u64, wait: Wait) -> io::Result<(Kind, u64)> {
        let (mut l1, index) = place(cluster);
        let table = self.l1_read();
        if table.get(l1).is_some_and(|o| *o != 0) {
            drop(table);
            return Ok((self.entry(cluster, wait)?.kind()?, CLUSTER));
        }
        let mut run = (L2_ENTRIES - index) * CLUSTER;
        l1 += 1;
        while run < len + CLUSTER && table.get(l1).is_some_and(|o| *o == 0) {
            run += L2_ENTRIES * CLUSTER;
            l1 += 1;
        }
        Ok((Kind::Absent, run.max(CLUSTER + 1)))
    }

    /// Writes `data` at `offset`; `below` is asked for the rest of clusters that are allocated for it. In [`Wait::Brief`] nothing is
    /// allocated.
    ///
    /// # Errors
    /// `StorageFull` leaves the image as it was; a stretch of the data may have been written.
    pub fn write(&self, mut offset: u64, mut data: &[u8], below: Below<'_>, wait: Wait) -> io::Result<()> {
        let mut allocated = false;
        while !data.is_empty() {
            let (kind, run) = self.map(offset, data.len() as u64, wait)?;
            let run = match kind {
                Kind::Data(host) => {
                    self.blob.write_at(host, &data[..run as usize], wait)?;
                    run
                }
                _ if wait == Wait::Brief => return Err(io::ErrorKind::WouldBlock.into()),
                _ => {
                    allocated = true;
                    self.allocate(offset, &data[..run as usize], below)?
                }
            };
            offset += run;
            data = &data[run as usize..];
        }
        if allocated && lock(&self.pending).len() >= PENDING_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// Allocates clusters for the start of `data` and writes it. Returns how much of it.
    fn allocate(&self, offset: u64, data: &[u8], below: Below<'_>) -> io::Result<u64> {
        let first = offset / CLUSTER;
        let last = ((offset + data.len() as u64 - 1) / CLUSTER)
            .min(first + STRIPES - 1)
            .min(first + L2_ENTRIES - 1 - first % L2_ENTRIES);
        let _stripes = self.stripes_of(first, last);
        // While we waited, another writer may have come first: then only what is still like the first cluster.
        let (kind, run) =
            self.map(offset, ((last + 1) * CLUSTER - offset).min(data.len() as u64), Wait::Full)?;
        let data = &data[..run as usize];
        if let Kind::Data(host) = kind {
            self.blob.write_at(host, data, Wait::Full)?;
            return Ok(run);
        }
        let last = (offset + run - 1) / CLUSTER;
        let fill = |at: u64, buf: &mut [u8]| match kind {
            Kind::Zero => {
                buf.fill(0);
                Ok(())
            }
            // In a run of shared clusters the host offsets run along, backwards too.
            Kind::Shared(host) => self.blob.read_at((host + at).wrapping_sub(offset), buf, Wait::Full),
            _ => below(at, buf),
        };
        self.mark()?;
        let host = self.end.fetch_add((last + 1 - first) * CLUSTER, Ordering::AcqRel);
        let (bytes, at) = surround(offset, data, (last + 1) * CLUSTER, self.size(), fill)?;
        self.blob.write_at(host + (at - first * CLUSTER), &bytes, Wait::Full)?;
        self.enter(first..=last, |cluster, before| {
            Some(Entry::new_data(host + (cluster - first) * CLUSTER, before))
        })?;
        Ok(run)
    }

    /// Changes the entries of `clusters`, which are in one table, and notes them for the next flush.
    fn enter(
        &self,
        clusters: std::ops::RangeInclusive<u64>,
        mut change: impl FnMut(u64, Entry) -> Option<Entry>,
    ) -> io::Result<()> {
        let (l1, index) = place(*clusters.start());
        let base = clusters.start() - index;
        let table = self.tables.get(self.table_offset(l1)?);
        let mut new = Vec::new();
        table.update(&*self.blob, clusters.map(|c| c - base), |index, before| {
            let entry = change(base + index, before)?;
            new.push((base + index, entry));
            Some(entry)
        })?;
        lock(&self.pending).extend(new);
        Ok(())
    }

    /// The offset of the `l1`th table, made if there is none.
    fn table_offset(&self, l1: usize) -> io::Result<u64> {
        let known = self.l1_read().get(l1).copied();
        match known {
            Some(0) => {}
            Some(offset) => return Ok(offset),
            None => return Err(io::Error::new(io::ErrorKind::InvalidInput, "beyond the L1 table")),
        }
        let mut table = self.l1.write().unwrap_or_else(PoisonError::into_inner);
        if table[l1] != 0 {
            return Ok(table[l1]);
        }
        let offset = self.end.fetch_add(CLUSTER, Ordering::AcqRel);
        self.blob.write_at(offset, &[0; CLUSTER as usize], Wait::Full)?;
        let at = lock(&self.head).l1_offset + l1 as u64 * 8;
        self.blob.write_at(at, &(offset | COPIED).to_be_bytes(), Wait::Full)?;
        table[l1] = offset;
        Ok(offset)
    }

    /// Says in the file, durably, that it is being written to in this boot; before the first entry changes.
    fn mark(&self) -> io::Result<()> {
        if self.marked.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut head = lock(&self.head);
        if self.marked.load(Ordering::Acquire) {
            return Ok(());
        }
        if !head.dirty || head.boot != Some(self.boot) {
            let marked = Header { dirty: true, boot: Some(self.boot), ..head.clone() };
            self.store_header(&marked)?;
            *head = marked;
        }
        self.marked.store(true, Ordering::Release);
        Ok(())
    }

    /// Writes the header, durably.
    fn store_header(&self, header: &Header) -> io::Result<()> {
        let sector: [u8; SECTOR] = header.encode()?;
        self.blob.write_at(0, &sector, Wait::Full)?;
        self.blob.sync()
    }

    fn stripes_of(&self, first: u64, last: u64) -> Vec<MutexGuard<'_, ()>> {
        let mut wanted: Vec<u64> = (first..=last).map(|c| c % STRIPES).collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted.into_iter().map(|s| lock(&self.stripes[s as usize])).collect()
    }

    /// Makes the stretch read as zeros. `below_is_zero(offset, len)` says whether, and for how far, nothing but zeros lies below.
    pub fn discard(
        &self,
        mut offset: u64,
        len: u64,
        below: Below<'_>,
        below_is_zero: &dyn Fn(u64, u64) -> io::Result<(bool, u64)>,
    ) -> io::Result<()> {
        let end = offset + len;
        while offset < end {
            let (kind, mut run) = self.map(offset, end - offset, Wait::Full)?;
            match kind {
                Kind::Zero => {}
                Kind::Data(host) => self.blob.punch(host, run)?,
                Kind::Absent | Kind::Shared(_) => {
                    let (zero, far) = match kind {
                        Kind::Absent => below_is_zero(offset, run)?,
                        _ => (false, run),
                    };
                    run = run.min(far.max(1));
                    if !zero {
                        run = self.cover(offset, run, below)?;
                    }
                }
            }
            offset += run;
        }
        Ok(())
    }

    /// Hides what lies below the start of a stretch behind zeros. Returns how much of it.
    fn cover(&self, offset: u64, run: u64, below: Below<'_>) -> io::Result<u64> {
        let first = offset / CLUSTER;
        let in_first = (CLUSTER - offset % CLUSTER).min(run);
        let whole = |cluster: u64| (cluster + 1) * CLUSTER <= offset + run || offset + run == self.size();
        if !offset.is_multiple_of(CLUSTER) || !whole(first) {
            self.write(offset, &vec![0; in_first as usize], below, Wait::Full)?;
            return Ok(in_first);
        }
        let mut last = ((offset + run - 1) / CLUSTER)
            .min(first + STRIPES - 1)
            .min(first + L2_ENTRIES - 1 - first % L2_ENTRIES);
        if !whole(last) {
            last -= 1;
        }
        let _stripes = self.stripes_of(first, last);
        self.mark()?;
        let mut punch = Vec::new();
        self.enter(first..=last, |_, before| match before.kind() {
            Ok(Kind::Data(host)) => {
                punch.push(host);
                None
            }
            Ok(Kind::Zero) | Err(_) => None,
            Ok(Kind::Absent | Kind::Shared(_)) => Some(Entry::NEW_ZERO),
        })?;
        for host in punch {
            self.blob.punch(host, CLUSTER)?;
        }
        Ok(((last + 1) * CLUSTER - offset).min(run))
    }

    /// Makes everything written so far durable.
    pub fn flush(&self) -> io::Result<()> {
        let _one = lock(&self.flushing);
        let mut batch: Vec<(u64, Entry)> = lock(&self.pending).iter().map(|(c, e)| (*c, *e)).collect();
        self.blob.sync()?;
        if batch.is_empty() {
            return Ok(());
        }
        batch.sort_unstable_by_key(|(cluster, _)| *cluster);
        for group in batch.chunk_by(|a, b| place(a.0).0 == place(b.0).0) {
            let (l1, index) = place(group[0].0);
            let base = group[0].0 - index;
            let table = self.tables.get(self.table_offset(l1)?);
            let wanted: HashMap<u64, Entry> = group.iter().map(|(c, e)| (c - base, *e)).collect();
            // An entry that has changed since belongs to the next flush.
            table.update(&*self.blob, group.iter().map(|(c, _)| c - base), |index, now| {
                (wanted.get(&index) == Some(&now)).then(|| now.flushed())
            })?;
        }
        self.blob.sync()?;
        let mut pending = lock(&self.pending);
        for (cluster, entry) in batch {
            if pending.get(&cluster) == Some(&entry) {
                pending.remove(&cluster);
            }
        }
        if pending.is_empty() {
            pending.shrink_to(1024);
        }
        Ok(())
    }

    /// Sets the virtual size, durably. Nothing else may be under way on the image.
    pub fn grow(&self, size: u64) -> io::Result<()> {
        Header::check_size(size)?;
        let mut head = lock(&self.head);
        if size <= head.size {
            return Ok(());
        }
        let mut grown = Header { size, ..head.clone() };
        let needed = Header::l1_needed(size);
        let mut l1 = self.l1.write().unwrap_or_else(PoisonError::into_inner);
        let mut table = l1.clone();
        if needed > l1.len() as u64 {
            let clusters = (needed * 8).div_ceil(CLUSTER);
            grown.l1_size = (clusters * L2_ENTRIES) as u32;
            grown.l1_offset = self.end.fetch_add(clusters * CLUSTER, Ordering::AcqRel);
            // The old table and this one are both uncounted for now; the format allows that of a dirty image only.
            grown.dirty = true;
            grown.boot = Some(self.boot);
            table.resize((clusters * L2_ENTRIES) as usize, 0);
            let bytes: Vec<u8> =
                table.iter().flat_map(|o| if *o == 0 { 0 } else { o | COPIED }.to_be_bytes()).collect();
            self.blob.write_at(grown.l1_offset, &bytes, Wait::Full)?;
            self.blob.sync()?;
        }
        self.store_header(&grown)?;
        *head = grown;
        *l1 = table;
        self.size.store(size, Ordering::Release);
        Ok(())
    }

    /// Makes `backing` what the image lies on, durably. The caller knows that this changes nothing that can be read.
    pub fn set_backing(&self, backing: Option<Backing>) -> io::Result<()> {
        let mut head = lock(&self.head);
        let changed = Header { backing, ..head.clone() };
        self.store_header(&changed)?;
        *head = changed;
        Ok(())
    }

    /// The allocated clusters of the first table at or after guest cluster `from`, and where to go on; `None` at the end.
    #[allow(clippy::type_complexity)] // clusters of one table and the next cluster to ask for
    pub fn clusters_from(&self, from: u64) -> io::Result<Option<(Vec<(u64, Kind)>, u64)>> {
        let (start, skip) = place(from);
        let found = {
            let l1 = self.l1_read();
            (start..l1.len()).find_map(|i| (l1[i] != 0).then(|| (i as u64, l1[i])))
        };
        let Some((l1, offset)) = found else { return Ok(None) };
        let skip = if l1 as usize == start { skip } else { 0 };
        let mut clusters = Vec::new();
        for (index, entry) in self.tables.get(offset).used(&*self.blob)? {
            match entry.kind()? {
                Kind::Absent => {}
                kind if index >= skip => clusters.push((l1 * L2_ENTRIES + index, kind)),
                _ => {}
            }
        }
        Ok(Some((clusters, (l1 + 1) * L2_ENTRIES)))
    }
}

/// `data` at `offset` with the rest of its clusters (up to `end`, no further than `size`) around it, without leading and trailing
/// zeros, which a new cluster holds anyway; and where it starts. Never less than `data`: the file must reach into its
/// last cluster, because its length tells where the next one goes.
fn surround(
    offset: u64,
    data: &[u8],
    end: u64,
    size: u64,
    fill: impl Fn(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<(Vec<u8>, u64)> {
    let start = offset - offset % CLUSTER;
    let tail_at = offset + data.len() as u64;
    let mut head = vec![0u8; (offset - start) as usize];
    let mut tail = vec![0u8; end.min(size).saturating_sub(tail_at) as usize];
    if !head.is_empty() {
        fill(start, &mut head)?;
    }
    if !tail.is_empty() {
        fill(tail_at, &mut tail)?;
    }
    let skip = head.iter().position(|b| *b != 0).unwrap_or(head.len()) / SECTOR * SECTOR;
    let keep = tail.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
    let mut bytes = Vec::with_capacity(head.len() - skip + data.len() + keep);
    bytes.extend_from_slice(&head[skip..]);
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(&tail[..keep]);
    Ok((bytes, start + skip as u64))
}
