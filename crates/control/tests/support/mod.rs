//! A service in a temporary directory: as many processes as a test wants, with nothing between them but the database.
#![allow(dead_code, reason = "each test binary uses its part")]

#[path = "../cloud/driver.rs"]
mod driver;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use control::bus::LocalBus;
use control::engine::{Runner, RunnerConfig};
use control::node::Node;
use control::policy::{Options, Policy};
use control::reconcile::How;
use control::request::{NewAttachment, NewType, NewVolume};
use control::seal::Sealer;
use control::settings::Settings;
use control::target::{TargetRole, TargetSettings};
use control::{Cloud, Context, Parts};
use db::Read as _;
use db::job::Wanted;
pub use driver::TestDriver;
use drivers::Driver as _;
use drivers::file::{FileConfig, FileDriver};
use model::config::Config;
use model::{AttachMode, Attachment, Connector, GiB, Secret, Volume, VolumeId, VolumeStatus};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const HOST: &str = "node";
pub const BACKEND: &str = "node@local";
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Seconds: short, so that a dead claim is taken over soon.
const LEASE: u64 = 2;

/// What a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Volume,
    Target,
}

/// The place of an installation.
pub struct Site {
    dir: PathBuf,
    _kept: Option<tempfile::TempDir>,
    /// Where the target listens: what it found free when it was first started.
    portal: OnceLock<SocketAddr>,
    /// A policy file's text.
    policy: &'static str,
    /// Seconds a request waits for work.
    patience: u64,
    /// A database server's address.
    server: Option<String>,
}

/// A running process of it.
pub struct Process {
    pub cloud: Cloud,
    pub node: Arc<Node>,
    pub driver: Arc<TestDriver>,
    stop: CancellationToken,
    running: Vec<JoinHandle<()>>,
}

impl Site {
    /// In a directory that goes with it.
    pub fn new() -> Self {
        let kept = tempfile::tempdir().expect("a directory");
        Self {
            dir: kept.path().to_owned(),
            _kept: Some(kept),
            portal: OnceLock::new(),
            policy: "",
            patience: 20,
            server: None,
        }
    }

    /// One on each database that this run has (docs/testing.md).
    pub fn on_every_database() -> Vec<Self> {
        let servers = ["CINDERBLOCK_TEST_POSTGRES", "CINDERBLOCK_TEST_MYSQL"];
        let servers = servers.into_iter().filter_map(|name| std::env::var(name).ok()).map(Some);
        [None].into_iter().chain(servers).map(|server| Self { server, ..Self::new() }).collect()
    }

    /// Where requests give up soon.
    pub fn impatient() -> Self {
        Self { patience: 2, ..Self::new() }
    }

