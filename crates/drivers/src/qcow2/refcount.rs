//! Refcounts, which nobody needs while an overlay is being written to: they are written when it is sealed.

use std::io;
use std::sync::atomic::Ordering;

use super::header::{CLUSTER, Header, REFBLOCK_ENTRIES};
use super::{Overlay, lock};
use crate::blob::Wait;

/// Entries of one cluster of the refcount table.
const TABLE_ENTRIES: u64 = CLUSTER / 8;

/// Clusters of refcount table that an image of `size` bytes gets: enough for all its data and tables.
pub(super) fn table_clusters(size: u64) -> u64 {
    let host_clusters = size.div_ceil(CLUSTER) + size.div_ceil(CLUSTER << 13) + (size >> 40) * 1024 + 4096;
    host_clusters.div_ceil(REFBLOCK_ENTRIES).div_ceil(TABLE_ENTRIES).max(1)
}

impl Overlay {
    /// Flushes, and completes the image so that any program may open it: refcounts written, no longer dirty. Nothing else may be
    /// under way on the image.
    pub fn seal(&self) -> io::Result<()> {
        self.flush()?;
        let mut head = lock(&self.head);
        if !head.dirty {
            return Ok(());
        }
        let mut sealed = head.clone();
        let mut table = self.refcount_table(&sealed)?;
        let first = self.uncounted.load(Ordering::Acquire);
        let total = self.allocate_refblocks(&mut table, &mut sealed);
        self.blob.set_len(total * CLUSTER)?;
        for (index, block) in table.iter().enumerate() {
            let from = (index as u64 * REFBLOCK_ENTRIES).max(first);
            let to = ((index as u64 + 1) * REFBLOCK_ENTRIES).min(total);
            if from < to {
                let within = from - index as u64 * REFBLOCK_ENTRIES;
                let ones = [0u8, 1].repeat((to - from) as usize);
                self.blob.write_at(block + within * 2, &ones, Wait::Full)?;
            }
        }
        let bytes: Vec<u8> = table.iter().flat_map(|o| o.to_be_bytes()).collect();
        self.blob.write_at(sealed.reftable_offset, &bytes, Wait::Full)?;
        self.blob.sync()?;
        sealed.dirty = false;
        sealed.boot = None;
        self.store_header(&sealed)?;
        *head = sealed;
        self.marked.store(false, Ordering::Release);
        self.uncounted.store(total, Ordering::Release);
        Ok(())
    }

    /// The refcount table as it is in the file: the offsets of its blocks.
    fn refcount_table(&self, head: &Header) -> io::Result<Vec<u64>> {
        let mut bytes = vec![0u8; head.reftable_clusters as usize * CLUSTER as usize];
        self.blob.read_at(head.reftable_offset, &mut bytes, Wait::Full)?;
        let mut table: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|b| u64::from_be_bytes(b.try_into().expect("chunks of eight")))
            .collect();
        while table.last() == Some(&0) {
            table.pop();
        }
        if table.iter().any(|o| o % CLUSTER != 0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "an impossible entry in a refcount table",
            ));
        }
        Ok(table)
    }

    /// Gives every cluster of the file a block to be counted in, the new blocks (and a larger table) included. Returns how many
    /// clusters the file then has.
    fn allocate_refblocks(&self, table: &mut Vec<u64>, head: &mut Header) -> u64 {
        let take = |n: u64| self.end.fetch_add(n * CLUSTER, Ordering::AcqRel);
        loop {
            let total = self.end.load(Ordering::Acquire) / CLUSTER;
            let blocks = total.div_ceil(REFBLOCK_ENTRIES);
            if blocks > u64::from(head.reftable_clusters) * TABLE_ENTRIES {
                let clusters = blocks.div_ceil(TABLE_ENTRIES) * 2;
                head.reftable_offset = take(clusters);
                head.reftable_clusters = clusters as u32;
                continue;
            }
            table.resize(table.len().max(blocks as usize), 0);
            match table.iter_mut().find(|o| **o == 0) {
                Some(hole) => *hole = take(1),
                None => return total,
            }
        }
    }
}
