//! What is on the disk is Cinder's layout and plain qcow2: QEMU's tools and another qcow2 library read the same bytes,
//! and overlays made by `qemu-img`, as Cinder makes them, work here.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::path::Path;
use std::sync::Arc;

use common::mount::run;
use common::{Rng, claim, driver, seed, snapshot, volume};
use drivers::file::FileDriver;
use drivers::{Driver, OpenMode, Openable, SnapshotRef, Source, VolumeRef};
use imago::file::File as ImagoFile;
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, Storage, StorageOpenOptions};
use model::block::Device;

const MIB: u64 = 1 << 20;

fn qemu(dir: &Path, program: &str, args: &[&str]) -> String {
    run("qemu-utils", dir, program, args)
}

async fn scribble(device: &Device, rng: &mut Rng) {
    for _ in 0..40 {
        let len = 512 * (1 + rng.below(300));
        let at = rng.below((1 << 30) - len) / 512 * 512;
        let at = if rng.once_in(2) { at % (4 * MIB) } else { at };
        if rng.once_in(5) {
            device.discard(at, len).await.unwrap();
        } else {
            let data: Vec<u8> = (0..len).map(|i| (i / 512) as u8 ^ rng.next() as u8).collect();
            device.write(at, &data).await.unwrap();
        }
    }
    device.flush().await.unwrap();
}

/// Everything a device reads as, in a file.
async fn dump(device: &Device, to: &Path) {
    let file = std::fs::File::create(to).unwrap();
    file.set_len(device.size()).unwrap();
    let mut buf = vec![0; MIB as usize];
    for i in 0..device.size() / MIB {
        device.read(i * MIB, &mut buf).await.unwrap();
        if buf.iter().any(|b| *b != 0) {
            std::os::unix::fs::FileExt::write_all_at(&file, &buf, i * MIB).unwrap();
        }
    }
}

async fn with_chain(here: &FileDriver, rng: &mut Rng) -> (VolumeRef, Vec<SnapshotRef>) {
    let v = volume(1);
    here.create_volume(&v, Source::Blank, &claim()).await.unwrap();
    let device = here.open(Openable::Volume(&v), OpenMode::Write).await.unwrap();
    let mut snapshots = Vec::new();
    for _ in 0..3 {
        scribble(&device, rng).await;
        let s = snapshot(&v);
        here.create_snapshot(&s, &claim()).await.unwrap();
        snapshots.push(s);
    }
    scribble(&device, rng).await;
    (v, snapshots)
}

#[tokio::test(flavor = "multi_thread")]
async fn qemu_reads_what_we_write() {
    let mut rng = Rng::new(seed(3));
    let dir = tempfile::tempdir().unwrap();
    let here = driver(dir.path()).await;
    let (v, snapshots) = with_chain(&here, &mut rng).await;
    here.delete_snapshot(&snapshots[1], &claim()).await.unwrap();
    // A snapshot freezes and seals what is below it; the newest overlay of an open volume is marked dirty.
    let last = snapshot(&v);
    here.create_snapshot(&last, &claim()).await.unwrap();
    let expected = dir.path().join("expected");
    for (s, file) in [(&snapshots[2], 0), (&last, 2)] {
        let device = here.open(Openable::Snapshot(s), OpenMode::Read).await.unwrap();
        dump(&device, &expected).await;
        let image = format!("{}.{}", v.name, snapshots[file].id);
        let check = qemu(dir.path(), "qemu-img", &["check", &image]);
        assert!(check.contains("No errors were found"), "{check}");
        qemu(dir.path(), "qemu-img", &["compare", "-f", "raw", "-F", "qcow2", "expected", &image]);
    }
    let info: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(dir.path().join(format!("{}.info", v.name))).unwrap())
            .unwrap();
    assert_eq!(info["active"], format!("{}.{}", v.name, last.id));
    assert_eq!(info[snapshots[0].id.to_string()], format!("{}.{}", v.name, snapshots[0].id));
    assert_eq!(info.as_object().unwrap().len(), 4);
}

