//! A service to try use cases on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use control::bus::{Bus, LocalBus};
use control::engine::{Runner, RunnerConfig};
use control::node::Node;
use control::policy::Policy;
use control::reconcile::How;
use control::request::{ListJobs, NewSnapshot, NewVolume};
use control::scheduler::Options;
use control::seal::Sealer;
use control::settings::Settings;
use control::{Cloud, Context, Parts};
use db::Db;
use drivers::file::{FileConfig, FileDriver};
use drivers::{Driver, Found};
use model::config::Config;
use model::job::Job;
use model::list::ListQuery;
use model::{
    AttachMode, AttachStatus, AttachmentId, GiB, Snapshot, SnapshotId, SnapshotStatus, Volume, VolumeId,
    VolumeStatus,
};
use tokio_util::sync::CancellationToken;

use crate::driver::TestDriver;

pub const BACKEND: &str = "node@local";
pub const POOL: &str = "node@local#local";
pub const OTHER: &str = "node@other";
pub const OTHER_POOL: &str = "node@other#other";
/// Longer than anything here takes, so that a test that hangs says where.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A service, its backend and the runners of a test.
pub struct Lab {
    pub cloud: Cloud,
    pub driver: Arc<TestDriver>,
    pub node: Arc<Node>,
    bus: Arc<LocalBus>,
    dir: tempfile::TempDir,
    stop: CancellationToken,
    runners: Vec<tokio::task::JoinHandle<()>>,
}

impl Lab {
    /// With one runner for everything.
    pub async fn start() -> Self {
        let mut lab = Self::without_runner("").await;
        lab.run(&["cinder-scheduler", "cinder-volume.node@local", "cinder-target.node"]);
        lab
    }

    /// As [`start`](Self::start), with these lines in `[DEFAULT]`.
    pub async fn configured(lines: &str) -> Self {
        let mut lab = Self::without_runner(lines).await;
        lab.run(&["cinder-scheduler", "cinder-volume.node@local", "cinder-target.node"]);
        lab
    }

    /// With a second backend, [`OTHER`], whose driver is returned too, and one runner for everything.
    pub async fn with_two_backends() -> (Self, Arc<TestDriver>) {
        let mut lab = Self::without_runner("").await;
        let dir = lab.dir.path().join("other");
        std::fs::create_dir_all(&dir).expect("a directory");
        let other = Arc::new(TestDriver::over(FileDriver::new(FileConfig::new(dir, "other"))));
        other.start().await.expect("starts");
        let service = lab.cloud.register("cinder-volume", OTHER, "nova").await.expect("registers");
        let mut backends = lab.node.backends.clone();
        backends.insert(OTHER.to_owned(), other.clone() as Arc<dyn Driver>);
        let mut services = lab.node.services.clone();
        services.insert(OTHER.to_owned(), service);
        lab.node = Arc::new(Node { host: "node".into(), backends, services, ..Node::default() });
        lab.cloud.report_stats(&lab.node, OTHER).await.expect("reports");
        lab.run(&["cinder-scheduler", "cinder-volume.node@local", "cinder-volume.node@other"]);
        (lab, other)
    }

    /// Nobody works yet.
    pub async fn without_runner(lines: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let db = connect(dir.path()).await;
        db::schema::migrate(&db).await.expect("migrates");
        let driver =
            Arc::new(TestDriver::over(FileDriver::new(FileConfig::new(dir.path().join("volumes"), "local"))));
        std::fs::create_dir_all(dir.path().join("volumes")).expect("a directory");
        driver.start().await.expect("starts");
        let bus = Arc::new(LocalBus::default());
        let cloud = cloud(db, bus.clone(), lines);
        let service = cloud.register("cinder-volume", BACKEND, "nova").await.expect("registers");
        let node = Arc::new(Node {
            host: "node".into(),
            backends: BTreeMap::from([(BACKEND.to_owned(), driver.clone() as Arc<dyn Driver>)]),
            services: BTreeMap::from([(BACKEND.to_owned(), service)]),
            ..Node::default()
        });
        cloud.report_stats(&node, BACKEND).await.expect("reports");
        Self { cloud, driver, node, bus, dir, stop: CancellationToken::new(), runners: Vec::new() }
    }

