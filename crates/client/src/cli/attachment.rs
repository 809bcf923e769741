//! `cinderblock attachment`.

use clap::{Args, Subcommand, ValueEnum};
use model::Connector;
use serde_json::{Map, Value, json};

use super::fields::ListFields;
use super::output::{or_dash, seconds};
use super::{Session, for_each};
use crate::attachment::{Attachment, Connection, NewAttachment};
use crate::{Error, Query, Result};

/// What can be done with attachments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List attachments
    #[command(visible_alias = "ls")]
    List {
        /// Of this volume, name or id
        #[arg(long)]
        volume: Option<String>,
        #[command(flatten)]
        list: ListFields,
    },
    /// Show an attachment and how its volume is reached
    Show {
        /// Id
        attachment: String,
        #[command(flatten)]
        show: ShowFields,
    },
    /// Attach a volume: reserve it, and export it when a host is named
    Create {
        /// The volume, name or id
        volume: String,
        /// Server that will use it (a UUID)
        #[arg(long, value_name = "UUID")]
        instance: Option<String>,
        /// Whether it may be written
        #[arg(long, value_enum)]
        mode: Option<Mode>,
        #[command(flatten)]
        show: ShowFields,
        #[command(flatten)]
        host: HostFields,
    },
    /// Name the host of a reserved attachment, so that its volume is exported
    Update {
        /// Id
        attachment: String,
        #[command(flatten)]
        show: ShowFields,
        #[command(flatten)]
        host: HostFields,
    },
    /// Say that the host has connected
    Complete {
        /// Id
        attachment: String,
    },
    /// Detach: cut the host's sessions, remove the export, free the volume
    #[command(visible_alias = "rm")]
    Delete {
        /// Ids
        #[arg(required_unless_present = "volume")]
        attachments: Vec<String>,
        /// All attachments of this volume, name or id
        #[arg(long, conflicts_with = "attachments")]
        volume: Option<String>,
    },
}

/// How much of an attachment is shown.
#[derive(Debug, Clone, Copy, Args)]
pub struct ShowFields {
    /// Show the password too
    #[arg(long)]
    secrets: bool,
    /// Print only the address that qemu-img and iscsi-ls take, with the password in it; a new attachment counts as attached then
    #[arg(long, conflicts_with_all = ["secrets", "json"])]
    url: bool,
}

/// Whether an attached volume may be written.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Mode {
    /// Read and write
    Rw,
    /// Read only
    Ro,
}

/// What a host says of itself.
#[derive(Debug, Args)]
pub struct HostFields {
    /// The host's iSCSI initiator name
    #[arg(long, value_name = "IQN")]
    initiator: Option<String>,
    /// The host's name (default: this machine's)
    #[arg(long)]
    host: Option<String>,
    /// The host's address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
}

impl HostFields {
    /// The connector, when a host is named.
    fn connector(&self) -> Option<Connector> {
        let initiator = self.initiator.as_deref()?;
        let mut fields = Map::new();
        fields.insert("initiator".to_owned(), json!(initiator));
        fields.insert("host".to_owned(), json!(self.host.clone().unwrap_or_else(host_name)));
        fields.insert("ip".to_owned(), json!(self.ip.as_deref().unwrap_or("127.0.0.1")));
        fields.insert("platform".to_owned(), json!(std::env::consts::ARCH));
        fields.insert("os_type".to_owned(), json!(std::env::consts::OS));
        fields.insert("multipath".to_owned(), json!(false));
        Some(Connector(fields))
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "localhost".to_owned() } else { name.trim().to_owned() }
}

