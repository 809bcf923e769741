//! The story, act by act.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use client::attachment::NewAttachment;
use client::backup::{NewBackup, RestoreTo};
use client::snapshot::NewSnapshot;
use client::volume::{NewVolume, VolumeDelete};
use client::volume_type::NewVolumeType;
use client::{Client, Waited};
use iscsi::{Chap, InitiatorConfig, RemoteLun};
use model::{BlockDevice as _, Connector, Secret};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Stage;

/// Bytes written at a time.
const CHUNK: usize = 1 << 20;
/// Chunks read at a time; volumes are a multiple of that.
const READ_AT_ONCE: usize = 8;
/// How much of the volume is written first, in chunks.
const WRITTEN: u64 = 64;
/// Which chunks are changed between the two backups.
const CHANGED: [u64; 3] = [3, 20, 63];
/// How long any act may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// A host that has a volume attached.
struct Host {
    attachment: String,
    lun: Arc<RemoteLun>,
}

/// Plays it.
///
/// # Errors
/// The first thing that went wrong.
pub async fn tell(client: &Client, stage: &mut Stage) -> anyhow::Result<()> {
    let tag = uuid::Uuid::new_v4().simple().to_string();
    let mut made = Made::default();
    let told = play(client, stage, &tag[..8], &mut made).await;
    if told.is_ok() {
        stage.act("clean up");
    }
    let cleaned = made.remove(client).await;
    told?;
    cleaned?;
    stage.done("nothing is left");
    Ok(())
}

async fn play(client: &Client, stage: &mut Stage, tag: &str, made: &mut Made) -> anyhow::Result<()> {
    stage.act("create a shareable type and a volume");
    let volume = shared_volume(client, tag, made).await?;
    stage.done("1 GiB, available");

    stage.act("attach it to two hosts");
    let one = attach(client, &volume, tag, "one").await?;
    let two = attach(client, &volume, tag, "two").await?;
    stage.done("each with an iSCSI secret of its own");

    stage.act("write from one, read from the other");
    for at in 0..WRITTEN {
        one.lun.write(at * CHUNK as u64, &content(at, 1)).await?;
        stage.progress((at + 1) * CHUNK as u64, WRITTEN * CHUNK as u64);
    }
    one.lun.flush().await?;
    let first = checksum(&two.lun, 1 << 30, stage).await?;
    ensure!(first == expected(1 << 30), "what the second host reads is not what the first has written");
    stage.done(format!("64 MiB, checksum {first:.12}"));

    stage.act("snapshot while both hosts have it");
    let snapshot = snapshot(client, &volume, made).await?;
    stage.done("taken");

    stage.act("clone the snapshot");
    for at in CHANGED {
        one.lun.write(at * CHUNK as u64, &content(at, 2)).await?;
    }
    one.lun.flush().await?;
    clone(client, &snapshot, &first, tag, stage, made).await?;
    stage.done("has the old content, though the volume went on");

    stage.act("grow while attached");
    client.extend_volume(&volume, 2).await?;
    wait(client, "volume", &volume, &["in-use"], stage).await?;
    for host in [&one, &two] {
        ensure!(host.lun.refresh_size().await? == 2 << 30, "a host does not see the new size");
    }
    two.lun.write((2 << 30) - CHUNK as u64, &content(9, 3)).await?;
    two.lun.flush().await?;
    stage.done("both hosts see 2 GiB");

    let last = backups(client, &volume, &one, stage, made).await?;

    stage.act("detach and destroy the volume");
    let final_sum = checksum(&one.lun, 2 << 30, stage).await?;
    for host in [one, two] {
        detach(client, host).await?;
    }
    client.delete_volume(&volume, VolumeDelete { cascade: true, force: false }).await?;
    wait(client, "volume", &volume, &[], stage).await?;
    made.forget_volume(&volume);
    stage.done("gone, with its snapshot");

    stage.act("restore from the incremental backup");
    let restored =
        client.restore_backup(&last, &RestoreTo::New(Some(format!("demo-{tag}-restored")))).await?;
    made.volumes.push(restored.volume_id.clone());
    wait(client, "backup", &last, &["available"], stage).await?;
    wait(client, "volume", &restored.volume_id, &["available"], stage).await?;
    stage.done("2 GiB");

    stage.act("compare");
    let host = attach(client, &restored.volume_id, tag, "three").await?;
    let found = checksum(&host.lun, 2 << 30, stage).await?;
    detach(client, host).await?;
    ensure!(found == final_sum, "the restored volume differs: {found} instead of {final_sum}");
    stage.done(format!("checksum {found:.12}, as it was"));
    Ok(())
}

