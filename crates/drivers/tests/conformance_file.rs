//! The `file` driver against the conformance suite, on each kind of file system.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use common::mount::Mount;
use drivers::conformance::{self, Factory};
use drivers::fault::Faults;
use drivers::file::{FileConfig, FileDriver};
use drivers::{Driver, SharedDriver};

struct Directory {
    path: PathBuf,
    reflinks: bool,
}

#[async_trait]
impl Factory for Directory {
    async fn driver(&self) -> SharedDriver {
        let driver = FileDriver::new(FileConfig::new(&self.path, "local"));
        driver.start().await.unwrap();
        assert_eq!(driver.reflinks(), self.reflinks, "{}", self.path.display());
        Arc::new(driver)
    }

    async fn dying(&self, faults: Arc<Faults>) -> Option<SharedDriver> {
        let driver = FileDriver::with_faults(FileConfig::new(&self.path, "local"), faults);
        let _ = driver.start().await;
        Some(Arc::new(driver))
    }

    fn note(&self, what: &str, count: u64) {
        println!("{count:6} {what}");
    }
}

async fn conforms(path: PathBuf, reflinks: bool) {
    let ran =
        conformance::run(&Directory { path, reflinks }).await.unwrap_or_else(|broken| panic!("{broken}"));
    assert_eq!(ran.len(), 18);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_on_ext4_with_overlays() {
    let dir = Mount::new("ext4", 2048);
    conforms(dir.path().join("volumes"), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_on_xfs_with_reflinks() {
    let dir = Mount::new("xfs", 2048);
    conforms(dir.path().join("volumes"), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_on_btrfs_with_reflinks() {
    let dir = Mount::new("btrfs", 2048);
    conforms(dir.path().join("volumes"), true).await;
}
