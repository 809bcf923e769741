//! Services: running roles as operators see them.

use crate::{ServiceId, Time};

/// A row of `services` with what follows from its heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub id: ServiceId,
    /// `host` or `host@backend`.
    pub host: String,
    /// `cinder-volume`, `cinder-scheduler`, `cinder-backup`.
    pub binary: String,
    pub availability_zone: Option<String>,
    pub cluster_name: Option<String>,
    pub disabled: bool,
    pub disabled_reason: Option<String>,
    /// Whether its heartbeat is younger than `service_down_time`.
    pub up: bool,
    /// Whether its backend last reported to be up; `None`: nothing is known (volume services only).
    pub backend_up: Option<bool>,
    pub replication_status: Option<String>,
    pub active_backend_id: Option<String>,
    pub frozen: bool,
    pub created_at: Option<Time>,
    /// The later of heartbeat and change.
    pub updated_at: Option<Time>,
}

/// A zone and whether any of its volume services is enabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvailabilityZone {
    pub name: String,
    pub available: bool,
}

/// A pool and what its backend reported of it.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolReport {
    /// `host@backend#pool`.
    pub name: String,
    /// Cinder's capability names.
    pub capabilities: serde_json::Map<String, serde_json::Value>,
}
