//! One suite for every kind of store.
#![allow(clippy::unwrap_used)] // a test

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use backup::store::{PosixStore, RemoteStore, SharedStore};
use backup::{
    CreateBackup, ErrorKind, Naming, PosixConfig, Restore, TargetState, create, delete, restore, verify,
};
use bytes::Bytes;
use common::{Bench, Dice, MemoryDevice};
use model::BackupId;
use model::job::Claim;

fn stores(directory: &Path) -> Vec<(&'static str, SharedStore)> {
    let posix = PosixStore::new(directory.join("posix"));
    let (root, staging) = (directory.join("remote"), directory.join("staging"));
    std::fs::create_dir_all(&root).unwrap();
    let service = opendal::services::Fs::default()
        .root(root.to_str().unwrap())
        .atomic_write_dir(staging.to_str().unwrap());
    let remote = RemoteStore::new(opendal::Operator::new(service).unwrap());
    vec![("posix", Arc::new(posix)), ("remote", Arc::new(remote))]
}

async fn put(store: &SharedStore, container: &str, name: &str, data: &[u8]) {
    let mut upload = store.create(container, name, "run-1").await.unwrap();
    upload.write(Bytes::copy_from_slice(data)).await.unwrap();
    upload.finish().await.unwrap();
}

async fn get(store: &SharedStore, container: &str, name: &str) -> backup::Result<Vec<u8>> {
    let mut download = store.open(container, name).await?;
    let mut all = Vec::new();
    while let Some(piece) = download.next().await? {
        assert!(!piece.is_empty() && piece.len() <= backup::store::READ_SIZE);
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

async fn list(store: &SharedStore, container: &str, prefix: &str) -> Vec<String> {
    let mut listing = store.list(container, prefix).await.unwrap();
    let mut all = Vec::new();
    while let Some(names) = listing.next().await.unwrap() {
        assert!(!names.is_empty());
        all.extend(names);
    }
    all.sort();
    all
}

#[tokio::test]
async fn objects_are_whole_or_invisible() {
    let directory = common::scratch();
    for (kind, store) in stores(directory.path()) {
        store.start().await.unwrap();
        assert!(list(&store, "a/b", "").await.is_empty(), "{kind}: no such container yet");
        store.prepare("a/b").await.unwrap();
        store.prepare("a/b").await.unwrap();
        let mut upload = store.create("a/b", "x-1", "run-1").await.unwrap();
        upload.write(Bytes::from_static(b"half")).await.unwrap();
        assert!(list(&store, "a/b", "").await.is_empty(), "{kind}: unfinished");
        assert_eq!(get(&store, "a/b", "x-1").await.unwrap_err().kind(), ErrorKind::NotFound, "{kind}");
        upload.abort().await.unwrap();
        drop(store.create("a/b", "x-1", "run-1").await.unwrap());
        assert!(list(&store, "a/b", "").await.is_empty(), "{kind}: dropped");
        put(&store, "a/b", "x-1", b"one").await;
        put(&store, "a/b", "x-1", b"two").await;
        assert_eq!(get(&store, "a/b", "x-1").await.unwrap(), b"two", "{kind}: replaced");
        put(&store, "a/b", "empty", b"").await;
        assert_eq!(get(&store, "a/b", "empty").await.unwrap(), b"", "{kind}");
        store.settle("a/b").await.unwrap();
    }
}

#[tokio::test]
async fn long_objects_and_zeros_read_back() {
    let directory = common::scratch();
    for (kind, store) in stores(directory.path()) {
        store.prepare("c").await.unwrap();
        let data = Dice::new(1).noise(3_000_001);
        let mut upload = store.create("c", "long", "run-1").await.unwrap();
        upload.write(Bytes::from(data.clone())).await.unwrap();
        upload.write_zeroes(2_500_000).await.unwrap();
        upload.write(Bytes::from_static(b"end")).await.unwrap();
        upload.write_zeroes(5).await.unwrap();
        upload.finish().await.unwrap();
        let expected = [&data[..], &vec![0; 2_500_000], b"end", &[0; 5]].concat();
        assert!(get(&store, "c", "long").await.unwrap() == expected, "{kind}");
    }
}

#[tokio::test]
async fn listing_and_deletion_go_by_name() {
    let directory = common::scratch();
    for (kind, store) in stores(directory.path()) {
        store.prepare("c").await.unwrap();
        for number in 0..1100 {
            put(&store, "c", &format!("p-{number:05}"), b"").await;
        }
        put(&store, "c", "q", b"").await;
        assert_eq!(list(&store, "c", "p-").await.len(), 1100, "{kind}");
        assert_eq!(list(&store, "c", "").await.len(), 1101, "{kind}");
        assert_eq!(list(&store, "c", "p-0000").await.len(), 10, "{kind}");
        assert!(list(&store, "c", "z").await.is_empty(), "{kind}");
        let mut listing = store.list("c", "p-").await.unwrap();
        while let Some(names) = listing.next().await.unwrap() {
            for name in names {
                store.delete("c", &name).await.unwrap();
                store.delete("c", &name).await.unwrap(); // gone is gone
            }
        }
        assert_eq!(list(&store, "c", "").await, ["q"], "{kind}");
        for (container, name) in [("..", "q"), ("c", "../q"), ("c", ".hidden"), ("/c", "q")] {
            assert_eq!(store.open(container, name).await.unwrap_err().kind(), ErrorKind::Invalid, "{kind}");
            assert_eq!(store.delete(container, name).await.unwrap_err().kind(), ErrorKind::Invalid, "{kind}");
            assert!(store.create(container, name, "r").await.is_err(), "{kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_lives_in_any_store_under_both_naming_rules() {
    let directory = common::scratch();
    for (kind, store) in stores(directory.path()) {
        let objects = Naming::Objects { container: "volumebackups".into(), availability_zone: "nova".into() };
        let namings = match kind {
            "posix" => {
                vec![Naming::Posix { container: None }, Naming::Posix { container: Some("all".into()) }]
            }
            _ => vec![Naming::Posix { container: None }, objects],
        };
        for naming in namings {
            let mut bench = Bench::new("zlib");
            let device = Arc::new(MemoryDevice::new(300_000));
            for seed in 0..3 {
                device.put(70_000 * seed, &Dice::new(seed as u64).text(80_000));
                let backup = BackupId::new();
                let (naming, store) = (naming.clone(), store.clone());
                let request = CreateBackup { naming, store, ..bench.request(backup, device.clone()) };
                let made = create(request, &Claim::unbounded()).await.unwrap();
                bench.push(backup, &made);
            }
            let target = Arc::new(MemoryDevice::new(300_000));
            let (chain, state) = (bench.chain.clone(), TargetState::New);
            let request = Restore { store: store.clone(), chain, target: target.clone(), state };
            restore(request, &Claim::unbounded()).await.unwrap();
            assert!(target.bytes() == device.bytes(), "{kind} {naming:?}");
            for level in bench.chain.iter().rev() {
                let claim = Claim::unbounded();
                let found = verify(&*store, &level.container, &level.prefix, &claim).await.unwrap();
                assert!(found.is_sound(), "{kind} {naming:?}: {found:?}");
                delete(&*store, &level.container, &level.prefix).await.unwrap();
                assert!(list(&store, &level.container, &level.prefix).await.is_empty());
            }
        }
    }
}

#[tokio::test]
async fn posix_modes_are_cinders_whatever_the_umask() {
    let directory = common::scratch();
    let store: SharedStore = Arc::new(PosixStore::new(directory.path()));
    store.prepare("ab/cd/abcd").await.unwrap();
    put(&store, "ab/cd/abcd", "x", b"x").await;
    let mode =
        |path: &str| std::fs::metadata(directory.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("ab/cd/abcd"), mode("ab/cd/abcd/x")), (0o770, 0o660));
}

#[tokio::test]
async fn posix_containers_are_made_only_where_allowed() {
    let directory = common::scratch();
    let text = directory.path().to_str().unwrap().to_owned();
    let get = |name: &str| match name {
        "backup_posix_path" => Some(text.clone()),
        "backup_create_containers" => Some("False".into()),
        _ => None,
    };
    let config = PosixConfig::from_options(get, Path::new("/unused")).unwrap();
    let store: SharedStore = Arc::new(PosixStore::from_config(&config));
    assert_eq!(store.prepare("a").await.unwrap_err().kind(), ErrorKind::NotFound);
    std::fs::create_dir(directory.path().join("a")).unwrap();
    store.prepare("a").await.unwrap();
    store.tidy("a").await.unwrap();
    assert!(directory.path().join("a").is_dir());
}

#[tokio::test]
async fn a_store_that_cannot_be_written_says_so_at_start() {
    let directory = common::scratch();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let store: SharedStore = Arc::new(PosixStore::new(&file));
    assert_eq!(store.start().await.unwrap_err().kind(), ErrorKind::Store);
}
