//! Attachments.

use model::list::{Compare, Filter, ListQuery};
use model::{AttachMode, AttachStatus, AttachmentId, ConnectionInfo, Connector};
use serde_json::json;

use crate::support::{Lab, make};

on_each_database!(
    a_connection_is_stored_whole_and_read_back,
    what_cinder_stored_is_read,
    lists_are_of_a_projects_volumes,
    a_held_attachment_is_a_live_one,
);

fn map(value: serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    value.as_object().expect("an object").clone()
}

async fn a_connection_is_stored_whole_and_read_back(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    let id = make::attachment(&lab.db, volume, AttachStatus::Reserved).await;
    let fresh = db::attachment::get(&mut lab.db.read(), id).await.unwrap().unwrap();
    assert_eq!((fresh.status, fresh.mode), (AttachStatus::Reserved, Some(AttachMode::Unset)));
    assert!(fresh.connector.is_none() && fresh.connection_info.is_none());
    let connector = Connector(map(
        json!({"initiator": "iqn.1993-08.org.debian:01:ü", "host": "hyp", "multipath": false}),
    ));
    let info = ConnectionInfo {
        driver_volume_type: "iscsi".into(),
        data: map(
            json!({"target_lun": 1, "target_iqn": "iqn.2010-10.org.openstack:volume", "discard": true}),
        ),
    };
    let mut tx = lab.db.begin().await.unwrap();
    db::attachment::connected(&mut tx, id, &connector, &info, AttachMode::ReadOnly).await.unwrap();
    tx.commit().await.unwrap();
    let read = db::attachment::get(&mut lab.db.read(), id).await.unwrap().unwrap();
    assert_eq!((read.connector, read.mode), (Some(connector), Some(AttachMode::ReadOnly)));
    let stored = read.connection_info.unwrap();
    assert_eq!((stored.driver_volume_type.as_str(), &stored.data["target_lun"]), ("iscsi", &json!(1)));
    assert_eq!(read.attached_host.as_deref(), Some("hyp"));
    assert!(read.attach_time.is_some() && read.detach_time.is_none());
    let mut tx = lab.db.begin().await.unwrap();
    db::attachment::attached(&mut tx, id, Some("/dev/vdb"), AttachMode::ReadWrite).await.unwrap();
    db::attachment::attached(&mut tx, id, None, AttachMode::ReadWrite).await.unwrap();
    tx.commit().await.unwrap();
    let read = db::attachment::of_volume(&mut lab.db.read(), volume).await.unwrap().remove(0);
    assert_eq!((read.mountpoint.as_deref(), read.mode), (Some("/dev/vdb"), Some(AttachMode::ReadWrite)));
}

/// Empty texts and objects, `null`, a mode that is not known yet.
async fn what_cinder_stored_is_read(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    let id = make::attachment(&lab.db, volume, AttachStatus::Attaching).await;
    for (connector, info, mode) in [("null", "{}", "'null'"), ("{}", "null", "NULL"), ("null", "{}", "''")] {
        lab.exec(&format!(
            "UPDATE volume_attachment SET connector = '{connector}', connection_info = '{info}', attach_mode = {mode}"
        ))
        .await;
        let read = db::attachment::get(&mut lab.db.read(), id).await.unwrap().unwrap();
        assert!(read.connector.is_none() && read.connection_info.is_none());
    }
}

async fn lists_are_of_a_projects_volumes(lab: Lab) {
    let kind = make::default_type(&lab.db).await;
    let mine = make::volume(&lab.db).await;
    let other =
        make::volume_of(&lab.db, db::volume::NewVolume { project_id: "q".into(), ..make::a_volume(kind) })
            .await;
    let (a, b) = (
        make::attachment(&lab.db, mine, AttachStatus::Attached).await,
        make::attachment(&lab.db, other, AttachStatus::Reserved).await,
    );
    let list = |query: ListQuery| {
        let db = lab.db.clone();
        async move {
            let listed = db::attachment::list(&mut db.read(), &query).await.unwrap();
            let mut ids: Vec<AttachmentId> = listed.items.iter().map(|attachment| attachment.id).collect();
            ids.sort_unstable();
            ids
        }
    };
    let mut both = vec![a, b];
    both.sort_unstable();
    assert_eq!(list(ListQuery::all(None)).await, both);
    assert_eq!(list(ListQuery::all(Some("p".into()))).await, [a]);
    let filter = |field: &str, value: &str| ListQuery {
        filters: vec![Filter { field: field.into(), compare: Compare::Equal, value: value.into() }],
        ..ListQuery::all(None)
    };
    assert_eq!(list(filter("volume_id", &other.to_string())).await, [b]);
    assert_eq!(list(filter("attach_status", "attached")).await, [a]);
    let paged = ListQuery { marker: Some(a.to_string()), ..ListQuery::all(Some("p".into())) };
    assert_eq!(list(paged).await, []);
    let stranger = ListQuery { marker: Some(b.to_string()), ..ListQuery::all(Some("p".into())) };
    let refused = db::attachment::list(&mut lab.db.read(), &stranger).await;
    assert!(matches!(refused, Err(db::Error::BadMarker(_))));
}

async fn a_held_attachment_is_a_live_one(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    let id = make::attachment(&lab.db, volume, AttachStatus::Attached).await;
    let mut tx = lab.db.begin().await.unwrap();
    assert_eq!(db::attachment::hold(&mut tx, id).await.unwrap().unwrap().id, id);
    assert!(db::attachment::hold(&mut tx, AttachmentId::new()).await.unwrap().is_none());
    tx.commit().await.unwrap();
    lab.exec("UPDATE volume_attachment SET deleted = TRUE").await;
    let mut tx = lab.db.begin().await.unwrap();
    assert!(db::attachment::hold(&mut tx, id).await.unwrap().is_none());
}
