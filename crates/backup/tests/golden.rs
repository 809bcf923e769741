//! Cinder's own output both ways (I9): its backups restore here, and ours are the same files.

#![allow(clippy::unwrap_used)] // a test

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use backup::format::record::BackupRecord;
use backup::format::volume_meta::VolumeMeta;
use backup::store::PosixStore;
use backup::{
    BackupResult, CreateBackup, Level, Naming, ParentRef, PipelineConfig, Restore, TargetState, create,
    restore, verify,
};
use common::FileDevice;
use model::block::Device;
use model::job::Claim;
use serde_json::Value;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 1024 * MIB;

struct Golden {
    facts: Value,
    directory: tempfile::TempDir,
}

impl Golden {
    fn unpack() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let directory = common::scratch();
        let status = Command::new("tar")
            .args(["xzf", here.join("backup-golden.tar.gz").to_str().unwrap(), "--no-same-owner", "-C"])
            .arg(directory.path())
            .status();
        assert!(status.unwrap().success());
        let facts = fs::read_to_string(here.join("backup-golden.json")).unwrap();
        Self { facts: serde_json::from_str(&facts).unwrap(), directory }
    }

    fn text(&self, which: &str, field: &str) -> &str {
        self.facts[which][field].as_str().unwrap()
    }

    fn level(&self, which: &str) -> Level {
        Level {
            backup: self.text(which, "backup_id").parse().unwrap(),
            container: self.text(which, "container").to_owned(),
            prefix: self.text(which, "service_metadata").to_owned(),
        }
    }

    fn store(&self) -> Arc<PosixStore> {
        Arc::new(PosixStore::new(self.directory.path()))
    }
}

/// The volume as it was at the full backup.
fn volume_at_full(path: &Path) -> FileDevice {
    let device = FileDevice::create(path, SIZE);
    device.put(0, &vec![1; MIB as usize]);
    device.put(5 * MIB, &[2; 100]);
    device.put(40 * MIB, &vec![3; 8 * MIB as usize]);
    device.put(SIZE - 10, &[4; 10]);
    device
}

/// What was written between the two backups.
fn change(device: &FileDevice) {
    device.put(17 * MIB, &[7; 10]);
    device.put(200 * MIB, &vec![8; 9 * MIB as usize]);
    device.put(SIZE - 1, &[9]);
}

fn assert_same_bytes(one: &FileDevice, two: &FileDevice) {
    use std::os::unix::fs::FileExt;
    let (mut a, mut b) = (vec![0; MIB as usize], vec![0; MIB as usize]);
    for at in (0..SIZE).step_by(MIB as usize) {
        one.file().read_exact_at(&mut a, at).unwrap();
        two.file().read_exact_at(&mut b, at).unwrap();
        assert!(a == b, "the MiB at {at} differs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_cinders_backups_restore_byte_for_byte() {
    let golden = Golden::unpack();
    let directory = common::scratch();
    let expected = volume_at_full(&directory.path().join("expected"));
    for (state, fill) in [(TargetState::New, None), (TargetState::Used, Some(0xa5))] {
        let target = Arc::new(FileDevice::create(&directory.path().join("target"), SIZE));
        if let Some(fill) = fill {
            let junk = vec![fill; MIB as usize];
            (0..SIZE / MIB).for_each(|at| target.put(at * MIB, &junk));
        }
        let chain = vec![golden.level("full")];
        let request = Restore { store: golden.store(), chain, target: target.clone(), state };
        let claim = Claim::unbounded();
        let restored = restore(request, &claim).await.unwrap();
        assert_same_bytes(&expected, &target);
        assert_eq!(claim.progress(), (SIZE, SIZE));
        let meta = VolumeMeta::decode(restored.volume_meta[0].as_deref().unwrap()).unwrap();
        assert_eq!(meta.base["display_name"], "vol1");
        assert_eq!(meta.metadata["k"], "v");
    }
    change(&expected);
    let target = Arc::new(FileDevice::create(&directory.path().join("target2"), SIZE));
    let chain = vec![golden.level("full"), golden.level("incremental")];
    let request = Restore { store: golden.store(), chain, target: target.clone(), state: TargetState::New };
    let restored = restore(request, &Claim::unbounded()).await.unwrap();
    assert_same_bytes(&expected, &target);
    assert_eq!(restored.volume_meta.len(), 2);
    for which in ["full", "incremental"] {
        let level = golden.level(which);
        let found =
            verify(&*golden.store(), &level.container, &level.prefix, &Claim::unbounded()).await.unwrap();
        assert!(found.is_sound(), "{found:?}");
    }
}

/// Makes the golden backups again with the golden's own options and ids.
async fn make(golden: &Golden, which: &str, source: Device, store: PathBuf) -> BackupResult {
    let metadata: Value = serde_json::from_str(golden.text(which, "metadata_text")).unwrap();
    let text = |field: &str| metadata[field].as_str().map(str::to_owned);
    let options = &golden.facts["volume_image"]["options"];
    let option = |name: &str| match &options[name] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let parent = metadata["parent_id"].as_str().map(|id| {
        let parent = golden.level("full");
        assert_eq!(parent.backup.to_string(), id);
        ParentRef { backup: parent.backup, container: parent.container, prefix: parent.prefix }
    });
    let request = CreateBackup {
        backup: text("backup_id").unwrap().parse().unwrap(),
        volume: text("volume_id").unwrap().parse().unwrap(),
        name: text("backup_name"),
        description: text("backup_description"),
        created_at: text("created_at").unwrap().replace(' ', "T").parse().unwrap(),
        size: source.size(),
        source,
        parent,
        store: Arc::new(PosixStore::new(store)),
        naming: Naming::Posix { container: None },
        container: None,
        config: PipelineConfig::from_options(option).unwrap(),
        volume_meta: text("volume_meta"),
    };
    create(request, &Claim::unbounded()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_our_files_are_cinders_byte_for_byte() {
    let golden = Golden::unpack();
    let directory = common::scratch();
    let volume = Arc::new(volume_at_full(&directory.path().join("volume")));
    let store = directory.path().join("store");
    for which in ["full", "incremental"] {
        if which == "incremental" {
            change(&volume);
        }
        let made = make(&golden, which, volume.clone(), store.clone()).await;
        assert_eq!(made.container, golden.text(which, "container"));
        assert_eq!(made.service_metadata, golden.text(which, "service_metadata"));
        assert_eq!(made.object_count, golden.facts[which]["object_count"].as_u64().unwrap());
        let read = |suffix: &str| {
            let name = format!("{}{suffix}", made.service_metadata);
            fs::read_to_string(store.join(&made.container).join(name)).unwrap()
        };
        // Both control files are deterministic to the last byte.
        assert_eq!(read("_metadata"), golden.text(which, "metadata_text"));
        assert_eq!(read("_sha256file"), golden.text(which, "sha256_text"));
        let mut names: Vec<String> = fs::read_dir(store.join(&made.container))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let mut expected: Vec<&String> = golden.facts[which]["files"].as_object().unwrap().keys().collect();
        expected.sort();
        assert!(names.iter().eq(expected));
    }
}

#[test]
fn i9_export_records_are_cinders() {
    let golden = Golden::unpack();
    for which in ["full", "incremental"] {
        let text = golden.text(which, "export_backup_url");
        let record = BackupRecord::decode(text).unwrap();
        assert_eq!(record.id, golden.text(which, "backup_id"));
        assert_eq!(record.encode(), text);
        if let Some(decoded) = golden.facts[which].get("export_decoded") {
            assert_eq!(&serde_json::to_value(&record).unwrap(), decoded);
        }
    }
}
