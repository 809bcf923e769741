//! Our initiator against our target.

#![allow(clippy::unwrap_used)] // test code

mod support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use iscsi::{
    Access, Credential, Grant, InitiatorConfig, InitiatorError, InitiatorLimits, Limits, RemoteLun, Target,
    TargetConfig, TargetError, send_targets,
};
use model::{BlockDevice, Extent, ExtentKind, Secret};
use support::device::{Memory, SparseFile};
use support::gated::Gated;
use support::*;

const MIB: usize = 1 << 20;

fn status_of(result: Result<Arc<RemoteLun>, InitiatorError>) -> (u8, u8) {
    match result {
        Err(InitiatorError::Refused { class, detail, .. }) => (class, detail),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn what_is_written_is_read() {
    let device = Memory::new(64 * MIB);
    let target = serving(device.clone()).await;
    let lun = connect(&target).await;
    assert_eq!(lun.size(), 64 * MIB as u64);
    for (offset, len) in [
        (0, 512),
        (4096, 4096),
        (MIB, 8 * MIB),
        (512, 300 * 1024),
        (40 * MIB, 20 * MIB),
        (3, 5),
        (1000, 70_000),
    ] {
        let data = pattern(len, offset as u64);
        lun.write(offset as u64, &data).await.unwrap();
        let mut back = vec![0; len];
        lun.read(offset as u64, &mut back).await.unwrap();
        assert!(back == data, "at {offset}, {len} bytes");
        assert!(device.bytes(offset, len) == data, "on the medium at {offset}");
    }
    lun.flush().await.unwrap();
    lun.close().await.unwrap();
    target.shutdown().await;
}

#[tokio::test]
async fn digests_protect_headers_and_data() {
    let target = serving(Memory::new(8 * MIB)).await;
    let lun = RemoteLun::connect(InitiatorConfig { digests: true, ..config(&target) }).await.unwrap();
    for (offset, len) in [(0, 512), (512, 2 * MIB), (4 * MIB, 1024)] {
        let data = pattern(len, 3);
        lun.write(offset as u64, &data).await.unwrap();
        let mut back = vec![0; len];
        lun.read(offset as u64, &mut back).await.unwrap();
        assert!(back == data);
    }
    target.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_do_not_mix() {
    let target = serving(Memory::new(16 * MIB)).await;
    let lun = connect(&target).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64u64 {
        let lun = lun.clone();
        tasks.spawn(async move {
            let offset = n * 256 * 1024;
            for round in 0..20u64 {
                let len = 512 * (1 + (n * 31 + round * 17) as usize % 500);
                let data = pattern(len, n * 1000 + round);
                lun.write(offset, &data).await.unwrap();
                let mut back = vec![0; len];
                lun.read(offset, &mut back).await.unwrap();
                assert!(back == data, "worker {n}, round {round}");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    target.shutdown().await;
}

#[tokio::test]
async fn out_of_range_is_refused_and_changes_nothing() {
    let device = Memory::new(MIB);
    let target = serving(device.clone()).await;
    let lun = connect(&target).await;
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(lun.write(MIB as u64 - 512, &[1; 1024]).await), io::ErrorKind::InvalidInput);
    assert_eq!(kind(lun.read(u64::MAX - 5, &mut [0; 512]).await), io::ErrorKind::InvalidInput);
    assert_eq!(kind(lun.discard(0, 2 * MIB as u64).await), io::ErrorKind::InvalidInput);
    assert_eq!(device.bytes(0, MIB), vec![0; MIB]);
    target.shutdown().await;
}

/// I8: only who is on the list, only with its secret.
#[tokio::test]
async fn only_entitled_initiators_get_in() {
    let target = target().await;
    let ours = chap("user-a", "a secret of 20 bytes");
    let list = vec![grant("iqn.a:1", Some(ours.clone())), grant("iqn.b:1", None)];
    target.put(export(Memory::new(MIB), Access::List(list))).await.unwrap();
    try_connect(&target, "iqn.a:1", Some(ours.clone())).await.unwrap();
    try_connect(&target, "iqn.b:1", None).await.unwrap();
    let wrong = chap("user-a", "another secret, 20 b");
    let unknown = chap("user-b", "a secret of 20 bytes");
    assert_eq!(status_of(try_connect(&target, "iqn.a:1", Some(wrong)).await), (2, 1));
    assert_eq!(status_of(try_connect(&target, "iqn.a:1", Some(unknown)).await), (2, 1));
    assert_eq!(status_of(try_connect(&target, "iqn.a:1", None).await), (2, 1));
    assert_eq!(status_of(try_connect(&target, "iqn.c:1", Some(ours)).await), (2, 2));
    target.shutdown().await;
}

#[tokio::test]
async fn the_target_proves_itself_when_asked() {
    let target = target().await;
    let mut both = chap("user-a", "a secret of 20 bytes");
    both.mutual =
        Some(Credential { user: "target".into(), secret: Secret::new("the target's secret".into()) });
    target.put(export(Memory::new(MIB), Access::Chap(both.clone()))).await.unwrap();
    try_connect(&target, HOST, Some(both.clone())).await.unwrap();
    // Whoever does not ask for the proof is served too.
    try_connect(&target, HOST, Some(chap("user-a", "a secret of 20 bytes"))).await.unwrap();
    let mut mistaken = both.clone();
    mistaken.mutual =
        Some(Credential { user: "target".into(), secret: Secret::new("some other secret".into()) });
    let refused = try_connect(&target, HOST, Some(mistaken)).await;
    assert!(matches!(refused, Err(InitiatorError::TargetNotProved)), "{refused:?}");
    target.shutdown().await;
}

#[tokio::test]
async fn bad_orders_are_refused() {
    let target = Target::bind(TargetConfig::new(vec!["0.0.0.0:0".parse().unwrap()])).await.unwrap();
    let refused = target.put(open(Memory::new(MIB))).await;
    assert!(matches!(refused, Err(TargetError::OpenBeyondLoopback(_))), "{refused:?}");
    let short = target.put(export(Memory::new(MIB), Access::Chap(chap("u", "short")))).await;
    assert!(matches!(short, Err(TargetError::BadSecret)), "{short:?}");
    let mut twice = export(Memory::new(MIB), Access::List(Vec::new()));
    twice.luns.push(twice.luns[0].clone());
    assert!(matches!(target.put(twice).await, Err(TargetError::BadLun(0, _))));
    let mut unnamed = export(Memory::new(MIB), Access::List(Vec::new()));
    unnamed.iqn = "not a name".into();
    assert!(matches!(target.put(unnamed).await, Err(TargetError::BadName(_))));
    assert!(target.exports().is_empty());
}

#[tokio::test]
async fn discovery_shows_what_one_may_see() {
    let target = target().await;
    for n in 0..300 {
        let mut one = export(Memory::new(MIB), Access::List(vec![grant(HOST, None)]));
        one.iqn =
            format!("iqn.2010-10.org.openstack:volume-{n:03}-with-a-name-that-takes-some-room-in-the-answer");
        target.put(one).await.unwrap();
    }
    let mut hidden = export(Memory::new(MIB), Access::List(vec![grant("iqn.other:1", None)]));
    hidden.iqn = "iqn.2010-10.org.openstack:hidden".into();
    target.put(hidden).await.unwrap();
    let found = send_targets(&portal(&target), HOST, None).await.unwrap();
    assert_eq!(found.len(), 300);
    assert!(found.iter().all(|one| one.portals == [(portal(&target), 1)]));
    assert_eq!(send_targets(&portal(&target), "iqn.nobody:1", None).await.unwrap(), []);
    target.shutdown().await;
}

#[tokio::test]
async fn discovery_can_want_a_proof() {
    let ours = chap("finder", "a secret of 20 bytes");
    let mut config = TargetConfig::new(vec!["127.0.0.1:0".parse().unwrap()]);
    config.discovery = Some(ours.clone());
    let target = Target::bind(config).await.unwrap();
    target.start();
    target.put(open(Memory::new(MIB))).await.unwrap();
    assert_eq!(send_targets(&portal(&target), HOST, Some(&ours)).await.unwrap().len(), 1);
    let refused = send_targets(&portal(&target), HOST, None).await;
    assert!(matches!(refused, Err(InitiatorError::Refused { class: 2, detail: 1, .. })), "{refused:?}");
    target.shutdown().await;
}

#[tokio::test]
async fn a_connected_initiator_sees_the_device_grow() {
    let device = Memory::new(MIB);
    let target = serving(device.clone()).await;
    let (one, two) = (connect(&target).await, connect(&target).await);
    device.grow(2 * MIB);
    target.capacity_changed(IQN, 0).unwrap();
    // Any request brings the news.
    one.read(0, &mut [0; 512]).await.unwrap();
    assert_eq!(one.size(), 2 * MIB as u64);
    assert_eq!(two.refresh_size().await.unwrap(), 2 * MIB as u64);
    one.write(MIB as u64, &[7; 4096]).await.unwrap();
    assert_eq!(device.bytes(MIB, 4096), [7; 4096]);
    assert!(target.capacity_changed(IQN, 9).is_err());
    target.shutdown().await;
}

#[tokio::test]
async fn a_read_only_grant_cannot_write() {
    let device = Memory::new(MIB);
    let target = target().await;
    let list = vec![Grant { read_only: true, ..grant("iqn.reader:1", None) }, grant("iqn.writer:1", None)];
    target.put(export(device.clone(), Access::List(list))).await.unwrap();
    let reader = try_connect(&target, "iqn.reader:1", None).await.unwrap();
    let writer = try_connect(&target, "iqn.writer:1", None).await.unwrap();
    assert!(reader.read_only() && !writer.read_only());
    assert_eq!(reader.write(0, &[1; 512]).await.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    writer.write(0, &[2; 512]).await.unwrap();
    let mut back = [0; 512];
    reader.read(0, &mut back).await.unwrap();
    assert_eq!(back, [2; 512]);
    target.shutdown().await;
}

#[tokio::test]
async fn holes_are_seen_and_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    std::fs::File::create(&path).unwrap().set_len(16 * MIB as u64).unwrap();
    let target = serving(SparseFile::open(&path).unwrap()).await;
    let lun = connect(&target).await;
    let hole = lun.block_status(0, 16 * MIB as u64).await.unwrap();
    assert_eq!(hole, Extent { length: 16 * MIB as u64, kind: ExtentKind::Hole });
    lun.write(4 * MIB as u64, &pattern(2 * MIB, 1)).await.unwrap();
    assert_eq!(lun.block_status(0, 16 * MIB as u64).await.unwrap().length, 4 * MIB as u64);
    assert_eq!(lun.block_status(5 * MIB as u64, 512).await.unwrap().kind, ExtentKind::Data);
    // Whole pages are given back, edges are zeroed.
    lun.discard(4 * MIB as u64 + 100, MIB as u64).await.unwrap();
    let mut back = vec![1; MIB];
    lun.read(4 * MIB as u64 + 100, &mut back).await.unwrap();
    assert!(back.iter().all(|byte| *byte == 0));
    let inside = lun.block_status(4 * MIB as u64 + 8192, 4096).await.unwrap();
    assert_eq!(inside.kind, ExtentKind::Hole);
    lun.write_zeroes(5 * MIB as u64, MIB as u64).await.unwrap();
    lun.read(5 * MIB as u64, &mut back).await.unwrap();
    assert!(back.iter().all(|byte| *byte == 0));
    target.shutdown().await;
}

fn impatient(target: &Target) -> InitiatorConfig {
    let limits = InitiatorLimits { reconnect: Duration::from_millis(200), ..InitiatorLimits::default() };
    InitiatorConfig { limits, ..config(target) }
}

/// I8: a removed export's sessions are cut, and no write of theirs can come afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn removal_waits_for_writes_in_flight() {
    let device = Gated::new(MIB);
    let target = serving(device.clone()).await;
    let lun = RemoteLun::connect(impatient(&target)).await.unwrap();
    let write = tokio::spawn({
        let lun = lun.clone();
        async move { lun.write(0, &[9; 4096]).await }
    });
    device.entered(1).await;
    let removal = tokio::spawn({
        let target = target.clone();
        async move { target.remove(IQN).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!removal.is_finished(), "a write was still in the device");
    device.gate.add_permits(1);
    removal.await.unwrap();
    assert_eq!(device.left.load(Ordering::SeqCst), 1);
    assert!(target.sessions().is_empty());
    assert_eq!(Arc::strong_count(&device), 1, "the device is dropped");
    assert!(write.await.unwrap().is_err());
    target.shutdown().await;
}

/// I8: whoever loses its right is out when `put` returns; the others do not notice.
#[tokio::test]
async fn a_changed_list_cuts_only_who_lost_its_right() {
    let device: model::block::Device = Memory::new(MIB);
    let target = target().await;
    let secret = chap("a", "a secret of 20 bytes");
    let both = vec![grant("iqn.a:1", Some(secret.clone())), grant("iqn.b:1", None)];
    target.put(export(device.clone(), Access::List(both.clone()))).await.unwrap();
    let lun_a = {
        let config =
            InitiatorConfig { initiator: "iqn.a:1".into(), chap: Some(secret), ..impatient(&target) };
        RemoteLun::connect(config).await.unwrap()
    };
    let lun_b = try_connect(&target, "iqn.b:1", None).await.unwrap();
    let tsih = |name: &str| target.sessions().iter().find(|s| s.initiator == name).map(|s| s.tsih);
    let before = tsih("iqn.b:1");
    // The same again changes nothing.
    target.put(export(device.clone(), Access::List(both))).await.unwrap();
    assert_eq!(target.sessions().len(), 2);
    target.put(export(device, Access::List(vec![grant("iqn.b:1", None)]))).await.unwrap();
    assert_eq!((tsih("iqn.a:1"), tsih("iqn.b:1")), (None, before));
    lun_b.write(0, &[1; 512]).await.unwrap();
    assert_eq!(lun_a.write(0, &[1; 512]).await.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    target.shutdown().await;
}

#[tokio::test]
async fn another_device_takes_a_units_place() {
    let (old, new) = (Memory::new(MIB), Memory::new(2 * MIB));
    let target = serving(old.clone()).await;
    let lun = connect(&target).await;
    lun.write(0, &[1; 512]).await.unwrap();
    target.put(open(new.clone())).await.unwrap();
    assert_eq!(Arc::strong_count(&old), 1, "the old device is dropped");
    lun.write(0, &[2; 512]).await.unwrap();
    assert_eq!((old.bytes(0, 1), new.bytes(0, 1)), (vec![1], vec![2]));
    target.shutdown().await;
}

/// I7: what was acknowledged is there after the target comes back; what was in flight is sent again; and the flush that
/// would have covered lost writes says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_target_is_found_again() {
    let device = Memory::new(4 * MIB);
    let first = serving(device.clone()).await;
    let address = first.portals()[0];
    let lun = connect(&first).await;
    lun.write(0, &[1; 4096]).await.unwrap();
    lun.flush().await.unwrap();
    lun.write(4096, &[2; 4096]).await.unwrap();
    first.shutdown().await;
    let writes = tokio::spawn({
        let lun = lun.clone();
        async move { lun.write(8192, &[3; 4096]).await }
    });
    let second = Target::bind(TargetConfig::new(vec![address])).await.unwrap();
    second.put(open(device.clone())).await.unwrap();
    second.start();
    writes.await.unwrap().unwrap();
    assert_eq!(device.bytes(8192, 4096), [3; 4096]);
    assert!(lun.flush().await.is_err(), "unflushed writes may be lost");
    lun.write(4096, &[2; 4096]).await.unwrap();
    lun.flush().await.unwrap();
    second.shutdown().await;
}

/// A connection that breaks is no power loss: the flush stays good.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_loses_nothing() {
    let device = Memory::new(4 * MIB);
    let target = serving(device.clone()).await;
    let lun = RemoteLun::connect(InitiatorConfig { isid: Some([0x80, 1, 2, 3, 4, 5]), ..config(&target) })
        .await
        .unwrap();
    lun.write(0, &[1; 4096]).await.unwrap();
    // Somebody with the same name and ISID takes the session over, and leaves.
    let twin = RemoteLun::connect(InitiatorConfig { isid: Some([0x80, 1, 2, 3, 4, 5]), ..config(&target) })
        .await
        .unwrap();
    twin.close().await.unwrap();
    lun.write(4096, &[2; 4096]).await.unwrap();
    lun.flush().await.unwrap();
    target.shutdown().await;
}

#[tokio::test]
async fn errors_of_the_device_reach_the_initiator() {
    let device = Gated::new(MIB);
    let target = serving(device.clone()).await;
    let lun = connect(&target).await;
    lun.read(0, &mut [0; 4096]).await.unwrap();
    device.broken.store(true, Ordering::SeqCst);
    assert!(lun.read(0, &mut [0; 4096]).await.is_err());
    device.broken.store(false, Ordering::SeqCst);
    lun.read(0, &mut [0; 4096]).await.unwrap();
    target.shutdown().await;
}

#[tokio::test]
async fn sessions_are_reported() {
    let target = serving(Memory::new(MIB)).await;
    let lun = connect(&target).await;
    lun.write(0, &[1; 8192]).await.unwrap();
    lun.read(0, &mut [0; 4096]).await.unwrap();
    let sessions = target.sessions();
    assert_eq!(sessions.len(), 1);
    assert_eq!((sessions[0].iqn.as_str(), sessions[0].initiator.as_str()), (IQN, HOST));
    assert_eq!(sessions[0].bytes_written, 8192);
    assert!(sessions[0].bytes_read >= 4096 && sessions[0].commands >= 2);
    lun.close().await.unwrap();
    until(|| target.sessions().is_empty()).await;
    target.shutdown().await;
}

#[tokio::test]
async fn sessions_are_bounded() {
    let target = target_with(Limits { sessions_per_target: 2, ..Limits::default() }).await;
    target.put(open(Memory::new(MIB))).await.unwrap();
    let _two = (connect(&target).await, connect(&target).await);
    assert_eq!(status_of(RemoteLun::connect(config(&target)).await), (3, 2));
    target.shutdown().await;
}
