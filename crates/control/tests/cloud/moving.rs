//! Retype and migration between two backends: bytes, counters and places, also when the move is given up.

use std::collections::BTreeMap;
use std::sync::Arc;

use control::reconcile::{FindingKind, How};
use control::request::{
    CompleteMigration, DeleteVolume, MigrateVolume, MoveTo, NewType, NewVolume, ResetVolume, RetypeVolume,
};
use control::{Context, volume};
use drivers::{Driver, ErrorKind, Found, OpenMode, Openable};
use model::block::Device;
use model::list::ListQuery;
use model::{GiB, TypeId, Volume, VolumeId, VolumeStatus};

use crate::driver::TestDriver;
use crate::lab::{Lab, OTHER, OTHER_POOL, PATIENCE, POOL, admin, member, text};

fn specs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn new_type(lab: &Lab, name: &str, extra_specs: &[(&str, &str)]) -> TypeId {
    let wanted =
        NewType { name: name.into(), description: None, is_public: true, extra_specs: specs(extra_specs) };
    lab.cloud.type_create(&admin(), wanted).await.unwrap().id
}

/// A volume of a type that keeps it on the first backend, with a pattern at its beginning, its end, and over a chunk's edge.
async fn filled(lab: &Lab, context: &Context) -> Volume {
    new_type(lab, "here", &[("volume_backend_name", "local")]).await;
    let wanted = NewVolume { size: Some(GiB(1)), volume_type: Some("here".into()), ..NewVolume::default() };
    let made = lab.cloud.volume_create(context, wanted).await.unwrap();
    lab.rest(made.id).await;
    let made = lab.volume_now(made.id).await.unwrap();
    assert_eq!(made.host.as_ref().unwrap().to_string(), POOL);
    let device = open(&*lab.driver, &made).await;
    for (offset, data) in pattern() {
        device.write(offset, &data).await.unwrap();
    }
    device.flush().await.unwrap();
    made
}

fn pattern() -> Vec<(u64, Vec<u8>)> {
    let end = GiB(1).bytes() - 4096;
    vec![
        (0, vec![7; 4096]),
        ((1 << 20) - 512, vec![8; 1024]),
        (700 << 20, vec![9; 3 << 20]),
        (end, vec![1; 4096]),
    ]
}

async fn open(driver: &dyn Driver, of: &Volume) -> Device {
    driver.open(Openable::Volume(&volume::reference(of)), OpenMode::Write).await.unwrap()
}

async fn check(driver: &dyn Driver, of: &Volume) {
    let device = open(driver, of).await;
    assert_eq!(device.size(), of.size.bytes());
    for (offset, data) in pattern() {
        let mut got = vec![0; data.len()];
        device.read(offset, &mut got).await.unwrap();
        assert!(got == data, "other bytes at {offset}");
    }
    let mut between = vec![1; 1 << 20];
    device.read(300 << 20, &mut between).await.unwrap();
    assert!(between.iter().all(|byte| *byte == 0));
}

/// The volumes on a backend, by the names it has for them.
async fn on(driver: &dyn Driver) -> Vec<VolumeId> {
    let found = driver.list().await.unwrap();
    found
        .into_iter()
        .filter_map(|one| if let Found::Volume { id, .. } = one { Some(id) } else { None })
        .collect()
}

async fn at(lab: &Lab, name: &str) -> i64 {
    let pools = db::pool::list(&mut lab.cloud.db.read()).await.unwrap();
    pools.iter().find(|pool| pool.name == name).unwrap().allocated_gb
}

fn to(host: &str) -> MigrateVolume {
    MigrateVolume { to: MoveTo::Host(host.into()), lock: false }
}

fn retype(name: &str, on_demand: bool) -> RetypeVolume {
    RetypeVolume { new_type: name.into(), on_demand }
}

/// Waits until nothing works on the volume or on what a move of it left.
async fn settled(lab: &Lab, id: VolumeId) {
    lab.rest(id).await;
    for row in db::volume::list(&mut lab.cloud.db.read(), &ListQuery::all(None)).await.unwrap().items {
        lab.rest(row.id).await;
    }
}

