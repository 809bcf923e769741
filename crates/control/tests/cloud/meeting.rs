//! Operations on one volume that meet: who waits for whom, and who is refused (the table in `control::locks`).

use control::request::{DeleteVolume, ExtendVolume, NewVolume};
use db::job::Wanted;
use model::job::JobState;
use model::{GiB, SnapshotStatus, VolumeStatus};

use crate::lab::{Lab, admin, clone_of, member, new_snapshot, text};

/// The states of the active jobs on a resource.
async fn states(lab: &Lab, resource: impl ToString) -> Vec<JobState> {
    let wanted =
        Wanted { resource_id: Some(resource.to_string()), active: true, limit: 100, ..Wanted::default() };
    let jobs = db::job::list(&mut lab.cloud.db.read(), &wanted).await.unwrap();
    jobs.into_iter().map(|job| job.state).collect()
}

#[tokio::test]
async fn clones_run_side_by_side_and_the_deletion_waits_for_all() {
    let lab = Lab::start().await;
    let me = member("p");
    let source = lab.volume(&me, 1).await;
    let gate = lab.driver.hold("create_volume", 5);
    let mut clones = Vec::new();
    for _ in 0..5 {
        clones.push(lab.cloud.volume_create(&me, clone_of(source.id)).await.unwrap().id);
    }
    // Asked for before any clone has begun, and still after all of them.
    lab.cloud.volume_delete(&me, source.id, DeleteVolume::default()).await.unwrap();
    for _ in 0..5 {
        gate.reached().await;
    }
    lab.others_have_run(&me).await;
    assert_eq!(states(&lab, source.id).await, [JobState::Queued]);
    assert_eq!(lab.driver.calls("delete_volume"), 0);
    assert_eq!(
        text(lab.cloud.volume_create(&me, clone_of(source.id)).await),
        "Invalid volume: Originating source volume status must be one of 'available, in-use' values"
    );
    gate.open();
    for id in clones {
        lab.rest(id).await;
        assert_eq!(lab.volume_now(id).await.unwrap().status, VolumeStatus::Available);
    }
    lab.rest(source.id).await;
    assert!(lab.volume_now(source.id).await.is_none());
    lab.close().await;
}

/// The scheduler's step and the backend's are claims of their own; in between the locks are free, but not for later tickets.
#[tokio::test]
async fn between_its_claims_a_clone_keeps_its_place() {
    let mut lab = Lab::without_runner("").await;
    let me = member("p");
    let everything = lab.process(&["cinder-scheduler", "cinder-volume.node@local"], "first");
    let source = lab.volume(&me, 1).await;
    everything.kill();
    // Nobody runs the backend: the clone is placed and waits there.
    lab.run(&["cinder-scheduler"]);
    let clone = lab.cloud.volume_create(&me, clone_of(source.id)).await.unwrap();
    lab.handed_over(clone.id, "cinder-volume.node@local").await;
    lab.cloud.volume_delete(&me, source.id, DeleteVolume::default()).await.unwrap();
    lab.run(&["cinder-volume.node@local"]);
    lab.rest(clone.id).await;
    assert_eq!(lab.volume_now(clone.id).await.unwrap().status, VolumeStatus::Available);
    lab.rest(source.id).await;
    assert!(lab.volume_now(source.id).await.is_none());
    lab.close().await;
}

#[tokio::test]
async fn a_snapshots_deletion_waits_for_volumes_made_of_it() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let snapshot = lab.snapshot(&me, volume.id).await;
    let gate = lab.driver.hold("create_volume", 2);
    let wanted = NewVolume { snapshot_id: Some(snapshot.id), ..NewVolume::default() };
    let one = lab.cloud.volume_create(&me, wanted.clone()).await.unwrap();
    let two = lab.cloud.volume_create(&me, wanted.clone()).await.unwrap();
    lab.cloud.snapshot_delete(&me, snapshot.id).await.unwrap();
    gate.reached().await;
    gate.reached().await;
    lab.others_have_run(&me).await;
    assert_eq!(lab.driver.calls("delete_snapshot"), 0);
    assert_eq!(
        text(lab.cloud.volume_create(&me, wanted).await),
        "Invalid snapshot: Originating snapshot status must be one of 'available' values"
    );
    gate.open();
    for id in [one.id, two.id] {
        lab.rest(id).await;
        assert_eq!(lab.volume_now(id).await.unwrap().status, VolumeStatus::Available);
    }
    lab.rest(snapshot.id).await;
    assert!(lab.snapshot_now(snapshot.id).await.is_none());
    lab.close().await;
}

