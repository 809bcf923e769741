//! Groups: their life and their snapshots', what is refused, what a failure leaves.

use control::group::{Door, NewGroup, NewGroupFrom, Origin, UpdateGroup};
use control::group_snapshot::NewGroupSnapshot;
use control::group_type::NewGroupType;
use control::request::{DeleteVolume, NewVolume, TypeVisibility};
use control::{Context, Result};
use drivers::ErrorKind;
use model::{
    GiB, Group, GroupId, GroupSnapshot, GroupSnapshotId, GroupSnapshotStatus, GroupStatus, SnapshotStatus,
    Volume, VolumeId, VolumeStatus,
};

use crate::lab::{Lab, admin, member, text};

const GENERIC: Door = Door::Generic;

fn new_group(kind: &str) -> NewGroup {
    NewGroup {
        name: Some("g".into()),
        description: None,
        group_type: Some(kind.into()),
        volume_types: vec!["__DEFAULT__".into()],
        availability_zone: None,
    }
}

async fn kind(lab: &Lab, specs: &[(&str, &str)]) -> String {
    let specs = specs.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned()))).collect();
    let wanted = NewGroupType { name: "kind".into(), description: None, is_public: true, specs };
    lab.cloud.group_type_create(&admin(), wanted).await.unwrap().name
}

async fn group(lab: &Lab, context: &Context) -> Group {
    let query = model::list::ListQuery::all(None);
    let known = lab.cloud.group_type_list(&admin(), &query, TypeVisibility::All).await.unwrap();
    if !known.items.iter().any(|one| one.name == "kind") {
        kind(lab, &[]).await;
    }
    let made = lab.cloud.group_create(context, new_group("kind")).await.unwrap();
    assert_eq!(made.status, GroupStatus::Creating);
    lab.rest(made.id).await;
    let made = now(lab, made.id).await.unwrap();
    assert_eq!(made.status, GroupStatus::Available);
    made
}

async fn now(lab: &Lab, id: GroupId) -> Option<Group> {
    db::volume_group::get(&mut lab.cloud.db.read(), id).await.unwrap()
}

async fn snapshot_now(lab: &Lab, id: GroupSnapshotId) -> Option<GroupSnapshot> {
    db::group_snapshot::get(&mut lab.cloud.db.read(), id).await.unwrap()
}

/// A volume that is made in a group.
async fn born(lab: &Lab, context: &Context, group: GroupId) -> Volume {
    let wanted = NewVolume {
        size: Some(GiB(1)),
        volume_type: Some("__DEFAULT__".into()),
        group_id: Some(group.to_string()),
        ..NewVolume::default()
    };
    let volume = lab.cloud.volume_create(context, wanted).await.unwrap();
    lab.rest(volume.id).await;
    let volume = lab.volume_now(volume.id).await.unwrap();
    assert_eq!((volume.status, volume.group_id.clone()), (VolumeStatus::Available, Some(group.to_string())));
    volume
}

fn adding(volume: VolumeId) -> UpdateGroup {
    UpdateGroup { add_volumes: Some(volume.to_string()), ..UpdateGroup::default() }
}

fn removing(volume: VolumeId) -> UpdateGroup {
    UpdateGroup { remove_volumes: Some(volume.to_string()), ..UpdateGroup::default() }
}

async fn update(lab: &Lab, context: &Context, id: GroupId, wanted: UpdateGroup) -> Result<()> {
    lab.cloud.group_update(context, id, wanted, GENERIC).await
}

async fn snapshot(lab: &Lab, context: &Context, group: GroupId) -> GroupSnapshot {
    let wanted = NewGroupSnapshot { group_id: group, name: Some("s".into()), description: None };
    let made = lab.cloud.group_snapshot_create(context, wanted, GENERIC).await.unwrap();
    lab.rest(made.id).await;
    snapshot_now(lab, made.id).await.unwrap()
}

async fn copy(lab: &Lab, context: &Context, origin: Origin) -> Group {
    let wanted = NewGroupFrom { name: None, description: None, origin };
    let made = lab.cloud.group_create_from(context, wanted, GENERIC).await.unwrap();
    lab.rest(made.id).await;
    now(lab, made.id).await.unwrap()
}

