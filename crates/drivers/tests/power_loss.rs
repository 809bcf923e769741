//! I7: what a flush has acknowledged survives power loss, and what was written survives a process, in raw files and in
//! chains of overlays, through snapshots, merges and growth. Every prefix of the orders given to the disk is tried, with
//! any part of what was not yet synced.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::sync::Arc;

use common::disk::{Disk, DiskFile, SharedDisk};
use common::{Rng, seed};
use drivers::blob::{SharedBlob, Wait};
use drivers::qcow2::Overlay;
use drivers::qcow2::header::{Backing, BootId, Format};
use drivers::stack::{Layer, Stack};

const BLOCK: u64 = 4096;
const SMALL: u64 = 512 << 10;
const LARGE: u64 = 768 << 10;

/// What one block may read as.
#[derive(Debug, Clone)]
struct Cell {
    /// What it was when a flush last covered it (after a crash, of its sectors).
    flushed: Vec<u64>,
    /// What was written since, in order.
    later: Vec<u64>,
}

impl Cell {
    fn zero() -> Self {
        Self { flushed: vec![0], later: Vec::new() }
    }

    fn allows(&self, value: u64) -> bool {
        self.flushed.contains(&value) || self.later.contains(&value)
    }

    /// A flush has covered what was written.
    fn settle(&mut self) {
        if let Some(last) = self.later.pop() {
            *self = Self { flushed: vec![last], later: Vec::new() };
        }
    }

    /// Only the newest value, or that before it, when a write is `busy`.
    fn newest(&mut self, busy: bool) {
        if let Some(last) = self.later.pop() {
            if !busy {
                self.flushed.clear();
            } else if let Some(before) = self.later.pop() {
                self.flushed = vec![before];
            }
            self.later = vec![last];
        }
    }
}

/// One moment in a history at which a cut is judged.
#[derive(Debug, Clone)]
struct Moment {
    orders: usize,
    chain: Vec<usize>,
    size: u64,
    cells: Vec<Cell>,
    /// A write or discard is under way.
    busy: bool,
}

/// A volume on a recording disk, with what it should hold.
struct Volume {
    disk: SharedDisk,
    boot: BootId,
    stack: Stack,
    chain: Vec<usize>,
    cells: Vec<Cell>,
    value: u64,
    moments: Vec<Moment>,
}

fn block(value: u64) -> Vec<u8> {
    value.to_le_bytes().repeat(BLOCK as usize / 8)
}

impl Volume {
    fn raw(disk: SharedDisk, boot: BootId) -> Self {
        let file = DiskFile::create(&disk);
        let blob: SharedBlob = file.clone();
        blob.set_len(SMALL).unwrap();
        blob.sync().unwrap();
        let cells = vec![Cell::zero(); (SMALL / BLOCK) as usize];
        let mut volume = Self {
            boot,
            stack: Stack::raw(blob),
            chain: vec![file.number()],
            cells,
            value: 0,
            moments: Vec::new(),
            disk,
        };
        volume.note();
        volume
    }

    /// Opens what a crash has left.
    fn open(files: Vec<Vec<u8>>, boot: BootId, moment: &Moment, value: u64) -> Self {
        let disk = Disk::holding(files);
        // The record names the active file; what lies below it, the headers say.
        let (mut chain, mut layers) = (Vec::new(), Vec::new());
        let mut next = Some((moment.chain[0], moment.chain.len() > 1));
        while let Some((number, overlay)) = next {
            let blob: SharedBlob = DiskFile::open(&disk, number);
            chain.push(number);
            if !overlay {
                layers.push(Layer::Raw(blob));
                break;
            }
            let overlay = Overlay::open(blob, true, boot).expect("an overlay opens after a crash");
            let backing = overlay.backing().expect("a backing file");
            next = Some((backing.name.parse().unwrap(), backing.format == Format::Qcow2));
            layers.push(Layer::Overlay(Arc::new(overlay)));
        }
        let stack = Stack::new(layers);
        let mut cells = moment.cells.clone();
        assert!(stack.size() >= moment.size, "a volume does not shrink");
        // A crash while it grew: what is new is zeros.
        cells.resize((stack.size() / BLOCK) as usize, Cell::zero());
        Self { disk, boot, stack, chain, cells, value, moments: Vec::new() }
    }

    /// A crash after this is judged by what the volume should hold now.
    fn note(&mut self) {
        self.note_busy(false);
    }

    fn note_busy(&mut self, busy: bool) {
        let orders = self.disk.lock().unwrap().now();
        self.moments.push(Moment {
            busy,
            orders,
            chain: self.chain.clone(),
            size: self.stack.size(),
            cells: self.cells.clone(),
        });
    }

