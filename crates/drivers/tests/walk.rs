//! One walk through everything the `file` driver does.

use drivers::file::{FileConfig, FileDriver};
use drivers::*;
use model::job::Claim;
use model::*;

fn vol(size: u32) -> VolumeRef {
    let id = VolumeId::new();
    VolumeRef { id, name: format!("volume-{id}"), size: GiB(size), provider: Provider::default() }
}
fn snap(v: &VolumeRef) -> SnapshotRef {
    let id = SnapshotId::new();
    SnapshotRef {
        id,
        name: format!("snapshot-{id}"),
        size: v.size,
        provider: Provider::default(),
        volume: v.clone(),
    }
}

#[tokio::test]
async fn a_volume_lives_its_life() {
    let dir = tempfile::tempdir().unwrap();
    let d = FileDriver::new(FileConfig::new(dir.path(), "local"));
    d.start().await.unwrap();
    let c = Claim::unbounded();
    let v = vol(1);
    d.create_volume(&v, Source::Blank, &c).await.unwrap();
    let dev = d.open(Openable::Volume(&v), OpenMode::Write).await.unwrap();
    dev.write(4096, &[1; 8192]).await.unwrap();
    let s = snap(&v);
    d.create_snapshot(&s, &c).await.unwrap();
    dev.write(5000, &[2; 10]).await.unwrap();
    dev.write(1 << 29, &[3; 200_000]).await.unwrap();
    dev.flush().await.unwrap();
    let v2 = vol(2);
    d.create_volume(&v2, Source::Volume(&v), &Claim::unbounded()).await.unwrap();
    let s2 = snap(&v);
    d.create_snapshot(&s2, &c).await.unwrap();
    let sd = d.open(Openable::Snapshot(&s), OpenMode::Read).await.unwrap();
    let mut b = [0; 8192];
    sd.read(4096, &mut b).await.unwrap();
    assert_eq!(b, [1; 8192]);
    dev.read(4096, &mut b).await.unwrap();
    assert_eq!(&b[904..914], [2; 10]);
    d.extend_volume(&v, GiB(3), &c).await.unwrap();
    assert_eq!(dev.size(), 3 << 30);
    assert_eq!(d.delete_snapshot(&s, &c).await.unwrap_err().kind, ErrorKind::Busy);
    drop(sd);
    d.delete_snapshot(&s, &c).await.unwrap();
    d.delete_snapshot(&s2, &c).await.unwrap();
    dev.read(4096, &mut b).await.unwrap();
    assert_eq!(&b[904..914], [2; 10]);
    assert_eq!(d.delete_volume(&v, &c).await.unwrap_err().kind, ErrorKind::Busy);
    drop(dev);
    let dev = d.open(Openable::Volume(&v2), OpenMode::Write).await.unwrap();
    dev.read(4096, &mut b).await.unwrap();
    assert_eq!(&b[904..914], [2; 10]);
    drop(dev);
    d.delete_volume(&v, &c).await.unwrap();
    d.delete_volume(&v2, &c).await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
