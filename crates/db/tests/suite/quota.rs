//! Quotas: limits, and counts that never pass them and never drift (I6).

use std::collections::BTreeMap;

use db::quota::{InUse, Over};
use model::quota::Usage;

use crate::support::{Lab, make};

on_each_database!(
    limits_of_projects_and_classes,
    i6_exactly_as_many_win_as_the_limit_lets,
    i6_the_first_of_many_uses_makes_one_row,
    all_or_none_is_taken,
    a_promise_becomes_a_use_or_nothing,
    negative_uses_never_fail,
    i6_usages_equal_a_recount,
    a_renamed_type_keeps_its_counts,
    a_name_used_again_counts_from_the_renamed_types,
    a_type_that_is_gone_leaves_no_limits,
    rows_that_were_never_counted_are_counted_once,
);

fn limits(pairs: &[(&str, i64)]) -> BTreeMap<String, i64> {
    pairs.iter().map(|(name, limit)| ((*name).to_owned(), *limit)).collect()
}

async fn limits_of_projects_and_classes(lab: Lab) {
    let mut tx = lab.db.begin().await.unwrap();
    db::quota::set_project_limit(&mut tx, "p", "volumes", 3).await.unwrap();
    db::quota::set_project_limit(&mut tx, "p", "volumes", 4).await.unwrap();
    db::quota::set_project_limit(&mut tx, "p", "volumes_Gold", -1).await.unwrap();
    db::quota::set_project_limit(&mut tx, "p", "volumes_gold", 9).await.unwrap();
    db::quota::set_class_limit(&mut tx, "default", "volumes", 11).await.unwrap();
    db::quota::set_class_limit(&mut tx, "other", "volumes", 12).await.unwrap();
    tx.commit().await.unwrap();
    let from = &mut lab.db.read();
    let expected = limits(&[("volumes", 4), ("volumes_Gold", -1), ("volumes_gold", 9)]);
    assert_eq!(db::quota::project_limits(from, "p").await.unwrap(), expected);
    assert_eq!(db::quota::class_limits(from, "default").await.unwrap()["volumes"], 11);
    assert_eq!(db::quota::class_limits(from, "other").await.unwrap(), limits(&[("volumes", 12)]));
    let mut tx = lab.db.begin().await.unwrap();
    db::quota::clear_project_limits(&mut tx, "p").await.unwrap();
    tx.commit().await.unwrap();
    assert!(db::quota::project_limits(from, "p").await.unwrap().is_empty());
}

async fn i6_exactly_as_many_win_as_the_limit_lets(lab: Lab) {
    const LIMIT: i64 = 5;
    let mut taking = Vec::new();
    for n in 0..12 {
        let db = lab.db.clone();
        taking.push(tokio::spawn(async move {
            let limits = limits(&[("volumes", LIMIT), ("gigabytes", -1)]);
            let wanted = [Usage::of("volumes", 1), Usage::of("gigabytes", 10)];
            loop {
                let mut tx = db.begin().await.unwrap();
                // Half of them only promise.
                let taken = if n % 2 == 0 {
                    db::quota::take(&mut tx, "p", &wanted, &limits).await
                } else {
                    db::quota::reserve(&mut tx, "p", &wanted, &limits).await
                };
                match taken {
                    Ok(Ok(())) => match tx.commit().await {
                        Ok(_) => return true,
                        Err(error) => assert!(error.is_conflict(), "{error}"),
                    },
                    Ok(Err(over)) => {
                        let Over { resource, requested, limit, used } = over;
                        assert_eq!((resource.as_str(), requested, limit), ("volumes", 1, LIMIT));
                        assert_eq!(used, LIMIT);
                        return false;
                    }
                    Err(error) => assert!(error.is_conflict(), "{error}"),
                }
            }
        }));
    }
    let mut winners = 0;
    for taken in taking {
        winners += i64::from(taken.await.unwrap());
    }
    let used = db::quota::usages(&mut lab.db.read(), "p").await.unwrap();
    let total = |name: &str| used[name].in_use + used[name].reserved;
    assert_eq!((winners, total("volumes"), total("gigabytes")), (LIMIT, LIMIT, 10 * LIMIT));
}

