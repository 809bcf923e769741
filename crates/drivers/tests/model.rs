//! A volume with snapshots against a plain array of bytes, by random walks: writes, discards, snapshots, deletions,
//! reverts, growth, clones, reopening.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::{claim, driver, snapshot, volume};
use drivers::file::FileDriver;
use drivers::{Driver, OpenMode, Openable, SnapshotRef, Source, VolumeRef};
use model::GiB;
use model::block::Device;
use proptest::prelude::*;

/// The part of the volume that is looked at, around the end of the first L2 table's reach.
const START: u64 = (512 << 20) - (1 << 20);
const LEN: u64 = 2 << 20;

#[derive(Debug, Clone)]
enum Step {
    Write { at: u64, len: u64, value: u8 },
    Discard { at: u64, len: u64 },
    Flush,
    Snapshot,
    DeleteSnapshot(usize),
    Revert,
    Grow,
    Reopen,
    Clone,
}

fn step() -> impl Strategy<Value = Step> {
    let stretch = || (0..LEN, prop_oneof![1..5000u64, 1..300_000u64, Just(65536)]);
    prop_oneof![
        8 => (stretch(), 1..=255u8).prop_map(|((at, len), value)| Step::Write { at, len: len.min(LEN - at), value }),
        2 => stretch().prop_map(|(at, len)| Step::Discard { at, len: len.min(LEN - at) }),
        1 => Just(Step::Flush),
        3 => Just(Step::Snapshot),
        2 => (0..10usize).prop_map(Step::DeleteSnapshot),
        1 => Just(Step::Revert),
        1 => Just(Step::Grow),
        1 => Just(Step::Reopen),
        1 => Just(Step::Clone),
    ]
}

struct Walk {
    dir: tempfile::TempDir,
    driver: FileDriver,
    volume: VolumeRef,
    device: Option<Device>,
    bytes: Vec<u8>,
    snapshots: Vec<(SnapshotRef, Vec<u8>)>,
}

async fn content(device: &Device) -> Vec<u8> {
    let mut bytes = vec![0; LEN as usize];
    device.read(START, &mut bytes).await.unwrap();
    bytes
}

fn same(found: &[u8], expected: &[u8], what: &str) {
    if found == expected {
        return;
    }
    if let Some(at) = found.iter().zip(expected).position(|(a, b)| a != b) {
        panic!("{what}: byte {at} is {} and should be {}", found[at], expected[at]);
    }
}

impl Walk {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let driver = driver(dir.path()).await;
        let volume = volume(1);
        driver.create_volume(&volume, Source::Blank, &claim()).await.unwrap();
        let device = driver.open(Openable::Volume(&volume), OpenMode::Write).await.unwrap();
        Self {
            dir,
            driver,
            volume,
            device: Some(device),
            bytes: vec![0; LEN as usize],
            snapshots: Vec::new(),
        }
    }

    async fn go(&mut self, step: Step) {
        match step {
            Step::Write { at, len, value } => {
                // A pattern, so that a shifted block shows.
                let data: Vec<u8> = (0..len).map(|i| value ^ (i / 512) as u8).collect();
                self.device().write(START + at, &data).await.unwrap();
                self.bytes[at as usize..(at + len) as usize].copy_from_slice(&data);
            }
            Step::Discard { at, len } => {
                self.device().discard(START + at, len).await.unwrap();
                self.bytes[at as usize..(at + len) as usize].fill(0);
            }
            Step::Flush => self.device().flush().await.unwrap(),
            Step::Snapshot => {
                let s = snapshot(&self.volume);
                self.driver.create_snapshot(&s, &claim()).await.unwrap();
                self.snapshots.push((s, self.bytes.clone()));
            }
            Step::DeleteSnapshot(index) if !self.snapshots.is_empty() => {
                let (s, _) = self.snapshots.remove(index % self.snapshots.len());
                self.driver.delete_snapshot(&s, &claim()).await.unwrap();
            }
            Step::Revert if !self.snapshots.is_empty() => {
                let (s, bytes) = self.snapshots.last().unwrap();
                self.driver.revert(s, &claim()).await.unwrap();
                self.bytes.clone_from(bytes);
            }
            Step::Grow => {
                self.volume.size = GiB(self.volume.size.0 + 1);
                self.driver.extend_volume(&self.volume, self.volume.size, &claim()).await.unwrap();
                assert_eq!(self.device().size(), self.volume.size.bytes());
            }
            Step::Reopen => self.reopen().await,
            Step::Clone => {
                let copy = VolumeRef { size: self.volume.size, ..volume(1) };
                self.driver.create_volume(&copy, Source::Volume(&self.volume), &claim()).await.unwrap();
                let device = self.driver.open(Openable::Volume(&copy), OpenMode::Read).await.unwrap();
                same(&content(&device).await, &self.bytes, "a clone");
                drop(device);
                self.driver.delete_volume(&copy, &claim()).await.unwrap();
            }
            Step::DeleteSnapshot(_) | Step::Revert => {}
        }
    }

    /// Without a flush: another process would find all that was written.
    async fn reopen(&mut self) {
        self.device = None;
        self.driver = driver(self.dir.path()).await;
        self.device = Some(self.driver.open(Openable::Volume(&self.volume), OpenMode::Write).await.unwrap());
    }

    fn device(&self) -> &Device {
        self.device.as_ref().unwrap()
    }

    async fn check(&self) {
        same(&content(self.device()).await, &self.bytes, "the volume");
        for (i, (s, bytes)) in self.snapshots.iter().enumerate() {
            let device = self.driver.open(Openable::Snapshot(s), OpenMode::Read).await.unwrap();
            same(&content(&device).await, bytes, &format!("snapshot {i}"));
        }
        let mut before = vec![1; 65536];
        self.device().read(START - 65536, &mut before).await.unwrap();
        same(&before, &[0; 65536], "what lies before");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_volume_is_an_array_of_bytes(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut walk = Walk::new().await;
            for step in steps {
                walk.go(step).await;
                walk.check().await;
            }
        });
    }
}
