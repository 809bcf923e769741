//! The OpenAPI document, from the route tables and the request schemas: the newest microversion, with the version that brought each
//! operation and the policy rule that guards it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use wire::microversion::Version;

use crate::route::{Entry, OWN, Table, V3};
use crate::schema::{Choice, Keyword, Schema};

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for (root, table) in [("/v3", &*V3), ("/cinderblock/v1", &*OWN)] {
        paths.extend(paths_of(root, table));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Block Storage API v3",
            "version": Version::MAX.to_string(),
            "description": "OpenStack Block Storage API v3 as of the newest microversion, and what cinderblock adds to it under \
                            /cinderblock/v1. Every /v3 path also exists with a project after /v3.",
        },
        "paths": paths,
    })
}

fn paths_of(root: &str, table: &Table) -> Map<String, Value> {
    // Rows of one path and method are the actions of one operation.
    let mut operations: BTreeMap<(String, &str), Vec<&Entry>> = BTreeMap::new();
    for entry in table.entries() {
        operations
            .entry((format!("{root}{}", entry.route.path), entry.route.method))
            .or_default()
            .push(entry);
    }
    let mut paths = Map::new();
    for ((path, method), entries) in operations {
        let parameters = parameters(&path);
        let item = paths.entry(path).or_insert_with(|| json!({ "parameters": parameters }));
        item[method.to_lowercase()] = operation(&entries);
    }
    paths
}

/// The parameters in a path.
fn parameters(path: &str) -> Value {
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    names
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect()
}

/// What a row says of itself.
fn facts(entry: &Entry) -> Map<String, Value> {
    let mut facts = Map::new();
    if let Some(action) = entry.route.gate.action() {
        facts.insert("summary".into(), action.rule().description.into());
        facts.insert("x-policy".into(), action.rule().name.into());
    }
    // What has been there from the start needs no saying.
    if entry.since != Version::MIN {
        facts.insert("x-since".into(), entry.since.to_string().into());
    }
    facts
}

fn operation(entries: &[&Entry]) -> Value {
    let responses = |entry: &Entry| json!({ (entry.route.success.to_string()): {"description": "success"} });
    let body = |schema: Value| json!({"required": true, "content": {"application/json": {"schema": schema}}});
    let mut operation = Map::new();
    match entries {
        [only] if only.route.action.is_none() => {
            operation.extend(facts(only));
            if let Some(schema) = body_schema(only) {
                operation.insert("requestBody".into(), body(schema));
            }
            operation.insert("responses".into(), responses(only));
        }
        actions => {
            let mut merged = Map::new();
            let schemas: Vec<Value> = actions
                .iter()
                .map(|entry| {
                    if let Value::Object(one) = responses(entry) {
                        merged.extend(one);
                    }
                    let mut schema = body_schema(entry).unwrap_or_else(|| json!({}));
                    if let (Some(map), Some(name)) = (schema.as_object_mut(), entry.route.action) {
                        map.insert("title".into(), name.into());
                        map.extend(facts(entry));
                    }
                    schema
                })
                .collect();
            operation.insert("requestBody".into(), body(json!({ "oneOf": schemas })));
            operation.insert("responses".into(), Value::Object(merged));
        }
    }
    Value::Object(operation)
}

/// The body of a row, as one JSON schema.
fn body_schema(entry: &Entry) -> Option<Value> {
    let schemas: Vec<Value> = entry.route.body?.schemas.iter().map(|schema| json_schema(schema)).collect();
    Some(match <[Value; 1]>::try_from(schemas) {
        Ok([only]) => only,
        Err(several) => json!({ "allOf": several }),
    })
}

fn json_schema(schema: Schema) -> Value {
    let mut out = Map::new();
    for keyword in schema {
        insert(&mut out, keyword);
    }
    Value::Object(out)
}

fn insert(out: &mut Map<String, Value>, keyword: &Keyword) {
    let mut set = |key: &str, value: Value| out.insert(key.to_owned(), value);
    match keyword {
        Keyword::Type(types) => match types {
            [only] => set("type", json!(only.name())),
            several => set("type", several.iter().map(|one| json!(one.name())).collect()),
        },
        Keyword::MinLength(n) => set("minLength", json!(n)),
        Keyword::MaxLength(n) => set("maxLength", json!(n)),
        Keyword::Pattern(pattern) => set("pattern", json!((pattern.text)())),
        Keyword::Format(format) => set("format", json!(format.name())),
        Keyword::Enum(choices) => set("enum", choices.iter().map(choice).collect()),
        Keyword::Minimum(n) => set("minimum", json!(n)),
        Keyword::Maximum(n) => set("maximum", json!(n)),
        Keyword::Properties(list) => set("properties", Value::Object(properties(list))),
        Keyword::PatternProperties(pattern, schema) => {
            set("patternProperties", json!({ (pattern.text)(): json_schema(schema) }))
        }
        Keyword::Required([]) => None,
        Keyword::Required(names) => set("required", json!(names)),
        Keyword::Closed => set("additionalProperties", json!(false)),
        Keyword::MinProperties(n) => set("minProperties", json!(n)),
        Keyword::MaxProperties(n) => set("maxProperties", json!(n)),
        Keyword::AnyOfRequired(names) => {
            set("anyOf", names.iter().map(|name| json!({ "required": [name] })).collect())
        }
        Keyword::OneOf(schemas) => set("oneOf", schemas.iter().map(|schema| json_schema(schema)).collect()),
        Keyword::Items(schema) => set("items", json_schema(schema)),
        Keyword::ExactlyOneOf(names) => {
            set("oneOf", names.iter().map(|name| json!({ "required": [name] })).collect())
        }
        Keyword::MinItems(n) => set("minItems", json!(n)),
        Keyword::UniqueItems => set("uniqueItems", json!(true)),
        Keyword::Since(_, inner) => {
            insert(out, inner);
            None
        }
        // The document is of the newest version.
        Keyword::Until(..) => None,
    };
}

fn properties(list: &[(&str, Schema)]) -> Map<String, Value> {
    list.iter().map(|(name, schema)| ((*name).to_owned(), json_schema(schema))).collect()
}

fn choice(choice: &Choice) -> Value {
    match choice {
        Choice::Bool(flag) => json!(flag),
        Choice::Text(text) => json!(text),
    }
}
