//! User messages.

use db::message::NewMessage;
use model::MessageId;
use model::list::ListQuery;

use crate::support::Lab;

on_each_database!(what_is_stored_is_read, a_message_is_deleted_once, messages_expire_by_the_databases_clock);

async fn a_message(lab: &Lab, project: &str, ttl: i64) {
    let mut tx = lab.db.begin().await.unwrap();
    let new = NewMessage {
        project_id: project,
        request_id: Some("req-1"),
        resource_type: "VOLUME",
        resource_uuid: "9f0f4b2c-1d7e-4f7a-8a44-2f2b5c6f8a10",
        action_id: "001",
        detail_id: "002",
        ttl,
    };
    db::message::insert(&mut tx, &new).await.unwrap();
    tx.commit().await.unwrap();
}

async fn what_is_stored_is_read(lab: Lab) {
    a_message(&lab, "p", 3600).await;
    a_message(&lab, "q", 3600).await;
    let listed = db::message::list(&mut lab.db.read(), &ListQuery::all(Some("p".into()))).await.unwrap();
    let [stored] = listed.items.as_slice() else { panic!("one message: {listed:?}") };
    let message = &stored.message;
    assert_eq!(message.event_id, "VOLUME_VOLUME_001_002");
    assert_eq!((message.level.as_str(), message.request_id.as_deref()), ("ERROR", Some("req-1")));
    assert_eq!((stored.action_id.as_deref(), stored.detail_id.as_deref()), (Some("001"), Some("002")));
    let kept = message.expires_at.unwrap() - message.created_at.unwrap();
    assert!((kept.num_seconds() - 3600).abs() <= 2, "{kept}");
    let again = db::message::get(&mut lab.db.read(), message.id).await.unwrap().unwrap();
    assert_eq!(again.message, *message);
    assert!(db::message::get(&mut lab.db.read(), MessageId::new()).await.unwrap().is_none());
}

async fn a_message_is_deleted_once(lab: Lab) {
    a_message(&lab, "p", 3600).await;
    let id = db::message::list(&mut lab.db.read(), &ListQuery::all(None)).await.unwrap().items[0].message.id;
    let mut tx = lab.db.begin().await.unwrap();
    assert!(db::message::delete(&mut tx, id).await.unwrap());
    assert!(!db::message::delete(&mut tx, id).await.unwrap());
    tx.commit().await.unwrap();
    assert!(db::message::get(&mut lab.db.read(), id).await.unwrap().is_none());
}

async fn messages_expire_by_the_databases_clock(lab: Lab) {
    a_message(&lab, "p", -10).await;
    a_message(&lab, "p", 600).await;
    let mut tx = lab.db.begin().await.unwrap();
    assert_eq!(db::message::expire(&mut tx).await.unwrap(), 1);
    assert_eq!(db::message::expire(&mut tx).await.unwrap(), 0);
    tx.commit().await.unwrap();
    assert_eq!(db::message::list(&mut lab.db.read(), &ListQuery::all(None)).await.unwrap().items.len(), 1);
}
