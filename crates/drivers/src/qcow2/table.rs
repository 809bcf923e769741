//! L2 tables and their cache. A table in memory and its cluster on disk change together: nothing in the cache is ever dirty.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::header::{CLUSTER, L2_ENTRIES};
use crate::blob::{Blob, Wait};

/// An L2 entry.
///
/// ```text
///  63 62       55 ............ 16 15 ... 2  1  0
///   C  Z(ipped) |  host cluster  |        P  U  0
/// ```
/// `U` and `P` are reserved bits of the format, set by us only in an image that is marked dirty: `U` says that the entry
/// has not been through a flush, `P` that the last flushed state was "zeros" (else "not here"). After power loss a `U`
/// entry is worth nothing, because the data it points to may not have reached the disk; after the death of a
/// process alone it is as good as any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry(pub u64);

const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const OFFSET: u64 = 0x00ff_ffff_ffff_0000;
const ZERO: u64 = 1;
const UNFLUSHED: u64 = 1 << 1;
const WAS_ZERO: u64 = 1 << 2;

/// What an entry says of its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not here: the layer below has it.
    Absent,
    /// Zeros.
    Zero,
    /// At this offset of the file, which belongs to this cluster alone.
    Data(u64),
    /// At this offset, to be copied before it is changed (only in images made by others).
    Shared(u64),
}

impl Entry {
    /// Zeros, not yet flushed.
    pub const NEW_ZERO: Self = Self(ZERO | UNFLUSHED);

    /// A newly allocated cluster at `host`, not yet flushed, in place of `before`.
    pub fn new_data(host: u64, before: Self) -> Self {
        let was_zero = before.0 & UNFLUSHED == 0 && before.0 & ZERO != 0;
        Self(host | COPIED | UNFLUSHED | if was_zero { WAS_ZERO } else { 0 })
    }

    /// Whether power loss undoes it.
    pub fn unflushed(self) -> bool {
        self.0 & UNFLUSHED != 0
    }

    /// The same entry after a flush.
    pub fn flushed(self) -> Self {
        Self(self.0 & !(UNFLUSHED | WAS_ZERO))
    }

    /// What it was at the last flush.
    pub fn reverted(self) -> Self {
        match (self.unflushed(), self.0 & WAS_ZERO != 0) {
            (false, _) => self,
            (true, false) => Self(0),
            (true, true) => Self(ZERO),
        }
    }

    /// What it says.
    ///
    /// # Errors
    /// `InvalidData` for a compressed cluster, which overlays do not have.
    pub fn kind(self) -> io::Result<Kind> {
        if self.0 & COMPRESSED != 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a compressed cluster in an overlay"));
        }
        let host = self.0 & OFFSET;
        Ok(match (self.0 & ZERO != 0, host, self.0 & COPIED != 0) {
            (true, ..) => Kind::Zero,
            (false, 0, _) => Kind::Absent,
            (false, host, true) => Kind::Data(host),
            (false, host, false) => Kind::Shared(host),
        })
    }
}

/// One L2 table.
#[derive(Debug)]
pub struct Table {
    /// Its offset in the file.
    pub offset: u64,
    entries: OnceLock<Box<[AtomicU64]>>,
    /// Held while the table is read from or written to the file.
    io: Mutex<()>,
}

