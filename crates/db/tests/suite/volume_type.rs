//! Volume types, their specs and who may use them.

use db::Db;
use model::list::{Compare, Filter, ListQuery};
use model::{TypeId, VolumeType};
use serde_json::json;

use crate::support::{Lab, make};

on_each_database!(
    what_is_stored_is_read,
    specs_are_set_and_dropped_by_exact_keys,
    private_types_are_for_those_who_were_let_in,
    a_right_is_granted_once,
    one_of_many_grants_at_once_is_new,
    a_deleted_type_leaves_its_name,
    names_that_differ_in_case_are_two_types,
    a_list_costs_the_same_whatever_its_length,
);

async fn a_type(db: &Db, name: &str, public: bool) -> TypeId {
    let id = TypeId::new();
    let mut tx = db.begin().await.unwrap();
    db::volume_type::insert(&mut tx, id, name, None, public).await.unwrap();
    tx.commit().await.unwrap();
    id
}

fn names(types: &[VolumeType]) -> Vec<&str> {
    let mut names: Vec<&str> = types.iter().map(|kind| kind.name.as_str()).collect();
    names.sort_unstable();
    names
}

async fn what_is_stored_is_read(lab: Lab) {
    let id = a_type(&lab.db, "gold", true).await;
    let mut tx = lab.db.begin().await.unwrap();
    db::volume_type::update(&mut tx, id, None, Some("said"), Some(false)).await.unwrap();
    tx.commit().await.unwrap();
    let from = &mut lab.db.read();
    let kind = db::volume_type::get(from, id).await.unwrap().unwrap();
    assert_eq!(
        (kind.name.as_str(), kind.description.as_deref(), kind.is_public),
        ("gold", Some("said"), false)
    );
    let mut tx = lab.db.begin().await.unwrap();
    db::volume_type::update(&mut tx, id, Some("platinum"), None, None).await.unwrap();
    tx.commit().await.unwrap();
    assert!(db::volume_type::by_name(from, "gold").await.unwrap().is_none());
    let kind = db::volume_type::by_name(from, "platinum").await.unwrap().unwrap();
    assert_eq!((kind.id, kind.description.as_deref(), kind.is_public), (id, Some("said"), false));
    assert_eq!(db::volume_type::count(from).await.unwrap(), 2);
    assert_eq!(db::volume_type::in_use(from, id).await.unwrap(), 0);
    make::volume_of(&lab.db, make::a_volume(id)).await;
    assert_eq!(db::volume_type::in_use(from, id).await.unwrap(), 1);
    let found = db::volume_type::names(from, [id, id, TypeId::new()].into_iter()).await.unwrap();
    assert_eq!(found, [(id, "platinum".to_owned())].into());
}

async fn specs_are_set_and_dropped_by_exact_keys(lab: Lab) {
    let id = a_type(&lab.db, "t", true).await;
    let mut tx = lab.db.begin().await.unwrap();
    for (key, value) in [("multiattach", Some("<is> True")), ("Multiattach", Some("no")), ("none", None)] {
        db::volume_type::put_spec(&mut tx, id, key, value).await.unwrap();
    }
    db::volume_type::put_spec(&mut tx, id, "none", Some("some")).await.unwrap();
    assert!(db::volume_type::drop_spec(&mut tx, id, "Multiattach").await.unwrap());
    assert!(!db::volume_type::drop_spec(&mut tx, id, "MULTIATTACH").await.unwrap());
    tx.commit().await.unwrap();
    let kind = db::volume_type::get(&mut lab.db.read(), id).await.unwrap().unwrap();
    assert!(kind.multiattach());
    assert_eq!(kind.extra_specs.len(), 2, "{:?}", kind.extra_specs);
    assert_eq!(kind.extra_specs["none"], "some");
}