async fn remove(lab: &Lab, context: &Context, id: GroupId) {
    lab.cloud.group_delete(context, id, true, GENERIC).await.unwrap();
    lab.rest(id).await;
    assert!(now(lab, id).await.is_none());
}

async fn members(lab: &Lab, id: GroupId) -> Vec<Volume> {
    db::volume_group::volumes(&mut lab.cloud.db.read(), id).await.unwrap()
}

#[tokio::test]
async fn a_group_lives_with_its_snapshot_and_copies_and_leaves_nothing() {
    let lab = Lab::start().await;
    let me = member("p");
    let group = group(&lab, &me).await;
    assert_eq!(group.host.as_ref().map(ToString::to_string).as_deref(), Some("node@local#local"));
    assert_eq!(lab.used(&me, "groups").await, (1, 0));
    let (first, second) = (born(&lab, &me, group.id).await, lab.volume(&me, 2).await);
    update(&lab, &me, group.id, adding(second.id)).await.unwrap();
    assert_eq!(members(&lab, group.id).await.len(), 2);

    let whole = snapshot(&lab, &me, group.id).await;
    assert_eq!(whole.status, GroupSnapshotStatus::Available);
    assert_eq!(lab.used(&me, "snapshots").await, (2, 0));
    assert_eq!(lab.used(&me, "gigabytes").await, (6, 0));
    let parts = db::group_snapshot::snapshots(&mut lab.cloud.db.read(), whole.id).await.unwrap();
    assert_eq!(
        text(lab.cloud.snapshot_delete(&me, parts[0].id).await),
        "Invalid snapshot: Snapshot status must be available or error and must not be part of a group."
    );

    for origin in [Origin::Snapshot(whole.id), Origin::Group(group.id)] {
        let copy = copy(&lab, &me, origin).await;
        assert_eq!(copy.status, GroupStatus::Available);
        let mut sizes: Vec<u32> = members(&lab, copy.id).await.iter().map(|volume| volume.size.0).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 2]);
        assert_eq!(lab.used(&me, "groups").await, (2, 0));
        assert_eq!(lab.pool().await, (6, 0));
        remove(&lab, &me, copy.id).await;
    }

    let not_yet = "Invalid Group: Group has existing snapshots.";
    assert_eq!(text(lab.cloud.group_delete(&me, group.id, true, GENERIC).await), not_yet);
    lab.cloud.group_snapshot_delete(&me, whole.id, GENERIC).await.unwrap();
    lab.rest(whole.id).await;
    assert!(snapshot_now(&lab, whole.id).await.is_none());
    assert_eq!(lab.used(&me, "snapshots").await, (0, 0));
    update(&lab, &me, group.id, removing(second.id)).await.unwrap();
    remove(&lab, &me, group.id).await;
    assert!(lab.volume_now(first.id).await.is_none());
    lab.cloud.volume_delete(&me, second.id, DeleteVolume::default()).await.unwrap();
    lab.rest(second.id).await;
    assert_eq!(lab.used(&me, "groups").await, (0, 0));
    assert_eq!(lab.used(&me, "volumes").await, (0, 0));
    assert_eq!(lab.pool().await, (0, 0));
    lab.close().await;
}

#[tokio::test]
async fn members_come_and_go_under_cinders_rules() {
    let lab = Lab::start().await;
    let me = member("p");
    let (group, other) = (group(&lab, &me).await, group(&lab, &me).await);
    let (id, volume) = (group.id, lab.volume(&me, 1).await);
    let refused = async |wanted| text(update(&lab, &me, id, wanted).await);
    assert_eq!(
        refused(UpdateGroup::default()).await,
        format!(
            "Invalid Group: Cannot update group {id} because no valid name, description, add_volumes, or remove_volumes were provided."
        )
    );
    let both = UpdateGroup { remove_volumes: Some(volume.id.to_string()), ..adding(volume.id) };
    assert_eq!(
        refused(both).await,
        format!("Invalid volume: UUIDs ['{}'] are in both add and remove volume list.", volume.id)
    );
    assert_eq!(
        refused(removing(volume.id)).await,
        format!(
            "Invalid volume: Cannot remove volume {} from group {id} because it is not in the group.",
            volume.id
        )
    );
    let theirs = lab.volume(&member("q"), 1).await;
    assert_eq!(
        refused(adding(theirs.id)).await,
        format!(
            "Invalid volume: Cannot add volume {} to group {id} because volume cannot be found.",
            theirs.id
        )
    );
    assert_eq!(
        text(lab.cloud.group_update(&admin(), id, adding(theirs.id), GENERIC).await),
        format!(
            "Invalid volume: Cannot add volume {} to group {id} as they belong to different projects.",
            theirs.id
        )
    );
    update(&lab, &me, other.id, adding(volume.id)).await.unwrap();
    assert_eq!(
        refused(adding(volume.id)).await,
        format!(
            "Invalid volume: Cannot add volume {} to group {id} because it is already in group {}.",
            volume.id, other.id
        )
    );
    for id in [other.id, id] {
        remove(&lab, &me, id).await;
    }
    lab.close().await;
}

