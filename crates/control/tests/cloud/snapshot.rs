//! Snapshots: their life, what is refused, what a failure leaves.

use std::collections::BTreeMap;

use control::request::{DeleteVolume, MetadataWrite, NewVolume, UpdateSnapshot};
use drivers::ErrorKind;
use model::list::{Compare, Direction, Filter, ListQuery};
use model::{SnapshotStatus, VolumeStatus};

use crate::lab::{Lab, admin, member, new_snapshot, reader, text};

#[tokio::test]
async fn a_snapshot_lives_and_leaves_nothing() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let snapshot = lab.snapshot(&me, volume.id).await;
    assert_eq!(snapshot.progress.as_deref(), Some("100%"));
    assert_eq!((snapshot.volume_size, snapshot.type_id), (volume.size, volume.type_id));
    assert_eq!(snapshot.metadata["k"], "v");
    assert_eq!(lab.used(&me, "snapshots").await, (1, 0));
    assert_eq!(lab.used(&me, "gigabytes").await, (2, 0));
    assert_eq!(lab.used(&me, "snapshots___DEFAULT__").await, (1, 0));

    let wanted = UpdateSnapshot { name: Some(None), description: Some(Some("d".into())) };
    let updated = lab.cloud.snapshot_update(&me, snapshot.id, wanted).await.unwrap();
    assert_eq!((updated.name, updated.description.as_deref()), (None, Some("d")));

    lab.cloud.snapshot_delete(&me, snapshot.id).await.unwrap();
    lab.rest(snapshot.id).await;
    assert!(lab.snapshot_now(snapshot.id).await.is_none());
    assert_eq!(
        text(lab.cloud.snapshot_show(&me, snapshot.id).await),
        format!("Snapshot {} could not be found.", snapshot.id)
    );
    assert_eq!(lab.used(&me, "snapshots").await, (0, 0));
    lab.cloud.volume_delete(&me, volume.id, DeleteVolume::default()).await.unwrap();
    lab.rest(volume.id).await;
    assert_eq!(lab.pool().await, (0, 0));
    lab.close().await;
}

#[tokio::test]
async fn a_volume_comes_from_a_snapshot() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let snapshot = lab.snapshot(&me, volume.id).await;
    let wanted =
        NewVolume { snapshot_id: Some(snapshot.id), size: Some(model::GiB(2)), ..NewVolume::default() };
    let copy = lab.cloud.volume_create(&me, wanted).await.unwrap();
    lab.rest(copy.id).await;
    let copy = lab.volume_now(copy.id).await.unwrap();
    assert_eq!((copy.status, copy.size.0), (VolumeStatus::Available, 2));
    // The snapshot may go while what was made of it stays.
    lab.cloud.snapshot_delete(&me, snapshot.id).await.unwrap();
    lab.rest(snapshot.id).await;
    lab.close().await;
}

#[tokio::test]
async fn refusals_are_cinders() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let attachment = lab.attach(volume.id).await;
    let id = volume.id;
    assert_eq!(
        text(lab.cloud.snapshot_create(&me, new_snapshot(id)).await),
        format!("Invalid volume: Volume {id} status must be available, but current status is: in-use.")
    );
    let mut in_use = new_snapshot(id);
    in_use.in_use = true;
    let snapshot = lab.cloud.snapshot_create(&me, in_use.clone()).await.unwrap();
    lab.rest(snapshot.id).await;
    lab.detach(attachment).await;

    reset(&lab, id, VolumeStatus::Reserved).await;
    assert_eq!(
        text(lab.cloud.snapshot_create(&me, in_use.clone()).await),
        format!(
            "Invalid volume: Volume {id} status must be available, in-use, but current status is: reserved."
        )
    );
    reset(&lab, id, VolumeStatus::Error).await;
    assert_eq!(
        text(lab.cloud.snapshot_create(&me, in_use.clone()).await),
        "Invalid volume: The snapshot cannot be created when the volume is in error status."
    );
    reset(&lab, id, VolumeStatus::Maintenance).await;
    assert_eq!(
        text(lab.cloud.snapshot_create(&me, in_use.clone()).await),
        "Invalid volume: The snapshot cannot be created when the volume is in maintenance mode."
    );
    reset(&lab, id, VolumeStatus::Available).await;

    // Others do not even learn that it is there; who may only look is told so.
    let not_found = format!("Snapshot {} could not be found.", snapshot.id);
    assert_eq!(text(lab.cloud.snapshot_delete(&member("q"), snapshot.id).await), not_found);
    assert_eq!(
        text(lab.cloud.snapshot_create(&member("q"), new_snapshot(id)).await),
        format!("Volume {id} could not be found.")
    );
    assert_eq!(
        text(lab.cloud.snapshot_delete(&reader("p"), snapshot.id).await),
        "Policy doesn't allow volume:delete_snapshot to be performed."
    );
    assert_eq!(
        text(lab.cloud.snapshot_force_delete(&me, snapshot.id).await),
        "Policy doesn't allow volume_extension:snapshot_admin_actions:force_delete to be performed."
    );

    lab.cloud.snapshot_reset(&admin(), snapshot.id, SnapshotStatus::Updating).await.unwrap();
    assert_eq!(
        text(lab.cloud.snapshot_delete(&me, snapshot.id).await),
        "Invalid snapshot: Snapshot status must be available or error and must not be part of a group."
    );
    lab.cloud.snapshot_force_delete(&admin(), snapshot.id).await.unwrap();
    lab.rest(snapshot.id).await;
    lab.close().await;
}

