//! Snapshots of several volumes at one moment, where a driver says that it can: under load, cut off and repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use model::block::Device;

use super::content::{expect, expect_snapshot, open, put};
use super::{Broken, Check, Factory, claim, ensure, next, refused, snapshot, volume};
use crate::error::ErrorKind;
use crate::fault::Faults;
use crate::{OpenMode, Openable, SharedDriver, SnapshotRef, Source, VolumeRef};

/// More changes than the call makes.
const CUTS_MAX: u64 = 400;

async fn pair(driver: &SharedDriver) -> Check<[VolumeRef; 2]> {
    let pair = [volume(1), volume(1)];
    for one in &pair {
        driver.create_volume(one, Source::Blank, &claim()).await?;
    }
    Ok(pair)
}

async fn clear(driver: &SharedDriver, pair: &[VolumeRef], snapshots: &[SnapshotRef]) -> Check {
    for one in snapshots {
        driver.delete_snapshot(one, &claim()).await?;
    }
    for one in pair {
        driver.delete_volume(one, &claim()).await?;
    }
    Ok(())
}

/// The number that a device begins with.
async fn number(device: &Device) -> Check<u64> {
    let mut buf = [0; 512];
    device.read(0, &mut buf).await?;
    let first: [u8; 8] = buf[..8].try_into().map_err(|_| Broken("eight bytes".to_owned()))?;
    ensure(buf.chunks(8).all(|c| c == first), || "a write is torn".to_owned())?;
    Ok(u64::from_le_bytes(first))
}

/// Numbers that go to the first device and, once that has them, to the second.
async fn write_on(
    devices: [Device; 2],
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> std::io::Result<()> {
    let mut number = 0u64;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let data = number.to_le_bytes().repeat(64);
        for device in &devices {
            device.write(0, &data).await?;
            // A fresh block as well, so that overlays allocate all the time.
            device.write((1 << 20) + number % 4096 * 4096, &data).await?;
        }
        acknowledged.store(number, Ordering::SeqCst);
    }
    Ok(())
}

pub async fn under_load(factory: &dyn Factory) -> Check {
    let driver = factory.driver().await;
    if !driver.capabilities().consistent_groups {
        return Ok(());
    }
    let pair = pair(&driver).await?;
    let devices = [open(&driver, &pair[0]).await?, open(&driver, &pair[1]).await?];
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = tokio::spawn(write_on(devices.clone(), stop.clone(), acknowledged.clone()));
    let mut taken = Vec::new();
    for round in 0..8 {
        let from = acknowledged.load(Ordering::SeqCst);
        while acknowledged.load(Ordering::SeqCst) < from + 40 && !writer.is_finished() {
            tokio::task::yield_now().await;
        }
        let before = acknowledged.load(Ordering::SeqCst);
        let both = [snapshot(&pair[0]), snapshot(&pair[1])];
        let [first, second] = both.clone();
        // In whichever order they are named.
        let named = if round % 2 == 0 { [first, second] } else { [second, first] };
        driver.create_snapshots(&named, &claim()).await?;
        let mut found = [0; 2];
        for (number_of, one) in found.iter_mut().zip(&both) {
            *number_of = number(&driver.open(Openable::Snapshot(one), OpenMode::Read).await?).await?;
        }
        let [a, b] = found;
        ensure((a == b || a == b + 1) && b >= before, || {
            format!("round {round} holds {a} and {b}; {before} were acknowledged before")
        })?;
        taken.extend(both);
    }
    stop.store(true, Ordering::SeqCst);
    writer.await.map_err(|e| Broken(e.to_string()))??;
    drop(devices);
    let twice = [snapshot(&pair[0]), snapshot(&pair[0])];
    refused(driver.create_snapshots(&twice, &claim()).await, ErrorKind::Invalid, "a volume named twice")?;
    clear(&driver, &pair, &taken).await
}

/// What an interrupted run has frozen does not stay beside what the next one freezes.
pub async fn cut_off(factory: &dyn Factory) -> Check {
    if !factory.driver().await.capabilities().consistent_groups {
        return Ok(());
    }
    for cut in 0..CUTS_MAX {
        let what = format!("cut off at {cut}");
        let driver = factory.driver().await;
        let pair = pair(&driver).await?;
        for one in &pair {
            put(&open(&driver, one).await?, 1).await?;
        }
        drop(driver);
        let (faults, first) = (Faults::after(cut), claim());
        let both = [snapshot(&pair[0]), snapshot(&pair[1])];
        let whole = match factory.dying(faults.clone()).await {
            Some(dying) if !faults.dead() => dying.create_snapshots(&both, &first).await.is_ok(),
            Some(_) => false,
            None => return clear(&factory.driver().await, &pair, &[]).await,
        };
        let driver = factory.driver().await;
        for one in &pair {
            put(&open(&driver, one).await?, 2).await?;
        }
        driver.create_snapshots(&both, &next(&first)).await?;
        let device = driver.open(Openable::Snapshot(&both[0]), OpenMode::Read).await?;
        let version = if expect(&device, 1, &what).await.is_ok() { 1 } else { 2 };
        drop(device);
        ensure(version == 1 || !whole, || format!("{what}: what was complete was taken again"))?;
        for one in &both {
            expect_snapshot(&driver, one, version, &what).await?;
        }
        for thing in driver.list().await? {
            if let crate::Found::Intermediate { name, .. } = thing {
                driver.discard_intermediate(&name).await?;
            }
        }
        clear(&driver, &pair, &both).await.map_err(|e| Broken(format!("{what}: {e}")))?;
        if !faults.dead() {
            factory.note("snapshots together cut off and repeated", cut);
            return Ok(());
        }
    }
    Err(Broken(format!("more than {CUTS_MAX} changes")))
}