async fn shared_volume(client: &Client, tag: &str, made: &mut Made) -> anyhow::Result<String> {
    let kind = NewVolumeType {
        name: format!("demo-{tag}"),
        description: Some("made by cinderblock demo".into()),
        is_public: true,
        extra_specs: [("multiattach".to_owned(), "<is> True".to_owned())].into(),
    };
    let kind = client.create_volume_type(&kind).await?;
    made.kind = Some(kind.id.clone());
    let wanted = NewVolume {
        name: Some(format!("demo-{tag}")),
        size: Some(1),
        volume_type: Some(kind.id),
        ..NewVolume::default()
    };
    let volume = client.create_volume(&wanted).await?.id;
    made.volumes.push(volume.clone());
    client
        .wait(&Waited { kind: "volume", id: volume.clone(), until: &["available"], limit: PATIENCE }, |_| {})
        .await?;
    Ok(volume)
}

async fn snapshot(client: &Client, volume: &str, made: &mut Made) -> anyhow::Result<String> {
    let wanted = NewSnapshot { volume_id: volume.to_owned(), ..NewSnapshot::default() };
    let snapshot = client.create_snapshot(&wanted).await?.id;
    made.snapshots.push((volume.to_owned(), snapshot.clone()));
    client
        .wait(
            &Waited { kind: "snapshot", id: snapshot.clone(), until: &["available"], limit: PATIENCE },
            |_| {},
        )
        .await?;
    Ok(snapshot)
}

/// Clones the snapshot, looks at the clone, and removes it.
async fn clone(
    client: &Client,
    snapshot: &str,
    wanted_sum: &str,
    tag: &str,
    stage: &mut Stage,
    made: &mut Made,
) -> anyhow::Result<()> {
    let wanted = NewVolume {
        name: Some(format!("demo-{tag}-clone")),
        snapshot_id: Some(snapshot.to_owned()),
        ..NewVolume::default()
    };
    let clone = client.create_volume(&wanted).await?.id;
    made.volumes.push(clone.clone());
    wait(client, "volume", &clone, &["available"], stage).await?;
    let host = attach(client, &clone, tag, "four").await?;
    let found = checksum(&host.lun, 1 << 30, stage).await?;
    detach(client, host).await?;
    ensure!(found == wanted_sum, "the clone differs from the snapshot: {found} instead of {wanted_sum}");
    client.delete_volume(&clone, VolumeDelete::default()).await?;
    wait(client, "volume", &clone, &[], stage).await?;
    made.forget_volume(&clone);
    Ok(())
}

/// A full backup, some changes, an incremental one; the latter's id.
async fn backups(
    client: &Client,
    volume: &str,
    host: &Host,
    stage: &mut Stage,
    made: &mut Made,
) -> anyhow::Result<String> {
    stage.act("full backup while attached");
    let full = backup(client, volume, false, stage, made).await?;
    stage.done(describe(client, &full).await?);
    for at in CHANGED {
        host.lun.write((at + 1) * CHUNK as u64, &content(at, 4)).await?;
    }
    host.lun.flush().await?;
    stage.act("incremental backup while attached");
    let last = backup(client, volume, true, stage, made).await?;
    stage.done(describe(client, &last).await?);
    Ok(last)
}

async fn backup(
    client: &Client,
    volume: &str,
    incremental: bool,
    stage: &mut Stage,
    made: &mut Made,
) -> anyhow::Result<String> {
    let wanted = NewBackup { volume_id: volume.to_owned(), incremental, force: true, ..NewBackup::default() };
    let id = client.create_backup(&wanted).await?.id;
    made.backups.push(id.clone());
    wait(client, "backup", &id, &["available"], stage).await?;
    Ok(id)
}

async fn describe(client: &Client, backup: &str) -> anyhow::Result<String> {
    let backup = client.backup(backup).await?;
    let objects = backup.extra.get("object_count").and_then(serde_json::Value::as_u64);
    Ok(objects.map_or_else(|| "available".into(), |n| format!("available, {n} objects")))
}

/// Attaches a volume to a host of a made-up name, over iSCSI, by our own initiator.
async fn attach(client: &Client, volume: &str, tag: &str, host: &str) -> anyhow::Result<Host> {
    let initiator = format!("iqn.2026-11.io.cinderblock:demo-{tag}-{host}");
    let connector = json!({ "initiator": initiator, "host": format!("demo-{host}"), "ip": "127.0.0.1", "multipath": false });
    let connector = Connector(connector.as_object().cloned().unwrap_or_default());
    let wanted = NewAttachment {
        volume_id: volume.to_owned(),
        connector: Some(connector),
        mode: Some("rw".into()),
        ..NewAttachment::default()
    };
    let attachment = client.create_attachment(&wanted).await?;
    let info = &attachment.connection_info;
    let field =
        |name: &str| info.text(name).with_context(|| format!("the connection information lacks {name}"));
    let lun = info.fields().get("target_lun").and_then(serde_json::Value::as_u64).unwrap_or(0);
    let mut config =
        InitiatorConfig::new(field("target_portal")?, field("target_iqn")?, u16::try_from(lun)?, initiator);
    config.chap = Some(Chap {
        user: field("auth_username")?.to_owned(),
        secret: Secret::new(field("auth_password")?.to_owned()),
        mutual: None,
    });
    let lun = RemoteLun::connect(config).await.context("cannot log in to the target")?;
    client.complete_attachment(&attachment.id).await?;
    Ok(Host { attachment: attachment.id, lun })
}

