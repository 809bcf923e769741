//! A backend or a backup store without a free block: whatever needs one ends in an error state with a message, nothing is lost or
//! leaked, and everything goes on once there is room.

use std::io;

use model::block::BlockDevice as _;
use serde_json::{Value, json};

use crate::site::{BLOCK, Site};
use crate::small::Small;

const NO_SPACE: &str = "The backend has run out of space.";

/// The newest message about a resource.
async fn told(site: &Site, id: &str) -> String {
    let all = site.call("GET", "/v3/messages", None).await;
    let found = all["messages"].as_array().expect("a list").iter().find(|one| one["resource_uuid"] == id);
    let found = found.unwrap_or_else(|| panic!("nobody is told of {id}: {all}"));
    found["user_message"].as_str().expect("a text").to_owned()
}

/// How a job on a resource ended.
async fn job_of(site: &Site, id: &str) -> Value {
    let jobs = site.call("GET", &format!("/cinderblock/v1/jobs?resource_id={id}"), None).await;
    jobs["jobs"][0].clone()
}

async fn post(site: &Site, collection: &str, kind: &str, body: Value) -> String {
    let made = site.call("POST", &format!("/v3/{collection}"), Some(json!({ kind: body }))).await;
    made[kind]["id"].as_str().expect("an id").to_owned()
}

/// It fails for want of room, and says so everywhere.
async fn fails(site: &Site, collection: &str, kind: &str, id: &str, message: &str) {
    site.until(&format!("/v3/{collection}/{id}"), kind, &["error"]).await;
    let said = told(site, id).await;
    assert!(said.ends_with(message), "{said}");
    let job = job_of(site, id).await;
    assert_eq!(job["state"], "failed", "{job}");
    assert!(job["error"].as_str().is_some_and(|error| !error.is_empty()), "{job}");
    assert!(job["step"].is_string() && job["can_be_cancelled"] == false, "{job}");
}

async fn deleted(site: &Site, collection: &str, ids: &[&str]) {
    for id in ids {
        site.call("DELETE", &format!("/v3/{collection}/{id}"), None).await;
        site.settle().await;
        let answer = site.try_call("GET", &format!("/v3/{collection}/{id}"), None).await;
        assert_eq!(answer.expect("alive").0, 404, "{}", site.log());
    }
}

