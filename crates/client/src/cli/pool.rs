//! `cinderblock pool`.

use clap::Subcommand;

use super::Session;
use super::output::or_dash;
use crate::{Error, Result};

/// What can be done with pools.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List pools with their room
    #[command(visible_alias = "ls")]
    List,
    /// Show everything that a pool reports
    Show {
        /// Name: host@backend#pool
        pool: String,
    },
}

impl Command {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let pools = session.client.pools().await?;
        match self {
            Self::List => {
                let header = ["pool", "backend", "protocol", "total GiB", "free GiB", "allocated GiB"];
                session.output.list(&header, &pools, |pool| {
                    vec![
                        pool.name.clone(),
                        pool.capability("volume_backend_name"),
                        pool.capability("storage_protocol"),
                        pool.capability("total_capacity_gb"),
                        pool.capability("free_capacity_gb"),
                        pool.capability("allocated_capacity_gb"),
                    ]
                })
            }
            Self::Show { pool: name } => {
                let pool = pools.iter().find(|pool| pool.name == name);
                let pool = pool.ok_or_else(|| Error::NotFound { kind: "pool", name: name.clone() })?;
                let fields: Vec<_> = std::iter::once(("name", or_dash(Some(&pool.name))))
                    .chain(pool.capabilities.keys().map(|key| (key.as_str(), pool.capability(key))))
                    .collect();
                session.output.one(pool, &fields)
            }
        }
    }
}