async fn i6_the_first_of_many_uses_makes_one_row(lab: Lab) {
    let mut taking = Vec::new();
    for _ in 0..8 {
        let db = lab.db.clone();
        taking.push(tokio::spawn(async move {
            loop {
                let mut tx = db.begin().await.unwrap();
                match db::quota::take(&mut tx, "new", &[Usage::of("volumes", 1)], &BTreeMap::new()).await {
                    Ok(taken) => {
                        taken.unwrap();
                        return tx.commit().await.map(drop).unwrap();
                    }
                    Err(error) => assert!(error.is_conflict(), "{error}"),
                }
            }
        }));
    }
    for taken in taking {
        taken.await.unwrap();
    }
    assert_eq!(lab.number("SELECT COUNT(*) AS n FROM quota_usages WHERE project_id = 'new'").await, 1);
    assert_eq!(db::quota::usages(&mut lab.db.read(), "new").await.unwrap()["volumes"].in_use, 8);
    assert_eq!(db::quota::projects(&mut lab.db.read()).await.unwrap(), ["new"]);
}

async fn all_or_none_is_taken(lab: Lab) {
    let mut tx = lab.db.begin().await.unwrap();
    let wanted = [Usage::of("volumes", 1), Usage::of("gigabytes", 100)];
    let over =
        db::quota::take(&mut tx, "p", &wanted, &limits(&[("gigabytes", 99)])).await.unwrap().unwrap_err();
    assert_eq!(over, Over { resource: "gigabytes".into(), requested: 100, limit: 99, used: 0 });
    drop(tx);
    let usages = db::quota::usages(&mut lab.db.read(), "p").await.unwrap();
    assert!(usages.values().all(|used| *used == InUse::default()), "{usages:?}");
    let mut tx = lab.db.begin().await.unwrap();
    db::quota::take(&mut tx, "p", &wanted, &limits(&[("gigabytes", 100)])).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db::quota::usages(&mut lab.db.read(), "p").await.unwrap()["gigabytes"].in_use, 100);
}

async fn a_promise_becomes_a_use_or_nothing(lab: Lab) {
    let wanted = [Usage::of("gigabytes", 3)];
    for (used, expected) in
        [(true, InUse { in_use: 3, reserved: 0 }), (false, InUse { in_use: 3, reserved: 0 })]
    {
        let mut tx = lab.db.begin().await.unwrap();
        db::quota::reserve(&mut tx, "p", &wanted, &limits(&[("gigabytes", 6)])).await.unwrap().unwrap();
        let before = db::quota::usages(&mut tx, "p").await.unwrap()["gigabytes"];
        assert_eq!(before.reserved, 3);
        db::quota::settle(&mut tx, "p", &wanted, used).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db::quota::usages(&mut lab.db.read(), "p").await.unwrap()["gigabytes"], expected);
    }
}

async fn negative_uses_never_fail(lab: Lab) {
    let mut tx = lab.db.begin().await.unwrap();
    db::quota::take(&mut tx, "p", &[Usage::of("volumes", 3)], &BTreeMap::new()).await.unwrap().unwrap();
    // Over its limit by now: giving back is allowed all the same.
    db::quota::take(&mut tx, "p", &[Usage::of("volumes", -1)], &limits(&[("volumes", 0)]))
        .await
        .unwrap()
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db::quota::usages(&mut lab.db.read(), "p").await.unwrap()["volumes"].in_use, 2);
}

async fn i6_usages_equal_a_recount(lab: Lab) {
    let mut making = Vec::new();
    for n in 1..=6_i64 {
        let db = lab.db.clone();
        making.push(tokio::spawn(async move {
            let kind = make::default_type(&db).await;
            let new = db::volume::NewVolume { size: model::GiB(n as u32), ..make::a_volume(kind) };
            let wanted = [
                Usage::of("volumes", 1),
                Usage::of("volumes___DEFAULT__", 1),
                Usage::of("gigabytes", n),
                Usage::of("gigabytes___DEFAULT__", n),
            ];
            loop {
                let mut tx = db.begin().await.unwrap();
                match db::quota::take(&mut tx, "p", &wanted, &BTreeMap::new()).await {
                    Ok(taken) => taken.unwrap(),
                    Err(error) if error.is_conflict() => continue,
                    Err(error) => panic!("{error}"),
                }
                db::volume::insert(&mut tx, &new).await.unwrap();
                tx.commit().await.unwrap();
                break;
            }
        }));
    }
    for made in making {
        made.await.unwrap();
    }
    let kind = make::default_type(&lab.db).await;
    make::volume_of(&lab.db, db::volume::NewVolume { use_quota: false, ..make::a_volume(kind) }).await;
    let from = &mut lab.db.read();
    let used = db::quota::usages(from, "p").await.unwrap();
    let counted = db::quota::recount(from, "p", true).await.unwrap();
    for (resource, n) in &counted {
        assert_eq!(used.get(resource).map_or(0, |used| used.in_use), *n, "{resource}");
    }
    assert_eq!((counted["volumes"], counted["gigabytes___DEFAULT__"]), (6, 21));
    let volume = make::volume(&lab.db).await;
    make::snapshot(&lab.db, volume).await;
    make::backup(&lab.db, volume, None).await;
    let counted = db::quota::recount(from, "p", true).await.unwrap();
    assert_eq!((counted["snapshots"], counted["snapshots___DEFAULT__"], counted["gigabytes"]), (1, 1, 23));
    assert_eq!((counted["backups"], counted["backup_gigabytes"]), (1, 1));
    assert_eq!(db::quota::recount(from, "p", false).await.unwrap()["gigabytes"], 22, "snapshots may be free");
}

