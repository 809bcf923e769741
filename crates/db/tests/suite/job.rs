//! Jobs: claimed once with an epoch, written only under it (I4), handed on, ended, found again.

use db::Db;
use db::job::{Claimed, NewJob, Next, Renewed, Wanted};
use model::JobId;
use model::job::{Job, JobState, Lock, ResourceRef};
use serde_json::json;

use crate::support::Lab;

on_each_database!(
    what_is_stored_is_read,
    i1_a_job_is_there_with_its_transaction_or_not_at_all,
    one_of_many_claims_wins,
    i4_an_old_claim_writes_nothing,
    i4_a_claim_whose_lease_is_over_writes_nothing,
    i4_a_renewal_keeps_the_claim_and_brings_the_wish_to_stop,
    a_job_moves_between_queues,
    a_job_comes_back_after_its_delay,
    a_failed_job_is_undone_then_ended_or_started_over,
    i4_a_restarted_owner_gets_its_work_back_at_once,
    claimable_jobs_come_in_order_and_by_queue,
    tickets_never_repeat,
    cancelling_rings_the_queue,
    ended_jobs_are_listed_and_purged,
);

pub const LEASE: i64 = 15_000_000;

/// What a job of queue `q` is made of.
pub fn a_job(locks: Vec<Lock>) -> NewJob {
    NewJob {
        id: JobId::new(),
        operation: "volume.test",
        resource: ResourceRef { kind: "volume".into(), id: "3c1f6a0e-0000-4000-8000-000000000001".into() },
        project_id: Some("p".into()),
        user_id: None,
        request_id: None,
        queue: "q".into(),
        request: json!({}),
        locks,
    }
}

/// Records it.
pub async fn insert(db: &Db, new: NewJob) -> JobId {
    let id = new.id;
    let mut tx = db.begin().await.unwrap();
    db::job::insert(&mut tx, new).await.unwrap();
    tx.commit().await.unwrap();
    id
}

/// Claims a job that nothing keeps from being claimed.
pub async fn claim(db: &Db, id: JobId) -> Job {
    match db::job::claim(db, id, "me", LEASE).await.unwrap() {
        Claimed::Yes(job) => *job,
        other => panic!("{other:?}"),
    }
}

/// Ends a claimed job well.
pub async fn finish(db: &Db, job: &Job) {
    let mut tx = db.begin().await.unwrap();
    db::job::finish(&mut tx, job, JobState::Done, None).await.unwrap();
    tx.commit().await.unwrap();
}

fn queues() -> Vec<String> {
    vec!["q".into()]
}

async fn what_is_stored_is_read(lab: Lab) {
    let new = NewJob {
        user_id: Some("u".into()),
        request_id: Some("req-ü".into()),
        request: json!({"size": 1, "name": "数据 ' \" \\", "deep": {"list": [1, null]}}),
        locks: vec![Lock::exclusive("b"), Lock::shared("a")],
        ..a_job(vec![])
    };
    let mut tx = lab.db.begin().await.unwrap();
    db::job::insert(&mut tx, new.clone()).await.unwrap();
    assert_eq!(tx.commit().await.unwrap(), ["q"]);
    let job = db::job::get(&mut lab.db.read(), new.id).await.unwrap().expect("there");
    assert_eq!(
        (job.operation.as_str(), &job.resource, &job.request),
        (new.operation, &new.resource, &new.request)
    );
    assert_eq!((job.project_id, job.user_id, job.request_id), (new.project_id, new.user_id, new.request_id));
    assert_eq!((job.state, job.epoch, job.steps_done, job.attempts), (JobState::Queued, 0, 0, 0));
    assert_eq!((job.data, job.locks), (json!({}), vec![Lock::shared("a"), Lock::exclusive("b")]));
    let age = chrono::Utc::now() - job.created_at;
    assert!(age.num_seconds().abs() < 30, "{age}");
    assert!(db::job::get(&mut lab.db.read(), JobId::new()).await.unwrap().is_none());
}

async fn i1_a_job_is_there_with_its_transaction_or_not_at_all(lab: Lab) {
    let new = a_job(vec![Lock::exclusive("a")]);
    let mut tx = lab.db.begin().await.unwrap();
    db::job::insert(&mut tx, new.clone()).await.unwrap();
    drop(tx);
    assert!(db::job::get(&mut lab.db.read(), new.id).await.unwrap().is_none());
    assert!(matches!(db::job::claim(&lab.db, new.id, "me", LEASE).await.unwrap(), Claimed::No));
    assert_eq!(lab.number("SELECT COUNT(*) AS n FROM job_locks").await, 0);
}