async fn moved(lab: &Lab, other: &Arc<TestDriver>, id: VolumeId) -> Volume {
    settled(lab, id).await;
    let now = lab.volume_now(id).await.unwrap();
    assert_eq!((now.status, now.migration_status.as_deref()), (VolumeStatus::Available, Some("success")));
    assert_eq!(now.host.as_ref().unwrap().to_string(), OTHER_POOL);
    assert_eq!(on(&**other).await, [now.name_id.unwrap()]);
    assert_eq!(on(&*lab.driver).await, []);
    assert_eq!((at(lab, POOL).await, at(lab, OTHER_POOL).await), (0, 1));
    check(&**other, &now).await;
    now
}

/// It is where it was, as it was.
async fn stayed(lab: &Lab, other: &Arc<TestDriver>, id: VolumeId, migration: Option<&str>) -> Volume {
    settled(lab, id).await;
    let now = lab.volume_now(id).await.unwrap();
    assert_eq!((now.status, now.migration_status.as_deref()), (VolumeStatus::Available, migration));
    assert_eq!((now.host.as_ref().unwrap().to_string().as_str(), now.name_id), (POOL, None));
    assert_eq!((on(&*lab.driver).await, on(&**other).await), (vec![id], vec![]));
    assert_eq!((at(lab, POOL).await, at(lab, OTHER_POOL).await), (1, 0));
    check(&*lab.driver, &now).await;
    now
}

#[tokio::test]
async fn a_migration_moves_the_bytes_and_keeps_the_id_and_a_second_one_brings_them_back() {
    let (lab, other) = Lab::with_two_backends().await;
    let me = member("p");
    let id = filled(&lab, &me).await.id;
    // Its type keeps it there.
    lab.cloud.volume_migrate(&admin(), id, to(OTHER_POOL)).await.unwrap();
    stayed(&lab, &other, id, Some("error")).await;
    new_type(&lab, "any", &[]).await;
    let gate = other.hold("create_volume", 1);
    lab.cloud.volume_retype(&me, id, retype("any", false)).await.unwrap();
    lab.rest(id).await;
    lab.cloud.volume_migrate(&admin(), id, MigrateVolume { lock: true, ..to(OTHER_POOL) }).await.unwrap();
    gate.reached().await;
    let now = lab.volume_now(id).await.unwrap();
    assert_eq!((now.status, now.migration_status.as_deref()), (VolumeStatus::Maintenance, Some("migrating")));
    let rows = db::volume::list(&mut lab.cloud.db.read(), &ListQuery::all(None)).await.unwrap().items;
    let target = rows.iter().find(|row| row.id != id).unwrap();
    assert_eq!(target.migration_status, Some(format!("target:{id}")));
    assert_eq!((lab.used(&me, "volumes").await, lab.used(&me, "gigabytes").await), ((1, 0), (1, 0)));
    assert_eq!((at(&lab, POOL).await, at(&lab, OTHER_POOL).await), (1, 1));
    gate.open();
    moved(&lab, &other, id).await;
    lab.cloud.volume_migrate(&admin(), id, to("node@local")).await.unwrap();
    settled(&lab, id).await;
    let now = lab.volume_now(id).await.unwrap();
    assert_eq!(now.host.as_ref().unwrap().to_string(), POOL);
    check(&*lab.driver, &now).await;
    assert_eq!(on(&*other).await, []);
    lab.cloud.volume_delete(&me, id, DeleteVolume::default()).await.unwrap();
    lab.rest(id).await;
    assert_eq!((on(&*lab.driver).await, lab.used(&me, "gigabytes").await), (vec![], (0, 0)));
    lab.close().await;
}

#[tokio::test]
async fn a_retype_that_must_move_moves_and_one_that_may_not_stays() {
    let (lab, other) = Lab::with_two_backends().await;
    let me = member("p");
    let id = filled(&lab, &me).await.id;
    new_type(&lab, "there", &[("volume_backend_name", "other")]).await;
    lab.cloud.volume_retype(&me, id, retype("there", false)).await.unwrap();
    let now = stayed(&lab, &other, id, None).await;
    assert_eq!(now.type_name.as_deref(), Some("here"));
    assert!(lab.told(&me).await[0].1.contains("Could not find any available weighted backend."));
    assert_eq!(lab.used(&me, "gigabytes_there").await, (0, 0));
    lab.cloud.volume_retype(&me, id, retype("there", true)).await.unwrap();
    let now = moved(&lab, &other, id).await;
    assert_eq!(now.type_name.as_deref(), Some("there"));
    assert_eq!((lab.used(&me, "volumes_here").await, lab.used(&me, "volumes_there").await), ((0, 0), (1, 0)));
    assert_eq!(
        (lab.used(&me, "gigabytes_here").await, lab.used(&me, "gigabytes_there").await),
        ((0, 0), (1, 0))
    );
    assert_eq!(lab.used(&me, "gigabytes").await, (1, 0));
    lab.close().await;
}

