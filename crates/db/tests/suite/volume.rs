//! Volumes: what is stored is what is read, metadata of three kinds, places, sums.

use std::collections::BTreeMap;

use db::volume::{Metadata, NewVolume};
use model::list::ListQuery;
use model::{GiB, ServiceId, SnapshotId, VolumeId, VolumeStatus};

use crate::support::{Lab, make};

on_each_database!(
    what_is_stored_is_read,
    metadata_is_set_dropped_and_replaced_by_exact_keys,
    names_and_descriptions_change_apart,
    a_volume_is_placed_launched_grown_and_terminated,
    a_backend_is_asked_for_by_its_exact_name,
    sums_are_of_live_volumes,
    a_row_that_is_gone_is_a_tombstone,
    i5_what_was_given_up_has_none,
    a_held_status_holds_until_the_end,
    a_list_costs_the_same_whatever_its_length,
);

async fn what_is_stored_is_read(lab: Lab) {
    let kind = make::default_type(&lab.db).await;
    let new = NewVolume {
        op: model::transition::VolumeOp::Create,
        name: Some("Größe – 数据 🦀".into()),
        description: Some(String::new()),
        size: GiB(17),
        snapshot_id: Some(SnapshotId::new()),
        source_volid: Some(VolumeId::new()),
        bootable: true,
        multiattach: true,
        use_quota: false,
        replication_status: Some("disabled".into()),
        metadata: [("a b".to_owned(), "'\"; --".to_owned()), ("ключ".to_owned(), String::new())].into(),
        ..make::a_volume(kind)
    };
    let mut tx = lab.db.begin().await.unwrap();
    db::volume::insert(&mut tx, &new).await.unwrap();
    let inside = db::volume::get(&mut tx, new.id).await.unwrap().expect("seen by its own transaction");
    assert_eq!(inside.status, VolumeStatus::Creating);
    assert!(db::volume::get(&mut lab.db.read(), new.id).await.unwrap().is_none(), "and by no other");
    tx.commit().await.unwrap();
    let volume = db::volume::get(&mut lab.db.read(), new.id).await.unwrap().expect("there");
    assert_eq!((volume.name, volume.description), (new.name, new.description));
    assert_eq!(
        (volume.size, volume.type_id, volume.type_name.as_deref()),
        (GiB(17), kind, Some("__DEFAULT__"))
    );
    assert_eq!((volume.snapshot_id, volume.source_volid), (new.snapshot_id, new.source_volid));
    assert_eq!((volume.bootable, volume.multiattach, volume.use_quota), (true, true, false));
    assert_eq!((volume.metadata, volume.replication_status), (new.metadata, new.replication_status));
    assert_eq!((volume.user_id.as_deref(), volume.project_id.as_deref()), (Some("u"), Some("p")));
    assert_eq!((volume.host, volume.launched_at, volume.updated_at), (None, None, None));
    let age = chrono::Utc::now() - volume.created_at.expect("a time");
    assert!(age.num_seconds().abs() < 30, "{age}");
}

async fn metadata_is_set_dropped_and_replaced_by_exact_keys(lab: Lab) {
    let id = make::volume(&lab.db).await;
    for kind in [Metadata::User, Metadata::Admin, Metadata::Image] {
        let mut tx = lab.db.begin().await.unwrap();
        db::volume::put_metadata(&mut tx, kind, id, "Key", "upper").await.unwrap();
        db::volume::put_metadata(&mut tx, kind, id, "key", "lower").await.unwrap();
        db::volume::put_metadata(&mut tx, kind, id, "key", "again").await.unwrap();
        assert!(!db::volume::drop_metadata(&mut tx, kind, id, "KEY").await.unwrap());
        assert!(db::volume::drop_metadata(&mut tx, kind, id, "Key").await.unwrap());
        assert!(!db::volume::drop_metadata(&mut tx, kind, id, "Key").await.unwrap());
        tx.commit().await.unwrap();
    }
    let volume = db::volume::get(&mut lab.db.read(), id).await.unwrap().unwrap();
    assert_eq!(volume.admin_metadata, [("key".to_owned(), "again".to_owned())].into());
    assert_eq!(volume.image_metadata, volume.admin_metadata);
    assert_eq!(volume.metadata.len(), 2, "{:?}", volume.metadata);
    let wanted: BTreeMap<String, String> = [("KEY", "1"), ("key", "2"), ("new", "")].map(own).into();
    let mut tx = lab.db.begin().await.unwrap();
    db::volume::replace_metadata(&mut tx, Metadata::User, id, &wanted).await.unwrap();
    tx.commit().await.unwrap();
    let volume = db::volume::get(&mut lab.db.read(), id).await.unwrap().unwrap();
    assert_eq!(volume.metadata, wanted);
    let mut tx = lab.db.begin().await.unwrap();
    db::volume::replace_metadata(&mut tx, Metadata::User, id, &BTreeMap::new()).await.unwrap();
    tx.commit().await.unwrap();
    assert!(db::volume::get(&mut lab.db.read(), id).await.unwrap().unwrap().metadata.is_empty());
}