async fn one_of_many_claims_wins(lab: Lab) {
    let beside = lab.beside().await;
    for round in 0..4_i64 {
        let locks = if round % 2 == 0 { vec![] } else { vec![Lock::exclusive(format!("l{round}"))] };
        let id = insert(&lab.db, a_job(locks)).await;
        let mut claiming = Vec::new();
        for n in 0..8 {
            let db = if n % 2 == 0 { lab.db.clone() } else { beside.clone() };
            claiming.push(tokio::spawn(async move { db::job::claim(&db, id, &n.to_string(), LEASE).await }));
        }
        let mut won = Vec::new();
        for claimed in claiming {
            match claimed.await.unwrap() {
                Ok(Claimed::Yes(job)) => won.push(job),
                Ok(Claimed::No) => {}
                Ok(Claimed::Waits { lock }) => panic!("nobody else wants {lock}"),
                Err(error) => assert!(error.is_conflict(), "{error}"),
            }
        }
        let [job] = won.as_slice() else { panic!("{} winners", won.len()) };
        assert_eq!((job.epoch, job.attempts, job.state), (1, 1, JobState::Running));
        let stored = db::job::get(&mut lab.db.read(), id).await.unwrap().unwrap();
        assert_eq!((stored.owner, stored.epoch), (job.owner.clone(), 1));
    }
}

/// Every write of a claim that is over is refused and changes nothing.
async fn assert_fenced(db: &Db, old: &Job) {
    let before = format!("{:?}", db::job::get(&mut db.read(), old.id).await.unwrap());
    for write in 0..8 {
        let mut tx = db.begin().await.unwrap();
        let refused = match write {
            0 => db::job::finish(&mut tx, old, JobState::Done, None).await,
            1 => db::job::advance(&mut tx, old, Next::Stay { lease_us: LEASE }).await,
            2 => db::job::advance(&mut tx, old, Next::Queue("other".into())).await,
            3 => db::job::advance(&mut tx, old, Next::Later { delay_us: 1, error: "e".into() }).await,
            4 => db::job::begin_undo(&mut tx, old, "e").await,
            5 => db::job::fence(&mut tx, old).await,
            6 => db::job::restart(&mut tx, old, "other").await,
            _ => {
                drop(tx);
                assert_eq!(
                    db::job::renew(db, old.id, old.epoch, LEASE, (1, 2)).await.unwrap(),
                    Renewed::Lost
                );
                continue;
            }
        };
        assert!(matches!(refused, Err(db::Error::Fenced(id)) if id == old.id), "write {write}: {refused:?}");
    }
    assert_eq!(format!("{:?}", db::job::get(&mut db.read(), old.id).await.unwrap()), before);
}

async fn i4_an_old_claim_writes_nothing(lab: Lab) {
    let id = insert(&lab.db, a_job(vec![Lock::exclusive("a")])).await;
    let Claimed::Yes(old) = db::job::claim(&lab.db, id, "one", -1).await.unwrap() else { panic!("claims") };
    let new = claim(&lab.db, id).await;
    assert_eq!((old.epoch, new.epoch, new.attempts), (1, 2, 2));
    assert_fenced(&lab.db, &old).await;
    let mut tx = lab.db.begin().await.unwrap();
    db::job::fence(&mut tx, &new).await.unwrap();
    tx.commit().await.unwrap();
    finish(&lab.db, &new).await;
    assert_fenced(&lab.db, &new).await;
    assert!(matches!(db::job::claim(&lab.db, id, "me", LEASE).await.unwrap(), Claimed::No));
}

/// Its locks are free by then, even if nobody has claimed the job anew.
async fn i4_a_claim_whose_lease_is_over_writes_nothing(lab: Lab) {
    let id = insert(&lab.db, a_job(vec![Lock::exclusive("a")])).await;
    let Claimed::Yes(old) = db::job::claim(&lab.db, id, "one", -1).await.unwrap() else { panic!("claims") };
    assert_fenced(&lab.db, &old).await;
}

async fn i4_a_renewal_keeps_the_claim_and_brings_the_wish_to_stop(lab: Lab) {
    let id = insert(&lab.db, a_job(vec![])).await;
    let job = claim(&lab.db, id).await;
    let renewed = db::job::renew(&lab.db, id, job.epoch, LEASE, (10, 100)).await.unwrap();
    assert_eq!(renewed, Renewed::Yes { cancel_requested: false });
    let mut tx = lab.db.begin().await.unwrap();
    assert!(db::job::cancel(&mut tx, id).await.unwrap());
    tx.commit().await.unwrap();
    let renewed = db::job::renew(&lab.db, id, job.epoch, LEASE, (11, 100)).await.unwrap();
    assert_eq!(renewed, Renewed::Yes { cancel_requested: true });
    let stored = db::job::get(&mut lab.db.read(), id).await.unwrap().unwrap();
    assert_eq!((stored.progress_done, stored.progress_total, stored.cancel_requested), (11, 100, true));
    assert!(matches!(db::job::claim(&lab.db, id, "other", LEASE).await.unwrap(), Claimed::No));
}

