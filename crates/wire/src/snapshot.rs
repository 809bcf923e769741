//! Snapshots as answers show them (api-routes-resources.md).

use model::Snapshot;

use crate::{Object, object, time};

/// What short lists show: without links, with almost everything.
pub fn summary(snapshot: &Snapshot) -> Object {
    object! {
        "id": snapshot.id,
        "created_at": time::or_null(snapshot.created_at),
        "updated_at": time::or_null(snapshot.updated_at),
        "name": snapshot.name,
        "description": snapshot.description,
        "volume_id": snapshot.volume_id,
        "status": snapshot.status,
        "size": snapshot.volume_size,
        "metadata": snapshot.metadata,
    }
}

/// The long form, newest shape; `extended` adds project and progress, on show and detail.
pub fn detail(snapshot: &Snapshot, extended: bool) -> Object {
    let mut shape = summary(snapshot);
    shape.extend(object! {
        "group_snapshot_id": snapshot.group_snapshot_id,
        "user_id": snapshot.user_id,
        "consumes_quota": snapshot.use_quota,
    });
    if extended {
        shape.extend(object! {
            "os-extended-snapshot-attributes:project_id": snapshot.project_id,
            "os-extended-snapshot-attributes:progress": snapshot.progress,
        });
    }
    shape
}
