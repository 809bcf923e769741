//! Damaged and hostile backups are refused, clearly and in bounded memory.
#![allow(clippy::unwrap_used)] // a test

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use backup::{Error, ErrorKind, TargetState, verify};
use common::{Bench, Dice, MemoryDevice};
use model::job::Claim;
use proptest::prelude::*;
use serde_json::{Value, json};

const SIZE: usize = 300_000;

/// A bench with one full backup in four objects of 64 KiB and a fifth shorter one.
async fn backed_up(compression: &str) -> (Bench, Arc<MemoryDevice>) {
    let mut bench = Bench::new(compression);
    let device = Arc::new(MemoryDevice::new(SIZE));
    device.put(0, &Dice::new(7).text(SIZE));
    bench.back_up(device.clone()).await;
    (bench, device)
}

/// Restores into a used volume; answers the error and whether the volume is as it was.
async fn refused(bench: &Bench) -> (Error, bool) {
    let target = Arc::new(MemoryDevice::filled(SIZE, 0xa5));
    let error = bench.restore_to(target.clone(), TargetState::Used).await.unwrap_err();
    (error, target.bytes().iter().all(|byte| *byte == 0xa5))
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

/// The fields of object `index`, whatever its name.
fn object(metadata: &mut Value, index: usize) -> &mut Value {
    metadata["objects"][index].as_object_mut().unwrap().values_mut().next().unwrap()
}

fn rename(metadata: &mut Value, index: usize, name: &str) {
    let fields = object(metadata, index).take();
    metadata["objects"][index] = json!({ name: fields });
}

#[tokio::test]
async fn metadata_that_breaks_a_rule_is_refused_before_anything_is_written() {
    type Change = fn(&mut Value);
    let edits: &[(&str, Change)] = &[
        ("unknown version", |m| m["version"] = "2.0.0".into()),
        ("no version", |m| drop(m.as_object_mut().unwrap().remove("version"))),
        ("version of another type", |m| m["version"] = 1.into()),
        ("no objects", |m| drop(m.as_object_mut().unwrap().remove("objects"))),
        ("empty list", |m| m["objects"] = json!([])),
        ("objects of another type", |m| m["objects"] = json!({})),
        ("object of another type", |m| m["objects"][1] = json!([])),
        ("object without name", |m| m["objects"][1] = json!({})),
        ("length too long", |m| object(m, 4)["length"] = (SIZE as u64).into()),
        ("length absurd", |m| object(m, 4)["length"] = u64::MAX.into()),
        ("length zero", |m| object(m, 4)["length"] = 0.into()),
        ("length negative", |m| object(m, 4)["length"] = (-1).into()),
        ("length a fraction", |m| object(m, 4)["length"] = json!(1.5)),
        ("offset absurd", |m| object(m, 4)["offset"] = (u64::MAX - 10).into()),
        ("offset beyond", |m| object(m, 4)["offset"] = (1_u64 << 40).into()),
        ("overlap", |m| object(m, 1)["offset"] = 0.into()),
        ("gap", |m| object(m, 1)["offset"] = 70_000.into()),
        ("compression unknown", |m| object(m, 1)["compression"] = "lzma".into()),
        ("md5 short", |m| object(m, 1)["md5"] = "00".into()),
        ("md5 missing", |m| drop(object(m, 1).as_object_mut().unwrap().remove("md5"))),
        ("path traversal", |m| rename(m, 1, "../../../../etc/passwd")),
        ("absolute path", |m| rename(m, 1, "/etc/passwd")),
        ("foreign name", |m| rename(m, 1, "volume_x-00002")),
        ("order", |m| m["objects"].as_array_mut().unwrap().swap(0, 1)),
        ("twice", |m| m["objects"][1] = m["objects"][0].clone()),
        ("one too few", |m| drop(m["objects"].as_array_mut().unwrap().pop())),
        ("other backup", |m| m["backup_id"] = "3e165958-5169-462c-8b74-7273b1912aef".into()),
        ("a parent", |m| m["parent_id"] = "3e165958-5169-462c-8b74-7273b1912aef".into()),
        ("volume_meta of another type", |m| m["volume_meta"] = json!({})),
    ];
    let (bench, _) = backed_up("zlib").await;
    let path = bench.object("_metadata");
    let good = fs::read(&path).unwrap();
    for (what, change) in edits {
        edit(&path, change);
        let (error, untouched) = refused(&bench).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
        assert!(untouched, "{what}");
        fs::write(&path, &good).unwrap();
    }
    edit(&path, |m| m["something_new"] = json!({"a": [1, 2, {"b": null}]}));
    let target = Arc::new(MemoryDevice::new(SIZE));
    bench.restore_to(target, TargetState::New).await.unwrap(); // more than we know is no damage
}

#[tokio::test]
async fn metadata_that_is_no_metadata_is_refused() {
    let (bench, _) = backed_up("zlib").await;
    let path = bench.object("_metadata");
    let good = fs::read(&path).unwrap();
    let half = &good[..good.len() / 2];
    let deep = [b"[".repeat(1_000_000), b"{\"a\":".repeat(1_000_000)];
    let twice = String::from_utf8(good.clone()).unwrap().replacen(
        "\"version\"",
        "\"version\": \"1.0.0\", \"version\"",
        1,
    );
    let mut trailing = good.clone();
    trailing.extend_from_slice(b"{}");
    let junk: [&[u8]; 9] =
        [b"", b"null", b"[]", b"\xff\xfe", half, &deep[0], &deep[1], twice.as_bytes(), &trailing];
    for text in junk {
        fs::write(&path, text).unwrap();
        let (error, untouched) = refused(&bench).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(untouched && error.to_string().len() < 1000);
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(refused(&bench).await.0.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn the_list_of_objects_must_be_exact() {
    let (bench, _) = backed_up("zlib").await;
    let extra = bench.object("-00006");
    fs::write(&extra, "x").unwrap();
    let (error, untouched) = refused(&bench).await;
    assert!(error.to_string().starts_with(
        "restore_backup aborted, actual object list does not match object list stored in metadata."
    ));
    assert!(untouched && error.kind() == ErrorKind::Corrupt);
    fs::remove_file(&extra).unwrap();
    fs::write(bench.object("-note"), "x").unwrap();
    assert_eq!(refused(&bench).await.0.kind(), ErrorKind::Corrupt);
    fs::remove_file(bench.object("-note")).unwrap();
    fs::remove_file(bench.object("-00003")).unwrap();
    let (error, untouched) = refused(&bench).await;
    assert!(untouched && error.kind() == ErrorKind::Corrupt);
}

#[tokio::test]
async fn damaged_objects_are_found_by_restore_and_check() {
    for compression in ["none", "zlib", "bz2", "zstd"] {
        let (bench, _) = backed_up(compression).await;
        let path = bench.object("-00002");
        let good = fs::read(&path).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        let mut longer = good.clone();
        longer.push(0);
        for (what, data) in [
            ("flipped bit", &flipped[..]),
            ("truncated", &good[..good.len() - 1]),
            ("longer", &longer),
            ("empty", b""),
            ("another object", &fs::read(bench.object("-00003")).unwrap()),
        ] {
            fs::write(&path, data).unwrap();
            let (error, _) = refused(&bench).await;
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{compression}, {what}: {error}");
            assert!(error.to_string().contains("-00002"), "{error}");
            let level = bench.chain.last().unwrap();
            let found =
                verify(&*bench.store(), &level.container, &level.prefix, &Claim::unbounded()).await.unwrap();
            assert_eq!(found.problem_count, 1, "{compression}, {what}: {found:?}");
            assert!(found.problems[0].object.ends_with("-00002"));
        }
    }
}

#[tokio::test]
async fn a_damaged_object_changes_none_of_its_blocks() {
    let (bench, device) = backed_up("none").await;
    let path = bench.object("-00002");
    let mut data = fs::read(&path).unwrap();
    data[60_000] ^= 1;
    fs::write(&path, data).unwrap();
    let target = Arc::new(MemoryDevice::filled(SIZE, 0xa5));
    let error = bench.restore_to(target.clone(), TargetState::Used).await.unwrap_err();
    let (now, chunk) = (target.bytes(), 65_536);
    assert!(now[chunk..2 * chunk].iter().all(|byte| *byte == 0xa5));
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    // What has been written by then, if anything, is the backup's, and is reported.
    let Error::Partial { written, total, .. } = error else { return };
    let restored = now.iter().zip(device.bytes()).filter(|(now, then)| **now == *then).count();
    assert!(restored as u64 >= written && written > 0 && total == SIZE as u64);
}

#[tokio::test]
async fn links_and_pipes_in_place_of_objects_are_not_followed() {
    let (bench, _) = backed_up("none").await;
    let path = bench.object("-00002");
    let aside = bench.root().join("aside");
    fs::rename(&path, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &path).unwrap();
    assert_eq!(refused(&bench).await.0.kind(), ErrorKind::Store);
    fs::remove_file(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    assert_eq!(refused(&bench).await.0.kind(), ErrorKind::Store);
}

#[tokio::test]
async fn chains_that_do_not_belong_together_are_refused() {
    let (mut bench, device) = backed_up("zlib").await;
    device.put(0, b"one");
    bench.back_up(device.clone()).await;
    device.put(0, b"two");
    bench.back_up(device).await;
    let chain = bench.chain.clone();
    for picks in [vec![0, 2], vec![1, 2], vec![1], vec![0, 2, 1], vec![0, 0], vec![]] {
        bench.chain = picks.iter().map(|pick| chain[*pick].clone()).collect();
        let (error, untouched) = refused(&bench).await;
        let expected = if picks.is_empty() { ErrorKind::Invalid } else { ErrorKind::Corrupt };
        assert_eq!(error.kind(), expected, "{picks:?}: {error}");
        assert!(untouched);
    }
    bench.chain = chain;
    bench.chain[0].container = "../elsewhere".into();
    assert_eq!(refused(&bench).await.0.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_backup_larger_than_the_volume_is_refused() {
    let (bench, _) = backed_up("zlib").await;
    let target = Arc::new(MemoryDevice::filled(SIZE - 1, 0xa5));
    let error = bench.restore_to(target.clone(), TargetState::Used).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(target.bytes().iter().all(|byte| *byte == 0xa5));
}

#[tokio::test]
async fn a_hash_file_that_lies_is_found_by_the_check() {
    let (bench, _) = backed_up("zlib").await;
    let path = bench.object("_sha256file");
    let good = fs::read(&path).unwrap();
    type Change = fn(&mut Value);
    let edits: &[(&str, Change)] = &[
        ("other hash", |h| h["sha256s"][20] = "00".repeat(32).into()),
        ("one less", |h| drop(h["sha256s"].as_array_mut().unwrap().pop())),
        ("one more", |h| h["sha256s"].as_array_mut().unwrap().push("00".repeat(32).into())),
        ("no hash", |h| h["sha256s"][0] = "x".into()),
        ("block size", |h| h["chunk_size"] = 0.into()),
        ("version", |h| h["version"] = "0".into()),
        ("other backup", |h| h["backup_id"] = "x".into()),
    ];
    let level = bench.chain.last().unwrap();
    for (what, change) in edits {
        edit(&path, change);
        let found =
            verify(&*bench.store(), &level.container, &level.prefix, &Claim::unbounded()).await.unwrap();
        assert!(!found.is_sound(), "{what}");
        fs::write(&path, &good).unwrap();
    }
    let found = verify(&*bench.store(), &level.container, &level.prefix, &Claim::unbounded()).await.unwrap();
    assert!(found.is_sound());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever is done to the control files, what a restore calls done is what was backed up.
    #[test]
    fn i7_no_edit_of_the_metadata_restores_other_bytes(
        edits in proptest::collection::vec((any::<usize>(), edit_kind()), 1..4),
    ) {
        static BENCH: std::sync::OnceLock<(Bench, Arc<MemoryDevice>, Vec<u8>)> = std::sync::OnceLock::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            if BENCH.get().is_none() {
                let (bench, device) = backed_up("zlib").await;
                let text = fs::read(bench.object("_metadata")).unwrap();
                let _ = BENCH.set((bench, device, text));
            }
            let (bench, device, good) = BENCH.get().unwrap();
            let mut text = good.clone();
            for (at, edit) in edits {
                let at = at % text.len();
                match edit {
                    Edit::Set(byte) => text[at] = byte,
                    Edit::Remove(count) => drop(text.drain(at..(at + count).min(text.len()))),
                    Edit::Repeat(count) => {
                        let part = text[at..(at + count).min(text.len())].to_vec();
                        text.splice(at..at, part);
                    }
                }
                if text.is_empty() {
                    break;
                }
            }
            fs::write(bench.object("_metadata"), &text).unwrap();
            let target = Arc::new(MemoryDevice::filled(SIZE, 0xa5));
            match bench.restore_to(target.clone(), TargetState::Used).await {
                Ok(_) => assert!(target.bytes() == device.bytes()),
                Err(error) => assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid), "{error}"),
            }
            let level = &bench.chain[0];
            verify(&*bench.store(), &level.container, &level.prefix, &Claim::unbounded()).await.unwrap();
        });
    }
}

#[derive(Debug, Clone)]
enum Edit {
    Set(u8),
    Remove(usize),
    Repeat(usize),
}

fn edit_kind() -> impl Strategy<Value = Edit> {
    let byte = prop_oneof![proptest::sample::select(&b"0123456789\"\\{}[],:-abcxe. "[..]), any::<u8>()];
    prop_oneof![
        byte.prop_map(Edit::Set),
        (1_usize..200).prop_map(Edit::Remove),
        (1_usize..400).prop_map(Edit::Repeat)
    ]
}

/// Gigabytes of zeros, packed.
fn bomb(compression: &str, gib: usize) -> Vec<u8> {
    let zeros = vec![0; 1 << 20];
    match compression {
        "zlib" => {
            let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            (0..gib << 10).for_each(|_| out.write_all(&zeros).unwrap());
            out.finish().unwrap()
        }
        "bz2" => {
            let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
            (0..64).for_each(|_| out.write_all(&zeros).unwrap());
            out.finish().unwrap().repeat(gib << 4)
        }
        _ => {
            let mut out = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            (0..gib << 10).for_each(|_| out.write_all(&zeros).unwrap());
            out.finish().unwrap()
        }
    }
}

#[tokio::test]
async fn packed_data_is_not_unpacked_beyond_its_length() {
    for compression in ["zlib", "bz2", "zstd"] {
        let (bench, _) = backed_up(compression).await;
        fs::write(bench.object("-00001"), bomb(compression, 2)).unwrap();
        let (error, _) = refused(&bench).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        // Refused at the first byte too many, not after unpacking all of it.
        assert!(error.to_string().contains("holds more than 65536 bytes"), "{error}");
    }
}
