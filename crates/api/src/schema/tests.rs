//! Every recorded refusal of a body is refused with the same text; every body that was accepted is accepted.

use serde_json::{Value, json};
use wire::microversion::{Version, negotiate};

use super::requests::*;
use super::{Body, Refused, validate};
use crate::route::V3;

const EXCHANGES: &str = include_str!("../../../../tests/golden/exchanges.json");

/// Texts that only a schema gives.
const SCHEMA_TEXTS: [&str; 6] = [
    "Invalid input for field/attribute",
    "Additional properties are not allowed",
    "is a required property",
    "has too many properties",
    "is not valid under any of the given schemas",
    " characters, more than ",
];

fn version(case: &Value) -> Version {
    let header = case["mv"].as_str().map(|mv| format!("volume {mv}"));
    negotiate(header.as_deref()).unwrap_or(Version::MIN)
}

/// The schema of a recorded request, when its route is served.
fn wanted(case: &Value) -> Option<&'static Body> {
    let path = case["path"].as_str()?.split('?').next()?;
    let rest = path.strip_prefix("/v3/")?.split_once('/')?.1;
    let found = V3.find(case["method"].as_str()?, rest)?;
    let action = case["body"].as_object().and_then(|body| body.keys().next().cloned());
    let entry = found
        .entries
        .iter()
        .find(|entry| entry.route.action.is_none() || entry.route.action == action.as_deref());
    entry?.route.body
}

#[test]
fn recorded_bodies_are_judged_as_they_were() {
    let exchanges: Value = serde_json::from_str(EXCHANGES).expect("JSON");
    let (mut refused, mut accepted) = (0, 0);
    for case in exchanges["cases"].as_array().expect("cases") {
        let Some(wanted) = wanted(case) else { continue };
        // Placeholders stand for ids that the recording saved.
        let text = case["body"].to_string();
        let body: Value = serde_json::from_str(&replace_placeholders(&text)).expect("JSON");
        if body.is_null() {
            continue;
        }
        let message = case["expect"]["body"].as_object().and_then(|fault| fault.values().next());
        let message = message.and_then(|fault| fault["message"].as_str()).map(replace_placeholders);
        let by_schema = message.as_deref().filter(|text| SCHEMA_TEXTS.iter().any(|mark| text.contains(mark)));
        let got = validate(&body, wanted, version(case));
        match by_schema {
            Some(text) => {
                let text = text.replace("<uuid>", &uuid_of(&body));
                assert_eq!(got, Err(Refused(text)), "{}", case["name"]);
                refused += 1;
            }
            None if case["expect"]["status"].as_u64().is_some_and(|status| status < 300) => {
                assert_eq!(got, Ok(()), "{}", case["name"]);
                accepted += 1;
            }
            None => {}
        }
    }
    assert!(refused >= MIN_REFUSED && accepted >= MIN_ACCEPTED, "{refused} refused, {accepted} accepted");
}

/// At least so many recorded bodies reach a served route.
const MIN_REFUSED: usize = 30;
const MIN_ACCEPTED: usize = 40;

fn replace_placeholders(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<<") {
        let (_, tail) = after.split_once(">>").expect("closed");
        out.push_str(before);
        out.push_str("11111111-2222-3333-4444-555555555555");
        rest = tail;
    }
    out + rest
}

/// The one UUID that a recorded message hides.
fn uuid_of(body: &Value) -> String {
    fn find(value: &Value) -> Option<&str> {
        match value {
            Value::String(text) if wire::read::uuid_like(text).is_some() => Some(text),
            Value::Object(map) => map.values().find_map(find),
            Value::Array(items) => items.iter().find_map(find),
            _ => None,
        }
    }
    find(body).unwrap_or_default().to_owned()
}

fn at(minor: u32) -> Version {
    negotiate(Some(&format!("volume 3.{minor}"))).expect("a version")
}

fn refusal(body: Value, wanted: &Body, minor: u32) -> String {
    validate(&body, wanted, at(minor)).expect_err("refused").0
}

#[test]
fn volume_requests_close_with_their_version() {
    let odd = json!({"volume": {"size": 1, "odd": 1}});
    assert_eq!(validate(&odd, &VOLUME_CREATE, at(52)), Ok(()));
    assert_eq!(
        refusal(odd, &VOLUME_CREATE, 53),
        "Invalid input for field/attribute volume. Value: {'size': 1, 'odd': 1}. \
         Additional properties are not allowed ('odd' was unexpected)"
    );
    assert_eq!(validate(&json!({"volume": {}}), &VOLUME_UPDATE, at(52)), Ok(()));
    assert_eq!(
        refusal(json!({"volume": {}}), &VOLUME_UPDATE, 53),
        "Invalid input for field/attribute volume. Value: {}. {} is not valid under any of the given schemas"
    );
}

#[test]
fn fields_are_checked_from_their_version_on() {
    let backup = json!({"volume": {"size": 1, "backup_id": "x"}});
    assert_eq!(validate(&backup, &VOLUME_CREATE, at(46)), Ok(()));
    assert!(refusal(backup, &VOLUME_CREATE, 47).contains("backup_id"));
    let mode = json!({"attachment": {"volume_uuid": "157ebd00-2dd9-4a67-b6f1-fe14e74b1416", "mode": "ro"}});
    assert!(refusal(mode.clone(), &ATTACHMENT_CREATE, 53).ends_with("('mode' was unexpected)"));
    assert_eq!(validate(&mode, &ATTACHMENT_CREATE, at(54)), Ok(()));
}

