//! `qemu-img` where it can do no harm: util-linux's tools, one executing the next, put it there. No process stays between.
//!
//! The child has an image as descriptor 0 and an NBD connection to the volume as descriptor 1. It runs as nobody, without
//! capabilities, environment or network, and with limits; what cannot be had on this host (without root, say) is left out and logged
//! once.

use std::os::fd::OwnedFd;
use std::process::Stdio;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

use crate::{Error, Result};

/// How much of the child's complaints is kept.
const WORDS: u64 = 4096;
/// Nobody and nogroup on every Linux.
const NOBODY: &str = "65534";

/// What a run may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Address space, bytes.
    pub memory: u64,
    /// Processor time, seconds.
    pub seconds: u64,
    /// The largest file it may write, bytes.
    pub file: u64,
}

/// Walls beyond the limits, as far as they can be had here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Walls {
    /// Own network and IPC name spaces.
    apart: bool,
    /// Nobody, without capabilities.
    nobody: bool,
}

impl Walls {
    fn words(self) -> Vec<&'static str> {
        let mut words = Vec::new();
        if self.apart {
            words.extend(["unshare", "--net", "--ipc", "--"]);
        }
        words.extend(["setpriv", "--no-new-privs"]);
        if self.nobody {
            words.extend(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
            words.extend(["--inh-caps=-all", "--bounding-set=-all"]);
        }
        words.push("--");
        words
    }
}

/// Starts `qemu-img`.
#[derive(Debug, Default)]
pub struct Sandbox {
    walls: OnceCell<Walls>,
}

impl Sandbox {
    async fn walls(&self) -> Result<Walls> {
        self.walls.get_or_try_init(find_walls).await.copied()
    }

    /// Starts `qemu-img` with `args`.
    ///
    /// # Errors
    /// [`Error::NoConverter`].
    pub async fn start(
        &self,
        args: &[String],
        limits: Limits,
        image: OwnedFd,
        volume: OwnedFd,
    ) -> Result<Child> {
        let walls = self.walls().await?;
        let mut command = command(walls, limits);
        command.args(args);
        command.stdin(Stdio::from(image)).stdout(Stdio::from(volume)).stderr(Stdio::piped());
        command.spawn().map_err(|error| Error::NoConverter(error.to_string()))
    }
}

fn command(walls: Walls, limits: Limits) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(format!("--as={}", limits.memory)).arg(format!("--cpu={}", limits.seconds));
    command.arg(format!("--fsize={}", limits.file)).args(["--core=0", "--nofile=64", "--"]);
    command.args(walls.words()).arg("qemu-img");
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    // Each arena of the allocator would reserve 64 MiB of the address space.
    command.env("MALLOC_ARENA_MAX", "1");
    command.current_dir("/").kill_on_drop(true);
    command
}

/// The highest walls behind which `qemu-img` still starts.
async fn find_walls() -> Result<Walls> {
    let mut trouble = String::new();
    for (apart, nobody) in [(true, true), (false, true), (true, false), (false, false)] {
        let walls = Walls { apart, nobody };
        let limits = Limits { memory: 1 << 30, seconds: 10, file: 0 };
        let output = command(walls, limits).arg("--version").stdin(Stdio::null()).output().await;
        match output {
            Ok(output) if output.status.success() => {
                if !(apart && nobody) {
                    tracing::warn!(
                        own_network = apart,
                        unprivileged = nobody,
                        "images are converted behind lower walls"
                    );
                }
                return Ok(walls);
            }
            Ok(output) => trouble = String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => trouble = format!("prlimit: {error}"),
        }
    }
    Err(Error::NoConverter(if trouble.is_empty() { "qemu-img does not start".into() } else { trouble }))
}

/// The first of what the child complains, until it ends.
pub async fn complaints(child: &mut Child) -> String {
    let Some(mut stderr) = child.stderr.take() else { return String::new() };
    let mut words = Vec::new();
    let _ = (&mut stderr).take(WORDS).read_to_end(&mut words).await;
    // What follows is read too, or the child could not write it.
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&words).trim().replace('\n', "; ")
}
