//! Locks: never two conflicting holders, in the order of tickets, nobody starves, nobody who is dead or stopped stands in
//! the way, and Cinder's own rows in `workers` are left alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use db::Db;
use db::job::{Claimed, Held, NewJob, Next};
use model::JobId;
use model::job::{Job, JobState, Lock, LockMode};

use crate::job::{LEASE, a_job, claim, finish, insert};
use crate::support::{Dice, Kind, Lab};

on_each_database!(
    shared_stands_beside_shared_and_exclusive_alone,
    an_earlier_ticket_goes_first,
    a_job_keeps_its_place_between_its_claims,
    a_lock_set_is_taken_whole_or_not_at_all,
    waiters_do_not_stand_before_those_who_need_not_wait,
    a_waiter_that_nobody_runs_blocks_nobody,
    a_lost_lease_frees_its_locks,
    a_release_rings_those_that_wait,
    lock_names_are_compared_exactly,
    a_job_does_not_wait_for_itself,
    cinders_rows_in_workers_are_left_alone,
    gates_and_dead_holders_are_purged_and_no_others,
    no_two_conflicting_holders_ever_and_everybody_gets_there,
    a_renewal_that_comes_in_while_the_lease_ends_keeps_the_lock_or_loses_it,
    a_transaction_that_stands_still_is_ended,
);

async fn try_claim(db: &Db, id: JobId) -> Claimed {
    db::job::claim(db, id, "me", LEASE).await.unwrap()
}

fn waits(claimed: &Claimed, name: &str) -> bool {
    matches!(claimed, Claimed::Waits { lock } if lock == name)
}

async fn shared_stands_beside_shared_and_exclusive_alone(lab: Lab) {
    let name = "v-delete_volume";
    let s1 = insert(&lab.db, a_job(vec![Lock::shared(name)])).await;
    let s2 = insert(&lab.db, a_job(vec![Lock::shared(name)])).await;
    let x = insert(&lab.db, a_job(vec![Lock::exclusive(name)])).await;
    let free = insert(&lab.db, a_job(vec![Lock::exclusive("other")])).await;
    let (first, second) = (claim(&lab.db, s1).await, claim(&lab.db, s2).await);
    assert!(waits(&try_claim(&lab.db, x).await, name));
    claim(&lab.db, free).await;
    let mut held = db::job::held(&mut lab.db.read()).await.unwrap();
    held.retain(|held| held.name == name);
    held.sort_by_key(|held| held.job);
    let mut expected = [s1, s2].map(|job| Held { name: name.into(), mode: LockMode::Shared, job });
    expected.sort_by_key(|held| held.job);
    assert_eq!(held, expected);
    finish(&lab.db, &first).await;
    assert!(waits(&try_claim(&lab.db, x).await, name));
    finish(&lab.db, &second).await;
    let exclusive = claim(&lab.db, x).await;
    let s3 = insert(&lab.db, a_job(vec![Lock::shared(name)])).await;
    assert!(waits(&try_claim(&lab.db, s3).await, name));
    finish(&lab.db, &exclusive).await;
    claim(&lab.db, s3).await;
}

async fn an_earlier_ticket_goes_first(lab: Lab) {
    let s1 = insert(&lab.db, a_job(vec![Lock::shared("l")])).await;
    let first = claim(&lab.db, s1).await;
    let x = insert(&lab.db, a_job(vec![Lock::exclusive("l")])).await;
    let s2 = insert(&lab.db, a_job(vec![Lock::shared("l")])).await;
    assert!(waits(&try_claim(&lab.db, s2).await, "l"), "it could have it, but an exclusive one came first");
    finish(&lab.db, &first).await;
    assert!(waits(&try_claim(&lab.db, s2).await, "l"));
    let exclusive = claim(&lab.db, x).await;
    // It moves to another queue: between its claims it keeps its place.
    let mut tx = lab.db.begin().await.unwrap();
    db::job::advance(&mut tx, &exclusive, Next::Queue("r".into())).await.unwrap();
    tx.commit().await.unwrap();
    assert!(waits(&try_claim(&lab.db, s2).await, "l"));
    finish(&lab.db, &claim(&lab.db, x).await).await;
    claim(&lab.db, s2).await;
}

