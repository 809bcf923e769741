//! Services: heartbeats, reports of backends, zones, and what operators see and switch.

use std::collections::BTreeMap;

use model::Volume;
use model::service::{AvailabilityZone, PoolReport, Service};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::node::Node;
use crate::placing;
use crate::policy::{Action, Target};
use crate::request::{ServiceName, ServiceSwitch};

/// The binaries whose names Cinder gives its services.
pub const VOLUME: &str = "cinder-volume";
/// See [`VOLUME`].
pub const SCHEDULER: &str = "cinder-scheduler";
/// See [`VOLUME`].
pub const BACKUP: &str = "cinder-backup";

impl Cloud {
    /// All services with their state.
    ///
    /// # Errors
    /// The database is away.
    pub async fn all_services(&self) -> Result<Vec<Service>> {
        let down = self.settings.service_down.as_micros() as i64;
        Ok(db::service::list(&mut self.db.read(), down).await?)
    }

    /// `GET /os-services`.
    ///
    /// # Errors
    /// Forbidden.
    pub async fn service_list(&self, context: &Context) -> Result<Vec<Service>> {
        self.policy.require(Action::ServiceList, context, &Target::own(context))?;
        let mut services = self.all_services().await?;
        let pools = db::pool::list(&mut self.db.read()).await?;
        for service in services.iter_mut().filter(|service| service.binary == VOLUME) {
            // Cinder's word for a backend that does not replicate.
            service.replication_status.get_or_insert_with(|| "disabled".into());
            service.backend_up =
                Some(service.up && pools.iter().any(|pool| pool.service_host == service.host));
        }
        Ok(services)
    }

    /// `PUT /os-services/enable`, `disable`, `disable-log-reason`.
    ///
    /// # Errors
    /// Forbidden, or no such service.
    pub async fn service_switch(
        &self,
        context: &Context,
        name: &ServiceName,
        to: &ServiceSwitch,
    ) -> Result<()> {
        self.policy.require(Action::ServiceUpdate, context, &Target::own(context))?;
        self.switch(name, to).await
    }

    /// `PUT /os-hosts/{host}`: as [`service_switch`](Self::service_switch), under the rule of hosts.
    ///
    /// # Errors
    /// Forbidden, or no such service.
    pub async fn host_switch(&self, context: &Context, name: &ServiceName, to: &ServiceSwitch) -> Result<()> {
        self.policy.require(Action::Hosts, context, &Target::own(context))?;
        self.switch(name, to).await
    }

    async fn switch(&self, name: &ServiceName, to: &ServiceSwitch) -> Result<()> {
        let (disabled, reason) = match to {
            ServiceSwitch::Enable => (false, None),
            ServiceSwitch::Disable(reason) => (true, reason.as_deref()),
        };
        let mut tx = self.db.begin().await?;
        if !db::service::switch(&mut tx, &name.host, &name.binary, disabled, reason).await? {
            return Err(Error::Missing(format!(
                "Service {} could not be found on host {}.",
                name.binary, name.host
            )));
        }
        Ok(self.commit(tx).await?)
    }

    /// Refuses to change what is on a frozen backend.
    ///
    /// # Errors
    /// It is frozen, or the database is away.
    pub(crate) async fn check_not_frozen(&self, volume: &Volume) -> Result<()> {
        match &volume.host {
            Some(pool) => self.check_backend_not_frozen(&pool.service_host()).await,
            None => Ok(()),
        }
    }

    /// Refuses changes on a backend (`host@backend`) that is frozen.
    pub(crate) async fn check_backend_not_frozen(&self, host: &str) -> Result<()> {
        let services = self.all_services().await?;
        if services.iter().any(|service| service.binary == VOLUME && service.host == host && service.frozen) {
            let text = "Modification operations are not allowed on frozen storage backends.";
            return Err(Error::InvalidInput(text.into()));
        }
        Ok(())
    }

    /// The zones of the volume services; a zone is available if one of its services is enabled.
    ///
    /// # Errors
    /// The database is away.
    pub async fn availability_zones(&self) -> Result<Vec<AvailabilityZone>> {
        let mut zones: BTreeMap<String, bool> = BTreeMap::new();
        for service in self.all_services().await?.into_iter().filter(|service| service.binary == VOLUME) {
            let zone = service.availability_zone.unwrap_or_else(|| self.settings.zone.clone());
            *zones.entry(zone).or_default() |= !service.disabled;
        }
        Ok(zones.into_iter().map(|(name, available)| AvailabilityZone { name, available }).collect())
    }

