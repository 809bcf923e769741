//! Hosts and backends as operators see and switch them: `/os-hosts`, capabilities, freezing, failing over, log levels.

use std::collections::BTreeMap;
use std::fmt::Debug;

use control::Error;
use control::host::{Backends, Frozen, Share};
use control::policy::{Action, Target};
use control::request::{ServiceName, ServiceSwitch};
use serde_json::{Value, json};
use wire::Object;
use wire::host::{self as shape, Holding, TOTAL};
use wire::microversion::Behaviour;
use wire::read::Read;

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::fault::Fault;

/// The log levels of this process, by the names that log lines carry.
pub trait LogLevels: Debug + Send + Sync {
    /// The levels of names that begin with `prefix`.
    fn levels(&self, prefix: &str) -> BTreeMap<String, LogLevel>;
    /// Changes the level of names that begin with `prefix`.
    fn set(&self, prefix: &str, level: LogLevel);
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warning,
    Info,
    Debug,
}

impl LogLevel {
    fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "critical" | "error" => Self::Error,
            "warning" => Self::Warning,
            "info" => Self::Info,
            "debug" => Self::Debug,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
        }
    }
}

/// `GET /os-hosts`.
pub async fn list(call: Call) -> Outcome {
    let zone = call.query.get("zone").filter(|zone| !zone.is_empty());
    let services = call.edge.cloud.host_list(&call.context, zone).await?;
    let hosts: Vec<Object> = services.iter().map(shape::summary).collect();
    Ok(Answer::json(json!({"hosts": hosts})))
}

/// `GET /os-hosts/{id}`.
pub async fn show(call: Call) -> Outcome {
    let host = call.param("id");
    let shares = call.edge.cloud.host_show(&call.context, host).await?;
    let holding = |share: &Share| Holding {
        volumes: share.volumes.count,
        volume_gigabytes: share.volumes.gigabytes,
        snapshots: share.snapshots.count,
        snapshot_gigabytes: share.snapshots.gigabytes,
    };
    let total = shares.values().map(holding).fold(Holding::default(), |sum, one| Holding {
        volumes: sum.volumes + one.volumes,
        volume_gigabytes: sum.volume_gigabytes + one.volume_gigabytes,
        snapshots: sum.snapshots + one.snapshots,
        snapshot_gigabytes: sum.snapshot_gigabytes + one.snapshot_gigabytes,
    });
    let mut lines = vec![shape::resource(host, TOTAL, total)];
    lines.extend(shares.iter().map(|(project, share)| shape::resource(host, project, holding(share))));
    Ok(Answer::json(json!({"host": lines})))
}

/// `PUT /os-hosts/{id}`: Cinder's release 29 never finishes it; this does what it announces.
pub async fn update(call: Call) -> Outcome {
    call.edge.cloud.policy.require(Action::Hosts, &call.context, &Target::own(&call.context))?;
    let mut to = None;
    for (key, value) in call.whole() {
        let text = value.as_str().unwrap_or_default();
        if key.trim().to_lowercase() != "status" {
            return Err(Fault::bad_request(format!("Invalid update setting: '{key}'")));
        }
        to = Some(match text.trim().to_lowercase().as_str() {
            "enable" => ServiceSwitch::Enable,
            "disable" => ServiceSwitch::Disable(None),
            _ => return Err(Fault::bad_request(format!("Invalid status: '{text}'"))),
        });
    }
    let host = call.param("id").to_owned();
    let Some(to) = to else { return Ok(Answer::json(json!({}))) };
    let name = ServiceName { host: host.clone(), binary: control::service::VOLUME.into() };
    let switched = call.edge.cloud.host_switch(&call.context, &name, &to).await;
    switched.map_err(|error| match error {
        Error::Missing(_) => Fault::not_found(format!("Host {host} could not be found.")),
        other => other.into(),
    })?;
    let status = if to == ServiceSwitch::Enable { "enabled" } else { "disabled" };
    Ok(Answer::json(json!({"host": host, "status": status})))
}

