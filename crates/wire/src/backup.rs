//! Backups as answers show them (api-routes-resources.md).

use model::{Backup, BackupId, VolumeId};

use crate::link::Links;
use crate::{Object, object, time};

const COLLECTION: &str = "backups";

/// The short form.
pub fn summary(backup: &Backup, links: &Links) -> Object {
    let id = backup.id.to_string();
    object! { "id": id, "name": backup.name, "links": links.of(COLLECTION, &id) }
}

/// The long form, newest shape; `owner` adds whose it is.
pub fn detail(backup: &Backup, links: &Links, owner: bool) -> Object {
    let id = backup.id.to_string();
    let mut shape = object! {
        "id": id,
        "status": backup.status,
        "size": backup.size,
        "object_count": backup.object_count,
        "availability_zone": backup.availability_zone,
        "container": backup.container,
        "created_at": time::or_null(backup.created_at),
        "updated_at": time::or_null(backup.updated_at),
        "name": backup.name,
        "description": backup.description,
        "fail_reason": backup.fail_reason,
        "volume_id": backup.volume_id,
        "links": links.of(COLLECTION, &id),
        "is_incremental": backup.parent_id.is_some(),
        "has_dependent_backups": backup.num_dependent_backups.unwrap_or(0) > 0,
        "snapshot_id": backup.snapshot_id,
        "data_timestamp": time::or_null(backup.data_timestamp),
        "metadata": backup.metadata,
    };
    if let Some(key) = &backup.encryption_key_id {
        shape.insert("encryption_key_id".into(), key.as_str().into());
    }
    if owner {
        shape.insert("os-backup-project-attr:project_id".into(), backup.project_id.clone().into());
        shape.insert("user_id".into(), backup.user_id.clone().into());
    }
    shape
}

/// What a restore answers.
pub fn restore(backup: BackupId, volume: VolumeId, volume_name: Option<&str>) -> Object {
    object! { "backup_id": backup, "volume_id": volume, "volume_name": volume_name }
}
