//! Jobs as clients see them: what runs, what waits and for whom, and stopping either, over HTTP and with the program's own commands.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::site::Site;

const PATIENCE: Duration = Duration::from_secs(30);
/// What a cancel may take to be noticed, on a busy machine.
const PROMPT: Duration = Duration::from_secs(3);

async fn job_of(site: &Site, resource: &str) -> Value {
    let jobs =
        site.call("GET", &format!("/cinderblock/v1/jobs?resource_id={resource}&all_tenants=1"), None).await;
    jobs["jobs"][0].clone()
}

/// Looks at a job until it is as wanted.
async fn until(site: &Site, resource: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let job = job_of(site, resource).await;
        if so(&job) {
            return job;
        }
        assert!(Instant::now() < end, "it is never {what}: {job:#}\n{}", site.log());
        tokio::time::sleep(Duration::from_millis(5)).await; // as a client looks
    }
}

/// What the program itself prints.
fn printed(site: &Site, words: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_cinderblock"))
        .args(words)
        .env("CINDERBLOCK_ENDPOINT", format!("http://127.0.0.1:{}/v3", site.port))
        .output()
        .expect("runs");
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

async fn cancelled(site: &Site, resource: &str) {
    let job = text(&job_of(site, resource).await["id"]);
    let asked = Instant::now();
    let answer = site.call("POST", &format!("/cinderblock/v1/jobs/{job}/cancel"), None).await;
    assert_eq!(answer["job"]["cancel_requested"], true, "{answer}");
    until(site, resource, "cancelled", |job| job["state"] == "cancelled").await;
    let took = asked.elapsed();
    assert!(took < PROMPT, "noticed after {took:?}");
    let again = site.try_call("POST", &format!("/cinderblock/v1/jobs/{job}/cancel"), None).await;
    assert_eq!(again.expect("alive").0, 409, "it has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_and_what_waits_is_shown_and_can_be_stopped() {
    let mut site = Site::new();
    site.start(None, None).await;
    let volume = site.volume(json!({ "size": 1 })).await;
    let old = site.backup(&volume, false).await;
    site.stop().await;
    site.fill_first(&volume, 7, 256 << 20).await;
    site.start(None, None).await;
    let snapshot = site.snapshot(&volume).await;

    // A backup of the snapshot keeps the volume as it is, without a status that says so.
    let body = json!({ "backup": { "volume_id": volume, "snapshot_id": snapshot, "force": true } });
    let made = site.call("POST", "/v3/backups", Some(body)).await;
    let backup = text(&made["backup"]["id"]);
    let copying =
        until(&site, &backup, "copying", |job| job["step"] == "copy" && job["state"] == "running").await;
    assert_eq!(copying["waits"], Value::Null);
    assert_eq!(
        (&copying["can_be_cancelled"], &copying["operation"]),
        (&json!(true), &json!("backup.create"))
    );
    assert!(copying["steps"].as_array().is_some_and(|steps| steps.contains(&json!("copy"))), "{copying}");
    assert!(copying["attempts"].as_u64().is_some_and(|attempts| attempts >= 1), "{copying}");

    // A restore over the volume has to wait for it.
    let body = json!({ "restore": { "volume_id": volume } });
    site.call("POST", &format!("/v3/backups/{old}/restore"), Some(body)).await;
    let waiting = until(&site, &old, "waiting", |job| job["waits"]["for"] == "lock").await;
    assert_eq!((&waiting["state"], &waiting["waits"]["job"]), (&json!("queued"), &copying["id"]));
    let message = text(&waiting["waits"]["message"]);
    assert!(message.contains("backup.create") && message.contains(&backup), "{message}");
    let listed = printed(&site, &["job", "list"]);
    assert!(listed.contains(&text(&copying["id"])) && listed.contains("has the lock"), "{listed}");
    let shown = printed(&site, &["job", "show", &text(&waiting["id"])]);
    assert!(shown.contains("has the lock") && shown.contains("possible"), "{shown}");
    cancelled(&site, &old).await;
    // It had not begun: nothing has been overwritten.
    site.until(&format!("/v3/volumes/{volume}"), "volume", &["available"]).await;
    site.until(&format!("/v3/backups/{old}"), "backup", &["available"]).await;

    let running = job_of(&site, &backup).await;
    assert_eq!(running["state"], "running", "the backup was to take longer: {running}");
    let progress =
        until(&site, &backup, "under way", |job| job["progress"]["done"] != 0).await["progress"].clone();
    assert!(progress["total"].as_u64() >= progress["done"].as_u64(), "{progress}");
    cancelled(&site, &backup).await;
    site.until(&format!("/v3/backups/{backup}"), "backup", &["error"]).await;
    site.until(&format!("/v3/snapshots/{snapshot}"), "snapshot", &["available"]).await;
    assert!(site.objects().iter().all(|name| !name.contains(&backup)), "{:?}", site.objects());
    assert_eq!(site.call("GET", "/v3/messages", None).await["messages"], json!([]), "who cancels knows");

    // Why the volume is where it is.
    let created = until(&site, &volume, "there", |job| job["operation"] == "volume.create").await;
    assert!(
        created["scheduling"]["chosen"].as_str().is_some_and(|pool| pool.ends_with("@local#local")),
        "{created}"
    );
    let shown = printed(&site, &["job", "show", &text(&created["id"])]);
    assert!(shown.contains("chosen") && shown.contains("@local#local"), "{shown}");
    site.call("DELETE", &format!("/v3/backups/{backup}"), None).await;
    site.settle().await;
    site.stop().await;
    let report = site.report().await;
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}