#[tokio::test]
async fn a_retype_in_place_takes_the_snapshots_share_of_the_quota_along() {
    let (lab, other) = Lab::with_two_backends().await;
    let me = member("p");
    let id = filled(&lab, &me).await.id;
    new_type(&lab, "too", &[]).await;
    new_type(&lab, "there", &[("volume_backend_name", "other")]).await;
    lab.snapshot(&me, id).await;
    // It cannot move with its snapshot.
    lab.cloud.volume_retype(&me, id, retype("there", true)).await.unwrap();
    stayed(&lab, &other, id, None).await;
    lab.cloud.volume_retype(&me, id, retype("too", false)).await.unwrap();
    let now = stayed(&lab, &other, id, None).await;
    assert_eq!(now.type_name.as_deref(), Some("too"));
    assert_eq!(lab.used(&me, "gigabytes_here").await, (0, 0));
    assert_eq!(
        (lab.used(&me, "gigabytes_too").await, lab.used(&me, "snapshots_too").await),
        ((2, 0), (1, 0))
    );
    assert_eq!(lab.used(&me, "gigabytes").await, (2, 0));
    let snapshots = db::snapshot::of_volume(&mut lab.cloud.db.read(), id).await.unwrap();
    assert_eq!(snapshots[0].type_id, now.type_id);
    lab.close().await;
}

#[tokio::test]
async fn what_a_retype_does_not_allow_is_refused() {
    let (lab, _other) = Lab::with_two_backends().await;
    let me = member("p");
    let volume = filled(&lab, &me).await;
    let id = volume.id;
    const REFUSED: &str = "Invalid volume: Retype needs volume to be in available or in-use state, not be part of an \
                           active migration or a consistency group, requested type has to be different that the one \
                           from the volume, and for in-use volumes front-end qos specs cannot change.";
    assert_eq!(text(lab.cloud.volume_retype(&me, id, retype("here", false)).await), REFUSED);
    assert_eq!(
        text(lab.cloud.volume_retype(&me, id, retype("none", false)).await),
        "Volume type with name none could not be found."
    );
    new_type(&lab, "shared", &[("multiattach", "<is> True")]).await;
    let front = new_type(&lab, "front", &[]).await;
    let secret = new_type(&lab, "secret", &[]).await;
    let mut tx = lab.cloud.db.begin().await.unwrap();
    for statement in [
        "INSERT INTO quality_of_service_specs (created_at, deleted, id, \"key\", value) VALUES ({utc}, FALSE, '00000000-0000-0000-0000-0000000000aa', 'QoS_Specs_Name', 'q')",
        "INSERT INTO quality_of_service_specs (created_at, deleted, id, specs_id, \"key\", value) VALUES ({utc}, FALSE, 'c', '00000000-0000-0000-0000-0000000000aa', 'consumer', 'front-end')",
    ] {
        tx.exec(db::sql::sql(statement)).await.unwrap();
    }
    tx.exec(
        db::sql::sql(
            "UPDATE volume_types SET qos_specs_id = '00000000-0000-0000-0000-0000000000aa' WHERE id = ?",
        )
        .bind(front),
    )
    .await
    .unwrap();
    let encrypt = "INSERT INTO encryption (created_at, deleted, encryption_id, volume_type_id, provider, control_location) \
                   VALUES ({utc}, FALSE, 'e', ?, 'luks', 'front-end')";
    tx.exec(db::sql::sql(encrypt).bind(secret)).await.unwrap();
    lab.cloud.commit(tx).await.unwrap();
    // Another encryption would need other bytes.
    lab.cloud.volume_retype(&me, id, retype("secret", true)).await.unwrap();
    lab.rest(id).await;
    assert_eq!(lab.volume_now(id).await.unwrap().type_id, volume.type_id);
    lab.attach(id).await;
    assert_eq!(text(lab.cloud.volume_retype(&me, id, retype("front", false)).await), REFUSED);
    assert!(text(lab.cloud.volume_retype(&me, id, retype("shared", false)).await).starts_with(
        "Invalid input received: Invalid volume_type passed, retypes affecting multiattach are only allowed on available"
    ));
    lab.cloud.volume_retype(&me, id, retype("__DEFAULT__", false)).await.unwrap();
    lab.rest(id).await;
    assert_eq!(lab.volume_now(id).await.unwrap().status, VolumeStatus::InUse);
    lab.close().await;
}

