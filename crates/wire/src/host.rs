//! Hosts and capabilities as answers show them (api-routes-admin.md).

use model::Service;
use model::service::PoolReport;
use serde_json::{Value, json};

use crate::{Object, object, time};

/// A service in the list of hosts.
pub fn summary(service: &Service) -> Object {
    object! {
        "host_name": service.host,
        "service": service.binary,
        "zone": service.availability_zone,
        "service-status": if service.up { "available" } else { "unavailable" },
        "service-state": if service.disabled { "disabled" } else { "enabled" },
        "last-update": time::or_null(service.updated_at),
    }
}

/// What is on a host: of one project, or in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holding {
    pub volumes: i64,
    pub volume_gigabytes: i64,
    pub snapshots: i64,
    pub snapshot_gigabytes: i64,
}

/// The name of the line that is the sum of all others.
pub const TOTAL: &str = "(total)";

/// A line of what is on a host. Its numbers are texts.
pub fn resource(host: &str, project: &str, holding: Holding) -> Value {
    json!({"resource": {
        "host": host,
        "project": project,
        "volume_count": holding.volumes.to_string(),
        "total_volume_gb": holding.volume_gigabytes.to_string(),
        "snapshot_count": holding.snapshots.to_string(),
        "total_snapshot_gb": holding.snapshot_gigabytes.to_string(),
    }})
}

/// What a backend can do. The properties are those that types may ask every backend for.
pub fn capabilities(report: &PoolReport) -> Object {
    let of = |key: &str| report.capabilities.get(key).cloned().unwrap_or_default();
    let property = |title: &str, description: &str| json!({"title": title, "description": description, "type": "boolean"});
    object! {
        "namespace": format!("OS::Storage::Capabilities::{}", report.name),
        "vendor_name": of("vendor_name"),
        "volume_backend_name": of("volume_backend_name"),
        "pool_name": of("pool_name"),
        "driver_version": of("driver_version"),
        "storage_protocol": of("storage_protocol"),
        "display_name": of("display_name"),
        "description": of("description"),
        "visibility": of("visibility"),
        "replication_targets": Vec::<Value>::new(),
        "properties": json!({
            "thin_provisioning": property("Thin Provisioning", "Sets thin provisioning."),
            "compression": property("Compression", "Enables compression."),
            "qos": property("QoS", "Enables QoS."),
            "replication_enabled": property("Replication", "Enables replication."),
        }),
    }
}