    /// One more runner in this process.
    pub fn run(&mut self, queues: &[&str]) {
        let runner = Runner::new(self.cloud.clone(), self.node.clone(), config(queues, "here"));
        self.runners.push(tokio::spawn(runner.run(self.stop.clone())));
    }

    /// A runner in what behaves as a process of its own: it can be killed at any await.
    pub fn process(&self, queues: &[&str], owner: &str) -> Process {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (path, bus, node) = (self.dir.path().to_owned(), self.bus.clone(), self.node.clone());
        let config = config(queues, owner);
        runtime.spawn(async move {
            let cloud = cloud(connect(&path).await, bus, "");
            Runner::new(cloud, node, config).run(CancellationToken::new()).await;
        });
        Process(runtime)
    }

    /// The backend's directory.
    pub fn files(&self) -> std::path::PathBuf {
        self.dir.path().join("volumes")
    }

    /// Waits until nothing works on this any more, however it ends.
    pub async fn rest(&self, resource: impl ToString) {
        let resource = resource.to_string();
        tokio::time::timeout(PATIENCE, async {
            loop {
                let wanted = db::job::Wanted {
                    resource_id: Some(resource.clone()),
                    active: true,
                    limit: 10,
                    ..db::job::Wanted::default()
                };
                let jobs = db::job::list(&mut self.cloud.db.read(), &wanted).await.expect("lists");
                let Some(job) = jobs.last() else { return };
                // How it ends is for the caller to look at.
                drop(self.cloud.wait(job.id, PATIENCE).await);
            }
        })
        .await
        .unwrap_or_else(|_| panic!("work on {resource} does not end"));
    }

    /// The active job on a resource.
    pub async fn job_of(&self, context: &Context, resource: impl ToString) -> Job {
        let wanted = ListJobs {
            every_project: false,
            resource_id: Some(resource.to_string()),
            active: true,
            limit: 10,
        };
        let jobs = self.cloud.job_list(context, &wanted).await.expect("lists");
        jobs.into_iter().next().expect("there is one").job
    }

    /// All active jobs on a resource.
    pub async fn jobs_of(&self, resource: impl ToString) -> Vec<Job> {
        let wanted = db::job::Wanted {
            resource_id: Some(resource.to_string()),
            active: true,
            limit: 10,
            ..db::job::Wanted::default()
        };
        db::job::list(&mut self.cloud.db.read(), &wanted).await.expect("lists")
    }

    /// Waits until the job on a resource is in this queue.
    pub async fn handed_over(&self, resource: impl ToString, queue: &str) {
        let resource = resource.to_string();
        let mut bell = self.bus.listen();
        tokio::time::timeout(PATIENCE, async {
            loop {
                let wanted = db::job::Wanted {
                    resource_id: Some(resource.clone()),
                    active: true,
                    limit: 10,
                    ..db::job::Wanted::default()
                };
                let jobs = db::job::list(&mut self.cloud.db.read(), &wanted).await.expect("lists");
                if jobs.iter().any(|job| job.queue == queue) {
                    return;
                }
                bell.heard(|topic| topic == queue).await;
            }
        })
        .await
        .expect("it gets there");
    }

    /// An available volume.
    pub async fn volume(&self, context: &Context, gb: u32) -> Volume {
        let wanted = NewVolume { size: Some(GiB(gb)), ..NewVolume::default() };
        let volume = self.cloud.volume_create(context, wanted).await.expect("is accepted");
        self.rest(volume.id).await;
        let volume = self.volume_now(volume.id).await.expect("is there");
        assert_eq!(volume.status, VolumeStatus::Available);
        volume
    }

    /// Something that was asked for later has been done: what could have been done before it has had its chance. Leaves
    /// a volume of 1 GiB.
    pub async fn others_have_run(&self, context: &Context) {
        let volume =
            self.cloud.volume_create(context, NewVolume { size: Some(GiB(1)), ..NewVolume::default() });
        self.rest(volume.await.expect("is accepted").id).await;
    }

