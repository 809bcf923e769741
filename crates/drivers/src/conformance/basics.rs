//! Volumes: made, owned, grown, copied.

use std::io::ErrorKind as Io;

use model::{ExtentKind, GiB};

use super::content::{expect, expect_snapshot, expect_volume, expect_zeros, open, put};
use super::{Broken, Check, Factory, claim, ensure, next, refused, snapshot, volume};
use crate::error::{DriverError, ErrorKind};
use crate::{Found, OpenMode, Openable, SharedDriver, Source, VolumeRef};

const MIB: u64 = 1 << 20;

/// A fresh volume of 1 GiB with version 1 on it.
async fn filled(driver: &SharedDriver) -> Check<VolumeRef> {
    let v = volume(1);
    driver.create_volume(&v, Source::Blank, &claim()).await?;
    put(&open(driver, &v).await?, 1).await?;
    Ok(v)
}

pub async fn life(factory: &dyn Factory) -> Check {
    let driver = factory.driver().await;
    let v = volume(1);
    let making = claim();
    refused(
        driver.open(Openable::Volume(&v), OpenMode::Write).await,
        ErrorKind::NotFound,
        "opening nothing",
    )?;
    driver.create_volume(&v, Source::Blank, &making).await?;
    driver.create_volume(&v, Source::Blank, &making).await?;
    driver.create_volume(&v, Source::Blank, &next(&making)).await?;
    expect_volume(&driver, &v, 0, "a new volume").await?;
    let device = open(&driver, &v).await?;
    put(&device, 1).await?;
    expect(&device, 1, "what was written").await?;
    let size = device.size();
    for (offset, len) in [(size, 1usize), (size - 1, 2), (u64::MAX, 1), (u64::MAX - 10, 512)] {
        let read = device.read(offset, &mut vec![0; len]).await.map_err(|e| e.kind());
        let write = device.write(offset, &vec![1; len]).await.map_err(|e| e.kind());
        ensure(read == Err(Io::InvalidInput) && write == Err(Io::InvalidInput), || {
            format!("{len} bytes at {offset}, beyond the end: read {read:?}, write {write:?}")
        })?;
    }
    drop(device);
    let reader = driver.open(Openable::Volume(&v), OpenMode::Read).await?;
    let write = reader.write(0, &[1]).await.map_err(|e| e.kind());
    ensure(reader.read_only() && write == Err(Io::ReadOnlyFilesystem), || {
        format!("a reader wrote: {write:?}")
    })?;
    drop(reader);
    driver.create_volume(&v, Source::Blank, &next(&making)).await?;
    expect_volume(&driver, &v, 1, "a volume made once more").await?;
    drop(driver);
    let driver = factory.driver().await;
    expect_volume(&driver, &v, 1, "after a restart").await?;
    let found = driver.list().await?;
    ensure(found == [Found::Volume { id: v.id, bytes: size }], || format!("listed {found:?}"))?;
    let deleting = claim();
    driver.delete_volume(&v, &deleting).await?;
    driver.delete_volume(&v, &deleting).await?;
    refused(
        driver.open(Openable::Volume(&v), OpenMode::Read).await,
        ErrorKind::NotFound,
        "opening a deleted volume",
    )?;
    driver.delete_volume(&volume(1), &claim()).await?;
    // The same name again: nothing of the old data is there.
    driver.create_volume(&v, Source::Blank, &claim()).await?;
    expect_volume(&driver, &v, 0, "a volume made anew").await?;
    driver.delete_volume(&v, &claim()).await?;
    Ok(())
}

