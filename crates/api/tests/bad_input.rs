//! Bad input to every route: refused with Cinder's status and body, and nothing is written.
//!
//! The cases come from the route table and its schemas, so that a new route cannot escape them.

mod common;

use api::Auth;
use api::route::{Route, V3};
use api::schema::{Choice, Format, Keyword, Schema, Type};
use common::things::{Things, body, path, things};
use common::{PROJECT, Reply, Service};
use db::Read as _;
use db::sql::sql;
use serde_json::{Map, Value, json};

const DEAD: &str = "00000000-0000-0000-0000-00000000dead";

/// How many rows the service has ever written: nobody else uses its database.
async fn written(service: &Service) -> i64 {
    let mut tx = service.cloud.db.begin().await.expect("begins");
    let row = tx.row(sql("SELECT total_changes() AS n")).await.expect("reads").expect("a row");
    row.get("n").expect("a number")
}

async fn send(service: &Service, route: &Route, things: &Things, text: &str, kind: &str) -> Reply {
    let token = format!("me:{PROJECT}");
    let headers =
        [("x-auth-token", token.as_str()), ("openstack-api-version", "volume 3.71"), ("content-type", kind)];
    service.send(route.method, &path(route.path, things), &headers, text).await
}

fn name(route: &Route) -> String {
    format!("{} {} {}", route.method, route.path, route.action.unwrap_or_default())
}

/// A value that the schema refuses for its type.
fn of_another_type(schema: Schema) -> Option<Value> {
    let types: &[Type] = schema.iter().find_map(|keyword| match keyword {
        Keyword::Type(types) => Some(*types),
        // Every branch that we have takes texts, numbers, truths or lists of them.
        Keyword::OneOf(_) => Some(&[Type::String, Type::Integer, Type::Boolean, Type::Array, Type::Null][..]),
        _ => None,
    })?;
    let choices = [
        (Type::Object, json!({"a": 1})),
        (Type::Array, json!([1])),
        (Type::Integer, json!(7)),
        (Type::Boolean, json!(true)),
        (Type::Null, Value::Null),
    ];
    choices.into_iter().find(|(kind, _)| !types.contains(kind)).map(|(_, value)| value)
}

/// Values that the schema of one property refuses, with what is wrong with them.
fn bad_values(schema: Schema) -> Vec<(String, Value)> {
    let mut bad: Vec<(String, Value)> =
        of_another_type(schema).map(|value| ("type".into(), value)).into_iter().collect();
    for keyword in schema {
        bad.extend(match keyword {
            Keyword::MaxLength(n) => Some(("too long".into(), json!("x".repeat(n + 1)))),
            Keyword::MinLength(n) if *n > 0 => Some(("too short".into(), json!(""))),
            Keyword::Minimum(n) => Some(("too small".into(), json!(n - 1))),
            Keyword::Maximum(n) => Some(("too large".into(), json!(n + 1))),
            Keyword::Enum(choices) if choices.iter().all(|one| matches!(one, Choice::Text(_))) => {
                Some(("no choice".into(), json!("nosuch")))
            }
            Keyword::Format(Format::Uuid) => Some(("no uuid".into(), json!("nosuch"))),
            Keyword::Format(Format::Name) => Some(("blank".into(), json!("   "))),
            Keyword::Items(inner) => of_another_type(inner).map(|value| ("items".into(), json!([value]))),
            Keyword::UniqueItems => Some(("twice".into(), json!(["x", "x"]))),
            _ => None,
        });
        if let Keyword::PatternProperties(_, inner) = keyword {
            bad.push(("key".into(), json!({"\u{7}": "v"})));
            bad.extend(of_another_type(inner).map(|value| ("value".to_owned(), json!({ "k": value }))));
            bad.push(("long key".into(), json!({ "k".repeat(301): "v" })));
        }
    }
    bad
}