impl Table {
    fn new(offset: u64) -> Self {
        Self { offset, entries: OnceLock::new(), io: Mutex::new(()) }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.io.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its entries, read from the file if they are not yet in memory.
    fn load(&self, blob: &dyn Blob, wait: Wait) -> io::Result<&[AtomicU64]> {
        if let Some(entries) = self.entries.get() {
            return Ok(entries);
        }
        let _io = match wait {
            Wait::Full => self.lock(),
            Wait::Brief => self.io.try_lock().map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?,
        };
        if self.entries.get().is_none() {
            let mut bytes = vec![0u8; CLUSTER as usize];
            blob.read_at(self.offset, &mut bytes, wait)?;
            let entries = bytes
                .chunks_exact(8)
                .map(|b| AtomicU64::new(u64::from_be_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])))
                .collect();
            // Only the holder of `io` sets it.
            let _ = self.entries.set(entries);
        }
        Ok(self.entries.get().expect("set above"))
    }

    /// The entry at `index`.
    pub fn get(&self, blob: &dyn Blob, index: u64, wait: Wait) -> io::Result<Entry> {
        Ok(Entry(self.load(blob, wait)?[index as usize].load(Ordering::Acquire)))
    }

    /// All entries that are not zero, with their indexes.
    pub fn used(&self, blob: &dyn Blob) -> io::Result<Vec<(u64, Entry)>> {
        let entries = self.load(blob, Wait::Full)?;
        Ok((0..)
            .zip(entries)
            .map(|(i, e)| (i, Entry(e.load(Ordering::Acquire))))
            .filter(|(_, e)| e.0 != 0)
            .collect())
    }

    /// Changes entries, in memory and in the file, by `change(index, now)` over `indexes`; `None` leaves one as it is. In memory
    /// nothing has changed when the file could not be written.
    pub fn update(
        &self,
        blob: &dyn Blob,
        indexes: impl IntoIterator<Item = u64>,
        mut change: impl FnMut(u64, Entry) -> Option<Entry>,
    ) -> io::Result<()> {
        let entries = self.load(blob, Wait::Full)?;
        let _io = self.lock();
        let changes: Vec<(u64, Entry)> = indexes
            .into_iter()
            .filter_map(|i| Some((i, change(i, Entry(entries[i as usize].load(Ordering::Acquire)))?)))
            .collect();
        let (Some(first), Some(last)) =
            (changes.iter().map(|c| c.0).min(), changes.iter().map(|c| c.0).max())
        else {
            return Ok(());
        };
        let mut bytes = Vec::with_capacity((last - first + 1) as usize * 8);
        for entry in &entries[first as usize..=last as usize] {
            bytes.extend(entry.load(Ordering::Acquire).to_be_bytes());
        }
        for (i, entry) in &changes {
            let at = (i - first) as usize * 8;
            bytes[at..at + 8].copy_from_slice(&entry.0.to_be_bytes());
        }
        blob.write_at(self.offset + first * 8, &bytes, Wait::Full)?;
        for (i, entry) in changes {
            entries[i as usize].store(entry.0, Ordering::Release);
        }
        Ok(())
    }
}

/// The tables at hand, by offset. At most one [`Table`] exists for an offset at any time: what is in use is never evicted.
#[derive(Debug)]
pub struct TableCache {
    tables: Mutex<HashMap<u64, (Arc<Table>, u64)>>,
    clock: AtomicU64,
    bound: usize,
}

impl TableCache {
    /// A cache of about `bound` tables of 64 KiB.
    pub fn new(bound: usize) -> Self {
        Self { tables: Mutex::new(HashMap::new()), clock: AtomicU64::new(0), bound }
    }

    /// The table at `offset`.
    pub fn get(&self, offset: u64) -> Arc<Table> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((table, used)) = tables.get_mut(&offset) {
            *used = now;
            return Arc::clone(table);
        }
        if tables.len() >= self.bound {
            let oldest = tables
                .iter()
                .filter(|(_, (t, _))| Arc::strong_count(t) == 1)
                .min_by_key(|(_, (_, used))| *used);
            if let Some(&oldest) = oldest.map(|(offset, _)| offset) {
                tables.remove(&oldest);
            }
        }
        let table = Arc::new(Table::new(offset));
        tables.insert(offset, (Arc::clone(&table), now));
        table
    }
}

/// Where a guest cluster's entry is: the L1 index and the index in its table.
pub fn place(cluster: u64) -> (usize, u64) {
    ((cluster / L2_ENTRIES) as usize, cluster % L2_ENTRIES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reverts_to_its_last_flushed_state() {
        let zero = Entry::NEW_ZERO.flushed();
        assert_eq!(Entry::new_data(CLUSTER, Entry(0)).reverted(), Entry(0));
        assert_eq!(Entry::new_data(CLUSTER, zero).reverted(), zero);
        assert_eq!(Entry::new_data(CLUSTER, Entry::NEW_ZERO).reverted(), Entry(0));
        assert_eq!(Entry::new_data(CLUSTER, zero).flushed().kind().unwrap(), Kind::Data(CLUSTER));
        assert_eq!(Entry::new_data(CLUSTER, zero).flushed().reverted().kind().unwrap(), Kind::Data(CLUSTER));
    }
}
