//! Manage and unmanage: files of the backend's directory become volumes and snapshots, and stop being that, with their bytes and
//! every counter; what is not certain to be a raw disk of nobody's is not touched.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use control::manageable::{Entry, Key, Kind, ListManageable};
use control::reconcile::{FindingKind, How};
use control::request::{
    DeleteVolume, ExtendVolume, ManageSnapshot, ManageVolume, MoveTo, NewType, NewVolume,
};
use control::{Context, volume};
use drivers::{Driver as _, ErrorKind, OpenMode, Openable};
use model::list::Direction;
use model::{GiB, Snapshot, SnapshotStatus, Volume, VolumeId, VolumeStatus};
use serde_json::{Value, json};

use crate::lab::{BACKEND, Lab, POOL, admin, text};

const GIB: u64 = 1 << 30;

fn named(name: &str) -> ManageVolume {
    ManageVolume {
        place: MoveTo::Host(POOL.into()),
        reference: json!({ "source-name": name }),
        name: Some("mine".into()),
        description: None,
        volume_type: None,
        availability_zone: None,
        bootable: true,
        metadata: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
    }
}

fn snapshot_named(volume: VolumeId, name: &str) -> ManageSnapshot {
    ManageSnapshot {
        volume_id: volume,
        reference: json!({ "source-name": name }),
        name: None,
        description: None,
        metadata: BTreeMap::new(),
    }
}

/// A raw file that somebody else has put there: 7s at its beginning and its end.
fn foreign(lab: &Lab, name: &str, bytes: u64) {
    let file = File::create_new(lab.files().join(name)).unwrap();
    file.set_len(bytes).unwrap();
    file.write_all_at(&[7; 4096], 0).unwrap();
    file.write_all_at(&[7; 512], bytes - 512).unwrap();
}

fn holds(lab: &Lab, name: &str) -> bool {
    lab.files().join(name).symlink_metadata().is_ok()
}

async fn managed(lab: &Lab, wanted: ManageVolume) -> Volume {
    let made = lab.cloud.volume_manage(&admin(), wanted).await.unwrap();
    assert_eq!((made.status, made.size), (VolumeStatus::Managing, GiB(0)));
    lab.rest(made.id).await;
    lab.volume_now(made.id).await.unwrap()
}

async fn read(lab: &Lab, of: Openable<'_>, offset: u64, length: usize) -> Vec<u8> {
    let device = lab.driver.open(of, OpenMode::Read).await.unwrap();
    let mut data = vec![1; length];
    device.read(offset, &mut data).await.unwrap();
    data
}

fn list(kind: Kind) -> ListManageable {
    ListManageable {
        kind,
        place: MoveTo::Host(BACKEND.into()),
        sort: vec![(Key::Reference, Direction::Ascending)],
        marker: None,
        limit: 1000,
        offset: 0,
    }
}

async fn listed(lab: &Lab, kind: Kind) -> Vec<Entry> {
    lab.cloud.manageable(&admin(), list(kind)).await.unwrap()
}

