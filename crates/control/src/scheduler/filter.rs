//! Filters: which pools are out of the question, each with the reason.

use serde_json::{Map, Value};

use super::capacity::{Space, factors, truth};
use super::expression::{Variables, evaluate};
use super::pool::{PoolState, host_part};
use super::query;
use super::request::{Operation, Options, Request};
use super::spec;

/// What a filter says of a pool: nothing, or why not.
pub(super) type Judgement = Result<(), String>;

/// A filter, by the name that `scheduler_default_filters` knows it by.
#[derive(Debug)]
pub struct Filter {
    pub name: &'static str,
    pub(super) judge: fn(&PoolState, &Request, &Options) -> Judgement,
}

/// All filters.
#[rustfmt::skip] // a table reads best as a table
pub const FILTERS: &[Filter] = &[
    Filter { name: "AvailabilityZoneFilter",     judge: availability_zone },
    Filter { name: "CapacityFilter",             judge: capacity },
    Filter { name: "CapabilitiesFilter",         judge: capabilities },
    Filter { name: "DriverFilter",               judge: driver },
    Filter { name: "IgnoreAttemptedHostsFilter", judge: not_attempted },
    Filter { name: "SameBackendFilter",          judge: same_backend },
    Filter { name: "DifferentBackendFilter",     judge: different_backend },
    Filter { name: "InstanceLocalityFilter",     judge: instance_locality },
    Filter { name: "JsonFilter",                 judge: json },
];

/// `Ok` if `passes`, else the reason.
fn unless(passes: bool, reason: impl FnOnce() -> String) -> Judgement {
    if passes { Ok(()) } else { Err(reason()) }
}

/// The service must be able to take work; this is asked before any filter.
pub(super) fn service(pool: &PoolState) -> Judgement {
    unless(pool.service.up, || "its service is down".into())?;
    unless(!pool.service.disabled, || "its service is disabled".into())?;
    unless(!pool.service.frozen, || "its backend is frozen".into())
}

fn availability_zone(pool: &PoolState, request: &Request, _: &Options) -> Judgement {
    let zone = pool.availability_zone.as_deref().unwrap_or_default();
    if !request.availability_zones.is_empty() {
        return unless(request.availability_zones.iter().any(|wanted| wanted == zone), || {
            format!("it is in zone {zone:?}, none of {:?}", request.availability_zones)
        });
    }
    match request.availability_zone.as_deref().filter(|wanted| !wanted.is_empty()) {
        Some(wanted) => unless(wanted == zone, || format!("it is in zone {zone:?}, not in {wanted:?}")),
        None => Ok(()),
    }
}

fn capacity(pool: &PoolState, request: &Request, options: &Options) -> Judgement {
    if request.exists_on.as_deref() == Some(pool.id()) {
        return Ok(());
    }
    let needed = request.needed_gb();
    if needed == 0.0 {
        return Ok(());
    }
    let Some(free) = pool.free else { return Err("it has not reported its free capacity".into()) };
    if matches!(free, Space::Infinite | Space::Unknown) {
        return Ok(());
    }
    let Space::Gb(total) = pool.total else {
        return unless(pool.reserved_percentage == 0.0, || {
            "it reserves a share of a total capacity that it does not tell".into()
        });
    };
    unless(total > 0.0, || "its total capacity is 0".into())?;
    let Some(figures) = pool.figures(options.over_subscription, request.thin()) else {
        return Err("it has not reported its capacity".into());
    };
    let factors = factors(figures);
    let ratio = figures.ratio;
    if figures.thin && figures.thin_support {
        unless(ratio >= 1.0, || format!("its over-subscription ratio {ratio} is less than 1"))?;
        let provisioned = (pool.provisioned_gb + needed) / factors.total_available_capacity;
        // Not a number and infinite when nothing is available at all.
        unless(provisioned <= ratio, || {
            format!(
                "with {needed} GiB more it would be over-subscribed {provisioned:.2} times, of at most {ratio}"
            )
        })?;
    }
    let available = factors.virtual_free_capacity;
    unless(available >= needed, || format!("it has room for {available} GiB, of {needed} needed"))
}

fn capabilities(pool: &PoolState, request: &Request, _: &Options) -> Judgement {
    let no_online_extend = pool.capabilities.get("online_extend_support") == Some(&Value::Bool(false));
    unless(!(request.operation == Operation::ExtendVolume && request.attached && no_online_extend), || {
        "it cannot extend an attached volume".into()
    })?;
    for (key, required) in &request.extra_specs {
        let mut path: Vec<&str> = key.split(':').collect();
        if path[0] == "capabilities" {
            path.remove(0);
        } else if path.len() > 1 {
            // Another scope: a driver's own business.
            continue;
        }
        let Some(capability) = find(&pool.capabilities, &path) else {
            return Err(format!("it has no capability {}", path.join(":")));
        };
        let met = match capability {
            Value::Array(values) => values.iter().any(|value| spec::matches(value, required)),
            value => spec::matches(value, required),
        };
        unless(met, || format!("its capability {key} is {capability}, required is {required:?}"))?;
    }
    Ok(())
}

