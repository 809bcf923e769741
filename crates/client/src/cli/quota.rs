//! `cinderblock quota`.

use std::collections::BTreeMap;

use clap::Subcommand;

use super::Session;
use super::fields::key_value;
use crate::Result;
use crate::quota::Quota;

/// What can be done with quotas.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what a project may use, and does
    Show {
        /// Project (default: your own)
        project: Option<String>,
    },
    /// Change a project's quotas
    Set {
        /// Project
        project: String,
        /// Resource and its limit, such as volumes=100; -1 for no limit (repeatable)
        #[arg(required = true, value_name = "RESOURCE=LIMIT", value_parser = limit, allow_hyphen_values = true)]
        limits: Vec<(String, i64)>,
    },
    /// Take a project's quotas back to the defaults
    Reset {
        /// Project
        project: String,
    },
}

fn limit(text: &str) -> Result<(String, i64), String> {
    let (resource, limit) = key_value(text)?;
    let limit = limit.parse().map_err(|_| format!("{limit:?} is not a number"))?;
    Ok((resource, limit))
}

impl Command {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let client = &session.client;
        match self {
            Self::Show { project } => {
                let quotas = match project {
                    Some(project) => client.quotas(&project).await?,
                    None => client.own_limits().await?,
                };
                session.show_quotas(&quotas)
            }
            Self::Set { project, limits } => {
                client.set_quotas(&project, &limits.into_iter().collect()).await?;
                session.show_quotas(&client.quotas(&project).await?)
            }
            Self::Reset { project } => client.reset_quotas(&project).await,
        }
    }
}

impl Session {
    fn show_quotas(&self, quotas: &BTreeMap<String, Quota>) -> Result<()> {
        let rows: Vec<_> = quotas
            .iter()
            .map(|(resource, quota)| serde_json::json!({
                "resource": resource, "in_use": quota.in_use, "reserved": quota.reserved, "limit": quota.limit,
            }))
            .collect();
        self.output.list(&["resource", "in use", "reserved", "limit"], &rows, |row| {
            let number = |key: &str| row[key].as_i64().unwrap_or_default();
            let limit = if number("limit") < 0 { "none".to_owned() } else { number("limit").to_string() };
            let resource = row["resource"].as_str().unwrap_or_default().to_owned();
            vec![resource, number("in_use").to_string(), number("reserved").to_string(), limit]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_whole_numbers_and_may_be_minus_one() {
        assert_eq!(limit("volumes=-1"), Ok(("volumes".into(), -1)));
        assert!(limit("volumes=many").is_err() && limit("volumes").is_err());
    }
}
