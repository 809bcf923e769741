//! Quotas and limits as answers show them (api-routes-admin.md).

use model::quota::QuotaLine;
use serde_json::Value;

use crate::{Object, object};

/// `{resource: limit, ...}` and the project (or class) when it is shown.
pub fn limits(lines: &[QuotaLine], id: Option<&str>) -> Object {
    let mut shape: Object = lines.iter().map(|line| (line.resource.clone(), line.limit.into())).collect();
    shape.extend(id.map(|id| ("id".to_owned(), id.into())));
    shape
}

/// `{resource: {limit, in_use, reserved}, ...}` and the project.
pub fn usage(lines: &[QuotaLine], id: &str) -> Object {
    let mut shape: Object = lines
        .iter()
        .map(|line| {
            let used = object! { "limit": line.limit, "in_use": line.in_use, "reserved": line.reserved };
            (line.resource.clone(), Value::Object(used))
        })
        .collect();
    shape.insert("id".into(), id.into());
    shape
}

/// Resource, the name of its limit and the name of its use in `GET /limits`.
const ABSOLUTE: [(&str, &str, &str); 5] = [
    ("volumes", "maxTotalVolumes", "totalVolumesUsed"),
    ("snapshots", "maxTotalSnapshots", "totalSnapshotsUsed"),
    ("gigabytes", "maxTotalVolumeGigabytes", "totalGigabytesUsed"),
    ("backups", "maxTotalBackups", "totalBackupsUsed"),
    ("backup_gigabytes", "maxTotalBackupGigabytes", "totalBackupGigabytesUsed"),
];

/// What is inside `limits`; `used` adds what is used.
pub fn absolute(lines: &[QuotaLine], used: bool) -> Object {
    let find = |resource: &str| lines.iter().find(|line| line.resource == resource);
    let mut absolute = Object::new();
    for (resource, limit, _) in ABSOLUTE {
        absolute.extend(find(resource).map(|line| (limit.to_owned(), line.limit.into())));
    }
    if used {
        for (resource, _, used) in ABSOLUTE {
            absolute.extend(find(resource).map(|line| (used.to_owned(), line.in_use.into())));
        }
    }
    object! { "rate": Value::Array(Vec::new()), "absolute": absolute }
}
