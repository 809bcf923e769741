//! A service in a directory of its own: the real binary, started, killed, started again.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use control::bus::LocalBus;
use control::node::Node;
use control::policy::Policy;
use control::reconcile::{How, Report};
use control::seal::Sealer;
use control::settings::Settings;
use control::{Cloud, Parts};
use drivers::file::{FileConfig, FileDriver};
use drivers::{Driver as _, OpenMode, Openable, Provider, VolumeRef};
use model::block::Device;
use model::config::Config;
use model::{GiB, VolumeId};
use serde_json::{Value, json};

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(40);

pub struct Site {
    dir: tempfile::TempDir,
    pub port: u16,
    pub iscsi_port: u16,
    child: Option<Child>,
    pub http: reqwest::Client,
    /// Whether there is a second backend, `other`, from the next start on.
    pub second: bool,
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

impl Site {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self {
            dir,
            port: free_port(),
            iscsi_port: free_port(),
            child: None,
            http: reqwest::Client::new(),
            second: false,
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn volumes(&self) -> PathBuf {
        self.path().join("volumes")
    }

    /// Starts a second process for the roles `volume` and `backup` of the same host, on the same database, backend and store but
    /// with a data directory of its own; with leases of `lease` seconds, as [`Self::start_with_lease`] gives the first.
    pub fn helper(&self, lease: u64) -> Helper {
        let own = tempfile::tempdir().expect("a directory");
        let host = std::fs::read_to_string(self.path().join("host")).expect("a host");
        let here = self.path().display();
        let text = format!(
            "[DEFAULT]\nauth_strategy = none\ntransport_url = none://\nhost = {}\nenabled_backends = local\n\
             backup_driver = cinder.backup.drivers.posix.PosixBackupDriver\nbackup_posix_path = {here}/backup\n\
             cinderblock_lease = {lease}\n[database]\nconnection = sqlite:///{here}/cinderblock.db\n\
             [local]\nvolume_driver = file\nfile_directory = {here}/volumes\n",
            host.trim()
        );
        let file = own.path().join("cinder.conf");
        std::fs::write(&file, text).expect("a file");
        let log = std::fs::File::create(own.path().join("log")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_cinderblock"))
            .args(["serve", "--role", "backup", "--role", "volume", "--config-file"])
            .arg(&file)
            .arg("--data-dir")
            .arg(own.path().join("data"))
            .env("CINDERBLOCK_LOG", "info,control=debug")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starts");
        Helper { child, _dir: own }
    }

    /// The host part of its services' names.
    pub fn host(&self) -> String {
        std::fs::read_to_string(self.path().join("host")).expect("a host").trim().to_owned()
    }

    /// Starts the service with leases of `seconds`.
    pub async fn start_with_lease(&mut self, seconds: u64) {
        self.start_with(&[("OS_DEFAULT__CINDERBLOCK_LEASE", &seconds.to_string())]).await;
    }

    /// The running process.
    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(self.child.as_ref().expect("is running"))
    }

    /// Starts the service and waits until it answers, or until it has died at the point it was to die at.
    pub async fn start(&mut self, kill: Option<&str>, fail: Option<&str>) {
        let kill = kill.map(|point| ("CINDERBLOCK_KILL", point));
        let fail = fail.map(|step| ("CINDERBLOCK_FAIL", step));
        self.start_with(&kill.into_iter().chain(fail).collect::<Vec<_>>()).await;
    }