#[tokio::test]
async fn what_is_in_a_group_does_not_go_by_itself() {
    let lab = Lab::start().await;
    let me = member("p");
    let (other, volume) = (group(&lab, &me).await, lab.volume(&me, 1).await);
    update(&lab, &me, other.id, adding(volume.id)).await.unwrap();
    assert!(
        text(lab.cloud.volume_delete(&me, volume.id, DeleteVolume::default()).await)
            .contains("belong to a group")
    );
    assert_eq!(
        text(lab.cloud.group_delete(&me, other.id, false, GENERIC).await),
        format!(
            "Invalid Group: Group {} still contains volumes. The delete-volumes flag is required to delete it.",
            other.id
        )
    );
    let offer = control::transfer::NewTransfer {
        volume_id: volume.id,
        name: None,
        no_snapshots: false,
        encrypted: control::transfer::Encrypted::Allowed,
    };
    assert_eq!(
        text(lab.cloud.transfer_create(&me, offer).await.map(|_| ())),
        format!("Invalid volume: Volume {} must not be part of a group.", volume.id)
    );
    let attachment = lab.attach(volume.id).await;
    assert_eq!(
        text(lab.cloud.group_delete(&me, other.id, true, GENERIC).await),
        format!("Invalid Group: Volume in group {} is attached. Need to detach first.", other.id)
    );
    lab.detach(attachment).await;
    let single = lab.snapshot(&me, volume.id).await;
    assert_eq!(
        text(lab.cloud.group_delete(&me, other.id, true, GENERIC).await),
        "Invalid Group: Volume in group still has dependent snapshots."
    );
    lab.cloud.snapshot_delete(&me, single.id).await.unwrap();
    lab.rest(single.id).await;
    lab.cloud.group_reset(&admin(), other.id, GroupStatus::Error).await.unwrap();
    assert_eq!(
        text(update(&lab, &me, other.id, removing(volume.id)).await),
        "Invalid Group: Group status must be available, but current status is: error."
    );
    assert_eq!(
        text(lab.cloud.group_show(&member("q"), other.id, GENERIC).await),
        format!("Group {} could not be found.", other.id)
    );
    remove(&lab, &me, other.id).await;
    lab.close().await;
}