async fn reset(lab: &Lab, id: model::VolumeId, status: VolumeStatus) {
    let wanted = control::request::ResetVolume { status: Some(status), ..Default::default() };
    lab.cloud.volume_reset(&admin(), id, wanted).await.unwrap();
}

#[tokio::test]
async fn the_quota_refuses_and_nothing_stays() {
    let lab = Lab::start().await;
    let me = member("p");
    let limits = vec![("snapshots".to_owned(), 1), ("gigabytes".to_owned(), 4)];
    lab.cloud.quota_update(&admin(), "p", limits).await.unwrap();
    let volume = lab.volume(&me, 1).await;
    lab.snapshot(&me, volume.id).await;
    assert_eq!(
        text(lab.cloud.snapshot_create(&me, new_snapshot(volume.id)).await),
        "SnapshotLimitExceeded: Maximum number of snapshots allowed (1) exceeded"
    );
    let large = lab.volume(&me, 2).await;
    assert_eq!(
        text(lab.cloud.snapshot_create(&me, new_snapshot(large.id)).await),
        "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. \
         Requested 2G, quota is 4G and 4G has been consumed."
    );
    let listed = lab.cloud.snapshot_list(&me, &ListQuery::all(Some("p".into()))).await.unwrap();
    assert_eq!(listed.items.len(), 1);
    lab.close().await;
}

#[tokio::test]
async fn gigabytes_of_snapshots_can_be_free() {
    let lab = Lab::configured("no_snapshot_gb_quota = true").await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let snapshot = lab.snapshot(&me, volume.id).await;
    assert_eq!(lab.used(&me, "gigabytes").await, (1, 0));
    lab.cloud.snapshot_delete(&me, snapshot.id).await.unwrap();
    lab.rest(snapshot.id).await;
    assert_eq!(lab.used(&me, "gigabytes").await, (1, 0));
    lab.close().await;
}

#[tokio::test]
async fn a_failed_snapshot_is_in_error_and_its_owner_is_told() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    lab.driver.fail("create_snapshot", ErrorKind::Backend);
    let snapshot = lab.cloud.snapshot_create(&me, new_snapshot(volume.id)).await.unwrap();
    lab.rest(snapshot.id).await;
    assert_eq!(lab.snapshot_now(snapshot.id).await.unwrap().status, SnapshotStatus::Error);
    assert_eq!(lab.volume_now(volume.id).await.unwrap().status, VolumeStatus::Available);
    assert_eq!(
        lab.told(&me).await,
        [(
            "VOLUME_VOLUME_SNAPSHOT_009_013".to_owned(),
            "create snapshot:Snapshot failed to create.".to_owned()
        )]
    );
    // It still counts, until it is deleted.
    assert_eq!(lab.used(&me, "snapshots").await, (1, 0));
    lab.cloud.snapshot_delete(&me, snapshot.id).await.unwrap();
    lab.rest(snapshot.id).await;
    lab.driver.fail("create_snapshot", ErrorKind::NoSpace);
    let full = lab.cloud.snapshot_create(&me, new_snapshot(volume.id)).await.unwrap();
    lab.rest(full.id).await;
    assert_eq!(lab.told(&me).await[0].1, "create snapshot:The backend has run out of space.");
    lab.close().await;
}