/// `GET /capabilities/{id}`.
pub async fn capabilities(call: Call) -> Outcome {
    let report = call.edge.cloud.capabilities(&call.context, call.param("id")).await?;
    Ok(Answer::json(shape::capabilities(&report)))
}

/// `PUT /os-services/freeze`.
pub async fn freeze(call: Call) -> Outcome {
    call.edge.cloud.backend_freeze(&call.context, &backends(&call)?, Frozen::Freeze).await?;
    Ok(Answer::none())
}

/// `PUT /os-services/thaw`.
pub async fn thaw(call: Call) -> Outcome {
    call.edge.cloud.backend_freeze(&call.context, &backends(&call)?, Frozen::Thaw).await?;
    Ok(Answer::none())
}

/// `PUT /os-services/failover_host`, and `failover`, which Cinder's releases 28 and 29 lost.
pub async fn fail_over(call: Call) -> Outcome {
    call.edge.cloud.backend_fail_over(&call.context, &backends(&call)?).await?;
    Ok(Answer::bare())
}

/// The host, or since clusters replicate the host or the cluster, that the body names.
fn backends(call: &Call) -> Result<Backends, Fault> {
    let named = |key: &str| call.whole().text(key).filter(|text| !text.is_empty());
    let both = call.version.has(Behaviour::ClusterReplication);
    match (named("host"), named("cluster").filter(|_| both)) {
        (Some(host), None) => Ok(Backends::Host(host)),
        (None, Some(cluster)) => Ok(Backends::Cluster(cluster)),
        _ if both => {
            Err(Error::InvalidInput("One and only one of cluster and host must be set.".into()).into())
        }
        _ => Err(Error::InvalidInput("Host field is missing.".into()).into()),
    }
}

/// `PUT /os-services/set-log`.
pub async fn set_log(call: Call) -> Outcome {
    let level = call.whole().text("level");
    let unknown = |text: &str| Error::InvalidInput(format!("{text} is not a valid log level."));
    let parsed = level.as_deref().map(|text| LogLevel::parse(text).ok_or_else(|| unknown(text)));
    let level = parsed.transpose()?.ok_or_else(|| unknown("None"))?;
    let here = here(&call).await?;
    if let (Some(logs), false) = (&call.edge.settings.logs, here.is_empty()) {
        logs.set(&call.whole().text("prefix").unwrap_or_default(), level);
    }
    Ok(Answer::bare())
}

/// `PUT /os-services/get-log`.
pub async fn get_log(call: Call) -> Outcome {
    let prefix = call.whole().text("prefix").unwrap_or_default();
    let levels = call.edge.settings.logs.as_ref().map(|logs| logs.levels(&prefix)).unwrap_or_default();
    let levels: Object = levels.into_iter().map(|(name, level)| (name, level.name().into())).collect();
    let here = here(&call).await?;
    let shown = here.iter().map(|name| json!({"host": name.host, "binary": name.binary, "levels": levels}));
    Ok(Answer::json(json!({"log_levels": shown.collect::<Vec<Value>>()})))
}

/// Which of the services that the body names are of this node: their log levels are this process's.
async fn here(call: &Call) -> Result<Vec<ServiceName>, Fault> {
    let cloud = &call.edge.cloud;
    cloud.policy.require(Action::ServiceUpdate, &call.context, &Target::own(&call.context))?;
    let binary = call.whole().text("binary").filter(|binary| !binary.is_empty() && binary != "*");
    let server = call.whole().text("server").filter(|server| !server.is_empty());
    let wanted = |name: &ServiceName| {
        let node = name.host.split('@').next().unwrap_or_default();
        node == cloud.settings.host
            && binary.as_ref().is_none_or(|binary| *binary == name.binary)
            && server.as_ref().is_none_or(|server| *server == name.host || server == node)
    };
    let own = ServiceName { host: cloud.settings.host.clone(), binary: "cinder-api".into() };
    let services = cloud.all_services().await?;
    let up = services.into_iter().filter(|service| service.up);
    let names = up.map(|service| ServiceName { host: service.host, binary: service.binary });
    Ok([own].into_iter().chain(names).filter(wanted).collect())
}
