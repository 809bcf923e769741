//! The embedded database from nothing: schema, a volume's life, jobs and locks.

use db::job::{Claimed, NewJob, Next};
use db::transition::{Begin, Outcome};
use db::{Db, event::By};
use model::job::{JobState, Lock, ResourceRef};
use model::list::ListQuery;
use model::transition::VolumeOp;
use model::{GiB, JobId, VolumeId, VolumeStatus};

const LEASE: i64 = 15_000_000;

async fn fresh() -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().expect("a directory");
    let db = Db::connect(&format!("sqlite:///{}/c.db", dir.path().display()), 4).await.expect("opens");
    db::schema::migrate(&db).await.expect("migrates");
    db::schema::migrate(&db).await.expect("migrates again");
    (dir, db)
}

async fn volume(db: &Db) -> VolumeId {
    let kind = db::volume_type::by_name(&mut db.read(), model::DEFAULT_TYPE_NAME)
        .await
        .unwrap()
        .expect("default type");
    let id = VolumeId::new();
    let new = db::volume::NewVolume {
        id,
        user_id: "u".into(),
        project_id: "p".into(),
        size: GiB(1),
        availability_zone: Some("nova".into()),
        name: Some("n".into()),
        description: None,
        type_id: kind.id,
        snapshot_id: None,
        source_volid: None,
        bootable: false,
        multiattach: false,
        use_quota: true,
        metadata: [("k".to_owned(), "v".to_owned())].into(),
        replication_status: None,
    };
    let mut tx = db.begin().await.unwrap();
    db::volume::insert(&mut tx, &new).await.unwrap();
    db::transition::finish_volume(&mut tx, id, VolumeOp::Create, Outcome::Done, By::default()).await.unwrap();
    tx.commit().await.unwrap();
    id
}

async fn job(db: &Db, locks: Vec<Lock>) -> JobId {
    let id = JobId::new();
    let mut tx = db.begin().await.unwrap();
    let new = NewJob {
        id,
        operation: "volume.test",
        resource: ResourceRef { kind: "volume".into(), id: "x".into() },
        project_id: None,
        user_id: None,
        request_id: None,
        queue: "q".into(),
        request: serde_json::json!({}),
        locks,
    };
    db::job::insert(&mut tx, new).await.unwrap();
    assert_eq!(tx.commit().await.unwrap(), ["q"]);
    id
}

async fn claim(db: &Db, id: JobId) -> Claimed {
    db::job::claim(db, id, "me", LEASE).await.unwrap()
}

