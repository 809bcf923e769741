//! The `query` hint: a JSON text of nested lists, `["and", [">", "$free_capacity_gb", 10], ...]`.
//!
//! `$name` is a figure of the pool, `$capabilities.name` a capability; what is missing is left out. A comparison holds if the
//! first argument compares so with each of the others. `not` of several is true if one of them is false.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::capacity::truth;
use super::pool::PoolState;
use super::request::Options;

/// Whether a pool is what the query asks for.
///
/// # Errors
/// The query makes no sense.
pub(super) fn passes(hint: &Value, pool: &PoolState, options: &Options) -> Result<bool, String> {
    let query = match hint {
        // The JSON reader bounds how deep it may nest.
        Value::String(text) => {
            serde_json::from_str(text).map_err(|error| format!("the query is not JSON: {error}"))?
        }
        other => other.clone(),
    };
    process(&query, &attributes(pool, options)).map(|result| truth(&result))
}

/// What `$name` can be.
fn attributes(pool: &PoolState, options: &Options) -> Map<String, Value> {
    let mut attributes = pool.stats();
    let reported = |name: &str, otherwise: Value| pool.capabilities.get(name).cloned().unwrap_or(otherwise);
    attributes.insert("provisioned_capacity_gb".into(), pool.provisioned_gb.into());
    attributes.insert("max_over_subscription_ratio".into(), pool.ratio(options.over_subscription).into());
    for name in ["thin_provisioning_support", "thick_provisioning_support", "multiattach"] {
        attributes.insert(name.into(), reported(name, Value::Bool(false)));
    }
    attributes.insert("filter_function".into(), reported("filter_function", Value::Null));
    attributes.insert("goodness_function".into(), reported("goodness_function", Value::from(0)));
    let name = pool.host.split_once('#').map(|(_, name)| name);
    attributes.insert("pool_name".into(), name.into());
    let service = [("availability_zone".to_owned(), pool.availability_zone.clone().into())];
    attributes.insert("service".into(), Value::Object(Map::from_iter(service)));
    attributes.insert("capabilities".into(), Value::Object(pool.capabilities.clone()));
    attributes
}

fn process(query: &Value, attributes: &Map<String, Value>) -> Result<Value, String> {
    if !truth(query) {
        return Ok(Value::Bool(true));
    }
    let Some((operator, arguments)) = query.as_array().and_then(|items| items.split_first()) else {
        return Err(format!("the query {query} is not a list"));
    };
    let mut values = Vec::new();
    for argument in arguments {
        let value = match argument {
            Value::Array(_) => process(argument, attributes)?,
            Value::String(text) => look_up(text, attributes),
            other => other.clone(),
        };
        if !value.is_null() {
            values.push(value);
        }
    }
    let result = match operator.as_str() {
        Some("not") => values.iter().any(|value| !truth(value)),
        Some("or") => values.iter().any(truth),
        Some("and") => values.iter().all(truth),
        Some(operator) => compare(operator, &values)?,
        None => return Err(format!("the query {query} starts with no operator")),
    };
    Ok(Value::Bool(result))
}

/// A text, or what `$a.b` stands for; null when there is no such thing.
fn look_up(text: &str, attributes: &Map<String, Value>) -> Value {
    let Some(path) = text.strip_prefix('$') else {
        return if text.is_empty() { Value::Null } else { text.into() };
    };
    let mut names = path.split('.');
    let first = names.next().and_then(|name| attributes.get(name));
    names
        .fold(first, |value, name| {
            value.and_then(|value| value.as_object()).and_then(|fields| fields.get(name))
        })
        .cloned()
        .unwrap_or(Value::Null)
}

fn compare(operator: &str, values: &[Value]) -> Result<bool, String> {
    let wanted: &[Ordering] = match operator {
        "=" | "in" => &[Ordering::Equal],
        "<" => &[Ordering::Less],
        "<=" => &[Ordering::Less, Ordering::Equal],
        ">" => &[Ordering::Greater],
        ">=" => &[Ordering::Greater, Ordering::Equal],
        _ => return Err(format!("the query has an unknown operator {operator:?}")),
    };
    let Some((first, others)) = values.split_first().filter(|(_, others)| !others.is_empty()) else {
        return Ok(false);
    };
    match operator {
        "=" => Ok(others.iter().all(|other| equal(first, other))),
        "in" => Ok(others.iter().any(|other| equal(first, other))),
        _ => {
            for other in others {
                let order =
                    order(first, other).ok_or_else(|| format!("the query compares {first} with {other}"))?;
                if !wanted.contains(&order) {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

/// A number, a truth value being one as well.
fn number(value: &Value) -> Option<f64> {
    value.as_bool().map(|yes| f64::from(u8::from(yes))).or_else(|| value.as_f64())
}

fn equal(left: &Value, right: &Value) -> bool {
    match (number(left), number(right)) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => number(left)?.partial_cmp(&number(right)?),
    }
}
