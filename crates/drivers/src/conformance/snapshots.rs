//! Snapshots: frozen, deleted in any order, taken under load, gone back to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use model::GiB;
use model::block::Device;

use super::content::{expect, expect_snapshot, expect_volume, open, put};
use super::{Broken, Check, Factory, claim, ensure, next, refused, snapshot, volume};
use crate::error::ErrorKind;
use crate::{OpenMode, Openable, SharedDriver, SnapshotRef, Source, VolumeRef};

/// A volume of 1 GiB with `count` snapshots, the `n`th of version `n + 1`, and version `count + 1` on it.
async fn with_snapshots(driver: &SharedDriver, count: u64) -> Check<(VolumeRef, Vec<SnapshotRef>)> {
    let v = volume(1);
    driver.create_volume(&v, Source::Blank, &claim()).await?;
    let device = open(driver, &v).await?;
    let mut snapshots = Vec::new();
    put(&device, 1).await?;
    for version in 1..=count {
        let s = snapshot(&v);
        driver.create_snapshot(&s, &claim()).await?;
        snapshots.push(s);
        put(&device, version + 1).await?;
    }
    Ok((v, snapshots))
}

pub async fn frozen(factory: &dyn Factory) -> Check {
    let driver = factory.driver().await;
    let (v, snapshots) = with_snapshots(&driver, 1).await?;
    let s = &snapshots[0];
    let taking = claim();
    driver.create_snapshot(s, &taking).await?;
    driver.create_snapshot(s, &next(&taking)).await?;
    expect_snapshot(&driver, s, 1, "a snapshot").await?;
    expect_volume(&driver, &v, 2, "the volume").await?;
    refused(
        driver.open(Openable::Snapshot(s), OpenMode::Write).await,
        ErrorKind::Invalid,
        "writing to a snapshot",
    )?;
    let missing = snapshot(&v);
    refused(
        driver.open(Openable::Snapshot(&missing), OpenMode::Read).await,
        ErrorKind::NotFound,
        "no snapshot",
    )?;
    refused(driver.delete_volume(&v, &claim()).await, ErrorKind::Busy, "deleting a volume with a snapshot")?;
    let reader = driver.open(Openable::Snapshot(s), OpenMode::Read).await?;
    refused(driver.delete_snapshot(s, &claim()).await, ErrorKind::Busy, "deleting an open snapshot")?;
    drop(driver);
    // Another process may read it, also while one has the volume.
    let driver = factory.driver().await;
    let other = factory.driver().await;
    let device = open(&driver, &v).await?;
    expect_snapshot(&other, s, 1, "read elsewhere").await?;
    driver.extend_volume(&v, GiB(2), &claim()).await?;
    put(&device, 3).await?;
    expect(&reader, 1, "an open snapshot").await?;
    ensure(reader.size() == GiB(1).bytes(), || format!("an open snapshot has {} bytes", reader.size()))?;
    expect_snapshot(&driver, s, 1, "a snapshot of a volume that has grown").await?;
    drop(reader);
    let deleting = claim();
    driver.delete_snapshot(s, &deleting).await?;
    driver.delete_snapshot(s, &next(&deleting)).await?;
    expect(&device, 3, "the volume without its snapshot").await?;
    drop(device);
    driver.delete_snapshot(&missing, &claim()).await?;
    driver.delete_volume(&v, &claim()).await?;
    driver.delete_snapshot(s, &claim()).await?;
    Ok(())
}

pub async fn any_order(factory: &dyn Factory) -> Check {
    let driver = factory.driver().await;
    for (turn, order) in
        [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]].into_iter().enumerate()
    {
        let (mut v, snapshots) = with_snapshots(&driver, 3).await?;
        // Half of the time under an open device, half with a volume larger than its snapshots.
        let device = if turn % 2 == 0 { Some(open(&driver, &v).await?) } else { None };
        if turn % 4 < 2 {
            driver.extend_volume(&v, GiB(2), &claim()).await?;
            v.size = GiB(2);
        }
        for (done, index) in order.into_iter().enumerate() {
            driver.delete_snapshot(&snapshots[index], &claim()).await?;
            for rest in &order[done + 1..] {
                let what = format!("order {order:?}, {} gone, snapshot {rest}", done + 1);
                expect_snapshot(&driver, &snapshots[*rest], *rest as u64 + 1, &what).await?;
            }
            expect_volume(&driver, &v, 4, &format!("order {order:?}, {} gone, the volume", done + 1)).await?;
        }
        if let Some(device) = device {
            put(&device, 5).await?;
            expect(&device, 5, "written after all").await?;
        }
        driver.delete_volume(&v, &claim()).await?;
    }
    Ok(())
}

