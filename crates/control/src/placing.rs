//! Choosing where a volume goes: what the scheduler says of the pools there are, and the promise of capacity on the chosen one,
//! one winner at a time (I6).

use std::collections::HashMap;

use db::{Read, Tx};
use model::{GiB, PoolRef, Volume, VolumeType};
use serde_json::{Map, Value, json};

use crate::cloud::Cloud;
use crate::engine::Failure;
use crate::message::Detail;
use crate::scheduler::{self, Operation, Place, PoolState, Request, ServiceState};
use crate::service;

/// What is to be placed.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub volume: &'a Volume,
    pub kind: &'a VolumeType,
    pub operation: Operation,
    /// For a volume that grows.
    pub new_size: Option<GiB>,
    /// Zones it may be in; empty: any.
    pub zones: &'a [String],
    /// The backend or pool it must be on.
    pub bound_to: Option<String>,
    pub hints: &'a Map<String, Value>,
    /// Pools on which it was tried before.
    pub tried: &'a [String],
}

/// Where it goes, and why.
#[derive(Debug)]
pub struct Chosen {
    pub pool: PoolRef,
    pub zone: String,
    /// The scheduler's whole reasoning.
    pub decision: Value,
}

/// Chooses and promises, in `tx`.
///
/// # Errors
/// Permanent, with the decision, when nothing fits; worth repeating when another choice came in between.
pub async fn choose(cloud: &Cloud, tx: &mut Tx, wanted: &Wanted<'_>) -> Result<Chosen, Failure> {
    let (pools, versions) = pools(cloud, tx).await?;
    let request = request(tx, wanted).await?;
    let decision = scheduler::pick(&pools, &request, &cloud.scheduler);
    promised(cloud, tx, wanted, (&pools, &versions), decision).await
}

/// As [`choose`], for a volume that gets the type of `wanted`: where it is if the type allows that, else elsewhere if it may move.
/// Nothing more is promised where it is.
///
/// # Errors
/// As [`choose`].
pub async fn choose_for_retype(
    cloud: &Cloud,
    tx: &mut Tx,
    wanted: &Wanted<'_>,
    current: &PoolRef,
    migration: scheduler::Migration,
) -> Result<Chosen, Failure> {
    let (pools, versions) = pools(cloud, tx).await?;
    let request = request(tx, wanted).await?;
    let current = current.to_string();
    let decision = scheduler::pick_for_retype(&pools, &request, &cloud.scheduler, &current, migration);
    if decision.chosen.as_ref() != Some(&current) {
        return promised(cloud, tx, wanted, (&pools, &versions), decision).await;
    }
    Ok(Chosen {
        pool: current.parse().unwrap_or_else(|never| match never {}),
        zone: wanted.volume.availability_zone.clone().unwrap_or_else(|| cloud.settings.zone.clone()),
        decision: serde_json::to_value(&decision).unwrap_or_default(),
    })
}

/// Promises what a decision needs; refuses in its words when it chose nothing.
async fn promised(
    cloud: &Cloud,
    tx: &mut Tx,
    wanted: &Wanted<'_>,
    (pools, versions): (&[PoolState], &HashMap<String, i64>),
    decision: scheduler::Decision,
) -> Result<Chosen, Failure> {
    let reasons = serde_json::to_value(&decision).unwrap_or_default();
    let Some(name) = decision.chosen else {
        let reason = decision.reason.unwrap_or_default();
        return Err(Failure {
            data: json!({ "decision": reasons }),
            ..Failure::permanent(format!("No valid backend was found. {reason}")).telling(Detail::NoBackend)
        });
    };
    let version = versions.get(&name).copied().unwrap_or_default();
    let promised = match wanted.new_size {
        Some(new_size) => {
            let gb = i64::from(new_size.0) - i64::from(wanted.volume.size.0);
            db::pool::promise_growth(tx, &name, version, gb).await?
        }
        None => db::pool::promise(tx, &name, version, i64::from(wanted.volume.size.0)).await?,
    };
    if !promised {
        return Err(Failure::again("the pool changed while it was being chosen"));
    }
    let zone = pools
        .iter()
        .find(|pool| pool.host == name)
        .and_then(|pool| pool.availability_zone.clone())
        .unwrap_or_else(|| cloud.settings.zone.clone());
    Ok(Chosen { zone, decision: reasons, pool: name.parse().unwrap_or_else(|never| match never {}) })
}

