//! Pools: reports, promises with one winner, counts that a recount confirms (I6).

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::{Lab, make};

on_each_database!(
    a_report_is_the_whole_truth_of_a_backend,
    two_first_reports_at_once_make_one_row,
    i6_one_promise_wins,
    i6_promises_never_exceed_what_there_is,
    i6_what_is_allocated_equals_a_recount,
    growth_is_promised_and_given_back,
);

async fn report(lab: &Lab, host: &str, pools: &[(&str, Value)]) {
    let pools: Vec<(String, Value)> =
        pools.iter().map(|(name, stats)| ((*name).to_owned(), stats.clone())).collect();
    db::pool::report(&lab.db, host, &pools).await.unwrap();
}

async fn pool(lab: &Lab, name: &str) -> db::pool::Pool {
    let pools = db::pool::list(&mut lab.db.read()).await.unwrap();
    pools.into_iter().find(|pool| pool.name == name).expect("the pool")
}

async fn a_report_is_the_whole_truth_of_a_backend(lab: Lab) {
    make::placed_volume(&lab.db, "n@b#one", 7).await;
    report(&lab, "n@b", &[("n@b#one", json!({"free_capacity_gb": 5.5})), ("n@b#two", json!({}))]).await;
    report(&lab, "m@b", &[("m@b#one", json!({"a": null}))]).await;
    let one = pool(&lab, "n@b#one").await;
    assert_eq!((one.allocated_gb, one.service_host.as_str()), (7, "n@b"));
    assert_eq!(one.stats["free_capacity_gb"], json!(5.5));
    assert_eq!(
        (one.stats["allocated_capacity_gb"].as_f64(), one.stats["provisioned_capacity_gb"].as_f64()),
        (Some(7.0), Some(7.0))
    );
    lab.tick().await;
    report(&lab, "n@b", &[("n@b#one", json!({"free_capacity_gb": 4.0}))]).await;
    let pools = db::pool::list(&mut lab.db.read()).await.unwrap();
    let names: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(names, ["m@b#one", "n@b#one"], "what is not reported is gone, other backends' pools are not");
    assert!(pools[1].reported_at > one.reported_at);
    assert_eq!(pools[1].stats["free_capacity_gb"], json!(4.0));
    let counts = db::pool::volume_counts(&mut lab.db.read()).await.unwrap();
    assert_eq!(counts, [("n@b#one".to_owned(), 1)].into());
}

async fn two_first_reports_at_once_make_one_row(lab: Lab) {
    let mut reporting = Vec::new();
    for _ in 0..6 {
        let db = lab.db.clone();
        reporting.push(tokio::spawn(async move {
            let pools = vec![("n@b#p".to_owned(), json!({}))];
            // Whoever loses reports again at its next turn.
            while let Err(error) = db::pool::report(&db, "n@b", &pools).await {
                assert!(error.is_conflict(), "{error}");
            }
        }));
    }
    for reported in reporting {
        reported.await.unwrap();
    }
    assert_eq!(db::pool::list(&mut lab.db.read()).await.unwrap().len(), 1);
}

async fn i6_one_promise_wins(lab: Lab) {
    report(&lab, "n@b", &[("n@b#p", json!({}))]).await;
    let version = pool(&lab, "n@b#p").await.version;
    let mut promising = Vec::new();
    for _ in 0..8 {
        let db = lab.db.clone();
        promising.push(tokio::spawn(async move {
            let mut tx = db.begin().await.unwrap();
            let won = db::pool::promise(&mut tx, "n@b#p", version, 10).await.unwrap();
            tx.commit().await.unwrap();
            won
        }));
    }
    let mut won = 0;
    for promised in promising {
        won += u32::from(promised.await.unwrap());
    }
    let after = pool(&lab, "n@b#p").await;
    assert_eq!((won, after.allocated_gb, after.version), (1, 10, version + 1));
    let mut tx = lab.db.begin().await.unwrap();
    assert!(!db::pool::promise(&mut tx, "nowhere", 0, 1).await.unwrap());
}

/// As the scheduler does: look, decide, promise on what was seen, look again when it has changed.
async fn i6_promises_never_exceed_what_there_is(lab: Lab) {
    const ROOM: i64 = 25;
    report(&lab, "n@b", &[("n@b#p", json!({}))]).await;
    let lab = Arc::new(lab);
    let mut placing = Vec::new();
    for _ in 0..8 {
        let lab = lab.clone();
        placing.push(tokio::spawn(async move {
            let mut placed = 0;
            for _ in 0..2 {
                loop {
                    let seen = pool(&lab, "n@b#p").await;
                    if seen.allocated_gb + 4 > ROOM {
                        break;
                    }
                    let mut tx = lab.db.begin().await.unwrap();
                    let won = db::pool::promise(&mut tx, "n@b#p", seen.version, 4).await.unwrap();
                    tx.commit().await.unwrap();
                    if won {
                        placed += 1;
                        break;
                    }
                }
            }
            placed
        }));
    }
    let mut placed = 0;
    for task in placing {
        placed += task.await.unwrap();
    }
    assert_eq!((placed, pool(&lab, "n@b#p").await.allocated_gb), (6, 24));
}

async fn i6_what_is_allocated_equals_a_recount(lab: Lab) {
    report(&lab, "n@b", &[("n@b#p", json!({}))]).await;
    let mut working = Vec::new();
    for n in 1..=8_u32 {
        let db = lab.db.clone();
        working.push(tokio::spawn(async move {
            let id = make::placed_volume(&db, "n@b#p", n).await;
            let mut tx = db.begin().await.unwrap();
            db::pool::allocate(&mut tx, "n@b#p", i64::from(n)).await.unwrap();
            if n % 2 == 0 {
                db::pool::allocate(&mut tx, "n@b#p", -i64::from(n)).await.unwrap();
                let gone = db::sql::sql("UPDATE volumes SET deleted = TRUE WHERE id = ?").bind(id);
                tx.exec(gone).await.unwrap();
            }
            tx.commit().await.unwrap();
        }));
    }
    for worked in working {
        worked.await.unwrap();
    }
    let from = &mut lab.db.read();
    assert_eq!(db::pool::recount(from, "n@b#p").await.unwrap(), 1 + 3 + 5 + 7);
    assert_eq!(pool(&lab, "n@b#p").await.allocated_gb, 1 + 3 + 5 + 7);
    assert_eq!(db::pool::recount(from, "none").await.unwrap(), 0);
}

async fn growth_is_promised_and_given_back(lab: Lab) {
    report(&lab, "n@b", &[("n@b#p", json!({}))]).await;
    let seen = pool(&lab, "n@b#p").await;
    let mut tx = lab.db.begin().await.unwrap();
    assert!(db::pool::promise_growth(&mut tx, "n@b#p", seen.version, 5).await.unwrap());
    assert!(!db::pool::promise_growth(&mut tx, "n@b#p", seen.version, 5).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(pool(&lab, "n@b#p").await.promised_gb, 5);
    let mut tx = lab.db.begin().await.unwrap();
    db::pool::unpromise(&mut tx, "n@b#p", 3).await.unwrap();
    db::pool::unpromise(&mut tx, "n@b#p", 3).await.unwrap();
    tx.commit().await.unwrap();
    let after = pool(&lab, "n@b#p").await;
    assert_eq!((after.promised_gb, after.allocated_gb), (0, 0));
    assert!(after.version > seen.version);
}
