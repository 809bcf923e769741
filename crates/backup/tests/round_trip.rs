//! What was backed up is what is restored: random volumes, changes, chains and compressions (I7).
#![allow(clippy::unwrap_used)] // a test

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use backup::{ErrorKind, PipelineConfig, TargetState, delete, verify};
use common::{Bench, Dice, MemoryDevice};
use model::job::Claim;
use proptest::prelude::*;

/// One write to a volume.
#[derive(Debug, Clone)]
struct Change {
    /// Per mille of the volume.
    at: u64,
    length: u64,
    kind: Kind,
    seed: u64,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Zeros,
    Text,
    Noise,
}

fn change() -> impl Strategy<Value = Change> {
    let kind = prop_oneof![Just(Kind::Zeros), Just(Kind::Text), Just(Kind::Noise)];
    (0_u64..1000, prop_oneof![1_u64..5000, 1_u64..400_000], kind, any::<u64>())
        .prop_map(|(at, length, kind, seed)| Change { at, length, kind, seed })
}

fn apply(device: &MemoryDevice, size: usize, change: &Change) {
    let at = (size as u64 * change.at / 1000) as usize;
    let length = (change.length as usize).min(size - at);
    let mut dice = Dice::new(change.seed);
    let data = match change.kind {
        Kind::Zeros => vec![0; length],
        Kind::Text => dice.text(length),
        Kind::Noise => dice.noise(length),
    };
    device.put(at, &data);
}

fn compression() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("none"), Just("zlib"), Just("gzip"), Just("bz2"), Just("zstd")]
}

fn sizes() -> impl Strategy<Value = (u64, u64)> {
    // Hash block and chunk; one with chunks longer than the volume and blocks longer than a piece.
    prop_oneof![Just((512, 4096)), Just((4096, 65_536)), Just((3000, 9000)), Just((2 << 20, 64 << 20))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn i7_a_chain_restores_every_one_of_its_moments(
        size in prop_oneof![1_usize..200_000, Just(3 << 20), Just(5 << 19)],
        (block_size, chunk_size) in sizes(),
        compression in compression(),
        moments in proptest::collection::vec(proptest::collection::vec(change(), 0..5), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let mut bench = Bench::new(compression);
            bench.config = PipelineConfig { block_size, chunk_size, ..bench.config };
            let device = Arc::new(MemoryDevice::new(size));
            for changes in &moments {
                changes.iter().for_each(|change| apply(&device, size, change));
                let made = bench.back_up(device.clone()).await;
                let expected = device.bytes();
                for (target, state) in [
                    (MemoryDevice::new(size), TargetState::New),
                    (MemoryDevice::filled(size + 10, 0xa5), TargetState::Used),
                ] {
                    let target = Arc::new(target);
                    let restored = bench.restore_to(target.clone(), state).await.unwrap();
                    assert!(target.bytes()[..size] == expected);
                    assert!(target.bytes()[size..].iter().all(|byte| *byte == 0xa5), "beyond the backup's end");
                    assert_eq!(restored.volume_meta.len(), bench.chain.len());
                    assert!(target.flushes.load(Ordering::Relaxed) > 0);
                }
                let level = bench.chain.last().unwrap();
                let claim = Claim::unbounded();
                let found = verify(&*bench.store(), &level.container, &level.prefix, &claim).await.unwrap();
                assert!(found.is_sound(), "{found:?}");
                assert_eq!((found.objects, found.bytes), (made.object_count, made.data_bytes));
                assert_eq!(claim.progress(), (made.data_bytes, made.data_bytes));
            }
        });
    }
}

#[tokio::test]
async fn holes_are_neither_read_nor_written() {
    let mut bench = Bench::new("zlib");
    bench.config = PipelineConfig { chunk_size: 16 << 20, block_size: 64 << 10, ..bench.config };
    let device = Arc::new(MemoryDevice::new(64 << 20));
    device.put(20 << 20, &Dice::new(1).text(1 << 20));
    bench.back_up(device.clone()).await;
    assert!(device.read_bytes.load(Ordering::Relaxed) <= 1 << 20);
    let target = Arc::new(MemoryDevice::new(64 << 20));
    bench.restore_to(target.clone(), TargetState::New).await.unwrap();
    assert!(target.bytes() == device.bytes());
    assert_eq!(target.allocated(), device.allocated());
}

