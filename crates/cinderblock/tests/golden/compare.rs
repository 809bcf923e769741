//! Compares an answer with the recorded one: status, headers, keys, types, values and texts. Values that belong to one
//! deployment or backend are compared by presence and type only.

use serde_json::Value;

/// Keys whose values belong to a deployment.
#[rustfmt::skip]
const LOCAL: [&str; 40] = [
    "host", "os-vol-host-attr:host", "backend", "volume_backend_name", "vendor_name", "driver_version", "storage_protocol",
    "total_capacity_gb", "free_capacity_gb", "allocated_capacity_gb", "provisioned_capacity_gb",
    "max_over_subscription_ratio", "reserved_percentage", "pool_name", "filter_function", "goodness_function",
    "location_info", "timestamp", "service_uuid", "shared_targets", "size_bytes", "namespace", "auth_key", "salt",
    "crypt_hash", "updated", "backup_url", "backup_service", "container", "object_count", "connection_info", "connector",
    "replication_targets", "num_hosts", "num_down_hosts", "min_version", "QoS_support", "multiattach", "hosts_up", "secret",
];
/// Keys of which even whether they are null belongs to a deployment.
const NULLABLE: [&str; 8] = [
    "connection_info",
    "filter_function",
    "goodness_function",
    "shared_targets",
    "service_uuid",
    "connector",
    "container",
    "size_bytes",
];
/// Objects whose keys belong to a backend.
const OPAQUE: [&str; 5] = ["connection_info", "capabilities", "properties", "log_levels", "levels"];
const HEADERS: [&str; 6] =
    ["content-type", "openstack-api-version", "vary", "location", "retry-after", "allow"];

/// What differs between the recorded answer and the one seen; `local`: scalar values do not count.
pub fn compare(expected: &Value, got: &Value, local: bool) -> Vec<String> {
    if expected["status"] != got["status"] {
        return vec![format!(
            "status: expected {}, got {} ({})",
            expected["status"], got["status"], got["body"]
        )];
    }
    let mut out = Vec::new();
    for name in HEADERS {
        let (a, b) = (header(expected, name), header(got, name));
        if a != b {
            out.push(format!("header {name}: expected {a:?}, got {b:?}"));
        }
    }
    if sorted(&expected["has"]) != sorted(&got["has"]) {
        out.push(format!("request ids: expected {}, got {}", expected["has"], got["has"]));
    }
    Comparison { local, out: &mut out }.value(&expected["body"], &got["body"], "body", "");
    if expected["then"] != got["then"] {
        out.push(format!("afterwards: expected {}, got {}", expected["then"], got["then"]));
    }
    out
}

fn header(answer: &Value, name: &str) -> Option<String> {
    let value = answer["headers"][name].as_str()?;
    Some(match name {
        "content-type" => value.split(';').next().unwrap_or_default().trim().to_owned(),
        "vary" => value.to_lowercase(),
        _ => value.to_owned(),
    })
}

fn sorted(list: &Value) -> Vec<&str> {
    let mut list: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    list.sort_unstable();
    list
}

struct Comparison<'a> {
    local: bool,
    out: &'a mut Vec<String>,
}

impl Comparison<'_> {
    fn value(&mut self, a: &Value, b: &Value, at: &str, key: &str) {
        if LOCAL.contains(&key) && !a.is_object() {
            if a.is_null() != b.is_null() && !NULLABLE.contains(&key) {
                self.out.push(format!("{at}: expected {a}, got {b}"));
            }
            return;
        }
        match (a, b) {
            (Value::Object(_), Value::Object(_)) if OPAQUE.contains(&key) => {}
            (Value::Object(a), Value::Object(b)) => {
                self.out.extend(
                    a.keys().filter(|key| !b.contains_key(*key)).map(|key| format!("{at}.{key}: missing")),
                );
                self.out.extend(
                    b.keys()
                        .filter(|key| !a.contains_key(*key))
                        .map(|key| format!("{at}.{key}: not expected")),
                );
                for (key, a) in a {
                    if let Some(b) = b.get(key) {
                        self.value(a, b, &format!("{at}.{key}"), key);
                    }
                }
            }
            (Value::Array(a), Value::Array(b)) => {
                let differ = if self.local { a.is_empty() != b.is_empty() } else { a.len() != b.len() };
                if differ {
                    self.out.push(format!("{at}: expected {} elements, got {}", a.len(), b.len()));
                }
                for (n, (a, b)) in a.iter().zip(b).enumerate() {
                    self.value(a, b, &format!("{at}[{n}]"), key);
                }
            }
            (a, b) if kind(a) != kind(b) => self.out.push(format!("{at}: expected {a}, got {b}")),
            (a, b) if a != b && !self.local && !(varies(a) && varies(b)) => {
                self.out.push(format!("{at}: expected {a}, got {b}"));
            }
            _ => {}
        }
    }
}

/// A JSON type; numbers are one.
fn kind(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

/// Whether a text holds what differs between runs.
fn varies(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains("<time>") || text.contains("<uuid>"))
}
