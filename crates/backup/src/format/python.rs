//! JSON text as Python's `json.dumps` writes it: ASCII only, `", "` and `": "` between values.
//!
//! Cinder reads any JSON; writing its very bytes keeps backups of both services comparable.

use std::fmt::Write;

use serde_json::Value;

/// Appends `text` as a JSON string, quotes included; everything outside printable ASCII is escaped.
pub fn push_str(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}"); // writing to a string cannot fail
                }
            }
        }
    }
    out.push('"');
}

/// Appends a string or `null`.
pub fn push_opt(out: &mut String, text: Option<&str>) {
    match text {
        Some(text) => push_str(out, text),
        None => out.push_str("null"),
    }
}

/// `json.dumps(value)`: on one line, keys in the value's own order.
pub fn dumps(value: &Value) -> String {
    let mut out = String::new();
    push_value(&mut out, value);
    out
}

fn push_value(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => push_str(out, text),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                push_value(out, item);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (i, (key, item)) in fields.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                push_str(out, key);
                out.push_str(": ");
                push_value(out, item);
            }
            out.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strings_are_escaped_as_python_does() {
        let mut out = String::new();
        push_str(&mut out, "a\"\\/\n\u{7f}\u{1}\u{e9}\u{1f600}~ ");
        assert_eq!(out, r#""a\"\\/\n\u007f\u0001\u00e9\ud83d\ude00~ ""#);
    }

    #[test]
    fn values_stand_on_one_line() {
        let value = serde_json::json!({"b": [1, null, true], "a": {"k": "v"}, "e": [], "f": {}});
        assert_eq!(dumps(&value), r#"{"b": [1, null, true], "a": {"k": "v"}, "e": [], "f": {}}"#);
    }

    proptest! {
        #[test]
        fn any_string_reads_back(text in any::<String>()) {
            let mut out = String::new();
            push_str(&mut out, &text);
            prop_assert!(out.bytes().all(|b| (b' '..=b'~').contains(&b)));
            prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }
}