    /// The blocks may hold `value` from here on, before the order is given.
    fn may_be(&mut self, first: u64, count: u64, value: u64) {
        for cell in &mut self.cells[first as usize..(first + count) as usize] {
            cell.later.push(value);
        }
        self.note_busy(true);
    }

    fn write(&mut self, first: u64, count: u64) {
        self.value += 1;
        self.may_be(first, count, self.value);
        let data = block(self.value).repeat(count as usize);
        self.stack.write(first * BLOCK, &data, Wait::Full).unwrap();
        self.note();
    }

    fn discard(&mut self, first: u64, count: u64) {
        self.may_be(first, count, 0);
        self.stack.discard(first * BLOCK, count * BLOCK).unwrap();
        self.note();
    }

    fn flush(&mut self) {
        self.stack.flush().unwrap();
        self.settle();
    }

    fn settle(&mut self) {
        for cell in &mut self.cells {
            cell.settle();
        }
        self.note();
    }

    fn grow(&mut self) {
        self.cells.resize((LARGE / BLOCK) as usize, Cell::zero());
        // During the change either size may be found.
        self.stack.layers()[0].grow(LARGE).unwrap();
        self.note();
    }

    /// What the driver does to take a snapshot; the record's publication is one moment.
    fn snapshot(&mut self) {
        let below = self.chain[0];
        let format = if self.chain.len() == 1 { Format::Raw } else { Format::Qcow2 };
        let file = DiskFile::create(&self.disk);
        let blob: SharedBlob = file.clone();
        let backing = Backing { name: format!("{below}"), format };
        Overlay::format(&blob, self.stack.size(), Some(backing)).unwrap();
        blob.sync().unwrap();
        let top = Overlay::open(blob, true, self.boot).unwrap();
        self.flush();
        self.chain.insert(0, file.number());
        self.stack.push(Layer::Overlay(Arc::new(top)));
        self.note();
        self.seal(1);
    }

    fn seal(&mut self, index: usize) {
        if let Layer::Overlay(overlay) = &self.stack.layers()[index] {
            overlay.seal().unwrap();
        }
    }

    /// Merges the overlay at `index` into what is below; for the top, with writes in between.
    fn merge(&mut self, index: usize, rng: &mut Rng) {
        let size = self.stack.layers()[index].size();
        self.stack.layers()[index + 1].grow(size).unwrap();
        if index == 0 {
            self.stack.start_mirror();
        }
        let mut next = 0;
        while let Some((cluster, _)) = self.stack.merge_down(index, next, 2).unwrap() {
            next = cluster;
            if rng.once_in(2) {
                self.some_io(rng);
            }
        }
        if index == 0 {
            self.flush();
            self.stack.flush_layer(1).unwrap();
        } else {
            self.stack.flush_layer(index + 1).unwrap();
            self.seal(index + 1);
            let format = if index + 2 == self.chain.len() { Format::Raw } else { Format::Qcow2 };
            let backing = Backing { name: format!("{}", self.chain[index + 1]), format };
            if let Layer::Overlay(above) = &self.stack.layers()[index - 1] {
                above.set_backing(Some(backing)).unwrap();
            }
        }
        self.chain.remove(index);
        self.stack.remove(index);
        self.note();
    }

    fn some_io(&mut self, rng: &mut Rng) {
        let blocks = self.cells.len() as u64;
        let first = rng.below(blocks);
        let most = if rng.once_in(4) { 40 } else { 3 };
        let count = 1 + rng.below(most).min(blocks - first - 1);
        match rng.below(8) {
            0 => self.discard(first, count),
            1 | 2 => self.flush(),
            _ => self.write(first, count),
        }
    }

    /// Takes what is there for what should be.
    fn resolve(&mut self) {
        let mut buf = vec![0; BLOCK as usize];
        for (i, cell) in self.cells.iter_mut().enumerate() {
            self.stack.read(i as u64 * BLOCK, &mut buf, Wait::Full).unwrap();
            let values = buf.chunks(512).map(|s| u64::from_le_bytes(s[..8].try_into().unwrap()));
            *cell = Cell { flushed: values.collect(), later: Vec::new() };
        }
    }