async fn a_job_moves_between_queues(lab: Lab) {
    let id = insert(&lab.db, a_job(vec![Lock::exclusive("a")])).await;
    let mut job = claim(&lab.db, id).await;
    job.steps_done = 1;
    job.data = json!({"schedule": {"pool": "h@b#p"}});
    let mut tx = lab.db.begin().await.unwrap();
    db::job::advance(&mut tx, &job, Next::Stay { lease_us: LEASE }).await.unwrap();
    assert!(tx.commit().await.unwrap().is_empty());
    assert_eq!(db::job::held(&mut lab.db.read()).await.unwrap().len(), 1);
    let mut tx = lab.db.begin().await.unwrap();
    db::job::advance(&mut tx, &job, Next::Queue("r".into())).await.unwrap();
    assert_eq!(tx.commit().await.unwrap(), ["r"]);
    assert_eq!(db::job::held(&mut lab.db.read()).await.unwrap(), [], "between two claims nothing is held");
    assert!(db::job::claimable(&lab.db, &queues(), 10, LEASE).await.unwrap().is_empty());
    assert_eq!(db::job::claimable(&lab.db, &["r".into()], 10, LEASE).await.unwrap(), [id]);
    let job = claim(&lab.db, id).await;
    assert_eq!((job.queue.as_str(), job.steps_done, job.epoch), ("r", 1, 2));
    assert_eq!(job.data["schedule"]["pool"], "h@b#p");
}

async fn a_job_comes_back_after_its_delay(lab: Lab) {
    let id = insert(&lab.db, a_job(vec![])).await;
    let job = claim(&lab.db, id).await;
    let mut tx = lab.db.begin().await.unwrap();
    let later = Next::Later { delay_us: 3_600_000_000, error: "busy".into() };
    db::job::advance(&mut tx, &job, later).await.unwrap();
    tx.commit().await.unwrap();
    assert!(db::job::claimable(&lab.db, &queues(), 10, LEASE).await.unwrap().is_empty());
    let stored = db::job::get(&mut lab.db.read(), id).await.unwrap().unwrap();
    assert_eq!((stored.state, stored.error.as_deref(), stored.owner), (JobState::Queued, Some("busy"), None));
    lab.exec("UPDATE jobs SET run_after = {now}").await;
    assert_eq!(db::job::claimable(&lab.db, &queues(), 10, LEASE).await.unwrap(), [id]);
}

async fn a_failed_job_is_undone_then_ended_or_started_over(lab: Lab) {
    let id = insert(&lab.db, a_job(vec![Lock::exclusive("a")])).await;
    let mut job = claim(&lab.db, id).await;
    let mut tx = lab.db.begin().await.unwrap();
    db::job::begin_undo(&mut tx, &job, "no space").await.unwrap();
    tx.commit().await.unwrap();
    job.state = JobState::Undoing;
    // Its owner dies; another undoes the rest.
    lab.exec("UPDATE jobs SET lease_until = {now} - 1").await;
    let mut job = claim(&lab.db, id).await;
    assert_eq!((job.state, job.error.as_deref()), (JobState::Undoing, Some("no space")));
    job.data = json!({"tried": ["x"]});
    let mut tx = lab.db.begin().await.unwrap();
    db::job::restart(&mut tx, &job, "q2").await.unwrap();
    assert_eq!(tx.commit().await.unwrap(), ["q2"]);
    let job = claim(&lab.db, id).await;
    assert_eq!(
        (job.state, job.queue.as_str(), job.data["tried"][0].as_str()),
        (JobState::Running, "q2", Some("x"))
    );
    let mut tx = lab.db.begin().await.unwrap();
    db::job::begin_undo(&mut tx, &job, "again").await.unwrap();
    let job = Job { state: JobState::Undoing, ..job };
    db::job::finish(&mut tx, &job, JobState::Failed, Some("no space")).await.unwrap();
    assert!(tx.commit().await.unwrap().contains(&db::job::done_topic(id)));
    let stored = db::job::get(&mut lab.db.read(), id).await.unwrap().unwrap();
    assert_eq!(
        (stored.state, stored.error.as_deref(), stored.locks),
        (JobState::Failed, Some("no space"), vec![])
    );
    assert!(stored.finished_at >= stored.started_at);
}

