//! `cinderblock snapshot`.

use clap::Subcommand;

use super::fields::{ListFields, WaitFields, key_value, map};
use super::output::{or_dash, pairs, seconds};
use super::{Session, for_each};
use crate::snapshot::{NewSnapshot, Snapshot};
use crate::volume::Naming;
use crate::{Error, Result};

/// What can be done with snapshots.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List snapshots
    #[command(visible_alias = "ls")]
    List {
        /// Of this volume, name or id
        #[arg(long)]
        volume: Option<String>,
        /// In this status
        #[arg(long)]
        status: Option<String>,
        #[command(flatten)]
        list: ListFields,
    },
    /// Show a snapshot
    Show {
        /// Name or id
        snapshot: String,
    },
    /// Take a snapshot of a volume, also while it is attached
    Create {
        /// The volume, name or id
        volume: String,
        /// Name
        #[arg(long)]
        name: Option<String>,
        /// Description
        #[arg(long)]
        description: Option<String>,
        /// Metadata (repeatable)
        #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
        metadata: Vec<(String, String)>,
        #[command(flatten)]
        wait: WaitFields,
    },
    /// Change a snapshot
    Set {
        /// Name or id
        snapshot: String,
        /// New name
        #[arg(long)]
        name: Option<String>,
        /// New description
        #[arg(long)]
        description: Option<String>,
        /// Metadata to add or overwrite (repeatable)
        #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
        metadata: Vec<(String, String)>,
    },
    /// Delete snapshots
    #[command(visible_alias = "rm")]
    Delete {
        /// Names or ids
        #[arg(required = true)]
        snapshots: Vec<String>,
        /// Whatever their status (administrators)
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        wait: WaitFields,
    },
}

impl Command {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let client = &session.client;
        match self {
            Self::List { volume, status, list } => {
                let volume = match volume {
                    Some(name) => Some(client.find_volume(&name).await?.id),
                    None => None,
                };
                let query = list.query().filter("volume_id", volume).filter("status", status);
                session.show_snapshots(&client.snapshots(&query).await?)
            }
            Self::Show { snapshot } => session.show_snapshot(&client.find_snapshot(&snapshot).await?),
            Self::Create { volume, name, description, metadata, wait } => {
                let volume_id = client.find_volume(&volume).await?.id;
                let wanted = NewSnapshot { volume_id, name, description, metadata: map(&metadata) };
                let snapshot = client.create_snapshot(&wanted).await?;
                session.wait(wait, "snapshot", &snapshot.id, &["available"]).await?;
                let snapshot = if wait.wait { client.snapshot(&snapshot.id).await? } else { snapshot };
                session.show_snapshot(&snapshot)
            }
            Self::Set { snapshot, name, description, metadata } => {
                let naming = Naming { name, description };
                if naming.is_empty() && metadata.is_empty() {
                    return Err(Error::Usage(
                        "say what to change: --name, --description, --metadata".to_owned(),
                    ));
                }
                let id = client.find_snapshot(&snapshot).await?.id;
                if !naming.is_empty() {
                    client.rename_snapshot(&id, &naming).await?;
                }
                if !metadata.is_empty() {
                    client.set_snapshot_metadata(&id, &map(&metadata)).await?;
                }
                session.show_snapshot(&client.snapshot(&id).await?)
            }
            Self::Delete { snapshots, force, wait } => {
                for_each(&snapshots, async |name| {
                    let id = client.find_snapshot(name).await?.id;
                    client.delete_snapshot(&id, force).await?;
                    session.wait(wait, "snapshot", &id, &[]).await?;
                    session.tell_deleted("snapshot", name, wait.wait)
                })
                .await
            }
        }
    }
}

impl Session {
    fn show_snapshots(&self, snapshots: &[Snapshot]) -> Result<()> {
        let header = ["id", "name", "status", "size", "volume", "created"];
        self.output.list(&header, snapshots, |snapshot| {
            vec![
                snapshot.id.clone(),
                or_dash(snapshot.name.as_deref()),
                snapshot.status.clone(),
                format!("{} GiB", snapshot.size),
                snapshot.volume_id.clone(),
                seconds(snapshot.created_at.as_deref()),
            ]
        })
    }

    fn show_snapshot(&self, snapshot: &Snapshot) -> Result<()> {
        let fields = [
            ("id", snapshot.id.clone()),
            ("name", or_dash(snapshot.name.as_deref())),
            ("description", or_dash(snapshot.description.as_deref())),
            ("status", snapshot.status.clone()),
            ("size", format!("{} GiB", snapshot.size)),
            ("volume", snapshot.volume_id.clone()),
            ("metadata", pairs(&snapshot.metadata)),
            ("created", seconds(snapshot.created_at.as_deref())),
        ];
        self.output.one(snapshot, &fields)
    }
}