/// Bodies like `good`, each wrong in one place.
fn mutations(schema: Schema, good: &Value) -> Vec<(String, Value)> {
    let mut all = bad_values(schema);
    let Some(object) = good.as_object() else { return all };
    let with = |key: &str, value: Value| {
        let mut changed = object.clone();
        changed.insert(key.to_owned(), value);
        Value::Object(changed)
    };
    let without = |keys: &[&str]| -> Value {
        let kept = object.iter().filter(|(key, _)| !keys.contains(&key.as_str()));
        Value::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect::<Map<_, _>>())
    };
    for keyword in schema {
        match keyword {
            Keyword::Properties(list) => {
                for (key, inner) in *list {
                    let good = object.get(*key).cloned().unwrap_or_default();
                    let inner = if good.is_null() { bad_values(inner) } else { mutations(inner, &good) };
                    all.extend(
                        inner.into_iter().map(|(what, bad)| (format!("{key}: {what}"), with(key, bad))),
                    );
                }
            }
            Keyword::Required(keys) => {
                all.extend(keys.iter().map(|key| (format!("without {key}"), without(&[key]))));
            }
            Keyword::AnyOfRequired(keys) => all.push((format!("without any of {keys:?}"), without(keys))),
            Keyword::Closed | Keyword::Since(_, Keyword::Closed) => {
                // Not an open schema's: those have this keyword too, beside the keys that they match.
                all.push(("unknown key".into(), with("no/such\u{7}key", json!("v"))));
            }
            _ => {}
        }
    }
    all
}

#[tokio::test]
async fn every_break_of_a_schema_is_a_400_that_writes_nothing() {
    let service = Service::start(Auth::Open).await;
    let things = things(&service).await;
    let before = written(&service).await;
    let mut cases = 0;
    for route in V3.entries().map(|entry| entry.route) {
        let Some(wanted) = route.body else { continue };
        let good = body(route.method, route.path, route.action, &things);
        for schema in wanted.schemas {
            for (what, bad) in mutations(schema, &good) {
                let reply = send(&service, route, &things, &bad.to_string(), "application/json").await;
                let case = format!("{}, {what}: {bad}", name(route));
                // What is no object at all names no action.
                let no_action = route.action.is_some() && !bad.is_object() && reply.status == 404;
                assert!(reply.status == 400 || no_action, "{case}: {} {}", reply.status, reply.text);
                let fault = reply.json();
                let key = if no_action { "itemNotFound" } else { "badRequest" };
                assert_eq!(fault[key]["code"], reply.status.as_u16(), "{case}: {fault}");
                assert!(fault[key]["message"].as_str().is_some_and(|text| !text.is_empty()), "{case}");
                cases += 1;
            }
        }
    }
    assert_eq!(written(&service).await, before);
    assert!(cases > 400, "only {cases} cases");
}

#[tokio::test]
async fn what_is_no_json_or_says_to_be_something_else_is_refused_by_every_route() {
    let service = Service::start(Auth::Open).await;
    let things = things(&service).await;
    let before = written(&service).await;
    for route in V3.entries().map(|entry| entry.route) {
        let case = name(route);
        let json = "application/json";
        for text in ["{", "{\"a\": }", "\u{0}", "{\"a\": 1} x", &"[".repeat(1000)] {
            let reply = send(&service, route, &things, text, json).await;
            assert_eq!(reply.fault(), (400, "Malformed request body".into()), "{case}: {text:?}");
        }
        let good = body(route.method, route.path, route.action, &things).to_string();
        let reply = send(&service, route, &things, &good, "text/plain").await;
        assert_eq!(reply.fault(), (415, "Unsupported Content-Type".into()), "{case}");
        let long = format!("{{\"a\": \"{}\"}}", "x".repeat(3000));
        let reply = send(&service, route, &things, &long, json).await;
        assert_eq!(reply.status, 413, "{case}");
        if route.body.is_none() {
            let reply = send(&service, route, &things, "{\"a\": 1}", json).await;
            assert_eq!(reply.status, 400, "{case}: a body where none is taken");
            continue;
        }
        let none = send(&service, route, &things, "", json).await;
        let text = match route.action {
            Some(_) => {
                "There is no such action: None. Verify the request body and Content-Type header and try again."
            }
            None => {
                "The server could not comply with the request since it is either malformed or otherwise incorrect."
            }
        };
        assert_eq!(none.fault(), (400, text.into()), "{case}: no body");
    }
    assert_eq!(written(&service).await, before);
}

/// Paths whose last parameter names no thing that must be there: a project, a class.
const FREE: [&str; 3] = ["/os-quota-sets/", "/os-quota-class-sets/", "/default-types/"];