async fn private_types_are_for_those_who_were_let_in(lab: Lab) {
    let id = a_type(&lab.db, "private", false).await;
    let other = a_type(&lab.db, "other", false).await;
    let mut tx = lab.db.begin().await.unwrap();
    db::volume_type::put_spec(&mut tx, id, "k", Some("v")).await.unwrap();
    db::volume_type::put_spec(&mut tx, other, "k", Some("v")).await.unwrap();
    assert!(db::volume_type::grant(&mut tx, id, "p").await.unwrap());
    tx.commit().await.unwrap();
    let from = &mut lab.db.read();
    assert_eq!(db::volume_type::access(from, id).await.unwrap(), ["p"]);
    let all = ListQuery { with_count: true, ..ListQuery::all(None) };
    for (access, expected) in [
        (None, vec!["__DEFAULT__", "other", "private"]),
        (Some("p"), vec!["__DEFAULT__", "private"]),
        (Some("q"), vec!["__DEFAULT__"]),
    ] {
        let listed = db::volume_type::list(from, &all, access).await.unwrap();
        assert_eq!((names(&listed.items), listed.count), (expected.clone(), Some(expected.len() as u64)));
    }
    // With a filter on specs, a marker and a limit, through the list of a project's own types too.
    let filters =
        vec![Filter { field: "metadata".into(), compare: Compare::Equal, value: json!({"k": "v"}) }];
    let filtered = ListQuery { filters, limit: 1, ..ListQuery::all(Some("p".into())) };
    let listed = db::volume_type::list(from, &filtered, Some("p")).await.unwrap();
    assert_eq!(names(&listed.items), ["private"]);
    let after = ListQuery { marker: Some(id.to_string()), ..filtered };
    assert!(db::volume_type::list(from, &after, Some("p")).await.unwrap().items.is_empty());
    let stranger = ListQuery { marker: Some(other.to_string()), ..after };
    assert!(matches!(db::volume_type::list(from, &stranger, Some("p")).await, Err(db::Error::BadMarker(_))));
}

async fn a_right_is_granted_once(lab: Lab) {
    let id = a_type(&lab.db, "private", false).await;
    for _ in 0..2 {
        let mut tx = lab.db.begin().await.unwrap();
        assert!(db::volume_type::grant(&mut tx, id, "p").await.unwrap());
        assert!(!db::volume_type::grant(&mut tx, id, "p").await.unwrap());
        assert!(db::volume_type::revoke(&mut tx, id, "p").await.unwrap());
        assert!(!db::volume_type::revoke(&mut tx, id, "p").await.unwrap());
        tx.commit().await.unwrap();
    }
    assert!(db::volume_type::access(&mut lab.db.read(), id).await.unwrap().is_empty());
}

async fn one_of_many_grants_at_once_is_new(lab: Lab) {
    let id = a_type(&lab.db, "private", false).await;
    let mut granting = Vec::new();
    for _ in 0..8 {
        let db = lab.db.clone();
        granting.push(tokio::spawn(async move {
            let mut tx = db.begin().await.unwrap();
            let new = db::volume_type::grant(&mut tx, id, "p").await.unwrap();
            tx.commit().await.unwrap();
            new
        }));
    }
    let mut new = 0;
    for granted in granting {
        new += u32::from(granted.await.unwrap());
    }
    assert_eq!(new, 1);
    assert_eq!(db::volume_type::access(&mut lab.db.read(), id).await.unwrap(), ["p"]);
}

async fn a_deleted_type_leaves_its_name(lab: Lab) {
    let id = a_type(&lab.db, "t", false).await;
    let mut tx = lab.db.begin().await.unwrap();
    db::volume_type::put_spec(&mut tx, id, "k", Some("v")).await.unwrap();
    db::volume_type::grant(&mut tx, id, "p").await.unwrap();
    db::volume_type::delete(&mut tx, id).await.unwrap();
    tx.commit().await.unwrap();
    let from = &mut lab.db.read();
    assert!(db::volume_type::get(from, id).await.unwrap().is_none());
    assert!(db::volume_type::by_name(from, "t").await.unwrap().is_none());
    assert!(db::volume_type::access(from, id).await.unwrap().is_empty());
    assert_eq!(db::volume_type::names(from, [id].into_iter()).await.unwrap()[&id], "t");
    a_type(&lab.db, "t", true).await;
}

/// Whatever the server's own default collation is.
async fn names_that_differ_in_case_are_two_types(lab: Lab) {
    let (lower, upper) = (a_type(&lab.db, "gold", true).await, a_type(&lab.db, "Gold", true).await);
    let from = &mut lab.db.read();
    assert_eq!(db::volume_type::by_name(from, "gold").await.unwrap().unwrap().id, lower);
    assert_eq!(db::volume_type::by_name(from, "Gold").await.unwrap().unwrap().id, upper);
    assert!(db::volume_type::by_name(from, "GOLD").await.unwrap().is_none());
}

async fn a_list_costs_the_same_whatever_its_length(lab: Lab) {
    let mut costs = Vec::new();
    for name in ["one", "two"] {
        let id = a_type(&lab.db, name, false).await;
        let mut tx = lab.db.begin().await.unwrap();
        db::volume_type::grant(&mut tx, id, "p").await.unwrap();
        tx.commit().await.unwrap();
        let before = lab.db.statements();
        let listed =
            db::volume_type::list(&mut lab.db.read(), &ListQuery::all(None), Some("p")).await.unwrap();
        costs.push((lab.db.statements() - before, listed.items.len()));
    }
    assert_eq!(costs, [(3, 2), (3, 3)]);
}
