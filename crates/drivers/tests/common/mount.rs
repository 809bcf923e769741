//! Small file systems of their own kind and size, on loop devices.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub struct Mount {
    dir: tempfile::TempDir,
}

impl Mount {
    /// A new file system of `kind` (`ext4`, `xfs`, `btrfs`) and `mib` size.
    ///
    /// # Panics
    /// Says which package or right is missing.
    pub fn new(kind: &str, mib: u64) -> Self {
        let package = match kind {
            "xfs" => "xfsprogs",
            "btrfs" => "btrfs-progs",
            _ => "e2fsprogs",
        };
        assert!(rustix_is_root(), "this test mounts file systems: run it as root");
        // In memory where there is some: these suites sync all the time, and what the syncs mean is tested elsewhere.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let image = dir.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        let mkfs = Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image).output();
        let mkfs = mkfs.unwrap_or_else(|e| panic!("mkfs.{kind}: {e}; install the package {package}"));
        assert!(mkfs.status.success(), "mkfs.{kind}: {}", String::from_utf8_lossy(&mkfs.stderr));
        let mount = Self { dir };
        std::fs::create_dir(mount.path()).unwrap();
        let mounted =
            Command::new("mount").args(["-o", "loop"]).arg(&image).arg(mount.path()).output().unwrap();
        assert!(mounted.status.success(), "mount: {}", String::from_utf8_lossy(&mounted.stderr));
        mount
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mount")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

fn rustix_is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|s| s.lines().any(|l| l.starts_with("Uid:") && l.split_whitespace().nth(2) == Some("0")))
}

/// Runs a program and returns what it says.
///
/// # Panics
/// When it is missing (naming the package) or fails.
pub fn run(package: &str, dir: &Path, program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).current_dir(dir).output();
    let out = out.unwrap_or_else(|e| panic!("{program}: {e}; install the package {package}"));
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{program} {args:?}: {text}");
    text
}
