//! Backup and restore through the service: bytes a second, and the memory that they take. No peer is named for these.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::http::Connection;
use super::service::{Service, binary};
use super::{Figure, print};
use crate::process;
use crate::provision::Provisions;
use crate::suite::Need;
use crate::workspace::Workspace;

const NEEDS: &[Need] = &[Need::Qemu];
const INITIATOR: &str = "iqn.2026-01.bench:backup";
const WORK_LIMIT: Duration = Duration::from_secs(900);
const MIB: u64 = 1 << 20;
/// What changes between the full backup and the increment.
const CHANGED_MIB: u64 = 32;
/// Growth of memory over what the service takes at rest.
const MEMORY_BOUND_MIB: f64 = 128.0;

/// `cargo xtask bench backup`.
///
/// # Errors
/// When the service cannot be started, or what is restored is not what was backed up.
pub fn run(workspace: &Workspace, args: &[String]) -> Result<bool> {
    let (mut given, mut gib) = (None, 2);
    for pair in args.chunks(2) {
        match pair {
            [name, value] if name == "--binary" => given = Some(PathBuf::from(value)),
            [name, value] if name == "--gib" => gib = value.parse().context("--gib needs a number")?,
            _ => bail!("bench backup knows --binary PATH and --gib N"),
        }
    }
    let mut provisions = Provisions::new(workspace);
    provisions.install(NEEDS);
    provisions.environment(NEEDS)?;
    let folder = workspace.target.join(format!("bench-backup-{}", std::process::id()));
    let figures = binary(workspace, given).and_then(|binary| measure(&binary, &folder, gib));
    let _ = std::fs::remove_dir_all(&folder);
    Ok(print(&figures?))
}

fn measure(binary: &Path, folder: &Path, gib: u64) -> Result<Vec<Figure>> {
    let service = Service::start(binary, folder)?;
    let bytes = gib << 30;
    let data = folder.join("content");
    fill(&data, bytes)?;
    let mut cloud = Cloud { connection: Connection::open(service.address)? };
    let body = json!({"volume": {"size": gib, "name": "bench"}});
    let volume = cloud.create("/v3/volumes", &body, "/volume/id")?;
    cloud.reach("volume", &volume)?;
    cloud.attached(&volume, |disk| qemu_img(&["convert", "-n", "-f", "raw", "-O", "raw"], &data, disk))?;
    let mib = (bytes / MIB) as f64;
    let mut figures = Vec::new();
    let figure = |what: &str, ours, unit, less_is_better| Figure {
        what: what.to_owned(),
        ours,
        peer: None,
        unit,
        less_is_better,
        bound: None,
    };
    let rest = service.resident_mib()?;
    service.forget_peak()?;
    let (full, time) = timed(|| cloud.back_up(&volume, false))?;
    figures.push(figure("full backup of data, half of it compressible", mib / time, "MiB/s", false));
    let growth = figure("full backup: memory above rest, at most", service.peak_mib()? - rest, "MiB", true);
    figures.push(growth.at_most(MEMORY_BOUND_MIB));
    cloud.attached(&volume, |disk| {
        let write = format!("write -P 0x5c 0 {CHANGED_MIB}M");
        check(Command::new("qemu-io").args(["-t", "none", "-c", &write, "-c", "flush", disk]))
    })?;
    let (_, time) = timed(|| cloud.back_up(&volume, true))?;
    figures.push(figure(&format!("increment of {CHANGED_MIB} MiB in {gib} GiB"), time, "s", true));
    service.forget_peak()?;
    let ((), time) = timed(|| cloud.restore(&full, &volume))?;
    figures.push(figure("restore of the full backup", mib / time, "MiB/s", false));
    let growth = figure("restore: memory above rest, at most", service.peak_mib()? - rest, "MiB", true);
    figures.push(growth.at_most(MEMORY_BOUND_MIB));
    cloud.attached(&volume, |disk| qemu_img(&["compare", "-f", "raw", "-F", "raw"], &data, disk))?;
    service.stop()?;
    Ok(figures)
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let start = Instant::now();
    let done = work()?;
    Ok((done, start.elapsed().as_secs_f64()))
}

