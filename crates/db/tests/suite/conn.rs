//! Connections and transactions: URLs, isolation, what a dropped transaction leaves, groups of commits, conflicts, a server
//! that goes away and comes back.

use std::time::Duration;

use db::event::{By, Change};
use db::job::Claimed;
use db::sql::sql;
use db::{Db, Read as _};

use crate::support::road::Road;
use crate::support::server;
use crate::support::{Kind, Lab, make, run};

on_each_database!(
    a_dropped_transaction_leaves_nothing,
    a_transaction_sees_what_others_commit_meanwhile,
    conflicts_are_told_apart_and_a_retry_succeeds,
    a_failed_statement_undoes_only_its_own_transaction,
    what_does_not_fit_is_refused_and_not_cut,
    the_clock_is_the_databases_in_microseconds,
    every_commit_of_many_is_there,
    a_closed_database_says_so,
);

async fn append(db: &Db, id: &str) -> db::Result<Vec<String>> {
    let mut tx = db.begin().await?;
    let change = Change { kind: "volume", id, from: None, to: Some("x"), by: By::default(), detail: None };
    db::event::append(&mut tx, change).await?;
    tx.ring(id);
    tx.commit().await
}

async fn events(db: &Db, id: &str) -> usize {
    db::event::of(&mut db.read(), id, 0, 10_000).await.unwrap().len()
}

/// URLs as Cinder's users write them: SQLAlchemy's drivers, and options that are for them.
fn urls_connect(kind: Kind, urls: &'static [(&str, &str)]) {
    if !kind.is_here() {
        return;
    }
    run(async move {
        let lab = Lab::fresh(kind).await;
        let (_, rest) = lab.url.split_once("://").unwrap();
        for (scheme, options) in urls {
            let before = events(&lab.db, "ü🦀").await;
            let db = Db::connect(&format!("{scheme}://{rest}{options}"), 2).await.unwrap();
            append(&db, "ü🦀").await.unwrap();
            assert_eq!(events(&lab.db, "ü🦀").await, before + 1, "{scheme}{options}");
        }
    });
}

#[test]
fn urls_as_cinders_users_write_them_connect_postgresql() {
    const OPTIONS: &str = "?client_encoding=utf8&application_name=x";
    urls_connect(Kind::Postgres, &[("postgresql+psycopg2", OPTIONS), ("postgres", "")]);
}

#[test]
fn urls_as_cinders_users_write_them_connect_mariadb() {
    const OPTIONS: &str = "?charset=latin1&use_unicode=1";
    urls_connect(Kind::MariaDb, &[("mysql+pymysql", "?charset=utf8"), ("mariadb+mysqldb", OPTIONS)]);
}

async fn a_dropped_transaction_leaves_nothing(lab: Lab) {
    for _ in 0..3 {
        let mut tx = lab.db.begin().await.unwrap();
        let change =
            Change { kind: "volume", id: "x", from: None, to: None, by: By::default(), detail: None };
        db::event::append(&mut tx, change).await.unwrap();
        tx.ring("never");
        drop(tx);
    }
    assert_eq!(append(&lab.db, "x").await.unwrap(), ["x"]);
    assert_eq!(events(&lab.db, "x").await, 1);
}

async fn a_transaction_sees_what_others_commit_meanwhile(lab: Lab) {
    if lab.kind == Kind::Sqlite {
        return; // one writer: nobody commits meanwhile
    }
    let id = make::volume(&lab.db).await;
    let mut tx = lab.db.begin().await.unwrap();
    assert_eq!(db::volume::get(&mut tx, id).await.unwrap().unwrap().name.as_deref(), Some("n"));
    lab.exec("UPDATE volumes SET display_name = 'new'").await;
    assert_eq!(db::volume::get(&mut tx, id).await.unwrap().unwrap().name.as_deref(), Some("new"));
    let moved = tx.exec(sql("UPDATE volumes SET size = 2 WHERE display_name = 'new'")).await.unwrap();
    assert_eq!(moved, 1, "a conditional update sees it too");
}