    /// `GET /scheduler-stats/get_pools`: pools of services that are up; of a type (its name or id), those that pass the
    /// scheduler's filters for it.
    ///
    /// # Errors
    /// Forbidden, or no such type.
    pub async fn pool_list(&self, context: &Context, of_type: Option<&str>) -> Result<Vec<PoolReport>> {
        self.policy.require(Action::PoolList, context, &Target::own(context))?;
        let fitting = match of_type {
            Some(text) => {
                let kind = self.type_by_name_or_id(context, text).await?;
                Some(placing::fitting(self, &kind).await?)
            }
            None => None,
        };
        let services = self.all_services().await?;
        let pools = db::pool::list(&mut self.db.read()).await?;
        let up = |host: &str| services.iter().any(|service| service.up && service.host == host);
        Ok(pools
            .into_iter()
            .filter(|pool| up(&pool.service_host))
            .filter(|pool| fitting.as_ref().is_none_or(|names| names.contains(&pool.name)))
            .map(|pool| {
                let mut capabilities = match pool.stats {
                    Value::Object(stats) => stats,
                    _ => Map::new(),
                };
                capabilities.insert("allocated_capacity_gb".into(), pool.allocated_gb.into());
                PoolReport { name: pool.name, capabilities }
            })
            .collect())
    }

    /// Registers a role of this process.
    ///
    /// # Errors
    /// The database is away.
    pub async fn register(&self, binary: &str, host: &str, zone: &str) -> Result<model::ServiceId> {
        let new = db::service::NewService {
            host: host.to_owned(),
            binary: binary.to_owned(),
            topic: binary.to_owned(),
            availability_zone: zone.to_owned(),
            enabled: self.settings.enable_new_services,
        };
        Ok(db::service::register(&self.db, &new).await?)
    }

    /// Tells every `report_interval` that these services are alive, until stopped.
    pub async fn beat(self, services: Vec<model::ServiceId>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.settings.report_interval) => {}
            }
            for id in &services {
                if let Err(error) = db::service::beat(&self.db, *id).await {
                    tracing::warn!(%error, "telling that a service is alive");
                }
            }
        }
    }

    /// Reports what a backend has room for.
    ///
    /// # Errors
    /// The backend or the database does not answer.
    pub async fn report_stats(
        &self,
        node: &Node,
        service_host: &str,
    ) -> std::result::Result<(), crate::engine::Failure> {
        let Some(driver) = node.backends.get(service_host) else { return Ok(()) };
        let stats = driver.stats().await?;
        let backend = service_host.split_once('@').map_or(service_host, |(_, backend)| backend);
        let mut pools = Vec::new();
        for pool in &stats.pools {
            let mut report = serde_json::to_value(pool).unwrap_or_default();
            if let Some(fields) = report.as_object_mut() {
                fields.remove("pool_name");
                fields.insert("pool_name".into(), pool.pool_name.clone().into());
                fields.insert("volume_backend_name".into(), backend.into());
                fields.insert("vendor_name".into(), stats.vendor_name.clone().into());
                fields.insert("driver_version".into(), stats.driver_version.clone().into());
                fields.insert("storage_protocol".into(), stats.storage_protocol.clone().into());
                fields.insert("multiattach".into(), driver.capabilities().multiattach.into());
                fields.insert("online_extend_support".into(), driver.capabilities().extend_online.into());
                let groups = driver.capabilities().consistent_groups;
                fields.insert(model::group::CONSISTENT_SNAPSHOTS.into(), groups.into());
                fields.insert("reserved_percentage".into(), 0.into());
                fields.insert("backend_state".into(), "up".into());
                let now = chrono::Utc::now().naive_utc().format("%Y-%m-%dT%H:%M:%S%.6f").to_string();
                fields.insert("timestamp".into(), now.into());
            }
            pools.push((format!("{service_host}#{}", pool.pool_name), report));
        }
        db::pool::report(&self.db, service_host, &pools).await?;
        Ok(())
    }

    /// Reports every `backend_stats_polling_interval`, until stopped.
    pub async fn keep_reporting(self, node: std::sync::Arc<Node>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.settings.stats_interval) => {}
            }
            for host in node.backends.keys() {
                if let Err(error) = self.report_stats(&node, host).await {
                    tracing::warn!(backend = host, error = error.message, "reporting a backend");
                }
            }
        }
    }
}