/// A capability by its path through nested objects. The empty path is no capability.
fn find<'a>(capabilities: &'a Map<String, Value>, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(capabilities.get(*first)?, |value, name| value.as_object()?.get(*name))
}

/// Runs one of a pool's functions, once for each spelling of its protocol if the function looks at it.
pub(super) fn run_function(
    pool: &PoolState,
    request: &Request,
    function: &str,
    stats: Map<String, Value>,
) -> Vec<Result<super::expression::Datum, String>> {
    let mut variables = Variables {
        stats,
        capabilities: pool.capabilities.clone(),
        volume: request.volume.clone(),
        extra: request.extra_specs.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect(),
        qos: request.qos_specs.clone(),
    };
    match pool.capabilities.get("storage_protocol") {
        Some(Value::Array(protocols)) if function.contains("storage_protocol") => protocols
            .iter()
            .map(|protocol| {
                variables.stats.insert("storage_protocol".into(), protocol.clone());
                variables.capabilities.insert("storage_protocol".into(), protocol.clone());
                evaluate(function, &variables)
            })
            .collect(),
        _ => vec![evaluate(function, &variables)],
    }
}

/// A function that a pool reports, as text.
pub(super) fn function(pool: &PoolState, name: &str) -> Option<String> {
    match pool.capabilities.get(name)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(yes) => Some(if *yes { "True" } else { "False" }.to_owned()),
        other => Some(other.to_string()),
    }
}

fn driver(pool: &PoolState, request: &Request, _: &Options) -> Judgement {
    let Some(function) = function(pool, "filter_function") else { return Ok(()) };
    let results = run_function(pool, request, &function, pool.stats());
    if results.iter().any(|result| result.as_ref().is_ok_and(super::expression::Datum::is_true)) {
        return Ok(());
    }
    match results.into_iter().find_map(Result::err) {
        Some(problem) => Err(format!("its filter function {function:?} fails: {problem}")),
        None => Err(format!("its filter function {function:?} says no")),
    }
}

fn not_attempted(pool: &PoolState, request: &Request, _: &Options) -> Judgement {
    unless(!request.attempted.iter().any(|attempted| attempted == pool.id()), || "it was tried before".into())
}

/// The volumes of a hint: one id or a list of ids.
fn volumes<'a>(request: &'a Request, hint: &str) -> Result<Vec<&'a str>, String> {
    let ids = match request.hints.get(hint) {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) => items.iter().map(Value::as_str).collect(),
        Some(single) => vec![single.as_str()],
    };
    ids.into_iter()
        .map(|id| id.filter(|id| uuid::Uuid::parse_str(id).is_ok()))
        .collect::<Option<Vec<&str>>>()
        .ok_or_else(|| format!("the hint {hint} names something that is no volume's id"))
}

/// Whether one of the volumes is on this pool.
fn holds(pool: &PoolState, request: &Request, volumes: &[&str]) -> bool {
    volumes.iter().filter_map(|id| request.places.get(*id)).any(|place| match &pool.cluster_name {
        Some(cluster) => place.cluster_name.as_ref() == Some(cluster),
        None => place.host == pool.host,
    })
}

fn same_backend(pool: &PoolState, request: &Request, _: &Options) -> Judgement {
    let volumes = volumes(request, "same_host")?;
    unless(volumes.is_empty() || holds(pool, request, &volumes), || {
        format!("it has none of the volumes {volumes:?}")
    })
}

fn different_backend(pool: &PoolState, request: &Request, _: &Options) -> Judgement {
    let volumes = volumes(request, "different_host")?;
    unless(!holds(pool, request, &volumes), || format!("it has one of the volumes {volumes:?}"))
}

fn instance_locality(pool: &PoolState, request: &Request, _: &Options) -> Judgement {
    let Some(hint) = request.hints.get("local_to_instance").filter(|hint| truth(hint)) else { return Ok(()) };
    let Some(host) = hint.as_str().and_then(|server| request.instance_hosts.get(server)) else {
        return Err(format!("the host of server {hint} is not known"));
    };
    unless(host_part(pool.id()) == host, || format!("server {hint} is on host {host:?}"))
}

fn json(pool: &PoolState, request: &Request, options: &Options) -> Judgement {
    let Some(hint) = request.hints.get("query").filter(|hint| truth(hint)) else { return Ok(()) };
    unless(query::passes(hint, pool, options)?, || format!("the query {hint} says no"))
}