async fn conflicts_are_told_apart_and_a_retry_succeeds(lab: Lab) {
    if lab.kind == Kind::Sqlite {
        return conflict_between_processes(lab).await;
    }
    lab.exec("INSERT INTO pools (name, service_host, stats, allocated_gb, promised_gb, version, reported_at) VALUES ('a', 'h', '{}', 0, 0, 0, 0)").await;
    lab.exec("INSERT INTO pools (name, service_host, stats, allocated_gb, promised_gb, version, reported_at) VALUES ('b', 'h', '{}', 0, 0, 0, 0)").await;
    let grow = |name: &str| sql("UPDATE pools SET allocated_gb = allocated_gb + 1 WHERE name = ?").bind(name);
    let (mut one, mut two) = (lab.db.begin().await.unwrap(), lab.db.begin().await.unwrap());
    one.exec(grow("a")).await.unwrap();
    two.exec(grow("b")).await.unwrap();
    let crossing = tokio::join!(
        async {
            let result = one.exec(grow("b")).await;
            (one, result)
        },
        async {
            let result = two.exec(grow("a")).await;
            (two, result)
        }
    );
    let mut lost = 0;
    let mut crossing = [crossing.0, crossing.1];
    // The winner commits before the loser tries again.
    crossing.sort_by_key(|(_, result)| result.is_err());
    for (tx, result) in crossing {
        match result {
            Ok(_) => drop(tx.commit().await.unwrap()),
            Err(error) => {
                assert!(error.is_conflict() && !error.is_duplicate(), "{error}");
                lost += 1;
                drop(tx);
                let mut again = lab.db.begin().await.unwrap();
                for name in ["a", "b"] {
                    again.exec(grow(name)).await.unwrap();
                }
                again.commit().await.unwrap();
            }
        }
    }
    assert_eq!(lost, 1);
    assert_eq!(lab.number("SELECT CAST(SUM(allocated_gb) AS {int}) AS n FROM pools").await, 4);
}

