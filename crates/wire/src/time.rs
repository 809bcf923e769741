//! Times on the wire: UTC, microseconds, no zone.

use model::Time;
use serde_json::Value;

/// `2026-11-21T19:15:28.095006`.
pub fn text(time: Time) -> String {
    time.format("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}

/// The text, or null when unset.
pub fn or_null(time: Option<Time>) -> Value {
    time.map_or(Value::Null, |time| Value::String(text(time)))
}

/// The text, or an empty one when unset: attachments show it so.
pub fn or_empty(time: Option<Time>) -> Value {
    Value::String(time.map(text).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_are_always_shown() {
        let time = Time::from_timestamp(1_700_000_000, 5_000).expect("in range");
        assert_eq!(text(time), "2023-11-14T22:13:20.000005");
        let whole = Time::from_timestamp(1_700_000_000, 0).expect("in range");
        assert_eq!(text(whole), "2023-11-14T22:13:20.000000");
        assert_eq!(or_null(None), Value::Null);
        assert_eq!(or_empty(None), Value::String(String::new()));
    }
}
