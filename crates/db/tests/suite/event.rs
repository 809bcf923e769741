//! The log of transitions.

use db::event::{By, Change};
use model::JobId;

use crate::support::Lab;

on_each_database!(events_come_in_order_and_by_pages, an_event_goes_with_its_transaction);

async fn append(lab: &Lab, id: &str, to: &str, by: By<'_>) {
    let mut tx = lab.db.begin().await.unwrap();
    let change = Change { kind: "volume", id, from: Some("a"), to: Some(to), by, detail: Some("ü") };
    db::event::append(&mut tx, change).await.unwrap();
    tx.commit().await.unwrap();
}

async fn events_come_in_order_and_by_pages(lab: Lab) {
    let job = JobId::new();
    for n in 0..5 {
        let by = By { job: Some(job), request_id: Some("req"), project_id: Some("p") };
        append(&lab, "one", &n.to_string(), by).await;
        append(&lab, "other", &n.to_string(), By::default()).await;
    }
    let from = &mut lab.db.read();
    let all = db::event::of(from, "one", 0, 100).await.unwrap();
    let to: Vec<&str> = all.iter().filter_map(|event| event.to.as_deref()).collect();
    assert_eq!(to, ["0", "1", "2", "3", "4"]);
    assert_eq!(
        (all[0].job, all[0].request_id.as_deref(), all[0].detail.as_deref()),
        (Some(job), Some("req"), Some("ü"))
    );
    assert_eq!((all[0].resource.kind.as_str(), all[0].from.as_deref()), ("volume", Some("a")));
    assert!(all.windows(2).all(|pair| pair[0].id < pair[1].id && pair[0].at <= pair[1].at));
    let page = db::event::of(from, "one", all[1].id, 2).await.unwrap();
    assert_eq!(page.iter().map(|event| event.id).collect::<Vec<_>>(), [all[2].id, all[3].id]);
    assert!(db::event::of(from, "none", 0, 10).await.unwrap().is_empty());
    assert_eq!(db::event::of(from, "other", 0, 10).await.unwrap()[0].job, None);
}

async fn an_event_goes_with_its_transaction(lab: Lab) {
    let mut tx = lab.db.begin().await.unwrap();
    let change = Change { kind: "volume", id: "x", from: None, to: None, by: By::default(), detail: None };
    db::event::append(&mut tx, change).await.unwrap();
    drop(tx);
    assert!(db::event::of(&mut lab.db.read(), "x", 0, 10).await.unwrap().is_empty());
}
