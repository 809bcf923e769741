//! QoS specs: named sets of limits that volume types refer to, enforced by the backend, by the hypervisor, or by both.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{GiB, QosId, Time};

text_enum! {
    /// Who enforces the specs.
    Consumer {
        BackEnd = "back-end",
        FrontEnd = "front-end",
        Both = "both",
    }
}

/// A set of QoS specs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QosSpecs {
    pub id: QosId,
    pub name: String,
    pub consumer: Consumer,
    pub specs: BTreeMap<String, Option<String>>,
    pub created_at: Option<Time>,
}

/// What can be limited by the size of a volume (connection-info.md 2).
const TUNED: [&str; 6] = [
    "read_iops_sec",
    "read_bytes_sec",
    "write_iops_sec",
    "write_bytes_sec",
    "total_iops_sec",
    "total_bytes_sec",
];

impl QosSpecs {
    /// What the hypervisor enforces on a volume of this size; `None` when that is not its task. `X_per_gb` becomes `X`: times
    /// the size, at least `X_per_gb_min`, at most `X_max`. A limit that is no number is left as it is.
    pub fn front_end(&self, size: GiB) -> Option<Map<String, Value>> {
        if self.consumer == Consumer::BackEnd {
            return None;
        }
        let mut out: Map<String, Value> =
            self.specs.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        for option in TUNED {
            let number = |key: String| self.specs.get(&key)?.as_deref()?.trim().parse::<i64>().ok();
            let keys = [format!("{option}_per_gb"), format!("{option}_per_gb_min"), format!("{option}_max")];
            let [per_gb, min, max] = keys.clone().map(number);
            let Some(per_gb) = per_gb else { continue };
            let wanted = per_gb.saturating_mul(i64::from(size.0)).max(min.unwrap_or(0));
            for key in &keys {
                out.remove(key);
            }
            out.insert(option.to_owned(), max.map_or(wanted, |max| max.min(wanted)).into());
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn specs(consumer: Consumer, specs: &[(&str, &str)]) -> QosSpecs {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), Some((*value).to_owned()));
        let specs = specs.iter().map(own).collect();
        QosSpecs { id: QosId::new(), name: "q".into(), consumer, specs, created_at: None }
    }

    #[test]
    fn the_backends_limits_are_not_the_hypervisors() {
        assert_eq!(specs(Consumer::BackEnd, &[("total_iops_sec", "1")]).front_end(GiB(1)), None);
        let both = specs(Consumer::Both, &[("total_iops_sec", "1")]).front_end(GiB(1));
        assert_eq!(both.map(Value::Object), Some(json!({"total_iops_sec": "1"})));
    }

    #[test]
    fn limits_per_gigabyte_follow_the_size_between_their_bounds() {
        let all = [
            ("read_iops_sec_per_gb", "10"),
            ("read_iops_sec_per_gb_min", "50"),
            ("read_iops_sec_max", "200"),
            ("total_bytes_sec_per_gb", "9223372036854775807"),
            ("write_iops_sec_per_gb", "many"),
        ];
        let at = |size| specs(Consumer::FrontEnd, &all).front_end(GiB(size)).map(Value::Object);
        let shown = |n: i64| json!({"read_iops_sec": n, "total_bytes_sec": i64::MAX, "write_iops_sec_per_gb": "many"});
        assert_eq!(at(1), Some(shown(50)));
        assert_eq!(at(12), Some(shown(120)));
        assert_eq!(at(1000), Some(shown(200)));
    }
}
