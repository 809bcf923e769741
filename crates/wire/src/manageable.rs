//! What a backend has that could be managed, as answers show it (api-routes-resources.md).

use serde_json::{Value, json};

use crate::{Object, object};

/// One thing on a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown<'a> {
    pub name: &'a str,
    /// GiB.
    pub size: u64,
    /// Why it cannot be managed.
    pub refusal: Option<&'a str>,
    /// The volume or snapshot that it is already.
    pub id: Option<&'a str>,
}

fn reference(name: &str) -> Value {
    json!({ "source-name": name })
}

/// The short form of both lists.
pub fn summary(one: Shown<'_>) -> Object {
    object! {
        "reference": reference(one.name),
        "size": one.size,
        "safe_to_manage": one.refusal.is_none(),
    }
}

/// The long form.
pub fn detail(one: Shown<'_>) -> Object {
    let mut shape = summary(one);
    shape.extend(object! { "reason_not_safe": one.refusal, "cinder_id": one.id, "extra_info": Value::Null });
    shape
}

/// Adds the volume that a snapshot is of.
pub fn of(mut shape: Object, source: Option<&str>) -> Object {
    shape.insert("source_reference".into(), source.map_or(Value::Null, reference));
    shape
}