impl Command {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let client = &session.client;
        match self {
            Self::List { volume, list } => {
                let volume = match volume {
                    Some(name) => Some(client.find_volume(&name).await?.id),
                    None => None,
                };
                let query = list.query().filter("volume_id", volume);
                session.show_attachments(&client.attachments(&query).await?)
            }
            Self::Show { attachment, show } => {
                session.show_attachment(&client.attachment(&attachment).await?, show)
            }
            Self::Create { volume, instance, mode, show, host } => {
                let mode = mode.map(|mode| match mode {
                    Mode::Rw => "rw".to_owned(),
                    Mode::Ro => "ro".to_owned(),
                });
                let volume_id = client.find_volume(&volume).await?.id;
                let wanted = NewAttachment { volume_id, instance, connector: host.connector(), mode };
                let made = client.create_attachment(&wanted).await?;
                session.show_attachment(&made, show)?;
                if show.url {
                    // Whoever asks for the address connects with it now.
                    client.complete_attachment(&made.id).await?;
                }
                Ok(())
            }
            Self::Update { attachment, show, host } => {
                let connector = host
                    .connector()
                    .ok_or_else(|| Error::Usage("name the host's initiator with --initiator".to_owned()))?;
                session.show_attachment(&client.update_attachment(&attachment, &connector).await?, show)
            }
            Self::Complete { attachment } => client.complete_attachment(&attachment).await,
            Self::Delete { attachments, volume } => {
                let attachments = match volume {
                    Some(name) => session.attachments_of(&client.find_volume(&name).await?.id).await?,
                    None => attachments,
                };
                for_each(&attachments, async |id| {
                    client.delete_attachment(id).await?;
                    session.tell_deleted("attachment", id, true)
                })
                .await
            }
        }
    }
}

impl Session {
    fn show_attachments(&self, attachments: &[Attachment]) -> Result<()> {
        let header = ["id", "volume", "status", "mode", "server", "portal"];
        self.output.list(&header, attachments, |attachment| {
            vec![
                attachment.id.clone(),
                attachment.volume_id.clone(),
                attachment.status.clone(),
                or_dash(attachment.attach_mode.as_deref()),
                or_dash(attachment.instance.as_deref()),
                or_dash(attachment.connection_info.text("target_portal")),
            ]
        })
    }

    async fn attachments_of(&self, volume: &str) -> Result<Vec<String>> {
        let query = Query::default().filter("volume_id", Some(volume));
        Ok(self.client.attachments(&query).await?.into_iter().map(|attachment| attachment.id).collect())
    }

    fn show_attachment(&self, attachment: &Attachment, show: ShowFields) -> Result<()> {
        if show.url {
            let url = attachment.connection_info.iscsi_url().ok_or_else(|| {
                Error::Usage(format!("attachment {} is not connected by iSCSI", attachment.id))
            })?;
            return self.output.say(&url);
        }
        let mut fields = vec![
            ("id", attachment.id.clone()),
            ("volume", attachment.volume_id.clone()),
            ("status", attachment.status.clone()),
            ("mode", or_dash(attachment.attach_mode.as_deref())),
            ("server", or_dash(attachment.instance.as_deref())),
            ("attached", seconds(attachment.attached_at.as_deref())),
        ];
        let connection = attachment.connection_info.fields();
        fields
            .extend(connection.iter().map(|(name, value)| (name.as_str(), shown(name, value, show.secrets))));
        self.output.one(attachment, &fields)
    }
}

/// A field of the connection; a secret only when asked for.
fn shown(name: &str, value: &Value, secrets: bool) -> String {
    match value {
        _ if Connection::is_secret(name) && !secrets => "*** (--secrets shows it)".to_owned(),
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_only_when_asked_for() {
        assert!(!shown("auth_password", &json!("hunter2"), false).contains("hunter2"));
        assert_eq!(shown("auth_password", &json!("hunter2"), true), "hunter2");
        assert_eq!(shown("target_lun", &json!(3), false), "3");
    }

    #[test]
    fn without_an_initiator_there_is_no_connector() {
        let none = HostFields { initiator: None, host: Some("h".into()), ip: None };
        assert!(none.connector().is_none());
        let some = HostFields { initiator: Some("iqn.x".into()), host: Some("h".into()), ip: None };
        let connector = some.connector().unwrap();
        assert_eq!((connector.initiator(), connector.host()), (Some("iqn.x"), Some("h")));
    }
}
