//! The v3 JSON shapes: what answers look like, one file per resource, and how they differed over time.
//!
//! Views take model types and give JSON maps in the newest shape; [`microversion`] lowers them for older callers. Reading
//! requests starts from JSON that the edge's schema has accepted, so [`read`] only has to pick values out. Nothing here knows
//! HTTP, policy or the database: what a caller may see is said by small `Sees` structs.

pub mod attachment;
pub mod backup;
pub mod cluster;
pub mod encryption;
pub mod extension;
pub mod group;
pub mod group_type;
pub mod host;
pub mod job;
pub mod link;
pub mod manageable;
pub mod message;
pub mod microversion;
pub mod pool;
pub mod qos;
pub mod quota;
pub mod read;
pub mod service;
pub mod snapshot;
pub mod time;
pub mod transfer;
pub mod version;
pub mod volume;
pub mod volume_type;

use serde_json::{Map, Value};

/// A JSON object, in the order in which it was built.
pub type Object = Map<String, Value>;

/// Builds an [`Object`] from `key: value` pairs.
macro_rules! object {
    ($($key:literal : $value:expr),* $(,)?) => {{
        let mut map = $crate::Object::new();
        $(map.insert($key.into(), serde_json::json!($value));)*
        map
    }};
}
pub(crate) use object;

/// `{name: object}`: how single resources are wrapped.
pub fn wrap(name: &str, value: impl Into<Value>) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value.into())]))
}
