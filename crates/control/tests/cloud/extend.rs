//! Extension: sizes, promises and counters, also when it fails.

use control::request::{DeleteVolume, ExtendVolume};
use drivers::{BackendStats, ErrorKind, OpenMode, Openable, PoolStats};
use model::{GiB, VolumeStatus};

use crate::lab::{BACKEND, Lab, admin, member, new_snapshot, reader, text};

fn to(gb: u32) -> ExtendVolume {
    ExtendVolume { new_size: GiB(gb), in_use: false }
}

fn to_in_use(gb: u32) -> ExtendVolume {
    ExtendVolume { new_size: GiB(gb), in_use: true }
}

#[tokio::test]
async fn a_volume_grows_and_counts_for_what_it_is() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let gate = lab.driver.hold("extend_volume", 1);
    lab.cloud.volume_extend(&me, volume.id, to(3)).await.unwrap();
    gate.reached().await;
    let now = lab.volume_now(volume.id).await.unwrap();
    assert_eq!((now.status, now.size.0), (VolumeStatus::Extending, 1));
    // Promised, not used: exact at every moment (I6).
    assert_eq!(lab.used(&me, "gigabytes").await, (1, 2));
    assert_eq!(lab.used(&me, "gigabytes___DEFAULT__").await, (1, 2));
    assert_eq!(lab.pool().await, (1, 2));
    gate.open();
    lab.rest(volume.id).await;
    let now = lab.volume_now(volume.id).await.unwrap();
    assert_eq!((now.status, now.size.0), (VolumeStatus::Available, 3));
    assert_eq!(lab.used(&me, "gigabytes").await, (3, 0));
    assert_eq!(lab.pool().await, (3, 0));
    let reference = control::volume::reference(&now);
    let device = drivers::Driver::open(&*lab.driver, Openable::Volume(&reference), OpenMode::Read);
    assert_eq!(device.await.unwrap().size(), GiB(3).bytes());
    lab.cloud.volume_delete(&me, volume.id, DeleteVolume::default()).await.unwrap();
    lab.rest(volume.id).await;
    assert_eq!(lab.used(&me, "gigabytes").await, (0, 0));
    lab.close().await;
}

#[tokio::test]
async fn an_attached_volume_grows_where_the_caller_knows_that() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let id = volume.id;
    lab.attach(id).await;
    assert_eq!(
        text(lab.cloud.volume_extend(&me, id, to(2)).await),
        format!(
            "Invalid volume: Volume {id} status must be '{{'status': 'available'}}' to extend, currently in-use."
        )
    );
    lab.cloud.volume_extend(&me, id, to_in_use(2)).await.unwrap();
    lab.rest(id).await;
    let now = lab.volume_now(id).await.unwrap();
    assert_eq!((now.status, now.size.0), (VolumeStatus::InUse, 2));
    lab.close().await;
}

#[tokio::test]
async fn detaching_while_it_grows_is_fine() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let attachment = lab.attach(volume.id).await;
    let gate = lab.driver.hold("extend_volume", 1);
    lab.cloud.volume_extend(&me, volume.id, to_in_use(2)).await.unwrap();
    gate.reached().await;
    lab.detach(attachment).await;
    gate.open();
    lab.rest(volume.id).await;
    let now = lab.volume_now(volume.id).await.unwrap();
    assert_eq!((now.status, now.size.0), (VolumeStatus::Available, 2));
    lab.close().await;
}

#[tokio::test]
async fn refusals_are_cinders() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 2).await;
    let id = volume.id;
    for (size, shown) in [(1, 1), (2, 2)] {
        assert_eq!(
            text(lab.cloud.volume_extend(&me, id, to(size)).await),
            format!(
                "Invalid input received: New size for extend must be greater than current size. \
                 (current: 2, extended: {shown})."
            )
        );
    }
    assert_eq!(
        text(lab.cloud.volume_extend(&me, id, to(9000)).await),
        "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. \
         Requested 8998G, quota is 1000G and 2G has been consumed."
    );
    assert_eq!(
        text(lab.cloud.volume_extend(&member("q"), id, to(3)).await),
        format!("Volume {id} could not be found.")
    );
    assert_eq!(
        text(lab.cloud.volume_extend(&reader("p"), id, to(3)).await),
        "Policy doesn't allow volume:extend to be performed."
    );
    let limits = vec![("per_volume_gigabytes".to_owned(), 4)];
    lab.cloud.quota_update(&admin(), "p", limits).await.unwrap();
    assert_eq!(
        text(lab.cloud.volume_extend(&me, id, to(5)).await),
        "VolumeSizeExceedsLimit: Requested volume size 5G is larger than maximum allowed limit 4G."
    );
    // Refused means that nothing has changed.
    let now = lab.volume_now(id).await.unwrap();
    assert_eq!((now.status, now.size.0, now.previous_status), (VolumeStatus::Available, 2, None));
    assert_eq!(lab.used(&me, "gigabytes").await, (2, 0));
    assert_eq!(
        text(lab.cloud.volume_extend_completion(&admin(), id).await),
        "Invalid volume: Volume is not being extended."
    );
    lab.close().await;
}

