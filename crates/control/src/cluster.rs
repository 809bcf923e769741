//! Clusters as operators see and switch them.

use model::cluster::Cluster;

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::policy::{Action, Target};
use crate::request::ServiceSwitch;

/// A cluster to be found by name and binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterName {
    pub name: String,
    /// `cinder-volume`, ...
    pub binary: String,
}

impl Cloud {
    /// `GET /clusters`.
    ///
    /// # Errors
    /// Forbidden.
    pub async fn cluster_list(&self, context: &Context) -> Result<Vec<Cluster>> {
        self.policy.require(Action::ClusterList, context, &Target::own(context))?;
        self.clusters().await
    }

    /// `GET /clusters/{name}`.
    ///
    /// # Errors
    /// Forbidden, or not there.
    pub async fn cluster_show(&self, context: &Context, which: &ClusterName) -> Result<Cluster> {
        self.policy.require(Action::ClusterShow, context, &Target::own(context))?;
        self.cluster(which).await
    }

    /// `PUT /clusters/enable` and `disable`.
    ///
    /// # Errors
    /// Forbidden, or not there.
    pub async fn cluster_switch(
        &self,
        context: &Context,
        which: &ClusterName,
        to: &ServiceSwitch,
    ) -> Result<Cluster> {
        self.policy.require(Action::ClusterUpdate, context, &Target::own(context))?;
        let (disabled, reason) = match to {
            ServiceSwitch::Enable => (false, None),
            ServiceSwitch::Disable(reason) => (true, reason.as_deref()),
        };
        let mut tx = self.db.begin().await?;
        if !db::cluster::switch(&mut tx, &which.name, &which.binary, disabled, reason).await? {
            return Err(missing(which));
        }
        self.commit(tx).await?;
        self.cluster(which).await
    }

    async fn cluster(&self, which: &ClusterName) -> Result<Cluster> {
        let found = self.clusters().await?.into_iter();
        let mut found = found.filter(|one| one.name == which.name && one.binary == which.binary);
        found.next().ok_or_else(|| missing(which))
    }

    async fn clusters(&self) -> Result<Vec<Cluster>> {
        let mut clusters = db::cluster::list(&mut self.db.read()).await?;
        for service in self.all_services().await? {
            let own = clusters.iter_mut().filter(|cluster| {
                service.cluster_name.as_ref() == Some(&cluster.name) && service.binary == cluster.binary
            });
            for cluster in own {
                cluster.hosts += 1;
                cluster.down_hosts += u64::from(!service.up);
                cluster.last_heartbeat = cluster.last_heartbeat.max(service.updated_at);
            }
        }
        Ok(clusters)
    }
}

/// Cinder names what it looked for as Python would show it.
fn missing(which: &ClusterName) -> Error {
    Error::Missing(format!(
        "Cluster {{'binary': '{}', 'name': '{}'}} could not be found.",
        which.binary, which.name
    ))
}
