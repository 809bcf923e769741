//! Values as Python prints them: error texts of the contract hold them so.

use serde_json::{Number, Value};

use super::printable::PRINTABLE;

/// `repr(value)`.
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    push(&mut out, value);
    out
}

/// `str(value)`: as [`repr`], but a text stands for itself.
pub fn display(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

/// `repr` of a text.
pub fn repr_text(text: &str) -> String {
    let mut out = String::new();
    push_text(&mut out, text);
    out
}

fn push(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Number(number) => out.push_str(&number_text(number)),
        Value::String(text) => push_text(out, text),
        Value::Array(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                out.push_str(if n > 0 { ", " } else { "" });
                push(out, item);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (n, (key, item)) in map.iter().enumerate() {
                out.push_str(if n > 0 { ", " } else { "" });
                push_text(out, key);
                out.push_str(": ");
                push(out, item);
            }
            out.push('}');
        }
    }
}

/// A number as Python prints it. Integers too large for 64 bits have come as floats: they are shown in digits.
fn number_text(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else { return number.to_string() };
    if is_huge_integer(number) { format!("{float:.0}") } else { float_text(float) }
}

/// Whether the number was most likely written as an integer beyond 64 bits.
pub fn is_huge_integer(number: &Number) -> bool {
    number.is_f64() && number.as_f64().is_some_and(|float| float.fract() == 0.0 && float.abs() >= 9.2e18)
}

/// `repr(float)`: shortest digits, an exponent below 1e-4 and from 1e16 on.
fn float_text(float: f64) -> String {
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if float != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = float.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

fn push_text(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if shows(c) => out.push(c),
            c if (c as u32) < 0x100 => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if (c as u32) < 0x10000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    out.push(quote);
}

/// Whether Python shows the character as itself. Beyond the basic plane everything is shown but tags and private use.
fn shows(c: char) -> bool {
    match u16::try_from(c as u32) {
        Ok(_) if c == ' ' => true,
        Ok(unit) => is_printable(unit) && !is_space(c),
        Err(_) => !matches!(c as u32, 0xE0000..=0xE00FF | 0xE01F0..=0x10FFFF),
    }
}

/// Unicode category Zs.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// Whether the character of the basic plane is in the table.
pub(super) fn is_printable(unit: u16) -> bool {
    let run = PRINTABLE.partition_point(|(first, _)| *first <= unit);
    run > 0 && unit <= PRINTABLE[run - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_look_as_python_prints_them() {
        let cases = [
            (json!(null), "None"),
            (json!(true), "True"),
            (json!(-3), "-3"),
            (json!(1.5), "1.5"),
            (json!(2.0), "2.0"),
            (json!(1e-7), "1e-07"),
            (json!(1.5e17), "1.5e+17"),
            (json!(0.0001), "0.0001"),
            (json!("it's"), "\"it's\""),
            (json!("it's \"so\""), "'it\\'s \"so\"'"),
            (json!("a\n\t\\\u{7}\u{a0}\u{2028}ü中\u{1F600}"), "'a\\n\\t\\\\\\x07\\xa0\\u2028ü中\u{1F600}'"),
            (json!({"a": [1, {"b": null}], "c": "d"}), "{'a': [1, {'b': None}], 'c': 'd'}"),
            (json!({}), "{}"),
            (json!([]), "[]"),
        ];
        for (value, text) in cases {
            assert_eq!(repr(&value), text);
        }
        assert_eq!(display(&json!("x")), "x");
        let huge: Value = serde_json::from_str("100000000000000000000").expect("JSON");
        assert_eq!(repr(&huge), "100000000000000000000");
    }
}
