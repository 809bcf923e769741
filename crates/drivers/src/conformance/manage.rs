//! Volumes and snapshots that are given up, and taken over again.

use model::GiB;

use super::content::{expect_snapshot, expect_volume, open, put};
use super::{Check, Factory, claim, ensure, next, refused, snapshot, volume};
use crate::error::ErrorKind;
use crate::{Found, OpenMode, Openable, SharedDriver, Source};

pub async fn taken_over(factory: &dyn Factory) -> Check {
    let driver = factory.driver().await;
    if !driver.capabilities().manage {
        return unsupported(&driver).await;
    }
    snapshots(factory).await?;
    volumes(factory).await?;
    names(&driver).await
}

async fn unsupported(driver: &SharedDriver) -> Check {
    let v = volume(1);
    let what = Openable::Volume(&v);
    let unsupported = ErrorKind::Unsupported;
    refused(driver.manageable().await, unsupported, "listing what can be managed")?;
    refused(driver.candidate(what, "x").await, unsupported, "looking for what could be managed")?;
    refused(driver.adopt(what, "x", &claim()).await, unsupported, "managing")?;
    refused(driver.release(what, None, &claim()).await, unsupported, "giving up")
}

async fn snapshots(factory: &dyn Factory) -> Check {
    let driver = factory.driver().await;
    let (v, other) = (volume(1), volume(1));
    driver.create_volume(&v, Source::Blank, &claim()).await?;
    driver.create_volume(&other, Source::Blank, &claim()).await?;
    let device = open(&driver, &v).await?;
    put(&device, 1).await?;
    let s = snapshot(&v);
    driver.create_snapshot(&s, &claim()).await?;
    put(&device, 2).await?;
    let reader = driver.open(Openable::Snapshot(&s), OpenMode::Read).await?;
    refused(
        driver.release(Openable::Snapshot(&s), None, &claim()).await,
        ErrorKind::Busy,
        "an open snapshot",
    )?;
    drop(reader);
    // Also while the volume is open here.
    let giving = claim();
    driver.release(Openable::Snapshot(&s), None, &giving).await?;
    driver.release(Openable::Snapshot(&s), None, &next(&giving)).await?;
    let gone = driver.open(Openable::Snapshot(&s), OpenMode::Read).await;
    refused(gone, ErrorKind::NotFound, "a snapshot that was given up")?;
    put(&device, 3).await?;
    let all = driver.manageable().await?;
    ensure(all.iter().any(|one| one.of.as_ref() == Some(&v.name) && one.refusal.is_none()), || {
        format!("the snapshot is not in {all:?}")
    })?;
    let (again, of_other) = (snapshot(&v), snapshot(&other));
    let found = driver.candidate(Openable::Snapshot(&again), &s.name).await?;
    ensure(found.bytes == GiB(1).bytes(), || format!("it has {} bytes", found.bytes))?;
    let wrong = driver.adopt(Openable::Snapshot(&of_other), &found.name, &claim()).await;
    refused(wrong, ErrorKind::Invalid, "another volume's snapshot")?;
    let taking = claim();
    driver.adopt(Openable::Snapshot(&again), &found.name, &taking).await?;
    driver.adopt(Openable::Snapshot(&again), &found.name, &next(&taking)).await?;
    expect_snapshot(&driver, &again, 1, "a snapshot taken over").await?;
    drop(device);
    expect_volume(&driver, &v, 3, "its volume").await?;
    driver.delete_snapshot(&again, &claim()).await?;
    driver.delete_volume(&v, &claim()).await?;
    Ok(driver.delete_volume(&other, &claim()).await?)
}

async fn volumes(factory: &dyn Factory) -> Check {
    let driver = factory.driver().await;
    let v = volume(1);
    driver.create_volume(&v, Source::Blank, &claim()).await?;
    let device = open(&driver, &v).await?;
    put(&device, 1).await?;
    let what = Openable::Volume(&v);
    let s = snapshot(&v);
    driver.create_snapshot(&s, &claim()).await?;
    put(&device, 2).await?;
    refused(driver.release(what, None, &claim()).await, ErrorKind::Busy, "a volume with a snapshot")?;
    driver.delete_snapshot(&s, &claim()).await?;
    refused(driver.release(what, None, &claim()).await, ErrorKind::Busy, "an open volume")?;
    let elsewhere = factory.driver().await;
    refused(elsewhere.release(what, None, &claim()).await, ErrorKind::Busy, "one that is open elsewhere")?;
    drop(device);
    let giving = claim();
    driver.release(what, None, &giving).await?;
    driver.release(what, None, &next(&giving)).await?;
    refused(driver.open(what, OpenMode::Read).await, ErrorKind::NotFound, "a volume that was given up")?;
    let left = driver.list().await?;
    ensure(!left.iter().any(|one| matches!(one, Found::Volume { .. })), || format!("there is {left:?}"))?;
    // By its old name, and larger.
    let again = volume(2);
    let found = driver.candidate(Openable::Volume(&again), &v.name).await?;
    ensure(found.bytes == GiB(1).bytes(), || format!("it has {} bytes", found.bytes))?;
    let taking = claim();
    driver.adopt(Openable::Volume(&again), &found.name, &taking).await?;
    driver.adopt(Openable::Volume(&again), &found.name, &next(&taking)).await?;
    expect_volume(&driver, &again, 2, "a volume taken over").await?;
    // Given back as an undo does, and not taken by whoever comes later with a lost claim.
    driver.release(Openable::Volume(&again), Some(&found.name), &claim()).await?;
    let lost = claim();
    lost.lose();
    let late = driver.adopt(Openable::Volume(&again), &found.name, &lost).await;
    ensure(late.is_err(), || "a lost claim has taken something over".into())?;
    refused(
        driver.open(Openable::Volume(&again), OpenMode::Read).await,
        ErrorKind::NotFound,
        "what a lost claim was to take",
    )?;
    remove_foreign(&driver).await
}

async fn names(driver: &SharedDriver) -> Check {
    let (v, mine) = (volume(1), volume(1));
    driver.create_volume(&mine, Source::Blank, &claim()).await?;
    for name in ["", ".", "..", "/etc/passwd", "../x", "a/b", "\0"] {
        let refusal = driver.candidate(Openable::Volume(&v), name).await;
        refused(refusal, ErrorKind::Invalid, &format!("the name {name:?}"))?;
        let refusal = driver.adopt(Openable::Volume(&v), name, &claim()).await;
        refused(refusal, ErrorKind::Invalid, &format!("taking {name:?}"))?;
    }
    let missing = driver.candidate(Openable::Volume(&v), "missing").await;
    refused(missing, ErrorKind::NotFound, "what is not there")?;
    let device = open(driver, &mine).await?;
    let open = driver.adopt(Openable::Volume(&v), &mine.name, &claim()).await;
    refused(open, ErrorKind::Busy, "what is open")?;
    drop(device);
    Ok(driver.delete_volume(&mine, &claim()).await?)
}

/// Removes everything that could be managed.
pub async fn remove_foreign(driver: &SharedDriver) -> Check {
    for found in driver.manageable().await? {
        let v = volume(found.bytes.div_ceil(GiB(1).bytes()) as u32);
        driver.adopt(Openable::Volume(&v), &found.name, &claim()).await?;
        driver.delete_volume(&v, &claim()).await?;
    }
    Ok(())
}
