//! Runners that die in the middle of a step, and those that take over (I3, I4).

use control::request::{DeleteVolume, ExtendVolume, NewVolume, ResetVolume};
use drivers::ErrorKind;
use model::job::JobState;
use model::{GiB, SnapshotStatus, VolumeStatus};

use crate::lab::{Lab, admin, member, new_snapshot, text};

const ALL: [&str; 3] = ["cinder-scheduler", "cinder-volume.node@local", "cinder-target.node"];

#[tokio::test]
async fn a_killed_runners_work_is_taken_over_after_its_lease() {
    let mut lab = Lab::without_runner("").await;
    let me = member("p");
    let first = lab.process(&ALL, "first");
    let volume = lab.volume(&me, 1).await;
    let snapshots = lab.driver.hold("create_snapshot", 1);
    let snapshot = lab.cloud.snapshot_create(&me, new_snapshot(volume.id)).await.unwrap();
    snapshots.reached().await;
    first.kill();
    assert_eq!(lab.snapshot_now(snapshot.id).await.unwrap().status, SnapshotStatus::Creating);
    lab.run(&ALL);
    lab.rest(snapshot.id).await;
    assert_eq!(lab.snapshot_now(snapshot.id).await.unwrap().status, SnapshotStatus::Available);
    assert_eq!(lab.driver.calls("create_snapshot"), 1);
    lab.close().await;
}

/// The dead owner's earlier ticket still counts: what came later does not slip in before it is taken over.
#[tokio::test]
async fn a_dead_owner_keeps_its_place() {
    let mut lab = Lab::without_runner("").await;
    let me = member("p");
    let first = lab.process(&ALL, "first");
    let volume = lab.volume(&me, 1).await;
    let snapshots = lab.driver.hold("create_snapshot", 1);
    let snapshot = lab.cloud.snapshot_create(&me, new_snapshot(volume.id)).await.unwrap();
    snapshots.reached().await;
    let wanted = ExtendVolume { new_size: GiB(2), in_use: false };
    lab.cloud.volume_extend(&me, volume.id, wanted).await.unwrap();
    first.kill();
    lab.run(&ALL);
    lab.rest(volume.id).await;
    lab.rest(snapshot.id).await;
    let snapshot = lab.snapshot_now(snapshot.id).await.unwrap();
    assert_eq!((snapshot.status, snapshot.volume_size.0), (SnapshotStatus::Available, 1));
    assert_eq!(lab.volume_now(volume.id).await.unwrap().size.0, 2);
    lab.close().await;
}

#[tokio::test]
async fn an_extension_is_resumed_and_counted_once() {
    let mut lab = Lab::without_runner("").await;
    let me = member("p");
    let first = lab.process(&ALL, "first");
    let volume = lab.volume(&me, 1).await;
    let gate = lab.driver.hold("extend_volume", 1);
    lab.cloud.volume_extend(&me, volume.id, ExtendVolume { new_size: GiB(4), in_use: false }).await.unwrap();
    gate.reached().await;
    first.kill();
    // The promises stand while nobody works.
    assert_eq!(lab.used(&me, "gigabytes").await, (1, 3));
    assert_eq!(lab.pool().await, (1, 3));
    lab.run(&ALL);
    lab.rest(volume.id).await;
    let now = lab.volume_now(volume.id).await.unwrap();
    assert_eq!((now.status, now.size.0), (VolumeStatus::Available, 4));
    assert_eq!(lab.used(&me, "gigabytes").await, (4, 0));
    lab.close().await;
}

#[tokio::test]
async fn a_restarted_process_takes_its_own_work_up_at_once() {
    let mut lab = Lab::without_runner("").await;
    let me = member("p");
    let first = lab.process(&ALL, "here");
    let volume = lab.volume(&me, 1).await;
    let snapshot = lab.snapshot(&me, volume.id).await;
    let gate = lab.driver.hold("delete_snapshot", 1);
    lab.cloud.snapshot_delete(&me, snapshot.id).await.unwrap();
    gate.reached().await;
    first.kill();
    // The same owner.
    lab.run(&ALL);
    lab.rest(snapshot.id).await;
    assert!(lab.snapshot_now(snapshot.id).await.is_none());
    lab.close().await;
}