    /// An available snapshot.
    pub async fn snapshot(&self, context: &Context, volume: VolumeId) -> Snapshot {
        let snapshot = self.cloud.snapshot_create(context, new_snapshot(volume)).await.expect("is accepted");
        assert_eq!((snapshot.status, snapshot.progress.as_deref()), (SnapshotStatus::Creating, Some("0%")));
        self.rest(snapshot.id).await;
        let snapshot = self.snapshot_now(snapshot.id).await.expect("is there");
        assert_eq!(snapshot.status, SnapshotStatus::Available);
        snapshot
    }

    pub async fn volume_now(&self, id: VolumeId) -> Option<Volume> {
        db::volume::get(&mut self.cloud.db.read(), id).await.expect("reads")
    }

    pub async fn snapshot_now(&self, id: SnapshotId) -> Option<Snapshot> {
        db::snapshot::get(&mut self.cloud.db.read(), id).await.expect("reads")
    }

    /// Attaches a volume as far as rows go.
    pub async fn attach(&self, volume: VolumeId) -> AttachmentId {
        let id = AttachmentId::new();
        let new = db::attachment::NewAttachment {
            id,
            volume_id: volume,
            instance_uuid: None,
            attached_host: Some("initiator".into()),
            mountpoint: None,
            mode: AttachMode::ReadWrite,
            status: AttachStatus::Reserved,
        };
        let mut tx = self.cloud.db.begin().await.unwrap();
        db::attachment::insert(&mut tx, &new).await.unwrap();
        let by = db::event::By::default();
        let from = &[AttachStatus::Reserved];
        assert!(
            db::transition::move_attachment(&mut tx, id, from, AttachStatus::Attached, by).await.unwrap()
        );
        self.cloud.commit(tx).await.unwrap();
        id
    }

    /// Detaches it again.
    pub async fn detach(&self, id: AttachmentId) {
        let mut tx = self.cloud.db.begin().await.unwrap();
        let by = db::event::By::default();
        db::transition::move_attachment(&mut tx, id, AttachStatus::ALL, AttachStatus::Detached, by)
            .await
            .unwrap();
        self.cloud.commit(tx).await.unwrap();
    }

    /// Freezes the backend as a failed-over one is, or thaws it.
    pub async fn freeze(&self, frozen: bool) {
        let mut tx = self.cloud.db.begin().await.unwrap();
        tx.exec(db::sql::sql("UPDATE services SET frozen = ? WHERE host = ?").bind(frozen).bind(BACKEND))
            .await
            .unwrap();
        self.cloud.commit(tx).await.unwrap();
    }

    /// What the project was told, newest first: event and text.
    pub async fn told(&self, context: &Context) -> Vec<(String, String)> {
        let query = ListQuery::all(Some(context.project_id.clone()));
        let messages = self.cloud.message_list(context, &query).await.expect("lists");
        messages.items.into_iter().map(|message| (message.event_id, message.user_message)).collect()
    }

    /// What a project uses and has promised of a resource.
    pub async fn used(&self, context: &Context, resource: &str) -> (i64, i64) {
        let usages = db::quota::usages(&mut self.cloud.db.read(), &context.project_id).await.unwrap();
        let usage = usages.get(resource).copied().unwrap_or_default();
        (usage.in_use, usage.reserved)
    }

    /// The pool's counters: placed and promised.
    pub async fn pool(&self) -> (i64, i64) {
        let pools = db::pool::list(&mut self.cloud.db.read()).await.unwrap();
        let pool = pools.iter().find(|pool| pool.name == POOL).expect("has reported");
        (pool.allocated_gb, pool.promised_gb)
    }

    /// Ends the runners and demands that nothing is left behind.
    pub async fn close(mut self) {
        self.stop.cancel();
        for runner in std::mem::take(&mut self.runners) {
            tokio::time::timeout(PATIENCE, runner).await.expect("the runner drains").expect("does not panic");
        }
        let db = &self.cloud.db;
        let active = db::job::Wanted { active: true, limit: 10, ..db::job::Wanted::default() };
        let jobs = db::job::list(&mut db.read(), &active).await.unwrap();
        assert!(jobs.is_empty(), "jobs are left: {jobs:?}");
        assert_eq!(db::job::held(&mut db.read()).await.unwrap(), [], "locks are left");
        let report = self.cloud.reconcile(&self.node, How::DryRun).await.expect("looks");
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
        let pools = db::pool::list(&mut db.read()).await.unwrap();
        assert!(pools.iter().all(|pool| pool.promised_gb == 0), "promises are left: {pools:?}");
        assert_eq!(self.snapshots_on_backend().await, self.live_snapshots().await, "snapshots are left");
    }