/// Two places that a writer numbers one after the other.
const PLACES: [u64; 2] = [5 << 20, 900 << 20];

/// Writes increasing numbers to both places, one after the other, until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<std::io::Result<u64>>,
}

impl Load {
    fn on(device: Device) -> Self {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, done) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let task = tokio::spawn(async move {
            let mut number = 0u64;
            while !stopped.load(Ordering::SeqCst) {
                number += 1;
                let data = number.to_le_bytes().repeat(64);
                for (i, place) in PLACES.into_iter().enumerate() {
                    // Each number to a fresh block as well, so that overlays allocate all the time.
                    device.write(place, &data).await?;
                    device.write(place + (1 << 20) + number % 4096 * 4096 + i as u64 * 512, &data).await?;
                }
                done.store(number, Ordering::SeqCst);
                if number.is_multiple_of(50) {
                    device.flush().await?;
                }
            }
            Ok(number)
        });
        Self { stop, acknowledged, task }
    }

    /// Waits for `more` numbers.
    async fn go_on(&self, more: u64) {
        let until = self.acknowledged.load(Ordering::SeqCst) + more;
        while self.acknowledged.load(Ordering::SeqCst) < until && !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    async fn end(self) -> Check<u64> {
        self.stop.store(true, Ordering::SeqCst);
        Ok(self.task.await.map_err(|e| Broken(e.to_string()))??)
    }
}

/// The numbers at both places.
async fn numbers(device: &Device) -> Check<[u64; 2]> {
    let mut found = [0; 2];
    for (number, place) in found.iter_mut().zip(PLACES) {
        let mut buf = [0; 512];
        device.read(place, &mut buf).await?;
        let first: [u8; 8] = buf[..8].try_into().map_err(|_| Broken("eight bytes".to_owned()))?;
        ensure(buf.chunks(8).all(|c| c == first), || "a write is torn".to_owned())?;
        *number = u64::from_le_bytes(first);
    }
    Ok(found)
}

/// A cut between two writes holds `n` at both places, or `n` at the first and `n - 1` at the second.
fn check_cut([a, b]: [u64; 2], acknowledged: u64, what: &str) -> Check {
    ensure((a == b || a == b + 1) && b >= acknowledged, || {
        format!("{what} holds {a} and {b}; {acknowledged} were acknowledged before")
    })
}

pub async fn under_load(factory: &dyn Factory) -> Check {
    let driver = factory.driver().await;
    let v = volume(1);
    driver.create_volume(&v, Source::Blank, &claim()).await?;
    let device = open(&driver, &v).await?;
    let load = Load::on(device.clone());
    let mut taken: Vec<(SnapshotRef, [u64; 2])> = Vec::new();
    for round in 0..6 {
        load.go_on(40).await;
        let (s, copy) = (snapshot(&v), volume(1));
        let before = load.acknowledged.load(Ordering::SeqCst);
        driver.create_snapshot(&s, &claim()).await?;
        let reader = driver.open(Openable::Snapshot(&s), OpenMode::Read).await?;
        let cut = numbers(&reader).await?;
        check_cut(cut, before, &format!("snapshot {round}"))?;
        taken.push((s, cut));
        if round % 3 == 1 {
            let before = load.acknowledged.load(Ordering::SeqCst);
            driver.create_volume(&copy, Source::Volume(&v), &claim()).await?;
            let clone = open(&driver, &copy).await?;
            check_cut(numbers(&clone).await?, before, &format!("clone {round}"))?;
            drop(clone);
            driver.delete_volume(&copy, &claim()).await?;
        }
    }
    // Deleted under the same load: the oldest, the newest, then the rest, which stay what they were.
    for index in [0, 4, 1, 1, 1, 0] {
        load.go_on(10).await;
        let (s, _) = taken.remove(index.min(taken.len() - 1));
        driver.delete_snapshot(&s, &claim()).await?;
        for (s, cut) in &taken {
            let reader = driver.open(Openable::Snapshot(s), OpenMode::Read).await?;
            let now = numbers(&reader).await?;
            ensure(now == *cut, || format!("a snapshot of {cut:?} has become {now:?}"))?;
        }
    }
    let last = load.end().await?;
    let now = numbers(&device).await?;
    ensure(now == [last; 2], || format!("{last} was written and {now:?} is there"))?;
    drop(device);
    drop(driver);
    let driver = factory.driver().await;
    let device = open(&driver, &v).await?;
    let now = numbers(&device).await?;
    ensure(now == [last; 2], || format!("{last} was written and {now:?} is there after a restart"))?;
    drop(device);
    driver.delete_volume(&v, &claim()).await?;
    Ok(())
}