#[tokio::test]
async fn an_extension_waits_for_clones_and_snapshots_and_they_for_it() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let clones = lab.driver.hold("create_volume", 1);
    let snapshots = lab.driver.hold("create_snapshot", 1);
    let clone = lab.cloud.volume_create(&me, clone_of(volume.id)).await.unwrap();
    let snapshot = lab.cloud.snapshot_create(&me, new_snapshot(volume.id)).await.unwrap();
    // Side by side.
    clones.reached().await;
    snapshots.reached().await;
    let wanted = ExtendVolume { new_size: GiB(2), in_use: false };
    lab.cloud.volume_extend(&me, volume.id, wanted).await.unwrap();
    clones.open();
    lab.rest(clone.id).await;
    lab.others_have_run(&me).await;
    assert_eq!(lab.driver.calls("extend_volume"), 0);
    // What is asked for meanwhile is refused by the volume's status.
    assert_eq!(
        text(lab.cloud.snapshot_create(&me, new_snapshot(volume.id)).await),
        format!(
            "Invalid volume: Volume {} status must be available, but current status is: extending.",
            volume.id
        )
    );
    snapshots.open();
    lab.rest(volume.id).await;
    assert_eq!(lab.volume_now(clone.id).await.unwrap().size.0, 1);
    assert_eq!(lab.snapshot_now(snapshot.id).await.unwrap().volume_size.0, 1);
    assert_eq!(lab.volume_now(volume.id).await.unwrap().size.0, 2);
    lab.close().await;
}

#[tokio::test]
async fn a_cascade_takes_along_what_is_being_deleted_and_refuses_what_is_being_made() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let refused = "Invalid volume: Volume status must be available or error or error_restoring or error_extending or \
                   error_managing and must not be migrating, attached, belong to a group, have snapshots, awaiting a \
                   transfer, or be disassociated from snapshots after volume transfer.";
    let gate = lab.driver.hold("create_snapshot", 1);
    let first = lab.cloud.snapshot_create(&me, new_snapshot(volume.id)).await.unwrap();
    gate.reached().await;
    let cascade = DeleteVolume { cascade: true, force: false };
    assert_eq!(text(lab.cloud.volume_delete(&me, volume.id, DeleteVolume::default()).await), refused);
    assert_eq!(text(lab.cloud.volume_delete(&me, volume.id, cascade).await), refused);
    assert_eq!(lab.volume_now(volume.id).await.unwrap().status, VolumeStatus::Available);
    gate.open();
    lab.rest(first.id).await;
    let second = lab.snapshot(&me, volume.id).await;
    let gate = lab.driver.hold("delete_snapshot", 1);
    lab.cloud.snapshot_delete(&me, first.id).await.unwrap();
    gate.reached().await;
    lab.cloud.volume_delete(&me, volume.id, cascade).await.unwrap();
    assert_eq!(lab.snapshot_now(second.id).await.unwrap().status, SnapshotStatus::Deleting);
    gate.open();
    lab.rest(volume.id).await;
    lab.rest(first.id).await;
    assert!(lab.volume_now(volume.id).await.is_none());
    assert!(lab.snapshot_now(first.id).await.is_none() && lab.snapshot_now(second.id).await.is_none());
    assert_eq!(lab.used(&me, "snapshots").await, (0, 0));
    assert_eq!(lab.pool().await, (0, 0));
    lab.close().await;
}

/// Deleted by force while it is being made: what the driver makes goes too.
#[tokio::test]
async fn i5_a_forced_deletion_waits_for_the_making() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let snapshots = lab.driver.hold("create_snapshot", 1);
    let snapshot = lab.cloud.snapshot_create(&me, new_snapshot(volume.id)).await.unwrap();
    snapshots.reached().await;
    lab.cloud.snapshot_force_delete(&admin(), snapshot.id).await.unwrap();
    lab.others_have_run(&me).await;
    assert_eq!(lab.driver.calls("delete_snapshot"), 0);
    snapshots.open();
    lab.rest(snapshot.id).await;
    assert!(lab.snapshot_now(snapshot.id).await.is_none());

    let volumes = lab.driver.hold("create_volume", 1);
    let made = lab.cloud.volume_create(&me, clone_of(volume.id)).await.unwrap();
    volumes.reached().await;
    lab.cloud.volume_force_delete(&admin(), made.id).await.unwrap();
    lab.others_have_run(&me).await;
    assert_eq!(lab.driver.calls("delete_volume"), 0);
    volumes.open();
    lab.rest(made.id).await;
    assert!(lab.volume_now(made.id).await.is_none());
    assert!(lab.told(&me).await.is_empty(), "nobody is told of the failure of what was deleted");
    lab.close().await;
}

/// Waiting jobs fill no slots and hide no work behind them.
#[tokio::test]
async fn those_that_wait_do_not_stand_before_others() {
    let lab = Lab::start().await;
    let me = member("p");
    let source = lab.volume(&me, 1).await;
    let snapshot = lab.snapshot(&me, source.id).await;
    let gate = lab.driver.hold("create_volume", 1);
    let wanted = NewVolume { snapshot_id: Some(snapshot.id), ..NewVolume::default() };
    let long = lab.cloud.volume_create(&me, wanted).await.unwrap();
    gate.reached().await;
    // More than a runner has slots.
    for _ in 0..12 {
        lab.cloud.snapshot_force_delete(&admin(), snapshot.id).await.unwrap();
    }
    let other = lab.volume(&me, 1).await;
    assert_eq!(other.status, VolumeStatus::Available);
    assert_eq!(states(&lab, snapshot.id).await.len(), 12);
    gate.open();
    lab.rest(long.id).await;
    lab.rest(snapshot.id).await;
    lab.close().await;
}
