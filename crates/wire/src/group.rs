//! Groups and their snapshots as answers show them, by the generic paths and by those of legacy consistency groups
//! (api-routes-resources.md).

use model::{Group, GroupSnapshot, VolumeId};

use crate::{Object, object, time};

/// What the caller may see of groups and group snapshots beyond the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Project {
    Shown,
    Hidden,
}

/// The short form that lists show.
pub fn summary(group: &Group) -> Object {
    object! { "id": group.id, "name": group.name }
}

/// The long form, newest shape; `volumes` where they were asked for.
pub fn detail(group: &Group, volumes: Option<&[VolumeId]>, project: Project) -> Object {
    let mut shape = object! {
        "id": group.id,
        "status": group.status,
        "availability_zone": group.availability_zone,
        "created_at": time::or_null(group.created_at),
        "name": group.name,
        "description": group.description,
        "group_type": group.type_id,
        "volume_types": group.volume_types,
        "group_snapshot_id": group.group_snapshot_id,
        "source_group_id": group.source_group_id,
    };
    if let Some(volumes) = volumes {
        shape.insert("volumes".into(), serde_json::json!(volumes));
    }
    shape.insert("replication_status".into(), group.replication_status.clone().into());
    if project == Project::Shown {
        shape.insert("project_id".into(), group.project_id.clone().into());
    }
    shape
}

/// A consistency group.
pub fn consistency_group(group: &Group) -> Object {
    object! {
        "id": group.id,
        "status": group.status,
        "availability_zone": group.availability_zone,
        "created_at": time::or_null(group.created_at),
        "name": group.name,
        "description": group.description,
        "volume_types": group.volume_types,
    }
}

/// A group snapshot in a list; also a legacy one.
pub fn snapshot_summary(snapshot: &GroupSnapshot) -> Object {
    object! { "id": snapshot.id, "name": snapshot.name }
}

/// A group snapshot just made.
pub fn snapshot_created(snapshot: &GroupSnapshot) -> Object {
    object! { "id": snapshot.id, "name": snapshot.name, "group_type_id": snapshot.type_id }
}

/// A group snapshot, newest shape.
pub fn snapshot_detail(snapshot: &GroupSnapshot, project: Project) -> Object {
    let mut shape = object! {
        "id": snapshot.id,
        "group_id": snapshot.group_id,
        "group_type_id": snapshot.type_id,
        "status": snapshot.status,
        "created_at": time::or_null(snapshot.created_at),
        "name": snapshot.name,
        "description": snapshot.description,
    };
    if project == Project::Shown {
        shape.insert("project_id".into(), snapshot.project_id.clone().into());
    }
    shape
}

/// A snapshot of a consistency group.
pub fn cgsnapshot(snapshot: &GroupSnapshot) -> Object {
    object! {
        "id": snapshot.id,
        "consistencygroup_id": snapshot.group_id,
        "status": snapshot.status,
        "created_at": time::or_null(snapshot.created_at),
        "name": snapshot.name,
        "description": snapshot.description,
    }
}
