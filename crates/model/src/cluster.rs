//! Clusters: services on different hosts that share a backend.

use crate::Time;

/// A cluster with what follows from the services in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    pub name: String,
    /// `cinder-volume`, ...
    pub binary: String,
    pub disabled: bool,
    pub disabled_reason: Option<String>,
    pub replication_status: Option<String>,
    pub frozen: bool,
    pub active_backend_id: Option<String>,
    pub created_at: Option<Time>,
    pub updated_at: Option<Time>,
    /// The services in it, and how many of them are not up.
    pub hosts: u64,
    pub down_hosts: u64,
    pub last_heartbeat: Option<Time>,
}

impl Cluster {
    /// Whether any of its services is up.
    pub fn is_up(&self) -> bool {
        self.hosts > self.down_hosts
    }
}
