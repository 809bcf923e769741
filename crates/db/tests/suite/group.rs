//! Groups and their snapshots: what is stored is what is read, who is in them, and what their rules' guards see.

use db::event::By;
use db::group_snapshot::NewGroupSnapshot;
use db::transition::{Begin, Outcome};
use db::volume_group::{NewGroup, Which};
use model::list::ListQuery;
use model::transition::{GroupOp, GroupSnapshotOp, Guard};
use model::{
    GroupId, GroupSnapshotId, GroupSnapshotStatus, GroupStatus, GroupType, GroupTypeId, TypeId, VolumeStatus,
};

use crate::support::{Lab, make};

on_each_database!(
    what_is_stored_is_read,
    volumes_come_and_go_by_one_update_each,
    guards_see_members_snapshots_and_copies_under_way,
    legacy_groups_are_told_from_others,
    a_recount_counts_groups,
);

async fn kind(lab: &Lab, name: &str) -> GroupTypeId {
    let kind = GroupType {
        id: GroupTypeId::new(),
        name: name.into(),
        description: None,
        is_public: true,
        specs: Default::default(),
        created_at: None,
        updated_at: None,
    };
    let mut tx = lab.db.begin().await.unwrap();
    db::group_type::insert(&mut tx, &kind).await.unwrap();
    tx.commit().await.unwrap();
    kind.id
}

fn a_group(kind: GroupTypeId, types: &[TypeId]) -> NewGroup {
    NewGroup {
        id: GroupId::new(),
        user_id: "u".into(),
        project_id: "p".into(),
        name: Some("Größe".into()),
        description: None,
        availability_zone: Some("nova".into()),
        host: Some("h@b#p".parse().unwrap()),
        type_id: kind,
        volume_types: types.to_vec(),
        group_snapshot_id: None,
        source_group_id: None,
    }
}

async fn stored(lab: &Lab, new: &NewGroup) -> GroupId {
    let mut tx = lab.db.begin().await.unwrap();
    db::volume_group::insert(&mut tx, new).await.unwrap();
    tx.commit().await.unwrap();
    new.id
}

/// One that is available.
async fn available(lab: &Lab, kind: GroupTypeId) -> GroupId {
    let id = stored(lab, &a_group(kind, &[])).await;
    let mut tx = lab.db.begin().await.unwrap();
    db::transition::finish_group(&mut tx, id, GroupOp::Create, Outcome::Done, By::default()).await.unwrap();
    tx.commit().await.unwrap();
    id
}

async fn begin(lab: &Lab, id: GroupId, op: GroupOp) -> Begin {
    let mut tx = lab.db.begin().await.unwrap();
    let begun = db::transition::begin_group(&mut tx, id, op, By::default()).await.unwrap();
    tx.commit().await.unwrap();
    begun
}

fn unmet(begun: Begin) -> Vec<Guard> {
    match begun {
        Begin::Refused { unmet, .. } => unmet,
        other => panic!("not refused: {other:?}"),
    }
}

async fn what_is_stored_is_read(lab: Lab) {
    let (kind, types) = (kind(&lab, "k").await, [make::default_type(&lab.db).await]);
    let new = a_group(kind, &types);
    let id = stored(&lab, &new).await;
    let group = db::volume_group::get(&mut lab.db.read(), id).await.unwrap().expect("is there");
    assert_eq!(
        (group.name.as_deref(), group.description, group.status),
        (Some("Größe"), None, GroupStatus::Creating)
    );
    assert_eq!((group.volume_types, group.type_id, group.legacy), (types.to_vec(), kind, false));
    assert_eq!((group.host, group.replication_status.as_deref()), (new.host, Some("disabled")));
    let mut tx = lab.db.begin().await.unwrap();
    db::volume_group::rename(&mut tx, id, Some("n"), None).await.unwrap();
    db::volume_group::place(&mut tx, id, &"h@c#q".parse().unwrap()).await.unwrap();
    db::volume_group::set_replication(&mut tx, id, "error").await.unwrap();
    tx.commit().await.unwrap();
    let listed =
        db::volume_group::list(&mut lab.db.read(), &ListQuery::all(None), Which::Generic).await.unwrap();
    assert_eq!(listed.items.len(), 1);
    let group = &listed.items[0];
    assert_eq!((group.name.as_deref(), group.replication_status.as_deref()), (Some("n"), Some("error")));
    assert_eq!(group.host.as_ref().map(ToString::to_string).as_deref(), Some("h@c#q"));
}

