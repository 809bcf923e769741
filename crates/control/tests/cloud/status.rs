//! Statuses set from outside: an administrator's resets, a hypervisor's reports.

use control::request::{DeleteVolume, ReportSnapshot, ResetVolume};
use model::volume::VolumeAttachStatus;
use model::{SnapshotStatus, VolumeStatus};

use crate::lab::{Lab, admin, member, new_snapshot, text};

fn status(status: VolumeStatus) -> ResetVolume {
    ResetVolume { status: Some(status), ..ResetVolume::default() }
}

#[tokio::test]
async fn a_volume_is_reset() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let id = volume.id;
    lab.cloud.volume_reset(&admin(), id, status(VolumeStatus::Error)).await.unwrap();
    assert_eq!(lab.volume_now(id).await.unwrap().status, VolumeStatus::Error);
    assert_eq!(
        text(lab.cloud.volume_reset(&me, id, status(VolumeStatus::Available)).await),
        "Policy doesn't allow volume_extension:volume_admin_actions:reset_status to be performed."
    );
    for refused in [VolumeStatus::Deleting, VolumeStatus::ErrorDeleting, VolumeStatus::Detaching] {
        assert_eq!(
            text(lab.cloud.volume_reset(&admin(), id, status(refused)).await),
            format!("Cannot reset-state to {refused}")
        );
    }
    assert_eq!(
        text(lab.cloud.volume_reset(&admin(), id, status(VolumeStatus::InUse)).await),
        "Cannot reset-state to in-use because volume does not have any attachments."
    );
    let migration =
        ResetVolume { migration_status: Some(Some("migrating".into())), ..ResetVolume::default() };
    lab.cloud.volume_reset(&admin(), id, migration).await.unwrap();
    let now = lab.volume_now(id).await.unwrap();
    assert_eq!((now.status, now.migration_status.as_deref()), (VolumeStatus::Error, Some("migrating")));
    let none = ResetVolume { migration_status: Some(None), ..status(VolumeStatus::Available) };
    lab.cloud.volume_reset(&admin(), id, none).await.unwrap();
    let now = lab.volume_now(id).await.unwrap();
    assert_eq!((now.status, now.migration_status), (VolumeStatus::Available, None));
    lab.close().await;
}

#[tokio::test]
async fn reset_to_detached_ends_all_attachments() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    lab.attach(volume.id).await;
    lab.cloud.volume_reset(&admin(), volume.id, status(VolumeStatus::InUse)).await.unwrap();
    let detached =
        ResetVolume { attach_status: Some(VolumeAttachStatus::Detached), ..status(VolumeStatus::Error) };
    lab.cloud.volume_reset(&admin(), volume.id, detached).await.unwrap();
    let now = lab.volume_now(volume.id).await.unwrap();
    assert_eq!((now.status, now.attach_status), (VolumeStatus::Error, Some(VolumeAttachStatus::Detached)));
    assert!(now.attachments.is_empty());
    lab.attach(volume.id).await;
    let detached =
        ResetVolume { attach_status: Some(VolumeAttachStatus::Detached), ..ResetVolume::default() };
    lab.cloud.volume_reset(&admin(), volume.id, detached).await.unwrap();
    assert_eq!(lab.volume_now(volume.id).await.unwrap().status, VolumeStatus::Available);
    lab.close().await;
}

#[tokio::test]
async fn force_deletes_what_is_stuck() {
    let lab = Lab::start().await;
    let me = member("p");
    for stuck in
        [VolumeStatus::Creating, VolumeStatus::Attaching, VolumeStatus::Error, VolumeStatus::Maintenance]
    {
        let volume = lab.volume(&me, 1).await;
        lab.cloud.volume_reset(&admin(), volume.id, status(stuck)).await.unwrap();
        assert_eq!(
            text(lab.cloud.volume_force_delete(&me, volume.id).await),
            "Policy doesn't allow volume_extension:volume_admin_actions:force_delete to be performed."
        );
        lab.cloud.volume_force_delete(&admin(), volume.id).await.unwrap();
        lab.rest(volume.id).await;
        assert!(lab.volume_now(volume.id).await.is_none());
    }
    // Force is about statuses only.
    let volume = lab.volume(&me, 1).await;
    let attachment = lab.attach(volume.id).await;
    let refused = text(lab.cloud.volume_force_delete(&admin(), volume.id).await);
    assert!(refused.contains("must not be migrating, attached"), "{refused}");
    lab.detach(attachment).await;
    lab.snapshot(&me, volume.id).await;
    let refused = text(lab.cloud.volume_force_delete(&admin(), volume.id).await);
    assert!(refused.contains("have snapshots"), "{refused}");
    lab.close().await;
}