/// Also when it has not been claimed yet, is to be tried again later, or has just lost its owner.
async fn a_job_keeps_its_place_between_its_claims(lab: Lab) {
    let first = insert(&lab.db, a_job(vec![Lock::shared("l")])).await;
    let later = insert(&lab.db, a_job(vec![Lock::exclusive("l")])).await;
    assert!(waits(&try_claim(&lab.db, later).await, "l"), "not claimed yet");
    let job = claim(&lab.db, first).await;
    let mut tx = lab.db.begin().await.unwrap();
    let again = Next::Later { delay_us: 50_000_000, error: "e".into() };
    db::job::advance(&mut tx, &job, again).await.unwrap();
    tx.commit().await.unwrap();
    assert!(waits(&try_claim(&lab.db, later).await, "l"), "to be tried again");
    claim(&lab.db, first).await;
    lab.exec(&format!("UPDATE jobs SET lease_until = {{now}} - 1 WHERE id = '{first}'")).await;
    assert!(waits(&try_claim(&lab.db, later).await, "l"), "its owner has died");
    finish(&lab.db, &claim(&lab.db, first).await).await;
    claim(&lab.db, later).await;
}

async fn a_lock_set_is_taken_whole_or_not_at_all(lab: Lab) {
    let b = insert(&lab.db, a_job(vec![Lock::exclusive("b")])).await;
    let holder = claim(&lab.db, b).await;
    let both =
        insert(&lab.db, a_job(vec![Lock::exclusive("b"), Lock::exclusive("a"), Lock::shared("c")])).await;
    assert!(waits(&try_claim(&lab.db, both).await, "b"));
    assert_eq!(db::job::held(&mut lab.db.read()).await.unwrap().len(), 1);
    finish(&lab.db, &holder).await;
    let job = claim(&lab.db, both).await;
    assert_eq!(job.locks, [Lock::exclusive("a"), Lock::exclusive("b"), Lock::shared("c")]);
    assert_eq!(db::job::held(&mut lab.db.read()).await.unwrap().len(), 3);
    finish(&lab.db, &job).await;
    assert!(db::job::held(&mut lab.db.read()).await.unwrap().is_empty());
}

/// A service with few free slots must not spend them on looking at those who wait.
async fn waiters_do_not_stand_before_those_who_need_not_wait(lab: Lab) {
    let s = insert(&lab.db, a_job(vec![Lock::shared("l")])).await;
    claim(&lab.db, s).await;
    insert(&lab.db, a_job(vec![Lock::exclusive("l")])).await;
    for _ in 0..5 {
        insert(&lab.db, a_job(vec![Lock::shared("l")])).await;
    }
    let free = insert(&lab.db, a_job(vec![Lock::shared("m")])).await;
    assert_eq!(db::job::claimable(&lab.db, &["q".into()], 2, LEASE).await.unwrap(), [free]);
}

async fn a_waiter_that_nobody_runs_blocks_nobody(lab: Lab) {
    const SHORT: i64 = 200_000;
    let dead = insert(&lab.db, NewJob { queue: "nobody".into(), ..a_job(vec![Lock::exclusive("l")]) }).await;
    let alive = insert(&lab.db, a_job(vec![Lock::exclusive("l")])).await;
    let claimed = db::job::claim(&lab.db, alive, "me", SHORT).await.unwrap();
    assert!(waits(&claimed, "l"), "whoever runs the earlier one may be about to");
    // Somebody says so for as long as it lives.
    lab.exec(&format!("UPDATE jobs SET wanted_at = {{now}} - {} WHERE id = '{dead}'", 2 * SHORT)).await;
    db::job::want(&lab.db, &["nobody".into()], SHORT).await.unwrap();
    assert!(waits(&db::job::claim(&lab.db, alive, "me", SHORT).await.unwrap(), "l"));
    lab.exec(&format!("UPDATE jobs SET wanted_at = {{now}} - {} WHERE id = '{dead}'", 2 * SHORT)).await;
    db::job::want(&lab.db, &["q".into()], SHORT).await.unwrap();
    assert_eq!(db::job::claimable(&lab.db, &["q".into()], 9, SHORT).await.unwrap(), [alive]);
    assert!(matches!(db::job::claim(&lab.db, alive, "me", SHORT).await.unwrap(), Claimed::Yes(_)));
}

