//! Backups.

use std::collections::BTreeMap;

use db::backup::{NewBackup, Place};
use model::list::ListQuery;
use model::{BackupId, BackupStatus, Time};

use crate::support::{Lab, make};

on_each_database!(
    what_is_stored_is_read,
    a_backup_is_placed_written_and_counted_at_its_parent,
    the_parent_is_the_newest_available_one_of_the_project,
    a_reason_is_cut_to_what_fits,
    metadata_is_replaced_whole,
    a_list_costs_the_same_whatever_its_length,
);

async fn what_is_stored_is_read(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    let snapshot = make::snapshot(&lab.db, volume).await;
    let when: Time = "2026-02-03T04:05:06Z".parse().unwrap();
    let new = NewBackup {
        snapshot_id: Some(snapshot),
        description: Some("d".into()),
        container: Some("c".into()),
        size: 3,
        host: Some("h".into()),
        availability_zone: Some("z".into()),
        data_timestamp: Some(when),
        ..make::a_backup(volume, None)
    };
    let mut tx = lab.db.begin().await.unwrap();
    db::backup::insert(&mut tx, &new).await.unwrap();
    db::backup::rename(&mut tx, new.id, Some(Some("other")), Some(None)).await.unwrap();
    assert!(db::backup::hold(&mut tx, new.id, &[BackupStatus::Creating]).await.unwrap());
    assert!(!db::backup::hold(&mut tx, new.id, &[BackupStatus::Available]).await.unwrap());
    tx.commit().await.unwrap();
    let backup = db::backup::get(&mut lab.db.read(), new.id).await.unwrap().unwrap();
    assert_eq!(
        (backup.volume_id, backup.snapshot_id, backup.status),
        (volume, Some(snapshot), BackupStatus::Creating)
    );
    assert_eq!((backup.name.as_deref(), backup.description), (Some("other"), None));
    assert_eq!((backup.container.as_deref(), backup.host.as_deref()), (Some("c"), Some("h")));
    assert_eq!((backup.size, backup.object_count, backup.num_dependent_backups), (Some(3), Some(0), Some(0)));
    assert_eq!((backup.data_timestamp, backup.metadata), (Some(when), new.metadata));
    let now = make::backup(&lab.db, volume, None).await;
    let backup = db::backup::get(&mut lab.db.read(), now).await.unwrap().unwrap();
    assert_eq!(backup.data_timestamp, backup.created_at);
}

async fn a_backup_is_placed_written_and_counted_at_its_parent(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    let snapshot = make::snapshot(&lab.db, volume).await;
    let parent = make::backup(&lab.db, volume, None).await;
    let child = make::backup(&lab.db, volume, Some(parent)).await;
    let place = Place {
        service: "cinder.backup.drivers.posix.PosixBackupDriver",
        container: "59/71",
        service_metadata: "volume_x/20260203/az_nova_backup_y",
        host: "node",
        availability_zone: "nova",
    };
    let mut tx = lab.db.begin().await.unwrap();
    db::backup::assign(&mut tx, child, "first").await.unwrap();
    db::backup::place(&mut tx, child, place).await.unwrap();
    db::backup::through(&mut tx, child, Some(snapshot)).await.unwrap();
    db::backup::restoring_to(&mut tx, child, Some(volume)).await.unwrap();
    let backup = db::backup::get(&mut tx, child).await.unwrap().unwrap();
    db::backup::written(&mut tx, &backup, 42).await.unwrap();
    tx.commit().await.unwrap();
    let from = &mut lab.db.read();
    assert!(db::backup::froze(from, snapshot).await.unwrap());
    let backup = db::backup::get(from, child).await.unwrap().unwrap();
    assert_eq!(
        (backup.service.as_deref(), backup.container.as_deref()),
        (Some(place.service), Some("59/71"))
    );
    assert_eq!(backup.service_metadata.as_deref(), Some(place.service_metadata));
    assert_eq!((backup.host.as_deref(), backup.availability_zone.as_deref()), (Some("node"), Some("nova")));
    assert_eq!((backup.object_count, backup.temp_snapshot_id), (Some(42), Some(snapshot)));
    assert_eq!(backup.restore_volume_id, Some(volume));
    assert_eq!(db::backup::get(from, parent).await.unwrap().unwrap().num_dependent_backups, Some(1));
    let mut tx = lab.db.begin().await.unwrap();
    db::backup::count_dependent(&mut tx, parent, -1).await.unwrap();
    db::backup::through(&mut tx, child, None).await.unwrap();
    db::backup::restoring_to(&mut tx, child, None).await.unwrap();
    tx.commit().await.unwrap();
    assert!(!db::backup::froze(from, snapshot).await.unwrap());
    assert_eq!(db::backup::get(from, parent).await.unwrap().unwrap().num_dependent_backups, Some(0));
    assert_eq!(db::backup::get(from, child).await.unwrap().unwrap().restore_volume_id, None);
}

