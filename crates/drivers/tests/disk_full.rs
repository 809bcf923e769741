//! I7: a full disk fails what needs room, clearly, and nothing else: what was there stays, and goes on when there is room.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::io::ErrorKind as Io;

use common::mount::Mount;
use common::{claim, driver, snapshot, volume};
use drivers::file::FileDriver;
use drivers::{Driver, ErrorKind, OpenMode, Openable, Source, VolumeRef};
use model::block::Device;

const MIB: u64 = 1 << 20;

async fn open(driver: &FileDriver, volume: &VolumeRef) -> Device {
    driver.open(Openable::Volume(volume), OpenMode::Write).await.unwrap()
}

async fn read(device: &Device, offset: u64) -> u8 {
    let mut buf = vec![0; MIB as usize];
    device.read(offset, &mut buf).await.unwrap();
    assert!(buf.iter().all(|b| *b == buf[0]), "a mixed stretch at {offset}");
    buf[0]
}

/// Writes MiB after MiB until the disk is full; returns how many went.
async fn fill(device: &Device, from: u64) -> u64 {
    let data = vec![9; MIB as usize];
    for i in from.. {
        match device.write(i * MIB, &data).await {
            Ok(()) => {}
            Err(e) => {
                assert_eq!(e.kind(), Io::StorageFull, "{e}");
                return i;
            }
        }
        // Some file systems promise room when data is written and find it when it is synced.
        device.flush().await.unwrap_or_else(|e| assert_eq!(e.kind(), Io::StorageFull, "{e}"));
    }
    unreachable!("the volume is larger than the disk")
}

async fn a_full_disk_harms_nothing(kind: &str, mib: u64) {
    let disk = Mount::new(kind, mib);
    let dir = disk.path().join("volumes");
    let here = driver(&dir).await;
    let (kept, hog) = (volume(10), volume(10));
    for v in [&kept, &hog] {
        here.create_volume(v, Source::Blank, &claim()).await.unwrap();
    }
    let device = open(&here, &kept).await;
    for i in 0..20u64 {
        device.write(i * MIB, &vec![1 + i as u8; MIB as usize]).await.unwrap();
    }
    let old = snapshot(&kept);
    here.create_snapshot(&old, &claim()).await.unwrap();
    // Written over the snapshot: to be merged later, for which there will be no room.
    for i in 10..30u64 {
        device.write(i * MIB, &vec![101 + i as u8; MIB as usize]).await.unwrap();
    }
    device.flush().await.unwrap();
    let stuffed = open(&here, &hog).await;
    fill(&stuffed, 0).await;

    let copy = volume(10);
    let late = snapshot(&kept);
    // Reflinks and overlays may still fit; copies do not. Whatever fails says so.
    let failed = here.create_volume(&copy, Source::Volume(&kept), &claim()).await;
    if !here.reflinks() {
        assert_eq!(failed.unwrap_err().kind, ErrorKind::NoSpace);
        let merged = here.delete_snapshot(&old, &claim()).await;
        assert_eq!(merged.unwrap_err().kind, ErrorKind::NoSpace);
        let written = device.write(500 * MIB, &vec![7; 30 * MIB as usize]).await;
        assert_eq!(written.unwrap_err().kind(), Io::StorageFull);
    }
    if let Err(e) = here.create_snapshot(&late, &claim()).await {
        assert_eq!(e.kind, ErrorKind::NoSpace);
    }
    let reader = here.open(Openable::Snapshot(&old), OpenMode::Read).await.unwrap();
    for i in 0..30u64 {
        let (then, now) =
            (if i < 20 { 1 + i as u8 } else { 0 }, if i < 10 { 1 + i as u8 } else { 101 + i as u8 });
        assert_eq!(read(&reader, i * MIB).await, then, "the snapshot at {i} MiB");
        assert_eq!(read(&device, i * MIB).await, now, "the volume at {i} MiB");
    }
    drop(reader);

    // With room again everything goes on, in the same process.
    drop(stuffed);
    here.delete_volume(&hog, &claim()).await.unwrap();
    device.write(40 * MIB, &vec![77; MIB as usize]).await.unwrap();
    device.flush().await.unwrap();
    here.delete_snapshot(&late, &claim()).await.unwrap();
    here.delete_snapshot(&old, &claim()).await.unwrap();
    drop(device);
    drop(here);
    let here = driver(&dir).await;
    let device = open(&here, &kept).await;
    for i in (0..30).chain([40]) {
        let expected = match i {
            0..10 => 1 + i as u8,
            40 => 77,
            _ => 101 + i as u8,
        };
        assert_eq!(read(&device, i * MIB).await, expected, "{i} MiB after a restart");
    }
    drop(device);
    here.delete_volume(&copy, &claim()).await.unwrap();
    here.delete_volume(&kept, &claim()).await.unwrap();
    assert_eq!(here.list().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_full_ext4_harms_nothing() {
    a_full_disk_harms_nothing("ext4", 128).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_full_xfs_harms_nothing() {
    a_full_disk_harms_nothing("xfs", 320).await;
}
