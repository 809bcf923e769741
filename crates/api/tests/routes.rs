//! The route table against the facts about Cinder's: each row has its version, policy rule and status, and what is not served
//! yet is written down (`tests/golden/unserved.txt` and `unserved_versions.txt`, which only shrink).

use std::collections::BTreeSet;

use api::route::{Entry, V3};
use serde_json::Value;
use wire::microversion::{Change, HISTORY};

const FACTS: &str = include_str!("../../../tests/golden/routes.json");
const UNSERVED: &str = include_str!("../../../tests/golden/unserved.txt");
const UNSERVED_VERSIONS: &str = include_str!("../../../tests/golden/unserved_versions.txt");

/// Served although no fact names it: Cinder routes it to nothing, and so do we.
const NAMELESS: [&str; 1] = ["GET /attachments/summary"];

/// Method, path with nameless parameters, and action.
fn key(method: &str, path: &str, action: Option<&str>) -> String {
    let segments = path.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment });
    let path = segments.collect::<Vec<_>>().join("/");
    action.map_or_else(|| format!("{method} {path}"), |action| format!("{method} {path} {action}"))
}

fn key_of(entry: &Entry) -> String {
    key(entry.route.method, entry.route.path, entry.route.action)
}

/// The facts about resources, by key.
fn facts() -> Vec<(String, Value)> {
    let facts: Vec<Value> = serde_json::from_str(FACTS).expect("JSON");
    let resource = |fact: Value| {
        let path = fact["path"].as_str()?.strip_prefix("/v3/{project_id}")?.to_owned();
        Some((key(fact["method"].as_str()?, &path, fact["action"].as_str()), fact))
    };
    facts.into_iter().filter_map(resource).collect()
}

#[test]
fn every_row_is_a_fact() {
    let facts = facts();
    let mut checked = 0;
    for entry in V3.entries().filter(|entry| !NAMELESS.contains(&key_of(entry).as_str())) {
        let key = key_of(entry);
        let (_, fact) =
            facts.iter().find(|(known, _)| *known == key).unwrap_or_else(|| panic!("{key} is no fact"));
        assert_eq!(entry.since.to_string(), fact["min_version"].as_str().unwrap_or_default(), "{key}");
        assert_eq!(Some(u64::from(entry.route.success)), fact["success"].as_u64(), "{key}");
        let rule = entry.route.gate.action().map(|action| action.rule().name);
        assert_eq!(rule, fact["policy"].as_str(), "{key}");
        checked += 1;
    }
    assert!(checked > 90, "only {checked} rows");
}

#[test]
fn every_fact_is_served_or_written_down() {
    let served: BTreeSet<String> = V3.entries().map(key_of).collect();
    let missing: BTreeSet<String> =
        facts().into_iter().map(|(key, _)| key).filter(|key| !served.contains(key)).collect();
    if std::env::var_os("BLESS").is_some() {
        let text: String = missing.iter().map(|key| format!("{key}\n")).collect();
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/unserved.txt");
        std::fs::write(file, text).expect("writes");
        return;
    }
    let written: BTreeSet<String> = UNSERVED.lines().map(str::to_owned).collect();
    let differ: Vec<&String> = missing.symmetric_difference(&written).collect();
    assert!(differ.is_empty(), "served now, or no more (BLESS=1 rewrites the list): {differ:?}");
}

/// Versions that change nothing that a request or an answer could show (microversions.md).
const CHANGE_NOTHING: [&str; 4] = ["3.0", "3.50", "3.67", "3.71"];

#[test]
fn every_boundary_is_in_the_table_or_written_down() {
    let facts = facts();
    let served: BTreeSet<String> = V3.entries().map(key_of).collect();
    let unserved: Vec<&(String, Value)> = facts.iter().filter(|(key, _)| !served.contains(key)).collect();
    let whole = |change: &Change| {
        let at = change.at.to_string();
        let brought = unserved.iter().any(|(_, fact)| fact["min_version"] == *at && at != "3.0");
        !brought && (!change.effects.is_empty() || CHANGE_NOTHING.contains(&at.as_str()))
    };
    let missing: Vec<String> =
        HISTORY.iter().filter(|change| !whole(change)).map(|change| change.at.to_string()).collect();
    println!(
        "{} of {} operations and {} of {} microversions are routed",
        facts.len() - unserved.len(),
        facts.len(),
        HISTORY.len() - missing.len(),
        HISTORY.len()
    );
    if std::env::var_os("BLESS").is_some() {
        let text: String = missing.iter().map(|version| format!("{version}\n")).collect();
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/unserved_versions.txt");
        std::fs::write(file, text).expect("writes");
        return;
    }
    let written: Vec<&str> = UNSERVED_VERSIONS.lines().collect();
    assert_eq!(missing, written, "routed now, or no more (BLESS=1 rewrites the list)");
}

#[test]
fn the_openapi_document_is_checked_in() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi/block-storage.json");
    let text = format!("{:#}\n", api::openapi::document());
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(std::path::Path::new(file).parent().expect("a directory")).expect("makes it");
        std::fs::write(file, text).expect("writes");
        return;
    }
    let written = std::fs::read_to_string(file).expect("openapi/block-storage.json");
    assert!(
        written == text,
        "the document differs from openapi/block-storage.json; BLESS=1 rewrites it: read the difference"
    );
}

#[test]
fn every_row_is_reached_by_its_own_path() {
    let mut seen = BTreeSet::new();
    for entry in V3.entries() {
        let route = entry.route;
        assert!(seen.insert((route.method, route.path, route.action)), "twice: {}", key_of(entry));
        assert_eq!(route.action.is_some(), route.path.ends_with("/action"), "{}", key_of(entry));
        let path = route.path.trim_start_matches('/').replace(['{', '}'], "");
        let found = V3.find(route.method, &path).unwrap_or_else(|| panic!("{path} is not found"));
        assert!(found.entries.iter().all(|one| one.route.path == route.path), "{path} is shadowed");
    }
}
