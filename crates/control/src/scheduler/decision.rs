//! A decision with all its reasons: stored with the job, shown by `explain`, logged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What one weigher made of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weight {
    pub weigher: String,
    pub raw: f64,
    /// 0 to 1 over all pools that pass; the raw weight again where the handler does not normalise.
    pub normalised: f64,
    pub multiplier: f64,
}

/// What became of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// A filter said no.
    Refused { filter: String, reason: String },
    /// It passes; rank 1 is chosen.
    Weighed { rank: usize, total: f64, weights: Vec<Weight> },
    /// It passes, but the volume must be elsewhere.
    SetAside { reason: String, total: f64, weights: Vec<Weight> },
}

/// A pool and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// `host@backend#pool`, or the cluster's name for it.
    pub pool: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The pool's name; `None`: nothing will do.
    pub chosen: Option<String>,
    /// Why nothing will do, in one line.
    pub reason: Option<String>,
    /// All pools: those that pass in their order, then those that are set aside, then those that were refused.
    pub verdicts: Vec<Verdict>,
}

impl Decision {
    /// A decision, with the reason summed up if there is no choice. `noun` is what there is to choose from.
    pub(super) fn new(chosen: Option<String>, verdicts: Vec<Verdict>, noun: &str) -> Self {
        let reason = chosen.is_none().then(|| summary(&verdicts, noun));
        Self { chosen, reason, verdicts }
    }

    /// The names that pass, best first.
    pub fn ranked(&self) -> impl Iterator<Item = &str> {
        self.verdicts
            .iter()
            .filter(|verdict| matches!(verdict.outcome, Outcome::Weighed { .. }))
            .map(|verdict| verdict.pool.as_str())
    }
}

fn summary(verdicts: &[Verdict], noun: &str) -> String {
    if verdicts.is_empty() {
        return format!("there is no {noun}");
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for verdict in verdicts {
        let by = match &verdict.outcome {
            Outcome::Refused { filter, .. } => filter.as_str(),
            Outcome::SetAside { .. } => "elsewhere",
            Outcome::Weighed { .. } => continue,
        };
        *counts.entry(by).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(by, count)| format!("{by} {count}")).collect();
    format!("no {noun} of {} will do: {}", verdicts.len(), counts.join(", "))
}
