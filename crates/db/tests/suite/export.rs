//! Exports: one a volume and initiator, there for as long as anybody needs it, gone with the last (I5, I8).

use db::Db;
use db::export::{CONNECTION, Export, Needed, Of};
use model::{AttachMode, AttachStatus, VolumeId};

use crate::support::{Lab, make};

on_each_database!(
    what_is_stored_is_read,
    i8_holders_are_counted_and_the_last_one_ends_it,
    i8_two_modes_through_one_initiator_are_refused,
    i8_the_last_of_many_holders_that_leave_at_once_ends_it,
    i8_a_need_that_meets_the_last_release_is_served_or_told,
    an_export_that_is_ending_is_not_taken_up_again,
    i5_exports_that_nobody_needs_are_found_and_ended,
    a_volume_that_is_gone_takes_its_exports_along,
    reservations_survive_and_go,
);

fn an_export(volume: VolumeId, initiator: &str) -> Export {
    Export {
        id: uuid::Uuid::new_v4().to_string(),
        volume_id: volume,
        initiator: initiator.into(),
        node: "n".into(),
        backend: "b".into(),
        mode: AttachMode::ReadWrite,
        chap_user: Some("user".into()),
        chap_secret: Some("sealed".into()),
        iqn: "iqn.2010-10.org.openstack:volume-x".into(),
        lun: 1,
        ending: false,
    }
}

async fn need(db: &Db, wanted: &Export, holder: &str) -> Needed {
    let mut tx = db.begin().await.unwrap();
    let needed = db::export::need(&mut tx, wanted, holder).await.unwrap();
    tx.commit().await.unwrap();
    needed
}

async fn release(db: &Db, volume: VolumeId, holder: &str, of: Of<'_>) -> Vec<Export> {
    let mut tx = db.begin().await.unwrap();
    let ended = db::export::release(&mut tx, volume, holder, of).await.unwrap();
    tx.commit().await.unwrap();
    ended
}

async fn what_is_stored_is_read(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    let wanted = an_export(volume, "iqn.a");
    assert_eq!(need(&lab.db, &wanted, CONNECTION).await, Needed::Yes { export: wanted.clone(), newly: true });
    let second = an_export(volume, "iqn.b");
    need(&lab.db, &second, CONNECTION).await;
    let from = &mut lab.db.read();
    assert_eq!(db::export::find(from, volume, "iqn.a").await.unwrap(), Some(wanted.clone()));
    assert_eq!(db::export::find(from, volume, "IQN.A").await.unwrap(), None);
    assert_eq!(db::export::of_volume(from, volume).await.unwrap(), [wanted.clone(), second.clone()]);
    assert_eq!(db::export::of_volumes(from, &[volume, VolumeId::new()]).await.unwrap().len(), 2);
    assert!(db::export::of_volumes(from, &[]).await.unwrap().is_empty());
    assert_eq!(db::export::of_node(from, "n").await.unwrap().len(), 2);
    assert!(db::export::of_node(from, "m").await.unwrap().is_empty());
    assert!(db::export::is_held(from, volume, "iqn.a", CONNECTION).await.unwrap());
    assert!(!db::export::is_held(from, volume, "iqn.a", "else").await.unwrap());
    assert_eq!(db::export::holders(from, &wanted.id).await.unwrap(), [CONNECTION]);
}

