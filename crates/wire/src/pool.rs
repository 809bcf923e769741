//! Pools as the scheduler knows them (api-routes-admin.md).

use model::service::PoolReport;
use serde_json::Value;

use crate::{Object, object};

/// A pool; `detail` adds what its backend reported.
pub fn shape(pool: &PoolReport, detail: bool) -> Object {
    let mut shape = object! { "name": pool.name };
    if detail {
        let mut capabilities = pool.capabilities.clone();
        // A backend may name its protocol in several spellings; the first is the one for people.
        if let Some(first) =
            capabilities.get("storage_protocol").and_then(Value::as_array).and_then(|all| all.first())
        {
            let first = first.clone();
            capabilities.insert("storage_protocol".into(), first);
        }
        shape.insert("capabilities".into(), Value::Object(capabilities));
    }
    shape
}