/// A paused owner wakes up after another has taken over: its claim is over, and the driver is told so before it changes anything.
#[tokio::test]
async fn i4_a_paused_owner_changes_nothing() {
    let mut lab = Lab::without_runner("").await;
    let me = member("p");
    let first = lab.process(&ALL, "first");
    let volume = lab.volume(&me, 1).await;
    let gate = lab.driver.hold("create_snapshot", 1);
    let snapshot = lab.cloud.snapshot_create(&me, new_snapshot(volume.id)).await.unwrap();
    gate.reached().await;
    let paused = first.pause().await;
    lab.run(&ALL);
    lab.rest(snapshot.id).await;
    assert_eq!(lab.driver.calls("create_snapshot"), 1);
    lab.cloud.snapshot_delete(&me, snapshot.id).await.unwrap();
    lab.rest(snapshot.id).await;
    gate.open();
    paused.end();
    // It would show on the backend: the row is gone.
    let other = lab.volume(&me, 1).await;
    assert_eq!(lab.driver.calls("create_snapshot"), 1);
    lab.cloud.volume_delete(&me, other.id, DeleteVolume::default()).await.unwrap();
    lab.rest(other.id).await;
    first.kill();
    lab.close().await;
}

#[tokio::test]
async fn a_cancelled_snapshot_is_undone() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let labour = lab.driver.labour("create_snapshot");
    let snapshot = lab.cloud.snapshot_create(&me, new_snapshot(volume.id)).await.unwrap();
    labour.reached().await;
    let job = lab.job_of(&me, snapshot.id).await;
    assert!(!job.cancel_requested);
    assert_eq!(
        text(lab.cloud.job_cancel(&member("q"), job.id).await),
        format!("Job {} could not be found.", job.id)
    );
    assert!(lab.cloud.job_cancel(&me, job.id).await.unwrap().cancel_requested);
    lab.rest(snapshot.id).await;
    assert_eq!(lab.snapshot_now(snapshot.id).await.unwrap().status, SnapshotStatus::Error);
    assert_eq!(lab.driver.calls("create_snapshot"), 0);
    let job = lab.cloud.job_show(&me, job.id).await.unwrap();
    assert_eq!(job.state, JobState::Cancelled);
    assert_eq!(text(lab.cloud.job_cancel(&me, job.id).await), format!("Job {} has ended.", job.id));
    assert!(lab.told(&me).await.is_empty(), "who has asked for it knows");
    lab.cloud.snapshot_delete(&me, snapshot.id).await.unwrap();
    lab.rest(snapshot.id).await;
    lab.close().await;
}

#[tokio::test]
async fn what_is_cancelled_before_it_begins_does_not_begin() {
    let mut lab = Lab::without_runner("").await;
    let me = member("p");
    let wanted = NewVolume { size: Some(GiB(1)), ..NewVolume::default() };
    let volume = lab.cloud.volume_create(&me, wanted).await.unwrap();
    let job = lab.job_of(&me, volume.id).await;
    lab.cloud.job_cancel(&me, job.id).await.unwrap();
    lab.cloud.job_cancel(&me, job.id).await.expect("asking again is fine");
    lab.run(&ALL);
    lab.rest(volume.id).await;
    assert_eq!(lab.cloud.job_show(&me, job.id).await.unwrap().state, JobState::Cancelled);
    assert_eq!(lab.volume_now(volume.id).await.unwrap().status, VolumeStatus::Error);
    assert_eq!(lab.driver.calls("create_volume"), 0);
    assert_eq!(lab.pool().await, (0, 0));
    assert!(lab.told(&me).await.is_empty());
    lab.cloud.volume_delete(&me, volume.id, DeleteVolume::default()).await.unwrap();
    assert!(lab.volume_now(volume.id).await.is_none(), "it was on no backend");
    lab.close().await;
}

#[tokio::test]
async fn what_cannot_be_taken_back_cannot_be_cancelled() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let gate = lab.driver.hold("extend_volume", 1);
    lab.cloud.volume_extend(&me, volume.id, ExtendVolume { new_size: GiB(2), in_use: false }).await.unwrap();
    gate.reached().await;
    let job = lab.job_of(&me, volume.id).await;
    assert_eq!(
        text(lab.cloud.job_cancel(&admin(), job.id).await),
        format!("Job {} cannot be cancelled: volume.extend runs to its end.", job.id)
    );
    gate.open();
    lab.rest(volume.id).await;
    assert_eq!(lab.volume_now(volume.id).await.unwrap().size.0, 2);
    lab.close().await;
}