    async fn snapshots_on_backend(&self) -> BTreeSet<SnapshotId> {
        let found = self.driver.list().await.expect("lists");
        found
            .into_iter()
            .filter_map(|found| match found {
                Found::Snapshot { id, .. } => Some(id),
                _ => None,
            })
            .collect()
    }

    /// Those that must be on the backend.
    async fn live_snapshots(&self) -> BTreeSet<SnapshotId> {
        let listed = db::snapshot::list(&mut self.cloud.db.read(), &ListQuery::all(None)).await.unwrap();
        let available = listed.items.into_iter().filter(|s| s.status == SnapshotStatus::Available);
        available.map(|snapshot| snapshot.id).collect()
    }
}

/// A runner that lives apart from the test.
pub struct Process(tokio::runtime::Runtime);

/// A process that stands still.
pub struct Paused(std::sync::mpsc::Sender<()>);

impl Paused {
    /// It goes on, as after SIGCONT.
    pub fn end(self) {
        drop(self.0);
    }
}

impl Process {
    /// Nothing in it moves from now on, as after SIGSTOP: its only thread waits.
    pub async fn pause(&self) -> Paused {
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let (standing, stands) = tokio::sync::oneshot::channel();
        self.0.spawn(async move {
            let _ = standing.send(());
            let _ = wait.recv();
        });
        stands.await.expect("it runs");
        Paused(go_on)
    }

    /// Ends it as `kill -9` would: nothing is cleaned up or handed over.
    pub fn kill(self) {
        self.0.shutdown_background();
    }
}

async fn connect(dir: &std::path::Path) -> Db {
    Db::connect(&format!("sqlite:///{}/cinder.db", dir.display()), 4).await.expect("opens")
}

fn cloud(db: Db, bus: Arc<dyn Bus>, lines: &str) -> Cloud {
    let text = format!("[DEFAULT]\n{lines}\n");
    let config = Config::parse(&[("test.conf", text.as_str())], []).expect("is a configuration");
    Cloud::new(Parts {
        db,
        bus,
        policy: Policy::default(),
        settings: Settings::read(&config, "node").expect("is usable"),
        scheduler: Options::from_config(&config).expect("is usable"),
        sealer: Sealer::new(&Sealer::fresh_key().expect("a key")),
    })
}

fn config(queues: &[&str], owner: &str) -> RunnerConfig {
    RunnerConfig {
        queues: queues.iter().map(ToString::to_string).collect(),
        owner: owner.into(),
        lease: Duration::from_secs(2),
        slots: 8,
        sweep: Duration::from_millis(200),
    }
}

/// A member of a project.
pub fn member(project: &str) -> Context {
    Context {
        user_id: format!("{project}-user"),
        project_id: project.into(),
        roles: vec!["member".into(), "reader".into()],
        request_id: format!("req-{project}"),
        ..Context::default()
    }
}

/// Who may only look.
pub fn reader(project: &str) -> Context {
    Context { roles: vec!["reader".into()], ..member(project) }
}

/// An administrator.
pub fn admin() -> Context {
    Context {
        roles: vec!["admin".into(), "member".into(), "reader".into()],
        is_admin: true,
        ..member("admin")
    }
}

pub fn new_snapshot(volume_id: VolumeId) -> NewSnapshot {
    NewSnapshot {
        volume_id,
        name: Some("s".into()),
        description: None,
        in_use: false,
        metadata: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
    }
}

/// A clone of a volume.
pub fn clone_of(volume: VolumeId) -> NewVolume {
    NewVolume { source_volid: Some(volume), ..NewVolume::default() }
}

/// What an error says.
pub fn text<T: std::fmt::Debug>(result: control::Result<T>) -> String {
    result.expect_err("is refused").to_string()
}
