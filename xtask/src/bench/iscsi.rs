//! The data plane: one file served by our target and by Debian's `tgt`, in turn, through QEMU's libiscsi initiator.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::service::{binary, cpu_ms, free_address};
use super::{Figure, percentile, print};
use crate::process;
use crate::provision::Provisions;
use crate::suite::Need;
use crate::workspace::Workspace;

const NEEDS: &[Need] = &[Need::Qemu, Need::Packages(&["tgt"])];
/// A power of two, so that an odd step visits every block before it comes back.
const FILE_BYTES: u64 = 1 << 30;
const ROUNDS: usize = 3;
const START_LIMIT: Duration = Duration::from_secs(20);
/// tgt's management sockets are numbered; this number is ours.
const TGT_CONTROL: &str = "7719";
const OUR_IQN: &str = "iqn.2026-01.bench:ours";
const TGT_IQN: &str = "iqn.2026-01.bench:tgt";

/// A pattern of requests.
struct Load {
    name: &'static str,
    bytes: u64,
    depth: u32,
    count: u64,
    is_write: bool,
    is_random: bool,
}

#[rustfmt::skip] // a table reads best as a table
const LOADS: &[Load] = &[
    Load { name: "4 KiB random reads, one at a time",   bytes: 4096,    depth: 1,  count: 20_000, is_write: false, is_random: true },
    Load { name: "4 KiB random writes, one at a time",  bytes: 4096,    depth: 1,  count: 20_000, is_write: true,  is_random: true },
    Load { name: "4 KiB random reads, 32 at a time",    bytes: 4096,    depth: 32, count: 80_000, is_write: false, is_random: true },
    Load { name: "4 KiB random writes, 32 at a time",   bytes: 4096,    depth: 32, count: 80_000, is_write: true,  is_random: true },
    Load { name: "1 MiB sequential reads, 4 at a time",  bytes: 1 << 20, depth: 4,  count: 2_048,  is_write: false, is_random: false },
    Load { name: "1 MiB sequential writes, 4 at a time", bytes: 1 << 20, depth: 4,  count: 2_048,  is_write: true,  is_random: false },
];

/// One measurement of a load.
#[derive(Clone, Copy)]
struct Sample {
    per_s: f64,
    cpu_us_each: f64,
}

