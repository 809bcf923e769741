//! Services and zones as operators see them (api-routes-admin.md).

use model::Service;
use model::service::AvailabilityZone;
use serde_json::Value;

use crate::{Object, object, time};

/// The binary that has backends.
const VOLUME: &str = "cinder-volume";

/// A service, newest shape.
pub fn detail(service: &Service) -> Object {
    let word = |yes: bool, then: &'static str, otherwise: &'static str| if yes { then } else { otherwise };
    let mut shape = object! {
        "binary": service.binary,
        "host": service.host,
        "zone": service.availability_zone,
        "status": word(service.disabled, "disabled", "enabled"),
        "state": word(service.up, "up", "down"),
        "updated_at": time::or_null(service.updated_at.or(service.created_at)),
    };
    let volume = service.binary == VOLUME;
    if volume {
        shape.insert("backend_state".into(), service.backend_up.map(|up| word(up, "up", "down")).into());
    }
    shape.insert("cluster".into(), service.cluster_name.clone().into());
    shape.insert("disabled_reason".into(), service.disabled_reason.clone().into());
    if volume {
        shape.extend(object! {
            "replication_status": service.replication_status,
            "active_backend_id": service.active_backend_id,
            "frozen": service.frozen,
        });
    }
    shape
}

/// What enabling or disabling answers: the request again, with what it led to.
pub fn switched(host: &str, service: &str, binary: &str, disabled: bool) -> Object {
    object! {
        "host": host,
        "service": service,
        "disabled": disabled,
        "binary": binary,
        "status": if disabled { "disabled" } else { "enabled" },
    }
}

/// `GET /os-availability-zone`.
pub fn zones(zones: &[AvailabilityZone]) -> Value {
    let shape = |zone: &AvailabilityZone| {
        Value::Object(
            object! { "zoneName": zone.name, "zoneState": serde_json::json!({ "available": zone.available }) },
        )
    };
    zones.iter().map(shape).collect()
}