async fn detach(client: &Client, host: Host) -> anyhow::Result<()> {
    host.lun.flush().await?;
    host.lun.close().await?;
    client.delete_attachment(&host.attachment).await?;
    Ok(())
}

async fn wait(
    client: &Client,
    kind: &'static str,
    id: &str,
    until: &[&str],
    stage: &Stage,
) -> anyhow::Result<()> {
    let waited = Waited { kind, id: id.to_owned(), until, limit: PATIENCE };
    client
        .wait(&waited, |progress| {
            if let Some(job) = &progress.job {
                stage.progress(job.progress.done, job.progress.total);
            }
        })
        .await?;
    Ok(())
}

/// What chunk `at` holds in its `version`.
fn content(at: u64, version: u64) -> Vec<u8> {
    // xorshift: cheap, and no two chunks alike.
    let mut state =
        (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ version.wrapping_mul(0xd1b5_4a32_d192_ed03);
    let mut bytes = Vec::with_capacity(CHUNK);
    while bytes.len() < CHUNK {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// A checksum of chunks: the SHA-256 of theirs. Chunks of zeros, which most are, are hashed once.
struct Sum {
    whole: Sha256,
    zeros: Vec<u8>,
    of_zeros: Vec<u8>,
}

impl Sum {
    fn new() -> Self {
        let zeros = vec![0; CHUNK];
        Self { whole: Sha256::new(), of_zeros: Sha256::digest(&zeros).to_vec(), zeros }
    }

    fn add(&mut self, chunk: &[u8]) {
        if chunk == self.zeros {
            self.whole.update(&self.of_zeros);
        } else {
            self.whole.update(Sha256::digest(chunk));
        }
    }

    fn end(self) -> String {
        hex(&self.whole.finalize())
    }
}

/// The checksum of a volume of `size` whose first chunks hold version 1 and the rest zeros.
fn expected(size: u64) -> String {
    let (mut sum, zeros) = (Sum::new(), vec![0; CHUNK]);
    for at in 0..size / CHUNK as u64 {
        if at < WRITTEN {
            sum.add(&content(at, 1));
        } else {
            sum.add(&zeros);
        }
    }
    sum.end()
}

async fn checksum(lun: &RemoteLun, size: u64, stage: &Stage) -> anyhow::Result<String> {
    if lun.size() < size {
        bail!("the device has {} bytes, not {size}", lun.size());
    }
    let mut sum = Sum::new();
    let mut buffer = vec![0; CHUNK * READ_AT_ONCE];
    for at in (0..size).step_by(buffer.len()) {
        lun.read(at, &mut buffer).await?;
        for chunk in buffer.chunks(CHUNK) {
            sum.add(chunk);
        }
        stage.progress(at + buffer.len() as u64, size);
    }
    Ok(sum.end())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What was made, to be removed again whatever happened.
#[derive(Debug, Default)]
struct Made {
    kind: Option<String>,
    volumes: Vec<String>,
    /// Volume and snapshot.
    snapshots: Vec<(String, String)>,
    backups: Vec<String>,
}

impl Made {
    fn forget_volume(&mut self, volume: &str) {
        self.volumes.retain(|other| other != volume);
        self.snapshots.retain(|(of, _)| of != volume);
    }

    async fn remove(self, client: &Client) -> anyhow::Result<()> {
        for backup in self.backups.iter().rev() {
            client.delete_backup(backup, false).await?;
            wait_gone(client, "backup", backup).await?;
        }
        for volume in &self.volumes {
            for attachment in client.attachments(&client::Query::default()).await? {
                if attachment.volume_id == *volume {
                    client.delete_attachment(&attachment.id).await?;
                }
            }
            client.delete_volume(volume, VolumeDelete { cascade: true, force: false }).await?;
            wait_gone(client, "volume", volume).await?;
        }
        if let Some(kind) = &self.kind {
            client.delete_volume_type(kind).await?;
        }
        Ok(())
    }
}

async fn wait_gone(client: &Client, kind: &'static str, id: &str) -> anyhow::Result<()> {
    Ok(client.wait(&Waited { kind, id: id.to_owned(), until: &[], limit: PATIENCE }, |_| {}).await?)
}
