//! Pools: where volumes can go, and how much room there is.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Client, Extra, Result};

/// A pool of a backend.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pool {
    /// `host@backend#pool`.
    pub name: String,
    #[serde(default)]
    pub capabilities: Extra,
}

impl Pool {
    /// A capability as a text for people: `-` when it is not reported.
    pub fn capability(&self, name: &str) -> String {
        match self.capabilities.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.as_f64().map_or_else(|| number.to_string(), short_number),
            Some(Value::Null) | None => "-".to_owned(),
            Some(other) => other.to_string(),
        }
    }
}

/// At most two decimals, none when they would be zero.
fn short_number(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Client {
    /// All pools with their capabilities.
    ///
    /// # Errors
    /// As any request.
    pub async fn pools(&self) -> Result<Vec<Pool>> {
        self.v3(Method::GET, "scheduler-stats/get_pools").query("detail", true).member("pools").await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_shown_short() {
        let capabilities = serde_json::json!({"total_capacity_gb": 41.259, "free_capacity_gb": 40.0, "allocated": 7, "x": null});
        let Value::Object(capabilities) = capabilities else { unreachable!("an object literal") };
        let pool = Pool { name: "p".into(), capabilities };
        let shown: Vec<_> = ["total_capacity_gb", "free_capacity_gb", "allocated", "x", "y"]
            .iter()
            .map(|name| pool.capability(name))
            .collect();
        assert_eq!(shown, ["41.26", "40", "7", "-", "-"]);
    }
}
