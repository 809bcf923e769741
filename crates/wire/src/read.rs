//! Picking values out of request bodies that their schema has accepted. What the schema promised is not checked again: a
//! value of another type counts as absent.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Object;

/// Readers of one object of a request.
pub trait Read {
    /// A text; null and absence are `None`.
    fn text(&self, key: &str) -> Option<String>;
    /// A text freed of white space around it.
    fn trimmed(&self, key: &str) -> Option<String>;
    /// A change of a text: absent, cleared by null, or set (trimmed).
    fn change(&self, key: &str) -> Option<Option<String>>;
    /// One of the spellings of true or false.
    fn flag(&self, key: &str) -> Option<bool>;
    /// A number, as such or in digits.
    fn number(&self, key: &str) -> Option<u32>;
    /// An object of texts; null values are left out.
    fn texts(&self, key: &str) -> Option<BTreeMap<String, String>>;
    /// An id in any spelling of a UUID.
    fn id<T: From<uuid::Uuid>>(&self, key: &str) -> Option<T>;
}

impl Read for Object {
    fn text(&self, key: &str) -> Option<String> {
        self.get(key).and_then(Value::as_str).map(str::to_owned)
    }

    fn trimmed(&self, key: &str) -> Option<String> {
        self.get(key).and_then(Value::as_str).map(|text| text.trim().to_owned())
    }

    fn change(&self, key: &str) -> Option<Option<String>> {
        self.get(key).map(|value| value.as_str().map(|text| text.trim().to_owned()))
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(flag)
    }

    fn number(&self, key: &str) -> Option<u32> {
        match self.get(key)? {
            Value::String(digits) => digits.parse().ok(),
            value => value.as_u64().and_then(|number| u32::try_from(number).ok()),
        }
    }

    fn texts(&self, key: &str) -> Option<BTreeMap<String, String>> {
        self.get(key).and_then(Value::as_object).map(texts)
    }

    fn id<T: From<uuid::Uuid>>(&self, key: &str) -> Option<T> {
        self.get(key).and_then(Value::as_str).and_then(uuid_like).map(T::from)
    }
}

/// The texts of an object; other values are left out.
pub fn texts(object: &Object) -> BTreeMap<String, String> {
    object.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// A boolean, or one of the texts that stand for one.
pub fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => flag_text(text),
        Value::Number(number) => match number.as_u64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        _ => None,
    }
}

/// One of the texts that stand for true or false, in any case and with white space around it.
pub fn flag_text(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Some(true),
        "0" | "f" | "false" | "off" | "n" | "no" => Some(false),
        _ => None,
    }
}

/// A UUID as OpenStack recognises one: 32 hexadecimal digits, whatever dashes and braces are around and between them.
pub fn uuid_like(text: &str) -> Option<uuid::Uuid> {
    let bare = text.replace("urn:", "").replace("uuid:", "");
    let bare = bare.trim_matches(['{', '}']).replace('-', "");
    let hex = bare.len() == 32 && bare.bytes().all(|b| b.is_ascii_hexdigit());
    // Cinder compares the result, stripped of dashes and braces, with its own formatting: "urn:" forms pass too.
    hex.then(|| uuid::Uuid::parse_str(&bare).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_recognised_in_their_usual_dresses() {
        let plain = "157ebd002dd94a67b6f1fe14e74b1416";
        let dashed = "157ebd00-2dd9-4a67-b6f1-fe14e74b1416";
        for text in
            [plain, dashed, "{157ebd00-2dd9-4a67-b6f1-fe14e74b1416}", "157EBD00-2DD9-4A67-B6F1-FE14E74B1416"]
        {
            assert_eq!(uuid_like(text).expect(text).to_string(), dashed);
        }
        for text in ["", "abc", "157ebd00-2dd9-4a67-b6f1-fe14e74b141", "g57ebd002dd94a67b6f1fe14e74b1416"] {
            assert_eq!(uuid_like(text), None, "{text}");
        }
    }

    #[test]
    fn changes_tell_absence_from_null() {
        let object = serde_json::json!({"a": null, "b": " x ", "size": "7"});
        let object = object.as_object().expect("an object");
        assert_eq!(object.change("z"), None);
        assert_eq!(object.change("a"), Some(None));
        assert_eq!(object.change("b"), Some(Some("x".into())));
        assert_eq!(object.number("size"), Some(7));
    }
}
