//! Transitions: every row of the tables in `model::transition`, one winner each (I2), an event each, and what nobody owns
//! is found (I3).

use std::sync::Arc;

use db::Db;
use db::event::{By, Event};
use db::job::NewJob;
use db::transition::{Begin, Outcome, Resettable, Unowned};
use model::job::ResourceRef;
use model::transition::{After, BackupOp, Guard, SnapshotOp, VolumeMove, VolumeOp};
use model::{AttachStatus, AttachmentId, BackupStatus, JobId, SnapshotStatus, VolumeId, VolumeStatus};

use crate::support::{Lab, make};

on_each_database!(
    i2_volumes_begin_only_where_the_table_says,
    i2_volumes_end_where_the_table_says,
    i2_snapshots_follow_their_table,
    i2_backups_follow_their_table,
    i2_clients_moves_follow_their_table,
    i2_one_of_many_begins_wins,
    i2_guards_hold_in_the_same_update,
    i2_a_snapshot_and_a_deletion_at_once_never_both_win,
    i2_attachments_that_move_at_once_leave_their_volume_right,
    a_reset_by_an_operator_is_not_overwritten,
    a_hypervisors_report_moves_a_snapshot_once,
    a_volume_follows_its_attachments,
    a_volume_that_a_job_has_falls_back_to_its_attachments,
    i3_what_no_job_would_end_is_found_and_settled,
    i3_an_operators_maintenance_stays_and_that_of_a_job_that_is_gone_ends,
);

async fn set_status(lab: &Lab, table: &str, id: impl std::fmt::Display, status: &str) {
    lab.exec(&format!("UPDATE {table} SET status = '{status}' WHERE id = '{id}'")).await;
}

async fn status(db: &Db, id: VolumeId) -> VolumeStatus {
    db::volume::get(&mut db.read(), id).await.unwrap().expect("there").status
}

async fn events(db: &Db, id: impl ToString) -> Vec<Event> {
    db::event::of(&mut db.read(), &id.to_string(), 0, 1000).await.unwrap()
}

async fn begin(db: &Db, id: VolumeId, op: VolumeOp) -> Begin {
    let mut tx = db.begin().await.unwrap();
    let begun = db::transition::begin_volume(&mut tx, id, op, By::default()).await.unwrap();
    tx.commit().await.unwrap();
    begun
}

async fn i2_volumes_begin_only_where_the_table_says(lab: Lab) {
    let id = make::volume(&lab.db).await;
    for op in VolumeOp::ALL {
        let rule = op.rule();
        let Some(shows) = rule.shows.filter(|_| !rule.from.is_empty()) else { continue };
        for from in VolumeStatus::ALL {
            set_status(&lab, "volumes", id, from.as_str()).await;
            let before = events(&lab.db, id).await.len();
            let begun = begin(&lab.db, id, *op).await;
            let (now, after) = (status(&lab.db, id).await, events(&lab.db, id).await);
            if rule.from.contains(from) {
                assert_eq!((begun, now), (Begin::Moved, shows), "{op:?} from {from:?}");
                let event = after.last().expect("an event");
                assert_eq!(after.len(), before + 1);
                assert_eq!(
                    (event.from.as_deref(), event.to.as_deref()),
                    (Some(from.as_str()), Some(shows.as_str()))
                );
            } else {
                let refused = Begin::Refused { status: from.as_str().into(), unmet: vec![] };
                assert_eq!((begun, now, after.len()), (refused, *from, before), "{op:?} from {from:?}");
            }
        }
    }
    assert_eq!(begin(&lab.db, VolumeId::new(), VolumeOp::Extend).await, Begin::Missing);
    lab.exec("UPDATE volumes SET deleted = TRUE, status = 'available'").await;
    assert_eq!(begin(&lab.db, id, VolumeOp::Extend).await, Begin::Missing);
}