async fn a_renamed_type_keeps_its_counts(lab: Lab) {
    let mut tx = lab.db.begin().await.unwrap();
    db::quota::take(&mut tx, "p", &[Usage::of("volumes_old", 2)], &BTreeMap::new()).await.unwrap().unwrap();
    db::quota::set_project_limit(&mut tx, "p", "gigabytes_old", 7).await.unwrap();
    db::quota::set_class_limit(&mut tx, "default", "snapshots_old", 8).await.unwrap();
    db::quota::rename_type(&mut tx, "old", "new").await.unwrap();
    tx.commit().await.unwrap();
    let from = &mut lab.db.read();
    let usages = db::quota::usages(from, "p").await.unwrap();
    assert_eq!(usages.keys().collect::<Vec<_>>(), ["volumes_new"]);
    assert_eq!(usages["volumes_new"].in_use, 2);
    assert_eq!(db::quota::project_limits(from, "p").await.unwrap(), limits(&[("gigabytes_new", 7)]));
    assert_eq!(db::quota::class_limits(from, "default").await.unwrap()["snapshots_new"], 8);
}

/// A type that is gone leaves rows of zero behind; another may take its name.
async fn a_name_used_again_counts_from_the_renamed_types(lab: Lab) {
    let mut tx = lab.db.begin().await.unwrap();
    for (name, n) in [("volumes_gone", 1), ("volumes_gone", -1), ("volumes_kept", 4)] {
        db::quota::take(&mut tx, "p", &[Usage::of(name, n)], &BTreeMap::new()).await.unwrap().unwrap();
    }
    db::quota::rename_type(&mut tx, "kept", "gone").await.unwrap();
    tx.commit().await.unwrap();
    let usages = db::quota::usages(&mut lab.db.read(), "p").await.unwrap();
    assert_eq!(
        usages.into_iter().collect::<Vec<_>>(),
        [("volumes_gone".to_owned(), InUse { in_use: 4, reserved: 0 })]
    );
}

async fn a_type_that_is_gone_leaves_no_limits(lab: Lab) {
    let mut tx = lab.db.begin().await.unwrap();
    db::quota::set_project_limit(&mut tx, "p", "gigabytes_t", 7).await.unwrap();
    db::quota::set_project_limit(&mut tx, "p", "gigabytes_tt", 7).await.unwrap();
    db::quota::set_class_limit(&mut tx, "default", "volumes_t", 8).await.unwrap();
    db::quota::forget_type(&mut tx, "t").await.unwrap();
    tx.commit().await.unwrap();
    let from = &mut lab.db.read();
    assert_eq!(db::quota::project_limits(from, "p").await.unwrap(), limits(&[("gigabytes_tt", 7)]));
    assert!(!db::quota::class_limits(from, "default").await.unwrap().contains_key("volumes_t"));
}

async fn rows_that_were_never_counted_are_counted_once(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    make::backup(&lab.db, volume, None).await;
    for _ in 0..2 {
        let mut tx = lab.db.begin().await.unwrap();
        db::quota::count_uncounted(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        let usages = db::quota::usages(&mut lab.db.read(), "p").await.unwrap();
        assert_eq!((usages["volumes"].in_use, usages["backups"].in_use), (1, 1));
        assert!(!usages.contains_key("snapshots"), "nothing is counted of what there is none");
    }
}