#[tokio::test]
async fn a_file_becomes_a_volume_and_stops_being_one_with_its_bytes() {
    let (lab, me) = (Lab::start().await, admin());
    foreign(&lab, "disk.img", GIB + GIB / 2);
    let made = managed(&lab, named("disk.img")).await;
    assert_eq!((made.status, made.size, made.bootable), (VolumeStatus::Available, GiB(2), true));
    assert_eq!((made.name.as_deref(), made.metadata["k"].as_str()), (Some("mine"), "v"));
    assert_eq!(made.host.as_ref().unwrap().to_string(), POOL);
    assert!(made.launched_at.is_some() && made.service_uuid.is_some());
    assert_eq!((lab.used(&me, "volumes").await, lab.used(&me, "gigabytes").await), ((1, 0), (2, 0)));
    assert_eq!(lab.used(&me, "gigabytes___DEFAULT__").await, (2, 0));
    assert_eq!(lab.pool().await, (2, 0));
    assert!(!holds(&lab, "disk.img"));
    let what = volume::reference(&made);
    assert_eq!(read(&lab, Openable::Volume(&what), 0, 4096).await, [7; 4096]);
    // Behind its end: zeros, up to whole GiB.
    let end = read(&lab, Openable::Volume(&what), GIB + GIB / 2 - 512, 1024).await;
    assert!(end[..512] == [7; 512] && end[512..] == [0; 512]);
    // As any other.
    let wanted = ExtendVolume { new_size: GiB(3), in_use: false };
    lab.cloud.volume_extend(&me, made.id, wanted).await.unwrap();
    lab.rest(made.id).await;
    lab.cloud.volume_unmanage(&me, made.id).await.unwrap();
    let now = lab.volume_now(made.id).await;
    assert!(now.is_none_or(|now| now.status == VolumeStatus::Unmanaging));
    lab.rest(made.id).await;
    assert!(lab.volume_now(made.id).await.is_none());
    assert_eq!((lab.used(&me, "volumes").await, lab.used(&me, "gigabytes").await), ((0, 0), (0, 0)));
    assert_eq!(lab.pool().await, (0, 0));
    // I5: housekeeping neither reports nor removes it.
    let report = lab.cloud.reconcile(&lab.node, How::Repair).await.unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
    let kept = format!("{}.unmanaged", made.backend_name());
    assert!(holds(&lab, &kept) && !holds(&lab, &made.backend_name()));
    // By the name that it had.
    let again = managed(&lab, named(&made.backend_name())).await;
    assert_eq!((again.status, again.size), (VolumeStatus::Available, GiB(3)));
    let what = volume::reference(&again);
    assert_eq!(read(&lab, Openable::Volume(&what), 0, 4096).await, [7; 4096]);
    lab.cloud.volume_delete(&me, again.id, DeleteVolume::default()).await.unwrap();
    lab.rest(again.id).await;
    assert!(!holds(&lab, &kept));
    lab.close().await;
}

/// I5, I7: a deleted volume's remains go, those of one that was given up never do, whatever its file is called.
#[tokio::test]
async fn what_was_given_up_is_nobodys_to_remove() {
    let (lab, me) = (Lab::start().await, admin());
    let (deleted, given) = (lab.volume(&me, 1).await, lab.volume(&me, 1).await);
    lab.cloud.volume_delete(&me, deleted.id, DeleteVolume::default()).await.unwrap();
    lab.cloud.volume_unmanage(&me, given.id).await.unwrap();
    lab.rest(deleted.id).await;
    lab.rest(given.id).await;
    // As a run would leave it that was held up for longer than its claim lasted.
    foreign(&lab, &deleted.backend_name(), GIB);
    std::fs::rename(
        lab.files().join(format!("{}.unmanaged", given.backend_name())),
        lab.files().join(given.backend_name()),
    )
    .unwrap();
    let report = lab.cloud.reconcile(&lab.node, How::Repair).await.unwrap();
    let counts = report.counts();
    assert_eq!(
        (counts.get(&FindingKind::Leaked), counts.get(&FindingKind::Unknown)),
        (Some(&1), Some(&1)),
        "{report:?}"
    );
    assert!(!holds(&lab, &deleted.backend_name()) && holds(&lab, &given.backend_name()));
    std::fs::remove_file(lab.files().join(given.backend_name())).unwrap();
    lab.close().await;
}

/// The driver says what each is; none of them is changed by having been asked for, or by the deletion of what did not come about.
#[tokio::test]
async fn what_is_not_certain_to_be_a_disk_is_not_touched() {
    let (lab, me) = (Lab::start().await, admin());
    foreign(&lab, "image", GIB);
    let image = File::options().write(true).open(lab.files().join("image")).unwrap();
    image.write_all_at(b"QFI\xfb\0\0\0\x03", 0).unwrap();
    foreign(&lab, "two", GIB);
    std::fs::hard_link(lab.files().join("two"), lab.files().join("names")).unwrap();
    File::create_new(lab.files().join("empty")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", lab.files().join("link")).unwrap();
    std::fs::create_dir(lab.files().join("directory")).unwrap();
    foreign(&lab, "locked", GIB);
    let locked = File::options().write(true).open(lab.files().join("locked")).unwrap();
    locked.try_lock().unwrap();
    let before = std::fs::read_dir(lab.files()).unwrap().count();
    for name in
        ["image", "two", "empty", "link", "directory", "locked", "missing", "../volumes/image", ".", "a/b"]
    {
        let made = managed(&lab, named(name)).await;
        assert_eq!((made.status, made.size), (VolumeStatus::ErrorManaging, GiB(0)), "{name}");
        lab.cloud.volume_delete(&me, made.id, DeleteVolume::default()).await.unwrap();
        lab.rest(made.id).await;
        assert!(lab.volume_now(made.id).await.is_none(), "{name}");
        assert_eq!(std::fs::read_dir(lab.files()).unwrap().count(), before, "{name}");
    }
    let wanted = ManageVolume { reference: Value::String("source-name".into()), ..named("") };
    assert_eq!(managed(&lab, wanted).await.status, VolumeStatus::ErrorManaging);
    let entries = listed(&lab, Kind::Volumes).await;
    let refused = |name: &str| {
        let entry = entries.iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("{name}"));
        entry.refusal.clone().unwrap_or_default()
    };
    assert!(refused("image").contains("qcow2") && refused("two").contains("2 names"));
    assert_eq!(lab.used(&me, "gigabytes").await, (0, 0));
    drop(locked);
    for name in ["image", "two", "names", "empty", "link", "locked"] {
        std::fs::remove_file(lab.files().join(name)).unwrap();
    }
    std::fs::remove_dir(lab.files().join("directory")).unwrap();
    lab.close().await;
}

