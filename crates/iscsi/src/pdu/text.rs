//! The `key=value` text of login and text PDUs (RFC 7143 section 6).

/// The longest key (RFC 7143 6.1).
pub const KEY_MAX: usize = 63;
/// The longest value of a key that has no longer limit of its own.
pub const VALUE_MAX: usize = 8192;
/// The longest iSCSI name.
pub const NAME_MAX: usize = 223;

/// Why key text could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// It is not UTF-8.
    #[error("the key text is not UTF-8")]
    NotUtf8,
    /// A pair without `=`, or with an empty or overlong key.
    #[error("a text pair without a proper key")]
    NoKey,
    /// A key was sent twice.
    #[error("a key was sent twice")]
    Twice,
}

/// The pairs of NUL-separated `key=value` text, in the order sent.
///
/// # Errors
/// [`TextError`]; the caller has bounded the length of `bytes`.
pub fn parse(bytes: &[u8]) -> Result<Vec<(String, String)>, TextError> {
    let text = std::str::from_utf8(bytes).map_err(|_| TextError::NotUtf8)?;
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in text.split('\0').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or(TextError::NoKey)?;
        if key.is_empty() || key.len() > KEY_MAX || value.len() > VALUE_MAX {
            return Err(TextError::NoKey);
        }
        if pairs.iter().any(|(seen, _)| seen == key) {
            return Err(TextError::Twice);
        }
        pairs.push((key.to_owned(), value.to_owned()));
    }
    Ok(pairs)
}

/// Appends `key=value` and its terminator.
pub fn push(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'=');
    out.extend_from_slice(value.as_bytes());
    out.push(0);
}

/// The value of `key` among parsed pairs.
pub fn value<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// A number as the protocol writes it: decimal, or hexadecimal after `0x`.
pub fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u64::from_str_radix(hex, 16).ok()
        }
        Some(_) => None,
        None if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

/// Binary data as the protocol writes it: hexadecimal after `0x`, base64 after `0b`; at most `max` bytes.
pub fn binary(text: &str, max: usize) -> Option<Vec<u8>> {
    let bytes = match text.get(..2)? {
        "0x" | "0X" => from_hex(&text[2..], max)?,
        "0b" | "0B" => from_base64(&text[2..], max)?,
        _ => return None,
    };
    (bytes.len() <= max).then_some(bytes)
}

/// `0x` and the bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("0x");
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

fn from_hex(digits: &str, max: usize) -> Option<Vec<u8>> {
    if digits.is_empty() || digits.len() > max * 2 {
        return None;
    }
    let nibbles: Option<Vec<u8>> =
        digits.chars().map(|c| c.to_digit(16).and_then(|n| u8::try_from(n).ok())).collect();
    let nibbles = nibbles?;
    // An odd count leaves out the leading zero.
    let (head, rest) = nibbles.split_at(nibbles.len() % 2);
    let mut bytes = head.to_vec();
    bytes.extend(rest.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]));
    Some(bytes)
}

fn from_base64(text: &str, max: usize) -> Option<Vec<u8>> {
    let body = text.trim_end_matches('=');
    if body.is_empty() || text.len() - body.len() > 2 || body.len() > max.div_ceil(3) * 4 {
        return None;
    }
    let mut bytes = Vec::with_capacity(body.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for c in body.bytes() {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

/// Text of a peer for a log line: printable, short, no control characters.
pub fn for_log(text: &str) -> String {
    text.chars().take(NAME_MAX).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pairs_are_split_at_nul_and_first_equals() {
        let pairs = parse(b"A=1\0B=x=y\0C=\0").unwrap();
        assert_eq!(value(&pairs, "A"), Some("1"));
        assert_eq!(value(&pairs, "B"), Some("x=y"));
        assert_eq!(value(&pairs, "C"), Some(""));
        assert_eq!(value(&pairs, "D"), None);
        assert!(parse(b"").unwrap().is_empty());
    }

    #[test]
    fn bad_text_is_refused() {
        assert_eq!(parse(b"nothing\0"), Err(TextError::NoKey));
        assert_eq!(parse(b"=x\0"), Err(TextError::NoKey));
        assert_eq!(parse(b"A=1\0A=2\0"), Err(TextError::Twice));
        assert_eq!(parse(b"A=\xff\0"), Err(TextError::NotUtf8));
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        assert_eq!(number("262144"), Some(262_144));
        assert_eq!(number("0x400"), Some(1024));
        for bad in ["", "abc", "-1", "+1", "0x", "0xg", "100000000000000000000"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }

    #[test]
    fn binary_values_are_hexadecimal_or_base64() {
        assert_eq!(binary("0x0aFf", 8), Some(vec![0x0a, 0xff]));
        assert_eq!(binary("0xaff", 8), Some(vec![0x0a, 0xff]));
        assert_eq!(binary("0bAAEC", 8), Some(vec![0, 1, 2]));
        assert_eq!(binary("0bAAE=", 8), Some(vec![0, 1]));
        for bad in ["", "0x", "0b", "zz", "0xzz", "0b!!", "0x000000000000000000", "é"] {
            assert_eq!(binary(bad, 8), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn values_survive_a_round_trip(key in "[A-Za-z]{1,63}", text in "[ -~]{0,200}") {
            let mut out = Vec::new();
            push(&mut out, &key, &text);
            prop_assert_eq!(parse(&out).unwrap(), vec![(key, text)]);
        }

        #[test]
        fn hexadecimal_survives_a_round_trip(bytes in proptest::collection::vec(any::<u8>(), 1..100)) {
            prop_assert_eq!(binary(&hex(&bytes), 100), Some(bytes));
        }

        #[test]
        fn binary_never_panics(text in "\\PC{0,300}") {
            let _ = binary(&text, 64);
        }
    }
}
