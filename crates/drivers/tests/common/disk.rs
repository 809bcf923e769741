//! A disk that remembers every order it was given, and can show what power loss would have left of it.

use std::io;
use std::sync::{Arc, Mutex};

use drivers::blob::{Blob, Wait};

use super::Rng;

const SECTOR: usize = 512;

#[derive(Debug, Clone)]
enum Order {
    Write { file: usize, offset: usize, data: Vec<u8> },
    SetLen { file: usize, len: usize },
    Zero { file: usize, offset: usize, len: usize },
    Sync { file: usize },
}

impl Order {
    fn file(&self) -> usize {
        match self {
            Self::Write { file, .. }
            | Self::SetLen { file, .. }
            | Self::Zero { file, .. }
            | Self::Sync { file } => *file,
        }
    }
}

/// All files of a disk with the orders given so far.
#[derive(Debug, Default)]
pub struct Disk {
    files: Vec<Vec<u8>>,
    log: Vec<Order>,
    /// What the files held when recording began.
    start: Vec<Vec<u8>>,
}

/// A shared disk.
pub type SharedDisk = Arc<Mutex<Disk>>;

impl Disk {
    pub fn new() -> SharedDisk {
        SharedDisk::default()
    }

    /// A disk that holds these files, durably.
    pub fn holding(files: Vec<Vec<u8>>) -> SharedDisk {
        Arc::new(Mutex::new(Self { start: files.clone(), files, log: Vec::new() }))
    }

    /// Orders so far.
    pub fn now(&self) -> usize {
        self.log.len()
    }

    /// The states at every moment, from the beginning.
    pub fn replay(&self) -> Replay<'_> {
        let mut files = self.start.clone();
        files.resize(self.files.len(), Vec::new());
        Replay { disk: self, cut: 0, durable: files.clone(), cached: files, loose: Vec::new() }
    }
}

/// A walk through what a disk was told.
pub struct Replay<'a> {
    disk: &'a Disk,
    cut: usize,
    durable: Vec<Vec<u8>>,
    cached: Vec<Vec<u8>>,
    /// Orders that no sync has covered.
    loose: Vec<&'a Order>,
}

impl Replay<'_> {
    /// Goes on to the moment after `cut` orders.
    pub fn advance(&mut self, cut: usize) {
        for order in &self.disk.log[self.cut..cut] {
            apply(&mut self.cached, order, &mut |_| true);
            let Order::Sync { file } = order else {
                self.loose.push(order);
                continue;
            };
            self.loose.retain(|order| {
                let covered = order.file() == *file;
                if covered {
                    apply(&mut self.durable, order, &mut |_| true);
                }
                !covered
            });
        }
        self.cut = cut;
    }

    /// The files as the page cache shows them: what a process's death leaves.
    pub fn cached(&self) -> Vec<Vec<u8>> {
        self.cached.clone()
    }

    /// The files after power is lost now: all that was synced, and of the rest each sector or not.
    pub fn after_power_loss(&self, rng: &mut Rng) -> Vec<Vec<u8>> {
        let mut files = self.durable.clone();
        // Some disks keep nearly all, some nearly nothing.
        let odds = 1 + rng.below(4);
        for order in &self.loose {
            let keep = |rng: &mut Rng| if odds == 4 { !rng.once_in(8) } else { rng.once_in(odds) };
            let whole = keep(rng);
            let torn = rng.once_in(2);
            apply(&mut files, order, &mut |_| if torn { keep(rng) } else { whole });
        }
        files
    }
}

/// Applies an order, each sector if `keep` says so.
fn apply(files: &mut [Vec<u8>], order: &Order, keep: &mut dyn FnMut(usize) -> bool) {
    match order {
        Order::Write { file, offset, data } => {
            let mut at = 0;
            while at < data.len() {
                let end = ((offset + at) / SECTOR + 1) * SECTOR - offset;
                let piece = &data[at..end.min(data.len())];
                if keep((offset + at) / SECTOR) {
                    put(&mut files[*file], offset + at, piece);
                }
                at += piece.len();
            }
        }
        Order::SetLen { file, len } => {
            if keep(0) {
                files[*file].resize(*len, 0);
            }
        }
        Order::Zero { file, offset, len } => {
            if keep(0) {
                zero(&mut files[*file], *offset, *len);
            }
        }
        Order::Sync { .. } => {}
    }
}

fn put(file: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if file.len() < offset + data.len() {
        file.resize(offset + data.len(), 0);
    }
    file[offset..offset + data.len()].copy_from_slice(data);
}

fn zero(file: &mut [u8], offset: usize, len: usize) {
    let end = (offset + len).min(file.len());
    if offset < end {
        file[offset..end].fill(0);
    }
}

/// A file of a recording disk.
#[derive(Debug)]
pub struct DiskFile {
    disk: SharedDisk,
    file: usize,
}

impl DiskFile {
    /// A new empty file.
    pub fn create(disk: &SharedDisk) -> Arc<Self> {
        let mut inner = disk.lock().unwrap();
        inner.files.push(Vec::new());
        Arc::new(Self { disk: Arc::clone(disk), file: inner.files.len() - 1 })
    }

    /// The `file`th file.
    pub fn open(disk: &SharedDisk, file: usize) -> Arc<Self> {
        Arc::new(Self { disk: Arc::clone(disk), file })
    }

    /// Its number.
    pub fn number(&self) -> usize {
        self.file
    }

    fn order(&self, order: Order) {
        let mut disk = self.disk.lock().unwrap();
        let disk = &mut *disk;
        apply(&mut disk.files, &order, &mut |_| true);
        disk.log.push(order);
    }
}

impl Blob for DiskFile {
    fn len(&self) -> u64 {
        self.disk.lock().unwrap().files[self.file].len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8], _wait: Wait) -> io::Result<()> {
        let disk = self.disk.lock().unwrap();
        let file = &disk.files[self.file];
        let start = (offset as usize).min(file.len());
        let inside = buf.len().min(file.len() - start);
        buf[..inside].copy_from_slice(&file[start..start + inside]);
        buf[inside..].fill(0);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8], _wait: Wait) -> io::Result<()> {
        self.order(Order::Write { file: self.file, offset: offset as usize, data: data.to_vec() });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.order(Order::Sync { file: self.file });
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.order(Order::SetLen { file: self.file, len: len as usize });
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.order(Order::Zero { file: self.file, offset: offset as usize, len: len as usize });
        Ok(())
    }

    fn data_at(&self, _offset: u64, len: u64) -> io::Result<(bool, u64)> {
        Ok((true, len))
    }
}
