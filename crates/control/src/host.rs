//! Hosts as operators see them: the deprecated `/os-hosts`, what a backend can do, and keeping one as it is (freeze).

use std::collections::BTreeMap;

pub use db::host::Share;
use model::Service;
use model::service::PoolReport;
use serde_json::{Map, Value};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::policy::{Action, Target};
use crate::service::VOLUME;

/// Volume services, named by a host or a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backends {
    /// `host@backend`, or a host with one backend.
    Host(String),
    Cluster(String),
}

/// Whether a backend may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frozen {
    Freeze,
    Thaw,
}

impl Cloud {
    /// `GET /os-hosts`: services that take work, of one zone if it is named.
    ///
    /// # Errors
    /// Forbidden.
    pub async fn host_list(&self, context: &Context, zone: Option<&str>) -> Result<Vec<Service>> {
        self.policy.require(Action::Hosts, context, &Target::own(context))?;
        let mut services = self.all_services().await?;
        services.retain(|service| {
            !service.disabled && zone.is_none_or(|zone| service.availability_zone.as_deref() == Some(zone))
        });
        Ok(services)
    }

    /// `GET /os-hosts/{host}`: what each project has on a backend that takes work.
    ///
    /// # Errors
    /// Forbidden, or no such volume service.
    pub async fn host_show(&self, context: &Context, host: &str) -> Result<BTreeMap<String, Share>> {
        self.policy.require(Action::Hosts, context, &Target::own(context))?;
        let services = self.all_services().await?;
        let takes_work =
            |service: &&Service| service.binary == VOLUME && service.host == host && !service.disabled;
        if !services.iter().any(|service| takes_work(&service)) {
            return Err(Error::Missing(format!("Service {VOLUME} could not be found on host {host}.")));
        }
        Ok(db::host::shares(&mut self.db.read(), host).await?)
    }

    /// `GET /capabilities/{host}`: the queue of the first backend of that name, and what it last reported.
    ///
    /// # Errors
    /// Forbidden, or no such volume service.
    pub async fn capabilities(&self, context: &Context, host: &str) -> Result<PoolReport> {
        self.policy.require(Action::CapabilitiesShow, context, &Target::own(context))?;
        let services = self.all_services().await?;
        let named = |service: &Service| {
            service.binary == VOLUME
                && (is_on(&service.host, host) || service.cluster_name.as_deref() == Some(host))
        };
        let found = services.iter().find(|service| named(service));
        let service = found.ok_or_else(|| Error::Missing(format!("Can't find service: {host}")))?;
        let pools = db::pool::list(&mut self.db.read()).await?;
        let stats = pools.into_iter().find(|pool| pool.service_host == service.host).map(|pool| pool.stats);
        let capabilities = match stats {
            Some(Value::Object(stats)) => stats,
            _ => Map::new(),
        };
        let name = service.cluster_name.clone().unwrap_or_else(|| service.host.clone());
        Ok(PoolReport { name, capabilities })
    }

    /// `PUT /os-services/freeze` and `thaw`: a frozen backend takes no new volumes, and what is on it is neither deleted nor
    /// snapshotted.
    ///
    /// # Errors
    /// Forbidden, no such backend, or it is so already.
    pub async fn backend_freeze(&self, context: &Context, which: &Backends, to: Frozen) -> Result<()> {
        self.policy.require(Action::ServiceUpdate, context, &Target::own(context))?;
        let action = match to {
            Frozen::Freeze => Action::HostFreeze,
            Frozen::Thaw => Action::HostThaw,
        };
        self.policy.require(action, context, &Target::own(context))?;
        let hosts = self.backends(which).await?;
        let frozen = to == Frozen::Freeze;
        let mut tx = self.db.begin().await?;
        let mut changed = false;
        for host in &hosts {
            changed |= db::service::freeze(&mut tx, host, frozen).await?;
        }
        if !changed {
            let expected = if frozen { "False" } else { "True" };
            return Err(not_changed("frozen", &hosts, expected, ""));
        }
        Ok(self.commit(tx).await?)
    }

    /// `PUT /os-services/failover_host` and `failover`. No backend of ours replicates: each is refused for that, as by Cinder.
    ///
    /// # Errors
    /// Forbidden, no such backend, or it does not replicate.
    pub async fn backend_fail_over(&self, context: &Context, which: &Backends) -> Result<()> {
        self.policy.require(Action::ServiceUpdate, context, &Target::own(context))?;
        self.policy.require(Action::HostFailover, context, &Target::own(context))?;
        let hosts = self.backends(which).await?;
        Err(not_changed("replication_status", &hosts, "enabled or failed-over", "and must be up "))
    }

    /// The hosts of volume services, all of one backend.
    async fn backends(&self, which: &Backends) -> Result<Vec<String>> {
        let services = self.all_services().await?;
        let named = services.iter().filter(|service| {
            service.binary == VOLUME
                && match which {
                    Backends::Host(host) => is_on(&service.host, host),
                    Backends::Cluster(name) => service.cluster_name.as_deref() == Some(name),
                }
        });
        let hosts: Vec<String> = named.map(|service| service.host.clone()).collect();
        match (which, hosts.as_slice()) {
            (Backends::Host(host), []) => Err(Error::Invalid(format!("No service found with host={host}"))),
            (Backends::Cluster(name), []) => {
                Err(Error::Invalid(format!("No service found with cluster={name}")))
            }
            (Backends::Host(_), [first, rest @ ..]) if rest.iter().any(|host| host != first) => {
                Err(Error::Invalid("Services from different clusters found.".into()))
            }
            _ => Ok(hosts),
        }
    }
}

/// Whether a service's host is the one named, or a backend of it.
fn is_on(service_host: &str, named: &str) -> bool {
    service_host.strip_prefix(named).is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
}

fn not_changed(field: &str, hosts: &[String], expected: &str, up: &str) -> Error {
    let hosts = hosts.iter().map(|host| format!("'{host}'")).collect::<Vec<_>>().join(", ");
    Error::InvalidInput(format!(
        "No service could be changed: {field} in [{hosts}] must be {expected} {up}to failover."
    ))
}