#[tokio::test]
async fn a_retype_over_the_new_types_quota_changes_nothing() {
    let (lab, _other) = Lab::with_two_backends().await;
    let me = member("p");
    let id = filled(&lab, &me).await.id;
    new_type(&lab, "small", &[]).await;
    let mut tx = lab.cloud.db.begin().await.unwrap();
    db::quota::set_project_limit(&mut tx, "p", "gigabytes_small", 0).await.unwrap();
    lab.cloud.commit(tx).await.unwrap();
    assert!(text(lab.cloud.volume_retype(&me, id, retype("small", false)).await).contains("gigabytes_small"));
    assert_eq!(lab.volume_now(id).await.unwrap().status, VolumeStatus::Available);
    lab.close().await;
}

/// I4: until it is published nothing is lost, whatever ends it.
#[tokio::test]
async fn a_migration_that_fails_or_is_cancelled_leaves_the_volume_where_it_was() {
    let (lab, other) = Lab::with_two_backends().await;
    let me = member("p");
    let id = filled(&lab, &me).await.id;
    new_type(&lab, "any", &[]).await;
    lab.cloud.volume_retype(&me, id, retype("any", false)).await.unwrap();
    lab.rest(id).await;
    other.fail("create_volume", ErrorKind::Backend);
    lab.cloud.volume_migrate(&admin(), id, MigrateVolume { lock: true, ..to(OTHER) }).await.unwrap();
    stayed(&lab, &other, id, Some("error")).await;
    // Cancelled.
    let gate = other.hold("create_volume", 1);
    lab.cloud.volume_migrate(&admin(), id, to(OTHER)).await.unwrap();
    gate.reached().await;
    let job = lab.jobs_of(id).await.remove(0);
    lab.cloud.job_cancel(&admin(), job.id).await.unwrap();
    gate.open();
    stayed(&lab, &other, id, Some("error")).await;
    lab.close().await;
}

/// I7: who connects may write, and what it writes is not lost in a place that is given up.
#[tokio::test]
async fn a_host_that_connects_to_a_volume_stops_its_migration() {
    let (lab, other) = Lab::with_two_backends().await;
    let me = member("p");
    let id = filled(&lab, &me).await.id;
    new_type(&lab, "any", &[]).await;
    lab.cloud.volume_retype(&me, id, retype("any", false)).await.unwrap();
    lab.rest(id).await;
    let gate = other.hold("create_volume", 1);
    lab.cloud.volume_migrate(&admin(), id, to(OTHER)).await.unwrap();
    gate.reached().await;
    let connector = serde_json::json!({ "initiator": "iqn.2026-01.test:a", "host": "a", "ip": "127.0.0.1" });
    let connector = serde_json::from_value(connector).unwrap();
    let (cloud, context) = (lab.cloud.clone(), me.clone());
    let connecting =
        tokio::spawn(async move { cloud.volume_initialize_connection(&context, id, connector).await });
    // Recorded, that is; nobody serves it here, so that this test cannot end as others do.
    lab.handed_over(id, "cinder-target.node").await;
    gate.open();
    let moving = lab.jobs_of(id).await.into_iter().find(|job| job.operation == "volume.migrate");
    if let Some(moving) = moving {
        assert!(moving.cancel_requested);
        assert!(lab.cloud.wait(moving.id, PATIENCE).await.is_err());
    }
    connecting.abort();
    let now = lab.volume_now(id).await.unwrap();
    assert_eq!((now.migration_status.as_deref(), now.name_id), (Some("error"), None));
    assert_eq!((on(&*lab.driver).await, on(&*other).await), (vec![id], vec![]));
}

