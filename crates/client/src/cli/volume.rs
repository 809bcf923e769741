//! `cinderblock volume`.

use clap::{ArgAction, Subcommand};

use super::fields::{ListFields, WaitFields, key_value, map};
use super::output::{or_dash, pairs, seconds};
use super::{Session, for_each};
use crate::volume::{Naming, NewVolume, Volume, VolumeDelete};
use crate::{Error, Result};

/// What can be done with volumes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List volumes
    #[command(visible_alias = "ls")]
    List {
        /// With this name
        #[arg(long)]
        name: Option<String>,
        /// In this status
        #[arg(long)]
        status: Option<String>,
        #[command(flatten)]
        list: ListFields,
    },
    /// Show a volume
    Show {
        /// Name or id
        volume: String,
    },
    /// Create a volume
    Create(Box<Create>),
    /// Change a volume
    Set(Set),
    /// Remove metadata of a volume
    Unset {
        /// Name or id
        volume: String,
        /// Key of the metadata (repeatable)
        #[arg(long, value_name = "KEY", required = true)]
        metadata: Vec<String>,
    },
    /// Make a volume larger, also while it is attached
    Extend {
        /// Name or id
        volume: String,
        /// New size in GiB
        size: u64,
        #[command(flatten)]
        wait: WaitFields,
    },
    /// Delete volumes
    #[command(visible_alias = "rm")]
    Delete {
        /// Names or ids
        #[arg(required = true)]
        volumes: Vec<String>,
        /// With their snapshots
        #[arg(long)]
        cascade: bool,
        /// Whatever their status (administrators)
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        wait: WaitFields,
    },
}

/// What a new volume shall be.
#[derive(Debug, clap::Args)]
pub struct Create {
    /// Name
    name: Option<String>,
    /// The same, as an option
    #[arg(long = "name", value_name = "NAME", conflicts_with = "name")]
    named: Option<String>,
    /// Size in GiB; with a source, at least the source's (its size when left out)
    #[arg(long, value_name = "GIB", required_unless_present_any = ["snapshot", "source", "backup"])]
    size: Option<u64>,
    /// Volume type, name or id
    #[arg(long = "type", value_name = "TYPE")]
    volume_type: Option<String>,
    /// Begin as this snapshot
    #[arg(long, group = "origin")]
    snapshot: Option<String>,
    /// Begin as a clone of this volume
    #[arg(long, value_name = "VOLUME", group = "origin")]
    source: Option<String>,
    /// Begin as this backup
    #[arg(long, group = "origin")]
    backup: Option<String>,
    /// Description
    #[arg(long)]
    description: Option<String>,
    /// Availability zone
    #[arg(long)]
    zone: Option<String>,
    /// Metadata (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    metadata: Vec<(String, String)>,
    #[command(flatten)]
    wait: WaitFields,
}

/// What of a volume shall change.
#[derive(Debug, clap::Args)]
pub struct Set {
    /// Name or id
    volume: String,
    /// New name
    #[arg(long)]
    name: Option<String>,
    /// New description
    #[arg(long)]
    description: Option<String>,
    /// Metadata to add or overwrite (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    metadata: Vec<(String, String)>,
    /// Whether new attachments may only read
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    read_only: Option<bool>,
    /// Whether servers can boot from it
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    bootable: Option<bool>,
}

impl Command {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let client = &session.client;
        match self {
            Self::List { name, status, list } => {
                let query = list.query().filter("name", name).filter("status", status);
                session.show_volumes(&client.volumes(&query).await?)
            }
            Self::Show { volume } => session.show_volume(&client.find_volume(&volume).await?),
            Self::Create(create) => create.run(session).await,
            Self::Set(set) => set.run(session).await,
            Self::Unset { volume, metadata } => {
                let volume = client.find_volume(&volume).await?;
                for_each(&metadata, async |key| client.unset_volume_metadata(&volume.id, key).await).await
            }
            Self::Extend { volume, size, wait } => {
                let volume = client.find_volume(&volume).await?;
                client.extend_volume(&volume.id, size).await?;
                session.wait(wait, "volume", &volume.id, &["available", "in-use"]).await?;
                session.show_volume(&client.volume(&volume.id).await?)
            }
            Self::Delete { volumes, cascade, force, wait } => {
                for_each(&volumes, async |name| {
                    let volume = client.find_volume(name).await?;
                    client.delete_volume(&volume.id, VolumeDelete { cascade, force }).await?;
                    session.wait(wait, "volume", &volume.id, &[]).await?;
                    session.tell_deleted("volume", name, wait.wait)
                })
                .await
            }
        }
    }
}

