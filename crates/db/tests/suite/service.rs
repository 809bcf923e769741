//! Services and their heartbeats.

use db::service::NewService;

use crate::support::Lab;

on_each_database!(
    a_service_is_found_again,
    up_goes_by_the_databases_clock,
    a_service_is_switched_off_with_a_reason,
    rows_that_cinder_wrote_without_a_heartbeat_are_read,
);

fn a_service(host: &str, binary: &str) -> NewService {
    NewService {
        host: host.into(),
        binary: binary.into(),
        topic: binary.into(),
        availability_zone: "nova".into(),
        enabled: true,
    }
}

const MINUTE: i64 = 60_000_000;

async fn a_service_is_found_again(lab: Lab) {
    let first = db::service::register(&lab.db, &a_service("n@b", "cinder-volume")).await.unwrap();
    let other = db::service::register(&lab.db, &a_service("n", "cinder-backup")).await.unwrap();
    let moved =
        NewService { availability_zone: "z2".into(), enabled: false, ..a_service("n@b", "cinder-volume") };
    assert_eq!(db::service::register(&lab.db, &moved).await.unwrap(), first);
    assert_ne!(first, other);
    let listed = db::service::list(&mut lab.db.read(), MINUTE).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!((listed[0].id, listed[0].availability_zone.as_deref()), (first, Some("z2")));
    assert!(!listed[0].disabled, "a restart does not switch a service off");
    assert_eq!((listed[0].host.as_str(), listed[0].binary.as_str()), ("n@b", "cinder-volume"));
    let new = NewService { enabled: false, ..a_service("m", "cinder-volume") };
    db::service::register(&lab.db, &new).await.unwrap();
    assert!(db::service::list(&mut lab.db.read(), MINUTE).await.unwrap()[2].disabled);
}

async fn up_goes_by_the_databases_clock(lab: Lab) {
    let id = db::service::register(&lab.db, &a_service("n", "cinder-scheduler")).await.unwrap();
    let up = |down_after: i64| {
        let db = lab.db.clone();
        async move { db::service::list(&mut db.read(), down_after).await.unwrap()[0].up }
    };
    assert!(up(MINUTE).await);
    lab.exec("UPDATE services SET updated_at = '2026-01-01 00:00:00'").await;
    assert!(!up(MINUTE).await);
    assert!(up(i64::MAX).await);
    db::service::beat(&lab.db, id).await.unwrap();
    assert!(up(MINUTE).await);
    assert_eq!(lab.number("SELECT report_count AS n FROM services").await, 1);
}

async fn a_service_is_switched_off_with_a_reason(lab: Lab) {
    db::service::register(&lab.db, &a_service("n", "cinder-volume")).await.unwrap();
    let mut tx = lab.db.begin().await.unwrap();
    assert!(db::service::switch(&mut tx, "n", "cinder-volume", true, Some("repair")).await.unwrap());
    assert!(!db::service::switch(&mut tx, "n", "cinder-backup", true, None).await.unwrap());
    tx.commit().await.unwrap();
    let service = db::service::list(&mut lab.db.read(), MINUTE).await.unwrap().remove(0);
    assert_eq!((service.disabled, service.disabled_reason.as_deref()), (true, Some("repair")));
    let mut tx = lab.db.begin().await.unwrap();
    db::service::switch(&mut tx, "n", "cinder-volume", false, None).await.unwrap();
    tx.commit().await.unwrap();
    let service = db::service::list(&mut lab.db.read(), MINUTE).await.unwrap().remove(0);
    assert_eq!((service.disabled, service.disabled_reason), (false, None));
}

async fn rows_that_cinder_wrote_without_a_heartbeat_are_read(lab: Lab) {
    lab.exec(
        "INSERT INTO services (created_at, deleted, host, \"binary\", report_count, disabled, uuid) \
         VALUES ({utc}, FALSE, 'h', 'cinder-volume', 0, NULL, '6f1b0e9e-3c7b-4a63-9d4a-0b8f7b6f4f5e')",
    )
    .await;
    let service = db::service::list(&mut lab.db.read(), MINUTE).await.unwrap().remove(0);
    assert!(service.up && !service.disabled);
    assert_eq!((service.frozen, service.updated_at), (false, None));
}
