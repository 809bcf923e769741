//! Snapshots of groups under load: what hosts wrote to several volumes, one after the other, is on the copies in that order.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use control::group::{Door, NewGroup, NewGroupFrom, Origin, UpdateGroup};
use control::group_snapshot::NewGroupSnapshot;
use control::group_type::NewGroupType;
use drivers::{Driver as _, OpenMode, Openable};
use iscsi::RemoteLun;
use model::block::BlockDevice as _;
use model::{Attachment, Group, GroupSnapshotStatus, GroupStatus, Volume, VolumeId, VolumeStatus};
use support::{Part, Process, Site, admin, attach, initiator, member};
use tokio::task::JoinHandle;

const BLOCK: usize = 4096;

async fn attached(process: &Process, id: VolumeId) -> Attachment {
    let one = process.cloud.attachment_create(&member(), attach(id, "h1", None)).await.expect("attaches");
    process.cloud.attachment_complete(&member(), one.id).await.expect("completes");
    one
}

/// A group with these volumes in it.
async fn group(process: &Process, volumes: &[&Volume]) -> Group {
    let cloud = &process.cloud;
    let specs = BTreeMap::from([("consistent_group_snapshot_enabled".to_owned(), Some("<is> True".into()))]);
    let kind = NewGroupType { name: "together".into(), description: None, is_public: true, specs };
    let kind = cloud.group_type_create(&admin(), kind).await.expect("a type");
    let wanted = NewGroup {
        name: None,
        description: None,
        group_type: Some(kind.id.to_string()),
        volume_types: vec![volumes[0].type_id.to_string()],
        availability_zone: None,
    };
    let group = cloud.group_create(&member(), wanted).await.expect("accepted");
    process.settled().await;
    let ids: Vec<String> = volumes.iter().map(|volume| volume.id.to_string()).collect();
    let wanted = UpdateGroup { add_volumes: Some(ids.join(",")), ..UpdateGroup::default() };
    cloud.group_update(&member(), group.id, wanted, Door::Generic).await.expect("adds");
    cloud.group_show(&member(), group.id, Door::Generic).await.expect("is there")
}

fn number(block: &[u8]) -> u64 {
    let (head, tail) = (&block[..8], &block[BLOCK - 8..]);
    assert_eq!(head, tail, "a block that was written in part");
    u64::from_le_bytes(head.try_into().expect("eight bytes"))
}

/// Writes 1, 2, 3, ... to the first LUN and, once that is acknowledged, to the second, until it is told to stop.
struct Writer {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Writer {
    fn start(first: Arc<RemoteLun>, second: Arc<RemoteLun>) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (stop.clone(), done.clone());
        let task = tokio::spawn(async move {
            for n in 1u64.. {
                let block = n.to_le_bytes().repeat(BLOCK / 8);
                first.write(0, &block).await.expect("writes");
                second.write(0, &block).await.expect("writes");
                count.store(n, Ordering::Release);
                if stopped.load(Ordering::Acquire) {
                    return;
                }
            }
        });
        Self { stop, done, task }
    }

    fn written(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    /// Waits until it has come some way further.
    async fn goes_on(&self) {
        let from = self.written();
        while self.written() < from + 5 {
            assert!(!self.task.is_finished(), "the writer has ended");
            tokio::task::yield_now().await;
        }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Release);
        self.task.await.expect("the writer ends well");
    }
}

/// The numbers on the copies of two volumes in a group snapshot.
async fn numbers(process: &Process, whole: model::GroupSnapshotId, order: [VolumeId; 2]) -> [u64; 2] {
    let mut found = [0; 2];
    let rows = db::group_snapshot::snapshots(&mut process.cloud.db.read(), whole).await.expect("reads");
    for row in rows {
        let at = order.iter().position(|id| *id == row.volume_id).expect("one of ours");
        let reference = control::snapshot::reference(&row, &process.see(row.volume_id).await);
        let device =
            process.driver.open(Openable::Snapshot(&reference), OpenMode::Read).await.expect("opens");
        let mut block = vec![0; BLOCK];
        device.read(0, &mut block).await.expect("reads");
        found[at] = number(&block);
    }
    found
}

async fn snapshot(process: &Process, group: &Group) -> model::GroupSnapshotId {
    let wanted = NewGroupSnapshot { group_id: group.id, name: None, description: None };
    let cloud = &process.cloud;
    let whole = cloud.group_snapshot_create(&member(), wanted, Door::Generic).await.expect("accepted");
    process.settled().await;
    let whole = cloud.group_snapshot_show(&member(), whole.id, Door::Generic).await.expect("is there");
    assert_eq!(whole.status, GroupSnapshotStatus::Available);
    whole.id
}

