//! What the text of an option means, by oslo.config's types.

use std::collections::BTreeMap;

use crate::Secret;

/// A type that an option's text can be read as.
pub trait FromOption: Sized {
    /// Reads a text; `None` where the empty text means "not set".
    ///
    /// # Errors
    /// What is wrong with the text, as the end of a sentence that starts with it.
    fn from_option(text: &str) -> Result<Option<Self>, String>;
}

impl FromOption for String {
    fn from_option(text: &str) -> Result<Option<Self>, String> {
        Ok(Some(text.to_owned()))
    }
}

impl FromOption for Secret<String> {
    fn from_option(text: &str) -> Result<Option<Self>, String> {
        Ok(Some(Secret::new(text.to_owned())))
    }
}

impl FromOption for bool {
    fn from_option(text: &str) -> Result<Option<Self>, String> {
        match text.trim().to_lowercase().as_str() {
            "true" | "1" | "on" | "yes" => Ok(Some(true)),
            "false" | "0" | "off" | "no" => Ok(Some(false)),
            _ => Err("is neither true nor false (true, yes, on, 1; false, no, off, 0)".into()),
        }
    }
}

impl FromOption for f64 {
    fn from_option(text: &str) -> Result<Option<Self>, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        digits(text).and_then(|text| text.parse().ok()).map(Some).ok_or_else(|| "is not a number".into())
    }
}

/// Numbers as Python reads them: a single `_` may stand between two digits.
fn digits(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let misplaced = bytes.iter().enumerate().any(|(at, byte)| {
        let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        *byte == b'_' && !(at > 0 && digit(at - 1) && digit(at + 1))
    });
    (!misplaced).then(|| text.replace('_', ""))
}

macro_rules! whole_numbers {
    ($($number:ty),+) => {$(
        impl FromOption for $number {
            fn from_option(text: &str) -> Result<Option<Self>, String> {
                let text = text.trim();
                if text.is_empty() {
                    return Ok(None);
                }
                let number: i128 = digits(text)
                    .and_then(|text| text.parse().ok())
                    .ok_or_else(|| "is not a whole number".to_owned())?;
                <$number>::try_from(number)
                    .map(Some)
                    .map_err(|_| format!("is not between {} and {}", <$number>::MIN, <$number>::MAX))
            }
        }
    )+};
}
// A port is a u16: its bounds are oslo.config's.
whole_numbers!(i64, u64, i32, u32, u16, usize);

impl FromOption for Vec<String> {
    fn from_option(text: &str) -> Result<Option<Self>, String> {
        let text = text.trim().trim_end_matches(',');
        if text.is_empty() {
            return Ok(Some(Vec::new()));
        }
        Ok(Some(text.split(',').map(|item| item.trim().to_owned()).collect()))
    }
}

/// `key:value,key:value`. A part without a colon belongs to the name after it, comma and all.
impl FromOption for BTreeMap<String, String> {
    fn from_option(text: &str) -> Result<Option<Self>, String> {
        let mut pairs = BTreeMap::new();
        let text = text.trim();
        if text.is_empty() {
            return Ok(Some(pairs));
        }
        let mut parts = text.split(',');
        while let Some(part) = parts.next() {
            let mut pair = part.to_owned();
            while !pair.contains(':') {
                let Some(next) = parts.next() else {
                    return Err("is not a list of NAME:VALUE pairs separated by commas".into());
                };
                pair.push(',');
                pair.push_str(next);
            }
            let (key, value) = pair.split_once(':').unwrap_or((&pair, ""));
            let key = key.trim();
            if key.is_empty() {
                return Err("has a pair without a name".into());
            }
            if pairs.insert(key.to_owned(), value.trim().to_owned()).is_some() {
                return Err(format!("names {key} twice"));
            }
        }
        Ok(Some(pairs))
    }
}

/// The complaint about a number outside its option's bounds.
pub(super) fn outside(shown: &str, min: i64, max: i64) -> String {
    match (min, max) {
        (min, i64::MAX) => format!("{shown} is less than {min}"),
        (i64::MIN, max) => format!("{shown} is more than {max}"),
        (min, max) => format!("{shown} is not between {min} and {max}"),
    }
}
