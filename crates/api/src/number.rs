//! Integers that 64 bits do not hold. Python reads them whole; our JSON reader makes floats of them, so that their digits are
//! taken from the text, for refusals to show. None is ever kept: no field has room for one.

use crate::fault::Fault;
use crate::schema::Refused;

/// Digits of such a number that a refusal shows; Python reads no integer of more than 4,300.
const SHOWN: usize = 100;

/// The integers in a valid JSON text that do not fit, as they are spelled.
pub fn huge_integers(json: &[u8]) -> Vec<&str> {
    let mut huge = Vec::new();
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        let rest = &json[at..];
        let length = match byte {
            b'"' => text_length(rest),
            b'-' | b'0'..=b'9' => {
                let length = rest.iter().take_while(|b| b"+-.eE0123456789".contains(b)).count();
                huge.extend(str::from_utf8(&rest[..length]).ok().filter(|digits| is_huge(digits)));
                length
            }
            _ => 1,
        };
        at += length;
    }
    huge
}

/// The length of the text that begins here, with its quotes.
fn text_length(json: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

fn is_huge(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_integer = digits.bytes().all(|b| b.is_ascii_digit());
    is_integer && number.parse::<i64>().is_err() && number.parse::<u64>().is_err()
}

/// A refusal that shows the integers as they were sent, and not the floats that were made of them.
pub fn in_digits(Refused(mut text): Refused, huge: &[&str]) -> Fault {
    for digits in huge {
        let float: f64 = digits.parse().unwrap_or(f64::INFINITY);
        text = text.replace(&format!("{float:.0}"), digits);
    }
    Refused(text).into()
}

/// 400 for an integer where anything may stand.
pub fn too_large(digits: &str) -> Fault {
    let (shown, more) = digits.split_at_checked(SHOWN).unwrap_or((digits, ""));
    let dots = if more.is_empty() { "" } else { "..." };
    Fault::bad_request(format!("Invalid input received: the integer {shown}{dots} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_beyond_64_bits_are_found_outside_of_texts() {
        let found =
            |json: &str| huge_integers(json.as_bytes()).into_iter().map(str::to_owned).collect::<Vec<_>>();
        let large = "18446744073709551616";
        assert_eq!(
            found(&format!(r#"{{"a": {large}, "b": [-{large}, 1]}}"#)),
            [large, "-18446744073709551616"]
        );
        for fits in ["18446744073709551615", "-9223372036854775808", "1e30", "100000000000000000000.0", "0"] {
            assert!(found(fits).is_empty(), "{fits}");
        }
        assert!(found(&format!(r#"{{"{large}": "\\\" {large}"}}"#)).is_empty());
        assert_eq!(found("-9223372036854775809"), ["-9223372036854775809"]);
    }

    #[test]
    fn refusals_show_what_was_sent() {
        let refused = Refused("Value: 100000000000000000000. 100000000000000000000 is greater".into());
        let fault = in_digits(refused, &["99999999999999999999"]);
        assert_eq!(fault.message, "Value: 99999999999999999999. 99999999999999999999 is greater");
    }
}
