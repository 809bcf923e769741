//! Cancellation, lost leases, crashes at every operation, full disks (I4, I7).
#![allow(clippy::unwrap_used)] // a test

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use backup::store::PosixStore;
use backup::{
    CreateBackup, Error, ErrorKind, Naming, Restore, TargetState, create, delete, discard, restore, verify,
};
use common::faulty::{Fault, FaultyStore};
use common::{Bench, Dice, Hooked, MemoryDevice, Restless};
use model::job::{Claim, Stop};
use model::{BackupId, JobId};
use tokio::sync::Semaphore;

const SIZE: usize = 300_000;

fn volume(seed: u64) -> Arc<MemoryDevice> {
    let device = Arc::new(MemoryDevice::new(SIZE));
    let mut dice = Dice::new(seed);
    device.put(0, &dice.text(150_000));
    device.put(200_000, &dice.noise(100_000));
    device
}

fn claim(job: JobId, epoch: i64) -> Claim {
    Claim::new(job, epoch, Duration::from_secs(3600))
}

/// Checks that the newest backup restores to `expected` and is sound.
async fn assert_restores(bench: &Bench, expected: &MemoryDevice) {
    let target = Arc::new(MemoryDevice::new(SIZE));
    bench.restore_to(target.clone(), TargetState::New).await.unwrap();
    assert!(target.bytes() == expected.bytes());
    let level = bench.chain.last().unwrap();
    let found = verify(&*bench.store(), &level.container, &level.prefix, &Claim::unbounded()).await.unwrap();
    assert!(found.is_sound(), "{found:?}");
}

/// Every metadata file in the store belongs to a backup that is whole.
async fn assert_whole_or_no_backup(bench: &Bench) {
    for file in bench.files() {
        let Some((container, name)) = file.rsplit_once('/') else { continue };
        let Some(prefix) = name.strip_suffix("_metadata") else { continue };
        let found = verify(&*bench.store(), container, prefix, &Claim::unbounded()).await.unwrap();
        assert!(found.is_sound(), "{file}: {found:?}");
    }
}

#[tokio::test]
async fn a_cancelled_backup_leaves_nothing() {
    for reads in 0..5 {
        let bench = Bench::new("zlib");
        let claim = Claim::unbounded();
        let cancel = claim.clone();
        let source = Hooked::at(&volume(1), "read", reads, move || cancel.cancel());
        let error = create(bench.request(BackupId::new(), source), &claim).await.unwrap_err();
        assert!(matches!(error, Error::Stopped(Stop::Cancelled)), "{error}");
        assert_eq!(std::fs::read_dir(bench.root()).unwrap().count(), 0, "not even a directory");
    }
}

