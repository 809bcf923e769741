//! Clusters as answers show them (api-routes-admin.md). Times that are unset are empty texts.

use model::Time;
use model::cluster::Cluster;
use serde_json::Value;

use crate::{Object, object, time};

/// A cluster in a list, newest shape.
pub fn summary(cluster: &Cluster) -> Object {
    object! {
        "name": cluster.name,
        "binary": cluster.binary,
        "state": if cluster.is_up() { "up" } else { "down" },
        "status": if cluster.disabled { "disabled" } else { "enabled" },
        "replication_status": cluster.replication_status,
    }
}

/// A cluster, newest shape.
pub fn detail(cluster: &Cluster) -> Object {
    let or_empty = |at: Option<Time>| match time::or_null(at) {
        Value::Null => Value::String(String::new()),
        text => text,
    };
    let mut shape = summary(cluster);
    shape.extend(object! {
        "num_hosts": cluster.hosts,
        "num_down_hosts": cluster.down_hosts,
        "last_heartbeat": or_empty(cluster.last_heartbeat),
        "created_at": or_empty(cluster.created_at),
        "updated_at": or_empty(cluster.updated_at),
        "disabled_reason": cluster.disabled_reason,
        "frozen": cluster.frozen,
        "active_backend_id": cluster.active_backend_id,
    });
    shape
}
