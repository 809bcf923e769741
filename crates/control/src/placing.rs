//! Choosing where a volume goes: what the scheduler's rules say of the pools there are, and the promise of capacity on the
//! chosen one, one winner at a time (I6).

use std::collections::HashSet;

use db::Tx;
use model::{GiB, PoolRef, Volume};
use serde_json::{Map, Value, json};

use crate::cloud::Cloud;
use crate::engine::Failure;
use crate::message::Detail;

/// What is to be placed.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub volume: &'a Volume,
    pub size: GiB,
    /// Zones it may be in; empty: any.
    pub zones: &'a [String],
    /// The pool whose backend it must share.
    pub beside: Option<&'a PoolRef>,
    pub hints: &'a Map<String, Value>,
}

/// Where it goes, and why.
#[derive(Debug)]
pub struct Chosen {
    pub pool: PoolRef,
    pub zone: String,
    pub decision: Value,
}

/// Chooses and promises, in `tx`.
///
/// # Errors
/// Permanent when nothing fits; worth repeating when another choice came in between.
pub async fn choose(cloud: &Cloud, tx: &mut Tx, wanted: &Wanted<'_>) -> Result<Chosen, Failure> {
    let down_us = cloud.settings.service_down.as_micros() as i64;
    let services = db::service::list(tx, down_us).await?;
    let usable: HashSet<&str> = services
        .iter()
        .filter(|service| {
            service.binary == "cinder-volume" && service.up && !service.disabled && !service.frozen
        })
        .map(|service| service.host.as_str())
        .collect();
    let pools = db::pool::list(tx).await?;
    let mut best = None;
    for pool in pools.iter().filter(|pool| usable.contains(pool.service_host.as_str())) {
        let reference: PoolRef = pool.name.parse().unwrap_or_else(|never| match never {});
        let beside = wanted.beside.is_none_or(|beside| beside.service_host() == pool.service_host);
        if beside && best.as_ref().is_none_or(|(_, _, least)| pool.allocated_gb < *least) {
            best = Some((reference, pool, pool.allocated_gb));
        }
    }
    let (reference, pool, _) =
        best.ok_or_else(|| Failure::permanent("no backend can take the volume").telling(Detail::NoBackend))?;
    if !db::pool::promise(tx, &pool.name, pool.version, i64::from(wanted.size.0)).await? {
        return Err(Failure::again("the pool changed while it was being chosen"));
    }
    let zone = services
        .iter()
        .find(|service| service.host == pool.service_host)
        .and_then(|service| service.availability_zone.clone())
        .unwrap_or_else(|| cloud.settings.zone.clone());
    Ok(Chosen { zone, decision: json!({ "pool": pool.name }), pool: reference })
}