#[tokio::test]
async fn a_failed_deletion_shows() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let snapshot = lab.snapshot(&me, volume.id).await;
    lab.driver.fail("delete_snapshot", ErrorKind::Backend);
    lab.cloud.snapshot_delete(&me, snapshot.id).await.unwrap();
    lab.rest(snapshot.id).await;
    assert_eq!(lab.snapshot_now(snapshot.id).await.unwrap().status, SnapshotStatus::ErrorDeleting);
    assert_eq!(
        lab.told(&me).await,
        [(
            "VOLUME_VOLUME_SNAPSHOT_010_016".to_owned(),
            "delete snapshot:Snapshot failed to delete.".to_owned()
        )]
    );
    lab.cloud.snapshot_force_delete(&admin(), snapshot.id).await.unwrap();
    lab.rest(snapshot.id).await;
    lab.close().await;
}

#[tokio::test]
async fn busy_is_tried_again() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let snapshot = lab.snapshot(&me, volume.id).await;
    lab.driver.fail("delete_snapshot", ErrorKind::Busy);
    lab.driver.fail("delete_snapshot", ErrorKind::Busy);
    lab.cloud.snapshot_delete(&me, snapshot.id).await.unwrap();
    lab.rest(snapshot.id).await;
    assert!(lab.snapshot_now(snapshot.id).await.is_none());
    assert_eq!(lab.driver.calls("delete_snapshot"), 1);
    assert!(lab.told(&me).await.is_empty());
    lab.close().await;
}

#[tokio::test]
async fn metadata_merges_replaces_and_goes() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let snapshot = lab.snapshot(&me, volume.id).await;
    let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let id = snapshot.id;
    let wanted = pairs(&[("m", "n")]);
    let merged = lab.cloud.snapshot_metadata_write(&me, id, &wanted, MetadataWrite::Merge).await;
    assert_eq!(merged.unwrap(), pairs(&[("k", "v"), ("m", "n")]));
    lab.cloud.snapshot_metadata_set(&me, id, "m", "o").await.unwrap();
    assert_eq!(lab.cloud.snapshot_metadata(&me, id).await.unwrap(), pairs(&[("k", "v"), ("m", "o")]));
    let wanted = pairs(&[("z", "1")]);
    let replaced = lab.cloud.snapshot_metadata_write(&me, id, &wanted, MetadataWrite::Replace).await;
    assert_eq!(replaced.unwrap(), pairs(&[("z", "1")]));
    lab.cloud.snapshot_metadata_unset(&me, id, "z").await.unwrap();
    assert_eq!(
        text(lab.cloud.snapshot_metadata_unset(&me, id, "z").await),
        format!("Snapshot {id} has no metadata with key z.")
    );
    assert_eq!(
        text(lab.cloud.snapshot_metadata_set(&reader("p"), id, "a", "b").await),
        "Policy doesn't allow volume:update_snapshot_metadata to be performed."
    );
    lab.close().await;
}

#[tokio::test]
async fn lists_filter_by_what_the_volume_has_too() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let first = lab.snapshot(&me, volume.id).await;
    let second = lab.snapshot(&me, volume.id).await;
    lab.volume(&member("q"), 1).await;
    let mut query = ListQuery::all(Some("p".into()));
    query.sort = vec![("created_at".into(), Direction::Ascending)];
    let ids = |listed: model::list::Listed<model::Snapshot>| -> Vec<_> {
        listed.items.into_iter().map(|snapshot| snapshot.id).collect()
    };
    assert_eq!(ids(lab.cloud.snapshot_list(&me, &query).await.unwrap()), [first.id, second.id]);
    let filter = |field: &str, value: serde_json::Value| Filter {
        field: field.into(),
        compare: Compare::Equal,
        value,
    };
    query.filters = vec![filter("availability_zone", "nova".into()), filter("host", "node".into())];
    query.filters.push(filter("metadata", serde_json::json!({"k": "v"})));
    query.with_count = true;
    let listed = lab.cloud.snapshot_list(&me, &query).await.unwrap();
    assert_eq!(listed.count, Some(2));
    assert_eq!(ids(listed), [first.id, second.id]);
    query.marker = Some(first.id.to_string());
    assert_eq!(ids(lab.cloud.snapshot_list(&me, &query).await.unwrap()), [second.id]);
    query.filters = vec![filter("availability_zone", "mars".into())];
    query.marker = None;
    assert_eq!(ids(lab.cloud.snapshot_list(&me, &query).await.unwrap()), []);
    query.filters.clear();
    query.sort = vec![("color".into(), Direction::Ascending)];
    assert_eq!(text(lab.cloud.snapshot_list(&me, &query).await), "Invalid input received: Invalid sort key");
    lab.close().await;
}