#[tokio::test]
async fn new_groups_and_volumes_in_them_are_refused_in_cinders_words() {
    let lab = Lab::start().await;
    let me = member("p");
    let group = group(&lab, &me).await;
    let made = async |wanted: NewGroup| text(lab.cloud.group_create(&me, wanted).await);
    assert_eq!(made(new_group("none")).await, "Group type with name none could not be found.");
    let zone = NewGroup { availability_zone: Some("moon".into()), ..new_group("kind") };
    assert_eq!(made(zone).await, "Invalid input received: Availability zone 'moon' is invalid.");
    let types = NewGroup { volume_types: vec!["none".into()], ..new_group("kind") };
    assert_eq!(made(types).await, "Volume type with name none could not be found.");
    assert!(
        made(new_group("default_cgsnapshot_type")).await.contains("is reserved for migrating CGs to groups.")
    );
    let limits = vec![("groups".to_owned(), 1)];
    lab.cloud.quota_update(&admin(), "p", limits).await.unwrap();
    assert_eq!(
        made(new_group("kind")).await,
        "GroupLimitExceeded: Maximum number of groups allowed (1) exceeded"
    );

    let wanted =
        NewVolume { size: Some(GiB(1)), group_id: Some(group.id.to_string()), ..NewVolume::default() };
    assert_eq!(
        text(lab.cloud.volume_create(&me, wanted.clone()).await),
        "Invalid input received: volume_type must be provided when creating a volume in a group."
    );
    let nowhere = NewVolume { group_id: Some("x".into()), ..wanted.clone() };
    assert_eq!(text(lab.cloud.volume_create(&me, nowhere).await), "Group x could not be found.");
    lab.cloud.group_reset(&admin(), group.id, GroupStatus::Error).await.unwrap();
    let typed = NewVolume { volume_type: Some("__DEFAULT__".into()), ..wanted };
    assert_eq!(
        text(lab.cloud.volume_create(&me, typed).await),
        "Invalid Group: Originating group status must be one of 'available, creating' values"
    );
    assert_eq!(
        text(
            lab.cloud
                .group_snapshot_create(
                    &me,
                    NewGroupSnapshot { group_id: group.id, name: None, description: None },
                    GENERIC
                )
                .await
        ),
        "Invalid Group: Source group cannot be empty or in 'creating' or 'updating' state. No group snapshot will be created."
    );
    assert_eq!(
        text(lab.cloud.group_enable_replication(&me, group.id).await),
        format!("Invalid group type: Group {} is not a replication group type.", group.id)
    );
    lab.close().await;
}

#[tokio::test]
async fn a_snapshot_of_a_group_that_fails_leaves_none_of_its_parts() {
    let lab = Lab::start().await;
    let me = member("p");
    let group = group(&lab, &me).await;
    let volumes = [born(&lab, &me, group.id).await, born(&lab, &me, group.id).await];
    lab.driver.fail("create_snapshots", ErrorKind::Backend);
    let whole = snapshot(&lab, &me, group.id).await;
    assert_eq!(whole.status, GroupSnapshotStatus::Error);
    let parts = db::group_snapshot::snapshots(&mut lab.cloud.db.read(), whole.id).await.unwrap();
    assert!(parts.iter().all(|part| part.status == SnapshotStatus::Error), "{parts:?}");
    assert_eq!(lab.told(&me).await[0].1, "create snapshot:Snapshot failed to create.");
    lab.cloud.group_snapshot_delete(&me, whole.id, GENERIC).await.unwrap();
    lab.rest(whole.id).await;
    assert_eq!(lab.used(&me, "snapshots").await, (0, 0));
    // One that does not go says so, and goes the next time.
    let whole = snapshot(&lab, &me, group.id).await;
    lab.driver.fail("delete_snapshot", ErrorKind::Backend);
    lab.cloud.group_snapshot_delete(&me, whole.id, GENERIC).await.unwrap();
    lab.rest(whole.id).await;
    assert_eq!(snapshot_now(&lab, whole.id).await.unwrap().status, GroupSnapshotStatus::Error);
    lab.cloud.group_snapshot_delete(&me, whole.id, GENERIC).await.unwrap();
    lab.rest(whole.id).await;
    assert!(volumes.iter().all(|volume| volume.group_id.is_some()));
    remove(&lab, &me, group.id).await;
    lab.close().await;
}