pub async fn ownership(factory: &dyn Factory) -> Check {
    let (here, there) = (factory.driver().await, factory.driver().await);
    let v = filled(&here).await?;
    ensure(!here.is_open(&v), || "a closed volume is said to be open".to_owned())?;
    let first = open(&here, &v).await?;
    let second = open(&here, &v).await?;
    ensure(here.is_open(&v) && !there.is_open(&v), || "who has the volume open is not told".to_owned())?;
    second.write(MIB, &[7; 512]).await?;
    let mut buf = [0; 512];
    first.read(MIB, &mut buf).await?;
    ensure(buf == [7; 512], || "two openings do not share a device".to_owned())?;
    let s = snapshot(&v);
    refused(
        there.open(Openable::Volume(&v), OpenMode::Write).await,
        ErrorKind::Busy,
        "a second owner's open",
    )?;
    refused(there.extend_volume(&v, GiB(2), &claim()).await, ErrorKind::Busy, "a second owner's extend")?;
    refused(there.create_snapshot(&s, &claim()).await, ErrorKind::Busy, "a second owner's snapshot")?;
    refused(there.delete_volume(&v, &claim()).await, ErrorKind::Busy, "a second owner's delete")?;
    refused(here.delete_volume(&v, &claim()).await, ErrorKind::Busy, "deleting an open volume")?;
    drop(first);
    refused(
        there.open(Openable::Volume(&v), OpenMode::Write).await,
        ErrorKind::Busy,
        "one of two closed: open",
    )?;
    drop(second);
    let device = open(&there, &v).await?;
    expect_zeros(&device, 2 * MIB, MIB, "taken over").await?;
    drop(device);
    here.delete_volume(&v, &claim()).await?;
    Ok(())
}

pub async fn growth(factory: &dyn Factory) -> Check {
    let driver = factory.driver().await;
    let mut v = filled(&driver).await?;
    let growing = claim();
    driver.extend_volume(&v, GiB(2), &growing).await?;
    driver.extend_volume(&v, GiB(2), &growing).await?;
    driver.extend_volume(&v, GiB(1), &growing).await?;
    v.size = GiB(2);
    expect_volume(&driver, &v, 1, "grown").await?;
    if driver.capabilities().extend_online {
        let device = open(&driver, &v).await?;
        driver.extend_volume(&v, GiB(5), &claim()).await?;
        ensure(device.size() == GiB(5).bytes(), || format!("an open device has {} bytes", device.size()))?;
        expect_zeros(&device, GiB(1).bytes(), MIB, "the first growth").await?;
        expect_zeros(&device, GiB(5).bytes() - MIB, MIB, "the second growth").await?;
        device.write(GiB(5).bytes() - 512, &[9; 512]).await?;
        device.flush().await?;
        expect(&device, 1, "grown while open").await?;
        v.size = GiB(5);
    }
    drop(driver);
    let driver = factory.driver().await;
    expect_volume(&driver, &v, 1, "grown, after a restart").await?;
    driver.delete_volume(&v, &claim()).await?;
    Ok(())
}

pub async fn discards(factory: &dyn Factory) -> Check {
    let driver = factory.driver().await;
    let v = filled(&driver).await?;
    let s = snapshot(&v);
    driver.create_snapshot(&s, &claim()).await?;
    let device = open(&driver, &v).await?;
    // Before and after data was written over the snapshot; whole clusters, parts, and stretches of both kinds.
    device.discard(0, 2 * MIB).await?;
    device.write_zeroes(3 * MIB + 512, 512).await?;
    device.write(10 * MIB + 1000, &[5; 4096]).await?;
    device.discard(10 * MIB - 512, 200 << 10).await?;
    device.discard(512 * MIB - 4096, 512 * MIB + 4096).await?;
    device.flush().await?;
    for (offset, len) in [
        (0, 2 * MIB),
        (3 * MIB + 512, 512),
        (10 * MIB - 512, 200 << 10),
        (512 * MIB - 4096, MIB),
        (1023 * MIB, MIB),
    ] {
        expect_zeros(&device, offset, len, "given back").await?;
    }
    let mut kept = vec![0; 1024];
    device.read(10 * MIB + (200 << 10), &mut kept).await?;
    ensure(kept.iter().any(|b| *b != 0), || "what lies behind a stretch went with it".to_owned())?;
    let beyond = device.discard(device.size(), 512).await.map_err(|e| e.kind());
    ensure(beyond == Err(Io::InvalidInput), || format!("a discard beyond the end: {beyond:?}"))?;
    let mut offset = 0;
    while offset < device.size() {
        let extent = device.block_status(offset, device.size() - offset).await?;
        ensure(extent.length > 0 && offset + extent.length <= device.size(), || {
            format!("{extent:?} at {offset}")
        })?;
        if extent.kind != ExtentKind::Data {
            expect_zeros(&device, offset, extent.length.min(MIB), "said to be zeros").await?;
        }
        offset += extent.length;
    }
    drop(device);
    expect_snapshot(&driver, &s, 1, "a snapshot of what was given back").await?;
    driver.delete_snapshot(&s, &claim()).await?;
    let device = open(&driver, &v).await?;
    expect_zeros(&device, 512 * MIB - 4096, 8192, "given back, merged").await?;
    drop(device);
    driver.delete_volume(&v, &claim()).await?;
    Ok(())
}

