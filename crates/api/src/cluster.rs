//! Clusters of services.

use control::Error;
use control::cluster::ClusterName;
use control::request::ServiceSwitch;
use model::cluster::Cluster;
use serde_json::{Value, json};
use wire::microversion::Resource;
use wire::read::Read;
use wire::{Object, cluster as shape, wrap};

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::fault::Fault;

/// The binary of a cluster for which none is named.
const VOLUME: &str = "cinder-volume";
/// What clusters may be filtered by from the start.
const FILTERS: [&str; 6] = ["name", "binary", "is_up", "disabled", "num_hosts", "num_down_hosts"];
/// What they may be filtered by since they replicate.
const LATER_FILTERS: [&str; 3] = ["replication_status", "frozen", "active_backend_id"];

/// `GET /clusters`.
pub async fn list(call: Call) -> Outcome {
    listed(&call, shape::summary).await
}

/// `GET /clusters/detail`.
pub async fn list_detail(call: Call) -> Outcome {
    listed(&call, shape::detail).await
}

async fn listed(call: &Call, shape: fn(&Cluster) -> Object) -> Outcome {
    let clusters = call.edge.cloud.cluster_list(&call.context).await?;
    let keys = call.query.pairs().iter().map(|(key, _)| key.as_str());
    let known = |key: &str| {
        let later = LATER_FILTERS.contains(&key) && call.version.takes(Resource::Cluster, key);
        FILTERS.contains(&key) || later
    };
    let unknown: Vec<&str> = keys.filter(|key| !known(key)).collect();
    if !unknown.is_empty() {
        return Err(Error::InvalidInput(format!("Invalid filter keys: {}", unknown.join(", "))).into());
    }
    let mut shown = Vec::new();
    for cluster in &clusters {
        if fits(call, cluster)? {
            shown.push(Value::Object(call.lower(Resource::Cluster, shape(cluster))));
        }
    }
    Ok(Answer::json(json!({"clusters": shown})))
}

fn fits(call: &Call, cluster: &Cluster) -> Result<bool, Fault> {
    let detail = shape::detail(cluster);
    for (key, wanted) in call.query.pairs() {
        let fits = match key.as_str() {
            "is_up" => call.query.flag(key)? == cluster.is_up(),
            "disabled" => call.query.flag(key)? == cluster.disabled,
            "frozen" => call.query.flag(key)? == cluster.frozen,
            key => detail.get(key).is_some_and(|value| crate::schema::repr::display(value) == *wanted),
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `GET /clusters/{id}`.
pub async fn show(call: Call) -> Outcome {
    let which = ClusterName { name: call.param("id").to_owned(), binary: VOLUME.into() };
    let cluster = call.edge.cloud.cluster_show(&call.context, &which).await?;
    Ok(Answer::json(wrap("cluster", call.lower(Resource::Cluster, shape::detail(&cluster)))))
}

/// `PUT /clusters/enable`.
pub async fn enable(call: Call) -> Outcome {
    switched(&call, &ServiceSwitch::Enable).await
}

/// `PUT /clusters/disable`.
pub async fn disable(call: Call) -> Outcome {
    let reason = call.whole().trimmed("disabled_reason").filter(|reason| !reason.is_empty());
    switched(&call, &ServiceSwitch::Disable(reason)).await
}

async fn switched(call: &Call, to: &ServiceSwitch) -> Outcome {
    let text = |key: &str| call.whole().text(key);
    let binary = text("binary").filter(|binary| !binary.is_empty()).unwrap_or_else(|| VOLUME.into());
    let which = ClusterName { name: text("name").unwrap_or_default(), binary };
    let cluster = call.edge.cloud.cluster_switch(&call.context, &which, to).await?;
    let mut shape = call.lower(Resource::Cluster, shape::summary(&cluster));
    shape.insert("disabled_reason".into(), cluster.disabled_reason.into());
    Ok(Answer::json(wrap("cluster", shape)))
}