#[tokio::test]
async fn a_copy_of_a_group_is_whole_or_nothing() {
    let lab = Lab::start().await;
    let me = member("p");
    let group = group(&lab, &me).await;
    born(&lab, &me, group.id).await;
    born(&lab, &me, group.id).await;
    // The second of two fails: the first goes too.
    let gate = lab.driver.hold("create_volume", 1);
    let wanted = NewGroupFrom { name: None, description: None, origin: Origin::Group(group.id) };
    let made = lab.cloud.group_create_from(&me, wanted, GENERIC).await.unwrap();
    gate.reached().await;
    lab.driver.fail("create_volume", ErrorKind::Backend);
    // While it is copied it does not go.
    assert_eq!(
        text(lab.cloud.group_delete(&me, group.id, true, GENERIC).await),
        "Invalid Group: Group is the source of a group that is being created."
    );
    gate.open();
    lab.rest(made.id).await;
    assert_eq!(now(&lab, made.id).await.unwrap().status, GroupStatus::Error);
    let volumes = members(&lab, made.id).await;
    assert_eq!(volumes.len(), 2);
    assert!(volumes.iter().all(|one| one.status == VolumeStatus::Error && one.host.is_none()), "{volumes:?}");
    assert_eq!(lab.pool().await, (2, 0));
    remove(&lab, &me, made.id).await;
    assert_eq!(lab.used(&me, "volumes").await, (2, 0));

    let limits = vec![("volumes".to_owned(), 3)];
    lab.cloud.quota_update(&admin(), "p", limits).await.unwrap();
    let wanted = NewGroupFrom { name: None, description: None, origin: Origin::Group(group.id) };
    assert_eq!(
        text(lab.cloud.group_create_from(&me, wanted, GENERIC).await),
        "VolumeLimitExceeded: Maximum number of volumes allowed (3) exceeded for quota 'volumes'."
    );
    assert_eq!(lab.used(&me, "groups").await, (1, 0));
    // A deletion that fails half-way says so, and ends the next time.
    lab.driver.fail("delete_volume", ErrorKind::Backend);
    lab.cloud.group_delete(&me, group.id, true, GENERIC).await.unwrap();
    lab.rest(group.id).await;
    assert_eq!(now(&lab, group.id).await.unwrap().status, GroupStatus::Error);
    assert!(members(&lab, group.id).await.iter().all(|one| one.status == VolumeStatus::Error));
    remove(&lab, &me, group.id).await;
    assert_eq!(lab.pool().await, (0, 0));
    lab.close().await;
}

#[tokio::test]
async fn replication_is_refused_or_ends_in_error() {
    let lab = Lab::start().await;
    let me = member("p");
    kind(&lab, &[("group_replication_enabled", "<is> True")]).await;
    let group = group(&lab, &me).await;
    let kind = lab.cloud.type_by_name_or_id(&admin(), "__DEFAULT__").await.unwrap();
    assert_eq!(
        text(lab.cloud.group_replication_targets(&me, group.id).await),
        format!(
            "Invalid volume type: Volume type {} does not have 'replication_enabled' spec key set to '<is> True'.",
            kind.id
        )
    );
    let mut tx = lab.cloud.db.begin().await.unwrap();
    db::volume_type::put_spec(&mut tx, kind.id, "replication_enabled", Some("<is> True")).await.unwrap();
    lab.cloud.commit(tx).await.unwrap();
    assert_eq!(
        text(lab.cloud.group_disable_replication(&me, group.id).await),
        format!(
            "Invalid Group: Group {} replication status must be ['enabled', 'error'], but current status is: disabled. \
             Cannot disable replication.",
            group.id
        )
    );
    lab.cloud.group_enable_replication(&me, group.id).await.unwrap();
    assert_eq!(now(&lab, group.id).await.unwrap().replication_status.as_deref(), Some("error"));
    assert!(lab.cloud.group_replication_targets(&me, group.id).await.unwrap().is_empty());
    remove(&lab, &me, group.id).await;
    lab.close().await;
}

#[tokio::test]
async fn legacy_groups_are_reached_by_their_own_paths_only() {
    let lab = Lab::start().await;
    let me = member("p");
    let wanted = NewGroup { group_type: None, ..new_group("") };
    let made = lab.cloud.group_create(&me, wanted).await.unwrap();
    lab.rest(made.id).await;
    let kind = made.type_id;
    assert_eq!(
        text(lab.cloud.group_show(&me, made.id, GENERIC).await),
        format!(
            "Group_type {kind} is reserved for migrating CGs to groups. Migrated group can only be operated by CG APIs."
        )
    );
    let query = model::list::ListQuery::all(Some("p".into()));
    assert!(lab.cloud.group_list(&me, &query, GENERIC).await.unwrap().items.is_empty());
    assert_eq!(lab.cloud.group_list(&me, &query, Door::Legacy).await.unwrap().items.len(), 1);
    let volume = born(&lab, &me, made.id).await;
    assert_eq!(volume.consistencygroup_id, volume.group_id);
    lab.cloud.group_delete(&me, made.id, true, Door::Legacy).await.unwrap();
    lab.rest(made.id).await;
    lab.close().await;
}