async fn volumes_come_and_go_by_one_update_each(lab: Lab) {
    let kind = kind(&lab, "k").await;
    let (group, other) = (available(&lab, kind).await, available(&lab, kind).await);
    let volume = make::volume(&lab.db).await;
    let statuses = VolumeStatus::ALL;
    let mut tx = lab.db.begin().await.unwrap();
    assert!(!db::volume_group::join(&mut tx, volume, group, &[VolumeStatus::Error]).await.unwrap());
    assert!(db::volume_group::join(&mut tx, volume, group, statuses).await.unwrap());
    assert!(!db::volume_group::join(&mut tx, volume, other, statuses).await.unwrap(), "it is in one");
    assert!(!db::volume_group::leave(&mut tx, volume, other, statuses).await.unwrap());
    tx.commit().await.unwrap();
    let members = db::volume_group::volumes(&mut lab.db.read(), group).await.unwrap();
    assert_eq!(members.iter().map(|member| member.id).collect::<Vec<_>>(), [volume]);
    assert_eq!(members[0].group_id, Some(group.to_string()));
    assert_eq!(unmet(begin(&lab, group, GroupOp::Delete).await), [Guard::NoVolumes]);
    let mut tx = lab.db.begin().await.unwrap();
    assert!(db::volume_group::leave(&mut tx, volume, group, statuses).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(begin(&lab, group, GroupOp::Delete).await, Begin::Moved);
}

async fn guards_see_members_snapshots_and_copies_under_way(lab: Lab) {
    let kind = kind(&lab, "k").await;
    let group = available(&lab, kind).await;
    let row = NewGroupSnapshot {
        id: GroupSnapshotId::new(),
        group_id: group,
        type_id: kind,
        user_id: "u".into(),
        project_id: "p".into(),
        name: None,
        description: None,
    };
    let by = By::default();
    let mut tx = lab.db.begin().await.unwrap();
    db::group_snapshot::insert(&mut tx, &row).await.unwrap();
    let op = GroupSnapshotOp::Create;
    db::transition::finish_group_snapshot(&mut tx, row.id, op, Outcome::Done, by).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(unmet(begin(&lab, group, GroupOp::DeleteWithVolumes).await), [Guard::NoGroupSnapshots]);

    let delete = async || {
        let mut tx = lab.db.begin().await.unwrap();
        let op = GroupSnapshotOp::Delete;
        let begun = db::transition::begin_group_snapshot(&mut tx, row.id, op, by).await.unwrap();
        tx.commit().await.unwrap();
        begun
    };
    let copy =
        NewGroup { group_snapshot_id: Some(row.id), source_group_id: Some(group), ..a_group(kind, &[]) };
    stored(&lab, &copy).await;
    assert_eq!(unmet(delete().await), [Guard::NotASource]);
    let both = unmet(begin(&lab, group, GroupOp::DeleteWithVolumes).await);
    assert_eq!(both, [Guard::NoGroupSnapshots, Guard::NotASource]);
    // While it is being made no job would end it: it is told of, and can be settled.
    let stuck = db::transition::unowned(&mut lab.db.read()).await.unwrap();
    assert_eq!(
        stuck.iter().map(|one| (one.kind, one.id.clone())).collect::<Vec<_>>(),
        [("group", copy.id.to_string())]
    );
    let mut tx = lab.db.begin().await.unwrap();
    assert!(db::transition::settle_unowned(&mut tx, &stuck[0]).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(delete().await, Begin::Moved);
    let mut tx = lab.db.begin().await.unwrap();
    let op = GroupSnapshotOp::Delete;
    db::transition::finish_group_snapshot(&mut tx, row.id, op, Outcome::Done, by).await.unwrap();
    tx.commit().await.unwrap();
    assert!(db::group_snapshot::get(&mut lab.db.read(), row.id).await.unwrap().is_none());
    assert_eq!(begin(&lab, group, GroupOp::DeleteWithVolumes).await, Begin::Moved);
    let mut tx = lab.db.begin().await.unwrap();
    let held = db::volume_group::hold(&mut tx, group, &[GroupStatus::Deleting]).await.unwrap();
    assert!(held && !db::group_snapshot::hold(&mut tx, row.id, GroupSnapshotStatus::ALL).await.unwrap());
}

async fn legacy_groups_are_told_from_others(lab: Lab) {
    let mut read = lab.db.read();
    let legacy = db::group_type::by_name(&mut read, model::group::CONSISTENCY_TYPE).await.unwrap();
    let legacy = legacy.expect("every database has it").id;
    let (old, new) = (available(&lab, legacy).await, available(&lab, kind(&lab, "k").await).await);
    let all = ListQuery::all(Some("p".into()));
    let generic = db::volume_group::list(&mut read, &all, Which::Generic).await.unwrap().items;
    assert_eq!(generic.iter().map(|group| (group.id, group.legacy)).collect::<Vec<_>>(), [(new, false)]);
    assert_eq!(db::volume_group::list(&mut read, &all, Which::Every).await.unwrap().items.len(), 2);
    assert!(db::volume_group::get(&mut read, old).await.unwrap().expect("is there").legacy);
    let volume = make::volume(&lab.db).await;
    let mut tx = lab.db.begin().await.unwrap();
    db::volume_group::born_in(&mut tx, volume, old).await.unwrap();
    tx.commit().await.unwrap();
    let volume = db::volume::get(&mut read, volume).await.unwrap().expect("is there");
    assert_eq!(volume.consistencygroup_id, volume.group_id, "the older field says so too");
}

async fn a_recount_counts_groups(lab: Lab) {
    let kind = kind(&lab, "k").await;
    stored(&lab, &a_group(kind, &[])).await;
    stored(&lab, &a_group(kind, &[])).await;
    let counted = db::quota::recount(&mut lab.db.read(), "p", true).await.unwrap();
    assert_eq!(counted["groups"], 2);
}