pub async fn many(factory: &dyn Factory) -> Check {
    const COUNT: u64 = 20;
    let driver = factory.driver().await;
    let (v, snapshots) = with_snapshots(&driver, COUNT).await?;
    let version_of = |index: usize| index as u64 + 1;
    for (index, s) in snapshots.iter().enumerate() {
        expect_snapshot(&driver, s, version_of(index), &format!("snapshot {index} of {COUNT}")).await?;
    }
    let copy = volume(1);
    driver.create_volume(&copy, Source::Snapshot(&snapshots[3]), &claim()).await?;
    expect_volume(&driver, &copy, 4, "a volume from a long chain").await?;
    driver.delete_volume(&copy, &claim()).await?;
    drop(driver);
    let driver = factory.driver().await;
    for s in snapshots.iter().step_by(2) {
        driver.delete_snapshot(s, &claim()).await?;
    }
    for (index, s) in snapshots.iter().enumerate().skip(1).step_by(2) {
        expect_snapshot(&driver, s, version_of(index), &format!("snapshot {index}, every other gone"))
            .await?;
    }
    expect_volume(&driver, &v, COUNT + 1, "the volume, every other snapshot gone").await?;
    for s in snapshots.iter().skip(1).step_by(2).rev() {
        driver.delete_snapshot(s, &claim()).await?;
    }
    expect_volume(&driver, &v, COUNT + 1, "the volume, all snapshots gone").await?;
    driver.delete_volume(&v, &claim()).await?;
    Ok(())
}

pub async fn reverts(factory: &dyn Factory) -> Check {
    let driver = factory.driver().await;
    if !driver.capabilities().revert {
        let s = snapshot(&volume(1));
        return refused(driver.revert(&s, &claim()).await, ErrorKind::Unsupported, "a revert not claimed");
    }
    // A chain of overlays, and one whose latest snapshot was copied out.
    for count in [2, 18] {
        let (mut v, snapshots) = with_snapshots(&driver, count).await?;
        let latest = &snapshots[snapshots.len() - 1];
        let reverting = claim();
        driver.revert(latest, &reverting).await?;
        driver.revert(latest, &next(&reverting)).await?;
        expect_volume(&driver, &v, count, "set back").await?;
        let device = open(&driver, &v).await?;
        put(&device, count + 1).await?;
        driver.extend_volume(&v, GiB(2), &claim()).await?;
        v.size = GiB(2);
        device.write(GiB(1).bytes(), &[1; 4096]).await?;
        driver.revert(latest, &claim()).await?;
        expect(&device, count, "set back while open").await?;
        ensure(device.size() == v.size.bytes(), || format!("set back to {} bytes", device.size()))?;
        super::content::expect_zeros(&device, GiB(1).bytes(), 4096, "what the snapshot did not have").await?;
        put(&device, count + 1).await?;
        drop(device);
        for (index, s) in snapshots.iter().enumerate() {
            expect_snapshot(&driver, s, index as u64 + 1, "a snapshot of what was set back").await?;
        }
        for s in &snapshots {
            driver.delete_snapshot(s, &claim()).await?;
        }
        expect_volume(&driver, &v, count + 1, "written after it was set back").await?;
        driver.delete_volume(&v, &claim()).await?;
    }
    Ok(())
}