async fn i8_holders_are_counted_and_the_last_one_ends_it(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    let first = an_export(volume, "iqn.a");
    need(&lab.db, &first, "one").await;
    let again = need(&lab.db, &an_export(volume, "iqn.a"), "one").await;
    assert_eq!(again, Needed::Yes { export: first.clone(), newly: false }, "the first one's secret stays");
    let second = need(&lab.db, &an_export(volume, "iqn.a"), "two").await;
    assert_eq!(second, Needed::Yes { export: first.clone(), newly: true });
    need(&lab.db, &an_export(volume, "iqn.b"), "two").await;
    assert!(release(&lab.db, volume, "two", Of::AllBut("iqn.b")).await.is_empty());
    assert!(release(&lab.db, volume, "nobody", Of::Any).await.is_empty());
    let mut tx = lab.db.begin().await.unwrap();
    let ended = db::export::release(&mut tx, volume, "one", Of::Initiator("iqn.a")).await.unwrap();
    assert_eq!(ended, [Export { ending: true, ..first.clone() }]);
    assert_eq!(tx.commit().await.unwrap(), [db::export::topic("n")]);
    assert_eq!(release(&lab.db, volume, "two", Of::Any).await.len(), 1);
    let from = &mut lab.db.read();
    assert!(db::export::of_volume(from, volume).await.unwrap().iter().all(|export| export.ending));
    let mut tx = lab.db.begin().await.unwrap();
    db::export::remove_ended(&mut tx, std::slice::from_ref(&first.id)).await.unwrap();
    db::export::remove_ended(&mut tx, &[]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db::export::of_volume(from, volume).await.unwrap().len(), 1);
}

async fn i8_two_modes_through_one_initiator_are_refused(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    need(&lab.db, &an_export(volume, "iqn.a"), "one").await;
    let other = Export { mode: AttachMode::ReadOnly, ..an_export(volume, "iqn.a") };
    assert_eq!(need(&lab.db, &other, "two").await, Needed::OtherMode(AttachMode::ReadWrite));
    assert!(matches!(
        need(&lab.db, &Export { initiator: "iqn.b".into(), ..other }, "two").await,
        Needed::Yes { .. }
    ));
}

async fn i8_the_last_of_many_holders_that_leave_at_once_ends_it(lab: Lab) {
    const HOLDERS: usize = 6;
    for round in 0..4 {
        let volume = make::volume(&lab.db).await;
        for n in 0..HOLDERS {
            need(&lab.db, &an_export(volume, "iqn.a"), &format!("holder-{n}")).await;
        }
        let mut leaving = Vec::new();
        for n in 0..HOLDERS {
            let db = lab.db.clone();
            leaving.push(tokio::spawn(async move {
                release(&db, volume, &format!("holder-{n}"), Of::Any).await.len()
            }));
        }
        let mut ended = 0;
        for left in leaving {
            ended += left.await.unwrap();
        }
        assert_eq!(ended, 1, "round {round}");
        assert!(db::export::of_volume(&mut lab.db.read(), volume).await.unwrap()[0].ending);
    }
}

/// Whichever comes first: a holder that was told yes is never left with an export that ends.
async fn i8_a_need_that_meets_the_last_release_is_served_or_told(lab: Lab) {
    for _ in 0..8 {
        let volume = make::volume(&lab.db).await;
        need(&lab.db, &an_export(volume, "iqn.a"), "old").await;
        let (one, two) = (lab.db.clone(), lab.db.clone());
        let leaving = tokio::spawn(async move { release(&one, volume, "old", Of::Any).await.len() });
        let coming = tokio::spawn(async move { need(&two, &an_export(volume, "iqn.a"), "new").await });
        let (ended, needed) = (leaving.await.unwrap(), coming.await.unwrap());
        let export = db::export::find(&mut lab.db.read(), volume, "iqn.a").await.unwrap().expect("a row");
        let holders = db::export::holders(&mut lab.db.read(), &export.id).await.unwrap();
        match needed {
            Needed::Yes { .. } => {
                assert_eq!((ended, export.ending, holders), (0, false, vec!["new".to_owned()]))
            }
            Needed::Ending => assert_eq!((ended, export.ending, holders.len()), (1, true, 0)),
            Needed::OtherMode(mode) => panic!("{mode:?}"),
        }
    }
}

