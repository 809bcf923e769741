//! `policy.yaml`: rule names and checks. JSON is YAML, so `policy.json` reads as well.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_saphyr::Tagged;

use super::PolicyError;
use super::check::Check;

/// Reads one file. A rule that stands twice is what it says last.
pub(super) fn read(file: &str, text: &str) -> Result<BTreeMap<String, Check>, PolicyError> {
    let refuse = |problem: String| PolicyError::File { file: file.to_owned(), problem };
    // The parser has no word for a text without any content.
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(BTreeMap::new());
    }
    let options = serde_saphyr::options! { duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins };
    let rules: Option<BTreeMap<String, Tagged<Value>>> = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| {
        // Its first line says where and what; the rest draws the place.
        let shown = error.to_string();
        let first = shown.lines().next().unwrap_or_default();
        refuse(first.strip_prefix("error: ").unwrap_or(first).to_owned())
    })?;
    let mut checks = BTreeMap::new();
    for (rule, Tagged(content, tag)) in rules.unwrap_or_default() {
        let check = untagged(tag.as_deref())
            .and_then(|()| check(&content))
            .map_err(|problem| PolicyError::Check { file: file.to_owned(), rule: rule.clone(), problem })?;
        checks.insert(rule, check);
    }
    Ok(checks)
}

/// A bare `!` is a tag to YAML, of an empty text, which would allow what its author meant to deny.
fn untagged(tag: Option<&str>) -> Result<(), String> {
    match tag {
        None | Some("tag:yaml.org,2002:str") => Ok(()),
        Some(tag) => Err(format!("its check is read as the YAML tag {tag} (put it in quotes)")),
    }
}

/// Reads a check: a text, or the old list of lists.
fn check(content: &Value) -> Result<Check, String> {
    let items = match content {
        Value::String(text) => return Check::parse(text),
        Value::Array(items) => items,
        // oslo.policy takes a missing check for "everybody": nobody means that.
        Value::Null => {
            return Err("it has no check (write \"\" to allow everybody, \"!\" in quotes to deny)".into());
        }
        _ => return Err("its check must be a text".into()),
    };
    let mut lists = Vec::new();
    for item in items {
        lists.push(match item {
            Value::String(text) if text.is_empty() => Vec::new(),
            Value::String(text) => vec![text.clone()],
            Value::Array(texts) => texts
                .iter()
                .map(|text| text.as_str().map(str::to_owned))
                .collect::<Option<Vec<String>>>()
                .ok_or("a list of its check holds something that is not a text")?,
            _ => return Err("its check holds something that is neither a text nor a list".into()),
        });
    }
    Check::parse_list(&lists)
}