async fn a_lost_lease_frees_its_locks(lab: Lab) {
    let a = insert(&lab.db, a_job(vec![Lock::exclusive("l"), Lock::exclusive("k")])).await;
    let b = insert(&lab.db, a_job(vec![Lock::exclusive("l")])).await;
    let old = claim(&lab.db, a).await;
    assert!(waits(&try_claim(&lab.db, b).await, "l"));
    // Its owner is gone for longer than a lease.
    lab.exec(&format!(
        "UPDATE jobs SET lease_until = {{now}} - 1, wanted_at = {{now}} - {} WHERE id = '{a}'",
        2 * LEASE
    ))
    .await;
    let new = claim(&lab.db, b).await;
    // What the old one does now is refused, whichever comes first.
    let mut tx = lab.db.begin().await.unwrap();
    assert!(matches!(db::job::finish(&mut tx, &old, JobState::Done, None).await, Err(db::Error::Fenced(_))));
    drop(tx);
    assert!(waits(&try_claim(&lab.db, a).await, "l"));
    let held = db::job::held(&mut lab.db.read()).await.unwrap();
    assert_eq!(held, [Held { name: "l".into(), mode: LockMode::Exclusive, job: b }]);
    finish(&lab.db, &new).await;
    assert_eq!(claim(&lab.db, a).await.epoch, 2);
}

async fn a_release_rings_those_that_wait(lab: Lab) {
    let a = insert(&lab.db, a_job(vec![Lock::exclusive("l")])).await;
    insert(&lab.db, NewJob { queue: "other".into(), ..a_job(vec![Lock::shared("l")]) }).await;
    insert(&lab.db, NewJob { queue: "third".into(), ..a_job(vec![Lock::shared("m")]) }).await;
    let job = claim(&lab.db, a).await;
    let mut tx = lab.db.begin().await.unwrap();
    db::job::finish(&mut tx, &job, JobState::Done, None).await.unwrap();
    assert_eq!(tx.commit().await.unwrap(), ["other".to_owned(), db::job::done_topic(a)]);
}

async fn lock_names_are_compared_exactly(lab: Lab) {
    for name in ["lock", "Lock", "löck", "lock-delete_volume", "lock_delete_volume"] {
        let id = insert(&lab.db, a_job(vec![Lock::exclusive(name)])).await;
        claim(&lab.db, id).await;
    }
    assert_eq!(db::job::held(&mut lab.db.read()).await.unwrap().len(), 5);
}

/// A job whose owner died still has rows as a holder: claiming it again is not refused by them.
async fn a_job_does_not_wait_for_itself(lab: Lab) {
    let id = insert(&lab.db, a_job(vec![Lock::exclusive("l")])).await;
    for epoch in 1..=3 {
        assert_eq!(claim(&lab.db, id).await.epoch, epoch);
        lab.exec("UPDATE jobs SET lease_until = {now} - 1").await;
    }
    assert_eq!(lab.number("SELECT COUNT(*) AS n FROM workers WHERE resource_type = 'held'").await, 1);
}

async fn cinders_rows_in_workers_are_left_alone(lab: Lab) {
    let insert_row = |kind: &str, id: &str, status: &str| {
        format!(
            "INSERT INTO workers (created_at, updated_at, deleted, resource_type, resource_id, status, race_preventer) \
             VALUES ({{utc}}, {{utc}}, FALSE, '{kind}', '{id}', '{status}', 0)"
        )
    };
    let volume = "0e0f6f7e-6a3f-4d7b-9e3f-3f2f0d1c2b3a";
    lab.exec(&insert_row("Volume", volume, "creating")).await;
    lab.exec(&insert_row("Snapshot", volume, "creating")).await;
    let id = insert(&lab.db, a_job(vec![Lock::exclusive(format!("{volume}-delete_volume"))])).await;
    let job = claim(&lab.db, id).await;
    // What Cinder does with its rows meanwhile: claim one by its old values, and remove it.
    let taken = format!(
        "UPDATE workers SET race_preventer = race_preventer + 1, updated_at = {{utc}} WHERE resource_type = 'Volume' \
         AND resource_id = '{volume}' AND status = 'creating' AND service_id IS NULL AND race_preventer = 0"
    );
    assert_eq!(lab.exec(&taken).await, 1);
    finish(&lab.db, &job).await;
    db::job::purge_gates(&lab.db).await.unwrap();
    assert_eq!(
        lab.number("SELECT COUNT(*) AS n FROM workers WHERE resource_type IN ('Volume', 'Snapshot')").await,
        2
    );
    assert_eq!(lab.number("SELECT COUNT(*) AS n FROM workers WHERE resource_type = 'SENTINEL'").await, 1);
    // Its own cleanup at start asks for rows of a service, of which we have none.
    assert_eq!(lab.number("SELECT COUNT(*) AS n FROM workers WHERE service_id IS NOT NULL").await, 0);
    let duplicate = lab.db.begin().await.unwrap().exec(db::sql::sql(insert_row("Volume", volume, "x"))).await;
    assert!(duplicate.unwrap_err().is_duplicate());
}