/// Another process holds the file's lock: we wait for it, we do not fail at once.
async fn conflict_between_processes(lab: Lab) {
    let beside = lab.beside().await;
    let held = lab.db.begin().await.unwrap();
    let waiting = tokio::spawn(async move { append(&beside, "x").await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    held.commit().await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(events(&lab.db, "x").await, 1);
}

async fn a_failed_statement_undoes_only_its_own_transaction(lab: Lab) {
    let mut working = Vec::new();
    for n in 0..16 {
        let db = lab.db.clone();
        working.push(tokio::spawn(async move {
            if n % 2 == 0 {
                append(&db, "good").await.unwrap();
                return;
            }
            let mut tx = db.begin().await.unwrap();
            let change =
                Change { kind: "volume", id: "bad", from: None, to: None, by: By::default(), detail: None };
            db::event::append(&mut tx, change).await.unwrap();
            let sentinel = "INSERT INTO workers (resource_type, resource_id, status, race_preventer) \
                            VALUES ('SENTINEL', 'SUB-SECOND', 'x', 0)";
            assert!(tx.exec(sql(sentinel)).await.unwrap_err().is_duplicate());
        }));
    }
    for worked in working {
        worked.await.unwrap();
    }
    assert_eq!((events(&lab.db, "good").await, events(&lab.db, "bad").await), (8, 0));
}

async fn what_does_not_fit_is_refused_and_not_cut(lab: Lab) {
    if lab.kind == Kind::Sqlite {
        return; // its texts have no limit
    }
    let id = make::volume(&lab.db).await;
    let mut tx = lab.db.begin().await.unwrap();
    let long = "x".repeat(256);
    assert!(db::volume::rename(&mut tx, id, Some(Some(&long)), None).await.is_err());
    drop(tx);
    let mut tx = lab.db.begin().await.unwrap();
    let fits = "ü".repeat(255);
    db::volume::rename(&mut tx, id, Some(Some(&fits)), None).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db::volume::get(&mut lab.db.read(), id).await.unwrap().unwrap().name, Some(fits));
}

async fn the_clock_is_the_databases_in_microseconds(lab: Lab) {
    let now = chrono::Utc::now().timestamp_micros();
    let read = lab.number("SELECT {now} AS n").await;
    assert!((read - now).abs() < 30_000_000, "{read} beside {now}");
    let mut last = read;
    for _ in 0..50 {
        let next = lab.number("SELECT {now} AS n").await;
        assert!(next >= last);
        last = next;
    }
    lab.tick().await;
    assert!(lab.number("SELECT {now} AS n").await > read);
}

async fn every_commit_of_many_is_there(lab: Lab) {
    let mut writing = Vec::new();
    for writer in 0..16 {
        let db = lab.db.clone();
        writing.push(tokio::spawn(async move {
            for n in 0..8 {
                let mut tx = db.begin().await.unwrap();
                let id = format!("w{writer}");
                let change =
                    Change { kind: "volume", id: &id, from: None, to: None, by: By::default(), detail: None };
                db::event::append(&mut tx, change).await.unwrap();
                match n % 4 {
                    // Undone, or nobody waits to hear of it: others are not disturbed.
                    3 => drop(tx),
                    2 => drop(tokio::time::timeout(Duration::ZERO, tx.commit()).await),
                    _ => {
                        tx.commit().await.unwrap();
                        assert!(events(&db, &id).await > 0, "what is acknowledged is read");
                    }
                }
            }
        }));
    }
    for written in writing {
        written.await.unwrap();
    }
    append(&lab.db, "last").await.unwrap();
    for writer in 0..16 {
        let there = events(&lab.db, &format!("w{writer}")).await;
        // Four were acknowledged; of two nobody heard.
        assert!((4..=6).contains(&there), "{there}");
    }
}

async fn a_closed_database_says_so(lab: Lab) {
    append(&lab.db, "x").await.unwrap();
    lab.db.close().await;
    assert!(append(&lab.db, "x").await.is_err());
    assert!(lab.db.read().row(sql("SELECT 1 AS n")).await.is_err());
    let again = lab.beside().await;
    assert_eq!(events(&again, "x").await, 1);
}

/// Nothing of ours has to be restarted when the server was.
fn a_server_that_comes_back_is_used_again(kind: Kind) {
    if !kind.is_here() {
        return;
    }
    run(async move {
        let lab = Lab::fresh(kind).await;
        let road = Road::to(server::address(kind)).await;
        let url = lab.url.replace(&server::address(kind), &road.address.to_string());
        let db = Db::connect(&url, 4).await.unwrap();
        let id = crate::job::insert(&db, crate::job::a_job(vec![])).await;
        append(&db, "before").await.unwrap();
        let mut open = db.begin().await.unwrap();
        let change =
            Change { kind: "volume", id: "open", from: None, to: None, by: By::default(), detail: None };
        db::event::append(&mut open, change).await.unwrap();
        road.close();
        assert!(open.commit().await.is_err(), "what was not acknowledged is not there");
        let away = tokio::time::timeout(Duration::from_secs(40), append(&db, "away")).await;
        let away = away.expect("waiting is bounded").unwrap_err();
        assert!(!away.is_conflict() && !away.is_duplicate(), "{away}");
        road.open();
        append(&db, "after").await.unwrap();
        assert_eq!(
            (events(&db, "before").await, events(&db, "open").await, events(&db, "after").await),
            (1, 0, 1)
        );
        assert!(matches!(db::job::claim(&db, id, "me", crate::job::LEASE).await.unwrap(), Claimed::Yes(_)));
    });
}

#[test]
fn a_server_that_comes_back_is_used_again_postgresql() {
    a_server_that_comes_back_is_used_again(Kind::Postgres);
}

#[test]
fn a_server_that_comes_back_is_used_again_mariadb() {
    a_server_that_comes_back_is_used_again(Kind::MariaDb);
}
