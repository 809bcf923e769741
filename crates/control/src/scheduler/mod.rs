//! Where a volume goes: filters, then weighers, over a snapshot of pool states; pure.
//!
//! Every decision carries its whole reasoning. It depends on nothing but its arguments (chance follows from the request's seed), so
//! that `explain` is the same call. Reading the pools and promising capacity on the one chosen are the caller's, in one
//! transaction.

mod backup;
mod capacity;
mod chance;
mod decision;
pub mod expression;
mod filter;
mod pool;
mod query;
mod request;
mod spec;
mod weigher;

pub use backup::{BackupRequest, BackupService, pick_backup_host};
pub use capacity::{Factors, Figures, Ratio, Space, factors, over_subscription};
pub use decision::{Decision, Outcome, Verdict, Weight};
pub use filter::{FILTERS, Filter};
pub use pool::{PoolState, ServiceState, has_capability};
pub use request::{Operation, Options, Order, Place, Request};
pub use spec::matches;
pub use weigher::{WEIGHERS, Weigher};

use chance::Chance;

/// A pool that passes, with its weights.
struct Candidate<'a> {
    pool: &'a PoolState,
    weights: Vec<Weight>,
    total: f64,
}

/// Chooses a pool.
pub fn pick(pools: &[PoolState], request: &Request, options: &Options) -> Decision {
    if options.max_attempts > 1 && request.attempt > options.max_attempts {
        let reason = format!(
            "Exceeded max scheduling attempts {} for resource {}",
            options.max_attempts, request.resource_id
        );
        return Decision { chosen: None, reason: Some(reason), verdicts: Vec::new() };
    }
    let (passed, refused) = sift(pools, request, options);
    let ranked = rank(passed, request, options);
    let (fit, elsewhere): (Vec<_>, Vec<_>) = ranked.into_iter().partition(|candidate| {
        request.bound_to.as_deref().is_none_or(|backend| candidate.pool.is_of(backend))
    });
    let chosen = fit.first().map(|candidate| candidate.pool.id().to_owned());
    let bound = request.bound_to.as_deref().unwrap_or_default();
    let fit = fit.into_iter().enumerate().map(|(at, candidate)| Verdict {
        pool: candidate.pool.id().to_owned(),
        outcome: Outcome::Weighed { rank: at + 1, total: candidate.total, weights: candidate.weights },
    });
    let elsewhere = elsewhere.into_iter().map(|candidate| Verdict {
        pool: candidate.pool.id().to_owned(),
        outcome: Outcome::SetAside {
            reason: format!("the volume must be on {bound}"),
            total: candidate.total,
            weights: candidate.weights,
        },
    });
    Decision::new(chosen, fit.chain(elsewhere).chain(refused).collect(), "pool")
}

/// What a retype may do with a volume that its new type does not allow where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migration {
    Never,
    OnDemand,
}

/// Chooses a pool for a volume that gets another type: the one it is on (`current`) if it still passes, else, with
/// [`Migration::OnDemand`], the best.
pub fn pick_for_retype(
    pools: &[PoolState],
    request: &Request,
    options: &Options,
    current: &str,
    migration: Migration,
) -> Decision {
    let anywhere = Request { exists_on: Some(current.to_owned()), bound_to: None, ..request.clone() };
    let here = Request { bound_to: Some(current.to_owned()), ..anywhere.clone() };
    let decision = pick(pools, &here, options);
    match migration {
        Migration::OnDemand if decision.chosen.is_none() => pick(pools, &anywhere, options),
        Migration::OnDemand | Migration::Never => decision,
    }
}

/// Asks every filter, in order, of every pool.
fn sift<'a>(
    pools: &'a [PoolState],
    request: &Request,
    options: &Options,
) -> (Vec<&'a PoolState>, Vec<Verdict>) {
    let mut passed = Vec::new();
    let mut refused = Vec::new();
    for pool in pools {
        let service = std::iter::once(("service", filter::service(pool)));
        let filters =
            options.filters.iter().map(|filter| (filter.name, (filter.judge)(pool, request, options)));
        match service.chain(filters).find_map(|(name, judgement)| Some((name, judgement.err()?))) {
            None => passed.push(pool),
            Some((name, reason)) => refused.push(Verdict {
                pool: pool.id().to_owned(),
                outcome: Outcome::Refused { filter: name.to_owned(), reason },
            }),
        }
    }
    (passed, refused)
}

/// Orders the pools that pass, best first.
fn rank<'a>(pools: Vec<&'a PoolState>, request: &Request, options: &Options) -> Vec<Candidate<'a>> {
    let mut chance = Chance::new(request.seed);
    let simple = options.order == Order::FewestVolumes;
    let weighers: Vec<&Weigher> = if simple {
        WEIGHERS.iter().filter(|weigher| weigher.name == "VolumeNumberWeigher").collect()
    } else {
        options.weighers.clone()
    };
    let mut candidates: Vec<Candidate<'a>> =
        pools.iter().map(|pool| Candidate { pool, weights: Vec::new(), total: 0.0 }).collect();
    for weigher in weighers {
        let raw = (weigher.weigh)(&pools, request, options, &mut chance);
        let normalised = if options.order == Order::Lottery { raw.clone() } else { weigher::normalise(&raw) };
        let multiplier = if simple { -1.0 } else { (weigher.multiplier)(options) };
        for (candidate, (raw, normalised)) in candidates.iter_mut().zip(raw.into_iter().zip(normalised)) {
            candidate.total += multiplier * normalised;
            candidate.weights.push(Weight { weigher: weigher.name.to_owned(), raw, normalised, multiplier });
        }
    }
    match options.order {
        // A stable sort: pools of the same weight stay in the order they came in.
        Order::Weighed | Order::FewestVolumes => candidates.sort_by(|a, b| b.total.total_cmp(&a.total)),
        Order::Lottery if !candidates.is_empty() => {
            let winner = draw(&candidates, &mut chance);
            candidates.rotate_left(winner);
        }
        Order::Lottery => {}
    }
    candidates
}

/// Draws a candidate, each with chances in proportion to its weight.
fn draw(candidates: &[Candidate<'_>], chance: &mut Chance) -> usize {
    let sum: f64 = candidates.iter().map(|candidate| candidate.total).sum();
    let drawn = chance.draw() * sum;
    let mut upper = 0.0;
    candidates
        .iter()
        .position(|candidate| {
            upper += candidate.total;
            upper > drawn
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
