//! What operators attach to types, and group types.

use db::encryption::Changes;
use model::encryption::ControlLocation;
use model::list::{Direction, ListQuery};
use model::qos::Consumer;
use model::{Encryption, EncryptionId, GroupType, GroupTypeId, QosId, QosSpecs};

use crate::support::{Lab, make};

on_each_database!(
    qos_specs_are_read_as_they_were_stored,
    qos_specs_are_listed_by_name_and_consumer,
    a_type_refers_to_one_set,
    a_type_has_one_encryption,
    a_default_type_comes_back_after_it_was_unset,
    group_types_keep_their_specs,
    who_makes_names_waits_for_whoever_is_making_one,
    shares_are_counted_by_project,
);

fn a_set(name: &str, consumer: Consumer) -> QosSpecs {
    let specs = [("k".to_owned(), Some("v".to_owned())), ("n".to_owned(), None)].into();
    QosSpecs { id: QosId::new(), name: name.into(), consumer, specs, created_at: None }
}

async fn stored(lab: &Lab, set: &QosSpecs) {
    let mut tx = lab.db.begin().await.unwrap();
    db::qos::insert(&mut tx, set).await.unwrap();
    tx.commit().await.unwrap();
}

async fn qos_specs_are_read_as_they_were_stored(lab: Lab) {
    let set = a_set("one", Consumer::Both);
    stored(&lab, &set).await;
    let read = db::qos::get(&mut lab.db.read(), set.id).await.unwrap().unwrap();
    assert!(read.created_at.is_some());
    assert_eq!(QosSpecs { created_at: None, ..read }, set);
    let mut tx = lab.db.begin().await.unwrap();
    assert!(db::qos::hold(&mut tx, set.id).await.unwrap());
    assert!(!db::qos::hold(&mut tx, QosId::new()).await.unwrap());
    db::qos::put(&mut tx, set.id, "K", Some("other")).await.unwrap();
    assert!(db::qos::drop_key(&mut tx, set.id, "k").await.unwrap());
    assert!(!db::qos::drop_key(&mut tx, set.id, "k").await.unwrap());
    assert!(!db::qos::drop_key(&mut tx, set.id, "consumer").await.unwrap(), "who enforces is no spec");
    db::qos::set_consumer(&mut tx, set.id, Consumer::BackEnd).await.unwrap();
    tx.commit().await.unwrap();
    let read = db::qos::get(&mut lab.db.read(), set.id).await.unwrap().unwrap();
    assert_eq!(read.consumer, Consumer::BackEnd);
    assert_eq!(read.specs, [("K".to_owned(), Some("other".to_owned())), ("n".to_owned(), None)].into());
    assert!(db::qos::is_named(&mut lab.db.read(), "one").await.unwrap());
    assert!(!db::qos::is_named(&mut lab.db.read(), "One").await.unwrap());
    let mut tx = lab.db.begin().await.unwrap();
    db::qos::delete(&mut tx, set.id).await.unwrap();
    tx.commit().await.unwrap();
    assert!(db::qos::get(&mut lab.db.read(), set.id).await.unwrap().is_none());
    assert!(!db::qos::is_named(&mut lab.db.read(), "one").await.unwrap());
}

async fn qos_specs_are_listed_by_name_and_consumer(lab: Lab) {
    for (name, consumer) in [("b", Consumer::Both), ("a", Consumer::BackEnd), ("c", Consumer::Both)] {
        stored(&lab, &a_set(name, consumer)).await;
    }
    let sort = vec![("name".to_owned(), Direction::Ascending)];
    let all = ListQuery { sort, ..ListQuery::all(Some("any project".into())) };
    let names = async |query: &ListQuery| {
        let listed = db::qos::list(&mut lab.db.read(), query).await.unwrap().items;
        listed.into_iter().map(|set| set.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&all).await, ["a", "b", "c"]);
    let mut both = all.clone();
    both.filters.push(model::list::Filter {
        field: "consumer".into(),
        compare: model::list::Compare::Equal,
        value: "both".into(),
    });
    assert_eq!(names(&both).await, ["b", "c"]);
    let first = db::qos::list(&mut lab.db.read(), &ListQuery { limit: 1, ..all.clone() }).await.unwrap();
    let after = ListQuery { marker: Some(first.items[0].id.to_string()), ..all };
    assert_eq!(names(&after).await, ["b", "c"]);
}

async fn a_type_refers_to_one_set(lab: Lab) {
    let (one, other) = (a_set("one", Consumer::Both), a_set("other", Consumer::Both));
    stored(&lab, &one).await;
    stored(&lab, &other).await;
    let kind = make::default_type(&lab.db).await;
    let mut tx = lab.db.begin().await.unwrap();
    assert!(db::qos::associate(&mut tx, one.id, kind).await.unwrap());
    assert!(db::qos::associate(&mut tx, one.id, kind).await.unwrap(), "again");
    assert!(!db::qos::associate(&mut tx, other.id, kind).await.unwrap());
    tx.commit().await.unwrap();
    let types = db::qos::types(&mut lab.db.read(), one.id).await.unwrap();
    assert_eq!(types, [(kind, model::DEFAULT_TYPE_NAME.to_owned())]);
    let mut tx = lab.db.begin().await.unwrap();
    db::qos::disassociate(&mut tx, other.id, None).await.unwrap();
    assert_eq!(db::qos::types(&mut tx, one.id).await.unwrap().len(), 1, "not the other's to end");
    db::qos::disassociate(&mut tx, one.id, Some(kind)).await.unwrap();
    assert!(db::qos::types(&mut tx, one.id).await.unwrap().is_empty());
    tx.commit().await.unwrap();
}