async fn healthy(site: &mut Site) {
    site.stop().await;
    let report = site.report().await;
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_told_that_the_backend_is_full_and_goes_on_when_it_is_not() {
    let mut site = Site::new();
    let small = Small::at(site.volumes(), 1024);
    site.start(None, None).await;
    let volume = site.volume(json!({ "size": 1 })).await;
    let (attachment, lun) = site.login(&volume).await;
    lun.write(0, &[1; BLOCK]).await.expect("writes");
    lun.flush().await.expect("flushes");
    small.fill();
    let error = lun.write(64 << 20, &[2; BLOCK]).await.expect_err("there is no room");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    lun.write(0, &[3; BLOCK]).await.expect("what has its place is written");
    let mut found = vec![0; BLOCK];
    lun.read(0, &mut found).await.expect("reads");
    assert_eq!(found, vec![3; BLOCK]);
    small.free();
    lun.write(64 << 20, &[2; BLOCK]).await.expect("writes");
    lun.flush().await.expect("flushes");
    lun.close().await.expect("logs out");
    site.call("DELETE", &format!("/v3/attachments/{attachment}"), None).await;
    deleted(&site, "volumes", &[&volume]).await;
    healthy(&mut site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_what_does_not_fit_on_a_full_backend_fails_and_leaves_nothing() {
    let mut site = Site::new();
    let small = Small::at(site.volumes(), 1024);
    site.start(None, None).await;
    let source = site.volume(json!({ "size": 1 })).await;
    let spare = site.volume(json!({ "size": 1 })).await;
    site.stop().await;
    site.fill(&source, 7).await;
    site.start(None, None).await;
    let kept = site.snapshot(&source).await;
    let backup = site.backup(&source, false).await;
    small.fill();

    let snapshot = post(&site, "snapshots", "snapshot", json!({ "volume_id": source })).await;
    fails(&site, "snapshots", "snapshot", &snapshot, NO_SPACE).await;
    let copy = post(&site, "volumes", "volume", json!({ "source_volid": source })).await;
    fails(&site, "volumes", "volume", &copy, NO_SPACE).await;
    let restored = post(&site, "volumes", "volume", json!({ "snapshot_id": kept })).await;
    fails(&site, "volumes", "volume", &restored, NO_SPACE).await;
    // An empty one takes no block.
    let blank = site.volume(json!({ "size": 1 })).await;

    let body = json!({ "restore": { "volume_id": spare } });
    site.call("POST", &format!("/v3/backups/{backup}/restore"), Some(body.clone())).await;
    site.until(&format!("/v3/volumes/{spare}"), "volume", &["error_restoring"]).await;
    site.until(&format!("/v3/backups/{backup}"), "backup", &["available"]).await;
    assert!(told(&site, &backup).await.ends_with(NO_SPACE));

    // To give up what failed takes no room.
    deleted(&site, "snapshots", &[&snapshot]).await;
    deleted(&site, "volumes", &[&copy, &restored, &blank, &spare]).await;
    small.free();
    let again = site.volume(json!({ "source_volid": source })).await;
    site.call(
        "POST",
        &format!("/v3/backups/{backup}/restore"),
        Some(json!({ "restore": { "volume_id": again } })),
    )
    .await;
    site.until(&format!("/v3/volumes/{again}"), "volume", &["available"]).await;
    site.stop().await;
    site.check(&source, 7).await;
    site.check(&again, 7).await;
    healthy(&mut site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_a_backup_that_the_store_has_no_room_for_fails_and_leaves_nothing() {
    let mut site = Site::new();
    let small = Small::at(site.path().join("backup"), 64);
    site.start(None, None).await;
    let volume = site.volume(json!({ "size": 1 })).await;
    site.stop().await;
    site.fill(&volume, 7).await;
    site.start(None, None).await;
    let stored = |site: &Site| site.objects().into_iter().filter(|name| name != "filler").collect::<Vec<_>>();

    small.fill();
    let full = post(&site, "backups", "backup", json!({ "volume_id": volume })).await;
    fails(&site, "backups", "backup", &full, NO_SPACE).await;
    let shown = site.call("GET", &format!("/v3/backups/{full}"), None).await;
    assert!(shown["backup"]["fail_reason"].as_str().is_some_and(|why| why.contains("full")), "{shown}");
    site.until(&format!("/v3/volumes/{volume}"), "volume", &["available"]).await;
    assert_eq!(stored(&site), Vec::<String>::new());
    deleted(&site, "backups", &[&full]).await;

    small.free();
    let base = site.backup(&volume, false).await;
    let before = stored(&site);
    site.stop().await;
    site.fill(&volume, 99).await;
    site.start(None, None).await;
    small.fill();
    let body = json!({ "volume_id": volume, "incremental": true });
    let more = post(&site, "backups", "backup", body).await;
    fails(&site, "backups", "backup", &more, NO_SPACE).await;
    site.until(&format!("/v3/backups/{base}"), "backup", &["available"]).await;
    assert_eq!(stored(&site), before, "nothing of the failed one, all of its parent");
    deleted(&site, "backups", &[&more]).await;

    small.free();
    let more = site.backup(&volume, true).await;
    let spare = site.volume(json!({ "size": 1 })).await;
    site.call(
        "POST",
        &format!("/v3/backups/{more}/restore"),
        Some(json!({ "restore": { "volume_id": spare } })),
    )
    .await;
    site.until(&format!("/v3/volumes/{spare}"), "volume", &["available"]).await;
    site.stop().await;
    site.check(&spare, 99).await;
    healthy(&mut site).await;
}