async fn i4_a_restarted_owner_gets_its_work_back_at_once(lab: Lab) {
    let (mine, other) = (insert(&lab.db, a_job(vec![])).await, insert(&lab.db, a_job(vec![])).await);
    let old = claim(&lab.db, mine).await;
    assert!(matches!(db::job::claim(&lab.db, other, "you", LEASE).await.unwrap(), Claimed::Yes(_)));
    assert!(db::job::claimable(&lab.db, &queues(), 10, LEASE).await.unwrap().is_empty());
    db::job::release_owned(&lab.db, "me").await.unwrap();
    assert_eq!(db::job::claimable(&lab.db, &queues(), 10, LEASE).await.unwrap(), [mine]);
    assert_fenced(&lab.db, &old).await;
    claim(&lab.db, mine).await;
}

async fn claimable_jobs_come_in_order_and_by_queue(lab: Lab) {
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.push(insert(&lab.db, a_job(vec![])).await);
    }
    insert(&lab.db, NewJob { queue: "Q".into(), ..a_job(vec![]) }).await;
    assert_eq!(db::job::claimable(&lab.db, &queues(), 10, LEASE).await.unwrap(), expected);
    assert_eq!(db::job::claimable(&lab.db, &queues(), 2, LEASE).await.unwrap(), expected[..2]);
    assert!(db::job::claimable(&lab.db, &[], 2, LEASE).await.unwrap().is_empty());
    let both = ["q".to_owned(), "Q".to_owned()];
    assert_eq!(db::job::claimable(&lab.db, &both, 10, LEASE).await.unwrap().len(), 6);
    let resource = "3c1f6a0e-0000-4000-8000-000000000001";
    assert_eq!(db::job::of_resource(&mut lab.db.read(), resource).await.unwrap().len(), 6);
}

async fn tickets_never_repeat(lab: Lab) {
    let mut last = 0;
    for _ in 0..20 {
        let id = insert(&lab.db, a_job(vec![])).await;
        let ticket = db::job::get(&mut lab.db.read(), id).await.unwrap().expect("is there").ticket;
        assert!(ticket > last, "{ticket} after {last}");
        last = ticket;
    }
}

async fn cancelling_rings_the_queue(lab: Lab) {
    let id = insert(&lab.db, a_job(vec![])).await;
    let mut tx = lab.db.begin().await.unwrap();
    assert!(db::job::cancel(&mut tx, id).await.unwrap());
    assert!(!db::job::cancel(&mut tx, JobId::new()).await.unwrap());
    assert_eq!(tx.commit().await.unwrap(), ["q".to_owned(), db::job::cancel_topic(id)]);
    let job = claim(&lab.db, id).await;
    assert!(job.cancel_requested);
    let mut tx = lab.db.begin().await.unwrap();
    db::job::finish(&mut tx, &job, JobState::Cancelled, None).await.unwrap();
    assert!(!db::job::cancel(&mut tx, id).await.unwrap(), "it has ended");
    tx.commit().await.unwrap();
}

async fn ended_jobs_are_listed_and_purged(lab: Lab) {
    let (first, second) = (insert(&lab.db, a_job(vec![])).await, insert(&lab.db, a_job(vec![])).await);
    let other = insert(&lab.db, NewJob { project_id: Some("other".into()), ..a_job(vec![]) }).await;
    let job = claim(&lab.db, first).await;
    finish(&lab.db, &job).await;
    let list = |wanted: Wanted| {
        let db = lab.db.clone();
        async move {
            let jobs = db::job::list(&mut db.read(), &wanted).await.unwrap();
            jobs.iter().map(|job| job.id).collect::<Vec<_>>()
        }
    };
    let all = Wanted { limit: 10, ..Wanted::default() };
    assert_eq!(list(all.clone()).await, [other, second, first]);
    assert_eq!(list(Wanted { limit: 1, ..all.clone() }).await, [other]);
    assert_eq!(list(Wanted { active: true, ..all.clone() }).await, [other, second]);
    assert_eq!(list(Wanted { project_id: Some("p".into()), ..all.clone() }).await, [second, first]);
    let resource = Wanted { resource_id: Some("nothing".into()), ..all.clone() };
    assert!(list(resource).await.is_empty());
    assert_eq!(db::job::purge(&lab.db, 3_600_000_000, 10).await.unwrap(), 0, "it is too young");
    lab.exec("UPDATE jobs SET finished_at = 1 WHERE finished_at IS NOT NULL").await;
    assert_eq!(db::job::purge(&lab.db, 3_600_000_000, 10).await.unwrap(), 1);
    assert_eq!(list(all).await, [other, second]);
}