pub async fn clones(factory: &dyn Factory) -> Check {
    let driver = factory.driver().await;
    let v = filled(&driver).await?;
    let device = open(&driver, &v).await?;
    // Not flushed: a clone of an open volume has all that was acknowledged.
    device.write(0, &[0; 4096]).await?;
    put(&device, 2).await?;
    let (a, b) = (volume(1), volume(3));
    let making = claim();
    driver.create_volume(&a, Source::Volume(&v), &making).await?;
    driver.create_volume(&a, Source::Volume(&v), &next(&making)).await?;
    put(&device, 3).await?;
    driver.create_volume(&b, Source::Volume(&a), &claim()).await?;
    expect_volume(&driver, &a, 2, "a clone").await?;
    let clone = open(&driver, &b).await?;
    expect(&clone, 2, "a larger clone of a clone").await?;
    expect_zeros(&clone, GiB(2).bytes(), MIB, "what a larger clone has more").await?;
    put(&clone, 4).await?;
    drop(clone);
    expect(&device, 3, "the source").await?;
    drop(device);
    let s = snapshot(&v);
    driver.create_snapshot(&s, &claim()).await?;
    put(&open(&driver, &v).await?, 4).await?;
    let c = volume(2);
    driver.create_volume(&c, Source::Snapshot(&s), &claim()).await?;
    driver.delete_snapshot(&s, &claim()).await?;
    refused(
        driver.create_volume(&volume(1), Source::Volume(&c), &claim()).await,
        ErrorKind::Invalid,
        "a clone smaller than its source",
    )?;
    driver.delete_volume(&v, &claim()).await?;
    expect_volume(&driver, &c, 3, "a volume of a snapshot that is gone").await?;
    expect_volume(&driver, &a, 2, "a clone of a volume that is gone").await?;
    for v in [a, b, c] {
        driver.delete_volume(&v, &claim()).await?;
    }
    Ok(())
}

