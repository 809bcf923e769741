//! Images that a tenant made to read or fill what is not theirs: each is refused before anything follows it (I7).

#![allow(clippy::unwrap_used)]

mod support;

use std::fs::File;
use std::path::Path;

use image::inspect::{Refusal, Rules, check_signatures, inspect};
use image::{DiskFormat, Error};
use model::job::Claim;
use proptest::prelude::*;
use support::{Memory, content, converter, packed, qemu_img};

const MIB: usize = 1 << 20;

fn rules(room: u64) -> Rules {
    Rules { room, vmdk_types: vec!["streamOptimized".into(), "monolithicSparse".into()] }
}

fn reason(path: &Path, declared: DiskFormat) -> String {
    match inspect(&File::open(path).unwrap(), declared, &rules(64 << 20)) {
        Err(Refusal::Unacceptable(reason)) => reason,
        other => panic!("{declared}: {other:?}"),
    }
}

/// A patched copy of an image.
fn patched(path: &Path, patch: impl FnOnce(&mut Vec<u8>)) -> std::path::PathBuf {
    let mut bytes = std::fs::read(path).unwrap();
    patch(&mut bytes);
    let changed = path.with_extension("patched");
    std::fs::write(&changed, bytes).unwrap();
    changed
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    assert!(to.len() <= from.len());
    let at = bytes.windows(from.len()).position(|window| window == from).expect("the words are there");
    bytes[at..at + from.len()].fill(b' ');
    bytes[at..at + to.len()].copy_from_slice(to);
}

#[test]
fn cve_2024_32498_qcow2_with_a_backing_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    qemu_img(at, &["create", "-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw", "backed", "1M"]);
    assert!(reason(&at.join("backed"), DiskFormat::Qcow2).contains("backing file"));
}

#[test]
fn cve_2024_32498_a_data_file_counts_by_its_bit_and_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    qemu_img(at, &["create", "-f", "qcow2", "-o", "data_file=secret,data_file_raw=on", "data", "1M"]);
    assert!(reason(&at.join("data"), DiskFormat::Qcow2).contains("data file"));
    // Without the bit, the name alone.
    let unset = patched(&at.join("data"), |bytes| bytes[79] &= !4);
    assert!(reason(&unset, DiskFormat::Qcow2).contains("data file"));
    // Without the name, the bit alone.
    qemu_img(at, &["create", "-f", "qcow2", "plain", "1M"]);
    let set = patched(&at.join("plain"), |bytes| bytes[79] |= 4);
    assert!(reason(&set, DiskFormat::Qcow2).contains("data file"));
}

#[test]
fn cve_2022_47951_vmdk_that_names_other_files_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for kind in ["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"] {
        qemu_img(at, &["create", "-f", "vmdk", "-o", &format!("subformat={kind}"), kind, "1M"]);
        assert!(reason(&at.join(kind), DiskFormat::Vmdk).contains("text descriptor"), "{kind}");
        assert!(reason(&at.join(kind), DiskFormat::Raw).contains("vmdk"), "{kind}");
    }
    qemu_img(at, &["create", "-f", "vmdk", "-o", "subformat=monolithicSparse", "sparse.vmdk", "1M"]);
    let sparse = at.join("sparse.vmdk");
    assert_eq!(inspect(&File::open(&sparse).unwrap(), DiskFormat::Vmdk, &rules(64 << 20)).unwrap(), 1 << 20);
    let flat = patched(&sparse, |bytes| replace(bytes, b"SPARSE \"sparse.vmdk\"", b"FLAT \"/etc/pass\" 0"));
    assert!(reason(&flat, DiskFormat::Vmdk).contains("not sparse"));
    let path = patched(&sparse, |bytes| replace(bytes, b"\"sparse.vmdk\"", b"\"/etc/passwd\""));
    assert!(reason(&path, DiskFormat::Vmdk).contains("names a path"));
    let other = patched(&sparse, |bytes| replace(bytes, b"monolithicSparse", b"monolithicFlat\""));
    assert!(reason(&other, DiskFormat::Vmdk).contains("monolithicFlat"));
    // A header without a size has programs follow the descriptor's extents.
    let empty = patched(&sparse, |bytes| bytes[12..20].fill(0));
    assert!(reason(&empty, DiskFormat::Vmdk).contains("no size"));
    let parent = patched(&sparse, |bytes| replace(bytes, b"parentCID=ffffffff", b"parentCID=00000000"));
    assert!(reason(&parent, DiskFormat::Vmdk).contains("parent"));
    let hint = patched(&sparse, |bytes| {
        bytes[21 * 512 - 40..][..36].copy_from_slice(b"parentFileNameHint=\"/etc/passwd\"    ")
    });
    assert!(reason(&hint, DiskFormat::Vmdk).contains("parent"));
    let twice =
        patched(&sparse, |bytes| bytes[20 * 512..][..26].copy_from_slice(b"createType=\"monolithicFla\""));
    assert!(reason(&twice, DiskFormat::Vmdk).contains("createType"));
}