#[tokio::test]
async fn what_the_request_must_not_ask_for_is_refused_at_once() {
    let (lab, me) = (Lab::start().await, admin());
    let there = lab.volume(&me, 1).await;
    let refused = async |wanted: ManageVolume| text(lab.cloud.volume_manage(&me, wanted).await);
    let at = |place: MoveTo| ManageVolume { place, ..named("x") };
    assert_eq!(
        refused(named(&there.backend_name())).await,
        "Unable to manage existing volume. The volume is already managed"
    );
    let of_type = |name: &str| ManageVolume { volume_type: Some(name.into()), ..named("x") };
    assert_eq!(refused(of_type("no")).await, "Invalid volume type: Cannot find requested 'no' volume type");
    assert_eq!(refused(at(MoveTo::Host("h@no#p".into()))).await, "Host 'h@no#p' not found");
    assert_eq!(refused(at(MoveTo::Cluster("c@no".into()))).await, "Cluster 'c@no' not found");
    let wanted =
        NewType { name: "secret".into(), description: None, is_public: true, extra_specs: BTreeMap::new() };
    let secret = lab.cloud.type_create(&me, wanted).await.unwrap().id;
    let mut tx = lab.cloud.db.begin().await.unwrap();
    let encrypt = "INSERT INTO encryption (created_at, deleted, encryption_id, volume_type_id, provider, control_location) \
                   VALUES ({utc}, FALSE, 'e', ?, 'luks', 'front-end')";
    tx.exec(db::sql::sql(encrypt).bind(secret)).await.unwrap();
    tx.exec(db::sql::sql("UPDATE services SET disabled = TRUE")).await.unwrap();
    lab.cloud.commit(tx).await.unwrap();
    assert_eq!(refused(of_type("secret")).await, "Managing to an encrypted volume type is not supported.");
    assert_eq!(refused(named("x")).await, "Service is unavailable at this time.");
    let mut tx = lab.cloud.db.begin().await.unwrap();
    tx.exec(db::sql::sql("UPDATE services SET disabled = FALSE")).await.unwrap();
    tx.exec(db::sql::sql("UPDATE volumes SET encryption_key_id = 'k'")).await.unwrap();
    lab.cloud.commit(tx).await.unwrap();
    let user = Context { project_id: "p".into(), is_admin: false, ..crate::lab::member("p") };
    assert!(text(lab.cloud.volume_manage(&user, named("x")).await).starts_with("Policy doesn't allow"));
    assert_eq!(text(lab.cloud.volume_unmanage(&me, there.id).await), "Unacceptable parameters.");
    assert_eq!(lab.told(&me).await[0].1, "unmanage volume:Unmanaging encrypted volumes is not supported.");
    let mut tx = lab.cloud.db.begin().await.unwrap();
    tx.exec(db::sql::sql("UPDATE volumes SET encryption_key_id = NULL")).await.unwrap();
    lab.cloud.commit(tx).await.unwrap();
    lab.snapshot(&me, there.id).await;
    assert!(text(lab.cloud.volume_unmanage(&me, there.id).await).contains("have snapshots"));
    let attached = lab.volume(&me, 1).await;
    lab.attach(attached.id).await;
    assert!(text(lab.cloud.volume_unmanage(&me, attached.id).await).contains("attached"));
    lab.close().await;
}