pub async fn cancels(factory: &dyn Factory) -> Check {
    let driver = factory.driver().await;
    let v = filled(&driver).await?;
    let device = open(&driver, &v).await?;
    for i in 20..84 {
        device.write(i * MIB, &vec![i as u8; MIB as usize]).await?;
    }
    let copy = volume(1);
    let cancelled = claim();
    cancelled.cancel();
    let result = driver.create_volume(&copy, Source::Volume(&v), &cancelled).await;
    refused(result, ErrorKind::Stopped(model::job::Stop::Cancelled), "a copy cancelled before it began")?;
    let halfway = claim();
    let (flag, work) = (halfway.clone(), halfway.clone());
    let source = v.clone();
    let (copying, copier) = (copy.clone(), driver.clone());
    let copied =
        tokio::spawn(async move { copier.create_volume(&copying, Source::Volume(&source), &work).await });
    while flag.progress().0 == 0 && !copied.is_finished() {
        tokio::task::yield_now().await;
    }
    flag.cancel();
    match copied.await.map_err(|e| Broken(e.to_string()))? {
        // By sharing blocks there is nothing to wait for, and nothing to cancel.
        Ok(_) => driver.delete_volume(&copy, &claim()).await?,
        Err(DriverError { kind: ErrorKind::Stopped(_), .. }) => {}
        Err(e) => return Err(e.into()),
    }
    drop(device);
    let found = driver.list().await?;
    ensure(found.len() == 1, || format!("a cancelled copy left {found:?}"))?;
    driver.create_volume(&copy, Source::Volume(&v), &next(&halfway)).await?;
    let device = open(&driver, &copy).await?;
    let mut buf = vec![0; MIB as usize];
    device.read(83 * MIB, &mut buf).await?;
    ensure(buf.iter().all(|b| *b == 83), || "a copy made again is not whole".to_owned())?;
    drop(device);
    driver.delete_volume(&copy, &claim()).await?;
    driver.delete_volume(&v, &claim()).await?;
    Ok(())
}

pub async fn lost_claims(factory: &dyn Factory) -> Check {
    let driver = factory.driver().await;
    let v = filled(&driver).await?;
    let s = snapshot(&v);
    driver.create_snapshot(&s, &claim()).await?;
    let lost = claim();
    lost.lose();
    let gone = ErrorKind::Stopped(model::job::Stop::LeaseLost);
    let (new, late) = (volume(1), snapshot(&v));
    refused(driver.create_volume(&new, Source::Blank, &lost).await, gone, "create without a lease")?;
    refused(driver.create_volume(&new, Source::Volume(&v), &lost).await, gone, "clone without a lease")?;
    refused(driver.create_volume(&new, Source::Snapshot(&s), &lost).await, gone, "restore without a lease")?;
    refused(driver.extend_volume(&v, GiB(9), &lost).await, gone, "extend without a lease")?;
    refused(driver.create_snapshot(&late, &lost).await, gone, "snapshot without a lease")?;
    refused(driver.delete_snapshot(&s, &lost).await, gone, "delete a snapshot without a lease")?;
    if driver.capabilities().revert {
        refused(driver.revert(&s, &lost).await, gone, "revert without a lease")?;
    }
    let found = driver.list().await?;
    ensure(found.len() == 2, || format!("runs without a lease left {found:?}"))?;
    expect_volume(&driver, &v, 1, "after runs without a lease").await?;
    expect_snapshot(&driver, &s, 1, "after runs without a lease").await?;
    driver.delete_snapshot(&s, &claim()).await?;
    refused(driver.delete_volume(&v, &lost).await, gone, "delete without a lease")?;
    expect_volume(&driver, &v, 1, "after runs without a lease").await?;
    driver.delete_volume(&v, &claim()).await?;
    Ok(())
}

pub async fn figures(factory: &dyn Factory) -> Check {
    let driver = factory.driver().await;
    let before = driver.stats().await?;
    let v = filled(&driver).await?;
    driver.extend_volume(&v, GiB(7), &claim()).await?;
    let after = driver.stats().await?;
    ensure(!after.pools.is_empty(), || "no pool is reported".to_owned())?;
    let sum = |s: &crate::BackendStats| {
        s.pools.iter().fold((0.0, 0), |(gb, n), p| (gb + p.provisioned_capacity_gb, n + p.total_volumes))
    };
    let (was, is) = (sum(&before), sum(&after));
    ensure((is.0 - was.0 - 7.0).abs() < 0.001 && is.1 == was.1 + 1, || {
        format!("a volume of 7 GiB changed the figures from {was:?} to {is:?}")
    })?;
    for pool in &after.pools {
        let (total, free) = (pool.total_capacity_gb, pool.free_capacity_gb);
        ensure(total > 0.0 && (0.0..=total).contains(&free), || format!("{free} of {total} GiB are free"))?;
    }
    driver.delete_volume(&v, &claim()).await?;
    Ok(())
}