async fn an_export_that_is_ending_is_not_taken_up_again(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    let first = an_export(volume, "iqn.a");
    need(&lab.db, &first, "one").await;
    release(&lab.db, volume, "one", Of::Any).await;
    assert_eq!(need(&lab.db, &an_export(volume, "iqn.a"), "two").await, Needed::Ending);
    let mut tx = lab.db.begin().await.unwrap();
    db::export::remove_ended(&mut tx, std::slice::from_ref(&first.id)).await.unwrap();
    tx.commit().await.unwrap();
    let second = an_export(volume, "iqn.a");
    assert_eq!(need(&lab.db, &second, "two").await, Needed::Yes { export: second, newly: true });
}

async fn i5_exports_that_nobody_needs_are_found_and_ended(lab: Lab) {
    let volume = make::volume(&lab.db).await;
    let gone = make::volume(&lab.db).await;
    let live = make::attachment(&lab.db, volume, AttachStatus::Attached).await;
    let dead = make::attachment(&lab.db, volume, AttachStatus::Attached).await;
    need(&lab.db, &an_export(volume, "iqn.live"), &live.to_string()).await;
    need(&lab.db, &an_export(volume, "iqn.kept"), CONNECTION).await;
    need(&lab.db, &an_export(volume, "iqn.dead"), &dead.to_string()).await;
    need(&lab.db, &an_export(gone, "iqn.gone"), CONNECTION).await;
    let from = &mut lab.db.read();
    assert!(db::export::orphans(from).await.unwrap().is_empty());
    lab.exec(&format!("UPDATE volume_attachment SET deleted = TRUE WHERE id = '{dead}'")).await;
    lab.exec(&format!("UPDATE volumes SET deleted = TRUE WHERE id = '{gone}'")).await;
    let mut orphans = db::export::orphans(from).await.unwrap();
    orphans.sort_by(|a, b| a.initiator.cmp(&b.initiator));
    let initiators: Vec<&str> = orphans.iter().map(|export| export.initiator.as_str()).collect();
    assert_eq!(initiators, ["iqn.dead", "iqn.gone"]);
    let mut tx = lab.db.begin().await.unwrap();
    for orphan in &orphans {
        assert!(db::export::end_orphan(&mut tx, orphan).await.unwrap());
        assert!(!db::export::end_orphan(&mut tx, orphan).await.unwrap());
    }
    tx.commit().await.unwrap();
    assert!(db::export::orphans(from).await.unwrap().is_empty());
    let ending = db::export::of_node(from, "n").await.unwrap();
    assert_eq!(ending.iter().filter(|export| export.ending).count(), 2);
}

async fn a_volume_that_is_gone_takes_its_exports_along(lab: Lab) {
    let (volume, other) = (make::volume(&lab.db).await, make::volume(&lab.db).await);
    for initiator in ["iqn.a", "iqn.b"] {
        need(&lab.db, &an_export(volume, initiator), "one").await;
    }
    need(&lab.db, &an_export(other, "iqn.a"), "one").await;
    let mut tx = lab.db.begin().await.unwrap();
    db::export::withdraw(&mut tx, volume).await.unwrap();
    let ending = db::export::of_volume(&mut tx, volume).await.unwrap();
    assert!(ending.len() == 2 && ending.iter().all(|export| export.ending));
    db::export::remove_all(&mut tx, volume).await.unwrap();
    tx.commit().await.unwrap();
    assert!(db::export::of_volume(&mut lab.db.read(), volume).await.unwrap().is_empty());
    assert_eq!(db::export::of_node(&mut lab.db.read(), "n").await.unwrap().len(), 1);
    assert_eq!(lab.number("SELECT COUNT(*) AS n FROM export_uses").await, 1);
}

async fn reservations_survive_and_go(lab: Lab) {
    let volume = VolumeId::new().to_string();
    for state in [Some("{\"key\": \"ü\"}"), Some(""), None] {
        let mut tx = lab.db.begin().await.unwrap();
        db::export::store_reservations(&mut tx, &volume, state).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db::export::reservations(&mut lab.db.read(), &volume).await.unwrap().as_deref(), state);
    }
}
