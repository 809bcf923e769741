//! The data directory: the one place for everything that is this installation's, and the locks that keep a role from running twice.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use control::seal::{KEY_BYTES, Sealer};
use model::Secret;

use crate::serve::Role;

/// How long a start waits for the locks: a process that was killed lets go of them only when the kernel has taken it apart.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How long apart a lock that is held is asked for again; flock has no time limit of its own.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A data directory that exists.
#[derive(Debug)]
pub struct DataDir {
    pub path: PathBuf,
    /// Held for as long as the process lives.
    _locks: Vec<File>,
}

/// Where data goes when nobody says: under the user's data directory.
pub fn default_path() -> PathBuf {
    let base = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share")));
    base.unwrap_or_else(|| PathBuf::from("/var/lib")).join("cinderblock")
}

impl DataDir {
    /// Makes the directory if need be and takes the locks of `roles`, which a process that is just ending may still have.
    ///
    /// # Errors
    /// It cannot be made, or another process runs one of the roles here and went on doing so.
    pub fn open(path: &Path, roles: &[Role]) -> anyhow::Result<Self> {
        let run = path.join("run");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&run)
            .with_context(|| format!("cannot make the data directory {}", path.display()))?;
        let until = Instant::now() + LOCK_WAIT;
        let locks = roles.iter().map(|role| lock(&run, *role, path, until)).collect::<anyhow::Result<_>>()?;
        Ok(Self { path: path.canonicalize()?, _locks: locks })
    }

    /// A text that is made once and then kept: the installation's host name, for example.
    ///
    /// # Errors
    /// The file can be neither read nor made.
    pub fn kept_text(
        &self,
        name: &str,
        make: impl FnOnce() -> anyhow::Result<String>,
    ) -> anyhow::Result<String> {
        let path = self.path.join(name);
        if !path.exists() {
            publish(&path, format!("{}\n", make()?).as_bytes())?;
        }
        // Also what was just made: another process may have come first.
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// The sealer of this installation's secrets; its key is made at the first start.
    ///
    /// # Errors
    /// The key can be neither read nor made, or is damaged.
    pub fn sealer(&self) -> anyhow::Result<Sealer> {
        let path = self.path.join("secret.key");
        if !path.exists() {
            publish(&path, Sealer::fresh_key()?.expose())?;
        }
        let mut key = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(KEY_BYTES as u64 + 1).read_to_end(&mut key))
            .with_context(|| format!("cannot read {}", path.display()))?;
        let key: [u8; KEY_BYTES] = key
            .try_into()
            .map_err(|_| anyhow::anyhow!("{} is not a key of {KEY_BYTES} bytes", path.display()))?;
        Ok(Sealer::new(&Secret::new(key)))
    }
}

/// Takes the lock of a role, asking again `until` then.
fn lock(run: &Path, role: Role, data_dir: &Path, until: Instant) -> anyhow::Result<File> {
    let path = run.join(format!("{}.lock", role.name()));
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    loop {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                std::thread::park_timeout(LOCK_PAUSE);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(runs_already(&file, role, data_dir)),
            Err(error) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

fn runs_already(lock: &File, role: Role, data_dir: &Path) -> anyhow::Error {
    let mut pid = String::new();
    let _ = lock.take(32).read_to_string(&mut pid);
    let by = if pid.trim().is_empty() { String::new() } else { format!(" (process {})", pid.trim()) };
    anyhow::anyhow!(
        "the role {} is already running on {}{by}; stop that one first, or use another --data-dir",
        role.name(),
        data_dir.display()
    )
}

/// Writes a file so that it is there whole or not at all.
fn publish(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let making = path.with_extension(format!("new.{}", std::process::id()));
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&making)?;
    file.write_all(content)?;
    file.sync_all()?;
    // A link does not replace: of two processes that start together, the first one's content stays.
    match fs::hard_link(&making, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot make {}", path.display()));
        }
        _ => {}
    }
    fs::remove_file(&making)?;
    if let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_processes_that_start_together_both_keep_the_first_ones_text() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = DataDir::open(folder.path(), &[]).expect("opens");
        let other = DataDir::open(folder.path(), &[]).expect("opens");
        let meanwhile = || {
            assert_eq!(other.kept_text("host", || Ok("first".into())).expect("is kept"), "first");
            Ok("second".into())
        };
        assert_eq!(dir.kept_text("host", meanwhile).expect("is kept"), "first");
    }
}
