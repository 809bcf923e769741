//! Query strings: an ordered list of pairs, taken apart by the handlers piece by piece; what is left over filters.

use crate::fault::Fault;

/// The parameters of a request, in order, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Takes a raw query string apart. Bytes that are no UTF-8 become replacement characters.
    pub fn parse(raw: &str) -> Self {
        let pairs = raw.split(['&', ';']).filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(key, Plus::IsSpace), decode(value, Plus::IsSpace))
                })
                .collect(),
        )
    }

    /// All of it, in order.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// The value of a parameter; the last one when it is repeated.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// Whether the parameter is there.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Removes a parameter and gives its value.
    pub fn take(&mut self, key: &str) -> Option<String> {
        let value = self.get(key).map(str::to_owned);
        self.0.retain(|(k, _)| k != key);
        value
    }

    /// Gives a parameter another name.
    pub fn rename(&mut self, from: &str, to: &str) {
        for (key, _) in &mut self.0 {
            if key == from {
                *key = to.to_owned();
            }
        }
    }

    /// Keeps the parameters whose name passes.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.0.retain(|(key, _)| keep(key));
    }

    /// A boolean parameter; absent is false.
    ///
    /// # Errors
    /// 400 when it is there and no boolean.
    pub fn flag(&self, key: &str) -> Result<bool, Fault> {
        match self.get(key) {
            None => Ok(false),
            Some(text) => wire::read::flag_text(text)
                .ok_or_else(|| Fault::bad_request(format!("Value '{text}' for '{key}' is not a boolean."))),
        }
    }
}

/// How `+` reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Plus {
    IsSpace,
    IsItself,
}

/// Decodes `%XX`; what is no escape stays.
pub fn decode(text: &str, plus: Plus) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        let decoded = escaped.and_then(|hex| Some(hex_digit(hex[0])? << 4 | hex_digit(hex[1])?));
        match decoded {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(if bytes[at] == b'+' && plus == Plus::IsSpace { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// An integer as `strutils.validate_integer` takes it: digits with a sign, white space around.
///
/// # Errors
/// 400 with its texts.
pub fn integer(text: &str, name: &str, min: i64, max: i64) -> Result<i64, Fault> {
    let number: i64 = match python_int(text) {
        Some(Ok(number)) => number,
        Some(Err(Huge { negative })) => {
            if negative {
                i64::MIN
            } else {
                i64::MAX
            }
        }
        None => return Err(Fault::bad_request(format!("{name} must be an integer"))),
    };
    if number < min {
        return Err(Fault::bad_request(format!("{name} must be >= {min}")));
    }
    if number > max {
        return Err(Fault::bad_request(format!("{name} must be <= {max}")));
    }
    Ok(number)
}

/// The longest text that Python reads as an integer (`sys.int_info.default_max_str_digits`).
const PYTHON_DIGITS: usize = 4300;

/// An integer that does not fit.
pub struct Huge {
    pub negative: bool,
}

/// `int(text)`: `None` when Python would refuse it.
pub fn python_int(text: &str) -> Option<Result<i64, Huge>> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || digits.len() > PYTHON_DIGITS || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().map_err(|_| Huge { negative: text.starts_with('-') }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_keep_their_order_and_are_decoded() {
        let mut query = Query::parse("sort=name%3Aasc&name~=a+b&x&y=%zz%4&m=%7B%27k%27:%27v%27%7D&x=2");
        let pairs: Vec<_> = query.pairs().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let wanted = [
            ("sort", "name:asc"),
            ("name~", "a b"),
            ("x", ""),
            ("y", "%zz%4"),
            ("m", "{'k':'v'}"),
            ("x", "2"),
        ];
        assert_eq!(pairs, wanted);
        assert_eq!(query.take("x").as_deref(), Some("2"));
        assert!(!query.has("x"));
    }

    #[test]
    fn integers_are_refused_in_the_usual_words() {
        let message = |text: &str| integer(text, "offset", 0, 10).map_err(|fault| fault.message);
        assert_eq!(message("7"), Ok(7));
        assert_eq!(message(" +7 "), Ok(7));
        assert_eq!(message("-1"), Err("offset must be >= 0".into()));
        assert_eq!(message("11"), Err("offset must be <= 10".into()));
        assert_eq!(message("99999999999999999999999"), Err("offset must be <= 10".into()));
        assert_eq!(message("1.5"), Err("offset must be an integer".into()));
        assert_eq!(message(""), Err("offset must be an integer".into()));
    }
}