/// `cargo xtask bench iscsi`.
///
/// # Errors
/// When a target cannot be built, installed, started or measured.
pub fn run(workspace: &Workspace, args: &[String]) -> Result<bool> {
    let given = match args {
        [] => None,
        [name, path] if name == "--binary" => Some(PathBuf::from(path)),
        _ => bail!("bench iscsi knows --binary PATH"),
    };
    let folder = workspace.target.join(format!("bench-iscsi-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut provisions = Provisions::new(workspace);
    provisions.install(NEEDS);
    provisions.environment(NEEDS)?;
    let figures = binary(workspace, given).and_then(|binary| measure(&binary, &folder));
    let _ = std::fs::remove_dir_all(&folder);
    println!(
        "peer: Debian's tgt, serving the same file on this machine (medians of {ROUNDS} rounds, in turn)"
    );
    Ok(print(&figures?))
}

fn measure(binary: &Path, folder: &Path) -> Result<Vec<Figure>> {
    let file = folder.join("disk");
    fill(&file)?;
    let mut figures = Vec::new();
    for load in LOADS {
        let (mut ours, mut peers) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            // One target at a time has the file open.
            ours.push(sample(&Target::ours(binary, &file, folder)?, load)?);
            peers.push(sample(&Target::tgt(&file, folder)?, load)?);
        }
        let median = |samples: &[Sample], of: fn(&Sample) -> f64| {
            percentile(&samples.iter().map(of).collect::<Vec<_>>(), 0.5)
        };
        let rate = |samples: &[Sample]| median(samples, |sample| sample.per_s);
        let cpu = |samples: &[Sample]| median(samples, |sample| sample.cpu_us_each);
        figures.push(Figure {
            what: load.name.to_owned(),
            ours: rate(&ours),
            peer: Some(rate(&peers)),
            unit: "/s",
            less_is_better: false,
            bound: None,
        });
        figures.push(Figure {
            what: format!("{}: the target's CPU", load.name),
            ours: cpu(&ours),
            peer: Some(cpu(&peers)),
            unit: "us",
            less_is_better: true,
            bound: None,
        });
    }
    Ok(figures)
}

/// A file without holes, so that reads reach data.
fn fill(file: &Path) -> Result<()> {
    use std::io::Write;
    let mut out = std::fs::File::create(file)?;
    let block: Vec<u8> = (0..1 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for _ in 0..FILE_BYTES >> 20 {
        out.write_all(&block)?;
    }
    out.sync_all().context("cannot write the file to serve")
}

fn sample(target: &Target, load: &Load) -> Result<Sample> {
    let mut command = Command::new("qemu-img");
    // An odd number of blocks: with a size that is a power of two, every block is visited, far from the last one.
    let step = if load.is_random { load.bytes * 7919 } else { load.bytes };
    command.args(["bench", "-t", "none", "-c", &load.count.to_string(), "-d", &load.depth.to_string()]);
    command.args(["-s", &load.bytes.to_string(), "-S", &step.to_string()]);
    if load.is_write {
        command.arg("-w");
    }
    let before = cpu_ms(target.child.id())?;
    let output = command.arg(&target.options).output().context("cannot start qemu-img")?;
    let after = cpu_ms(target.child.id())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let seconds =
        text.lines().find_map(|line| line.strip_prefix("Run completed in ")?.split(' ').next()?.parse().ok());
    let Some(seconds) = seconds.filter(|seconds: &f64| output.status.success() && *seconds > 0.0) else {
        bail!("qemu-img bench failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    };
    let count = load.count as f64;
    Ok(Sample { per_s: count / seconds, cpu_us_each: (after - before) * 1000.0 / count })
}

/// A running target; killed with this value.
struct Target {
    child: Child,
    /// The LUN, as QEMU's tools take it.
    options: String,
}

impl Target {
    fn ours(binary: &Path, file: &Path, folder: &Path) -> Result<Self> {
        let portal = free_address()?.to_string();
        let mut command = Command::new(binary);
        command.args(["target", "serve"]).arg(file).args(["--portal", &portal, "--iqn", OUR_IQN, "--open"]);
        Self::start(command, folder, &portal, OUR_IQN, 0)
    }

    fn tgt(file: &Path, folder: &Path) -> Result<Self> {
        let portal = free_address()?.to_string();
        let mut command = Command::new("/usr/sbin/tgtd");
        command.args(["-f", "-C", TGT_CONTROL, "--iscsi", &format!("portal={portal}")]);
        command.env("TGT_IPC_SOCKET", folder.join("tgt"));
        let target = Self::start(command, folder, &portal, TGT_IQN, 1)?;
        let file = file.to_string_lossy().into_owned();
        let lun =
            ["--mode", "logicalunit", "--op", "new", "--tid", "1", "--lun", "1", "--backing-store", &file];
        for words in [
            &["--mode", "target", "--op", "new", "--tid", "1", "--targetname", TGT_IQN][..],
            &lun[..],
            &["--mode", "target", "--op", "bind", "--tid", "1", "--initiator-address", "ALL"][..],
        ] {
            let mut admin = Command::new("/usr/sbin/tgtadm");
            admin
                .args(["-C", TGT_CONTROL, "--lld", "iscsi"])
                .args(words)
                .env("TGT_IPC_SOCKET", folder.join("tgt"));
            let output = admin.output().context("cannot start tgtadm")?;
            if !output.status.success() {
                bail!("tgtadm {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
            }
        }
        Ok(target)
    }

    fn start(mut command: Command, folder: &Path, portal: &str, iqn: &str, lun: u32) -> Result<Self> {
        let log = std::fs::File::options().create(true).append(true).open(folder.join("targets.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn().context("cannot start a target")?;
        let iscsi =
            json!({"driver": "iscsi", "transport": "tcp", "portal": portal, "target": iqn, "lun": lun});
        let options = format!("json:{}", json!({"driver": "raw", "file": iscsi}));
        let mut target = Self { child, options };
        let start = Instant::now();
        while std::net::TcpStream::connect(portal).is_err() {
            if let Some(status) = target.child.try_wait()? {
                let said = std::fs::read_to_string(folder.join("targets.log")).unwrap_or_default();
                bail!("the target ended with {status}: {said}");
            }
            if start.elapsed() > START_LIMIT {
                bail!("the target at {portal} does not answer");
            }
            process::pause(Duration::from_millis(10));
        }
        Ok(target)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        process::kill_group(&mut self.child);
    }
}