async fn the_parent_is_the_newest_available_one_of_the_project(lab: Lab) {
    let (volume, other) = (make::volume(&lab.db).await, make::volume(&lab.db).await);
    let mut made: Vec<BackupId> = Vec::new();
    for day in 1..=4 {
        let id = make::backup(&lab.db, volume, None).await;
        lab.exec(&format!(
            "UPDATE backups SET data_timestamp = '2026-03-0{day} 00:00:00.000000' WHERE id = '{id}'"
        ))
        .await;
        made.push(id);
    }
    make::backup(&lab.db, other, None).await;
    lab.exec(&format!("UPDATE backups SET status = 'error' WHERE id = '{}'", made[3])).await;
    lab.exec(&format!("UPDATE backups SET project_id = 'q' WHERE id = '{}'", made[2])).await;
    let from = &mut lab.db.read();
    let found = db::backup::parent(from, volume, "p", None).await.unwrap().map(|backup| backup.id);
    assert_eq!(found, Some(made[1]));
    let before: Time = "2026-03-02T00:00:00Z".parse().unwrap();
    let found = db::backup::parent(from, volume, "p", Some(before)).await.unwrap().map(|backup| backup.id);
    assert_eq!(found, Some(made[0]), "strictly older");
    assert!(db::backup::parent(from, volume, "nobody", None).await.unwrap().is_none());
}

async fn a_reason_is_cut_to_what_fits(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    let id = make::backup(&lab.db, volume, None).await;
    let mut tx = lab.db.begin().await.unwrap();
    db::backup::failed(&mut tx, id, Some(&"ü🦀".repeat(400))).await.unwrap();
    tx.commit().await.unwrap();
    let reason = db::backup::get(&mut lab.db.read(), id).await.unwrap().unwrap().fail_reason.unwrap();
    assert_eq!(reason.chars().count(), 255);
    let mut tx = lab.db.begin().await.unwrap();
    db::backup::failed(&mut tx, id, None).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db::backup::get(&mut lab.db.read(), id).await.unwrap().unwrap().fail_reason, None);
}

async fn metadata_is_replaced_whole(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    let id = make::backup(&lab.db, volume, None).await;
    for wanted in [vec![("a", "1"), ("A", "2")], vec![("k", "v")], vec![]] {
        let wanted: BTreeMap<String, String> =
            wanted.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let mut tx = lab.db.begin().await.unwrap();
        db::backup::replace_metadata(&mut tx, id, &wanted).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db::backup::get(&mut lab.db.read(), id).await.unwrap().unwrap().metadata, wanted);
    }
}

async fn a_list_costs_the_same_whatever_its_length(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    let mut costs = Vec::new();
    for _ in 0..2 {
        make::backup(&lab.db, volume, None).await;
        let before = lab.db.statements();
        let listed = db::backup::list(&mut lab.db.read(), &ListQuery::all(None)).await.unwrap();
        costs.push((lab.db.statements() - before, listed.items.len()));
    }
    assert_eq!(costs, [(2, 1), (2, 2)]);
}