    /// Starts the service with these variables.
    pub async fn start_with(&mut self, environment: &[(&str, &str)]) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path().join("log"))
            .expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_cinderblock"));
        command
            .args(["serve", "--data-dir"])
            .arg(self.path())
            .args(["--api-listen", &format!("127.0.0.1:{}", self.port)])
            .args(["--iscsi-listen", &format!("127.0.0.1:{}", self.iscsi_port)])
            .env("CINDERBLOCK_LOG", "info,control=debug")
            .stdout(Stdio::null())
            .stderr(log);
        command
            .env_remove("CINDERBLOCK_KILL")
            .env_remove("CINDERBLOCK_FAIL")
            .envs(environment.iter().copied());
        if self.second {
            let other = self.path().join("other");
            std::fs::create_dir_all(&other).expect("a directory");
            command
                .env("OS_DEFAULT__ENABLED_BACKENDS", "local,other")
                .env("OS_OTHER__VOLUME_DRIVER", "file")
                .env("OS_OTHER__FILE_DIRECTORY", other);
        }
        self.child = Some(command.spawn().expect("starts"));
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let asked = self.http.get(format!("http://127.0.0.1:{}/healthcheck", self.port)).send().await;
            if asked.is_ok_and(|answer| answer.status().is_success()) || self.has_died() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await; // the process gives no other sign to a parent
        }
        panic!("the service does not answer:\n{}", self.log());
    }

    fn has_died(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().expect("can be waited for").is_some())
    }

    /// Waits until the process has died by itself; whether it was by `SIGKILL`.
    pub async fn dies(&mut self) -> bool {
        use std::os::unix::process::ExitStatusExt as _;
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(child) = self.child.as_mut()
                && let Some(status) = child.try_wait().expect("can be waited for")
            {
                self.child = None;
                return status.signal() == Some(9);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }

    /// Ends the service as the kernel would, in the middle of whatever it does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("is there");
            child.wait().expect("can be waited for");
        }
    }

    /// Stops the service as an operator would; it must exit cleanly.
    pub async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("is there");
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = child.try_wait().expect("can be waited for") {
                assert!(status.success(), "stopped with {status}:\n{}", self.log());
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let _ = child.kill();
        panic!("does not stop:\n{}", self.log());
    }

    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.path().join("log")).unwrap_or_default();
        text.lines().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// A request; the answer's status and body. A service that dies meanwhile answers `None`.
    pub async fn try_call(&self, method: &str, path: &str, body: Option<Value>) -> Option<(u16, Value)> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.http.request(method, url).header("OpenStack-API-Version", "volume latest");
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let text = answer.text().await.ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// A request that must succeed.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let Some((status, body)) = self.try_call(method, path, body).await else {
            panic!("{method} {path} was not answered:\n{}", self.log());
        };
        assert!(status < 300, "{method} {path} answered {status}: {body}\n{}", self.log());
        body
    }

    /// Waits until `field` of a resource is one of `wanted`; answers with the resource.
    pub async fn until(&self, path: &str, key: &str, wanted: &[&str]) -> Value {
        let until = Instant::now() + PATIENCE;
        let mut last = Value::Null;
        while Instant::now() < until {
            if let Some((200, body)) = self.try_call("GET", path, None).await {
                last = body[key].clone();
                if last["status"].as_str().is_some_and(|status| wanted.contains(&status)) {
                    return last;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await; // polled as a client polls
        }
        panic!("{path} is {last}, not {wanted:?}:\n{}", self.log());
    }

    pub async fn database(&self) -> db::Db {
        let url = format!("sqlite:///{}/cinderblock.db", self.path().display());
        db::Db::connect(&url, 2).await.expect("opens")
    }

    /// Waits until no job is active, by the database itself.
    pub async fn settle(&self) {
        let db = self.database().await;
        let wanted = db::job::Wanted { active: true, limit: 10, ..db::job::Wanted::default() };
        let until = Instant::now() + PATIENCE;
        loop {
            let active = db::job::list(&mut db.read(), &wanted).await.expect("reads");
            if active.is_empty() {
                break;
            }
            assert!(Instant::now() < until, "jobs do not end: {active:#?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await; // another process's work: nothing rings here
        }
        db.close().await;
    }

    pub async fn volume(&self, body: Value) -> String {
        let made = self.call("POST", "/v3/volumes", Some(json!({ "volume": body }))).await;
        let id = made["volume"]["id"].as_str().expect("an id").to_owned();
        self.until(&format!("/v3/volumes/{id}"), "volume", &["available"]).await;
        id
    }

    pub async fn snapshot(&self, volume: &str) -> String {
        let body = json!({ "snapshot": { "volume_id": volume } });
        let made = self.call("POST", "/v3/snapshots", Some(body)).await;
        let id = made["snapshot"]["id"].as_str().expect("an id").to_owned();
        self.until(&format!("/v3/snapshots/{id}"), "snapshot", &["available"]).await;
        id
    }

    pub async fn backup(&self, volume: &str, incremental: bool) -> String {
        let body = json!({ "backup": { "volume_id": volume, "incremental": incremental, "force": true } });
        let made = self.call("POST", "/v3/backups", Some(body)).await;
        let id = made["backup"]["id"].as_str().expect("an id").to_owned();
        self.until(&format!("/v3/backups/{id}"), "backup", &["available"]).await;
        id
    }

    /// Opens a volume's bytes; the service must be stopped.
    async fn device(&self, volume: &str, mode: OpenMode) -> Device {
        assert!(self.child.is_none(), "the service has the volumes");
        let other = self.path().join("other");
        let directory = if other.join(format!("volume-{volume}")).exists() { other } else { self.volumes() };
        let driver = FileDriver::new(FileConfig::new(directory, "local"));
        driver.start().await.expect("the backend starts");
        let id: VolumeId = volume.parse().expect("an id");
        let reference =
            VolumeRef { id, name: format!("volume-{id}"), size: GiB(1), provider: Provider::default() };
        driver.open(Openable::Volume(&reference), mode).await.expect("opens")
    }

    /// Writes a pattern to a stopped service's volume, durably.
    pub async fn fill(&self, volume: &str, seed: u8) {
        let device = self.device(volume, OpenMode::Write).await;
        for at in places(device.size()) {
            device.write(at, &pattern(seed, at)).await.expect("writes");
        }
        device.flush().await.expect("flushes");
    }

    /// Writes all of a stopped service's volume, durably, so that copying it takes its time.
    pub async fn fill_all(&self, volume: &str, seed: u8) {
        let device = self.device(volume, OpenMode::Write).await;
        for at in (0..device.size()).step_by(BLOCK) {
            device.write(at, &pattern(seed, at)).await.expect("writes");
        }
        device.flush().await.expect("flushes");
    }

    /// Writes the first bytes of a stopped service's volume, durably.
    pub async fn fill_first(&self, volume: &str, seed: u8, bytes: u64) {
        let device = self.device(volume, OpenMode::Write).await;
        for at in (0..bytes).step_by(BLOCK) {
            // No two blocks are the same, so that nothing is saved by finding them again.
            let mut block = pattern(seed, at);
            block[..8].copy_from_slice(&at.to_le_bytes());
            device.write(at, &block).await.expect("writes");
        }
        device.flush().await.expect("flushes");
    }

    /// Compares a stopped service's volume with the pattern.
    pub async fn check(&self, volume: &str, seed: u8) {
        let device = self.device(volume, OpenMode::Read).await;
        for at in places(1 << 30) {
            let mut found = vec![0; BLOCK];
            device.read(at, &mut found).await.expect("reads");
            assert!(found == pattern(seed, at), "volume {volume} differs at {at}\n{}", self.log());
        }
    }

    /// The service's use cases in this process, on the same database and with the same key: its jobs are carried by the
    /// service, and it does not wait long for them.
    pub async fn cloud(&self) -> Cloud {
        let text = "[DEFAULT]\nrpc_response_timeout = 2\n";
        let config = Config::parse(&[("crash.conf", text)], []).expect("parses");
        let host = std::fs::read_to_string(self.path().join("host")).expect("a host");
        let key = std::fs::read(self.path().join("secret.key")).expect("a key").try_into().expect("32 bytes");
        Cloud::new(Parts {
            db: self.database().await,
            bus: Arc::new(LocalBus::default()),
            policy: Policy::default(),
            settings: Settings::read(&config, host.trim()).expect("defaults"),
            scheduler: control::scheduler::Options::default(),
            sealer: Sealer::new(&model::Secret::new(key)),
        })
    }

    /// Attaches a volume through the API and logs in as its host.
    pub async fn login(&self, volume: &str) -> (String, Arc<iscsi::RemoteLun>) {
        let initiator = "iqn.2026-11.test:whole";
        let connector = json!({ "initiator": initiator, "host": "whole", "ip": "127.0.0.1" });
        let body = json!({ "attachment": { "volume_uuid": volume, "connector": connector } });
        let made = self.call("POST", "/v3/attachments", Some(body)).await["attachment"].take();
        let id = made["id"].as_str().expect("an id").to_owned();
        let complete = Some(json!({ "os-complete": null }));
        self.call("POST", &format!("/v3/attachments/{id}/action"), complete).await;
        let text = |key: &str| made["connection_info"][key].as_str().expect("a text").to_owned();
        let mut config = iscsi::InitiatorConfig::new(text("target_portal"), text("target_iqn"), 0, initiator);
        let secret = model::Secret::new(text("auth_password"));
        config.chap = Some(iscsi::Chap { user: text("auth_username"), secret, mutual: None });
        (id, iscsi::RemoteLun::connect(config).await.expect("logs in"))
    }

    /// Logs in as an attachment's host and compares the volume with the pattern.
    pub async fn check_over_iscsi(&self, attachment: &model::Attachment, seed: u8) {
        let data = &attachment.connection_info.as_ref().expect("connection info").data;
        let text = |key: &str| data[key].as_str().expect("a text").to_owned();
        let initiator = attachment.connector.as_ref().and_then(|one| one.initiator()).expect("a name");
        let mut config = iscsi::InitiatorConfig::new(text("target_portal"), text("target_iqn"), 0, initiator);
        let secret = model::Secret::new(text("auth_password"));
        config.chap = Some(iscsi::Chap { user: text("auth_username"), secret, mutual: None });
        let lun = iscsi::RemoteLun::connect(config).await.expect("logs in");
        for at in places(1 << 30) {
            let mut found = vec![0; BLOCK];
            model::BlockDevice::read(&*lun, at, &mut found).await.expect("reads");
            assert!(found == pattern(seed, at), "the LUN differs at {at}\n{}", self.log());
        }
        lun.close().await.expect("logs out");
    }

    /// What the reconciler would find now; the service must be stopped.
    pub async fn report(&self) -> Report {
        assert!(self.child.is_none(), "the service is running");
        let cloud = self.cloud().await;
        let host = cloud.settings.host.clone();
        let driver = FileDriver::new(FileConfig::new(self.volumes(), "local"));
        driver.start().await.expect("the backend starts");
        let mut node = Node { host: host.clone(), ..Node::default() };
        node.backends.insert(format!("{host}@local"), Arc::new(driver));
        if self.second {
            let other = FileDriver::new(FileConfig::new(self.path().join("other"), "other"));
            other.start().await.expect("the backend starts");
            node.backends.insert(format!("{host}@other"), Arc::new(other));
        }
        let report = cloud.reconcile(&node, How::DryRun).await.expect("reconciles");
        assert!(db::job::held(&mut cloud.db.read()).await.expect("reads").is_empty(), "locks are held");
        cloud.db.close().await;
        report
    }

    /// Objects in the backup store.
    pub fn objects(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.path().join("backup")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else {
                    found.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
        }
        found
    }
}

/// A second process.
pub struct Helper {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(child) = self.child.as_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub const BLOCK: usize = 64 << 10;

/// Some places over the whole device, its first and last block among them.
fn places(size: u64) -> impl Iterator<Item = u64> {
    let last = size - BLOCK as u64;
    (0..16u64).map(move |n| (last / 15 * n) / BLOCK as u64 * BLOCK as u64)
}

pub fn pattern(seed: u8, at: u64) -> Vec<u8> {
    (0..BLOCK).map(|n| seed ^ (n as u8).wrapping_mul(31) ^ (at >> 16) as u8).collect()
}