    /// With these rules in `policy.yaml`.
    pub fn ruled(policy: &'static str) -> Self {
        Self { policy, ..Self::new() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn key(&self) -> Secret<[u8; 32]> {
        let path = self.dir.join("key");
        if !path.exists() {
            let key = Sealer::fresh_key().expect("a key");
            std::fs::write(&path, key.expose()).expect("the key is kept");
        }
        Secret::new(std::fs::read(path).expect("the key").try_into().expect("32 bytes"))
    }

    /// SQLite in the site's directory, or a database of its own on the site's server.
    async fn database(&self) -> String {
        let Some(server) = &self.server else {
            return format!("sqlite:///{}/c.db", self.dir.display());
        };
        let name =
            self.dir.file_name().expect("a name").to_string_lossy().replace(['.', '-'], "_").to_lowercase();
        if !self.dir.join("database").exists() {
            let db = db::Db::connect(server, 1).await.expect("the server is there");
            db.read().rows(db::sql::sql(format!("CREATE DATABASE x{name}"))).await.expect("makes a database");
            db.close().await;
            std::fs::write(self.dir.join("database"), "").expect("is remembered");
        }
        let (base, _) = server.rsplit_once('/').expect("a URL with a database");
        format!("{base}/x{name}")
    }

    /// The service as one process sees it.
    pub async fn cloud(&self) -> Cloud {
        let db = db::Db::connect(&self.database().await, 8).await.expect("opens");
        db::schema::migrate(&db).await.expect("migrates");
        let patience = self.patience;
        let text = format!("[DEFAULT]\ncinderblock_lease = {LEASE}\nrpc_response_timeout = {patience}\n");
        let config = Config::parse(&[("test.conf", text.as_str())], []).expect("a configuration");
        Cloud::new(Parts {
            db,
            bus: Arc::new(LocalBus::default()),
            policy: Policy::load(&[("policy.yaml", self.policy)], &Options::default()).expect("rules"),
            settings: Settings::read(&config, HOST).expect("settings"),
            scheduler: control::scheduler::Options::from_config(&config).expect("options"),
            sealer: Sealer::new(&self.key()),
        })
    }

    /// Everything in one process.
    pub async fn start(&self) -> Process {
        self.start_parts(&[Part::Volume, Part::Target]).await
    }

    /// A process with some parts; its driver is its own, as its locks on volumes are.
    pub async fn start_parts(&self, parts: &[Part]) -> Process {
        self.start_scripted(parts, |_| {}).await
    }

    /// The same, with a driver that has been told something before anybody uses it.
    pub async fn start_scripted(&self, parts: &[Part], script: impl FnOnce(&TestDriver)) -> Process {
        let cloud = self.cloud().await;
        let inner = FileDriver::new(FileConfig::new(self.dir.join("volumes"), "local"));
        let driver = Arc::new(TestDriver::over(inner));
        std::fs::create_dir_all(self.dir.join("volumes")).expect("a directory");
        driver.start().await.expect("the driver starts");
        script(&driver);
        let mut node = Node { host: HOST.into(), ..Node::default() };
        node.backends.insert(BACKEND.into(), driver.clone());
        let stop = CancellationToken::new();
        let (mut queues, mut running) = (Vec::new(), Vec::new());
        if parts.contains(&Part::Volume) {
            let id = cloud.register("cinder-volume", BACKEND, "nova").await.expect("registers");
            node.services.insert(BACKEND.into(), id);
            cloud.report_stats(&node, BACKEND).await.expect("reports");
            queues.push(control::cloud::SCHEDULER.to_owned());
            queues.push(Cloud::volume_queue(BACKEND));
        }
        if parts.contains(&Part::Target) {
            let settings = TargetSettings {
                portals: vec![self.portal.get().copied().unwrap_or_else(|| ([127, 0, 0, 1], 0).into())],
                advertised: Vec::new(),
            };
            let target = TargetRole::start(cloud.clone(), HOST, node.backends.clone(), settings).await;
            let target = target.expect("the target starts");
            let _ = self.portal.set(target.portals()[0]);
            running.push(tokio::spawn(target.clone().run(stop.clone())));
            node.target = Some(target);
            queues.push(Cloud::target_queue(HOST));
        }
        let node = Arc::new(node);
        let config = RunnerConfig {
            queues,
            owner: format!("{HOST}/{parts:?}"),
            lease: Duration::from_secs(LEASE),
            slots: 8,
            sweep: Duration::from_millis(100),
        };
        running.push(tokio::spawn(Runner::new(cloud.clone(), node.clone(), config).run(stop.clone())));
        Process { cloud, node, driver, stop, running }
    }
}

impl Process {
    /// Stops it as SIGTERM does. Nothing may be under way, and nothing left over.
    pub async fn stop(self) {
        self.settled().await;
        let report = self.cloud.reconcile(&self.node, How::DryRun).await.expect("looks");
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
        self.leave().await;
    }

    /// Stops it, whatever is under way.
    pub async fn leave(self) {
        self.stop.cancel();
        for one in self.running {
            one.await.expect("a role ends");
        }
        self.cloud.db.close().await;
    }

    pub fn target(&self) -> &Arc<TargetRole> {
        self.node.target.as_ref().expect("this process has the target")
    }

    /// Waits until nothing is under way.
    pub async fn settled(&self) {
        settled(&self.cloud).await;
    }

    /// A volume of 1 GiB that is ready; shareable if asked for.
    pub async fn volume(&self, shareable: bool) -> Volume {
        volume(&self.cloud, shareable).await
    }

    pub async fn see(&self, id: VolumeId) -> Volume {
        self.cloud.volume_show(&admin(), id).await.expect("the volume is there")
    }

    pub async fn exports(&self, id: VolumeId) -> Vec<db::export::Export> {
        db::export::of_volume(&mut self.cloud.db.read(), id).await.expect("exports")
    }
}

pub async fn settled(cloud: &Cloud) {
    let wanted = Wanted { active: true, limit: 100, ..Wanted::default() };
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let active = db::job::list(&mut cloud.db.read(), &wanted).await.expect("jobs");
        let Some(job) = active.first() else { return };
        assert!(tokio::time::Instant::now() < until, "job does not end: {job:?}");
        let _ = cloud.wait(job.id, PATIENCE).await;
    }
}

pub async fn volume(cloud: &Cloud, shareable: bool) -> Volume {
    let volume_type = if shareable { Some(shareable_type(cloud).await) } else { None };
    let wanted = NewVolume { size: Some(GiB(1)), volume_type, ..NewVolume::default() };
    let volume = cloud.volume_create(&member(), wanted).await.expect("accepted");
    settled(cloud).await;
    let volume = cloud.volume_show(&admin(), volume.id).await.expect("there");
    assert_eq!(volume.status, VolumeStatus::Available);
    volume
}

async fn shareable_type(cloud: &Cloud) -> String {
    let name = "shared".to_owned();
    if cloud.type_by_name_or_id(&admin(), &name).await.is_err() {
        let extra_specs = [("multiattach".to_owned(), "<is> True".to_owned())].into();
        let wanted = NewType { name: name.clone(), description: None, is_public: true, extra_specs };
        cloud.type_create(&admin(), wanted).await.expect("a type");
    }
    name
}

pub fn member() -> Context {
    Context {
        user_id: "user".into(),
        project_id: "project".into(),
        roles: vec!["member".into(), "reader".into()],
        request_id: "req-test".into(),
        ..Context::default()
    }
}

pub fn stranger() -> Context {
    Context { user_id: "other".into(), project_id: "other".into(), ..member() }
}

pub fn admin() -> Context {
    let roles = ["admin", "member", "reader"].map(str::to_owned).to_vec();
    Context { user_id: "admin".into(), project_id: "admins".into(), roles, is_admin: true, ..member() }
}

/// What a host says of itself.
pub fn connector(host: &str) -> Connector {
    let value = serde_json::json!({
        "initiator": format!("iqn.2026-01.test:{host}"), "ip": "127.0.0.1", "host": host, "multipath": false,
        "platform": "x86_64", "os_type": "linux", "mountpoint": "/dev/vdb",
    });
    serde_json::from_value(value).expect("a connector")
}

pub const SERVER: &str = "11111111-2222-3333-4444-555555555555";

pub fn reserve(volume: VolumeId, server: &str) -> NewAttachment {
    NewAttachment { volume_id: volume, instance_uuid: Some(server.to_owned()), connector: None, mode: None }
}

pub fn attach(volume: VolumeId, host: &str, mode: Option<AttachMode>) -> NewAttachment {
    NewAttachment { volume_id: volume, instance_uuid: None, connector: Some(connector(host)), mode }
}

/// How a host's initiator reaches what it has attached; it gives up soon when it is cut off.
pub fn initiator(attachment: &Attachment) -> iscsi::InitiatorConfig {
    let data = &attachment.connection_info.as_ref().expect("connection info").data;
    let text = |key: &str| data[key].as_str().expect("a text").to_owned();
    let name = attachment.connector.as_ref().and_then(Connector::initiator).expect("a name");
    let mut config = iscsi::InitiatorConfig::new(text("target_portal"), text("target_iqn"), 0, name);
    let secret = Secret::new(text("auth_password"));
    config.chap = Some(iscsi::Chap { user: text("auth_username"), secret, mutual: None });
    config.limits.reconnect = Duration::from_secs(10);
    config
}
