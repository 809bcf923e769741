//! The recorded exchanges with Cinder 29 (`tests/golden/exchanges.json`), replayed against the whole service (I9). What is
//! answered otherwise on purpose, or not yet, stands in `tests/golden/exceptions.txt` with its reason; a line there that is not
//! needed any more fails the test too.
#![allow(clippy::unwrap_used)] // a test

mod compare;
mod replay;
mod service;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

const EXCHANGES: &str = include_str!("../../../../tests/golden/exchanges.json");
const EXCEPTIONS: &str = include_str!("../../../../tests/golden/exceptions.txt");
const UNSERVED: &str = include_str!("../../../../tests/golden/unserved.txt");

/// Case and reason.
fn exceptions() -> BTreeMap<&'static str, &'static str> {
    let lines = EXCEPTIONS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(" = ").unwrap_or_else(|| panic!("no reason: {line}"))).collect()
}

/// Whether the case's route is one that is written down as not served yet.
fn unserved(case: &Value) -> bool {
    let path = case["path"].as_str().unwrap_or_default().split('?').next().unwrap_or_default();
    let Some((_, rest)) = path.strip_prefix("/v3/").and_then(|path| path.split_once('/')) else {
        return false;
    };
    let segments: Vec<&str> = rest.split('/').collect();
    let action = case["body"].as_object().and_then(|body| body.keys().next()).map(String::as_str);
    UNSERVED.lines().any(|line| {
        let mut words = line.split(' ');
        let (method, pattern) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let pattern: Vec<&str> = pattern.split('/').skip(1).collect();
        let fits = pattern.len() == segments.len()
            && pattern.iter().zip(&segments).all(|(pattern, segment)| *pattern == "{}" || pattern == segment);
        case["method"] == method && fits && words.next().is_none_or(|wanted| Some(wanted) == action)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_exchanges_replay() {
    let service = service::Service::start().await;
    let mut replay = replay::Replay::new(service.endpoint());
    let exchanges: Value = serde_json::from_str(EXCHANGES).unwrap();
    let exceptions = exceptions();
    let (mut same, mut skipped, mut surprises) = (0, 0, Vec::new());
    let mut unneeded: BTreeSet<&str> = exceptions.keys().copied().collect();
    for case in exchanges["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let got = replay.one(case).await;
        if case["expect"].is_null() || unserved(case) {
            skipped += 1;
            continue;
        }
        let differences = match &got {
            Err(missing) => vec![format!("needs <<{missing}>>, which no earlier case gave")],
            Ok(got) => compare::compare(&case["expect"], got, case["local"] == true),
        };
        match (differences.is_empty(), exceptions.contains_key(name)) {
            (true, false) => same += 1,
            (false, true) => {
                unneeded.remove(name);
            }
            (true, true) => {}
            (false, false) => {
                surprises.push(format!("{} {name}\n    {}", case["n"], differences.join("\n    ")))
            }
        }
    }
    println!("{same} the same, {} excepted, {skipped} not judged", exceptions.len() - unneeded.len());
    assert!(surprises.is_empty(), "{} cases differ:\n{}", surprises.len(), surprises.join("\n"));
    assert!(unneeded.is_empty(), "exceptions that are not needed any more: {unneeded:?}");
    assert!(same > 200, "only {same} cases were judged");
}
