//! Transfers, and backups that are taken in by their records.

use db::backup_record::{Imported, Known, Taker};
use db::transfer::{Lock, Owner};
use model::list::ListQuery;
use model::{BackupId, Transfer, TransferId};

use crate::support::{Lab, make};

on_each_database!(
    a_transfer_is_its_volumes_projects,
    i2_an_offer_ends_once,
    what_is_given_has_its_new_owner,
    a_backup_is_taken_in_once,
);

async fn offered(lab: &Lab) -> Transfer {
    let volume_id = make::volume(&lab.db).await;
    let volume = db::volume::get(&mut lab.db.read(), volume_id).await.unwrap().unwrap();
    let new = Transfer {
        id: TransferId::new(),
        volume_id,
        name: Some("n".into()),
        no_snapshots: true,
        source_project_id: volume.project_id,
        destination_project_id: None,
        accepted: false,
        created_at: None,
    };
    let mut tx = lab.db.begin().await.unwrap();
    let lock = Lock { salt: "s".into(), hash: "h".into() };
    db::transfer::insert(&mut tx, &new, &lock).await.unwrap();
    tx.commit().await.unwrap();
    new
}

async fn a_transfer_is_its_volumes_projects(lab: Lab) {
    let new = offered(&lab).await;
    let (read, project) = db::transfer::get(&mut lab.db.read(), new.id).await.unwrap().unwrap();
    assert!(read.created_at.is_some());
    assert_eq!(Transfer { created_at: None, ..read }, new);
    assert_eq!(project, new.source_project_id);
    let lock = db::transfer::lock_of(&mut lab.db.read(), new.id).await.unwrap().unwrap();
    assert_eq!((lock.salt.as_str(), lock.hash.as_str()), ("s", "h"));
    let listed = async |project: Option<String>| {
        db::transfer::list(&mut lab.db.read(), &ListQuery::all(project)).await.unwrap().items.len()
    };
    assert_eq!((listed(project).await, listed(Some("other".into())).await, listed(None).await), (1, 0, 1));
}

async fn i2_an_offer_ends_once(lab: Lab) {
    let new = offered(&lab).await;
    let end = async |take: bool| {
        let mut tx = lab.db.begin().await.unwrap();
        let ended = match take {
            true => db::transfer::accept(&mut tx, new.id, "q").await.unwrap(),
            false => db::transfer::withdraw(&mut tx, new.id).await.unwrap(),
        };
        tx.commit().await.unwrap();
        ended
    };
    let (one, other, third) = tokio::join!(end(true), end(false), end(true));
    assert_eq!([one, other, third].iter().filter(|won| **won).count(), 1);
    assert!(db::transfer::get(&mut lab.db.read(), new.id).await.unwrap().is_none());
}

async fn what_is_given_has_its_new_owner(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    let snapshot = make::snapshot(&lab.db, volume).await;
    let to = Owner { user: "u2", project: "p2" };
    let mut tx = lab.db.begin().await.unwrap();
    db::transfer::give_volume(&mut tx, volume, to).await.unwrap();
    let made = db::snapshot::get(&mut tx, snapshot).await.unwrap().unwrap();
    let given = db::transfer::give_snapshot(&mut tx, snapshot, to).await.unwrap();
    assert_eq!(given, made.status == model::SnapshotStatus::Available);
    tx.commit().await.unwrap();
    let volume = db::volume::get(&mut lab.db.read(), volume).await.unwrap().unwrap();
    assert_eq!((volume.user_id.as_deref(), volume.project_id.as_deref()), (Some("u2"), Some("p2")));
}

async fn a_backup_is_taken_in_once(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    let parent = make::backup(&lab.db, volume, None).await;
    let id = BackupId::new();
    let taker = Taker { user: "u", project: "p", host: "h", size: 2 };
    let begin = async || {
        let mut tx = lab.db.begin().await.unwrap();
        let begun = db::backup_record::begin(&mut tx, id, taker).await.unwrap();
        if begun {
            tx.commit().await.unwrap();
        }
        begun
    };
    let known = async || db::backup_record::known(&mut lab.db.read(), id).await.unwrap();
    assert_eq!(known().await, Known::Never);
    let (one, other) = tokio::join!(begin(), begin());
    assert_eq!([one, other].iter().filter(|won| **won).count(), 1);
    assert_eq!(known().await, Known::Live);
    let says = Imported {
        volume_id: Some(volume),
        parent_id: Some(parent),
        object_count: Some(3),
        ..Imported::default()
    };
    let mut tx = lab.db.begin().await.unwrap();
    db::backup_record::fill(&mut tx, id, &says).await.unwrap();
    tx.commit().await.unwrap();
    let read = db::backup::get(&mut lab.db.read(), id).await.unwrap().unwrap();
    assert_eq!(
        (read.volume_id, read.parent_id, read.object_count, read.size),
        (volume, Some(parent), Some(3), Some(2))
    );
    let parent = db::backup::get(&mut lab.db.read(), parent).await.unwrap().unwrap();
    assert_eq!(parent.num_dependent_backups, Some(1));

    lab.exec(&format!("UPDATE backups SET deleted = TRUE WHERE id = '{id}'")).await;
    assert_eq!(known().await, Known::Deleted);
    assert!(begin().await, "its row is used again");
    let read = db::backup::get(&mut lab.db.read(), id).await.unwrap().unwrap();
    assert_eq!((read.parent_id, read.status), (None, model::BackupStatus::Creating));
}
