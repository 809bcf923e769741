//! What the suites write and expect to read.

use model::block::Device;

use super::{Check, ensure};
use crate::{OpenMode, Openable, SharedDriver, SnapshotRef, VolumeRef};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Stretches that lie across sectors, pages and clusters, at the start, in the middle and at the end of 1 GiB.
const SPOTS: [(u64, u64); 8] = [
    (0, 4 * KIB),
    (60 * KIB, 8 * KIB),
    (MIB - 512, KIB),
    (3 * MIB + 512, 512),
    (10 * MIB, 300 * KIB),
    (512 * MIB - 4 * KIB, 8 * KIB),
    (700 * MIB + 100 * KIB, 4 * KIB),
    (1024 * MIB - 4 * KIB, 4 * KIB),
];

/// The bytes of spot `index` in version `version`; version 0 is zeros. Versions differ in every spot they write.
fn bytes(index: usize, len: u64, version: u64) -> Vec<u8> {
    if version == 0 {
        return vec![0; len as usize];
    }
    let tag = version * 1000 + index as u64;
    tag.to_le_bytes().into_iter().cycle().take(len as usize).collect()
}

/// Whether a version touches a spot: the first always, others now and then, so that chains are looked through.
fn touches(index: usize, version: u64) -> bool {
    version <= 1 || index == 0 || (version + index as u64).is_multiple_of(3)
}

/// Writes version `version` over the one before it, and flushes.
pub async fn put(device: &Device, version: u64) -> Check {
    for (index, (offset, len)) in SPOTS.into_iter().enumerate() {
        if touches(index, version) {
            device.write(offset, &bytes(index, len, version)).await?;
        }
    }
    device.flush().await?;
    Ok(())
}

/// Checks that `device` holds version `version`, with zeros beside the spots.
pub async fn expect(device: &Device, version: u64, what: &str) -> Check {
    for (index, (offset, len)) in SPOTS.into_iter().enumerate() {
        let holds = (0..=version).rev().find(|v| *v == 0 || touches(index, *v)).unwrap_or(0);
        let mut buf = vec![0xff; len as usize];
        device.read(offset, &mut buf).await?;
        ensure(buf == bytes(index, len, holds), || {
            format!("{what}: {len} bytes at {offset} are not those of version {holds} (of {version})")
        })?;
    }
    for (offset, len) in [(8 * KIB, 8 * KIB), (200 * MIB, MIB), (1000 * MIB, 64 * KIB)] {
        expect_zeros(device, offset, len, what).await?;
    }
    Ok(())
}

/// Checks that a stretch reads as zeros.
pub async fn expect_zeros(device: &Device, offset: u64, len: u64, what: &str) -> Check {
    let mut buf = vec![0xff; len as usize];
    device.read(offset, &mut buf).await?;
    ensure(buf.iter().all(|b| *b == 0), || format!("{what}: {len} bytes at {offset} are not zeros"))
}

/// Opens a volume for writing.
pub async fn open(driver: &SharedDriver, volume: &VolumeRef) -> Check<Device> {
    Ok(driver.open(Openable::Volume(volume), OpenMode::Write).await?)
}

/// Checks a volume that is not open.
pub async fn expect_volume(driver: &SharedDriver, volume: &VolumeRef, version: u64, what: &str) -> Check {
    let device = driver.open(Openable::Volume(volume), OpenMode::Read).await?;
    ensure(device.size() == volume.size.bytes(), || {
        format!("{what}: the volume has {} bytes, not {}", device.size(), volume.size.bytes())
    })?;
    expect(&device, version, what).await
}

/// Checks a snapshot.
pub async fn expect_snapshot(
    driver: &SharedDriver,
    snapshot: &SnapshotRef,
    version: u64,
    what: &str,
) -> Check {
    let device = driver.open(Openable::Snapshot(snapshot), OpenMode::Read).await?;
    ensure(device.size() == snapshot.size.bytes(), || {
        format!("{what}: the snapshot has {} bytes, not {}", device.size(), snapshot.size.bytes())
    })?;
    expect(&device, version, what).await
}