#[tokio::test]
async fn what_is_not_there_is_not_found_by_any_route() {
    let service = Service::start(Auth::Open).await;
    let things = things(&service).await;
    let mut cases = 0;
    for route in V3.entries().map(|entry| entry.route) {
        let Some((start, rest)) = route.path.split_once('{') else { continue };
        if FREE.contains(&start) {
            continue;
        }
        for id in [DEAD, "x", "%00", "..%2F..%2Fetc%2Fpasswd", &"9".repeat(300)] {
            let rest = rest.split_once('}').map(|(_, rest)| rest).unwrap_or_default();
            let path = format!("/v3{start}{id}{}", rest.replace("{key}", "k").replace("{id}", "k"));
            // QoS specs are looked up before the type that the query names.
            let query = if path.contains("associate") {
                format!("?vol_type_id={}", things.kind)
            } else {
                String::new()
            };
            let good = body(route.method, route.path, route.action, &things);
            let reply = service.call(71, route.method, &format!("{path}{query}"), good).await;
            assert_eq!(reply.status, 404, "{} {id}: {}", name(route), reply.text);
            assert!(reply.json()["itemNotFound"]["message"].is_string(), "{}: {}", name(route), reply.text);
            cases += 1;
        }
    }
    assert!(cases > 300, "only {cases} cases");
}

#[tokio::test]
async fn versions_that_are_not_spoken_are_refused_by_every_route() {
    let service = Service::start(Auth::Open).await;
    let things = things(&service).await;
    let before = written(&service).await;
    for route in V3.entries().map(|entry| entry.route) {
        let token = format!("me:{PROJECT}");
        let good = body(route.method, route.path, route.action, &things).to_string();
        for (asked, status) in
            [("volume 3.72", 406), ("volume 4.0", 406), ("volume 3.x", 400), ("compute 2.1", 400)]
        {
            let headers = [
                ("x-auth-token", token.as_str()),
                ("openstack-api-version", asked),
                ("content-type", "application/json"),
            ];
            let reply = service.send(route.method, &path(route.path, &things), &headers, good.clone()).await;
            assert_eq!(reply.status, status, "{} at {asked}: {}", name(route), reply.text);
        }
    }
    assert_eq!(written(&service).await, before);
}

/// `value` with one of its scalars after another replaced by a mark.
fn marked(value: &Value, mark: &Value) -> Vec<Value> {
    match value {
        Value::Object(object) => {
            let changed = |key: &str, inner: Value| {
                let mut object = object.clone();
                object.insert(key.to_owned(), inner);
                Value::Object(object)
            };
            let mut all: Vec<Value> = object
                .iter()
                .flat_map(|(key, inner)| {
                    marked(inner, mark).into_iter().map(move |inner| (key.clone(), inner))
                })
                .map(|(key, inner)| changed(&key, inner))
                .collect();
            if object.is_empty() {
                all.push(changed("k", mark.clone()));
            }
            all
        }
        Value::Array(items) if !items.is_empty() => {
            marked(&items[0], mark).into_iter().map(|v| json!([v])).collect()
        }
        _ => vec![mark.clone()],
    }
}

#[tokio::test]
async fn integers_beyond_64_bits_are_a_400_in_every_place() {
    let service = Service::start(Auth::Open).await;
    let things = things(&service).await;
    let before = written(&service).await;
    let mut cases = 0;
    for route in V3.entries().map(|entry| entry.route).filter(|route| route.body.is_some()) {
        let good = body(route.method, route.path, route.action, &things);
        for wrong in marked(&good, &json!("@")) {
            for digits in ["99999999999999999999", "-99999999999999999999", "1000000000000000000000000000000"]
            {
                let text = wrong.to_string().replace("\"@\"", digits);
                let reply = send(&service, route, &things, &text, "application/json").await;
                let case = format!("{}: {text}: {}", name(route), reply.text);
                assert_eq!(reply.status, 400, "{case}");
                let (_, message) = reply.fault();
                assert!(!message.is_empty() && !message.contains("000000000000019884624838656"), "{case}");
                assert!(!message.contains("100000000000000000000 "), "{case}");
                cases += 1;
            }
        }
    }
    assert_eq!(written(&service).await, before);
    assert!(cases > 200, "{cases}");
}

#[tokio::test]
async fn a_size_is_told_back_in_the_digits_it_came_in() {
    let service = Service::start(Auth::Open).await;
    let create = async |size: &str| {
        let text = format!(r#"{{"volume": {{"size": {size}}}}}"#);
        let headers = [("content-type", "application/json")];
        service.send("POST", "/v3/volumes", &headers, text).await.fault()
    };
    for digits in ["99999999999999999999", "18446744073709551617", "1000000000000000000000000000000"] {
        let text = format!(
            "Invalid input for field/attribute size. Value: {digits}. {digits} is greater than the maximum of 2147483647"
        );
        assert_eq!(create(digits).await, (400, text.clone()));
        assert_eq!(create(&format!("\"{digits}\"")).await, (400, text));
    }
}
