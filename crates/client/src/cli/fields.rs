//! Command-line fields that several resources share.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;

use crate::Query;

/// `KEY=VALUE`.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("KEY=VALUE is needed".to_owned()),
    }
}

/// Pairs as a map; the last of equal keys holds.
pub fn map(pairs: &[(String, String)]) -> BTreeMap<String, String> {
    pairs.iter().cloned().collect()
}

/// How much of a list is shown.
#[derive(Debug, Args)]
pub struct ListFields {
    /// Show at most this many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Of all projects (administrators)
    #[arg(long)]
    all_projects: bool,
}

impl ListFields {
    /// The query without a resource's own filters.
    pub fn query(&self) -> Query {
        Query::default().at_most(self.limit).filter("all_tenants", self.all_projects.then_some(true))
    }
}

/// Whether to wait for the end of work that goes on after the request, and for how long.
#[derive(Debug, Clone, Copy, Args)]
pub struct WaitFields {
    /// Wait until it is done, showing progress
    #[arg(long)]
    pub wait: bool,
    /// Wait at most this long
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, requires = "wait")]
    timeout: u64,
}

impl WaitFields {
    /// How long to wait.
    pub fn limit(self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_equal_signs_and_be_empty_but_keys_may_not() {
        assert_eq!(key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(key_value("a="), Ok(("a".into(), String::new())));
        assert!(key_value("=a").is_err() && key_value("a").is_err());
    }
}