async fn i2_volumes_end_where_the_table_says(lab: Lab) {
    for op in VolumeOp::ALL {
        for outcome in [Outcome::Done, Outcome::Failed, Outcome::Undone] {
            let id = make::volume(&lab.db).await;
            let rule = op.rule();
            let started_as = rule.from.first().copied().or(rule.shows).unwrap_or(VolumeStatus::Creating);
            set_status(&lab, "volumes", id, started_as.as_str()).await;
            if started_as == VolumeStatus::InUse {
                make::attachment(&lab.db, id, AttachStatus::Attached).await;
            }
            let mut tx = lab.db.begin().await.unwrap();
            // A creation begins with the row.
            if !rule.from.is_empty() {
                assert_eq!(
                    db::transition::begin_volume(&mut tx, id, *op, By::default()).await.unwrap(),
                    Begin::Moved
                );
            }
            // Twice: what a repeated step does again changes nothing.
            for _ in 0..2 {
                db::transition::finish_volume(&mut tx, id, *op, outcome, By::default()).await.unwrap();
            }
            tx.commit().await.unwrap();
            let after = match outcome {
                Outcome::Done => rule.done,
                Outcome::Failed => rule.failed,
                Outcome::Undone => After::Back,
            };
            let expected = match after {
                After::Be(status) => status,
                // Nothing came before a creation.
                After::Back if rule.from.is_empty() => VolumeStatus::Available,
                After::Back | After::ByAttachments => started_as,
                After::Gone => {
                    assert_eq!(
                        db::volume::tombstone(&mut lab.db.read(), id).await.unwrap(),
                        Some(true),
                        "{op:?}"
                    );
                    let last = events(&lab.db, id).await.pop().expect("an event");
                    assert_eq!(last.to.as_deref(), Some("deleted"));
                    continue;
                }
            };
            assert_eq!(status(&lab.db, id).await, expected, "{op:?} {outcome:?}");
            let last = events(&lab.db, id).await.pop().expect("an event");
            assert_eq!(last.to.as_deref(), Some(expected.as_str()), "{op:?} {outcome:?}");
        }
    }
}

async fn i2_snapshots_follow_their_table(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    for op in SnapshotOp::ALL {
        for outcome in [Outcome::Done, Outcome::Failed, Outcome::Undone] {
            let id = make::snapshot(&lab.db, volume).await;
            let rule = op.rule();
            let from = rule.from.first().copied().unwrap_or(SnapshotStatus::Creating);
            for wrong in SnapshotStatus::ALL
                .iter()
                .filter(|status| !rule.from.is_empty() && !rule.from.contains(status))
            {
                set_status(&lab, "snapshots", id, wrong.as_str()).await;
                let mut tx = lab.db.begin().await.unwrap();
                let begun = db::transition::begin_snapshot(&mut tx, id, *op, By::default()).await.unwrap();
                assert_eq!(begun, Begin::Refused { status: wrong.as_str().into(), unmet: vec![] });
            }
            set_status(&lab, "snapshots", id, from.as_str()).await;
            let mut tx = lab.db.begin().await.unwrap();
            if !rule.from.is_empty() {
                assert_eq!(
                    db::transition::begin_snapshot(&mut tx, id, *op, By::default()).await.unwrap(),
                    Begin::Moved
                );
            }
            db::transition::finish_snapshot(&mut tx, id, *op, outcome, By::default()).await.unwrap();
            tx.commit().await.unwrap();
            let now =
                db::snapshot::get(&mut lab.db.read(), id).await.unwrap().map(|snapshot| snapshot.status);
            let expected = match (outcome, rule.done, rule.failed) {
                (Outcome::Done, After::Gone, _) => None,
                (Outcome::Done, After::Be(status), _) | (Outcome::Failed, _, After::Be(status)) => {
                    Some(status)
                }
                (Outcome::Undone, ..) => Some(SnapshotStatus::Available),
                other => panic!("{other:?}"),
            };
            assert_eq!(now, expected, "{op:?} {outcome:?}");
        }
    }
}