/// The calls of the story.
struct Cloud {
    connection: Connection,
}

impl Cloud {
    fn create(&mut self, path: &str, body: &Value, id: &str) -> Result<String> {
        let answer = self.connection.request("POST", path, Some(body))?.json()?;
        Ok(answer.pointer(id).and_then(Value::as_str).context("an answer without an id")?.to_owned())
    }

    /// Waits until a resource is available.
    fn reach(&mut self, kind: &str, id: &str) -> Result<()> {
        let start = Instant::now();
        loop {
            let answer = self.connection.request("GET", &format!("/v3/{kind}s/{id}"), None)?.json()?;
            match answer.pointer(&format!("/{kind}/status")).and_then(Value::as_str) {
                Some("available") => return Ok(()),
                Some(status) if !status.starts_with("error") && start.elapsed() < WORK_LIMIT => {
                    process::pause(Duration::from_millis(5));
                }
                other => bail!("{kind} {id} is {other:?}"),
            }
        }
    }

    fn back_up(&mut self, volume: &str, is_incremental: bool) -> Result<String> {
        let body = json!({"backup": {"volume_id": volume, "incremental": is_incremental}});
        let backup = self.create("/v3/backups", &body, "/backup/id")?;
        self.reach("backup", &backup)?;
        Ok(backup)
    }

    fn restore(&mut self, backup: &str, volume: &str) -> Result<()> {
        let body = json!({"restore": {"volume_id": volume}});
        self.connection.request("POST", &format!("/v3/backups/{backup}/restore"), Some(&body))?.json()?;
        self.reach("volume", volume)
    }

    /// Attaches a volume, lets `work` have it under the name that QEMU's tools take, and detaches it.
    fn attached(&mut self, volume: &str, work: impl FnOnce(&str) -> Result<()>) -> Result<()> {
        let connector =
            json!({"initiator": INITIATOR, "host": "bench", "ip": "127.0.0.1", "multipath": false});
        let body = json!({"attachment": {"volume_uuid": volume, "connector": connector}});
        let answer = self.connection.request("POST", "/v3/attachments", Some(&body))?.json()?;
        let attachment = answer.get("attachment").context("no attachment")?;
        let id =
            attachment.get("id").and_then(Value::as_str).context("an attachment without an id")?.to_owned();
        let info = attachment.get("connection_info").context("an attachment without connection info")?;
        let iscsi = json!({
            "driver": "iscsi", "transport": "tcp", "initiator-name": INITIATOR,
            "portal": info["target_portal"], "target": info["target_iqn"], "lun": info["target_lun"],
            "user": info["auth_username"], "password": info["auth_password"],
        });
        let done = work(&format!("json:{}", json!({"driver": "raw", "file": iscsi})));
        self.connection.request("DELETE", &format!("/v3/attachments/{id}"), None)?.json()?;
        done?;
        self.reach("volume", volume)
    }
}

/// Blocks of 1 MiB, in turn of noise and of repeated text.
fn fill(path: &Path, bytes: u64) -> Result<()> {
    let mut out = std::fs::File::create(path)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let text = "what compresses well ".repeat(1 + MIB as usize / 21);
    for block in 0..bytes / MIB {
        if block % 2 == 0 {
            let noise: Vec<u8> = (0..MIB / 8).flat_map(|_| noise(&mut state)).collect();
            out.write_all(&noise)?;
        } else {
            out.write_all(&text.as_bytes()[..MIB as usize])?;
        }
    }
    out.sync_all().context("cannot write the data to back up")
}

/// The next eight bytes of a xorshift generator.
fn noise(state: &mut u64) -> [u8; 8] {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.to_le_bytes()
}

fn qemu_img(words: &[&str], file: &Path, disk: &str) -> Result<()> {
    check(Command::new("qemu-img").args(words).arg(file).arg(disk))
}

fn check(command: &mut Command) -> Result<()> {
    let output = command.output().context("cannot start QEMU's tools")?;
    if output.status.success() {
        return Ok(());
    }
    bail!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
