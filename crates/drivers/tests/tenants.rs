//! I7: nobody reads what another tenant wrote. A disk that was full of one tenant's bytes is given to another, who does
//! everything that takes room from it, and looks at every byte of what comes.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::io::ErrorKind as Io;

use common::mount::Mount;
use common::{Rng, claim, driver, seed, snapshot, volume};
use drivers::file::FileDriver;
use drivers::{Driver, OpenMode, Openable, Source, VolumeRef};
use model::GiB;
use model::block::Device;

const MIB: u64 = 1 << 20;
/// The first tenant's only byte; nobody else writes it.
const THEIRS: u8 = 0xa5;
const OURS: u8 = 0x42;

async fn open(driver: &FileDriver, volume: &VolumeRef) -> Device {
    driver.open(Openable::Volume(volume), OpenMode::Write).await.unwrap()
}

/// Fills the disk, overlays included, and gives it all back.
async fn one_tenant(here: &FileDriver) {
    let (v, hog) = (volume(1), volume(10));
    let data = vec![THEIRS; MIB as usize];
    here.create_volume(&v, Source::Blank, &claim()).await.unwrap();
    let device = open(here, &v).await;
    let mut taken = Vec::new();
    for n in 0..48 {
        device.write(n * MIB, &data).await.unwrap();
        if n % 16 == 8 {
            let s = snapshot(&v);
            here.create_snapshot(&s, &claim()).await.unwrap();
            taken.push(s);
        }
    }
    here.create_volume(&hog, Source::Blank, &claim()).await.unwrap();
    fill(&open(here, &hog).await, &data).await;
    drop(device);
    here.delete_volume(&hog, &claim()).await.unwrap();
    for s in &taken {
        here.delete_snapshot(s, &claim()).await.unwrap();
    }
    here.delete_volume(&v, &claim()).await.unwrap();
    assert_eq!(here.list().await.unwrap(), []);
}

async fn fill(device: &Device, data: &[u8]) {
    for n in 0.. {
        let written = match device.write(n * MIB, data).await {
            // Some file systems find out when it is synced that there is no room.
            Ok(()) => device.flush().await,
            full => full,
        };
        if let Err(e) = written {
            assert_eq!(e.kind(), Io::StorageFull, "{e}");
            assert!(n > 64, "{n} MiB fill no disk");
            return;
        }
    }
}

/// Writes `count` stretches, most of them less than a block, all over the first `size` bytes.
async fn scatter(device: &Device, rng: &mut Rng, count: u64, size: u64) {
    for _ in 0..count {
        let len = if rng.once_in(8) { 1 + rng.below(200_000) } else { 1 + rng.below(700) };
        device.write(rng.below(size - len), &vec![OURS; len as usize]).await.unwrap();
    }
}

async fn nothing_of_theirs(device: &Device, what: &str) {
    let mut buf = vec![0; MIB as usize];
    for offset in (0..device.size()).step_by(MIB as usize) {
        device.read(offset, &mut buf).await.unwrap();
        assert!(!buf.contains(&THEIRS), "{what}: theirs in the MiB at {offset}");
    }
}

async fn nobody_reads_what_another_wrote(kind: &str, mib: u64) {
    let disk = Mount::new(kind, mib);
    let dir = disk.path().join("volumes");
    let mut rng = Rng::new(seed(7));
    let here = driver(&dir).await;
    one_tenant(&here).await;

    let mut v = volume(1);
    here.create_volume(&v, Source::Blank, &claim()).await.unwrap();
    let device = open(&here, &v).await;
    nothing_of_theirs(&device, "a new volume").await;
    scatter(&device, &mut rng, 100, GiB(1).bytes()).await;
    let s = snapshot(&v);
    here.create_snapshot(&s, &claim()).await.unwrap();
    scatter(&device, &mut rng, 100, GiB(1).bytes()).await;
    here.extend_volume(&v, GiB(2), &claim()).await.unwrap();
    v.size = GiB(2);
    scatter(&device, &mut rng, 100, GiB(2).bytes()).await;
    for _ in 0..20 {
        let len = 1 + rng.below(3 * MIB);
        device.discard(rng.below(GiB(2).bytes() - len), len).await.unwrap();
    }
    device.flush().await.unwrap();
    nothing_of_theirs(&device, "a volume in use, grown, with a snapshot").await;
    let (copy, restored) = (volume(3), volume(2));
    here.create_volume(&copy, Source::Volume(&v), &claim()).await.unwrap();
    here.create_volume(&restored, Source::Snapshot(&s), &claim()).await.unwrap();
    here.revert(&s, &claim()).await.unwrap();
    scatter(&device, &mut rng, 50, GiB(2).bytes()).await;
    nothing_of_theirs(&device, "set back and written to").await;
    drop(device);
    here.delete_snapshot(&s, &claim()).await.unwrap();
    drop(here);
    let here = driver(&dir).await;
    for (volume, what) in
        [(&v, "the volume"), (&copy, "a larger clone"), (&restored, "a volume of a snapshot")]
    {
        nothing_of_theirs(&open(&here, volume).await, what).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_on_ext4() {
    nobody_reads_what_another_wrote("ext4", 256).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_on_xfs() {
    nobody_reads_what_another_wrote("xfs", 320).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_on_btrfs() {
    nobody_reads_what_another_wrote("btrfs", 320).await;
}