/// I6: what does not come about counts for nothing, and the file is as it was.
#[tokio::test]
async fn over_the_quota_or_failed_the_file_keeps_its_name() {
    let (lab, me) = (Lab::start().await, admin());
    foreign(&lab, "disk", 2 * GIB);
    let mut tx = lab.cloud.db.begin().await.unwrap();
    db::quota::set_project_limit(&mut tx, &me.project_id, "gigabytes", 1).await.unwrap();
    lab.cloud.commit(tx).await.unwrap();
    let over = managed(&lab, named("disk")).await;
    assert_eq!((over.status, over.size), (VolumeStatus::ErrorManaging, GiB(0)));
    let mut tx = lab.cloud.db.begin().await.unwrap();
    db::quota::set_project_limit(&mut tx, &me.project_id, "gigabytes", 100).await.unwrap();
    lab.cloud.commit(tx).await.unwrap();
    lab.driver.fail("adopt", ErrorKind::Backend);
    let failed = managed(&lab, named("disk")).await;
    assert_eq!((failed.status, failed.size), (VolumeStatus::ErrorManaging, GiB(0)));
    // Cancelled where it has just been taken.
    let gate = lab.driver.hold("adopt", 1);
    let made = lab.cloud.volume_manage(&me, named("disk")).await.unwrap();
    gate.reached().await;
    let job = lab.jobs_of(made.id).await.remove(0);
    lab.cloud.job_cancel(&me, job.id).await.unwrap();
    gate.open();
    lab.rest(made.id).await;
    assert_eq!(lab.volume_now(made.id).await.unwrap().status, VolumeStatus::ErrorManaging);
    assert_eq!((lab.used(&me, "volumes").await, lab.used(&me, "gigabytes").await), ((3, 0), (0, 0)));
    assert_eq!(lab.pool().await, (0, 0));
    assert!(holds(&lab, "disk"));
    for id in [over.id, failed.id] {
        lab.cloud.volume_delete(&me, id, DeleteVolume::default()).await.unwrap();
        lab.rest(id).await;
    }
    lab.cloud.volume_force_delete(&me, made.id).await.unwrap();
    lab.rest(made.id).await;
    assert_eq!(lab.used(&me, "volumes").await, (0, 0));
    assert_eq!(managed(&lab, named("disk")).await.status, VolumeStatus::Available);
    lab.close().await;
}

#[tokio::test]
async fn a_snapshot_is_given_up_and_taken_over_with_its_bytes() {
    let (lab, me) = (Lab::start().await, admin());
    foreign(&lab, "disk", GIB);
    let source = managed(&lab, named("disk")).await;
    let taken = lab.snapshot(&me, source.id).await;
    let device =
        lab.driver.open(Openable::Volume(&volume::reference(&source)), OpenMode::Write).await.unwrap();
    device.write(0, &[8; 4096]).await.unwrap();
    device.flush().await.unwrap();
    drop(device);
    lab.cloud.snapshot_unmanage(&me, taken.id).await.unwrap();
    lab.rest(taken.id).await;
    assert!(lab.snapshot_now(taken.id).await.is_none());
    assert_eq!((lab.used(&me, "snapshots").await, lab.used(&me, "gigabytes").await), ((0, 0), (1, 0)));
    let kept = format!("{}.snapshot-{}.unmanaged", source.backend_name(), taken.id);
    assert!(holds(&lab, &kept));
    let entries = listed(&lab, Kind::Snapshots).await;
    let wanted =
        Entry { name: kept.clone(), gb: 1, refusal: None, id: None, of: Some(source.backend_name()) };
    assert_eq!(entries, [wanted]);
    assert!(listed(&lab, Kind::Volumes).await.iter().all(|entry| entry.name != kept));
    // Another volume's, by its name, by Cinder's, and by one that is nothing.
    let other = lab.volume(&me, 1).await;
    let name = format!("_snapshot-{}", taken.id);
    for (of, name) in
        [(other.id, kept.as_str()), (other.id, &name), (source.id, "no"), (source.id, &source.backend_name())]
    {
        let made = lab.cloud.snapshot_manage(&me, snapshot_named(of, name)).await.unwrap();
        lab.rest(made.id).await;
        assert_eq!(lab.snapshot_now(made.id).await.unwrap().status, SnapshotStatus::Error, "{name}");
        lab.cloud.snapshot_delete(&me, made.id).await.unwrap();
        lab.rest(made.id).await;
        assert!(holds(&lab, &kept), "{name}");
    }
    // The volume has grown: the snapshot is as large as it was.
    let grown = ExtendVolume { new_size: GiB(2), in_use: false };
    lab.cloud.volume_extend(&me, source.id, grown).await.unwrap();
    lab.rest(source.id).await;
    let made = lab.cloud.snapshot_manage(&me, snapshot_named(source.id, &name)).await.unwrap();
    assert_eq!((made.status, made.volume_size), (SnapshotStatus::Creating, GiB(2)));
    lab.rest(made.id).await;
    let made: Snapshot = lab.snapshot_now(made.id).await.unwrap();
    assert_eq!((made.status, made.volume_size), (SnapshotStatus::Available, GiB(1)));
    assert_eq!((lab.used(&me, "snapshots").await, lab.used(&me, "gigabytes").await), ((1, 0), (4, 0)));
    let from = NewVolume { snapshot_id: Some(made.id), ..NewVolume::default() };
    let copy = lab.cloud.volume_create(&me, from).await.unwrap();
    lab.rest(copy.id).await;
    let copy = lab.volume_now(copy.id).await.unwrap();
    assert_eq!(read(&lab, Openable::Volume(&volume::reference(&copy)), 0, 4096).await, [7; 4096]);
    let source = lab.volume_now(source.id).await.unwrap();
    assert_eq!(read(&lab, Openable::Volume(&volume::reference(&source)), 0, 4096).await, [8; 4096]);
    lab.close().await;
}

