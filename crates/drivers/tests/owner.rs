//! Owners within one process: work and openings side by side never see each other as strangers.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::sync::Arc;

use common::{claim, driver, snapshot, volume};
use drivers::fault::Faults;
use drivers::file::{FileConfig, FileDriver};
use drivers::{Driver, ErrorKind, OpenMode, Openable, Source};
use model::GiB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_is_never_busy_in_its_own_process() {
    let dir = tempfile::tempdir().unwrap();
    let here = Arc::new(driver(dir.path()).await);
    let v = volume(1);
    here.create_volume(&v, Source::Blank, &claim()).await.unwrap();
    let tasks: Vec<_> = (0..4u64)
        .map(|task| {
            let (here, v) = (Arc::clone(&here), v.clone());
            tokio::spawn(async move {
                for round in 0..100u64 {
                    let device = here.open(Openable::Volume(&v), OpenMode::Write).await.unwrap();
                    device.write((task * 100 + round) << 16, &[task as u8 + 1; 4096]).await.unwrap();
                    drop(device);
                    if task == 0 && round % 10 == 0 {
                        let s = snapshot(&v);
                        here.create_snapshot(&s, &claim()).await.unwrap();
                        here.delete_snapshot(&s, &claim()).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let device = here.open(Openable::Volume(&v), OpenMode::Read).await.unwrap();
    let mut buf = [0; 4096];
    for task in 0..4u64 {
        for round in 0..100u64 {
            device.read((task * 100 + round) << 16, &mut buf).await.unwrap();
            assert_eq!(buf, [task as u8 + 1; 4096]);
        }
    }
}

/// A request whose caller has gone away holds the volume until it is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_request_keeps_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (driver(dir.path()).await, driver(dir.path()).await);
    let v = volume(1);
    here.create_volume(&v, Source::Blank, &claim()).await.unwrap();
    for _ in 0..20 {
        let device = here.open(Openable::Volume(&v), OpenMode::Write).await.unwrap();
        let data = vec![1; 64 << 20];
        let writer = tokio::spawn(async move { device.write(0, &data).await });
        tokio::task::yield_now().await;
        writer.abort();
        let _ = writer.await;
        // Either the write has ended and the lock with it, or the other is told so; never both at once.
        match there.open(Openable::Volume(&v), OpenMode::Write).await {
            Ok(device) => drop(device),
            Err(e) => assert_eq!(e.kind, ErrorKind::Busy, "{e}"),
        }
        // Here one waits for it.
        drop(here.open(Openable::Volume(&v), OpenMode::Write).await.unwrap());
    }
}

#[tokio::test]
async fn one_broken_volume_does_not_hide_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let here = driver(dir.path()).await;
    let (good, broken) = (volume(1), volume(2));
    for v in [&good, &broken] {
        here.create_volume(v, Source::Blank, &claim()).await.unwrap();
    }
    std::fs::write(dir.path().join(format!("{}.info", broken.name)), "{\"active\": \"/etc/passwd\"}")
        .unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("volume-00000000-0000-4000-8000-000000000000"))
        .unwrap();
    assert_eq!(here.stats().await.unwrap().pools[0].provisioned_capacity_gb.floor(), 3.0);
    assert_eq!(here.list().await.unwrap().len(), 3);
    let error = here.open(Openable::Volume(&broken), OpenMode::Read).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
    let mut link = volume(1);
    link.name = "volume-00000000-0000-4000-8000-000000000000".to_owned();
    assert!(
        here.open(Openable::Volume(&link), OpenMode::Read).await.is_err(),
        "a symbolic link was followed"
    );
    assert!(here.open(Openable::Volume(&good), OpenMode::Read).await.is_ok());
    for name in ["../x", "", "a/b", ".", "volume-x.info"] {
        link.name = name.to_owned();
        let error = here.open(Openable::Volume(&link), OpenMode::Read).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{name}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let here = driver(&dir.path().join("made")).await;
    let v = volume(1);
    here.create_volume(&v, Source::Blank, &claim()).await.unwrap();
    here.create_snapshot(&snapshot(&v), &claim()).await.unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("made")), 0o700);
    for entry in dir.path().join("made").read_dir().unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

/// A run that died just before it made its work durable has done it in the page cache only: the repeat, which finds it done, syncs
/// before it says so.
#[tokio::test]
async fn i7_what_is_found_done_is_made_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (v, changes) = (volume(1), Faults::counting());
    let (s, size) = (snapshot(&v), GiB(2));
    // With overlays, whatever the file system can do.
    let config = || FileConfig { reflink: false, ..FileConfig::new(dir.path(), "local") };
    let first = FileDriver::new(config());
    first.start().await.unwrap();
    first.create_volume(&v, Source::Blank, &claim()).await.unwrap();
    first.extend_volume(&v, size, &claim()).await.unwrap();
    first.create_snapshot(&s, &claim()).await.unwrap();
    drop(first);
    let next = FileDriver::with_faults(config(), Arc::clone(&changes));
    next.start().await.unwrap();
    let before = changes.seen();
    next.extend_volume(&v, size, &claim()).await.unwrap();
    assert_eq!(changes.seen(), before + 1, "the file is synced, and nothing is changed");
    next.create_snapshot(&s, &claim()).await.unwrap();
    assert_eq!(changes.seen(), before + 2, "the directory is synced, and nothing is changed");
}
