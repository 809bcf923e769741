//! `cinderblock message`.

use clap::Subcommand;

use super::output::{or_dash, seconds};
use super::{Session, for_each};
use crate::{Query, Result};

/// What can be done with messages.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List messages
    #[command(visible_alias = "ls")]
    List {
        /// About this resource (its id)
        #[arg(long, value_name = "ID")]
        resource: Option<String>,
        /// Show at most this many
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Show a message
    Show {
        /// Id
        message: String,
    },
    /// Delete messages
    #[command(visible_alias = "rm")]
    Delete {
        /// Ids
        #[arg(required = true)]
        messages: Vec<String>,
    },
}

impl Command {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let client = &session.client;
        match self {
            Self::List { resource, limit } => {
                let query = Query::default().at_most(limit).filter("resource_uuid", resource);
                let header = ["id", "created", "resource", "message"];
                session.output.list(&header, &client.messages(&query).await?, |message| {
                    vec![
                        message.id.clone(),
                        seconds(message.created_at.as_deref()),
                        resource_of(message),
                        message.user_message.clone(),
                    ]
                })
            }
            Self::Show { message } => {
                let message = client.message(&message).await?;
                let fields = [
                    ("id", message.id.clone()),
                    ("created", seconds(message.created_at.as_deref())),
                    ("level", message.message_level.clone()),
                    ("event", message.event_id.clone()),
                    ("resource", resource_of(&message)),
                    ("request", or_dash(message.request_id.as_deref())),
                    ("message", message.user_message.clone()),
                ];
                session.output.one(&message, &fields)
            }
            Self::Delete { messages } => {
                for_each(&messages, async |id| {
                    client.delete_message(id).await?;
                    session.tell_deleted("message", id, true)
                })
                .await
            }
        }
    }
}

fn resource_of(message: &crate::message::Message) -> String {
    let kind = message.resource_type.as_deref().unwrap_or_default().to_lowercase();
    match message.resource_uuid.as_deref() {
        Some(id) => format!("{kind} {id}").trim().to_owned(),
        None => or_dash(Some(&kind)),
    }
}
