//! Every role in a process of its own, on one data directory: nothing but the database is between them.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use model::block::BlockDevice as _;
use serde_json::{Value, json};

use crate::site::{BLOCK, Site};

const ROLES: [&str; 5] = ["scheduler", "volume", "backup", "target", "api"];

/// The processes.
struct Roles {
    running: BTreeMap<&'static str, Child>,
    metrics_port: u16,
}

fn serve(site: &Site, role: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cinderblock"));
    command.args(["serve", "--role", role, "--data-dir"]).arg(site.path());
    command.args(["--api-listen", &format!("127.0.0.1:{}", site.port)]);
    command.args(["--iscsi-listen", &format!("127.0.0.1:{}", site.iscsi_port)]);
    command.stdin(Stdio::null());
    command
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

impl Roles {
    fn start(site: &Site) -> Self {
        let mut this = Self { running: BTreeMap::new(), metrics_port: free_port() };
        for role in ROLES {
            this.start_role(site, role);
        }
        this
    }

    /// Starts one and waits until it says that it is ready.
    fn start_role(&mut self, site: &Site, role: &'static str) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(site.path().join("log"))
            .expect("a log");
        let mut command = serve(site, role);
        if role == "target" {
            command.args(["--metrics-listen", &format!("127.0.0.1:{}", self.metrics_port)]);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line.contains("is ready")));
        assert!(ready, "{role} does not start:\n{}", site.log());
        // The pipe stays open, so that nothing it prints later fails.
        std::thread::spawn(move || lines.count());
        self.running.insert(role, child);
    }

    fn stop(&mut self, role: &str) {
        let mut child = self.running.remove(role).expect("is running");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("is there");
        assert!(child.wait().expect("ends").success(), "{role}");
    }
}

impl Drop for Roles {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn said(mut command: Command) -> String {
    let done = command.output().expect("runs");
    assert!(!done.status.success(), "it is to be refused");
    String::from_utf8_lossy(&done.stderr).into_owned()
}

async fn block(lun: &iscsi::RemoteLun, at: u64) -> Vec<u8> {
    let mut found = vec![0; BLOCK];
    lun.read(at, &mut found).await.expect("reads");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_can_be_a_process_of_its_own() {
    let site = Site::new();
    let mut roles = Roles::start(&site);
    for role in ROLES {
        let refused = said(serve(&site, role));
        assert!(refused.contains(&format!("the role {role} is already running")), "{refused}");
    }
    let volume = site.volume(json!({ "size": 1 })).await;
    let (attachment, lun) = site.login(&volume).await;
    lun.write(0, &[1; BLOCK]).await.expect("writes");
    lun.flush().await.expect("flushes");
    let snapshot = site.snapshot(&volume).await;
    lun.write(0, &[2; BLOCK]).await.expect("writes");
    let backup = site.backup(&volume, false).await;
    let extend = Some(json!({ "os-extend": { "new_size": 2 } }));
    site.call("POST", &format!("/v3/volumes/{volume}/action"), extend).await;
    site.until(&format!("/v3/volumes/{volume}"), "volume", &["in-use"]).await;
    assert_eq!(lun.refresh_size().await.expect("asks"), 2 << 30);

    // The rest may be restarted under a host that works.
    for role in ["api", "volume", "scheduler", "backup"] {
        roles.stop(role);
        assert_eq!(block(&lun, 0).await, vec![2; BLOCK]);
        roles.start_role(&site, role);
    }
    let measured = site.http.get(format!("http://127.0.0.1:{}/metrics", roles.metrics_port)).send().await;
    let measured = measured.expect("an answer").text().await.expect("a text");
    assert!(measured.contains("cinderblock_target_sessions 1"), "{measured}");

    let copy = site.volume(json!({ "snapshot_id": snapshot })).await;
    let body = json!({ "restore": { "name": "back" } });
    let back = site.call("POST", &format!("/v3/backups/{backup}/restore"), Some(body)).await;
    let back = back["restore"]["volume_id"].as_str().expect("an id").to_owned();
    site.until(&format!("/v3/volumes/{back}"), "volume", &["available"]).await;
    lun.close().await.expect("logs out");
    site.call("DELETE", &format!("/v3/attachments/{attachment}"), None).await;
    for (id, byte) in [(&copy, 1), (&back, 2)] {
        let (attachment, lun) = site.login(id).await;
        assert_eq!(block(&lun, 0).await, vec![byte; BLOCK]);
        lun.close().await.expect("logs out");
        site.call("DELETE", &format!("/v3/attachments/{attachment}"), None).await;
    }
    site.settle().await;
    for role in ROLES {
        roles.stop(role);
    }
    let report = site.report().await;
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}

#[test]
fn an_api_alone_keeps_strangers_out_too() {
    let site = Site::new();
    let mut command = serve(&site, "api");
    command.args(["--api-listen", "0.0.0.0:0"]);
    let refused = said(command);
    assert!(refused.contains("--api-listen") || refused.contains("loopback"), "{refused}");
}

/// The portals of a configuration file are Cinder's: `$my_ip` unless a backend says otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_says_where_its_volumes_are_reached() {
    let site = Site::new();
    let here = site.path().display();
    let config = format!(
        "[DEFAULT]\nauth_strategy = none\ntransport_url = none://\nenabled_backends = one\nmy_ip = 127.0.0.2\n\
         osapi_volume_listen = 127.0.0.1\nosapi_volume_listen_port = {}\n\
         backup_driver = cinder.backup.drivers.posix.PosixBackupDriver\nbackup_posix_path = {here}/backup\n\
         [one]\nvolume_driver = file\nfile_directory = {here}/volumes\nvolume_backend_name = one\ntarget_port = {}\n\
         target_secondary_ip_addresses = 127.0.0.3\n",
        site.port, site.iscsi_port
    );
    let file = site.path().join("cinder.conf");
    std::fs::write(&file, config).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_cinderblock"));
    command
        .args(["serve", "--data-dir"])
        .arg(site.path())
        .arg("--config-file")
        .arg(&file)
        .stdin(Stdio::null());
    let log = std::fs::File::create(site.path().join("log")).expect("a log");
    let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains("openstack"))), "{}", site.log());
    let running = Roles { running: BTreeMap::from([("all", child)]), metrics_port: 0 };
    let volume = site.volume(json!({ "size": 1 })).await;
    let (attachment, lun) = site.login(&volume).await;
    lun.write(0, &[5; BLOCK]).await.expect("writes");
    let shown = site.call("GET", &format!("/v3/attachments/{attachment}"), None).await;
    let info = &shown["attachment"]["connection_info"];
    let portals: Vec<String> =
        ["127.0.0.2", "127.0.0.3"].map(|ip| format!("{ip}:{}", site.iscsi_port)).into();
    assert_eq!(
        (&info["target_portal"], &info["target_portals"]),
        (&json!(portals[0]), &json!(portals)),
        "{info}"
    );
    assert_eq!(info["qos_specs"], Value::Null);
    lun.close().await.expect("logs out");
    drop(running);
}
