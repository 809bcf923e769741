//! `cinderblock backup`.

use clap::Subcommand;

use super::fields::{ListFields, WaitFields, key_value, map};
use super::output::{or_dash, seconds};
use super::{Session, for_each};
use crate::backup::{Backup, NewBackup, RestoreTo};
use crate::volume::Naming;
use crate::{Error, Result};

/// What can be done with backups.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List backups
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
    /// Show a backup
    Show {
        /// Name or id
        backup: String,
    },
    /// Back up a volume
    Create {
        /// The volume, name or id
        volume: String,
        /// Name
        #[arg(long)]
        name: Option<String>,
        /// Description
        #[arg(long)]
        description: Option<String>,
        /// Only what changed since the volume's newest backup
        #[arg(long)]
        incremental: bool,
        /// Also while the volume is attached
        #[arg(long)]
        force: bool,
        /// Back up this snapshot of the volume, name or id
        #[arg(long)]
        snapshot: Option<String>,
        /// Where in the store to put it
        #[arg(long)]
        container: Option<String>,
        /// Metadata (repeatable)
        #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
        metadata: Vec<(String, String)>,
        #[command(flatten)]
        wait: WaitFields,
    },
    /// Restore a backup into a new volume, or over an existing one
    Restore {
        /// Name or id
        backup: String,
        /// Overwrite this volume, name or id
        #[arg(long)]
        volume: Option<String>,
        /// Name of the new volume
        #[arg(long, conflicts_with = "volume")]
        name: Option<String>,
        #[command(flatten)]
        wait: WaitFields,
    },
    /// Change a backup
    Set {
        /// Name or id
        backup: String,
        /// New name
        #[arg(long)]
        name: Option<String>,
        /// New description
        #[arg(long)]
        description: Option<String>,
    },
    /// Delete backups
    #[command(visible_alias = "rm")]
    Delete {
        /// Names or ids
        #[arg(required = true)]
        backups: Vec<String>,
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
                session.show_backups(&client.backups(&query).await?)
            }
            Self::Show { backup } => session.show_backup(&client.find_backup(&backup).await?),
            Self::Create {
                volume,
                name,
                description,
                incremental,
                force,
                snapshot,
                container,
                metadata,
                wait,
            } => {
                let volume_id = client.find_volume(&volume).await?.id;
                let snapshot_id = match snapshot {
                    Some(name) => Some(client.find_snapshot(&name).await?.id),
                    None => None,
                };
                let metadata = map(&metadata);
                let wanted = NewBackup {
                    volume_id,
                    name,
                    description,
                    container,
                    incremental,
                    force,
                    snapshot_id,
                    metadata,
                };
                let backup = client.create_backup(&wanted).await?;
                session.wait(wait, "backup", &backup.id, &["available"]).await?;
                session.show_backup(&client.backup(&backup.id).await?)
            }
            Self::Restore { backup, volume, name, wait } => {
                session.restore(&backup, volume, name, wait).await
            }
            Self::Set { backup, name, description } => {
                let naming = Naming { name, description };
                if naming.is_empty() {
                    return Err(Error::Usage("say what to change: --name, --description".to_owned()));
                }
                let id = client.find_backup(&backup).await?.id;
                client.rename_backup(&id, &naming).await?;
                session.show_backup(&client.backup(&id).await?)
            }
            Self::Delete { backups, force, wait } => {
                for_each(&backups, async |name| {
                    let id = client.find_backup(name).await?.id;
                    client.delete_backup(&id, force).await?;
                    session.wait(wait, "backup", &id, &[]).await?;
                    session.tell_deleted("backup", name, wait.wait)
                })
                .await
            }
        }
    }
}

impl Session {
    async fn restore(
        &self,
        backup: &str,
        volume: Option<String>,
        name: Option<String>,
        wait: WaitFields,
    ) -> Result<()> {
        let client = &self.client;
        let backup = client.find_backup(backup).await?;
        let to = match volume {
            Some(volume) => RestoreTo::Volume(client.find_volume(&volume).await?.id),
            None => RestoreTo::New(name),
        };
        let restore = client.restore_backup(&backup.id, &to).await?;
        self.wait(wait, "volume", &restore.volume_id, &["available"]).await?;
        let fields = [
            ("backup", restore.backup_id.clone()),
            ("volume", restore.volume_id.clone()),
            ("volume name", or_dash(restore.volume_name.as_deref())),
        ];
        self.output.one(&restore, &fields)
    }

    fn show_backups(&self, backups: &[Backup]) -> Result<()> {
        let header = ["id", "name", "status", "size", "kind", "volume", "created"];
        self.output.list(&header, backups, |backup| {
            vec![
                backup.id.clone(),
                or_dash(backup.name.as_deref()),
                backup.status.clone(),
                size(backup),
                kind(backup).to_owned(),
                or_dash(backup.volume_id.as_deref()),
                seconds(backup.created_at.as_deref()),
            ]
        })
    }

    fn show_backup(&self, backup: &Backup) -> Result<()> {
        let fields = [
            ("id", backup.id.clone()),
            ("name", or_dash(backup.name.as_deref())),
            ("description", or_dash(backup.description.as_deref())),
            ("status", backup.status.clone()),
            ("fail reason", or_dash(backup.fail_reason.as_deref())),
            ("size", size(backup)),
            ("kind", kind(backup).to_owned()),
            ("has increments", if backup.has_dependent_backups { "yes" } else { "no" }.to_owned()),
            ("objects", backup.object_count.map_or_else(|| "-".to_owned(), |count| count.to_string())),
            ("container", or_dash(backup.container.as_deref())),
            ("volume", or_dash(backup.volume_id.as_deref())),
            ("snapshot", or_dash(backup.snapshot_id.as_deref())),
            ("created", seconds(backup.created_at.as_deref())),
        ];
        self.output.one(backup, &fields)
    }
}

fn size(backup: &Backup) -> String {
    backup.size.map_or_else(|| "-".to_owned(), |size| format!("{size} GiB"))
}

fn kind(backup: &Backup) -> &'static str {
    if backup.is_incremental { "incremental" } else { "full" }
}