#[tokio::test]
async fn a_type_bounds_its_volumes() {
    let lab = Lab::start().await;
    let me = member("p");
    let kind = lab.cloud.default_type().await.unwrap();
    let mut tx = lab.cloud.db.begin().await.unwrap();
    db::volume_type::put_spec(&mut tx, kind.id, "provisioning:max_vol_size", Some("2")).await.unwrap();
    lab.cloud.commit(tx).await.unwrap();
    let volume = lab.volume(&me, 1).await;
    assert_eq!(
        text(lab.cloud.volume_extend(&me, volume.id, to(3)).await),
        "Invalid input received: Specified volume size of '3' is greater than the maximum allowable size of '2' for \
         volume type '__DEFAULT__'."
    );
    lab.close().await;
}

#[tokio::test]
async fn a_backend_that_fails_gives_everything_back() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    lab.driver.fail("extend_volume", ErrorKind::Backend);
    lab.cloud.volume_extend(&me, volume.id, to(3)).await.unwrap();
    lab.rest(volume.id).await;
    let now = lab.volume_now(volume.id).await.unwrap();
    assert_eq!((now.status, now.size.0), (VolumeStatus::ErrorExtending, 1));
    assert_eq!(lab.used(&me, "gigabytes").await, (1, 0));
    assert_eq!(lab.pool().await, (1, 0));
    assert_eq!(
        lab.told(&me).await,
        [(
            "VOLUME_VOLUME_007_010".to_owned(),
            "extend volume:Volume Driver failed to extend volume.".to_owned()
        )]
    );
    lab.cloud.volume_delete(&me, volume.id, DeleteVolume::default()).await.unwrap();
    lab.rest(volume.id).await;
    lab.close().await;
}

/// A report of a pool with little room.
fn small() -> BackendStats {
    BackendStats {
        vendor_name: "v".into(),
        driver_version: "1".into(),
        storage_protocol: "iSCSI".into(),
        pools: vec![PoolStats {
            pool_name: "local".into(),
            total_capacity_gb: 10.0,
            free_capacity_gb: 6.0,
            provisioned_capacity_gb: 1.0,
            thin_provisioning_support: false,
            thick_provisioning_support: true,
            total_volumes: 1,
        }],
    }
}

#[tokio::test]
async fn a_pool_without_room_refuses_and_the_volume_is_as_before() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    lab.attach(volume.id).await;
    lab.driver.report(small());
    lab.cloud.report_stats(&lab.node, BACKEND).await.unwrap();
    lab.cloud.volume_extend(&me, volume.id, to_in_use(20)).await.unwrap();
    lab.rest(volume.id).await;
    let now = lab.volume_now(volume.id).await.unwrap();
    assert_eq!((now.status, now.size.0), (VolumeStatus::InUse, 1));
    assert_eq!(lab.driver.calls("extend_volume"), 0);
    assert_eq!(
        lab.told(&me).await,
        [(
            "VOLUME_VOLUME_007_003".to_owned(),
            "extend volume:Could not find any available weighted backend.".to_owned()
        )]
    );
    // What one extension was promised, another does not get.
    let other = lab.volume(&me, 1).await;
    let gate = lab.driver.hold("extend_volume", 1);
    lab.cloud.volume_extend(&me, volume.id, to_in_use(5)).await.unwrap();
    gate.reached().await;
    assert_eq!(lab.pool().await, (2, 4));
    lab.cloud.volume_extend(&me, other.id, to(4)).await.unwrap();
    lab.rest(other.id).await;
    assert_eq!(lab.volume_now(other.id).await.unwrap().size.0, 1);
    gate.open();
    lab.rest(volume.id).await;
    assert_eq!(lab.volume_now(volume.id).await.unwrap().size.0, 5);
    lab.close().await;
}

/// Extensions of several volumes of a project at its limit: as many as fit, and not one more (I6).
#[tokio::test]
async fn the_last_gigabytes_have_one_winner() {
    let lab = Lab::start().await;
    let me = member("p");
    lab.cloud.quota_update(&admin(), "p", vec![("gigabytes".to_owned(), 6)]).await.unwrap();
    let mut volumes = Vec::new();
    for _ in 0..4 {
        volumes.push(lab.volume(&me, 1).await.id);
    }
    let attempts = volumes.iter().map(|id| lab.cloud.volume_extend(&me, *id, to(2)));
    let outcomes = futures::future::join_all(attempts).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2);
    for id in &volumes {
        lab.rest(*id).await;
    }
    assert_eq!(lab.used(&me, "gigabytes").await, (6, 0));
    lab.close().await;
}

