//! The service as it was recorded: `noauth`, two backends, backups, default quotas, an empty database.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running service; killed when the test ends.
pub struct Service {
    child: Child,
    endpoint: String,
    _dir: TempDir,
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

impl Service {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        for name in ["data", "one", "two", "backups"] {
            fs::create_dir(at(name)).unwrap();
        }
        let config = format!(
            "[DEFAULT]\nauth_strategy = noauth\ntransport_url = none://\nhost = refhost\nenabled_backends = nfs1,nfs2\n\
             backup_driver = cinder.backup.drivers.posix.PosixBackupDriver\nbackup_posix_path = {}\n\
             [nfs1]\nvolume_driver = file\nvolume_backend_name = nfs1\nfile_directory = {}\n\
             [nfs2]\nvolume_driver = file\nvolume_backend_name = nfs2\nfile_directory = {}\n",
            at("backups"),
            at("one"),
            at("two")
        );
        fs::write(at("cinder.conf"), config).unwrap();
        let (api, iscsi) = (free_address(), free_address());
        let log = fs::File::create(at("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_cinderblock"))
            .args(["serve", "--data-dir", &at("data"), "--config-file", &at("cinder.conf")])
            .args(["--api-listen", &api, "--iscsi-listen", &iscsi])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut service = Self { child, endpoint: format!("http://{api}"), _dir: dir };
        service.wait_until_ready().await;
        service
    }

    /// `http://host:port`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    async fn wait_until_ready(&mut self) {
        let begun = Instant::now();
        let url = format!("{}/healthcheck", self.endpoint);
        while reqwest::get(&url).await.is_err() {
            assert!(self.child.try_wait().unwrap().is_none(), "the service ended: {}", self.log());
            assert!(begun.elapsed() < Duration::from_secs(60), "the service does not answer: {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self._dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