#[test]
#[rustfmt::skip]
fn refusals_have_cinders_words() {
    let uuid = "157ebd00-2dd9-4a67-b6f1-fe14e74b1416";
    let long = "n".repeat(256);
    let cases: Vec<(Value, &Body, String)> = vec![
        (json!([]), &VOLUME_CREATE, "[] is not of type 'object'".into()),
        (json!(null), &VOLUME_CREATE, "None is not of type 'object'".into()),
        (json!({}), &VOLUME_CREATE, "'volume' is a required property".into()),
        (json!({"volume": {"size": "0"}}), &VOLUME_CREATE, "Invalid input for field/attribute size. Value: 0. 0 is less than the minimum of 1".into()),
        (json!({"volume": {"size": "1x"}}), &VOLUME_CREATE, "Invalid input for field/attribute size. Value: 1x. '1x' does not match '^[0-9]+$'".into()),
        (json!({"volume": {"size": true}}), &VOLUME_CREATE, "Invalid input for field/attribute size. Value: True. True is not of type 'integer', 'string', 'null'".into()),
        (json!({"volume": {"size": 1, "name": long}}), &VOLUME_CREATE, "Invalid input received: name has 256 characters, more than 255.".into()),
        (json!({"volume": {"size": 1, "snapshot_id": "x"}}), &VOLUME_CREATE, "Invalid input for field/attribute snapshot_id. Value: x. 'x' is not valid under any of the given schemas".into()),
        (json!({"volume": {"size": 1, "metadata": {"k": 5}}}), &VOLUME_CREATE, "Invalid input for field/attribute k. Value: 5. 5 is not of type 'string'".into()),
        (json!({"volume": {"size": 1}, "OS-SCH-HNT:scheduler_hints": {"same_host": [uuid, uuid]}}), &VOLUME_CREATE,
            format!("Invalid input for field/attribute same_host. Value: ['{uuid}', '{uuid}']. ['{uuid}', '{uuid}'] is not valid under any of the given schemas")),
        (json!({"a": 1, "volume": {"name": "n"}, "b": 2}), &VOLUME_UPDATE, "Additional properties are not allowed ('a', 'b' were unexpected)".into()),
        (json!({"metadata": {"b!": "1", "a!": "2"}}), &METADATA, "Invalid input for field/attribute metadata. Value: {'b!': '1', 'a!': '2'}. 'a!', 'b!' do not match any of the regexes: '^[a-zA-Z0-9-_:. /]{1,255}$'".into()),
        (json!({"meta": {}}), &METADATA_ITEM, "Invalid input for field/attribute meta. Value: {}. {} should be non-empty".into()),
        (json!({"volume_type": {"name": "  "}}), &TYPE_CREATE, "An invalid 'name' value was provided. The 'name' can not be empty.".into()),
        (json!({"os-reset_status": {}}), &OS_RESET_STATUS_VOLUME, "Must specify 'status', 'attach_status' or 'migration_status' for update.".into()),
        (json!({"os-reset_status": {"attach_status": "odd"}}), &OS_RESET_STATUS_VOLUME, "Volume attach status: odd is invalid, valid statuses are: ['attached', 'detached'].".into()),
        (json!({"os-update_snapshot_status": {"status": "x", "progress": "101%"}}), &OS_UPDATE_SNAPSHOT_STATUS, "Invalid input received: progress must be an integer percentage between 0 and 100".into()),
        (json!({"os-update_snapshot_status": {"status": "x", "progress": "half"}}), &OS_UPDATE_SNAPSHOT_STATUS, "Invalid input received: progress must be an integer percentage".into()),
        (json!({"attachment": {"connector": {}}}), &ATTACHMENT_UPDATE, "Invalid input for field/attribute connector. Value: {}. {} should be non-empty".into()),
        (json!({"host": "a b", "binary": "x"}), &SERVICE_SWITCH, "Invalid input for field/attribute host. Value: a b. 'a b' does not match '^[a-zA-Z0-9-._#@:/+\\\\[\\\\]]*$'".into()),
        (json!({"quota_set": {}}), &QUOTA_UPDATE, "Invalid input for field/attribute quota_set. Value: {}. {} should be non-empty".into()),
    ];
    for (body, wanted, text) in cases {
        assert_eq!(refusal(body.clone(), wanted, 71), text, "{body}");
    }
}

#[test]
fn descriptions_hold_printable_characters_only() {
    let of = |text: &str| json!({"backup": {"volume_id": "157ebd00-2dd9-4a67-b6f1-fe14e74b1416", "description": text}});
    assert_eq!(validate(&of("Größe 1 — “ok” 中文\u{a0}"), &BACKUP_CREATE, at(71)), Ok(()));
    for bad in ["a\nb", "tab\t", "\u{7}", "\u{1F600}", "\u{2028}", "\u{ad}"] {
        let text = refusal(of(bad), &BACKUP_CREATE, 71);
        assert!(text.contains(" does not match '^[\\\\ -\\\\~\\xa0-¬®-"), "{text}");
    }
}

#[test]
fn booleans_come_in_their_spellings() {
    for good in [json!(true), json!("yes"), json!("OFF"), json!("0")] {
        assert_eq!(
            validate(&json!({"os-set_bootable": {"bootable": good}}), &OS_SET_BOOTABLE, at(0)),
            Ok(())
        );
    }
    for bad in [json!(1), json!("yEs"), json!(null), json!("")] {
        assert!(validate(&json!({"os-set_bootable": {"bootable": bad}}), &OS_SET_BOOTABLE, at(0)).is_err());
    }
}