/// An undo that fails for good ends the job: the volume in error keeps what is left, says where it is, and takes it along when deleted.
#[tokio::test]
async fn i3_an_undo_that_fails_for_good_ends_in_error_with_its_reason() {
    let lab = Lab::start().await;
    let me = member("p");
    lab.driver.fail("create_volume", ErrorKind::Backend);
    for _ in 0..5 {
        lab.driver.fail("delete_volume", ErrorKind::Backend);
    }
    let wanted = NewVolume { size: Some(GiB(1)), ..NewVolume::default() };
    let volume = lab.cloud.volume_create(&me, wanted).await.unwrap();
    let job = lab.job_of(&me, volume.id).await;
    lab.rest(volume.id).await;
    let now = lab.volume_now(volume.id).await.unwrap();
    assert_eq!((now.status, now.host.is_some()), (VolumeStatus::Error, true));
    let job = lab.cloud.job_show(&admin(), job.id).await.unwrap();
    assert_eq!(job.state, JobState::Failed);
    let error = job.error.clone().unwrap();
    assert!(error.contains("create_volume was told to fail"), "{error}");
    assert!(error.contains("what the step build did could not be taken back: delete_volume"), "{error}");
    assert_eq!(lab.told(&me).await.len(), 1);
    assert_eq!(lab.pool().await, (1, 0), "what is left still takes its place");
    lab.cloud.volume_delete(&me, volume.id, DeleteVolume::default()).await.unwrap();
    lab.rest(volume.id).await;
    assert!(lab.volume_now(volume.id).await.is_none());
    assert_eq!(lab.driver.calls("delete_volume"), 1);
    assert_eq!(lab.pool().await, (0, 0));
    lab.close().await;
}

#[tokio::test]
async fn what_has_failed_is_taken_back_and_cannot_be_cancelled() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    lab.driver.fail("create_snapshot", ErrorKind::Backend);
    lab.driver.fail("delete_snapshot", ErrorKind::Backend);
    let gate = lab.driver.hold("delete_snapshot", 1);
    let snapshot = lab.cloud.snapshot_create(&me, new_snapshot(volume.id)).await.unwrap();
    gate.reached().await;
    let job = lab.job_of(&me, snapshot.id).await;
    assert_eq!(
        text(lab.cloud.job_cancel(&me, job.id).await),
        format!("Job {} has failed and takes back what it did; it ends by itself.", job.id)
    );
    assert!(!lab.cloud.job_show(&me, job.id).await.unwrap().cancel_requested);
    gate.open();
    lab.rest(snapshot.id).await;
    let job = lab.cloud.job_show(&admin(), job.id).await.unwrap();
    assert_eq!(job.state, JobState::Failed);
    assert!(!job.error.clone().unwrap().contains("taken back"), "the second try took it back");
    lab.cloud.snapshot_delete(&me, snapshot.id).await.unwrap();
    lab.rest(snapshot.id).await;
    lab.close().await;
}

#[tokio::test]
async fn a_step_that_panics_has_failed() {
    let lab = Lab::start().await;
    let me = member("p");
    lab.driver.panic("create_volume");
    let wanted = NewVolume { size: Some(GiB(1)), ..NewVolume::default() };
    let volume = lab.cloud.volume_create(&me, wanted).await.unwrap();
    let job = lab.job_of(&me, volume.id).await;
    lab.rest(volume.id).await;
    assert_eq!(lab.volume_now(volume.id).await.unwrap().status, VolumeStatus::Error);
    let error = lab.cloud.job_show(&admin(), job.id).await.unwrap().error.clone().unwrap();
    assert!(error.contains("create_volume was told to panic"), "{error}");
    lab.close().await;
}

/// What an operator has taken out of `deleting` may be in use again when its deletion's turn comes: it is kept, with its snapshots.
#[tokio::test]
async fn a_deletion_stops_at_what_was_reset() {
    let mut lab = Lab::without_runner("").await;
    let me = member("p");
    let first = lab.process(&ALL, "first");
    let volume = lab.volume(&me, 1).await;
    let snapshot = lab.snapshot(&me, volume.id).await;
    let alone = lab.snapshot(&me, volume.id).await;
    first.kill();
    lab.cloud.snapshot_delete(&me, alone.id).await.unwrap();
    lab.cloud.snapshot_reset(&admin(), alone.id, SnapshotStatus::Available).await.unwrap();
    lab.run(&ALL);
    lab.rest(alone.id).await;
    assert_eq!(lab.snapshot_now(alone.id).await.unwrap().status, SnapshotStatus::Available);
    let gate = lab.driver.hold("delete_snapshot", 1);
    let how = DeleteVolume { cascade: true, ..DeleteVolume::default() };
    lab.cloud.volume_delete(&me, volume.id, how).await.unwrap();
    gate.reached().await;
    let job = lab.job_of(&me, volume.id).await;
    let reset = ResetVolume { status: Some(VolumeStatus::Available), ..ResetVolume::default() };
    lab.cloud.volume_reset(&admin(), volume.id, reset).await.unwrap();
    gate.open();
    lab.rest(volume.id).await;
    assert_eq!(lab.volume_now(volume.id).await.unwrap().status, VolumeStatus::Available);
    assert_eq!(lab.driver.calls("delete_volume"), 0);
    let job = lab.cloud.job_show(&admin(), job.id).await.unwrap();
    assert_eq!(job.state, JobState::Failed);
    assert!(job.error.clone().unwrap().contains("was reset to available meanwhile: it is kept"));
    assert!(lab.snapshot_now(snapshot.id).await.is_some());
    lab.close().await;
}
