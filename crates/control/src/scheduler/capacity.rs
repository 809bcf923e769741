//! Capacity arithmetic, as Cinder counts: GiB, over-subscription, reserved space.

use model::config::FromOption;
use serde::Serialize;
use serde_json::{Map, Value};

/// What a backend says of a capacity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Space {
    /// GiB.
    Gb(f64),
    Infinite,
    Unknown,
}

impl Space {
    /// Reads a capability; `None` for what is neither a number nor one of the two words.
    pub fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(word) if word == "infinite" => Some(Self::Infinite),
            Value::String(word) if word == "unknown" => Some(Self::Unknown),
            other => number(other).map(Self::Gb),
        }
    }

    /// GiB, where they are known.
    pub fn gb(self) -> Option<f64> {
        match self {
            Self::Gb(gb) => Some(gb),
            Self::Infinite | Self::Unknown => None,
        }
    }

    /// The capability it is reported as.
    pub fn value(self) -> Value {
        match self {
            Self::Gb(gb) => Value::from(gb),
            Self::Infinite => Value::from("infinite"),
            Self::Unknown => Value::from("unknown"),
        }
    }
}

/// A capability that is a finite number, or a text of one.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => f64::from_option(text).ok().flatten().filter(|number| number.is_finite()),
        _ => None,
    }
}

/// `max_over_subscription_ratio` as configured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ratio {
    Fixed(f64),
    /// What is provisioned over what is used.
    Auto,
}

/// The ratio where `auto` has nothing to go by, and the default.
pub const INITIAL_RATIO: f64 = 20.0;

impl Ratio {
    /// Reads `auto` or a number.
    pub fn read(text: &str) -> Option<Self> {
        if text == "auto" {
            return Some(Self::Auto);
        }
        f64::from_option(text).ok().flatten().filter(|ratio| ratio.is_finite()).map(Self::Fixed)
    }
}

/// How far a pool may be over-subscribed, by what it reported last. 1 where that cannot matter. A ratio that the pool does not
/// report, or that is nothing, is `global`.
pub fn over_subscription(capabilities: &Map<String, Value>, global: Ratio) -> f64 {
    let get = |name: &str| capabilities.get(name);
    let space = |name: &str| get(name).map_or(Some(Space::Gb(0.0)), Space::read).and_then(Space::gb);
    let thin = get("thin_provisioning_support").is_some_and(truth);
    let (Some(total), Some(free)) = (space("total_capacity_gb"), space("free_capacity_gb")) else {
        return 1.0;
    };
    if !thin {
        return 1.0;
    }
    let own = match get("max_over_subscription_ratio") {
        Some(Value::String(text)) => Ratio::read(text),
        Some(value) => number(value).filter(|ratio| *ratio != 0.0).map(Ratio::Fixed),
        None => None,
    };
    match own.unwrap_or(global) {
        Ratio::Fixed(ratio) => ratio,
        Ratio::Auto => {
            let provisioned = get("provisioned_capacity_gb").or_else(|| get("allocated_capacity_gb"));
            let provisioned = provisioned.and_then(number).unwrap_or(0.0);
            if provisioned == 0.0 { INITIAL_RATIO } else { 1.0 + provisioned / (total - free + 1.0) }
        }
    }
}

/// Python's truth of a capability.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// What a pool's figures are, for [`factors`]. GiB but for the percentage and the ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    pub total: f64,
    pub free: f64,
    pub provisioned: f64,
    pub thin_support: bool,
    pub ratio: f64,
    pub reserved_percentage: f64,
    /// Whether the volume would be thin where the pool can.
    pub thin: bool,
}

/// What follows from them. GiB but for percentage and ratios; rounded to two decimals where Cinder rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Factors {
    pub total_capacity: f64,
    pub free_capacity: f64,
    pub reserved_capacity: f64,
    pub total_reserved_available_capacity: f64,
    /// Only where it counts.
    pub max_over_subscription_ratio: Option<f64>,
    pub total_available_capacity: f64,
    pub provisioned_capacity: f64,
    pub calculated_free_capacity: f64,
    /// What may still be placed.
    pub virtual_free_capacity: f64,
    pub free_percent: f64,
    pub provisioned_ratio: f64,
    pub provisioned_type: &'static str,
}

/// Computes them.
pub fn factors(of: Figures) -> Factors {
    let reserved = (of.total * (of.reserved_percentage / 100.0)).floor();
    let unreserved = of.total - reserved;
    let thin = of.thin && of.thin_support;
    let available = if thin { unreserved * of.ratio } else { unreserved };
    let calculated = available - of.provisioned;
    let virtual_free = if thin { calculated } else { calculated.min(of.free) };
    let share = |part: f64| if available == 0.0 { 0.0 } else { part / available };
    Factors {
        total_capacity: of.total,
        free_capacity: of.free,
        reserved_capacity: reserved,
        total_reserved_available_capacity: two_decimals(unreserved),
        max_over_subscription_ratio: thin.then_some(of.ratio),
        total_available_capacity: two_decimals(available),
        provisioned_capacity: of.provisioned,
        calculated_free_capacity: two_decimals(calculated),
        virtual_free_capacity: two_decimals(virtual_free),
        free_percent: two_decimals(share(virtual_free) * 100.0),
        provisioned_ratio: two_decimals(share(of.provisioned)),
        provisioned_type: if thin { "thin" } else { "thick" },
    }
}

/// Rounds the exact binary value, ties to even, as Python does.
fn two_decimals(number: f64) -> f64 {
    format!("{number:.2}").parse().unwrap_or(number)
}
