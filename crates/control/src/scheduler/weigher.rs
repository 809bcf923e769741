//! Weighers: which of the pools that pass is best.

use super::capacity::factors;
use super::chance::Chance;
use super::expression::Datum;
use super::filter::{function, run_function};
use super::pool::PoolState;
use super::request::{Options, Request};

/// A weigher, by the name that `scheduler_default_weighers` knows it by. More raw weight is better if the multiplier is
/// positive.
#[derive(Debug)]
pub struct Weigher {
    pub name: &'static str,
    pub(super) multiplier: fn(&Options) -> f64,
    pub(super) weigh: fn(&[&PoolState], &Request, &Options, &mut Chance) -> Vec<f64>,
}

/// All weighers.
#[rustfmt::skip] // a table reads best as a table
pub const WEIGHERS: &[Weigher] = &[
    Weigher { name: "CapacityWeigher",          multiplier: |options| options.capacity_multiplier,           weigh: capacity },
    Weigher { name: "AllocatedCapacityWeigher", multiplier: |options| options.allocated_capacity_multiplier, weigh: allocated },
    Weigher { name: "VolumeNumberWeigher",      multiplier: |options| options.volume_number_multiplier,      weigh: volume_number },
    Weigher { name: "GoodnessWeigher",          multiplier: |_| 1.0,                                         weigh: goodness },
    Weigher { name: "ChanceWeigher",            multiplier: |_| 1.0,                                         weigh: chance },
];

/// How much better than the best known capacity an unknown one counts when the least is wanted: times their spread.
const UNKNOWN_SPREAD: f64 = 100.0;
/// The same where there is no spread.
const UNKNOWN_OFFSET: f64 = 10_000.0;

/// What may still be placed. An unknown capacity comes last, whichever way the multiplier points.
fn capacity(pools: &[&PoolState], request: &Request, options: &Options, _: &mut Chance) -> Vec<f64> {
    let known: Vec<Option<f64>> = pools
        .iter()
        .map(|pool| {
            let figures = pool.figures(options.over_subscription, request.thin())?;
            Some(factors(figures).virtual_free_capacity)
        })
        .collect();
    let unknown = if options.capacity_multiplier > 0.0 {
        -1.0
    } else {
        let (least, most) =
            known.iter().flatten().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), weight| {
                (weight.min(least), weight.max(most))
            });
        let spread = (most - least) * UNKNOWN_SPREAD;
        // Where none is known, all weigh the same.
        if !most.is_finite() { 0.0 } else { most + if spread == 0.0 { UNKNOWN_OFFSET } else { spread } }
    };
    known.into_iter().map(|weight| weight.unwrap_or(unknown)).collect()
}

fn allocated(pools: &[&PoolState], _: &Request, _: &Options, _: &mut Chance) -> Vec<f64> {
    pools.iter().map(|pool| pool.allocated_gb).collect()
}

fn volume_number(pools: &[&PoolState], _: &Request, _: &Options, _: &mut Chance) -> Vec<f64> {
    pools.iter().map(|pool| pool.volumes as f64).collect()
}

/// 0 to 100 by the pool's own function; the best of the spellings of its protocol. A function that fails is worth 0.
fn goodness(pools: &[&PoolState], request: &Request, _: &Options, _: &mut Chance) -> Vec<f64> {
    pools
        .iter()
        .map(|pool| {
            let Some(function) = function(pool, "goodness_function") else { return 0.0 };
            let mut stats = pool.stats();
            stats.remove("cluster_name");
            stats.remove("backend_id");
            let ratings =
                run_function(pool, request, &function, stats).into_iter().map(|result| match result {
                    Ok(Datum::Bool(true)) => 100.0,
                    Ok(Datum::Int(rating @ 0..=100)) => rating as f64,
                    Ok(Datum::Float(rating)) if (0.0..=100.0).contains(&rating) => rating,
                    _ => 0.0,
                });
            ratings.fold(0.0, f64::max)
        })
        .collect()
}

fn chance(pools: &[&PoolState], _: &Request, _: &Options, chance: &mut Chance) -> Vec<f64> {
    pools.iter().map(|_| chance.draw()).collect()
}

/// Stretches weights over 0 to 1; to 0 where all are the same.
pub(super) fn normalise(weights: &[f64]) -> Vec<f64> {
    let least = weights.iter().copied().fold(f64::INFINITY, f64::min);
    let most = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let range = most - least;
    weights.iter().map(|weight| if range > 0.0 { (weight - least) / range } else { 0.0 }).collect()
}
