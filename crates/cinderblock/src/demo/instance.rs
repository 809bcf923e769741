//! A service of the demo's own: this very binary in a temporary directory, on free ports of loopback.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// A running service.
#[derive(Debug)]
pub struct Instance {
    pub endpoint: String,
    child: Child,
    dir: PathBuf,
}

impl Instance {
    /// Starts it and waits until it says that it is ready.
    ///
    /// # Errors
    /// It does not start; its log is named then.
    pub async fn start() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("cinderblock-demo-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let log = dir.join("log");
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--api-listen", "127.0.0.1:0", "--iscsi-listen", "127.0.0.1:0", "--data-dir"])
            .arg(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .context("cannot start the service")?;
        let out = child.stdout.take().context("the service has no output")?;
        let ready = tokio::task::spawn_blocking(move || {
            BufReader::new(out)
                .lines()
                .map_while(Result::ok)
                .find_map(|line| line.trim().strip_prefix("API").map(|rest| rest.trim().to_owned()))
        });
        let mut instance = Self { endpoint: String::new(), child, dir };
        match tokio::time::timeout(Duration::from_secs(30), ready).await {
            Ok(Ok(Some(endpoint))) => instance.endpoint = endpoint,
            _ => bail!("the service did not start; see {}", log.display()),
        }
        Ok(instance)
    }

    /// Stops it and removes its directory.
    ///
    /// # Errors
    /// It did not stop cleanly.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        )?;
        let until = std::time::Instant::now() + Duration::from_secs(30);
        while std::time::Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return if status.success() {
                    Ok(())
                } else {
                    Err(anyhow::anyhow!("the service ended with {status}"))
                };
            }
            tokio::time::sleep(Duration::from_millis(20)).await; // a child's end is no event that std can wait for
        }
        bail!("the service did not stop")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // After a clean stop there is nothing left to end; after a failure nothing must remain.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
