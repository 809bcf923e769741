//! What this process can reach itself: its backends' drivers, its target, its backup store. Steps run on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use drivers::SharedDriver;
use model::{GiB, PoolRef, ServiceId, VolumeId};

use crate::engine::Failure;
use crate::target::TargetRole;

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
    /// Where this process serves volumes.
    pub target: Option<Arc<TargetRole>>,
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

    /// Says that a volume which may be open here has another size now, so that whoever serves it tells its initiators. Does nothing
    /// where nobody serves it; may be said any number of times.
    ///
    /// # Errors
    /// The target could not be told; worth repeating.
    pub async fn capacity_changed(&self, volume: VolumeId, size: GiB) -> Result<(), Failure> {
        match &self.target {
            Some(target) => target.capacity_changed(volume, size),
            None => Ok(()),
        }
    }
}
