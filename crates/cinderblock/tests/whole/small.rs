//! Small file systems that can be filled to the last block.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::Command;

/// A mounted ext4, unmounted when dropped.
pub struct Small {
    point: PathBuf,
    /// Where its image is.
    _dir: tempfile::TempDir,
}

fn run(package: &str, command: &mut Command) {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; install {package}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

impl Small {
    /// A new file system of `mib` size at `point`, which is made.
    pub fn at(point: PathBuf, mib: u64) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test mounts file systems: run it as root");
        let dir = tempfile::tempdir().expect("a directory");
        let image = dir.path().join("image");
        std::fs::File::create(&image).expect("a file").set_len(mib << 20).expect("a sparse file");
        run("e2fsprogs", Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image));
        std::fs::create_dir_all(&point).expect("a directory");
        run("mount", Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&point));
        Self { point, _dir: dir }
    }

    fn filler(&self) -> PathBuf {
        self.point.join("filler")
    }

    /// Takes every block that is free.
    pub fn fill(&self) {
        let file = OpenOptions::new().create(true).append(true).open(self.filler()).expect("a file");
        let mut size = file.metadata().expect("a size").len();
        for step in [64 << 20, 1 << 20, 4096] {
            while rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), size, step).is_ok() {
                size += step;
            }
        }
    }

    /// Gives the blocks back.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("it was filled");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: when a test fails, the service may still be running in it.
        let _ = Command::new("umount").arg("-l").arg(&self.point).status();
    }
}