#[tokio::test]
async fn i4_a_lost_lease_publishes_nothing_and_the_next_owner_starts_clean() {
    for parent in [false, true] {
        for reads in 0..5 {
            let mut bench = Bench::new("zlib");
            if parent {
                bench.back_up(volume(1)).await;
            }
            let before = bench.files();
            let (backup, job, device) = (BackupId::new(), JobId::new(), volume(2));
            let first = claim(job, 1);
            let lose = first.clone();
            let source = Hooked::at(&device, "read", reads, move || lose.lose());
            let error = create(bench.request(backup, source), &first).await.unwrap_err();
            assert!(matches!(error, Error::Stopped(Stop::LeaseLost)), "{error}");
            assert!(!bench.files().iter().any(|f| f.ends_with("_metadata") && !before.contains(f)));
            let made = create(bench.request(backup, device.clone()), &claim(job, 2)).await.unwrap();
            let count = before.len() + made.object_count as usize + 2;
            assert_eq!(bench.files().len(), count, "{:?}", bench.files());
            bench.push(backup, &made);
            assert_restores(&bench, &device).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_an_owner_stopped_while_reading_changes_nothing_after_it_was_replaced() {
    for reads in 0..5 {
        let mut bench = Bench::new("zlib");
        bench.config.concurrency = 1; // a stopped process stops as a whole
        let (backup, job, device) = (BackupId::new(), JobId::new(), volume(3));
        let (reached, proceed) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (signal, wait) = (reached.clone(), proceed.clone());
        let source = Hooked::new(device.clone(), move |_, calls| {
            let (signal, wait) = (signal.clone(), wait.clone());
            Box::pin(async move {
                if calls == reads {
                    signal.add_permits(1);
                    wait.acquire().await.unwrap().forget();
                }
            })
        });
        let old = claim(job, 1);
        let request = bench.request(backup, source);
        let stopped = tokio::spawn({
            let old = old.clone();
            async move { create(request, &old).await }
        });
        reached.acquire().await.unwrap().forget();
        let made = create(bench.request(backup, device.clone()), &claim(job, 2)).await.unwrap();
        let files = bench.files();
        old.lose();
        proceed.add_permits(1);
        let error = stopped.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
        assert_eq!(bench.files(), files);
        bench.push(backup, &made);
        assert_restores(&bench, &device).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_an_owner_stopped_in_the_store_cannot_publish_after_it_was_replaced() {
    let mut stops = 0;
    for at in 0.. {
        let mut bench = Bench::new("zlib");
        bench.config.concurrency = 1; // one operation after the other, so that `at` names the same one each time
        let (backup, job, device) = (BackupId::new(), JobId::new(), volume(3));
        let old = claim(job, 1);
        let (store, plan) = FaultyStore::around(bench.store(), Fault::Pause, at);
        let request = CreateBackup { store, ..bench.request(backup, device.clone()) };
        let mut stopped = tokio::spawn({
            let old = old.clone();
            async move { create(request, &old).await }
        });
        tokio::select! {
            done = &mut stopped => {
                done.unwrap().unwrap();
                break;
            }
            permit = plan.reached.acquire() => permit.unwrap().forget(),
        }
        stops += 1;
        let made = create(bench.request(backup, device.clone()), &claim(job, 2)).await.unwrap();
        let files = bench.files();
        old.lose();
        plan.proceed.add_permits(1);
        let outcome = stopped.await.unwrap();
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Stopped);
        assert_eq!(bench.files(), files, "stopped at {at}");
        bench.push(backup, &made);
        assert_restores(&bench, &device).await;
        discard(&*bench.store(), &made.container, bench.volume, backup).await.unwrap();
        assert!(bench.files().is_empty());
    }
    assert!(stops > 20, "{stops}");
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_a_crash_at_any_operation_of_a_backup_is_made_good_by_the_next_run() {
    let mut kills = 0;
    for fault in [Fault::DieBefore, Fault::DieAfter] {
        for parent in [false, true] {
            for at in 0.. {
                let mut bench = Bench::new("zlib");
                if parent {
                    bench.back_up(volume(1)).await;
                }
                let before = bench.files().len();
                let (backup, job, device) = (BackupId::new(), JobId::new(), volume(2));
                let (store, plan) = FaultyStore::around(bench.store(), fault, at);
                let request = CreateBackup { store, ..bench.request(backup, device.clone()) };
                let outcome = create(request, &claim(job, 1)).await;
                assert_eq!(outcome.is_err(), plan.struck());
                if outcome.is_ok() {
                    break;
                }
                kills += 1;
                assert_whole_or_no_backup(&bench).await;
                let made = create(bench.request(backup, device.clone()), &claim(job, 2)).await.unwrap();
                assert_eq!(
                    bench.files().len(),
                    before + made.object_count as usize + 2,
                    "{:?}",
                    bench.files()
                );
                bench.push(backup, &made);
                assert_restores(&bench, &device).await;
            }
        }
    }
    assert!(kills > 100, "{kills}");
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_a_crash_at_any_operation_of_a_deletion_leaves_a_whole_backup_or_none() {
    for fault in [Fault::DieBefore, Fault::DieAfter] {
        for at in 0.. {
            let mut bench = Bench::new("none");
            bench.back_up(volume(1)).await;
            let level = bench.chain.last().unwrap();
            let (store, plan) = FaultyStore::around(bench.store(), fault, at);
            let outcome = delete(&*store, &level.container, &level.prefix).await;
            assert_eq!(outcome.is_err(), plan.struck());
            assert_whole_or_no_backup(&bench).await;
            delete(&*bench.store(), &level.container, &level.prefix).await.unwrap();
            assert!(bench.files().is_empty());
            if outcome.is_ok() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn i5_deletion_takes_the_remains_of_dead_runs_along() {
    let mut bench = Bench::new("none");
    let (backup, job, device) = (BackupId::new(), JobId::new(), volume(1));
    let made = create(bench.request(backup, device), &claim(job, 3)).await.unwrap();
    bench.push(backup, &made);
    let container = bench.root().join(&made.container);
    let naming = Naming::Posix { container: None };
    let dead = naming.prefix(bench.volume, backup, "2026-11-21T19:32:04.5Z".parse().unwrap(), 2);
    std::fs::write(container.join(format!("{dead}-00007")), "x").unwrap();
    std::fs::write(container.join(format!(".{dead}-00008.{job}-2.part")), "x").unwrap();
    delete(&*bench.store(), &made.container, &made.service_metadata).await.unwrap();
    assert_eq!(std::fs::read_dir(bench.root()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_at_any_operation_fails_and_leaves_nothing() {
    for parent in [false, true] {
        for at in 0.. {
            let mut bench = Bench::new("zlib");
            if parent {
                bench.back_up(volume(1)).await;
            }
            let before = bench.files();
            let (store, plan) = FaultyStore::around(bench.store(), Fault::Full, at);
            let request = CreateBackup { store, ..bench.request(BackupId::new(), volume(2)) };
            match create(request, &Claim::unbounded()).await {
                Ok(_) if !plan.struck() => break,
                Ok(_) => panic!("operation {at} failed and nobody noticed"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}"),
            }
            assert_eq!(bench.files(), before);
        }
    }
}

/// A file system that is unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn new(directory: &Path, kind: &str, kib: u64) -> Self {
        let point = directory.join("mounted");
        std::fs::create_dir_all(&point).unwrap();
        let image = directory.join("image");
        let run = |command: &mut Command| {
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        if kind == "tmpfs" {
            let options = format!("size={kib}k");
            run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&point));
        } else {
            std::fs::File::create(&image).unwrap().set_len(kib << 10).unwrap();
            run(Command::new("mkfs.ext4").args(["-q", "-O", "^has_journal", "-m", "0"]).arg(&image));
            run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&point));
        }
        Self(point)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_leaves_no_half_backup() {
    for (kind, sizes) in [("tmpfs", [64, 400, 1000, 2000, 8000]), ("ext4", [300, 700, 1500, 2000, 8000])] {
        let mut outcomes = [0, 0];
        for kib in sizes {
            let directory = tempfile::tempdir().unwrap();
            let mounted = Mounted::new(directory.path(), kind, kib);
            let mut bench = Bench::new("zlib");
            let device = Arc::new(MemoryDevice::new(2 << 20));
            device.put(0, &Dice::new(9).noise(2 << 20));
            let store = Arc::new(PosixStore::new(mounted.0.join("store")));
            let backup = BackupId::new();
            let request = CreateBackup { store: store.clone(), ..bench.request(backup, device.clone()) };
            match create(request, &Claim::unbounded()).await {
                Ok(made) => {
                    outcomes[0] += 1;
                    bench.push(backup, &made);
                    let target = Arc::new(MemoryDevice::new(2 << 20));
                    let (chain, state) = (bench.chain.clone(), TargetState::New);
                    let request = Restore { store, chain, target: target.clone(), state };
                    restore(request, &Claim::unbounded()).await.unwrap();
                    assert!(target.bytes() == device.bytes());
                }
                Err(error) => {
                    outcomes[1] += 1;
                    assert_eq!(error.kind(), ErrorKind::NoSpace, "{kind} of {kib} KiB: {error}");
                    let left =
                        Command::new("find").arg(mounted.0.join("store")).args(["-type", "f"]).output();
                    assert_eq!(String::from_utf8_lossy(&left.unwrap().stdout), "");
                }
            }
        }
        assert!(outcomes.iter().all(|count| *count > 0), "{kind}: {outcomes:?}");
    }
}

#[tokio::test]
async fn a_source_that_does_not_hold_still_is_found_out() {
    let mut bench = Bench::new("none");
    bench.back_up(volume(1)).await;
    let files = bench.files();
    let source = MemoryDevice::new(SIZE);
    source.put(0, &Dice::new(2).text(SIZE));
    let source = Arc::new(Restless(source, AtomicBool::new(true)));
    let error = create(bench.request(BackupId::new(), source), &Claim::unbounded()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Device, "{error}");
    assert_eq!(bench.files(), files);
}

/// A bench with a full backup and two incrementals, and the volume as it was at the last.
async fn chain_of_three() -> (Bench, Arc<MemoryDevice>) {
    let mut bench = Bench::new("zlib");
    let device = volume(1);
    bench.back_up(device.clone()).await;
    device.put(10_000, &[0; 90_000]);
    bench.back_up(device.clone()).await;
    device.put(150_000, &Dice::new(6).text(70_000));
    bench.back_up(device.clone()).await;
    (bench, device)
}

#[tokio::test]
async fn i4_a_restore_without_its_lease_writes_nothing_more_and_can_be_repeated() {
    for state in [TargetState::New, TargetState::Used] {
        for stop in [Stop::LeaseLost, Stop::Cancelled] {
            for writes in 0.. {
                let (bench, device) = chain_of_three().await;
                let target = match state {
                    TargetState::New => Arc::new(MemoryDevice::new(SIZE)),
                    TargetState::Used => Arc::new(MemoryDevice::filled(SIZE, 0xa5)),
                };
                let claim = Claim::unbounded();
                let (end, after) = (claim.clone(), Arc::new(AtomicU64::new(0)));
                let late = after.clone();
                let hooked = Hooked::new(target.clone(), move |_, calls| {
                    late.fetch_add(u64::from(end.check().is_err()), Ordering::SeqCst);
                    if calls == writes {
                        match stop {
                            Stop::LeaseLost => end.lose(),
                            Stop::Cancelled => end.cancel(),
                        }
                    }
                    Box::pin(std::future::ready(()))
                });
                let (store, chain) = (bench.store(), bench.chain.clone());
                let outcome = restore(Restore { store, chain, target: hooked, state }, &claim).await;
                assert_eq!(after.load(Ordering::SeqCst), 0, "a write after the end of the claim");
                bench.restore_to(target.clone(), state).await.unwrap();
                assert!(target.bytes() == device.bytes());
                match outcome {
                    // The claim ended at the very last write or not at all.
                    Ok(_) => break,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Stopped, "{error}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_restore_into_a_full_backend_says_so() {
    let (bench, _) = chain_of_three().await;
    let target = Arc::new(MemoryDevice::new(SIZE));
    target.full_at.store(262_144, Ordering::Relaxed);
    let error = bench.restore_to(target, TargetState::New).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(matches!(error, Error::Partial { written: 1.., .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_store_during_a_restore_or_check_is_a_store_error() {
    let (bench, _) = chain_of_three().await;
    for at in 0.. {
        let (store, plan) = FaultyStore::around(bench.store(), Fault::DieBefore, at);
        let target = Arc::new(MemoryDevice::new(SIZE));
        let request =
            Restore { store: store.clone(), chain: bench.chain.clone(), target, state: TargetState::New };
        match restore(request, &Claim::unbounded()).await {
            Ok(_) => break,
            Err(error) => assert!(plan.struck() && error.kind() == ErrorKind::Store, "{at}: {error}"),
        }
    }
    let level = bench.chain.last().unwrap();
    for at in 0.. {
        let (store, plan) = FaultyStore::around(bench.store(), Fault::DieBefore, at);
        match verify(&*store, &level.container, &level.prefix, &Claim::unbounded()).await {
            Ok(found) => {
                assert!(found.is_sound() && !plan.struck());
                break;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Store, "{at}: {error}"),
        }
    }
}

/// I3: what made the work impossible does not make its undo impossible too.
#[tokio::test]
async fn nothing_is_left_in_a_container_that_cannot_be() {
    let bench = Bench::new("none");
    let backup = BackupId::new();
    for container in ["../x", "/abs", ".", "a/../b"] {
        discard(&*bench.store(), container, bench.volume, backup).await.unwrap();
    }
    assert!(bench.files().is_empty());
}