fn in_order([first, second]: [u64; 2]) {
    assert!(first >= second, "the copies show {second} on the second without {first} being as far");
    assert!(first <= second + 1, "the copies show {first} and {second}: an acknowledged write is missing");
}

/// What the test is about, with the two volumes named in either order: the order in which they are frozen must not matter.
async fn never_the_later_without_the_earlier(process: &Process, first: &Volume, second: &Volume) {
    let group = group(process, &[first, second]).await;
    let (one, two) = (attached(process, first.id).await, attached(process, second.id).await);
    let first_lun = RemoteLun::connect(initiator(&one)).await.expect("logs in");
    let second_lun = RemoteLun::connect(initiator(&two)).await.expect("logs in");
    let writer = Writer::start(first_lun, second_lun);
    let order = [first.id, second.id];
    let mut last = 0;
    for _ in 0..8 {
        writer.goes_on().await;
        let before = writer.written();
        let whole = snapshot(process, &group).await;
        let found = numbers(process, whole, order).await;
        in_order(found);
        assert!(found[1] >= before, "what was acknowledged before is there");
        assert!(found[1] > last, "the writer went on in between");
        last = found[1];
        // Its overlays are merged away while the writer goes on.
        process.cloud.group_snapshot_delete(&member(), whole, Door::Generic).await.expect("accepted");
        process.settled().await;
    }
    // A copy of the whole group, of what it holds now, while it is written to.
    writer.goes_on().await;
    let wanted = NewGroupFrom { name: None, description: None, origin: Origin::Group(group.id) };
    let copy = process.cloud.group_create_from(&member(), wanted, Door::Generic).await.expect("accepted");
    process.settled().await;
    let copy = process.cloud.group_show(&member(), copy.id, Door::Generic).await.expect("is there");
    assert_eq!(copy.status, GroupStatus::Available);
    let mut found = [0; 2];
    for volume in db::volume_group::volumes(&mut process.cloud.db.read(), copy.id).await.expect("reads") {
        assert_eq!(volume.status, VolumeStatus::Available);
        let at = order.iter().position(|id| Some(*id) == volume.source_volid).expect("a copy of ours");
        let reference = control::volume::reference(&volume);
        let device = process.driver.open(Openable::Volume(&reference), OpenMode::Read).await.expect("opens");
        let mut block = vec![0; BLOCK];
        device.read(0, &mut block).await.expect("reads");
        found[at] = number(&block);
    }
    in_order(found);
    assert!(found[1] > last, "the copy is of later than the snapshots");
    writer.end().await;
    for attachment in [one, two] {
        process.cloud.attachment_delete(&member(), attachment.id).await.expect("detaches");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_two_luns_never_show_the_later_write_without_the_earlier() {
    for turned in [false, true] {
        let site = Site::new();
        let process = site.start().await;
        let (mut first, mut second) = (process.volume(false).await, process.volume(false).await);
        if (first.id < second.id) == turned {
            std::mem::swap(&mut first, &mut second);
        }
        never_the_later_without_the_earlier(&process, &first, &second).await;
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_nobody_serves_is_frozen_where_the_others_are_open() {
    let site = Site::new();
    let volume_service = site.start_parts(&[Part::Volume]).await;
    let target = site.start_parts(&[Part::Target]).await;
    let (served, idle) = (volume_service.volume(false).await, volume_service.volume(false).await);
    let group = group(&volume_service, &[&served, &idle]).await;
    let attachment = attached(&volume_service, served.id).await;
    let lun = RemoteLun::connect(initiator(&attachment)).await.expect("logs in");
    lun.write(0, &7u64.to_le_bytes().repeat(BLOCK / 8)).await.expect("writes");
    let whole = snapshot(&volume_service, &group).await;
    assert!(target.driver.calls("create_snapshots") > 0);
    assert_eq!(volume_service.driver.calls("create_snapshots"), 0);
    assert_eq!(numbers(&target, whole, [served.id, idle.id]).await, [7, 0]);
    volume_service.cloud.group_snapshot_delete(&member(), whole, Door::Generic).await.expect("accepted");
    volume_service.settled().await;
    volume_service.cloud.attachment_delete(&member(), attachment.id).await.expect("detaches");
    volume_service.settled().await;
    // With nothing served any more it is the volume service's.
    let whole = snapshot(&volume_service, &group).await;
    assert!(volume_service.driver.calls("create_snapshots") > 0);
    assert_eq!(numbers(&volume_service, whole, [served.id, idle.id]).await, [7, 0]);
    target.leave().await;
    volume_service.stop().await;
}
