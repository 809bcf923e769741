//! Snapshots.

use std::collections::BTreeMap;

use model::list::ListQuery;
use model::{SnapshotId, SnapshotStatus};

use crate::support::{Lab, make};

on_each_database!(
    what_is_stored_is_read,
    metadata_is_set_dropped_and_replaced_by_exact_keys,
    those_of_a_volume_come_oldest_first,
    a_row_that_is_gone_is_a_tombstone,
    a_list_costs_the_same_whatever_its_length,
);

async fn what_is_stored_is_read(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    let mut new = make::a_snapshot(&lab.db, volume).await;
    new.description = Some("früh".into());
    new.use_quota = false;
    let mut tx = lab.db.begin().await.unwrap();
    db::snapshot::insert(&mut tx, &new).await.unwrap();
    db::snapshot::taken(&mut tx, new.id, Some("here"), Some("it"), "100%").await.unwrap();
    db::snapshot::rename(&mut tx, new.id, Some(None), None).await.unwrap();
    assert!(db::snapshot::hold(&mut tx, new.id, &[SnapshotStatus::Creating]).await.unwrap());
    assert!(!db::snapshot::hold(&mut tx, new.id, &[SnapshotStatus::Available]).await.unwrap());
    tx.commit().await.unwrap();
    let snapshot = db::snapshot::get(&mut lab.db.read(), new.id).await.unwrap().unwrap();
    assert_eq!((snapshot.volume_id, snapshot.status), (volume, SnapshotStatus::Creating));
    assert_eq!((snapshot.name, snapshot.description), (None, new.description));
    assert_eq!(
        (snapshot.provider_location.as_deref(), snapshot.provider_id.as_deref()),
        (Some("here"), Some("it"))
    );
    assert_eq!((snapshot.progress.as_deref(), snapshot.use_quota), (Some("100%"), false));
    assert_eq!((snapshot.metadata, snapshot.volume_size), (new.metadata, new.size));
}

async fn metadata_is_set_dropped_and_replaced_by_exact_keys(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    let id = make::snapshot(&lab.db, volume).await;
    let mut tx = lab.db.begin().await.unwrap();
    db::snapshot::put_metadata(&mut tx, id, "K", "upper").await.unwrap();
    db::snapshot::put_metadata(&mut tx, id, "k", "again").await.unwrap();
    tx.commit().await.unwrap();
    let metadata = db::snapshot::get(&mut lab.db.read(), id).await.unwrap().unwrap().metadata;
    assert_eq!(metadata, [("K", "upper"), ("k", "again")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    let mut tx = lab.db.begin().await.unwrap();
    assert!(db::snapshot::drop_metadata(&mut tx, id, "K").await.unwrap());
    assert!(!db::snapshot::drop_metadata(&mut tx, id, "K").await.unwrap());
    let wanted: BTreeMap<String, String> = [("K".to_owned(), "1".to_owned())].into();
    db::snapshot::replace_metadata(&mut tx, id, &wanted).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db::snapshot::get(&mut lab.db.read(), id).await.unwrap().unwrap().metadata, wanted);
}

async fn those_of_a_volume_come_oldest_first(lab: Lab) {
    let (volume, other) = (make::volume(&lab.db).await, make::volume(&lab.db).await);
    let mut expected = Vec::new();
    for day in 1..4 {
        let id = make::snapshot(&lab.db, volume).await;
        lab.exec(&format!(
            "UPDATE snapshots SET created_at = '2026-01-0{} 00:00:00' WHERE id = '{id}'",
            4 - day
        ))
        .await;
        expected.insert(0, id);
    }
    make::snapshot(&lab.db, other).await;
    let found = db::snapshot::of_volume(&mut lab.db.read(), volume).await.unwrap();
    assert_eq!(found.iter().map(|snapshot| snapshot.id).collect::<Vec<_>>(), expected);
}

async fn a_row_that_is_gone_is_a_tombstone(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    let id = make::snapshot(&lab.db, volume).await;
    let from = &mut lab.db.read();
    assert_eq!(db::snapshot::tombstone(from, id).await.unwrap(), Some(false));
    lab.exec("UPDATE snapshots SET deleted = TRUE").await;
    assert_eq!(db::snapshot::tombstone(from, id).await.unwrap(), Some(true));
    assert_eq!(db::snapshot::tombstone(from, SnapshotId::new()).await.unwrap(), None);
    assert!(db::snapshot::get(from, id).await.unwrap().is_none());
}

async fn a_list_costs_the_same_whatever_its_length(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    let mut costs = Vec::new();
    for _ in 0..2 {
        make::snapshot(&lab.db, volume).await;
        let before = lab.db.statements();
        let listed = db::snapshot::list(&mut lab.db.read(), &ListQuery::all(Some("p".into()))).await.unwrap();
        costs.push((lab.db.statements() - before, listed.items.len()));
    }
    assert_eq!(costs, [(2, 1), (2, 2)]);
}