async fn imago_open(dir: &Path, name: &str) -> ImagoFile {
    ImagoFile::open(StorageOpenOptions::new().filename(dir.join(name))).await.unwrap()
}

#[tokio::test]
async fn another_library_reads_what_we_write() {
    let mut rng = Rng::new(seed(4));
    let dir = tempfile::tempdir().unwrap();
    let here = driver(dir.path()).await;
    let (v, snapshots) = with_chain(&here, &mut rng).await;
    let last = snapshot(&v);
    here.create_snapshot(&last, &claim()).await.unwrap();
    let device = here.open(Openable::Snapshot(&last), OpenMode::Read).await.unwrap();

    let base = imago_open(dir.path(), &v.name).await;
    let mut chain =
        Arc::new(FormatAccess::new(Raw::builder(base).open(DenyImplicitOpenGate::default()).await.unwrap()));
    for s in &snapshots {
        let file = imago_open(dir.path(), &format!("{}.{}", v.name, s.id)).await;
        let image = Qcow2::<ImagoFile, Arc<FormatAccess<ImagoFile>>>::builder(file).backing(Some(chain));
        chain = Arc::new(FormatAccess::new(image.open(DenyImplicitOpenGate::default()).await.unwrap()));
    }
    assert_eq!(chain.size(), device.size());
    let (mut ours, mut theirs) = (vec![0; MIB as usize], vec![0; MIB as usize]);
    for i in 0..device.size() / MIB {
        device.read(i * MIB, &mut ours).await.unwrap();
        chain.read(&mut theirs[..], i * MIB).await.unwrap();
        assert!(ours == theirs, "MiB {i} differs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn we_use_what_cinder_made() {
    let mut rng = Rng::new(seed(5));
    let dir = tempfile::tempdir().unwrap();
    let here = driver(dir.path()).await;
    let v = volume(1);
    here.create_volume(&v, Source::Blank, &claim()).await.unwrap();
    let device = here.open(Openable::Volume(&v), OpenMode::Write).await.unwrap();
    scribble(&device, &mut rng).await;
    drop(device);
    // reference/drivers.md 6: create over the full path, rebase to the bare name, record it.
    let s = snapshot(&v);
    let file = format!("{}.{}", v.name, s.id);
    let base = dir.path().join(&v.name);
    let backing = format!("backing_file={},backing_fmt=raw", base.display());
    qemu(dir.path(), "qemu-img", &["create", "-q", "-f", "qcow2", "-o", &backing, &file, "1G"]);
    qemu(dir.path(), "qemu-img", &["rebase", "-q", "-u", "-b", &v.name, "-F", "raw", &file]);
    for i in 0..8 {
        let write = format!("write -q -P {} {}k 96k", 10 + i, i * 7000);
        qemu(dir.path(), "qemu-io", &["-f", "qcow2", "-c", &write, &file]);
    }
    let info = format!("{{\n \"{}\": \"{file}\",\n \"active\": \"{file}\"\n}}", s.id);
    std::fs::write(dir.path().join(format!("{}.info", v.name)), info).unwrap();

    let device = here.open(Openable::Volume(&v), OpenMode::Write).await.unwrap();
    dump(&device, &dir.path().join("expected")).await;
    qemu(dir.path(), "qemu-img", &["compare", "-f", "raw", "-F", "qcow2", "expected", &file]);
    scribble(&device, &mut rng).await;
    let next = snapshot(&v);
    here.create_snapshot(&next, &claim()).await.unwrap();
    let check = qemu(dir.path(), "qemu-img", &["check", &file]);
    assert!(check.contains("No errors were found"), "{check}");
    dump(&device, &dir.path().join("expected")).await;
    here.delete_snapshot(&s, &claim()).await.unwrap();
    here.delete_snapshot(&next, &claim()).await.unwrap();
    drop(device);
    // Merged to the raw file, as Cinder would leave it.
    qemu(dir.path(), "qemu-img", &["compare", "-f", "raw", "-F", "raw", "expected", &v.name]);
    assert!(!dir.path().join(format!("{}.info", v.name)).exists());
}
