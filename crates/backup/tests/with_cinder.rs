//! Backups that pass back and forth between this crate and Cinder's own driver (I9).
//!
//! Needs a Python with Cinder 29 and zstd; `CINDER_PYTHON` names it:
//! `CINDER_PYTHON=/venv/bin/python cargo test -p backup --test with_cinder -- --ignored`.
#![allow(clippy::unwrap_used)] // a test

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use backup::store::PosixStore;
use backup::{
    CreateBackup, Level, Naming, ParentRef, PipelineConfig, Restore, TargetState, create, restore, verify,
};
use common::{Dice, FileDevice};
use model::job::Claim;
use model::{BackupId, VolumeId};
use serde_json::{Value, json};

const SIZE: u64 = (24 << 20) + 1000;

/// A volume, a store, and the backups made so far.
struct Case {
    directory: tempfile::TempDir,
    volume: VolumeId,
    device: Arc<FileDevice>,
    algorithm: &'static str,
    rows: Vec<Value>,
}

impl Case {
    fn new(algorithm: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let device = Arc::new(FileDevice::create(&directory.path().join("volume"), SIZE));
        Self { directory, volume: VolumeId::new(), device, algorithm, rows: Vec::new() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn store(&self) -> Arc<PosixStore> {
        Arc::new(PosixStore::new(self.path("store")))
    }

    /// Writes text, noise and zeros here and there.
    fn write(&self, dice: &mut Dice) {
        for _ in 0..6 {
            let length = 1 + dice.below(3 << 20) as usize;
            let offset = dice.below(SIZE - length as u64);
            let data = match dice.below(3) {
                0 => dice.noise(length),
                1 => dice.text(length),
                _ => vec![0; length],
            };
            self.device.put(offset, &data);
        }
        self.device.put(SIZE - 1, &[dice.next() as u8]);
    }

    fn row(&self, backup: BackupId) -> Value {
        let parent = self.rows.last().map(|row| row["id"].clone());
        json!({
            "id": backup, "volume_id": self.volume, "parent_id": parent, "size": 1, "container": null,
            "service_metadata": null, "object_count": 0, "display_name": "näme", "display_description": null,
            "created_at": "2026-11-21 19:32:04+00:00", "status": "available",
        })
    }

    fn levels(&self) -> Vec<Level> {
        let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
        let level = |row: &Value| Level {
            backup: text(row, "id").parse().unwrap(),
            container: text(row, "container"),
            prefix: text(row, "service_metadata"),
        };
        self.rows.iter().map(level).collect()
    }

    async fn back_up_here(&mut self) {
        let backup = BackupId::new();
        let parent = self.levels().pop().map(|level| ParentRef {
            backup: level.backup,
            container: level.container,
            prefix: level.prefix,
        });
        let request = CreateBackup {
            backup,
            volume: self.volume,
            name: Some("näme".into()),
            description: None,
            created_at: "2026-11-21T19:32:04Z".parse().unwrap(),
            source: self.device.clone(),
            size: SIZE,
            parent,
            store: self.store(),
            naming: Naming::Posix { container: None },
            container: None,
            config: PipelineConfig {
                chunk_size: 4 << 20,
                block_size: 64 << 10,
                compression: self.algorithm.parse().unwrap(),
                ..PipelineConfig::default()
            },
            volume_meta: Some(r#"{"version": 2}"#.into()),
        };
        let made = create(request, &Claim::unbounded()).await.unwrap();
        let mut row = self.row(backup);
        row["container"] = made.container.into();
        row["service_metadata"] = made.service_metadata.into();
        row["object_count"] = made.object_count.into();
        self.rows.push(row);
    }

    fn cinder(&self, action: &str, file: &Path, backup: &Value, parents: &[Value]) -> Value {
        let order = self.path("order");
        let text = json!({
            "store": self.path("store"), "file": file, "algorithm": self.algorithm, "chunk_size": 4 << 20,
            "block_size": 64 << 10, "backup": backup, "parents": parents, "new": true,
        });
        fs::write(&order, text.to_string()).unwrap();
        let python = std::env::var("CINDER_PYTHON").expect("CINDER_PYTHON names a Python with Cinder");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cinder/driver.py");
        let output = Command::new(python).arg(script).arg(action).arg(&order).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn back_up_there(&mut self) {
        let row = self.row(BackupId::new());
        self.rows.push(self.cinder("backup", &self.path("volume"), &row, &self.rows));
    }

    /// Restores the newest backup with both and compares; scrubs every one.
    async fn restore_with_both(&self) {
        let expected = fs::read(self.path("volume")).unwrap();
        let target = Arc::new(FileDevice::create(&self.path("ours"), SIZE));
        let state = TargetState::New;
        let request = Restore { store: self.store(), chain: self.levels(), target, state };
        restore(request, &Claim::unbounded()).await.unwrap();
        assert!(fs::read(self.path("ours")).unwrap() == expected, "{}: ours differs", self.algorithm);
        let theirs = self.path("theirs");
        fs::File::create(&theirs).unwrap().set_len(SIZE).unwrap();
        let (newest, parents) = self.rows.split_last().unwrap();
        self.cinder("restore", &theirs, newest, parents);
        assert!(fs::read(&theirs).unwrap() == expected, "{}: Cinder's differs", self.algorithm);
        for level in self.levels() {
            let claim = Claim::unbounded();
            let found = verify(&*self.store(), &level.container, &level.prefix, &claim).await.unwrap();
            assert!(found.is_sound(), "{}: {found:?}", self.algorithm);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Python with Cinder 29; run by backup-cinder"]
async fn i9_chains_made_in_turns_restore_on_both_sides() {
    for (seed, algorithm) in (1..).zip(["none", "zlib", "gzip", "bz2", "bzip2", "zstd"]) {
        let (mut dice, mut case) = (Dice::new(seed), Case::new(algorithm));
        case.write(&mut dice);
        case.back_up_here().await;
        case.restore_with_both().await;
        case.write(&mut dice);
        case.back_up_there();
        case.write(&mut dice);
        case.back_up_here().await;
        case.restore_with_both().await;
        let mut case = Case::new(algorithm);
        case.write(&mut dice);
        case.back_up_there();
        case.write(&mut dice);
        case.back_up_here().await;
        case.restore_with_both().await;
    }
}
