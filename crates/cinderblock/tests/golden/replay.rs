//! Sends recorded requests and brings the answers into the form in which they were recorded.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Map, Value, json};

/// The projects of the recording.
const PROJECTS: [(&str, &str); 2] =
    [("project", "c773fdef3889bdadbe809f1e8aaeea46"), ("project2", "7e6d5340c88892f81f8cdb1c6eb71aba")];
/// Headers that are compared.
const HEADERS: [&str; 6] =
    ["content-type", "openstack-api-version", "vary", "location", "retry-after", "allow"];
/// Headers of which only the presence is compared.
const PRESENT: [&str; 2] = ["x-compute-request-id", "x-openstack-request-id"];
/// How long a resource may take to get where the recording waited for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A replay under way: later cases need what earlier ones made.
pub struct Replay {
    client: Client,
    base: String,
    /// What `<<name>>` stands for.
    names: BTreeMap<String, Value>,
}

impl Replay {
    pub fn new(base: &str) -> Self {
        let names = PROJECTS.map(|(name, id)| (name.to_owned(), json!(id))).into();
        Self { client: Client::new(), base: base.to_owned(), names }
    }

    /// Sends one case; gives its answer in recorded form, or the name that it needs and nobody gave.
    pub async fn one(&mut self, case: &Value) -> Result<Value, String> {
        let request = self.request(case)?;
        let Ok(response) = request.send().await else { return Ok(json!({"status": null})) };
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = response.text().await.unwrap_or_default();
        let body = match text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| json!({"<not json>": text})),
        };
        if status < 300 {
            self.save(case, &body);
        }
        let shown = HEADERS.iter().filter_map(|name| {
            let value = headers.get(*name)?.to_str().ok()?;
            Some(((*name).to_owned(), self.normal(&json!(value))))
        });
        let has: Vec<&str> = PRESENT.into_iter().filter(|name| headers.contains_key(*name)).collect();
        let mut got = json!({
            "status": status, "headers": shown.collect::<Map<_, _>>(), "has": has, "body": self.normal(&body),
        });
        if let (Some(wait), true) = (case["wait"].as_array(), status < 300) {
            let last = self.wait(wait, case).await?;
            got["then"] = self.normal(&last);
        }
        Ok(got)
    }

    fn request(&self, case: &Value) -> Result<RequestBuilder, String> {
        let path = self.fill(&case["path"])?;
        let url = format!("{}{}", self.base, path.as_str().unwrap());
        let method: Method = case["method"].as_str().unwrap().parse().unwrap();
        let mut request = self.client.request(method, url);
        let mut headers = Map::from_iter([("Accept".to_owned(), json!("application/json"))]);
        if case["anon"] != true {
            headers.insert("X-Auth-Token".into(), self.token(case));
        }
        if let Some(version) = case["mv"].as_str() {
            headers.insert("OpenStack-API-Version".into(), json!(format!("volume {version}")));
        }
        let raw = case["raw"].as_str();
        let body = self.fill(&case["body"])?;
        if raw.is_some() || !body.is_null() {
            headers.insert("Content-Type".into(), json!("application/json"));
            request = request.body(raw.map_or_else(|| body.to_string(), str::to_owned));
        }
        headers.extend(case["headers"].as_object().cloned().unwrap_or_default());
        for (name, value) in &headers {
            request = request.header(name, value.as_str().unwrap());
        }
        Ok(request)
    }

    fn token(&self, case: &Value) -> Value {
        let project = case["as"].as_str().unwrap_or("project");
        json!(format!("admin:{}", self.names[project].as_str().unwrap()))
    }

    fn save(&mut self, case: &Value, body: &Value) {
        for (name, place) in case["save"].as_object().into_iter().flatten() {
            let value = dig(body, place.as_str().unwrap());
            if !value.is_null() {
                self.names.insert(name.clone(), value.clone());
            }
        }
    }

    /// Polls until a value is what was recorded; gives the last one seen. `gone` stands for 404.
    async fn wait(&self, wait: &[Value], case: &Value) -> Result<Value, String> {
        let path = self.fill(&wait[0])?;
        let (place, wanted) = (wait[1].as_str().unwrap(), wait[2].as_str().unwrap());
        let through_errors = wait.len() > 3 || wanted.starts_with("error");
        let begun = Instant::now();
        loop {
            let url = format!("{}{}", self.base, path.as_str().unwrap());
            let token = self.token(case);
            let request = self.client.get(url).header("X-Auth-Token", token.as_str().unwrap());
            let response = request.header("OpenStack-API-Version", "volume 3.71").send().await;
            let last = match response {
                Ok(response) if response.status() == 404 => json!("gone"),
                Ok(response) => {
                    let body: Value = response.json().await.unwrap_or_default();
                    dig(&body, place).clone()
                }
                Err(_) => json!("?"),
            };
            let failed = last.as_str().is_some_and(|text| text.starts_with("error"));
            if last == wanted || (failed && !through_errors) || begun.elapsed() > PATIENCE {
                return Ok(last);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Puts values for `<<names>>`.
    fn fill(&self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => match text.strip_prefix("<<").and_then(|rest| rest.strip_suffix(">>")) {
                Some(name) if !name.contains('<') => {
                    self.names.get(name).ok_or_else(|| name.to_owned())?.clone()
                }
                _ => Value::String(self.fill_text(text)?),
            },
            Value::Array(items) => items.iter().map(|item| self.fill(item)).collect::<Result<_, _>>()?,
            Value::Object(map) => {
                let pair = |(key, value): (&String, &Value)| Ok((self.fill_text(key)?, self.fill(value)?));
                Value::Object(map.iter().map(pair).collect::<Result<_, String>>()?)
            }
            other => other.clone(),
        })
    }

    fn fill_text(&self, text: &str) -> Result<String, String> {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("<<") {
            let (name, tail) = after.split_once(">>").unwrap();
            let value = self.names.get(name).ok_or_else(|| name.to_owned())?;
            out.push_str(before);
            out.push_str(value.as_str().unwrap_or_default());
            rest = tail;
        }
        Ok(out + rest)
    }

    /// Puts names for values: the address of the service, what was saved, ids, times.
    fn normal(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.normal_text(text)),
            Value::Array(items) => items.iter().map(|item| self.normal(item)).collect(),
            Value::Object(map) => {
                let pair = |(key, value): (&String, &Value)| {
                    let value = if key == "mount_point_base" { json!("<dir>") } else { self.normal(value) };
                    (self.normal_text(key), value)
                };
                Value::Object(map.iter().map(pair).collect())
            }
            other => other.clone(),
        }
    }

    fn normal_text(&self, text: &str) -> String {
        let mut text = text.replace(&self.base, "<base>");
        let known = self.names.iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
        let mut known: Vec<_> = known.filter(|(_, value)| value.len() >= 8).collect();
        known.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        for (name, value) in known {
            text = text.replace(value, &format!("<<{name}>>"));
        }
        text = replace(&text, request_id, "<request-id>");
        text = replace(&text, uuid, "<uuid>");
        replace(&text, time, "<time>")
    }
}