async fn i2_backups_follow_their_table(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    for op in BackupOp::ALL {
        for outcome in [Outcome::Done, Outcome::Failed] {
            let id = make::backup(&lab.db, volume, None).await;
            let rule = op.rule();
            let from = rule.from.first().copied().unwrap_or(BackupStatus::Creating);
            for wrong in
                BackupStatus::ALL.iter().filter(|status| !rule.from.is_empty() && !rule.from.contains(status))
            {
                set_status(&lab, "backups", id, wrong.as_str()).await;
                let mut tx = lab.db.begin().await.unwrap();
                let begun = db::transition::begin_backup(&mut tx, id, *op, By::default()).await.unwrap();
                assert_eq!(begun, Begin::Refused { status: wrong.as_str().into(), unmet: vec![] });
            }
            set_status(&lab, "backups", id, from.as_str()).await;
            let mut tx = lab.db.begin().await.unwrap();
            if !rule.from.is_empty() {
                assert_eq!(
                    db::transition::begin_backup(&mut tx, id, *op, By::default()).await.unwrap(),
                    Begin::Moved
                );
            }
            db::transition::finish_backup(&mut tx, id, *op, outcome, By::default()).await.unwrap();
            tx.commit().await.unwrap();
            let now = db::backup::get(&mut lab.db.read(), id).await.unwrap().map(|backup| backup.status);
            let expected = match (outcome, rule.done, rule.failed) {
                (Outcome::Done, After::Gone, _) => None,
                (Outcome::Done, After::Be(status), _) | (Outcome::Failed, _, After::Be(status)) => {
                    Some(status)
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(now, expected, "{op:?} {outcome:?}");
        }
    }
}

async fn i2_clients_moves_follow_their_table(lab: Lab) {
    use VolumeMove::{
        AttachmentReserve, AttachmentReserveMulti, BeginDetaching, Reserve, ReserveMulti, RollDetaching,
    };
    let id = make::volume(&lab.db).await;
    lab.exec("UPDATE volumes SET multiattach = TRUE, attach_status = 'attached'").await;
    for how in
        [Reserve, ReserveMulti, AttachmentReserve, AttachmentReserveMulti, BeginDetaching, RollDetaching]
    {
        let (from, to) = how.rule();
        for was in VolumeStatus::ALL {
            set_status(&lab, "volumes", id, was.as_str()).await;
            let mut tx = lab.db.begin().await.unwrap();
            let begun = db::transition::move_volume(&mut tx, id, how, By::default()).await.unwrap();
            tx.commit().await.unwrap();
            let moved = from.contains(was);
            assert_eq!(begun == Begin::Moved, moved, "{how:?} from {was:?}");
            assert_eq!(status(&lab.db, id).await, if moved { to } else { *was }, "{how:?} from {was:?}");
        }
    }
    lab.exec("UPDATE volumes SET multiattach = FALSE, status = 'available'").await;
    let mut tx = lab.db.begin().await.unwrap();
    let refused = db::transition::move_volume(&mut tx, id, ReserveMulti, By::default()).await.unwrap();
    assert_eq!(refused, Begin::Refused { status: "available".into(), unmet: vec![Guard::Multiattach] });
}

async fn i2_one_of_many_begins_wins(lab: Lab) {
    for round in 0..4 {
        let id = make::volume(&lab.db).await;
        let beside = Arc::new([lab.db.clone(), lab.beside().await]);
        let mut beginning = Vec::new();
        for n in 0..8 {
            let beside = beside.clone();
            beginning.push(tokio::spawn(async move {
                let op = if n % 2 == 0 { VolumeOp::Extend } else { VolumeOp::Delete };
                begin(&beside[n % 2], id, op).await
            }));
        }
        let mut moved = 0;
        for begun in beginning {
            match begun.await.unwrap() {
                Begin::Moved => moved += 1,
                Begin::Refused { status, .. } => {
                    // The status as the loser found it, or as the winner has made it meanwhile.
                    assert!(["available", "extending", "deleting"].contains(&status.as_str()), "{status}");
                }
                Begin::Missing => panic!("it is there"),
            }
        }
        assert_eq!(moved, 1, "round {round}");
        let changes = events(&lab.db, id).await;
        assert_eq!(changes.len(), 2, "made, begun: {changes:?}");
        assert_eq!(changes[1].to.as_deref(), Some(status(&lab.db, id).await.as_str()));
    }
}

async fn i2_guards_hold_in_the_same_update(lab: Lab) {
    let cases: &[(&str, Option<Guard>)] = &[
        ("attach_status = 'attached'", Some(Guard::NotAttached)),
        ("attach_status = NULL", None),
        ("migration_status = 'migrating'", Some(Guard::NotMigrating)),
        ("migration_status = 'error'", None),
    ];
    for (column, unmet) in cases {
        let id = make::volume(&lab.db).await;
        lab.exec(&format!("UPDATE volumes SET {column} WHERE id = '{id}'")).await;
        let begun = begin(&lab.db, id, VolumeOp::Delete).await;
        match unmet {
            Some(guard) => {
                assert_eq!(
                    begun,
                    Begin::Refused { status: "available".into(), unmet: vec![*guard] },
                    "{column}"
                );
            }
            None => assert_eq!(begun, Begin::Moved, "{column}"),
        }
    }
    let id = make::volume(&lab.db).await;
    make::snapshot(&lab.db, id).await;
    let refused = Begin::Refused { status: "available".into(), unmet: vec![Guard::NoSnapshots] };
    assert_eq!(begin(&lab.db, id, VolumeOp::Delete).await, refused);
    let mut tx = lab.db.begin().await.unwrap();
    let waived = db::transition::begin_volume_without(
        &mut tx,
        id,
        VolumeOp::Delete,
        Guard::NoSnapshots,
        By::default(),
    )
    .await;
    assert_eq!(waived.unwrap(), Begin::Moved);
    tx.commit().await.unwrap();
    let parent = make::backup(&lab.db, id, None).await;
    let child = make::backup(&lab.db, id, Some(parent)).await;
    let mut tx = lab.db.begin().await.unwrap();
    let refused =
        db::transition::begin_backup(&mut tx, parent, BackupOp::Delete, By::default()).await.unwrap();
    assert_eq!(refused, Begin::Refused { status: "available".into(), unmet: vec![Guard::NoDependents] });
    let moved = db::transition::begin_backup(&mut tx, child, BackupOp::Delete, By::default()).await.unwrap();
    assert_eq!(moved, Begin::Moved);
    db::transition::finish_backup(&mut tx, child, BackupOp::Delete, Outcome::Done, By::default())
        .await
        .unwrap();
    let moved =
        db::transition::begin_backup(&mut tx, parent, BackupOp::ForceDelete, By::default()).await.unwrap();
    assert_eq!(moved, Begin::Moved);
}

/// The snapshot's use case holds its volume, the deletion asks for none: whoever is second sees the first.
async fn i2_a_snapshot_and_a_deletion_at_once_never_both_win(lab: Lab) {
    for _ in 0..6 {
        let id = make::volume(&lab.db).await;
        let new = make::a_snapshot(&lab.db, id).await;
        let (one, two) = (lab.db.clone(), lab.db.clone());
        let snapping = tokio::spawn(async move {
            let mut tx = one.begin().await.unwrap();
            if !db::volume::hold(&mut tx, id, &[VolumeStatus::Available]).await.unwrap() {
                return false;
            }
            db::snapshot::insert(&mut tx, &new).await.unwrap();
            tx.commit().await.unwrap();
            true
        });
        let deleting = tokio::spawn(async move { begin(&two, id, VolumeOp::Delete).await == Begin::Moved });
        let (snapped, deleted) = (snapping.await.unwrap(), deleting.await.unwrap());
        assert!(snapped != deleted, "snapshot {snapped}, deletion {deleted}");
    }
}

async fn move_attachment(db: &Db, id: AttachmentId, from: &[AttachStatus], to: AttachStatus) -> bool {
    let mut tx = db.begin().await.unwrap();
    let moved = db::transition::move_attachment(&mut tx, id, from, to, By::default()).await.unwrap();
    tx.commit().await.unwrap();
    moved
}

async fn i2_attachments_that_move_at_once_leave_their_volume_right(lab: Lab) {
    for round in 0..6 {
        let id = make::volume(&lab.db).await;
        let mut moving = Vec::new();
        let mut attachments = Vec::new();
        for _ in 0..4 {
            attachments.push(make::attachment(&lab.db, id, AttachStatus::Attached).await);
        }
        set_status(&lab, "volumes", id, "in-use").await;
        // All but the first go at once; the volume stays in use.
        for attachment in attachments.iter().skip(usize::from(round % 2 == 0)).copied() {
            let db = lab.db.clone();
            moving.push(tokio::spawn(async move {
                move_attachment(&db, attachment, &[AttachStatus::Attached], AttachStatus::Detached).await
            }));
        }
        for moved in moving {
            assert!(moved.await.unwrap());
        }
        let volume = db::volume::get(&mut lab.db.read(), id).await.unwrap().unwrap();
        let expected = if round % 2 == 0 { VolumeStatus::InUse } else { VolumeStatus::Available };
        assert_eq!(
            (volume.status, volume.attachments.len()),
            (expected, usize::from(round % 2 == 0)),
            "round {round}"
        );
    }
}

async fn a_reset_by_an_operator_is_not_overwritten(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    begin(&lab.db, volume, VolumeOp::Extend).await;
    let by = By { request_id: Some("req"), ..By::default() };
    let mut tx = lab.db.begin().await.unwrap();
    let columns =
        [("status", Some("error")), ("migration_status", None), ("attach_status", Some("detached"))];
    let reset =
        db::transition::reset(&mut tx, Resettable::Volume, &volume.to_string(), &columns, by).await.unwrap();
    assert!(reset);
    db::transition::finish_volume(&mut tx, volume, VolumeOp::Extend, Outcome::Done, By::default())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(status(&lab.db, volume).await, VolumeStatus::Error);
    let last = events(&lab.db, volume).await.pop().unwrap();
    assert_eq!((last.from.as_deref(), last.to.as_deref()), (Some("extending"), Some("error")));
    assert_eq!(last.request_id.as_deref(), Some("req"));
    let snapshot = make::snapshot(&lab.db, volume).await.to_string();
    let backup = make::backup(&lab.db, volume, None).await.to_string();
    let mut tx = lab.db.begin().await.unwrap();
    for (what, id) in [(Resettable::Snapshot, &snapshot), (Resettable::Backup, &backup)] {
        assert!(db::transition::reset(&mut tx, what, id, &[("status", Some("error"))], by).await.unwrap());
        let nobody = JobId::new().to_string();
        assert!(
            !db::transition::reset(&mut tx, what, &nobody, &[("status", Some("error"))], by).await.unwrap()
        );
    }
    tx.commit().await.unwrap();
    // A deletion that is done is done, whatever an operator says meanwhile.
    begin(&lab.db, volume, VolumeOp::ForceDelete).await;
    set_status(&lab, "volumes", volume, "available").await;
    let mut tx = lab.db.begin().await.unwrap();
    db::transition::finish_volume(&mut tx, volume, VolumeOp::ForceDelete, Outcome::Done, By::default())
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

async fn a_hypervisors_report_moves_a_snapshot_once(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    let id = make::snapshot(&lab.db, volume).await;
    set_status(&lab, "snapshots", id, "creating").await;
    let report = |from, to, progress: Option<&'static str>| {
        let db = lab.db.clone();
        async move {
            let mut tx = db.begin().await.unwrap();
            let moved = db::transition::report_snapshot(&mut tx, id, from, to, progress, By::default())
                .await
                .unwrap();
            tx.commit().await.unwrap();
            moved
        }
    };
    use SnapshotStatus::{Available, Creating};
    assert!(report(Creating, Creating, Some("50%")).await);
    assert!(report(Creating, Available, None).await);
    assert!(!report(Creating, Available, Some("0%")).await);
    let snapshot = db::snapshot::get(&mut lab.db.read(), id).await.unwrap().unwrap();
    assert_eq!((snapshot.status, snapshot.progress.as_deref()), (Available, Some("50%")));
    assert_eq!(events(&lab.db, id).await.len(), 2);
}

async fn a_volume_follows_its_attachments(lab: Lab) {
    let id = make::volume(&lab.db).await;
    let first = make::attachment(&lab.db, id, AttachStatus::Reserved).await;
    set_status(&lab, "volumes", id, "reserved").await;
    assert!(move_attachment(&lab.db, first, &[AttachStatus::Reserved], AttachStatus::Attaching).await);
    assert_eq!(status(&lab.db, id).await, VolumeStatus::Attaching);
    assert!(!move_attachment(&lab.db, first, &[AttachStatus::Reserved], AttachStatus::Attaching).await);
    assert!(move_attachment(&lab.db, first, &[AttachStatus::Attaching], AttachStatus::Attached).await);
    assert_eq!(status(&lab.db, id).await, VolumeStatus::InUse);
    let second = make::attachment(&lab.db, id, AttachStatus::Attaching).await;
    assert!(move_attachment(&lab.db, second, &[AttachStatus::Attaching], AttachStatus::ErrorAttaching).await);
    assert_eq!(status(&lab.db, id).await, VolumeStatus::InUse, "one that fails changes nothing");
    assert!(move_attachment(&lab.db, first, AttachStatus::ALL, AttachStatus::Detached).await);
    let volume = db::volume::get(&mut lab.db.read(), id).await.unwrap().unwrap();
    assert_eq!(volume.status, VolumeStatus::Available);
    assert_eq!(volume.attachments.len(), 1);
    let mut tx = lab.db.begin().await.unwrap();
    db::transition::remove_attachments(&mut tx, id, By::default()).await.unwrap();
    tx.commit().await.unwrap();
    assert!(db::attachment::of_volume(&mut lab.db.read(), id).await.unwrap().is_empty());
    set_status(&lab, "volumes", id, "attaching").await;
    let mut tx = lab.db.begin().await.unwrap();
    assert!(db::transition::unreserve_volume(&mut tx, id, By::default()).await.unwrap());
    assert!(!db::transition::unreserve_volume(&mut tx, id, By::default()).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(status(&lab.db, id).await, VolumeStatus::Available);
    assert_eq!(events(&lab.db, first).await.len(), 3);
}

async fn a_volume_that_a_job_has_falls_back_to_its_attachments(lab: Lab) {
    let id = make::volume(&lab.db).await;
    let attachment = make::attachment(&lab.db, id, AttachStatus::Attached).await;
    set_status(&lab, "volumes", id, "in-use").await;
    begin(&lab.db, id, VolumeOp::BackUpInUse).await;
    assert!(move_attachment(&lab.db, attachment, AttachStatus::ALL, AttachStatus::Detached).await);
    assert_eq!(status(&lab.db, id).await, VolumeStatus::BackingUp, "the job ends it");
    let mut tx = lab.db.begin().await.unwrap();
    db::transition::finish_volume(&mut tx, id, VolumeOp::BackUpInUse, Outcome::Done, By::default())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(status(&lab.db, id).await, VolumeStatus::Available);
    // As an operator's recount would.
    set_status(&lab, "volumes", id, "in-use").await;
    let mut tx = lab.db.begin().await.unwrap();
    db::transition::derive_volume(&mut tx, id, By::default()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(status(&lab.db, id).await, VolumeStatus::Available);
}

async fn i3_what_no_job_would_end_is_found_and_settled(lab: Lab) {
    let (owned, named, stuck) =
        (make::volume(&lab.db).await, make::volume(&lab.db).await, make::volume(&lab.db).await);
    for id in [owned, named, stuck] {
        begin(&lab.db, id, VolumeOp::Extend).await;
    }
    let snapshot = make::snapshot(&lab.db, stuck).await;
    set_status(&lab, "snapshots", snapshot, "deleting").await;
    let mut tx = lab.db.begin().await.unwrap();
    let job = NewJob {
        id: JobId::new(),
        operation: "volume.extend",
        resource: ResourceRef { kind: "volume".into(), id: owned.to_string() },
        project_id: None,
        user_id: None,
        request_id: None,
        queue: "q".into(),
        request: serde_json::json!({"also": {"volume_id": named}}),
        locks: vec![],
    };
    db::job::insert(&mut tx, job).await.unwrap();
    tx.commit().await.unwrap();
    let mut found = db::transition::unowned(&mut lab.db.read()).await.unwrap();
    found.sort_by_key(|stuck| stuck.kind);
    let expected = [
        Unowned { kind: "snapshot", id: snapshot.to_string(), status: "deleting".into() },
        Unowned { kind: "volume", id: stuck.to_string(), status: "extending".into() },
    ];
    assert_eq!(found, expected);
    let mut tx = lab.db.begin().await.unwrap();
    for stuck in &found {
        assert!(db::transition::settle_unowned(&mut tx, stuck).await.unwrap());
        assert!(!db::transition::settle_unowned(&mut tx, stuck).await.unwrap());
    }
    let not_stuck = Unowned { kind: "volume", id: owned.to_string(), status: "extending".into() };
    assert!(!db::transition::settle_unowned(&mut tx, &not_stuck).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(status(&lab.db, stuck).await, VolumeStatus::Error);
    assert!(db::transition::unowned(&mut lab.db.read()).await.unwrap().is_empty());
}

/// I3: maintenance is a migration's to end only while there is one; else it is the administrator's.
async fn i3_an_operators_maintenance_stays_and_that_of_a_job_that_is_gone_ends(lab: Lab) {
    let (set, moved, locked) =
        (make::volume(&lab.db).await, make::volume(&lab.db).await, make::volume(&lab.db).await);
    let maintenance = VolumeStatus::Maintenance.as_str();
    for id in [set, moved] {
        set_status(&lab, "volumes", id, maintenance).await;
    }
    let mut tx = lab.db.begin().await.unwrap();
    let columns = [("status", Some(maintenance)), ("migration_status", Some("success"))];
    let (name, by) = (moved.to_string(), By::default());
    db::transition::reset(&mut tx, Resettable::Volume, &name, &columns, by).await.unwrap();
    let to = db::migration::Destination::Host("elsewhere@x");
    let now = db::migration::begin(&mut tx, locked, to, true, by).await.unwrap();
    assert_eq!(now, Some(VolumeStatus::Maintenance));
    assert_eq!(db::migration::begin(&mut tx, locked, to, true, by).await.unwrap(), None);
    tx.commit().await.unwrap();
    let found = db::transition::unowned(&mut lab.db.read()).await.unwrap();
    assert_eq!(found, [Unowned { kind: "volume", id: locked.to_string(), status: maintenance.into() }]);
    let mut tx = lab.db.begin().await.unwrap();
    assert!(db::transition::settle_unowned(&mut tx, &found[0]).await.unwrap());
    let not_stuck = Unowned { id: set.to_string(), ..found[0].clone() };
    assert!(!db::transition::settle_unowned(&mut tx, &not_stuck).await.unwrap());
    tx.commit().await.unwrap();
    let row = db::volume::get(&mut lab.db.read(), locked).await.unwrap().unwrap();
    assert_eq!((row.status, row.migration_status.as_deref()), (VolumeStatus::Error, Some("error")));
    assert_eq!(status(&lab.db, set).await, VolumeStatus::Maintenance);
}
