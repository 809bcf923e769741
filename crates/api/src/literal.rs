//! Python literals in filters: `{'k': 'v'}`, `['a', 'b']`, `1`, `None`. What is none stays a text.

use serde_json::{Map, Number, Value};

/// How deep literals may nest.
const MAX_DEPTH: u32 = 16;

/// The value that a literal spells, or the text itself.
pub fn literal_or_text(text: &str) -> Value {
    literal(text).unwrap_or_else(|| Value::String(text.to_owned()))
}

/// The value that a literal spells.
pub fn literal(text: &str) -> Option<Value> {
    // Python's parser takes leading blanks as an indent and refuses; its `literal_eval` strips spaces and tabs first.
    let mut reader = Reader { rest: text.trim_start_matches([' ', '\t']) };
    let value = reader.value(MAX_DEPTH)?;
    reader.blanks();
    reader.rest.is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: char) -> bool {
        self.blanks();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, depth: u32) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        self.blanks();
        match self.rest.chars().next()? {
            '{' => self.braces(depth),
            '[' => self.items('[', ']', depth).map(|(items, _)| Value::Array(items)),
            '(' => {
                let (mut items, commas) = self.items('(', ')', depth)?;
                if items.len() == 1 && commas == 0 { items.pop() } else { Some(Value::Array(items)) }
            }
            '\'' | '"' => self.text().map(Value::String),
            '-' | '+' | '0'..='9' | '.' => self.number(),
            _ => self.word(),
        }
    }

    /// A list of values in brackets, and how many commas it had.
    fn items(&mut self, open: char, close: char, depth: u32) -> Option<(Vec<Value>, usize)> {
        if !self.take(open) {
            return None;
        }
        let (mut items, mut commas) = (Vec::new(), 0);
        loop {
            if self.take(close) {
                return Some((items, commas));
            }
            if items.len() != commas {
                return None;
            }
            items.push(self.value(depth)?);
            if self.take(',') {
                commas += 1;
            }
        }
    }

    /// A dictionary, or a set (which counts as a list).
    fn braces(&mut self, depth: u32) -> Option<Value> {
        let start = self.rest;
        let mut map = Map::new();
        self.take('{');
        loop {
            if self.take('}') {
                return Some(Value::Object(map));
            }
            let key = self.value(depth)?;
            if !self.take(':') {
                self.rest = start;
                return self.items('{', '}', depth).map(|(items, _)| Value::Array(items));
            }
            let value = self.value(depth)?;
            map.insert(crate::schema::repr::display(&key), value);
            if !self.take(',') {
                return self.take('}').then_some(Value::Object(map));
            }
        }
    }

    fn text(&mut self) -> Option<String> {
        let quote = self.rest.chars().next()?;
        let mut out = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Some(out);
                }
                '\\' => match chars.next()?.1 {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    c @ ('\\' | '\'' | '"') => out.push(c),
                    other => {
                        out.push('\\');
                        out.push(other);
                    }
                },
                '\n' => return None,
                c => out.push(c),
            }
        }
        None
    }

    fn number(&mut self) -> Option<Value> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')))
            .unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        let digits = text.trim_start_matches(['+', '-']);
        let whole = digits.bytes().all(|b| b.is_ascii_digit());
        // Python refuses leading zeros: 007 is no number.
        if whole && digits.len() > 1 && digits.starts_with('0') && digits.bytes().any(|b| b != b'0') {
            return None;
        }
        let value = match text.parse::<i64>() {
            Ok(number) => Value::from(number),
            Err(_) if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
                Value::Number(Number::from_f64(text.parse().ok()?)?)
            }
            Err(_) => return None,
        };
        self.rest = rest;
        Some(value)
    }

    fn word(&mut self) -> Option<Value> {
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let value = match word {
            "None" => Value::Null,
            "True" => Value::Bool(true),
            "False" => Value::Bool(false),
            _ => return None,
        };
        self.rest = rest;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn literals_are_read_and_everything_else_is_not() {
        let cases = [
            ("1", json!(1)),
            ("-1", json!(-1)),
            ("1.5", json!(1.5)),
            ("None", json!(null)),
            ("True", json!(true)),
            ("'a'", json!("a")),
            ("\"it's\"", json!("it's")),
            ("{'k': 'v', 'n': 1}", json!({"k": "v", "n": 1})),
            ("{}", json!({})),
            ("{'a', 'b'}", json!(["a", "b"])),
            ("['a', 'b',]", json!(["a", "b"])),
            ("('a', 'b')", json!(["a", "b"])),
            ("('a')", json!("a")),
            (" [1] ", json!([1])),
        ];
        for (text, value) in cases {
            assert_eq!(literal(text), Some(value), "{text}");
        }
        for text in [
            "",
            "available",
            "in-use",
            "2026-01-01",
            "007",
            "{'k': 'v'",
            "['a' 'b']",
            "true",
            "1 2",
            "{'k':}",
            "'a",
            "nan",
        ] {
            assert_eq!(literal(text), None, "{text}");
        }
        assert_eq!(literal_or_text("in-use"), json!("in-use"));
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        assert_eq!(literal(&deep), None);
    }
}
