//! Memory stays bounded whatever is read. One test in a process of its own, so that its peak is this test's.
#![allow(clippy::unwrap_used)] // a test

mod common;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::Arc;

use backup::{ErrorKind, PipelineConfig, TargetState, verify};
use common::{Bench, Dice, FileDevice, MemoryDevice};
use model::job::Claim;

/// The most memory this process has ever had, in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

/// The limit for everything below, in MiB: many times less than any of the values that it meets.
const LIMIT_MIB: u64 = 128;

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_follow_the_size_of_volumes_objects_and_values() {
    // A volume of 1 GiB in one object, as with Cinder's default object size.
    let mut bench = Bench::new("zstd");
    bench.config = PipelineConfig { compression: "zstd".parse().unwrap(), ..PipelineConfig::default() };
    let source = Arc::new(FileDevice::create(&bench.root().join("volume"), 1 << 30));
    let text = Dice::new(5).text(1 << 20);
    (0..256).for_each(|at| source.put(at << 22, &text));
    let made = bench.back_up(source.clone()).await;
    assert_eq!(made.object_count, 1);
    let target = Arc::new(FileDevice::create(&bench.root().join("target"), 1 << 30));
    bench.restore_to(target, TargetState::New).await.unwrap();
    source.put(77 << 22, b"changed");
    bench.back_up(source).await;
    assert!(peak_mib() < LIMIT_MIB, "backup and restore: {} MiB", peak_mib());

    // Control files with one value of 300 MiB.
    let path = bench.object("_metadata");
    let mut file = BufWriter::new(File::create(&path).unwrap());
    file.write_all(b"{\"backup_name\": \"").unwrap();
    (0..300).for_each(|_| file.write_all(&[b'x'; 1 << 20]).unwrap());
    file.write_all(b"\"}").unwrap();
    file.flush().unwrap();
    let level = bench.chain.last().unwrap();
    let target = Arc::new(MemoryDevice::new(1 << 20));
    let error = bench.restore_to(target, TargetState::Used).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let found = verify(&*bench.store(), &level.container, &level.prefix, &Claim::unbounded()).await.unwrap();
    assert!(!found.is_sound());

    // A parent's hash file that never ends.
    let path = bench.object("_sha256file");
    let mut file = BufWriter::new(File::create(&path).unwrap());
    file.write_all(b"{\"sha256s\": [\"").unwrap();
    (0..300).for_each(|_| file.write_all(&[b'0'; 1 << 20]).unwrap());
    file.flush().unwrap();
    let request = bench.request(model::BackupId::new(), Arc::new(MemoryDevice::new(1 << 20)));
    let error = backup::create(request, &Claim::unbounded()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ParentMismatch);
    assert!(peak_mib() < LIMIT_MIB, "control files: {} MiB", peak_mib());
}
