//! `cinderblock service`.

use clap::Subcommand;

use super::Session;
use super::output::{or_dash, seconds};
use crate::Result;

/// What can be done with services.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List services
    #[command(visible_alias = "ls")]
    List,
    /// Let new work go to a service again
    Enable {
        /// Host, as listed
        host: String,
        /// Binary, such as cinder-volume
        binary: String,
    },
    /// Keep new work away from a service
    Disable {
        /// Host, as listed
        host: String,
        /// Binary, such as cinder-volume
        binary: String,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
}

impl Command {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let client = &session.client;
        match self {
            Self::List => {
                let header = ["binary", "host", "zone", "status", "state", "last seen", "why disabled"];
                session.output.list(&header, &client.services().await?, |service| {
                    vec![
                        service.binary.clone(),
                        service.host.clone(),
                        or_dash(service.zone.as_deref()),
                        service.status.clone(),
                        service.state.clone(),
                        seconds(service.updated_at.as_deref()),
                        or_dash(service.disabled_reason.as_deref()),
                    ]
                })
            }
            Self::Enable { host, binary } => client.enable_service(&host, &binary).await,
            Self::Disable { host, binary, reason } => {
                client.disable_service(&host, &binary, reason.as_deref()).await
            }
        }
    }
}