#[tokio::test]
async fn incompressible_objects_are_stored_as_they_are_and_mixed_ones_are_not() {
    for compression in ["zlib", "bz2", "zstd"] {
        let mut bench = Bench::new(compression);
        bench.config = PipelineConfig { chunk_size: 6 << 20, block_size: 1 << 20, ..bench.config };
        let device = Arc::new(MemoryDevice::new(12 << 20));
        let mut dice = Dice::new(2);
        device.put(0, &dice.noise(6 << 20));
        device.put(6 << 20, &dice.text(6 << 20));
        let made = bench.back_up(device.clone()).await;
        let text = std::fs::read_to_string(bench.object("_metadata")).unwrap();
        assert_eq!(text.matches(r#""compression": "none""#).count(), 1, "{text}");
        assert_eq!(text.matches(&format!(r#""compression": "{compression}""#)).count(), 1, "{text}");
        assert_eq!(std::fs::metadata(bench.object("-00001")).unwrap().len(), 6 << 20);
        let second = std::fs::metadata(bench.object("-00002")).unwrap().len();
        assert!(second < 4 << 20, "{second}");
        assert_eq!(made.stored_bytes, second + (6 << 20));
        let target = Arc::new(MemoryDevice::new(12 << 20));
        bench.restore_to(target.clone(), TargetState::New).await.unwrap();
        assert!(target.bytes() == device.bytes());
    }
}

#[tokio::test]
async fn long_packed_objects_are_found_out_without_packing_them() {
    let mut bench = Bench::new("zlib");
    bench.config = PipelineConfig { chunk_size: 16 << 20, block_size: 1 << 20, ..bench.config };
    let device = Arc::new(MemoryDevice::new(32 << 20));
    let mut dice = Dice::new(2);
    device.put(0, &dice.noise(32 << 20));
    device.put(24 << 20, &dice.text(2 << 20)); // one that is worth packing for an eighth of it
    bench.back_up(device.clone()).await;
    // The first is read once and by samples, the second twice at most.
    assert!(device.read_bytes.load(Ordering::Relaxed) < (16 + 2 * 16 + 2) << 20);
    let text = std::fs::read_to_string(bench.object("_metadata")).unwrap();
    let found: Vec<&str> = text.lines().filter(|line| line.contains("compression")).map(str::trim).collect();
    assert_eq!(found, [r#""compression": "none","#, r#""compression": "zlib","#]);
    let target = Arc::new(MemoryDevice::new(32 << 20));
    bench.restore_to(target.clone(), TargetState::New).await.unwrap();
    assert!(target.bytes() == device.bytes());
}

#[tokio::test]
async fn an_unchanged_volume_makes_an_empty_incremental() {
    let mut bench = Bench::new("zlib");
    let device = Arc::new(MemoryDevice::new(300_000));
    device.put(0, &Dice::new(3).text(300_000));
    bench.back_up(device.clone()).await;
    let made = bench.back_up(device.clone()).await;
    assert_eq!((made.object_count, made.data_bytes), (0, 0));
    let target = Arc::new(MemoryDevice::new(300_000));
    bench.restore_to(target.clone(), TargetState::New).await.unwrap();
    assert!(target.bytes() == device.bytes());
}

#[tokio::test]
async fn a_parent_that_does_not_fit_asks_for_a_full_backup() {
    let mut bench = Bench::new("zlib");
    let device = Arc::new(MemoryDevice::new(300_000));
    bench.back_up(device.clone()).await;
    let grown = Arc::new(MemoryDevice::new(310_000));
    let files = bench.files();
    for (source, block_size, text) in [
        (grown, 4096, "Volume size increased since the last backup. Do a full backup."),
        (
            device.clone(),
            8192,
            "Hash block size has changed since the last backup. New hash block size: 8192. Old hash block size: \
             4096. Do a full backup.",
        ),
    ] {
        let mut request = bench.request(model::BackupId::new(), source);
        request.config.block_size = block_size;
        let error = backup::create(request, &Claim::unbounded()).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::ParentMismatch, text));
    }
    for damage in ["", "{}", "gone"] {
        let path = bench.object("_sha256file");
        let good = std::fs::read(&path).unwrap();
        match damage {
            "gone" => std::fs::remove_file(&path).unwrap(),
            text => std::fs::write(&path, text).unwrap(),
        }
        let request = bench.request(model::BackupId::new(), device.clone());
        let error = backup::create(request, &Claim::unbounded()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ParentMismatch);
        assert!(error.to_string().ends_with("Do a full backup."), "{error}");
        std::fs::write(&path, good).unwrap();
    }
    assert_eq!(bench.files(), files, "a refused backup leaves nothing");
}

#[tokio::test]
async fn deletion_takes_one_backup_and_may_be_repeated() {
    let mut bench = Bench::new("zlib");
    let device = Arc::new(MemoryDevice::new(300_000));
    device.put(0, &Dice::new(4).text(300_000));
    bench.back_up(device.clone()).await;
    let kept = bench.files();
    device.put(0, b"changed");
    bench.back_up(device.clone()).await;
    let level = bench.chain.pop().unwrap();
    for _ in 0..2 {
        delete(&*bench.store(), &level.container, &level.prefix).await.unwrap();
        assert_eq!(bench.files(), kept);
    }
    assert!(!bench.root().join(&level.container).exists());
    let target = Arc::new(MemoryDevice::new(300_000));
    bench.restore_to(target, TargetState::New).await.unwrap();
}

#[tokio::test]
async fn deletion_spares_what_only_starts_the_same() {
    let bench = Bench::new("none");
    let container = bench.root().join("shared");
    std::fs::create_dir(&container).unwrap();
    for name in ["p-00001", "p_metadata", "p-x", "p2-00001", "other"] {
        std::fs::write(container.join(name), "x").unwrap();
    }
    delete(&*bench.store(), "shared", "p").await.unwrap();
    assert_eq!(bench.files(), ["shared/other", "shared/p-x", "shared/p2-00001"]);
    for (container, prefix) in [("..", "p"), ("shared", "../p"), ("shared", ""), ("/etc", "passwd")] {
        let error = delete(&*bench.store(), container, prefix).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

/// Services spawn these.
#[test]
fn every_operation_may_run_in_a_task_of_its_own() {
    fn sendable<T: Send>(_: impl FnOnce() -> T) {}
    let bench = Bench::new("none");
    let device = || Arc::new(MemoryDevice::new(1));
    let (store, claim, id) = (bench.store(), Claim::unbounded(), model::BackupId::new());
    sendable(|| backup::create(bench.request(id, device()), &claim));
    sendable(|| bench.restore_to(device(), TargetState::New));
    sendable(|| verify(&*store, "a", "b", &claim));
    sendable(|| delete(&*store, "a", "b"));
    sendable(|| backup::discard(&*store, "a", bench.volume, id));
}
