//! `qemu-img convert` between a file that has no name and a volume behind a socket.
//!
//! The program is told the format of each side. The image is its descriptor 0, opened by that number; the volume is an NBD
//! connection on descriptor 1. `"backing": null` keeps it from following a backing file that inspection missed.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use model::block::Device;
use model::job::Claim;
use serde_json::json;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::CPU_PER_GIB;
use crate::inspect::{self, Refusal, Rules};
use crate::nbd::{Access, Served};
use crate::sandbox::{Limits, Sandbox, complaints};
use crate::{DiskFormat, Error, Options, Result};

/// Conversions that run side by side in one process; further ones wait.
const SIDE_BY_SIDE: usize = 2;
/// How often the claim is looked at while the program works. A claim has no event.
const LOOK: Duration = Duration::from_millis(250);
/// What a converted file may need beyond its content.
const OVERHEAD: u64 = 64 << 20;

/// Converts images. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Converter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    disabled: bool,
    cpu_limit: u64,
    memory: u64,
    vmdk_types: Vec<String>,
    sandbox: Sandbox,
    turns: Semaphore,
}

impl Converter {
    /// A converter; nothing is looked for before the first image needs it.
    pub fn new(options: &Options) -> Self {
        Self(Arc::new(Inner {
            folder: options.conversion_dir.clone(),
            disabled: options.conversion_disabled,
            cpu_limit: options.cpu_limit,
            memory: options.address_space_limit << 30,
            vmdk_types: options.vmdk_types.clone(),
            sandbox: Sandbox::default(),
            turns: Semaphore::new(SIDE_BY_SIDE),
        }))
    }

    /// Whether images whose format needs it are converted at all (`image_conversion_disable`).
    pub fn is_disabled(&self) -> bool {
        self.0.disabled
    }

    /// An empty file without a name in `image_conversion_dir`.
    ///
    /// # Errors
    /// [`Error::Scratch`].
    pub async fn scratch(&self) -> Result<File> {
        let folder = self.0.folder.clone();
        let made = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&folder)?;
            let file = tempfile::tempfile_in(&folder)?;
            // It has no name: who reaches it was given it, and the converter is nobody.
            file.set_permissions(std::fs::Permissions::from_mode(0o666))?;
            io::Result::Ok(file)
        });
        made.await.map_err(io::Error::other).flatten().map_err(Error::Scratch)
    }

    /// Waits for a turn: the file for a conversion is not filled before.
    pub(crate) async fn turn(&self) -> SemaphorePermit<'_> {
        self.0.turns.acquire().await.expect("the semaphore is never closed")
    }

    /// Checks the image in `file`, which is `declared`, and unpacks it to the start of `device`. Returns how many bytes it holds.
    /// The rest of the device is left alone; nothing is flushed.
    ///
    /// # Errors
    /// The image is refused ([`inspect`]), the device or the program failed, or the claim ended.
    pub async fn unpack(
        &self,
        id: &str,
        file: File,
        declared: DiskFormat,
        device: &Device,
        claim: &Claim,
    ) -> Result<u64> {
        let rules = Rules { room: device.size(), vmdk_types: self.0.vmdk_types.clone() };
        let copy = file.try_clone().map_err(Error::Scratch)?;
        let looked = tokio::task::spawn_blocking(move || inspect::inspect(&copy, declared, &rules));
        let holds = looked.await.map_err(|error| Error::Scratch(io::Error::other(error)))?;
        let holds = holds.map_err(|refusal| refused(id, refusal, device.size()))?;
        claim.set_total(holds);
        claim.set_done(0);
        let source = json!({
            "driver": declared.name(), "backing": null,
            "file": { "driver": "file", "filename": "/proc/self/fd/0", "locking": "off" },
        });
        let target = json!({ "driver": "raw", "file": connection() });
        let args = ["convert".into(), "-n".into(), format!("json:{source}"), format!("json:{target}")];
        // The program writes no file of its own.
        let limits = self.limits(holds, 0);
        let size = device.size();
        let served = Served { device, size, access: Access::Write, claim };
        self.run(&args, limits, file, served).await?;
        Ok(holds)
    }

    /// Packs all of `device` into `file` as `format`. What is in the device is raw, whatever it looks like (CVE-2026-24708).
    ///
    /// # Errors
    /// The device or the program failed, or the claim ended.
    pub async fn pack(&self, device: &Device, format: DiskFormat, file: &File, claim: &Claim) -> Result<()> {
        let size = device.size();
        claim.set_total(size);
        claim.set_done(0);
        let source = json!({ "driver": "raw", "read-only": true, "file": connection() });
        let args = [
            "convert".into(),
            "-O".into(),
            format.name().into(),
            format!("json:{source}"),
            "/proc/self/fd/0".into(),
        ];
        let limits = self.limits(size, size + size / 64 + OVERHEAD);
        let copy = file.try_clone().map_err(Error::Scratch)?;
        self.run(&args, limits, copy, Served { device, size, access: Access::Read, claim }).await
    }

    fn limits(&self, bytes: u64, file: u64) -> Limits {
        let seconds = self.0.cpu_limit + bytes.div_ceil(1 << 30).saturating_mul(CPU_PER_GIB);
        Limits { memory: self.0.memory, seconds, file }
    }

    async fn run(&self, args: &[String], limits: Limits, image: File, served: Served<'_>) -> Result<()> {
        let socket = |source| Error::Device { action: "offer", source };
        let (ours, theirs) = UnixStream::pair().map_err(socket)?;
        let theirs = theirs.into_std().map_err(socket)?;
        theirs.set_nonblocking(false).map_err(socket)?;
        let image = OwnedFd::from(image);
        let mut child = self.0.sandbox.start(args, limits, image, OwnedFd::from(theirs)).await?;
        let claim = served.claim.clone();
        let work = async {
            let serve = served.run(ours);
            let (served, words) = tokio::join!(serve, complaints(&mut child));
            (served, words)
        };
        let stopped = async {
            loop {
                tokio::time::sleep(LOOK).await;
                if let Err(stop) = claim.check() {
                    return stop;
                }
            }
        };
        let ended = tokio::select! {
            ended = work => Ok(ended),
            stop = stopped => Err(stop),
        };
        match ended {
            Ok((served, words)) => {
                let status = child.wait().await.map_err(|error| Error::Conversion(error.to_string()))?;
                served?;
                judge(status, words)
            }
            Err(stop) => {
                end(&mut child).await;
                Err(stop.into())
            }
        }
    }
}

/// The volume as `qemu-img` reaches it.
fn connection() -> serde_json::Value {
    json!({ "driver": "nbd", "server": { "type": "fd", "str": "1" } })
}

fn judge(status: ExitStatus, words: String) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    Err(Error::Conversion(if words.is_empty() { format!("qemu-img ended with {status}") } else { words }))
}

async fn end(child: &mut Child) {
    if let Err(error) = child.kill().await {
        tracing::warn!(%error, "a converter could not be ended");
    }
}

/// A refusal in the words for its owner.
pub(crate) fn refused(id: &str, refusal: Refusal, room: u64) -> Error {
    match refusal {
        Refusal::Unacceptable(reason) => Error::Unacceptable { id: id.to_owned(), reason },
        Refusal::TooBig(needed) => Error::TooBig { id: id.to_owned(), needed, room },
        Refusal::Unreadable(source) => Error::Scratch(source),
    }
}