/// What stands at a dotted path; null when nothing does.
fn dig<'a>(value: &'a Value, place: &str) -> &'a Value {
    place.split('.').fold(value, |value, part| match value {
        Value::Array(items) => items.get(part.parse::<usize>().unwrap()).unwrap_or(&Value::Null),
        other => &other[part],
    })
}

/// Replaces every stretch that `length` recognises at its beginning.
fn replace(text: &str, length: fn(&[u8]) -> Option<usize>, by: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(first) = rest.chars().next() {
        let step = length(rest.as_bytes());
        out.push_str(step.map_or(&rest[..first.len_utf8()], |_| by));
        rest = &rest[step.unwrap_or(first.len_utf8())..];
    }
    out
}

/// Whether the bytes begin with the shape: `x` a hexadecimal digit, `9` a digit, anything else itself.
fn shaped(bytes: &[u8], shape: &str) -> Option<usize> {
    let fits = |(byte, wanted): (&u8, u8)| match wanted {
        b'x' => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
        b'9' => byte.is_ascii_digit(),
        other => *byte == other,
    };
    (bytes.len() >= shape.len() && bytes.iter().zip(shape.bytes()).all(fits)).then_some(shape.len())
}

fn uuid(bytes: &[u8]) -> Option<usize> {
    shaped(bytes, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")
}

fn request_id(bytes: &[u8]) -> Option<usize> {
    let rest = bytes.strip_prefix(b"req-")?;
    uuid(rest).map(|length| length + 4)
}

fn time(bytes: &[u8]) -> Option<usize> {
    let mut length = shaped(bytes, "9999-99-99T99:99:99").or_else(|| shaped(bytes, "9999-99-99 99:99:99"))?;
    if bytes.get(length) == Some(&b'.') {
        length += 1 + bytes[length + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    }
    let rest = &bytes[length..];
    let zone = if rest.first() == Some(&b'Z') { Some(1) } else { None };
    let zone = zone.or_else(|| shaped(rest, "+99:99")).or_else(|| shaped(rest, "-99:99"));
    let zone = zone.or_else(|| shaped(rest, "+9999")).or_else(|| shaped(rest, "-9999"));
    Some(length + zone.unwrap_or(0))
}

#[test]
fn values_that_differ_between_runs_get_names() {
    let replay = Replay::new("http://h:1");
    let text = "http://h:1/v3 req-157ebd00-2dd9-4a67-b6f1-fe14e74b1416 157ebd00-2dd9-4a67-b6f1-fe14e74b1416 \
                2026-11-21T19:15:28.095006 2012-05-31T00:00:00+00:00 c773fdef3889bdadbe809f1e8aaeea46";
    assert_eq!(replay.normal_text(text), "<base>/v3 <request-id> <uuid> <time> <time> <<project>>");
}