/// The names of the pools that volumes of a type may be on, room aside.
///
/// # Errors
/// The database is away.
pub async fn fitting(cloud: &Cloud, kind: &VolumeType) -> Result<Vec<String>, crate::Error> {
    let (pools, _) = pools(cloud, &mut cloud.db.read())
        .await
        .map_err(|failure| crate::Error::Internal(failure.message.into()))?;
    let request = Request { extra_specs: kind.extra_specs.clone(), attempt: 1, ..Request::default() };
    Ok(scheduler::pick(&pools, &request, &cloud.scheduler).ranked().map(str::to_owned).collect())
}

/// All pools as the scheduler sees them, and the versions that promises on them are made against.
pub async fn pools(
    cloud: &Cloud,
    from: &mut impl Read,
) -> Result<(Vec<PoolState>, HashMap<String, i64>), Failure> {
    let down_us = cloud.settings.service_down.as_micros() as i64;
    let services = db::service::list(from, down_us).await?;
    let counts = db::pool::volume_counts(from).await?;
    let mut states = Vec::new();
    let mut versions = HashMap::new();
    for pool in db::pool::list(from).await? {
        let Value::Object(stats) = pool.stats else { continue };
        let Some(service) =
            services.iter().find(|s| s.binary == service::VOLUME && s.host == pool.service_host)
        else {
            continue;
        };
        let mut state = PoolState::new(pool.name.clone(), stats);
        state.availability_zone = service.availability_zone.clone();
        state.service = ServiceState { up: service.up, disabled: service.disabled, frozen: service.frozen };
        state.volumes = counts.get(&pool.name).copied().unwrap_or(0);
        state.allocated_now((pool.allocated_gb + pool.promised_gb) as f64);
        versions.insert(pool.name, pool.version);
        states.push(state);
    }
    Ok((states, versions))
}

async fn request(from: &mut impl Read, wanted: &Wanted<'_>) -> Result<Request, Failure> {
    let volume = wanted.volume;
    let properties = json!({
        "size": volume.size.0,
        "availability_zone": volume.availability_zone,
        "display_name": volume.name,
        "display_description": volume.description,
        "volume_type_id": volume.type_id,
        "user_id": volume.user_id,
        "project_id": volume.project_id,
        "snapshot_id": volume.snapshot_id,
        "source_volid": volume.source_volid,
        "multiattach": volume.multiattach,
        "status": volume.status,
    });
    Ok(Request {
        operation: wanted.operation,
        resource_id: volume.id.to_string(),
        size: u64::from(volume.size.0),
        new_size: wanted.new_size.map(|size| u64::from(size.0)),
        availability_zones: wanted.zones.to_vec(),
        availability_zone: None,
        attached: !volume.attachments.is_empty(),
        extra_specs: wanted.kind.extra_specs.clone(),
        volume: properties.as_object().cloned().unwrap_or_default(),
        attempt: wanted.tried.len() as u32 + 1,
        attempted: wanted.tried.to_vec(),
        places: places(from, wanted.hints, volume).await?,
        hints: wanted.hints.clone(),
        bound_to: wanted.bound_to.clone(),
        seed: volume.id.0.as_u64_pair().0,
        ..Request::default()
    })
}

/// Where the volumes are that the hints name and that the volume's owner may know of.
async fn places(
    from: &mut impl Read,
    hints: &Map<String, Value>,
    volume: &Volume,
) -> Result<std::collections::BTreeMap<String, Place>, Failure> {
    let named =
        ["same_host", "different_host"].iter().filter_map(|hint| hints.get(*hint)).flat_map(
            |hint| match hint {
                Value::Array(ids) => ids.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                Value::String(id) => vec![id.clone()],
                _ => Vec::new(),
            },
        );
    let mut places = std::collections::BTreeMap::new();
    for id in named.take(MAX_HINTS) {
        let Ok(parsed) = id.parse() else { continue };
        let other =
            db::volume::get(from, parsed).await?.filter(|other| other.project_id == volume.project_id);
        if let Some(host) = other.as_ref().and_then(|other| other.host.as_ref()) {
            let cluster_name = other.as_ref().and_then(|other| other.cluster_name.clone());
            places.insert(id, Place { host: host.to_string(), cluster_name });
        }
    }
    Ok(places)
}

/// Volumes that hints may name in all.
const MAX_HINTS: usize = 100;
