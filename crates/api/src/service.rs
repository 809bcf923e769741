//! What operators watch: services, pools, zones.

use control::Error;
use control::policy::{Action, Target};
use control::request::{ServiceName, ServiceSwitch};
use serde_json::{Value, json};
use wire::microversion::{Behaviour, Resource};
use wire::read::Read;
use wire::{pool, service as shape};

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::fault::Fault;

/// `GET /os-services`.
pub async fn list(call: Call) -> Outcome {
    let services = call.edge.cloud.service_list(&call.context).await?;
    let binary = call.query.get("binary").filter(|text| !text.is_empty());
    let host = call.query.get("host").filter(|text| !text.is_empty());
    let lowering = call.version.lowering(Resource::Service);
    let shown = services.iter().filter(|service| {
        let at = service.host == host.unwrap_or_default()
            || host.is_some_and(|host| {
                service.host.strip_prefix(host).is_some_and(|rest| rest.starts_with('@'))
            });
        binary.is_none_or(|binary| service.binary == binary) && (host.is_none() || at)
    });
    let list: Vec<Value> = shown
        .map(|service| {
            let mut shape = shape::detail(service);
            lowering.apply(&mut shape);
            Value::Object(shape)
        })
        .collect();
    Ok(Answer::json(json!({"services": list})))
}

/// `PUT /os-services/disable-log-reason`: the answer shows the reason, even when there is none.
pub async fn disable_with_reason(call: Call) -> Outcome {
    let reason = call.whole().text("disabled_reason");
    let (host, service, binary) = switch(&call, &ServiceSwitch::Disable(reason.clone())).await?;
    let mut shape = shape::switched(&host, &service, &binary, true);
    shape.insert("disabled_reason".into(), reason.into());
    Ok(Answer::json(shape))
}

/// `PUT /os-services/enable`.
pub async fn enable(call: Call) -> Outcome {
    let (host, service, binary) = switch(&call, &ServiceSwitch::Enable).await?;
    Ok(Answer::json(shape::switched(&host, &service, &binary, false)))
}

/// `PUT /os-services/disable`.
pub async fn disable(call: Call) -> Outcome {
    let (host, service, binary) = switch(&call, &ServiceSwitch::Disable(None)).await?;
    Ok(Answer::json(shape::switched(&host, &service, &binary, true)))
}

/// Switches the service that the body names; gives its host, service and binary as they were sent.
async fn switch(call: &Call, to: &ServiceSwitch) -> Result<(String, String, String), Fault> {
    call.edge.cloud.policy.require(Action::ServiceUpdate, &call.context, &Target::own(&call.context))?;
    let text = |key: &str| call.whole().text(key).unwrap_or_default();
    let (host, service, binary) = (text("host"), text("service"), text("binary"));
    if host.is_empty() {
        return Err(Error::InvalidInput("Host field is missing.".into()).into());
    }
    // The old name of the parameter counts where the new one is not there.
    let name = if binary.is_empty() { &service } else { &binary };
    let name = ServiceName { host: host.clone(), binary: name.clone() };
    call.edge.cloud.service_switch(&call.context, &name, to).await?;
    Ok((host, service, binary))
}

/// `GET /os-availability-zone`.
pub async fn zones(call: Call) -> Outcome {
    let zones = call.edge.cloud.availability_zones().await?;
    Ok(Answer::json(json!({"availabilityZoneInfo": shape::zones(&zones)})))
}

/// `GET /scheduler-stats/get_pools`.
pub async fn pools(call: Call) -> Outcome {
    let detail = call.query.flag("detail")?;
    let mut query = call.query.clone();
    query.take("detail");
    if call.version.has(Behaviour::ConfiguredFilters) {
        call.check_filters("pool", &mut query)?;
    } else if !call.version.has(Behaviour::PoolFilters) {
        query.retain(|_| false);
    }
    let of_type = query.take("volume_type").filter(|_| call.version.takes(Resource::Pool, "volume_type"));
    let pools = call.edge.cloud.pool_list(&call.context, of_type.as_deref()).await?;
    let fits = |name: &str, capabilities: &wire::Object| {
        query.pairs().iter().all(|(key, wanted)| match key.as_str() {
            "name" => name == wanted,
            key => capabilities.get(key).is_some_and(|value| crate::schema::repr::display(value) == *wanted),
        })
    };
    let shown = pools.iter().filter(|one| fits(&one.name, &one.capabilities));
    let list: Vec<Value> = shown.map(|one| Value::Object(pool::shape(one, detail))).collect();
    Ok(Answer::json(json!({"pools": list})))
}