#[tokio::test]
async fn a_completion_answers_as_cinders_does() {
    let (lab, other) = Lab::with_two_backends().await;
    let me = member("p");
    let id = filled(&lab, &me).await.id;
    let second = lab.volume(&me, 1).await;
    let admin = admin();
    let wanted = CompleteMigration { new_volume: second.id, error: false };
    // Neither is migrating: the new one goes on.
    assert_eq!(lab.cloud.volume_migrate_completion(&admin, id, wanted).await.unwrap(), second.id);
    lab.cloud.volume_delete(&me, second.id, DeleteVolume::default()).await.unwrap();
    lab.rest(second.id).await;
    new_type(&lab, "any", &[]).await;
    lab.cloud.volume_retype(&me, id, retype("any", false)).await.unwrap();
    lab.rest(id).await;
    let gate = other.hold("create_volume", 1);
    lab.cloud.volume_migrate(&admin, id, to(OTHER)).await.unwrap();
    gate.reached().await;
    assert!(text(lab.cloud.volume_migrate(&admin, id, to(OTHER)).await).contains("must not be migrating"));
    let rows = db::volume::list(&mut lab.cloud.db.read(), &ListQuery::all(None)).await.unwrap().items;
    let target = rows.iter().find(|row| row.id != id).unwrap().id;
    assert_eq!(
        text(
            lab.cloud
                .volume_migrate_completion(&admin, target, CompleteMigration { new_volume: id, error: false })
                .await
        ),
        format!("Invalid volume: Destination has migration_status migrating, expected target:{target}.")
    );
    gate.open();
    let wanted = CompleteMigration { new_volume: target, error: false };
    assert_eq!(lab.cloud.volume_migrate_completion(&admin, id, wanted).await.unwrap(), id);
    moved(&lab, &other, id).await;
    lab.close().await;
}

#[tokio::test]
async fn a_migration_to_where_nobody_is_or_of_a_volume_with_snapshots_is_refused() {
    let (lab, _other) = Lab::with_two_backends().await;
    let me = member("p");
    let id = filled(&lab, &me).await.id;
    assert_eq!(
        text(lab.cloud.volume_migrate(&admin(), id, to("node@nowhere")).await),
        "Invalid host: No available service named 'node@nowhere'"
    );
    assert_eq!(
        text(lab.cloud.volume_migrate(&me, id, to(OTHER)).await),
        "Policy doesn't allow volume_extension:volume_admin_actions:migrate_volume to be performed."
    );
    // Where it is already.
    assert!(
        text(lab.cloud.volume_migrate(&admin(), id, to(POOL)).await)
            .contains("must be different than the current one")
    );
    lab.snapshot(&me, id).await;
    assert!(
        text(lab.cloud.volume_migrate(&admin(), id, to(OTHER)).await)
            .contains("must not be migrating, have snapshots")
    );
    lab.close().await;
}

/// I3: what an administrator has set outlives the migration and the reconciler.
#[tokio::test]
async fn an_operators_maintenance_outlives_a_migration() {
    let (lab, other) = Lab::with_two_backends().await;
    let me = member("p");
    let id = filled(&lab, &me).await.id;
    new_type(&lab, "any", &[]).await;
    lab.cloud.volume_retype(&me, id, retype("any", false)).await.unwrap();
    lab.rest(id).await;
    let gate = other.hold("create_volume", 1);
    lab.cloud.volume_migrate(&admin(), id, to(OTHER)).await.unwrap();
    gate.reached().await;
    let wanted =
        ResetVolume { status: Some(VolumeStatus::Maintenance), attach_status: None, migration_status: None };
    lab.cloud.volume_reset(&admin(), id, wanted).await.unwrap();
    gate.open();
    settled(&lab, id).await;
    let report = lab.cloud.reconcile(&lab.node, How::Repair).await.unwrap();
    assert_eq!(report.counts().get(&FindingKind::Stuck), None, "{report:?}");
    let now = lab.volume_now(id).await.unwrap();
    assert_eq!((now.status, now.migration_status.as_deref()), (VolumeStatus::Maintenance, Some("success")));
    assert_eq!(now.host.as_ref().unwrap().to_string(), OTHER_POOL);
    lab.close().await;
}