#[tokio::test]
async fn cve_2026_24708_what_a_guest_wrote_is_raw_whatever_it_looks_like() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("secret"), b"not yours").unwrap();
    let secret = at.join("secret").display().to_string();
    qemu_img(at, &["create", "-f", "qcow2", "-u", "-b", &secret, "-F", "raw", "header", "1M"]);
    let mut guest = std::fs::read(at.join("header")).unwrap();
    guest.resize(2 * MIB, 0);
    let (_, device) = Memory::of(guest.clone());
    let converter = converter(at);
    for format in [DiskFormat::Qcow2, DiskFormat::Vmdk] {
        let file = converter.scratch().await.unwrap();
        converter.pack(&device, format, &file, &Claim::unbounded()).await.unwrap();
        let (memory, back) = Memory::dirty(2 * MIB);
        let holds = converter.unpack("i", file, format, &back, &Claim::unbounded()).await.unwrap();
        assert_eq!(holds, 2 << 20);
        assert!(memory.bytes() == guest, "{format} changed what the guest wrote");
    }
    // Nor is such a thing taken as a raw image.
    assert!(reason(&at.join("header"), DiskFormat::Raw).contains("qcow2"));
}

#[test]
fn content_never_decides_the_format() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let bytes = content(MIB);
    for (format, declared) in [("qcow2", DiskFormat::Qcow2), ("vmdk", DiskFormat::Vmdk)] {
        let path = packed(at, &bytes, format, &[]);
        for other in [DiskFormat::Raw, DiskFormat::Iso, DiskFormat::Qcow2, DiskFormat::Vmdk] {
            let seen = inspect(&File::open(&path).unwrap(), other, &rules(64 << 20));
            assert_eq!(seen.is_ok(), other == declared, "{format} declared {other}");
        }
    }
    for format in ["qed", "vdi", "vhdx", "vpc", "parallels"] {
        let path = packed(at, &bytes, format, &[]);
        assert!(reason(&path, DiskFormat::Raw).contains("disk_format is raw"), "{format}");
    }
}

#[test]
fn a_cd_that_is_something_else_too_is_refused() {
    let mut cd = vec![0; 64 << 10];
    cd[0x8001..0x8006].copy_from_slice(b"CD001");
    for declared in [DiskFormat::Iso, DiskFormat::Raw] {
        check_signatures(&cd, declared).unwrap();
    }
    // A boot sector or partition table before it is what bootable CDs have.
    cd[510..512].copy_from_slice(&[0x55, 0xaa]);
    check_signatures(&cd, DiskFormat::Iso).unwrap();
    for mark in [&b"QFI\xfb"[..], b"KDMV", b"# Disk DescriptorFile", b"conectix", b"vhdxfile"] {
        let mut both = cd.clone();
        both[..mark.len()].copy_from_slice(mark);
        for declared in [DiskFormat::Iso, DiskFormat::Raw, DiskFormat::Qcow2, DiskFormat::Vmdk] {
            assert!(check_signatures(&both, declared).is_err(), "{mark:?} {declared}");
        }
    }
}

#[test]
fn partition_tables_are_part_of_a_raw_image() {
    let mut disk = vec![0; 64 << 10];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[512..520].copy_from_slice(b"EFI PART");
    check_signatures(&disk, DiskFormat::Raw).unwrap();
}

#[tokio::test]
async fn what_unpacks_to_more_than_the_volume_is_refused_before_it_is_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for format in ["qcow2", "vmdk"] {
        qemu_img(at, &["create", "-f", format, format, "1T"]);
        let (memory, device) = Memory::dirty(MIB);
        let file = File::open(at.join(format)).unwrap();
        let declared = format.parse().unwrap();
        let refused = converter(at).unpack("i", file, declared, &device, &Claim::unbounded()).await;
        assert!(
            matches!(refused, Err(Error::TooBig { needed: 0x100_0000_0000, room: 0x10_0000, .. })),
            "{format}: {refused:?}"
        );
        assert!(memory.bytes().iter().all(|byte| *byte == 0xa5));
    }
}

/// A header that says little and tables that refer to one cluster over and over: bounded by what the volume has room for.
#[tokio::test]
async fn tables_that_lie_end_the_conversion_not_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let path = packed(at, &content(MIB), "qcow2", &["-c"]);
    for seed in 0..12_u64 {
        let broken = patched(&path, |bytes| {
            let length = bytes.len() as u64;
            for step in 1..200 {
                let place = 512 + (seed * 7919 + step * 104_729) % (length - 512);
                bytes[place as usize] = (seed * 31 + step) as u8;
            }
        });
        let (_, device) = Memory::dirty(MIB);
        // Whatever comes of it, it comes to an end and stays within the volume.
        let _ = converter(at)
            .unpack("i", File::open(broken).unwrap(), DiskFormat::Qcow2, &device, &Claim::unbounded())
            .await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_header_makes_inspection_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..70_000), which in 0..4_usize) {
        let declared = [DiskFormat::Raw, DiskFormat::Iso, DiskFormat::Qcow2, DiskFormat::Vmdk][which];
        let mark: &[u8] = [&b""[..], b"", b"QFI\xfb\0\0\0\x03", b"KDMV\x01\0\0\0"][which];
        if bytes.len() >= mark.len() {
            bytes[..mark.len()].copy_from_slice(mark);
        }
        let _ = inspect(&bytes[..], declared, &rules(1 << 30));
    }
}
