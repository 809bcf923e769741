//! Measures the block path of the `file` driver in a directory: `cargo run --release -p drivers --example measure DIR`.
//!
//! Prints, for a raw volume and for one over a snapshot, the time and CPU of small cached reads and writes with and without
//! a change of thread, of flushes shared by several writers, and of sequential transfers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use drivers::file::{FileConfig, FileDriver};
use drivers::{Driver, DriverError, OpenMode, Openable, Provider, SnapshotRef, Source, VolumeRef};
use model::block::Device;
use model::job::Claim;
use model::{GiB, SnapshotId, VolumeId};

const SPAN: u64 = 256 << 20;
const ROUNDS: u64 = 100_000;

/// What this process has used of the processor, in the kernel's ticks of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in parentheses, may hold spaces; user and system time are fields 14 and 15.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11).take(2);
    Duration::from_millis(fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}

async fn timed<F: Future<Output = std::io::Result<()>>>(what: &str, count: u64, bytes: u64, work: F) {
    let (start, busy) = (Instant::now(), cpu());
    let done = work.await;
    let (wall, cpu) = (start.elapsed(), cpu() - busy);
    let per = |d: Duration| d.as_secs_f64() * 1e6 / count as f64;
    let rate = bytes as f64 / wall.as_secs_f64() / 1e6;
    println!(
        "{what:44} {:8.2} us/op {:8.2} us CPU/op {rate:9.0} MB/s {}",
        per(wall),
        per(cpu),
        match done {
            Ok(()) => String::new(),
            Err(e) => e.to_string(),
        }
    );
}

fn place(i: u64, len: u64) -> u64 {
    i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20 << 12 & (SPAN - len) & !(len - 1)
}

async fn run(name: &str, device: &Device) {
    let block = vec![7u8; 4096];
    timed(&format!("{name}: 4 KiB random write"), ROUNDS, ROUNDS * 4096, async {
        for i in 0..ROUNDS {
            device.write(place(i, 4096), &block).await?;
        }
        Ok(())
    })
    .await;
    timed(&format!("{name}: flush after it"), 1, 0, device.flush()).await;
    timed(&format!("{name}: 4 KiB random overwrite"), ROUNDS, ROUNDS * 4096, async {
        for i in 0..ROUNDS {
            device.write(place(i, 4096), &block).await?;
        }
        Ok(())
    })
    .await;
    timed(&format!("{name}: 4 KiB random read"), ROUNDS, ROUNDS * 4096, async {
        let mut buf = vec![0; 4096];
        for i in 0..ROUNDS {
            device.read(place(i, 4096), &mut buf).await?;
        }
        Ok(())
    })
    .await;
    timed(&format!("{name}: 1 MiB sequential write"), 512, 512 << 20, async {
        let chunk = vec![9u8; 1 << 20];
        for i in 0..512 {
            device.write((512 + i) << 20, &chunk).await?;
        }
        Ok(())
    })
    .await;
    timed(&format!("{name}: flush after it"), 1, 0, device.flush()).await;
    timed(&format!("{name}: 1 MiB sequential read"), 512, 512 << 20, async {
        let mut chunk = vec![0u8; 1 << 20];
        for i in 0..512 {
            device.read((512 + i) << 20, &mut chunk).await?;
        }
        Ok(())
    })
    .await;
    for writers in [1u64, 8] {
        let each = 200 / writers;
        timed(
            &format!("{name}: write and flush, {writers} at once"),
            each * writers,
            each * writers * 4096,
            async {
                let tasks: Vec<_> = (0..writers)
                    .map(|w| {
                        let (device, block) = (Arc::clone(device), block.clone());
                        tokio::spawn(async move {
                            for i in 0..each {
                                device.write(place(w * 1000 + i, 4096), &block).await?;
                                device.flush().await?;
                            }
                            std::io::Result::Ok(())
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.map_err(std::io::Error::other)??;
                }
                Ok(())
            },
        )
        .await;
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), DriverError> {
    let dir = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| ".".to_owned())).join("measure");
    let driver = FileDriver::new(FileConfig::new(&dir, "measure"));
    driver.start().await?;
    let claim = Claim::unbounded();
    let id = VolumeId::new();
    let volume = VolumeRef { id, name: format!("volume-{id}"), size: GiB(4), provider: Provider::default() };
    driver.create_volume(&volume, Source::Blank, &claim).await?;
    let device = driver.open(Openable::Volume(&volume), OpenMode::Write).await?;
    run("raw", &device).await;
    let id = SnapshotId::new();
    let snapshot = SnapshotRef {
        id,
        name: format!("snapshot-{id}"),
        size: volume.size,
        provider: Provider::default(),
        volume: volume.clone(),
    };
    let start = Instant::now();
    driver.create_snapshot(&snapshot, &claim).await?;
    println!("snapshot of the open volume: {:?}", start.elapsed());
    run("snapshotted", &device).await;
    let start = Instant::now();
    driver.delete_snapshot(&snapshot, &claim).await?;
    println!("its deletion while open: {:?}", start.elapsed());
    drop(device);
    let copy = VolumeRef { id: VolumeId::new(), ..volume.clone() };
    let copy = VolumeRef { name: format!("volume-{}", copy.id), ..copy };
    let start = Instant::now();
    driver.create_volume(&copy, Source::Volume(&volume), &claim).await?;
    println!("a clone: {:?}", start.elapsed());
    driver.delete_volume(&copy, &claim).await?;
    driver.delete_volume(&volume, &claim).await
}
