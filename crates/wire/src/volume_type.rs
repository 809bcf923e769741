//! Volume types as answers show them (api-routes-admin.md).

use model::{TypeId, VolumeType};
use serde_json::Value;

use crate::{Object, object};

/// The extra specs that users may see without the right to sensitive ones.
pub const USER_VISIBLE_SPECS: [&str; 3] = ["multiattach", "RESKEY:availability_zones", "replication_enabled"];

/// What the caller may see of a type beyond its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sees {
    /// Extra specs at all.
    pub extra_specs: bool,
    /// Every extra spec, not only the user-visible ones.
    pub sensitive_specs: bool,
    /// Which QoS specs it has (not on the answer to a creation).
    pub qos: bool,
    /// `os-volume-type-access:is_public`.
    pub access: bool,
}

/// A type.
pub fn detail(volume_type: &VolumeType, sees: Sees) -> Object {
    let mut shape = object! {
        "id": volume_type.id,
        "name": volume_type.name,
        "is_public": volume_type.is_public,
        "description": volume_type.description,
    };
    if sees.extra_specs {
        shape.insert("extra_specs".into(), Value::Object(extra_specs(volume_type, sees.sensitive_specs)));
    }
    if sees.qos {
        shape.insert("qos_specs_id".into(), volume_type.qos_specs_id.map(|id| id.to_string()).into());
    }
    if sees.access {
        shape.insert("os-volume-type-access:is_public".into(), volume_type.is_public.into());
    }
    shape
}

/// Its extra specs, all or those that users may see.
pub fn extra_specs(volume_type: &VolumeType, sensitive: bool) -> Object {
    let shown = |key: &str| sensitive || USER_VISIBLE_SPECS.contains(&key);
    let specs = volume_type.extra_specs.iter().filter(|(key, _)| shown(key));
    specs.map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect()
}

/// Who may use a private type.
pub fn access(volume_type: TypeId, projects: &[String]) -> Value {
    projects
        .iter()
        .map(|project| Value::Object(object! { "volume_type_id": volume_type, "project_id": project }))
        .collect()
}