/// A job that works on what is reset goes on, and leaves the status that was set alone.
#[tokio::test]
async fn a_reset_outlives_the_job() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let gate = lab.driver.hold("create_snapshot", 1);
    let snapshot = lab.cloud.snapshot_create(&me, new_snapshot(volume.id)).await.unwrap();
    gate.reached().await;
    lab.cloud.snapshot_reset(&admin(), snapshot.id, SnapshotStatus::Error).await.unwrap();
    gate.open();
    lab.rest(snapshot.id).await;
    let now = lab.snapshot_now(snapshot.id).await.unwrap();
    assert_eq!((now.status, now.progress.as_deref()), (SnapshotStatus::Error, Some("100%")));
    lab.cloud.snapshot_delete(&me, snapshot.id).await.unwrap();
    lab.rest(snapshot.id).await;
    lab.close().await;
}

#[tokio::test]
async fn a_hypervisor_reports() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let snapshot = lab.snapshot(&me, volume.id).await;
    let id = snapshot.id;
    let report = |status: &str, progress: Option<&str>| ReportSnapshot {
        status: status.into(),
        progress: progress.map(str::to_owned),
    };
    assert_eq!(
        text(lab.cloud.snapshot_report(&me, id, &report("available", None)).await),
        "Snapshot status available not allowed for update_snapshot_status"
    );
    lab.cloud.snapshot_reset(&admin(), id, SnapshotStatus::Creating).await.unwrap();
    assert_eq!(
        text(lab.cloud.snapshot_report(&me, id, &report("deleting", None)).await),
        "Provided snapshot status deleting not allowed for snapshot with current status creating."
    );
    lab.cloud.snapshot_report(&me, id, &report("creating", Some("40%"))).await.unwrap();
    let now = lab.snapshot_now(id).await.unwrap();
    assert_eq!((now.status, now.progress.as_deref()), (SnapshotStatus::Creating, Some("40%")));
    lab.cloud.snapshot_report(&me, id, &report("available", None)).await.unwrap();
    let now = lab.snapshot_now(id).await.unwrap();
    assert_eq!((now.status, now.progress.as_deref()), (SnapshotStatus::Available, Some("40%")));
    lab.cloud.snapshot_reset(&admin(), id, SnapshotStatus::Deleting).await.unwrap();
    lab.cloud.snapshot_report(&me, id, &report("error_deleting", None)).await.unwrap();
    assert_eq!(lab.snapshot_now(id).await.unwrap().status, SnapshotStatus::ErrorDeleting);
    lab.cloud.snapshot_force_delete(&admin(), id).await.unwrap();
    lab.rest(id).await;
    lab.close().await;
}

#[tokio::test]
async fn a_frozen_backend_takes_no_changes() {
    let lab = Lab::start().await;
    let me = member("p");
    let volume = lab.volume(&me, 1).await;
    let snapshot = lab.snapshot(&me, volume.id).await;
    lab.freeze(true).await;
    let frozen =
        "Invalid input received: Modification operations are not allowed on frozen storage backends.";
    assert_eq!(text(lab.cloud.snapshot_create(&me, new_snapshot(volume.id)).await), frozen);
    assert_eq!(text(lab.cloud.snapshot_delete(&me, snapshot.id).await), frozen);
    let cascade = DeleteVolume { cascade: true, force: false };
    assert_eq!(text(lab.cloud.volume_delete(&me, volume.id, cascade).await), frozen);
    lab.freeze(false).await;
    lab.cloud.volume_delete(&me, volume.id, cascade).await.unwrap();
    lab.rest(volume.id).await;
    lab.close().await;
}
