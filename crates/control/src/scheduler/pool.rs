//! A pool as the scheduler sees it at one moment.

use serde_json::{Map, Value};

use super::capacity::{Figures, Ratio, Space, number, over_subscription, truth};

/// A pool's service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceState {
    /// Its heartbeat is young.
    pub up: bool,
    pub disabled: bool,
    pub frozen: bool,
}

impl Default for ServiceState {
    fn default() -> Self {
        Self { up: true, disabled: false, frozen: false }
    }
}

/// A pool: what its backend reported, and what was promised on it since.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolState {
    /// `host@backend#pool`.
    pub host: String,
    /// `cluster@backend#pool`, where the service is in a cluster.
    pub cluster_name: Option<String>,
    pub availability_zone: Option<String>,
    pub service: ServiceState,
    /// Cinder's capability names, the backend's filled in where the pool has none.
    pub capabilities: Map<String, Value>,
    pub total: Space,
    /// `None`: nothing was reported yet.
    pub free: Option<Space>,
    /// GiB of all volumes placed on it.
    pub allocated_gb: f64,
    /// GiB as the backend counts them, plus what was promised since.
    pub provisioned_gb: f64,
    pub reserved_percentage: f64,
    pub thin_support: bool,
    /// How many volumes are on it.
    pub volumes: u64,
    /// When it last reported or was promised something.
    pub updated: Option<String>,
}

/// Protocols with several spellings: a pool that reports one has them all.
const PROTOCOLS: &[&[&str]] =
    &[&["iSCSI", "iscsi"], &["FC", "fibre_channel", "fc"], &["NFS", "nfs"], &["NVMe-oF", "NVMeOF", "nvmeof"]];

impl PoolState {
    /// A pool from its report.
    pub fn new(host: impl Into<String>, mut capabilities: Map<String, Value>) -> Self {
        if let Some(Value::String(protocol)) = capabilities.get("storage_protocol")
            && let Some(spellings) = PROTOCOLS.iter().find(|spellings| spellings.contains(&protocol.as_str()))
        {
            capabilities.insert("storage_protocol".into(), Value::from(spellings.to_vec()));
        }
        let gb = |name: &str| capabilities.get(name).and_then(number);
        let allocated_gb = gb("allocated_capacity_gb").unwrap_or(0.0);
        let space = |name: &str| match capabilities.get(name) {
            None => Some(Space::Gb(0.0)),
            Some(value) => Space::read(value),
        };
        Self {
            host: host.into(),
            cluster_name: None,
            availability_zone: None,
            service: ServiceState::default(),
            total: space("total_capacity_gb").unwrap_or(Space::Gb(0.0)),
            free: space("free_capacity_gb"),
            allocated_gb,
            provisioned_gb: gb("provisioned_capacity_gb").unwrap_or(allocated_gb),
            reserved_percentage: gb("reserved_percentage").unwrap_or(0.0),
            thin_support: capabilities.get("thin_provisioning_support").is_some_and(truth),
            volumes: 0,
            updated: None,
            capabilities,
        }
    }

    /// The name that requests and hints know it by: the cluster's, else the host's.
    pub fn id(&self) -> &str {
        self.cluster_name.as_deref().unwrap_or(&self.host)
    }

    /// Whether this is `backend`: the very pool, or any pool of it when `backend` names none.
    pub fn is_of(&self, backend: &str) -> bool {
        if backend.contains('#') { self.id() == backend } else { without_pool(self.id()) == backend }
    }

    /// Counts `gb` more (or less) as placed here.
    pub fn consume(&mut self, gb: f64) {
        self.allocated_gb += gb;
        self.provisioned_gb += gb;
        if let Some(Space::Gb(free)) = &mut self.free {
            *free -= gb;
        }
    }

    /// Sets what is allocated now: the difference to what the report counted was promised since and is consumed.
    pub fn allocated_now(&mut self, gb: f64) {
        self.consume(gb - self.allocated_gb);
    }

    /// How far it may be over-subscribed.
    pub(super) fn ratio(&self, global: Ratio) -> f64 {
        over_subscription(&self.capabilities, global)
    }

    /// The figures to compute with; `None` where total or free are not known in GiB.
    pub(super) fn figures(&self, global: Ratio, thin: bool) -> Option<Figures> {
        Some(Figures {
            total: self.total.gb()?,
            free: self.free?.gb()?,
            provisioned: self.provisioned_gb,
            thin_support: self.thin_support,
            ratio: self.ratio(global),
            reserved_percentage: self.reserved_percentage,
            thin,
        })
    }

    /// What `stats.NAME` means in an expression, and `$NAME` in a query.
    pub(super) fn stats(&self) -> Map<String, Value> {
        let reported = |name: &str| self.capabilities.get(name).cloned().unwrap_or(Value::Null);
        let mut stats = Map::new();
        stats.insert("host".into(), Value::from(self.host.as_str()));
        stats.insert("cluster_name".into(), self.cluster_name.clone().into());
        stats.insert("backend_id".into(), Value::from(self.id()));
        for name in ["volume_backend_name", "vendor_name", "driver_version", "storage_protocol"] {
            stats.insert(name.into(), reported(name));
        }
        let qos = self.capabilities.get("QoS_support").cloned().unwrap_or(Value::Bool(false));
        stats.insert("QoS_support".into(), qos);
        stats.insert("total_capacity_gb".into(), self.total.value());
        stats.insert("allocated_capacity_gb".into(), self.allocated_gb.into());
        stats.insert("free_capacity_gb".into(), self.free.map_or(Value::Null, Space::value));
        stats.insert("reserved_percentage".into(), self.reserved_percentage.into());
        stats.insert("updated".into(), self.updated.clone().into());
        stats
    }
}

/// `host@backend` of `host@backend#pool`.
pub(super) fn without_pool(name: &str) -> &str {
    name.split_once('#').map_or(name, |(backend, _)| backend)
}

/// `host` of `host@backend#pool`.
pub(super) fn host_part(name: &str) -> &str {
    let backend = without_pool(name);
    backend.split_once('@').map_or(backend, |(host, _)| host)
}

/// Whether a pool is one that `GET /scheduler-stats/get_pools` asks for by capability: a boolean by any word for it, anything
/// else by its text.
pub fn has_capability(capabilities: &Map<String, Value>, name: &str, wanted: &str) -> bool {
    match capabilities.get(name) {
        None | Some(Value::Null) => false,
        Some(Value::Bool(yes)) => *yes == super::spec::lenient_bool(&Value::from(wanted)),
        Some(Value::String(text)) => text == wanted,
        Some(other) => python_text(other) == wanted,
    }
}

/// A value as Python prints it.
fn python_text(value: &Value) -> String {
    let quoted = |value: &Value| match value {
        Value::String(text) => format!("'{text}'"),
        other => python_text(other),
    };
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(quoted).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("'{name}': {}", quoted(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}
