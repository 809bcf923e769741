//! Request schemas as data, and the validator that words its refusals as Cinder does (api-routes.md 3).
//!
//! A schema is a slice of keywords in the order in which they are checked: the first failure is the answer. What a version does
//! not know yet is not in its schema; that is asked of `wire::microversion`, not written here.

mod format;
mod printable;
pub mod repr;
pub mod requests;
mod types;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};
use wire::microversion::{Behaviour, Resource, Version};

pub use format::Format;
use repr::{display, repr, repr_text};

/// What a value must satisfy, checked in order.
pub type Schema = &'static [Keyword];

/// A JSON type, by its schema name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Object,
    Array,
    String,
    Integer,
    Boolean,
    Null,
}

/// A regular expression: its text for messages, and what it accepts.
#[derive(Clone, Copy)]
pub struct Pattern {
    pub text: fn() -> String,
    pub accepts: fn(&str) -> bool,
}

/// One of an enumeration's values.
#[derive(Clone, Copy)]
pub enum Choice {
    Bool(bool),
    Text(&'static str),
}

/// One requirement of a schema.
#[derive(Clone, Copy)]
pub enum Keyword {
    Type(&'static [Type]),
    MinLength(usize),
    MaxLength(usize),
    Pattern(Pattern),
    Format(Format),
    Enum(&'static [Choice]),
    Minimum(i64),
    Maximum(i64),
    Properties(&'static [(&'static str, Schema)]),
    /// Properties whose names match.
    PatternProperties(Pattern, Schema),
    Required(&'static [&'static str]),
    /// `additionalProperties: false`.
    Closed,
    MinProperties(usize),
    MaxProperties(usize),
    /// At least one of these properties is there.
    AnyOfRequired(&'static [&'static str]),
    /// Exactly one of these properties is there.
    ExactlyOneOf(&'static [&'static str]),
    /// Exactly one of these schemas holds.
    OneOf(&'static [Schema]),
    Items(Schema),
    MinItems(usize),
    UniqueItems,
    /// The keyword, from the version on that brought the behaviour.
    Since(Behaviour, &'static Keyword),
    /// The keyword, below that version.
    Until(Behaviour, &'static Keyword),
}

/// The body of one request.
#[derive(Clone, Copy)]
pub struct Body {
    /// Whose fields the microversion table is asked about.
    pub resource: Option<Resource>,
    /// Each is checked on the whole body, in order.
    pub schemas: &'static [Schema],
}

/// Why a body is refused: the text of a 400.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

/// Checks a body at a version.
///
/// # Errors
/// The message of the 400.
pub fn validate(body: &Value, wanted: &Body, version: Version) -> Result<(), Refused> {
    let check = Check { resource: wanted.resource, version };
    for schema in wanted.schemas {
        check.value(body, schema, None).map_err(Failure::into_refused)?;
    }
    Ok(())
}

/// One failed keyword.
enum Failure {
    /// In Cinder's usual frame; `at` is the last element of the value's path, if it has one.
    Schema { at: Option<String>, value: Value, reason: String },
    /// A text of its own, without the frame.
    Bare(String),
}

impl Failure {
    fn into_refused(self) -> Refused {
        Refused(match self {
            Self::Schema { at: Some(at), value, reason } => {
                format!("Invalid input for field/attribute {at}. Value: {}. {reason}", display(&value))
            }
            Self::Schema { at: None, reason, .. } => reason,
            Self::Bare(text) => text,
        })
    }
}

struct Check {
    resource: Option<Resource>,
    version: Version,
}

impl Check {
    fn value(&self, value: &Value, schema: Schema, at: Option<&str>) -> Result<(), Failure> {
        schema.iter().try_for_each(|keyword| self.keyword(value, keyword, schema, at))
    }

    fn keyword(
        &self,
        value: &Value,
        keyword: &Keyword,
        schema: Schema,
        at: Option<&str>,
    ) -> Result<(), Failure> {
        let fail =
            |reason: String| Err(Failure::Schema { at: at.map(str::to_owned), value: value.clone(), reason });
        match keyword {
            Keyword::Format(format) => format.check(value).or_else(|refusal| match refusal {
                format::Refusal::Mismatch => fail(format!("{} is not a '{}'", repr(value), format.name())),
                format::Refusal::Bare(text) => Err(Failure::Bare(text)),
            }),
            Keyword::Properties(properties) => {
                let Value::Object(object) = value else { return Ok(()) };
                let known = properties.iter().filter(|(name, _)| self.knows(name));
                let given = known.filter_map(|(name, schema)| Some((name, object.get(*name)?, schema)));
                given.into_iter().try_for_each(|(name, value, schema)| self.value(value, schema, Some(name)))
            }
            Keyword::PatternProperties(pattern, schema) => {
                let Value::Object(object) = value else { return Ok(()) };
                let matching = object.iter().filter(|(name, _)| (pattern.accepts)(name));
                matching.into_iter().try_for_each(|(name, value)| self.value(value, schema, Some(name)))
            }
            Keyword::Closed => {
                let Value::Object(object) = value else { return Ok(()) };
                self.closed(object, schema).map_or(Ok(()), fail)
            }
            Keyword::Items(schema) => {
                let Value::Array(items) = value else { return Ok(()) };
                let mut items = items.iter().enumerate();
                items.try_for_each(|(n, item)| self.value(item, schema, Some(&n.to_string())))
            }
            Keyword::OneOf(schemas) => {
                let holds = schemas.iter().filter(|schema| self.value(value, schema, at).is_ok()).count();
                match holds {
                    1 => Ok(()),
                    _ => fail(format!("{} is not valid under any of the given schemas", repr(value))),
                }
            }
            Keyword::Since(behaviour, inner) if self.version.has(*behaviour) => {
                self.keyword(value, inner, schema, at)
            }
            Keyword::Until(behaviour, inner) if !self.version.has(*behaviour) => {
                self.keyword(value, inner, schema, at)
            }
            Keyword::Since(..) | Keyword::Until(..) => Ok(()),
            simple => simple.complaint(value).map_or(Ok(()), fail),
        }
    }

    fn knows(&self, name: &str) -> bool {
        self.resource.is_none_or(|resource| self.version.accepts(resource, name))
    }

    /// What `additionalProperties: false` says, if anything.
    fn closed(&self, object: &Map<String, Value>, schema: Schema) -> Option<String> {
        let declared = |name: &str| {
            schema.iter().any(|keyword| match keyword {
                Keyword::Properties(list) => list.iter().any(|(known, _)| *known == name) && self.knows(name),
                Keyword::PatternProperties(pattern, _) => (pattern.accepts)(name),
                _ => false,
            })
        };
        let mut extra: Vec<&str> = object.keys().map(String::as_str).filter(|name| !declared(name)).collect();
        if extra.is_empty() {
            return None;
        }
        extra.sort_unstable();
        let names = extra.iter().map(|name| repr_text(name)).collect::<Vec<_>>().join(", ");
        let pattern = schema.iter().find_map(|keyword| match keyword {
            Keyword::PatternProperties(pattern, _) => Some((pattern.text)()),
            _ => None,
        });
        Some(match (pattern, extra.len()) {
            (Some(text), 1) => format!("{names} does not match any of the regexes: {}", repr_text(&text)),
            (Some(text), _) => format!("{names} do not match any of the regexes: {}", repr_text(&text)),
            (None, 1) => format!("Additional properties are not allowed ({names} was unexpected)"),
            (None, _) => format!("Additional properties are not allowed ({names} were unexpected)"),
        })
    }
}

impl Keyword {
    /// What a keyword without schemas inside says against a value, if anything.
    fn complaint(&self, value: &Value) -> Option<String> {
        let shown = || repr(value);
        let length = || value.as_str().map(|text| text.chars().count());
        let size = || value.as_object().map(Map::len);
        match self {
            Self::Type(types) => (!types.iter().any(|t| t.holds(value))).then(|| {
                let names: Vec<String> = types.iter().map(|t| format!("'{}'", t.name())).collect();
                format!("{} is not of type {}", shown(), names.join(", "))
            }),
            Self::MinLength(1) => {
                length().filter(|n| *n < 1).map(|_| format!("{} should be non-empty", shown()))
            }
            Self::MinLength(min) => length().filter(|n| n < min).map(|_| format!("{} is too short", shown())),
            Self::MaxLength(max) => length().filter(|n| n > max).map(|_| format!("{} is too long", shown())),
            Self::Pattern(pattern) => value
                .as_str()
                .filter(|text| !(pattern.accepts)(text))
                .map(|_| format!("{} does not match {}", shown(), repr_text(&(pattern.text)()))),
            Self::Enum(choices) => (!choices.iter().any(|choice| choice.is(value)))
                .then(|| format!("{} is not one of {}", shown(), choices_text(choices))),
            Self::Minimum(min) => number(value)
                .filter(|(n, _)| *n < *min as f64)
                .map(|(_, text)| format!("{text} is less than the minimum of {min}")),
            Self::Maximum(max) => number(value)
                .filter(|(n, _)| *n > *max as f64)
                .map(|(_, text)| format!("{text} is greater than the maximum of {max}")),
            Self::Required(names) => {
                let object = value.as_object()?;
                let missing = names.iter().find(|name| !object.contains_key(**name))?;
                Some(format!("'{missing}' is a required property"))
            }
            Self::MinProperties(1) => {
                size().filter(|n| *n < 1).map(|_| format!("{} should be non-empty", shown()))
            }
            Self::MinProperties(min) => {
                size().filter(|n| n < min).map(|_| format!("{} does not have enough properties", shown()))
            }
            Self::MaxProperties(max) => {
                size().filter(|n| n > max).map(|_| format!("{} has too many properties", shown()))
            }
            Self::AnyOfRequired(names) => {
                let object = value.as_object()?;
                let none = !names.iter().any(|name| object.contains_key(*name));
                none.then(|| format!("{} is not valid under any of the given schemas", shown()))
            }
            Self::ExactlyOneOf(names) => exactly_one(value, names),
            Self::MinItems(min) => value
                .as_array()
                .filter(|items| items.len() < *min)
                .map(|_| format!("{} should be non-empty", shown())),
            Self::UniqueItems => {
                let items = value.as_array()?;
                let twice = items.iter().enumerate().any(|(n, item)| items[..n].contains(item));
                twice.then(|| format!("{} has non-unique elements", shown()))
            }
            // Those with schemas inside are `Check`'s.
            _ => None,
        }
    }
}

impl Type {
    /// As schemas spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Null => "null",
        }
    }

    fn holds(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Object, Value::Object(_))
            | (Self::Array, Value::Array(_))
            | (Self::String, Value::String(_))
            | (Self::Boolean, Value::Bool(_))
            | (Self::Null, Value::Null) => true,
            (Self::Integer, Value::Number(number)) => !number.is_f64() || repr::is_huge_integer(number),
            _ => false,
        }
    }
}