fn own((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

async fn names_and_descriptions_change_apart(lab: Lab) {
    let id = make::volume(&lab.db).await;
    let mut tx = lab.db.begin().await.unwrap();
    db::volume::rename(&mut tx, id, Some(Some("new")), None).await.unwrap();
    db::volume::rename(&mut tx, id, None, Some(Some("said"))).await.unwrap();
    tx.commit().await.unwrap();
    let volume = db::volume::get(&mut lab.db.read(), id).await.unwrap().unwrap();
    assert_eq!((volume.name.as_deref(), volume.description.as_deref()), (Some("new"), Some("said")));
    assert!(volume.updated_at >= volume.created_at);
    let mut tx = lab.db.begin().await.unwrap();
    db::volume::rename(&mut tx, id, Some(None), Some(None)).await.unwrap();
    tx.commit().await.unwrap();
    let volume = db::volume::get(&mut lab.db.read(), id).await.unwrap().unwrap();
    assert_eq!((volume.name, volume.description), (None, None));
}

async fn a_volume_is_placed_launched_grown_and_terminated(lab: Lab) {
    let id = make::volume(&lab.db).await;
    let service = ServiceId::new();
    let mut tx = lab.db.begin().await.unwrap();
    tx.exec(
        db::sql::sql("INSERT INTO services (report_count, uuid, deleted) VALUES (0, ?, FALSE)").bind(service),
    )
    .await
    .unwrap();
    db::volume::place(&mut tx, id, &"node@fast#ssd".parse().unwrap(), "zone-1").await.unwrap();
    db::volume::launched(&mut tx, id, Some("where"), Some("which"), Some(service)).await.unwrap();
    db::volume::resize(&mut tx, id, GiB(5)).await.unwrap();
    db::volume::set_bootable(&mut tx, id, true).await.unwrap();
    db::volume::terminated(&mut tx, id).await.unwrap();
    tx.commit().await.unwrap();
    let volume = db::volume::get(&mut lab.db.read(), id).await.unwrap().unwrap();
    assert_eq!(volume.host.as_ref().map(ToString::to_string).as_deref(), Some("node@fast#ssd"));
    assert_eq!(volume.availability_zone.as_deref(), Some("zone-1"));
    assert_eq!(
        (volume.provider_location.as_deref(), volume.provider_id.as_deref()),
        (Some("where"), Some("which"))
    );
    assert_eq!((volume.size, volume.bootable, volume.service_uuid), (GiB(5), true, Some(service)));
    assert_eq!(volume.shared_targets, Some(false));
    assert!(volume.launched_at.is_some());
    assert_eq!(lab.number("SELECT COUNT(*) AS n FROM volumes WHERE terminated_at IS NOT NULL").await, 1);
    let mut tx = lab.db.begin().await.unwrap();
    db::volume::unplace(&mut tx, id).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db::volume::get(&mut lab.db.read(), id).await.unwrap().unwrap().host, None);
}

/// An underscore or a per cent sign in a host's name is no wildcard: the reconciler compares these with what is stored.
async fn a_backend_is_asked_for_by_its_exact_name(lab: Lab) {
    let mine = make::placed_volume(&lab.db, "node_1@b#p", 1).await;
    let bare = make::placed_volume(&lab.db, "node_1@b", 1).await;
    for other in ["nodeX1@b#p", "node_1@bb#p", "NODE_1@b#p", "node_1@c#p"] {
        make::placed_volume(&lab.db, other, 1).await;
    }
    let found = db::volume::on_backend(&mut lab.db.read(), "node_1@b").await.unwrap();
    let mut ids: Vec<VolumeId> = found.iter().map(|volume| volume.id).collect();
    ids.sort_unstable();
    let mut expected = [mine, bare];
    expected.sort_unstable();
    assert_eq!(ids, expected);
}

async fn sums_are_of_live_volumes(lab: Lab) {
    let kind = make::default_type(&lab.db).await;
    assert_eq!(db::volume::summary(&mut lab.db.read(), None).await.unwrap(), (0, 0));
    for (project, size, value) in [("p", 2, "x"), ("p", 3, "y"), ("q", 10, "x")] {
        let metadata = [("m".to_owned(), value.to_owned())].into();
        let new = NewVolume { project_id: project.into(), size: GiB(size), metadata, ..make::a_volume(kind) };
        make::volume_of(&lab.db, new).await;
    }
    let gone = make::volume(&lab.db).await;
    lab.exec(&format!("UPDATE volumes SET deleted = TRUE WHERE id = '{gone}'")).await;
    let from = &mut lab.db.read();
    assert_eq!(db::volume::summary(from, Some("p")).await.unwrap(), (2, 5));
    assert_eq!(db::volume::summary(from, None).await.unwrap(), (3, 15));
    let metadata = db::volume::summary_metadata(from, Some("p")).await.unwrap();
    assert_eq!(metadata, [("m".to_owned(), vec!["x".to_owned(), "y".to_owned()])].into());
    assert_eq!(db::volume::summary_metadata(from, None).await.unwrap()["m"], ["x", "y"]);
}

async fn a_row_that_is_gone_is_a_tombstone(lab: Lab) {
    let id = make::volume(&lab.db).await;
    let from = &mut lab.db.read();
    assert_eq!(db::volume::tombstone(from, id).await.unwrap(), Some(false));
    lab.exec(&format!("UPDATE volumes SET deleted = TRUE WHERE id = '{id}'")).await;
    assert_eq!(db::volume::tombstone(from, id).await.unwrap(), Some(true));
    assert_eq!(db::volume::tombstone(from, VolumeId::new()).await.unwrap(), None);
    assert!(db::volume::get(from, id).await.unwrap().is_none());
}

/// I5: whatever has its name on a backend is nobody's to remove.
async fn i5_what_was_given_up_has_none(lab: Lab) {
    let id = make::volume(&lab.db).await;
    let mut tx = lab.db.begin().await.unwrap();
    db::volume::given_up(&mut tx, id).await.unwrap();
    assert_eq!(db::volume::tombstone(&mut tx, id).await.unwrap(), Some(false), "until its row goes");
    let (op, done) = (model::transition::VolumeOp::Unmanage, db::transition::Outcome::Done);
    db::transition::finish_volume(&mut tx, id, op, done, db::event::By::default()).await.unwrap();
    tx.commit().await.unwrap();
    let from = &mut lab.db.read();
    assert_eq!(db::volume::tombstone(from, id).await.unwrap(), None);
    // Not so when a row that is deleted has another's name, and one that lives has it too.
    let other = make::volume(&lab.db).await;
    lab.exec(&format!("UPDATE volumes SET _name_id = '{id}' WHERE id = '{other}'")).await;
    assert_eq!(db::volume::tombstone(from, id).await.unwrap(), Some(false));
}

async fn a_held_status_holds_until_the_end(lab: Lab) {
    let id = make::volume(&lab.db).await;
    let mut tx = lab.db.begin().await.unwrap();
    assert!(!db::volume::hold(&mut tx, id, &[VolumeStatus::InUse]).await.unwrap());
    assert!(!db::volume::hold(&mut tx, id, &[]).await.unwrap());
    assert!(db::volume::hold(&mut tx, id, &[VolumeStatus::Available, VolumeStatus::InUse]).await.unwrap());
    let db = lab.db.clone();
    let other = tokio::spawn(async move {
        let mut tx = db.begin().await.unwrap();
        tx.exec(db::sql::sql("UPDATE volumes SET status = 'error' WHERE id = ?").bind(id)).await.unwrap();
        tx.commit().await.unwrap();
    });
    // Whatever the other does meanwhile, we see it as we hold it.
    for _ in 0..20 {
        tokio::task::yield_now().await;
        let volume = db::volume::get(&mut tx, id).await.unwrap().unwrap();
        assert_eq!(volume.status, VolumeStatus::Available);
    }
    assert!(!other.is_finished());
    tx.commit().await.unwrap();
    other.await.unwrap();
    assert_eq!(db::volume::get(&mut lab.db.read(), id).await.unwrap().unwrap().status, VolumeStatus::Error);
}

async fn a_list_costs_the_same_whatever_its_length(lab: Lab) {
    let mut costs = Vec::new();
    for _ in 0..2 {
        for _ in 0..3 {
            let id = make::volume(&lab.db).await;
            make::attachment(&lab.db, id, model::AttachStatus::Attached).await;
        }
        let before = lab.db.statements();
        let query = ListQuery { with_count: true, ..ListQuery::all(Some("p".into())) };
        let listed = db::volume::list(&mut lab.db.read(), &query).await.unwrap();
        costs.push((lab.db.statements() - before, listed.items.len()));
    }
    assert_eq!(costs, [(7, 3), (7, 6)]);
}