async fn a_type_has_one_encryption(lab: Lab) {
    let type_id = make::default_type(&lab.db).await;
    let new = Encryption {
        id: EncryptionId::new(),
        type_id,
        provider: "luks".into(),
        control_location: ControlLocation::FrontEnd,
        cipher: None,
        key_size: Some(256),
        created_at: None,
        updated_at: None,
    };
    let mut tx = lab.db.begin().await.unwrap();
    db::encryption::insert(&mut tx, &new).await.unwrap();
    let changes = Changes { cipher: Some(Some("aes".into())), key_size: Some(None), ..Changes::default() };
    assert!(db::encryption::update(&mut tx, type_id, &changes).await.unwrap());
    tx.commit().await.unwrap();
    let read = db::encryption::of_type(&mut lab.db.read(), type_id).await.unwrap().unwrap();
    assert_eq!((read.id, read.cipher.as_deref(), read.key_size), (new.id, Some("aes"), None));
    assert_eq!((read.provider.as_str(), read.control_location), ("luks", ControlLocation::FrontEnd));
    let mut tx = lab.db.begin().await.unwrap();
    assert!(db::encryption::delete(&mut tx, type_id).await.unwrap());
    assert!(!db::encryption::delete(&mut tx, type_id).await.unwrap());
    assert!(!db::encryption::update(&mut tx, type_id, &changes).await.unwrap());
    tx.commit().await.unwrap();
}

async fn a_default_type_comes_back_after_it_was_unset(lab: Lab) {
    let kind = make::default_type(&lab.db).await;
    let from = &mut lab.db.read();
    for _ in 0..2 {
        let mut tx = lab.db.begin().await.unwrap();
        db::default_type::set(&mut tx, "p", kind).await.unwrap();
        db::default_type::set(&mut tx, "p", kind).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db::default_type::of_project(from, "p").await.unwrap(), Some(kind));
        assert_eq!(db::default_type::list(from).await.unwrap(), [("p".to_owned(), kind)]);
        assert!(db::default_type::is_default(from, kind).await.unwrap());
        let mut tx = lab.db.begin().await.unwrap();
        db::default_type::unset(&mut tx, "p").await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db::default_type::of_project(from, "p").await.unwrap(), None);
        assert!(!db::default_type::is_default(from, kind).await.unwrap());
    }
}

async fn group_types_keep_their_specs(lab: Lab) {
    let new = GroupType {
        id: GroupTypeId::new(),
        name: "g".into(),
        description: Some("d".into()),
        is_public: false,
        specs: [("a".to_owned(), Some("b".to_owned()))].into(),
        created_at: None,
        updated_at: None,
    };
    let mut tx = lab.db.begin().await.unwrap();
    db::group_type::insert(&mut tx, &new).await.unwrap();
    db::group_type::put_spec(&mut tx, new.id, "a", None).await.unwrap();
    db::group_type::put_spec(&mut tx, new.id, "c", Some("d")).await.unwrap();
    assert!(db::group_type::drop_spec(&mut tx, new.id, "c").await.unwrap());
    assert!(!db::group_type::drop_spec(&mut tx, new.id, "c").await.unwrap());
    db::group_type::update(&mut tx, new.id, None, None, Some(true)).await.unwrap();
    tx.commit().await.unwrap();
    let read = db::group_type::by_name(&mut lab.db.read(), "g").await.unwrap().unwrap();
    assert_eq!((read.id, read.is_public, read.description.as_deref()), (new.id, true, Some("d")));
    assert_eq!(read.specs, [("a".to_owned(), None)].into());
    assert!(!db::group_type::in_use(&mut lab.db.read(), new.id).await.unwrap());
    let listed = db::group_type::list(&mut lab.db.read(), &ListQuery::all(None)).await.unwrap().items;
    assert_eq!(listed.len(), 2, "and the one for consistency groups");
    let mut tx = lab.db.begin().await.unwrap();
    db::group_type::delete(&mut tx, new.id).await.unwrap();
    tx.commit().await.unwrap();
    assert!(db::group_type::get(&mut lab.db.read(), new.id).await.unwrap().is_none());
}

async fn who_makes_names_waits_for_whoever_is_making_one(lab: Lab) {
    let make = async || {
        let mut tx = lab.db.begin().await.unwrap();
        db::unique::one_at_a_time(&mut tx).await.unwrap();
        let free = !db::qos::is_named(&mut tx, "same").await.unwrap();
        if free {
            db::qos::insert(&mut tx, &a_set("same", Consumer::Both)).await.unwrap();
        }
        tx.commit().await.unwrap();
        free
    };
    let made = tokio::join!(make(), make(), make(), make());
    let made = [made.0, made.1, made.2, made.3];
    assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
}

async fn shares_are_counted_by_project(lab: Lab) {
    make::placed_volume(&lab.db, "h@b#p", 2).await;
    let volume = make::placed_volume(&lab.db, "h@b#q", 3).await;
    make::placed_volume(&lab.db, "h@bb#p", 5).await;
    make::snapshot(&lab.db, volume).await;
    let shares = db::host::shares(&mut lab.db.read(), "h@b").await.unwrap();
    let [(_, share)] = shares.iter().collect::<Vec<_>>()[..] else { panic!("one project: {shares:?}") };
    assert_eq!((share.volumes.count, share.volumes.gigabytes, share.snapshots.count), (2, 5, 1));
}
