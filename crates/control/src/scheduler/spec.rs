//! Extra specs: whether a capability is what a volume type asks for.

use serde_json::Value;

use super::capacity::truth;

/// Compares a capability with a requirement: `OPERATOR WORD`, or the whole text. What cannot be compared does not match.
pub fn matches(capability: &Value, required: &str) -> bool {
    let mut words = required.split_whitespace();
    let operator = words.next().unwrap_or_default();
    if !OPERATORS.contains(&operator) {
        return capability.as_str() == Some(required);
    }
    if capability.is_null() {
        return false;
    }
    if operator == "<or>" {
        // Every second word is an <or>.
        return words.step_by(2).any(|word| capability.as_str() == Some(word));
    }
    words.next().is_some_and(|word| compare(capability, operator, word))
}

/// The words that are operators when they come first.
const OPERATORS: &[&str] =
    &["=", "<in>", "<is>", "<or>", "==", "!=", ">=", "<=", "s==", "s!=", "s<", "s<=", "s>", "s>="];

fn compare(capability: &Value, operator: &str, word: &str) -> bool {
    match operator {
        "<in>" => match capability {
            Value::String(text) => text.contains(word),
            Value::Array(items) => items.iter().any(|item| item.as_str() == Some(word)),
            Value::Object(fields) => fields.contains_key(word),
            _ => false,
        },
        "<is>" => lenient_bool(capability) == lenient_bool(&Value::from(word)),
        // A capability that is no text differs from every word, and has no order with it.
        "s==" => capability.as_str() == Some(word),
        "s!=" => capability.as_str() != Some(word),
        "s<" | "s<=" | "s>" | "s>=" => capability.as_str().is_some_and(|text| match operator {
            "s<" => text < word,
            "s<=" => text <= word,
            "s>" => text > word,
            _ => text >= word,
        }),
        _ => match (float(capability), float(&Value::from(word))) {
            (Some(have), Some(want)) => match operator {
                // Cinder's `=` is "at least".
                "=" | ">=" => have >= want,
                "<=" => have <= want,
                "==" => have == want,
                _ => have != want,
            },
            _ => false,
        },
    }
}

/// Python's `float()`.
fn float(value: &Value) -> Option<f64> {
    use model::config::FromOption;
    match value {
        Value::Bool(yes) => Some(f64::from(u8::from(*yes))),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => f64::from_option(text).ok().flatten(),
        _ => None,
    }
}

/// Yes in any of the words for it; anything else is no.
pub(super) fn lenient_bool(value: &Value) -> bool {
    let yes = |text: &str| {
        ["t", "true", "on", "y", "yes", "1"].iter().any(|word| word.eq_ignore_ascii_case(text.trim()))
    };
    match value {
        Value::String(text) => yes(text),
        Value::Number(number) => yes(&number.to_string()),
        Value::Bool(_) => truth(value),
        _ => false,
    }
}
