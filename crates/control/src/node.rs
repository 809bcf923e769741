//! What this process can reach itself: its backends' drivers, its target, its backup store. Steps run on it.

use std::collections::BTreeMap;

use drivers::SharedDriver;
use model::{PoolRef, ServiceId};

use crate::engine::Failure;

/// A process's hands.
#[derive(Debug, Default)]
pub struct Node {
    /// The host part of service names.
    pub host: String,
    /// Drivers by `host@backend`.
    pub backends: BTreeMap<String, SharedDriver>,
    /// The rows in `services` of those backends.
    pub services: BTreeMap<String, ServiceId>,
    /// What the backup role has, where it runs.
    pub backup: Option<crate::backup::Keeper>,
}

impl Node {
    /// The driver of the backend that a pool belongs to.
    ///
    /// # Errors
    /// It is not one of this process.
    pub fn driver(&self, pool: &PoolRef) -> Result<&SharedDriver, Failure> {
        let host = pool.service_host();
        self.backends
            .get(&host)
            .ok_or_else(|| Failure::again(format!("this process does not run the backend {host}")))
    }
}
