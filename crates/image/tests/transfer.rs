//! Images to volumes and back: bytes arrive as they are, and what breaks on the way is noticed.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs::File;
use std::time::Duration;

use image::{DiskFormat, Error, Fetch, Image, Options, fetch};
use model::JobId;
use model::job::{Claim, Stop};
use support::{Memory, answer, content, converter, options, packed, peer, record};

const MIB: usize = 1 << 20;

async fn fetched(
    answers: Vec<Vec<u8>>,
    image: &Image,
    room: usize,
    options: &Options,
) -> (Vec<u8>, Result<u64, Error>) {
    let glance = peer(answers, options).await;
    let (memory, device) = Memory::dirty(room);
    let converter = image::Converter::new(options);
    let wanted = Fetch { glance: &glance, token: &None, converter: &converter, image, device: &device };
    let done = fetch(wanted, &Claim::unbounded()).await;
    (memory.bytes(), done)
}

#[tokio::test]
async fn a_raw_image_is_the_volume_and_zeros_follow_it() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = content(3 * MIB - 12_345);
    let answers = vec![answer(200, bytes.len(), &bytes)];
    let (volume, done) = fetched(answers, &record(bytes.len()), 5 * MIB, &options(folder.path())).await;
    assert_eq!(done.unwrap(), bytes.len() as u64);
    assert!(volume[..bytes.len()] == bytes[..], "the image is not in the volume");
    assert!(volume[bytes.len()..].iter().all(|byte| *byte == 0), "old bytes after the image");
}

#[tokio::test]
async fn each_format_holds_what_was_packed() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = content(3 * MIB);
    let cases = [
        ("qcow2", vec![]),
        ("qcow2", vec!["-c"]),
        ("qcow2", vec!["-o", "compat=0.10"]),
        ("qcow2", vec!["-o", "extended_l2=on,cluster_size=128k"]),
        ("vmdk", vec!["-o", "subformat=monolithicSparse"]),
        ("vmdk", vec!["-o", "subformat=streamOptimized"]),
    ];
    for (format, more) in cases {
        let data = std::fs::read(packed(folder.path(), &bytes, format, &more)).unwrap();
        let image = Image { disk_format: Some(format.into()), ..record(data.len()) };
        let answers = vec![answer(200, data.len(), &data)];
        let (volume, done) = fetched(answers, &image, 4 * MIB, &options(folder.path())).await;
        assert_eq!(done.unwrap(), bytes.len() as u64, "{format} {more:?}");
        assert!(volume[..bytes.len()] == bytes[..], "{format} {more:?}");
        assert!(volume[bytes.len()..].iter().all(|byte| *byte == 0), "{format} {more:?}");
    }
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "conversion leaves nothing behind: {left:?}");
}

#[tokio::test]
async fn a_broken_stream_is_asked_for_again_and_then_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = content(2 * MIB);
    let half = answer(200, bytes.len(), &bytes[..MIB]);
    let answers = vec![half.clone(), answer(503, 0, b""), answer(200, bytes.len(), &bytes)];
    let (volume, done) = fetched(answers, &record(bytes.len()), 2 * MIB, &options(folder.path())).await;
    done.unwrap();
    assert!(volume == bytes);
    let (_, done) = fetched(vec![half; 3], &record(bytes.len()), 2 * MIB, &options(folder.path())).await;
    assert!(matches!(done, Err(Error::Away { .. })), "{done:?}");
}

#[tokio::test]
async fn a_stream_that_stalls_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { timeout: Duration::from_millis(200), retries: 0, ..options(folder.path()) };
    let (_, done) = fetched(Vec::new(), &record(MIB), MIB, &options).await;
    assert!(matches!(done, Err(Error::Away { .. })), "{done:?}");
}

#[tokio::test]
async fn data_that_is_not_what_was_uploaded_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = content(MIB);
    let wrong = "00".repeat(64);
    let sha = Image { os_hash_algo: Some("sha512".into()), os_hash_value: Some(wrong), ..record(MIB) };
    let md5 = Image { checksum: Some("00".repeat(16)), ..record(MIB) };
    // What is not known falls back to what is.
    let unknown =
        Image { os_hash_algo: Some("blake9".into()), os_hash_value: Some("0".into()), ..md5.clone() };
    for image in [sha, md5, unknown] {
        let answers = vec![answer(200, MIB, &bytes)];
        let (_, done) = fetched(answers, &image, MIB, &options(folder.path())).await;
        assert!(matches!(done, Err(Error::Damaged { .. })), "{done:?}");
    }
    let answers = vec![answer(200, MIB, &bytes)];
    let (_, done) = fetched(answers, &record(MIB - 1), MIB, &options(folder.path())).await;
    assert!(matches!(done, Err(Error::Damaged { .. })), "{done:?}");
}

#[tokio::test]
async fn what_cannot_become_the_volume_is_refused_before_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let (_, done) = fetched(Vec::new(), &record(2 * MIB), MIB, &options).await;
    assert!(matches!(done, Err(Error::TooBig { .. })), "{done:?}");
    let queued = Image { status: "queued".into(), ..record(1) };
    let format = Image { disk_format: Some("vhd".into()), ..record(1) };
    let container = Image { container_format: Some("ova".into()), ..record(1) };
    for image in [queued, format, container] {
        let (_, done) = fetched(Vec::new(), &image, MIB, &options).await;
        assert!(matches!(done, Err(Error::Unacceptable { .. })), "{done:?}");
    }
    let disabled = Options { conversion_disabled: true, ..options };
    let image = Image { disk_format: Some("qcow2".into()), ..record(1) };
    let (_, done) = fetched(Vec::new(), &image, MIB, &disabled).await;
    assert!(matches!(done, Err(Error::Unacceptable { .. })), "{done:?}");
}

#[tokio::test]
async fn a_conversion_heeds_its_claim() {
    let folder = tempfile::tempdir().unwrap();
    let path = packed(folder.path(), &content(4 * MIB), "qcow2", &[]);
    let claim = Claim::new(JobId::new(), 1, Duration::from_secs(60));
    claim.cancel();
    let (_, device) = Memory::dirty(4 * MIB);
    let file = File::open(path).unwrap();
    let done = converter(folder.path()).unpack("i", file, DiskFormat::Qcow2, &device, &claim).await;
    assert!(matches!(done, Err(Error::Stopped(Stop::Cancelled))), "{done:?}");
}

#[tokio::test]
async fn an_unknown_image_is_not_found_and_a_foreign_answer_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let show = async |answers| peer(answers, &options).await.show("x", &None).await;
    assert!(matches!(show(vec![answer(404, 0, b"")]).await, Err(Error::NotFound(_))));
    assert!(matches!(show(vec![answer(403, 0, b"")]).await, Err(Error::NotFound(_))));
    assert!(matches!(show(vec![answer(401, 0, b"")]).await, Err(Error::Refused { status: 401, .. })));
    assert!(matches!(show(vec![answer(200, 2, b"[]")]).await, Err(Error::Unreadable(_))));
    assert!(matches!(show(vec![answer(200, 3, b"nul")]).await, Err(Error::Unreadable(_))));
}
