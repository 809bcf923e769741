//! The whole service on a database server: `serve --config-file` with a `[database]` of PostgreSQL or MariaDB.
//!
//! Two processes share nothing but the database, so that what is shown is the way by the tables, not a short cut in
//! memory. Runs where `CINDERBLOCK_TEST_POSTGRES` and `CINDERBLOCK_TEST_MYSQL` name servers (docs/testing.md).
#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // a test

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use db::Read as _;
use serde_json::Value;

/// A process of the service; killed when a test ends early.
struct Process(Child);

impl Process {
    fn start(folder: &Path, roles: &[&str], api: &str) -> Self {
        let name = roles.join("-");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join(format!("{name}.log")))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cinderblock"));
        command.arg("serve").arg("--config-file").arg(folder.join("cinder.conf"));
        command.arg("--data-dir").arg(folder.join(name)).args(["--api-listen", api]);
        command
            .args(["--iscsi-listen", &free_address()])
            .args(roles.iter().flat_map(|role| ["--role", role]));
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The service in two processes, on a database of its own.
struct Site {
    folder: tempfile::TempDir,
    api: String,
}

impl Site {
    fn new(database: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let volumes = folder.path().join("volumes");
        std::fs::create_dir(&volumes).unwrap();
        let config = format!(
            "[DEFAULT]\nauth_strategy = noauth\ntransport_url = none://\nhost = here\nenabled_backends = file\n\
             cinderblock_lease = 3\n[database]\nconnection = {database}\n\
             [file]\nvolume_driver = file\nvolume_backend_name = file\nfile_directory = {}\n",
            volumes.display()
        );
        std::fs::write(folder.path().join("cinder.conf"), config).unwrap();
        for name in ["api", "scheduler-volume-target"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder, api: free_address() }
    }

    fn start_api(&self) -> Process {
        let mut process = Process::start(self.folder.path(), &["api"], &self.api);
        let begun = Instant::now();
        while TcpStream::connect(&self.api).is_err() {
            let ended = process.0.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < Duration::from_secs(60), "{ended:?} {}", self.log());
            // There is no event to wait for: the process listens when it is ready.
            std::thread::sleep(Duration::from_millis(20));
        }
        process
    }

    fn start_rest(&self) -> Process {
        Process::start(self.folder.path(), &["scheduler", "volume", "target"], &free_address())
    }

    fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        format!("{}{}", read("api.log"), read("scheduler-volume-target.log"))
    }

    /// What a command prints; it must succeed.
    fn client(&self, words: &[&str]) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cinderblock"));
        command.args(words).arg("--json").env("CINDERBLOCK_ENDPOINT", format!("http://{}/v3", self.api));
        let output = command.env("CINDERBLOCK_TOKEN", "admin:p").stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}\n{}", self.log());
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Names and states, sorted.
    fn listed(&self, what: &str) -> Vec<(String, String)> {
        let listed = self.client(&[what, "list"]);
        let text = |item: &Value, key: &str| item[key].as_str().unwrap_or_default().to_owned();
        let mut items: Vec<_> =
            listed.as_array().unwrap().iter().map(|i| (text(i, "name"), text(i, "status"))).collect();
        items.sort();
        items
    }
}

/// Waits until the volume service has reported: before, no zone and no pool is known.
fn wait_for_volume_service(site: &Site) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let up = |one: &Value| one["binary"] == "cinder-volume" && one["state"] == "up";
    while !site.client(&["service", "list"]).as_array().unwrap().iter().any(up) {
        assert!(Instant::now() < deadline, "{}", site.log());
        // It is another process's report.
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A database of the test's own on the server; `None` where there is no server.
fn new_database(variable: &str) -> Option<String> {
    let Ok(server) = std::env::var(variable) else {
        println!("not run: {variable} names no server; `cargo xtask test --only cinderblock` starts one");
        return None;
    };
    let name = format!("service_{}", std::process::id());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let db = db::Db::connect(&server, 1).await.unwrap();
        db.read().rows(db::sql::sql(format!("CREATE DATABASE {name}"))).await.unwrap();
        db.close().await;
    });
    Some(format!("{}/{name}", server.rsplit_once('/').unwrap().0))
}

fn available(names: &[&str]) -> Vec<(String, String)> {
    names.iter().map(|name| ((*name).to_owned(), "available".to_owned())).collect()
}

fn serves(variable: &str, scheme: &str) {
    let Some(database) = new_database(variable) else { return };
    let (_, rest) = database.split_once("://").unwrap();
    let site = Site::new(&format!("{scheme}://{rest}"));
    // Both make the schema at once.
    let (rest, mut api) = (site.start_rest(), site.start_api());
    wait_for_volume_service(&site);
    site.client(&["volume", "create", "one", "--size", "1", "--wait"]);
    site.client(&["snapshot", "create", "one", "--name", "still", "--wait"]);
    site.client(&["volume", "create", "two", "--snapshot", "still", "--wait"]);
    assert_eq!(site.listed("volume"), available(&["one", "two"]));
    assert_eq!(site.listed("snapshot"), available(&["still"]));
    // What is asked for while the workers are gone is in the database, and done when they are back.
    drop(rest);
    site.client(&["volume", "delete", "two"]);
    drop(api);
    let rest = site.start_rest();
    api = site.start_api();
    site.client(&["snapshot", "delete", "still", "--wait"]);
    site.client(&["volume", "delete", "one", "--wait"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !site.listed("volume").is_empty() {
        assert!(Instant::now() < deadline, "{:?}\n{}", site.listed("volume"), site.log());
        // The deletion was asked for by a client that is gone.
        std::thread::sleep(Duration::from_millis(50));
    }
    let kept = std::fs::read_dir(site.folder.path().join("volumes")).unwrap().flatten();
    let kept: Vec<_> = kept.filter(|entry| entry.path().is_file()).map(|entry| entry.file_name()).collect();
    assert!(kept.iter().all(|name| !name.to_string_lossy().starts_with("volume-")), "{kept:?}");
    drop((api, rest));
}

#[test]
fn the_service_runs_on_postgresql() {
    serves("CINDERBLOCK_TEST_POSTGRES", "postgresql");
}

#[test]
fn the_service_runs_on_mariadb() {
    serves("CINDERBLOCK_TEST_MYSQL", "mysql+pymysql");
}
