//! Backup and restore throughput and memory: makes a sparse volume with data in it, backs it up in full and
//! incrementally, checks and restores it, and prints MB/s of volume and of data, CPU time and the peak of resident memory.
//!
//! `cargo run --release -p backup --example throughput -- [--size GIB] [--data PERCENT] [--noise PERCENT]
//! [--compression NAME] [--chunk BYTES] [--changes COUNT] [--dir DIR]`
#![allow(clippy::unwrap_used)] // a measurement: it may stop where it stands

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use backup::store::PosixStore;
use backup::{
    CreateBackup, Level, Naming, ParentRef, PipelineConfig, Restore, TargetState, create, restore, verify,
};
use common::{Dice, FileDevice};
use model::job::Claim;
use model::{BackupId, VolumeId};

const MIB: u64 = 1 << 20;

struct Options {
    size: u64,
    data_percent: u64,
    noise_percent: u64,
    changes: u64,
    config: PipelineConfig,
    directory: PathBuf,
}

fn options() -> Options {
    let mut options = Options {
        size: 1 << 30,
        data_percent: 30,
        noise_percent: 0,
        changes: 1000,
        config: PipelineConfig::default(),
        directory: std::env::temp_dir(),
    };
    let mut words = std::env::args().skip(1);
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        let number = || value.parse::<u64>().unwrap();
        match name.as_str() {
            "--size" => options.size = number() << 30,
            "--data" => options.data_percent = number().min(100),
            "--noise" => options.noise_percent = number().min(100),
            "--changes" => options.changes = number(),
            "--chunk" => options.config.chunk_size = number(),
            "--compression" => options.config.compression = value.parse().unwrap(),
            "--dir" => options.directory = value.into(),
            _ => panic!("unknown option {name}"),
        }
    }
    options
}

/// Fills one MiB in each stretch of `100 / percent` MiB; some of it noise, the rest compresses about to a half.
fn fill(device: &FileDevice, options: &Options) -> u64 {
    let mut dice = Dice::new(1);
    let (text, mut written) = (dice.text(MIB as usize), 0);
    for at in 0..options.size / MIB {
        if at * options.data_percent / 100 == (at + 1) * options.data_percent / 100 {
            continue;
        }
        match dice.below(100) < options.noise_percent {
            true => device.put(at * MIB, &dice.noise(MIB as usize)),
            false => device.put(at * MIB, &text),
        }
        written += MIB;
    }
    written
}

/// The process' figures in `/proc/self`: peak memory in MiB, and CPU time in seconds.
fn used() -> (u64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak = peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    (peak, ticks / 100.0)
}

fn report(what: &str, volume: u64, data: u64, started: Instant, cpu_before: f64) {
    let (seconds, (peak, cpu)) = (started.elapsed().as_secs_f64(), used());
    let rate = |bytes: u64| bytes as f64 / 1e6 / seconds;
    println!(
        "{what:<12} {seconds:7.2} s  {:8.0} MB/s of volume  {:7.0} MB/s of data  {:6.2} CPU s  peak {peak} MiB",
        rate(volume),
        rate(data),
        cpu - cpu_before
    );
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let options = options();
    let directory = tempfile::tempdir_in(&options.directory).unwrap();
    let source = Arc::new(FileDevice::create(&directory.path().join("volume"), options.size));
    let data = fill(&source, &options);
    source.file().sync_all().unwrap();
    println!(
        "{} MiB with {} MiB of data, {}, objects of {} bytes",
        options.size / MIB,
        data / MIB,
        options.config.compression.name(),
        options.config.chunk_size
    );
    let store = Arc::new(PosixStore::new(directory.path().join("store")));
    let volume = VolumeId::new();
    let mut chain: Vec<Level> = Vec::new();
    for what in ["full", "incremental"] {
        let parent = chain.last().cloned().map(|l| ParentRef {
            backup: l.backup,
            container: l.container,
            prefix: l.prefix,
        });
        let request = CreateBackup {
            backup: BackupId::new(),
            volume,
            name: None,
            description: None,
            created_at: "2026-11-21T19:32:04Z".parse().unwrap(),
            source: source.clone(),
            size: options.size,
            parent,
            store: store.clone(),
            naming: Naming::Posix { container: None },
            container: None,
            config: options.config.clone(),
            volume_meta: None,
        };
        let backup = request.backup;
        let (started, (_, cpu)) = (Instant::now(), used());
        let made = create(request, &Claim::unbounded()).await.unwrap();
        report(what, options.size, made.data_bytes.min(data), started, cpu);
        println!("{:12} {} objects, {} MiB stored", "", made.object_count, made.stored_bytes / MIB);
        chain.push(Level { backup, container: made.container, prefix: made.service_metadata });
        let mut dice = Dice::new(2);
        for _ in 0..options.changes {
            let at = dice.below(options.size - 4096);
            source.put(at, &dice.noise(4096));
        }
    }
    let (started, (_, cpu)) = (Instant::now(), used());
    let level = &chain[0];
    let found = verify(&*store, &level.container, &level.prefix, &Claim::unbounded()).await.unwrap();
    assert!(found.is_sound());
    report("check", options.size, data, started, cpu);
    let target = Arc::new(FileDevice::create(&directory.path().join("target"), options.size));
    let (started, (_, cpu)) = (Instant::now(), used());
    let request =
        Restore { store, chain: chain[..1].to_vec(), target: target.clone(), state: TargetState::New };
    restore(request.clone(), &Claim::unbounded()).await.unwrap();
    report("restore", options.size, data, started, cpu);
    let (started, (_, cpu)) = (Instant::now(), used());
    restore(Restore { chain, state: TargetState::Used, ..request }, &Claim::unbounded()).await.unwrap();
    report("restore both", options.size, data, started, cpu);
}