async fn gates_and_dead_holders_are_purged_and_no_others(lab: Lab) {
    let count = "SELECT COUNT(*) AS n FROM workers WHERE resource_type IN ('lock', 'held')";
    let done = insert(&lab.db, a_job(vec![Lock::exclusive("done")])).await;
    finish(&lab.db, &claim(&lab.db, done).await).await;
    let live = insert(&lab.db, a_job(vec![Lock::exclusive("live")])).await;
    claim(&lab.db, live).await;
    let lapsed = insert(&lab.db, a_job(vec![Lock::exclusive("lapsed")])).await;
    claim(&lab.db, lapsed).await;
    lab.exec(&format!("UPDATE jobs SET lease_until = {{now}} - 1 WHERE id = '{lapsed}'")).await;
    assert_eq!(lab.number(count).await, 3 + 2);
    assert_eq!(db::job::purge_gates(&lab.db).await.unwrap(), 1, "the gate that no job mentions");
    // A lease that just ended may be being renewed at this moment; one that ended long ago is not.
    lab.exec(&format!("UPDATE jobs SET lease_until = {{now}} - 7200000000 WHERE id = '{lapsed}'")).await;
    assert_eq!(db::job::purge_gates(&lab.db).await.unwrap(), 1);
    assert_eq!(db::job::purge_gates(&lab.db).await.unwrap(), 0);
    assert_eq!(db::job::held(&mut lab.db.read()).await.unwrap().len(), 1);
    assert_eq!(claim(&lab.db, lapsed).await.epoch, 2);
}

/// Who holds what, as the holders themselves see it.
#[derive(Default)]
struct Witness(Mutex<HashMap<String, (usize, usize)>>);

impl Witness {
    fn enter(&self, locks: &[Lock]) {
        let mut held = self.0.lock().unwrap();
        for lock in locks {
            let (shared, exclusive) = held.entry(lock.name.clone()).or_default();
            match lock.mode {
                LockMode::Shared => *shared += 1,
                LockMode::Exclusive => *exclusive += 1,
            }
            let (shared, exclusive) = (*shared, *exclusive);
            assert!(
                exclusive == 0 || (exclusive, shared) == (1, 0),
                "{}: {exclusive} and {shared}",
                lock.name
            );
        }
    }

    fn leave(&self, locks: &[Lock]) {
        let mut held = self.0.lock().unwrap();
        for lock in locks {
            let (shared, exclusive) = held.get_mut(&lock.name).expect("it was entered");
            match lock.mode {
                LockMode::Shared => *shared -= 1,
                LockMode::Exclusive => *exclusive -= 1,
            }
        }
    }
}

/// Runs jobs as a service does, until none is left; some are handed on, some owners die.
async fn run_jobs(db: Db, name: String, witness: Arc<Witness>, mut dice: Dice) -> u32 {
    let queues = ["q".to_owned(), "r".to_owned()];
    let mut done = 0;
    loop {
        db::job::want(&db, &queues, LEASE).await.unwrap();
        let found = db::job::claimable(&db, &queues, 4, LEASE).await.unwrap();
        let active =
            db::job::of_resource(&mut db.read(), "3c1f6a0e-0000-4000-8000-000000000001").await.unwrap();
        if active.is_empty() {
            return done;
        }
        for id in found {
            let job: Job = match db::job::claim(&db, id, &name, LEASE).await {
                Ok(Claimed::Yes(job)) => *job,
                Ok(Claimed::Waits { .. } | Claimed::No) => continue,
                Err(error) if error.is_conflict() => continue,
                Err(error) => panic!("{error}"),
            };
            witness.enter(&job.locks);
            for _ in 0..dice.roll(4) {
                tokio::task::yield_now().await;
            }
            witness.leave(&job.locks);
            done += leave(&db, &job, &mut dice).await;
        }
    }
}

/// Ends a claim in one of the ways that claims end; whether the job is done by that.
async fn leave(db: &Db, job: &Job, dice: &mut Dice) -> u32 {
    let ends = job.epoch > 2 || dice.roll(3) > 0;
    loop {
        let mut tx = db.begin().await.unwrap();
        let left = if ends {
            db::job::finish(&mut tx, job, JobState::Done, None).await
        } else if dice.roll(2) == 0 {
            db::job::advance(&mut tx, job, Next::Queue("r".into())).await
        } else {
            // Its owner dies; that it is dead is found out at once here.
            let gone = db::sql::sql("UPDATE jobs SET lease_until = {now} - 1 WHERE id = ?").bind(job.id);
            tx.exec(gone).await.map(drop)
        };
        match left {
            Ok(()) => match tx.commit().await {
                Ok(_) => return u32::from(ends),
                Err(error) => assert!(error.is_conflict(), "{error}"),
            },
            Err(error) => assert!(error.is_conflict(), "{error}"),
        }
    }
}

