//! The `file` driver against the conformance suite, on each kind of file system.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_overlays() {
    let dir = tempfile::tempdir().unwrap();
    let ran = conformance::run(&Directory { path: dir.path().join("v"), reflinks: false }).await.unwrap();
    assert_eq!(ran.len(), 15);
}
