//! The service under measurement: a process of its own, its time and memory read from `/proc`.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::http::Connection;
use crate::process;

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// `sysconf(_SC_CLK_TCK)` on every Linux that we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running `cinderblock serve`; killed with this value unless stopped before.
pub struct Service {
    child: Child,
    pub address: SocketAddr,
    pub started: Instant,
}

impl Service {
    /// Starts the binary on a data directory and waits until it answers.
    ///
    /// # Errors
    /// When it ends or does not answer within half a minute; its output is in `serve.log` beside the data.
    pub fn start(binary: &Path, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (api, iscsi) = (free_address()?, free_address()?);
        let log = File::options().create(true).append(true).open(folder.join("serve.log"))?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--data-dir").arg(folder.join("data"));
        command.args(["--api-listen", &api.to_string(), "--iscsi-listen", &iscsi.to_string()]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
        let mut service = Self { child, address: api, started };
        while !service.answers("/v3/") {
            if let Some(status) = service.child.try_wait()? {
                bail!("the service ended with {status}; see {}", folder.join("serve.log").display());
            }
            if started.elapsed() > START_LIMIT {
                bail!("the service does not answer; see {}", folder.join("serve.log").display());
            }
            process::pause(Duration::from_millis(1));
        }
        Ok(service)
    }

    fn answers(&self, path: &str) -> bool {
        let answer =
            Connection::open(self.address).and_then(|mut connection| connection.request("GET", path, None));
        answer.is_ok_and(|answer| answer.status == 200)
    }

    /// Asks it to end and waits.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(mut self) -> Result<()> {
        Command::new("sh")
            .args(["-c", "kill -TERM \"$1\"", "kill", &self.child.id().to_string()])
            .status()?;
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > STOP_LIMIT {
                bail!("the service does not end when asked to");
            }
            process::pause(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Resident memory, in MiB.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resident_mib(&self) -> Result<f64> {
        self.status_mib("VmRSS:")
    }

    /// The most resident memory since [`forget_peak`](Self::forget_peak), in MiB.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn peak_mib(&self) -> Result<f64> {
        self.status_mib("VmHWM:")
    }

    /// Begins a new measurement of the peak.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn forget_peak(&self) -> Result<()> {
        // 5: see proc(5), clear_refs.
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").context("cannot reset the peak")
    }

    fn status_mib(&self, field: &str) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    }

    /// Processor time used so far, in milliseconds.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu_ms(&self) -> Result<f64> {
        cpu_ms(self.child.id())
    }
}

/// Processor time that a process has used so far, in milliseconds.
///
/// # Errors
/// When the process is gone.
pub fn cpu_ms(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold blanks; user and system time are the 12th and 13th field after it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).context("no times");
    Ok((ticks(11)? + ticks(12)?) * 1000.0 / TICKS_PER_SECOND)
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            process::kill_group(&mut self.child);
        }
    }
}

/// A loopback address that was free a moment ago.
///
/// # Errors
/// When no port is free.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// The binary to measure: the one given, or a release build.
///
/// # Errors
/// When it does not compile.
pub fn binary(workspace: &crate::workspace::Workspace, given: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(path) = given {
        return std::path::absolute(path).context("no such path");
    }
    let mut build = crate::workspace::cargo();
    build.args(["build", "--release", "--locked", "--package", "cinderblock"]).current_dir(&workspace.root);
    if !build.status()?.success() {
        bail!("the release build failed");
    }
    Ok(workspace.target.join("release/cinderblock"))
}
