//! Group types as answers show them (api-routes-admin.md).

use model::GroupType;

use crate::{Object, object};

/// Whether the caller may see the specs of group types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specs {
    Shown,
    Hidden,
}

/// A type.
pub fn detail(kind: &GroupType, specs: Specs) -> Object {
    let mut shape = object! {
        "id": kind.id,
        "name": kind.name,
        "description": kind.description,
        "is_public": kind.is_public,
    };
    if specs == Specs::Shown {
        shape.insert("group_specs".into(), serde_json::json!(kind.specs));
    }
    shape
}
