//! QoS specs as answers show them (api-routes-admin.md).

use model::{QosSpecs, TypeId};
use serde_json::Value;

use crate::link::Links;
use crate::{Object, object};

/// A set.
pub fn detail(qos: &QosSpecs) -> Object {
    object! {
        "id": qos.id,
        "name": qos.name,
        "consumer": qos.consumer,
        "specs": qos.specs,
    }
}

/// A set alone, with its links beside it.
pub fn single(qos: &QosSpecs, links: &Links) -> Object {
    object! {
        "qos_specs": detail(qos),
        "links": links.of("qos-specs", &qos.id.to_string()),
    }
}

/// The types that refer to a set.
pub fn associations(types: &[(TypeId, String)]) -> Value {
    let one = |(id, name): &(TypeId, String)| {
        Value::Object(object! { "association_type": "volume_type", "name": name, "id": id })
    };
    types.iter().map(one).collect()
}