    /// Checks every block against what it may be.
    fn judge(&mut self, what: &str) {
        let mut buf = vec![0; BLOCK as usize];
        for i in 0..self.cells.len() {
            self.stack.read(i as u64 * BLOCK, &mut buf, Wait::Full).unwrap();
            let allowed = &self.cells[i];
            // Sectors of one block may be of different writes.
            for sector in buf.chunks(512) {
                let value = u64::from_le_bytes(sector[..8].try_into().unwrap());
                assert!(
                    sector == &block(value)[..512] && allowed.allows(value),
                    "{what}: block {i} reads {value}, allowed {allowed:?}"
                );
            }
        }
    }

    /// Checks that no two blocks share a place.
    fn judge_places(&mut self, what: &str) {
        let mut buf = vec![0; BLOCK as usize];
        // Writing everything anew must change nothing but what is written: no two blocks share a place.
        let blocks = self.cells.len() as u64;
        for i in 0..blocks {
            self.write(i, 1);
        }
        for i in 0..blocks {
            self.stack.read(i * BLOCK, &mut buf, Wait::Full).unwrap();
            assert_eq!(
                buf,
                block(self.cells[i as usize].later.last().copied().unwrap()),
                "{what}: block {i} after"
            );
        }
    }
}

/// The moment that judges a cut: the last at or before it, with what was begun by then.
fn moment_at(moments: &[Moment], cut: usize) -> Moment {
    moments[moments.partition_point(|m| m.orders <= cut).max(1) - 1].clone()
}

fn history(seed: u64, overlays: bool, steps: usize) -> Volume {
    let mut rng = Rng::new(seed);
    let mut volume = Volume::raw(Disk::new(), [1; 16]);
    for step in 0..steps {
        if step == steps / 2 {
            volume.grow();
        }
        if !overlays {
            volume.some_io(&mut rng);
            continue;
        }
        match rng.below(12) {
            0 if volume.chain.len() < 4 => volume.snapshot(),
            1 if volume.chain.len() > 1 => {
                let index = rng.below(volume.chain.len() as u64 - 1) as usize;
                volume.merge(index, &mut rng);
            }
            _ => volume.some_io(&mut rng),
        }
    }
    volume
}

/// Cuts a history everywhere, and the histories after some of those crashes once more.
fn cut_everywhere(seed: u64, volume: &Volume) {
    let disk = volume.disk.lock().unwrap();
    let start = volume.moments[0].orders;
    let mut rng = Rng::new(seed ^ 0xabcdef);
    let mut replay = disk.replay();
    for cut in start..=disk.now() {
        replay.advance(cut);
        let moment = moment_at(&volume.moments, cut);
        let what = format!("seed {seed}, cut {cut} of {}", disk.now());
        let mut killed = Volume::open(replay.cached(), [1; 16], &moment, volume.value);
        // A process's death loses nothing that was acknowledged: there is the newest value, or that before a write under way.
        for cell in &mut killed.cells {
            cell.newest(moment.busy);
        }
        killed.judge(&format!("{what}, killed"));
        let mut dark = Volume::open(replay.after_power_loss(&mut rng), [2; 16], &moment, volume.value);
        if rng.once_in(3) {
            again(&mut dark, &moment, &mut rng, &what);
        } else {
            dark.judge(&format!("{what}, power lost"));
        }
        if rng.once_in(8) {
            killed.judge_places(&format!("{what}, killed"));
            dark.judge_places(&format!("{what}, power lost"));
        }
    }
}

/// A second crash, during or soon after the recovery from the first.
fn again(volume: &mut Volume, moment: &Moment, rng: &mut Rng, what: &str) {
    let recovered = volume.disk.lock().unwrap().now();
    volume.judge(&format!("{what}, power lost"));
    volume.resolve();
    volume.note();
    for _ in 0..rng.below(6) {
        volume.some_io(rng);
    }
    let disk = volume.disk.lock().unwrap();
    let cut = rng.below(disk.now() as u64 + 1) as usize;
    let judge = if cut < recovered { moment.clone() } else { moment_at(&volume.moments, cut) };
    let mut replay = disk.replay();
    replay.advance(cut);
    let (files, boot) = match rng.once_in(2) {
        true => (replay.after_power_loss(rng), [3; 16]),
        false => (replay.cached(), [2; 16]),
    };
    drop(replay);
    Volume::open(files, boot, &judge, volume.value).judge(&format!("{what}, and again at {cut}"));
}

#[test]
fn i7_raw_files_keep_what_was_flushed() {
    let first = seed(1);
    for seed in first..first + common::count(12) {
        cut_everywhere(seed, &history(seed, false, 60));
    }
}

#[test]
fn i7_overlays_keep_what_was_flushed() {
    let first = seed(1);
    for seed in first..first + common::count(12) {
        cut_everywhere(seed, &history(seed, true, 60));
    }
}