impl Choice {
    fn is(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Bool(a), Value::Bool(b)) => a == *b,
            (Self::Text(a), Value::String(b)) => a == b,
            _ => false,
        }
    }
}

/// What is wrong with an object that must have exactly one of these properties, if anything.
fn exactly_one(value: &Value, names: &[&str]) -> Option<String> {
    let object = value.as_object()?;
    let there: Vec<&str> = names.iter().copied().filter(|name| object.contains_key(*name)).collect();
    let Some((first, others)) = there.split_first() else {
        return Some(format!("{} is not valid under any of the given schemas", repr(value)));
    };
    if others.is_empty() {
        return None;
    }
    // The one that was met first comes last.
    let branches: Vec<String> =
        others.iter().chain([first]).map(|name| format!("{{'required': ['{name}']}}")).collect();
    Some(format!("{} is valid under each of {}", repr(value), branches.join(", ")))
}

fn choices_text(choices: &[Choice]) -> String {
    let texts: Vec<String> = choices
        .iter()
        .map(|choice| match choice {
            Choice::Bool(flag) => repr(&Value::Bool(*flag)),
            Choice::Text(text) => repr_text(text),
        })
        .collect();
    format!("[{}]", texts.join(", "))
}

/// A number, or the number that a text spells, with how it is shown. Booleans count as 0 and 1.
fn number(value: &Value) -> Option<(f64, String)> {
    match value {
        Value::Number(n) => Some((n.as_f64()?, repr(value))),
        Value::Bool(flag) => Some((f64::from(u8::from(*flag)), repr(value))),
        Value::String(text) => {
            let text = text.trim();
            let number: f64 = text.parse().ok()?;
            let whole = text.trim_start_matches(['+', '-']).bytes().all(|b| b.is_ascii_digit());
            let shown = if whole { whole_number(text) } else { repr(&serde_json::json!(number)) };
            Some((number, shown))
        }
        _ => None,
    }
}

/// The integer that a text spells, as Python prints it, however long.
fn whole_number(text: &str) -> String {
    let digits = text.trim_start_matches(['+', '-']).trim_start_matches('0');
    match (digits, text.starts_with('-')) {
        ("", _) => "0".into(),
        (digits, true) => format!("-{digits}"),
        (digits, false) => digits.into(),
    }
}
