//! Transfers as answers show them (api-routes-resources.md). Links lead to the older path, whichever was asked.

use model::{Secret, Transfer};

use crate::link::Links;
use crate::{Object, object, time};

/// The collection that links name.
pub const COLLECTION: &str = "os-volume-transfer";

/// A transfer in a list.
pub fn summary(transfer: &Transfer, links: &Links) -> Object {
    let id = transfer.id.to_string();
    object! {
        "id": id,
        "volume_id": transfer.volume_id,
        "name": transfer.name,
        "links": links.of(COLLECTION, &id),
    }
}

/// A transfer, newest shape.
pub fn detail(transfer: &Transfer, links: &Links) -> Object {
    let id = transfer.id.to_string();
    object! {
        "id": id,
        "created_at": time::or_null(transfer.created_at),
        "name": transfer.name,
        "volume_id": transfer.volume_id,
        "links": links.of(COLLECTION, &id),
        "no_snapshots": transfer.no_snapshots,
        "destination_project_id": transfer.destination_project_id,
        "source_project_id": transfer.source_project_id,
        "accepted": transfer.accepted,
    }
}

/// A transfer just made, with its key.
pub fn created(transfer: &Transfer, key: &Secret<String>, links: &Links) -> Object {
    let mut shape = detail(transfer, links);
    shape.insert("auth_key".into(), key.expose().clone().into());
    shape
}