/// An operator's reset lets a second extension begin while the first still runs: the counters follow the rows all the same.
#[tokio::test]
async fn i6_overlapping_extensions_count_once() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let gate = lab.driver.hold("extend_volume", 1);
    lab.cloud.volume_extend(&me, volume.id, to(3)).await.unwrap();
    gate.reached().await;
    let available =
        control::request::ResetVolume { status: Some(VolumeStatus::Available), ..Default::default() };
    lab.cloud.volume_reset(&admin(), volume.id, available).await.unwrap();
    lab.cloud.volume_extend(&me, volume.id, to(4)).await.unwrap();
    assert_eq!(lab.used(&me, "gigabytes").await, (1, 5));
    gate.open();
    lab.rest(volume.id).await;
    let now = lab.volume_now(volume.id).await.unwrap();
    assert_eq!((now.status, now.size.0), (VolumeStatus::Available, 4));
    assert_eq!(lab.used(&me, "gigabytes").await, (4, 0));
    assert_eq!(lab.pool().await, (4, 0));
    lab.close().await;
}

#[tokio::test]
async fn i6_a_forced_deletion_during_an_extension_counts_right() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let gate = lab.driver.hold("extend_volume", 1);
    lab.cloud.volume_extend(&me, volume.id, to(3)).await.unwrap();
    gate.reached().await;
    lab.cloud.volume_force_delete(&admin(), volume.id).await.unwrap();
    assert_eq!(lab.volume_now(volume.id).await.unwrap().status, VolumeStatus::Deleting);
    lab.others_have_run(&me).await;
    assert_eq!(lab.driver.calls("delete_volume"), 0);
    gate.open();
    lab.rest(volume.id).await;
    assert!(lab.volume_now(volume.id).await.is_none());
    assert_eq!(lab.used(&me, "gigabytes").await, (1, 0));
    lab.close().await;
}

/// A type renamed while an extension runs takes its counters along; what was promised is settled under the new name.
#[tokio::test]
async fn i6_a_renamed_type_is_settled_under_its_new_name() {
    let lab = Lab::start().await;
    let me = member("p");
    let wanted = control::request::NewType {
        name: "old".into(),
        description: None,
        is_public: true,
        extra_specs: Default::default(),
    };
    let kind = lab.cloud.type_create(&admin(), wanted).await.unwrap();
    let wanted = control::request::NewVolume {
        size: Some(GiB(1)),
        volume_type: Some("old".into()),
        ..Default::default()
    };
    let volume = lab.cloud.volume_create(&me, wanted).await.unwrap();
    lab.rest(volume.id).await;
    let gate = lab.driver.hold("extend_volume", 1);
    lab.cloud.volume_extend(&me, volume.id, to(2)).await.unwrap();
    gate.reached().await;
    let renamed = control::request::UpdateType { name: Some("new".into()), ..Default::default() };
    lab.cloud.type_update(&admin(), kind.id, renamed).await.unwrap();
    gate.open();
    lab.rest(volume.id).await;
    assert_eq!(lab.used(&me, "gigabytes_new").await, (2, 0));
    assert_eq!(lab.used(&me, "gigabytes_old").await, (0, 0));
    lab.close().await;
}

#[tokio::test]
async fn what_is_busy_with_something_else_does_not_grow() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    // A snapshot does not change the volume's status: the extension is accepted, and waits for it.
    let gate = lab.driver.hold("create_snapshot", 1);
    let snapshot = lab.cloud.snapshot_create(&me, new_snapshot(volume.id)).await.unwrap();
    gate.reached().await;
    lab.cloud.volume_extend(&me, volume.id, to(2)).await.unwrap();
    assert_eq!(
        text(lab.cloud.volume_extend(&me, volume.id, to(3)).await),
        format!(
            "Invalid volume: Volume {} status must be '{{'status': 'available'}}' to extend, currently extending.",
            volume.id
        )
    );
    lab.others_have_run(&me).await;
    assert_eq!(lab.driver.calls("extend_volume"), 0);
    gate.open();
    lab.rest(volume.id).await;
    lab.rest(snapshot.id).await;
    assert_eq!(lab.snapshot_now(snapshot.id).await.unwrap().volume_size.0, 1);
    assert_eq!(lab.volume_now(volume.id).await.unwrap().size.0, 2);
    lab.close().await;
}