impl Create {
    async fn run(self, session: &Session) -> Result<()> {
        let client = &session.client;
        let mut wanted = NewVolume {
            name: self.name.or(self.named),
            description: self.description,
            size: self.size,
            volume_type: self.volume_type,
            availability_zone: self.zone,
            metadata: map(&self.metadata),
            ..NewVolume::default()
        };
        // The service takes a source's own size when none is asked for, but not for a backup whose volume is gone.
        if let Some(name) = &self.snapshot {
            let snapshot = client.find_snapshot(name).await?;
            wanted.size = wanted.size.or(Some(snapshot.size));
            wanted.snapshot_id = Some(snapshot.id);
        }
        if let Some(name) = &self.source {
            let volume = client.find_volume(name).await?;
            wanted.size = wanted.size.or(Some(volume.size));
            wanted.source_volid = Some(volume.id);
        }
        if let Some(name) = &self.backup {
            let backup = client.find_backup(name).await?;
            wanted.size = wanted.size.or(backup.size);
            wanted.backup_id = Some(backup.id);
        }
        let volume = client.create_volume(&wanted).await?;
        session.wait(self.wait, "volume", &volume.id, &["available"]).await?;
        let volume = if self.wait.wait { client.volume(&volume.id).await? } else { volume };
        session.show_volume(&volume)
    }
}

impl Set {
    async fn run(self, session: &Session) -> Result<()> {
        let client = &session.client;
        let naming = Naming { name: self.name, description: self.description };
        let flags = [self.read_only, self.bootable];
        if naming.is_empty() && self.metadata.is_empty() && flags.iter().all(Option::is_none) {
            return Err(Error::Usage(
                "say what to change: --name, --description, --metadata, ...".to_owned(),
            ));
        }
        let id = client.find_volume(&self.volume).await?.id;
        if !naming.is_empty() {
            client.rename_volume(&id, &naming).await?;
        }
        if !self.metadata.is_empty() {
            client.set_volume_metadata(&id, &map(&self.metadata)).await?;
        }
        if let Some(read_only) = self.read_only {
            client.set_volume_readonly(&id, read_only).await?;
        }
        if let Some(bootable) = self.bootable {
            client.set_volume_bootable(&id, bootable).await?;
        }
        session.show_volume(&client.volume(&id).await?)
    }
}

impl Session {
    fn show_volumes(&self, volumes: &[Volume]) -> Result<()> {
        let header = ["id", "name", "status", "size", "type", "attached to"];
        self.output.list(&header, volumes, |volume| {
            vec![
                volume.id.clone(),
                or_dash(volume.name.as_deref()),
                volume.status.clone(),
                format!("{} GiB", volume.size),
                or_dash(volume.volume_type.as_deref()),
                users(volume),
            ]
        })
    }

    fn show_volume(&self, volume: &Volume) -> Result<()> {
        let fields = [
            ("id", volume.id.clone()),
            ("name", or_dash(volume.name.as_deref())),
            ("description", or_dash(volume.description.as_deref())),
            ("status", volume.status.clone()),
            ("size", format!("{} GiB", volume.size)),
            ("type", or_dash(volume.volume_type.as_deref())),
            ("multi-attach", if volume.multiattach { "yes" } else { "no" }.to_owned()),
            ("bootable", or_dash(volume.bootable.as_deref())),
            ("zone", or_dash(volume.availability_zone.as_deref())),
            ("from snapshot", or_dash(volume.snapshot_id.as_deref())),
            ("from volume", or_dash(volume.source_volid.as_deref())),
            ("metadata", pairs(&volume.metadata)),
            ("attached to", users(volume)),
            ("created", seconds(volume.created_at.as_deref())),
        ];
        self.output.one(volume, &fields)
    }
}

/// Who has a volume attached: server or host, and the device where it is known.
fn users(volume: &Volume) -> String {
    let user = |attachment: &crate::volume::VolumeAttachment| {
        let who = attachment.server_id.as_deref().or(attachment.host_name.as_deref());
        match attachment.device.as_deref().filter(|device| !device.is_empty()) {
            Some(device) => format!("{} on {device}", or_dash(who)),
            None => who.unwrap_or(&attachment.attachment_id).to_owned(),
        }
    };
    let all: Vec<_> = volume.attachments.iter().map(user).collect();
    or_dash(Some(all.join(", ").as_str()))
}