#[tokio::test]
async fn i2_one_transition_one_winner() {
    let (_dir, db) = fresh().await;
    let id = volume(&db).await;
    let found = db::volume::list(&mut db.read(), &ListQuery::all(Some("p".into()))).await.unwrap();
    assert_eq!(found.items.len(), 1);
    assert_eq!(found.items[0].metadata["k"], "v");
    assert_eq!(found.items[0].status, VolumeStatus::Available);
    let mut tx = db.begin().await.unwrap();
    assert_eq!(
        db::transition::begin_volume(&mut tx, id, VolumeOp::Extend, By::default()).await.unwrap(),
        Begin::Moved
    );
    let again = db::transition::begin_volume(&mut tx, id, VolumeOp::Extend, By::default()).await.unwrap();
    assert_eq!(again, Begin::Refused { status: "extending".into(), unmet: vec![] });
    db::transition::finish_volume(&mut tx, id, VolumeOp::Extend, Outcome::Done, By::default()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db::volume::get(&mut db.read(), id).await.unwrap().unwrap().status, VolumeStatus::Available);
    assert_eq!(db::event::of(&mut db.read(), &id.to_string(), 0, 10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn i4_an_old_claim_changes_nothing() {
    let (_dir, db) = fresh().await;
    let id = job(&db, vec![]).await;
    assert_eq!(db::job::claimable(&db, &["q".into()], 10).await.unwrap(), [id]);
    let Claimed::Yes(old) = db::job::claim(&db, id, "one", -1).await.unwrap() else { panic!("claims") };
    let Claimed::Yes(new) = claim(&db, id).await else { panic!("a lapsed lease can be claimed") };
    assert!(new.epoch > old.epoch);
    let mut tx = db.begin().await.unwrap();
    assert!(matches!(db::job::finish(&mut tx, &old, JobState::Done, None).await, Err(db::Error::Fenced(_))));
    drop(tx);
    let mut tx = db.begin().await.unwrap();
    db::job::finish(&mut tx, &new, JobState::Done, None).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(claim(&db, id).await, Claimed::No));
}

#[tokio::test]
async fn locks_are_shared_exclusive_and_in_order_of_tickets() {
    let (_dir, db) = fresh().await;
    let s1 = job(&db, vec![Lock::shared("v-delete_volume")]).await;
    let s2 = job(&db, vec![Lock::shared("v-delete_volume")]).await;
    let Claimed::Yes(first) = claim(&db, s1).await else { panic!() };
    let Claimed::Yes(_second) = claim(&db, s2).await else { panic!("shared beside shared") };
    let x = job(&db, vec![Lock::exclusive("v-delete_volume")]).await;
    assert!(matches!(claim(&db, x).await, Claimed::Waits { .. }));
    let s3 = job(&db, vec![Lock::shared("v-delete_volume")]).await;
    assert!(matches!(claim(&db, s3).await, Claimed::Waits { .. }), "an earlier ticket waits for it");
    let mut tx = db.begin().await.unwrap();
    db::job::finish(&mut tx, &first, JobState::Done, None).await.unwrap();
    assert_eq!(tx.commit().await.unwrap(), ["q".to_owned(), db::job::done_topic(s1)]);
    assert_eq!(db::job::held(&mut db.read()).await.unwrap().len(), 1);
    assert_eq!(db::job::purge_gates(&db).await.unwrap(), 0);
}

#[tokio::test]
async fn a_job_moves_between_queues() {
    let (_dir, db) = fresh().await;
    let id = job(&db, vec![Lock::exclusive("a")]).await;
    let Claimed::Yes(mut job) = claim(&db, id).await else { panic!() };
    job.steps_done = 1;
    job.data = serde_json::json!({"schedule": {"pool": "h@b#p"}});
    let mut tx = db.begin().await.unwrap();
    db::job::advance(&mut tx, &job, Next::Queue("r".into())).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db::job::claimable(&db, &["q".into()], 10).await.unwrap(), []);
    let Claimed::Yes(job) = claim(&db, id).await else { panic!() };
    assert_eq!((job.queue.as_str(), job.steps_done, job.epoch), ("r", 1, 2));
    assert_eq!(job.data["schedule"]["pool"], "h@b#p");
}

#[tokio::test]
async fn a_marker_is_not_on_the_page_after_it() {
    let (_dir, db) = fresh().await;
    let (first, second) = (volume(&db).await, volume(&db).await);
    let sort = vec![("created_at".to_owned(), model::list::Direction::Ascending)];
    let query = ListQuery { sort, marker: Some(first.to_string()), ..ListQuery::all(None) };
    let page = db::volume::list(&mut db.read(), &query).await.unwrap();
    let ids: Vec<VolumeId> = page.items.iter().map(|volume| volume.id).collect();
    // Made within one millisecond, the two may stand in either order: the marker itself never comes again.
    assert!(!ids.contains(&first), "{ids:?}");
    assert!(ids.is_empty() || ids == [second]);
}

/// Locks go to the earlier ticket, also when its job has not been claimed yet, is between two claims, or has lost its owner.
#[tokio::test]
async fn an_earlier_ticket_keeps_its_place() {
    let (_dir, db) = fresh().await;
    let first = job(&db, vec![Lock::shared("v-delete_volume")]).await;
    let later = job(&db, vec![Lock::exclusive("v-delete_volume")]).await;
    assert!(matches!(claim(&db, later).await, Claimed::Waits { .. }), "not claimed yet");
    let Claimed::Yes(mut carried) = claim(&db, first).await else { panic!("it is the first") };
    carried.steps_done = 1;
    let mut tx = db.begin().await.unwrap();
    db::job::advance(&mut tx, &carried, Next::Queue("r".into())).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(claim(&db, later).await, Claimed::Waits { .. }), "on its way to another queue");
    let Claimed::Yes(carried) = claim(&db, first).await else { panic!("it is the first") };
    let mut tx = db.begin().await.unwrap();
    db::job::advance(&mut tx, &carried, Next::Later { delay_us: 50_000_000, error: "e".into() })
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(claim(&db, later).await, Claimed::Waits { .. }), "to be tried again");
    let Claimed::Yes(carried) = db::job::claim(&db, first, "dead", -1).await.unwrap() else {
        panic!("claims")
    };
    assert!(matches!(claim(&db, later).await, Claimed::Waits { .. }), "its owner has died");
    let Claimed::Yes(next) = claim(&db, first).await else { panic!("a lapsed lease can be claimed") };
    assert!(next.epoch > carried.epoch);
    let mut tx = db.begin().await.unwrap();
    db::job::finish(&mut tx, &next, JobState::Done, None).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(claim(&db, later).await, Claimed::Yes(_)));
}

/// A waiter that nobody runs blocks nobody; one whose queue is run keeps its place however long it waits.
#[tokio::test]
async fn a_place_is_kept_by_those_who_run_the_queue() {
    let (_dir, db) = fresh().await;
    let _waits = job(&db, vec![Lock::shared("v-delete_volume")]).await;
    let later = job(&db, vec![Lock::exclusive("v-delete_volume")]).await;
    let (lease, beyond) = (1_000_000, std::time::Duration::from_millis(1_100));
    tokio::time::sleep(beyond).await;
    let queues = ["q".to_owned()];
    db::job::want(&db, &queues, lease).await.unwrap();
    assert!(matches!(db::job::claim(&db, later, "me", lease).await.unwrap(), Claimed::Waits { .. }));
    tokio::time::sleep(beyond).await;
    db::job::want(&db, &["another".into()], lease).await.unwrap();
    let Claimed::Yes(_) = db::job::claim(&db, later, "me", lease).await.unwrap() else {
        panic!("nobody has said so for a lease")
    };
}

#[tokio::test]
async fn tickets_never_repeat() {
    let (_dir, db) = fresh().await;
    let mut last = 0;
    for _ in 0..20 {
        let id = job(&db, vec![]).await;
        let ticket = db::job::get(&mut db.read(), id).await.unwrap().expect("is there").ticket;
        assert!(ticket > last, "{ticket} after {last}");
        last = ticket;
    }
}

/// What stands in the way is left out, so that a list of limited length is full of what can run.
#[tokio::test]
async fn what_waits_for_a_held_lock_is_not_offered() {
    let (_dir, db) = fresh().await;
    let holder = job(&db, vec![Lock::exclusive("a")]).await;
    let waiter = job(&db, vec![Lock::shared("a"), Lock::shared("b")]).await;
    let free = job(&db, vec![Lock::shared("b")]).await;
    let Claimed::Yes(held) = claim(&db, holder).await else { panic!() };
    let queues = ["q".to_owned()];
    assert_eq!(db::job::claimable(&db, &queues, 1).await.unwrap(), [free]);
    let mut tx = db.begin().await.unwrap();
    db::job::finish(&mut tx, &held, JobState::Done, None).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db::job::claimable(&db, &queues, 1).await.unwrap(), [waiter]);
}