#[tokio::test]
async fn lists_are_sorted_and_paged_and_say_what_is_managed() {
    let (lab, me) = (Lab::start().await, admin());
    foreign(&lab, "a", 3 * GIB);
    foreign(&lab, "b", GIB);
    foreign(&lab, "c", GIB - 512);
    let there = lab.volume(&me, 2).await;
    let names = |entries: Vec<Entry>| entries.into_iter().map(|one| one.name).collect::<Vec<_>>();
    let all = listed(&lab, Kind::Volumes).await;
    let managed = all.iter().find(|one| one.id.is_some()).unwrap();
    assert_eq!((managed.refusal.as_deref(), managed.gb), (Some("already managed"), 2));
    assert_eq!(managed.id.as_ref().unwrap(), &there.id.to_string());
    assert_eq!(names(all), ["a", "b", "c", &there.backend_name()]);
    let by_size = vec![(Key::Size, Direction::Descending), (Key::Reference, Direction::Descending)];
    let sized = ListManageable { sort: by_size, ..list(Kind::Volumes) };
    let page = lab.cloud.manageable(&me, sized.clone()).await.unwrap();
    assert_eq!(names(page), ["a", &there.backend_name(), "c", "b"]);
    let marker = |name: &str| Some((json!({ "source-name": name }), format!("{{'source-name': '{name}'}}")));
    let page = ListManageable { marker: marker("a"), limit: 2, offset: 1, ..sized };
    assert_eq!(names(lab.cloud.manageable(&me, page.clone()).await.unwrap()), ["c", "b"]);
    let none = ListManageable { limit: 0, ..page.clone() };
    assert_eq!(names(lab.cloud.manageable(&me, none).await.unwrap()), Vec::<String>::new());
    let unknown = ListManageable { marker: marker("x"), ..page };
    assert_eq!(
        text(lab.cloud.manageable(&me, unknown).await),
        "Invalid input received: marker not found: {'source-name': 'x'}"
    );
    let elsewhere = ListManageable { place: MoveTo::Host("h@no#p".into()), ..list(Kind::Snapshots) };
    assert_eq!(
        text(lab.cloud.manageable(&me, elsewhere).await),
        "Service cinder-volume could not be found on host h@no."
    );
    lab.driver.fail("manageable", ErrorKind::Unsupported);
    assert_eq!(listed(&lab, Kind::Volumes).await, []);
    for name in ["a", "b", "c"] {
        std::fs::remove_file(lab.files().join(name)).unwrap();
    }
    lab.close().await;
}