async fn no_two_conflicting_holders_ever_and_everybody_gets_there(lab: Lab) {
    const JOBS: u32 = 40;
    let seed = Dice::seed();
    let mut dice = Dice(seed);
    for _ in 0..JOBS {
        let mut locks: Vec<Lock> = Vec::new();
        for name in ["a", "b", "c"] {
            match dice.roll(4) {
                0 => locks.push(Lock::exclusive(name)),
                1 => locks.push(Lock::shared(name)),
                _ => {}
            }
        }
        insert(&lab.db, a_job(locks)).await;
    }
    let beside = lab.beside().await;
    let witness = Arc::new(Witness::default());
    let mut running = Vec::new();
    for n in 0..4_u64 {
        let db = if n % 2 == 0 { lab.db.clone() } else { beside.clone() };
        running.push(tokio::spawn(run_jobs(db, n.to_string(), witness.clone(), Dice(seed + n))));
    }
    let mut done = 0;
    for worker in running {
        let finished = tokio::time::timeout(Duration::from_secs(60), worker).await;
        done += finished.expect("nobody starves").unwrap();
    }
    assert_eq!(done, JOBS);
    assert!(db::job::held(&mut lab.db.read()).await.unwrap().is_empty());
}

/// The renewal is in a transaction that has run its statement in time and commits when the lease would have been over: the
/// claim of another waits for it, and then is refused.
async fn a_renewal_that_comes_in_while_the_lease_ends_keeps_the_lock_or_loses_it(lab: Lab) {
    if lab.kind == Kind::Sqlite {
        return; // one transaction after the other
    }
    const SHORT: i64 = 300_000;
    let a = insert(&lab.db, a_job(vec![Lock::exclusive("l")])).await;
    let b = insert(&lab.db, a_job(vec![Lock::exclusive("l")])).await;
    let Claimed::Yes(holder) = db::job::claim(&lab.db, a, "one", SHORT).await.unwrap() else {
        panic!("claims")
    };
    // As `renew` does, but it stands still before its commit.
    let mut renewing = lab.db.begin().await.unwrap();
    let renew = "UPDATE jobs SET lease_until = {now} + 15000000, wanted_at = {now} WHERE id = ? AND lease_until >= {now}";
    assert_eq!(renewing.exec(db::sql::sql(renew).bind(a)).await.unwrap(), 1);
    let until = lab.number("SELECT {now} AS n").await + SHORT;
    while lab.number("SELECT {now} AS n").await < until {
        tokio::task::yield_now().await;
    }
    lab.exec(&format!("UPDATE jobs SET wanted_at = {{now}} WHERE id = '{b}'")).await;
    let db = lab.db.clone();
    let other = tokio::spawn(async move { db::job::claim(&db, b, "two", LEASE).await });
    // It must not be decided while the renewal is open.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!other.is_finished());
    renewing.commit().await.unwrap();
    assert!(waits(&other.await.unwrap().unwrap(), "l"));
    finish(&lab.db, &holder).await;
    claim(&lab.db, b).await;
}

/// A process that is stopped in the middle of a claim would keep the gate closed for everybody.
async fn a_transaction_that_stands_still_is_ended(lab: Lab) {
    if lab.kind == Kind::Sqlite {
        return; // SQLite cannot: documented in conn.rs
    }
    let a = insert(&lab.db, a_job(vec![Lock::exclusive("l")])).await;
    finish(&lab.db, &claim(&lab.db, a).await).await;
    let b = insert(&lab.db, a_job(vec![Lock::exclusive("l")])).await;
    let mut stopped = lab.db.begin().await.unwrap();
    let close = "UPDATE workers SET race_preventer = race_preventer + 1 WHERE resource_type = 'lock'";
    assert_eq!(stopped.exec(db::sql::sql(close)).await.unwrap(), 1);
    let claimed =
        tokio::time::timeout(Duration::from_secs(25), db::job::claim(&lab.db, b, "me", LEASE)).await;
    assert!(matches!(claimed.expect("in time").unwrap(), Claimed::Yes(_)));
    // When it goes on, it learns that it has lost.
    let late = stopped.exec(db::sql::sql("UPDATE jobs SET queue = 'stolen'")).await;
    assert!(late.is_err() || stopped.commit().await.is_err());
    assert_eq!(lab.number("SELECT COUNT(*) AS n FROM jobs WHERE queue = 'stolen'").await, 0);
}
