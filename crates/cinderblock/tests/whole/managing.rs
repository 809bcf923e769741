//! A file that was in the backend's directory before: managed, used over iSCSI, given up, and its snapshot with it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use model::block::BlockDevice as _;
use serde_json::{Value, json};

use crate::site::{BLOCK, Site};

const GIB: u64 = 1 << 30;

/// A request at an older version.
async fn at(site: &Site, version: &str, path: &str) -> (u16, Value) {
    let request = site.http.get(format!("http://127.0.0.1:{}{path}", site.port));
    let answer = request.header("OpenStack-API-Version", format!("volume {version}")).send().await;
    let answer = answer.expect("an answer");
    let status = answer.status().as_u16();
    let text = answer.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

async fn act(site: &Site, path: &str) {
    site.call("POST", &format!("/v3/{path}/action"), Some(json!({ "os-unmanage": {} }))).await;
    site.settle().await;
    let answer = site.try_call("GET", &format!("/v3/{path}"), None).await;
    assert_eq!(answer.map(|(status, _)| status), Some(404));
}

async fn manage(site: &Site, name: &str) -> String {
    let host = format!("{}@local#local", site.host());
    let body = json!({ "volume": { "host": host, "ref": { "source-name": name }, "name": "found" } });
    let made = site.call("POST", "/v3/manageable_volumes", Some(body)).await["volume"].take();
    assert_eq!((&made["status"], &made["size"]), (&json!("creating"), &json!(0)), "{made}");
    // Of the oldest version, whichever was asked for.
    assert!(made.get("group_id").is_none() && made.get("volume_type_id").is_none(), "{made}");
    let id = made["id"].as_str().expect("an id").to_owned();
    site.until(&format!("/v3/volumes/{id}"), "volume", &["available"]).await;
    id
}

/// The same snapshot with another id, while the target has the volume open.
async fn given_up_and_taken_over(site: &Site, volume: &str, snapshot: &str) -> String {
    act(site, &format!("snapshots/{snapshot}")).await;
    let path = format!("/v3/manageable_snapshots/detail?host={}@local", site.host());
    let (_, listed) = at(site, "3.8", &path).await;
    let given = listed["manageable-snapshots"][0].clone();
    assert_eq!(given["source_reference"], json!({ "source-name": format!("volume-{volume}") }), "{listed}");
    assert_eq!(given["safe_to_manage"], true, "{listed}");
    let body = json!({ "snapshot": { "volume_id": volume, "ref": given["reference"], "name": "again" } });
    let again = site.call("POST", "/v3/manageable_snapshots", Some(body)).await["snapshot"].take();
    let again = again["id"].as_str().expect("an id").to_owned();
    site.until(&format!("/v3/snapshots/{again}"), "snapshot", &["available"]).await;
    again
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_managed_used_and_given_up() {
    let mut site = Site::new();
    site.start(None, None).await;
    let file = File::create_new(site.volumes().join("found.img")).expect("creates");
    file.set_len(GIB - 4096).expect("grows");
    file.write_all_at(&[5; BLOCK], 0).expect("writes");
    drop(file);
    let there = format!("host={}@local%23local", site.host());
    let short = json!({ "reference": { "source-name": "found.img" }, "size": 1, "safe_to_manage": true });
    let path = format!("/v3/manageable_volumes?{there}");
    assert_eq!(at(&site, "3.8", &path).await, (200, json!({ "manageable-volumes": [short] })));
    assert_eq!(at(&site, "3.7", &path).await.0, 404);
    let mut long = short.clone();
    for key in ["reason_not_safe", "cinder_id", "extra_info"] {
        long[key] = Value::Null;
    }
    let path = format!("/v3/os-volume-manage/detail?{there}");
    assert_eq!(at(&site, "3.0", &path).await, (200, json!({ "manageable-volumes": [long] })));

    let id = manage(&site, "found.img").await;
    let (_, listed) = at(&site, "3.8", &path).await;
    let managed = &listed["manageable-volumes"][0];
    assert_eq!((&managed["cinder_id"], &managed["safe_to_manage"]), (&json!(id), &json!(false)), "{listed}");
    assert_eq!(managed["reason_not_safe"], "already managed");
    let (attachment, lun) = site.login(&id).await;
    let mut found = [0; BLOCK];
    lun.read(0, &mut found).await.expect("reads");
    assert!(found == [5; BLOCK]);
    let snapshot = site.snapshot(&id).await;
    lun.write(0, &[6; BLOCK]).await.expect("writes");
    lun.flush().await.expect("flushes");
    let again = given_up_and_taken_over(&site, &id, &snapshot).await;
    lun.read(0, &mut found).await.expect("reads");
    assert!(found == [6; BLOCK]);
    let copy = site.volume(json!({ "snapshot_id": again })).await;
    lun.close().await.expect("logs out");
    site.call("DELETE", &format!("/v3/attachments/{attachment}"), None).await;
    site.call("DELETE", &format!("/v3/snapshots/{again}"), None).await;
    site.settle().await;

    act(&site, &format!("volumes/{id}")).await;
    let kept = File::open(site.volumes().join(format!("volume-{id}.unmanaged"))).expect("is kept");
    let mut found = [0; BLOCK];
    kept.read_exact_at(&mut found, 0).expect("reads");
    assert!(found == [6; BLOCK] && kept.metadata().expect("is there").len() == GIB);
    drop(kept);
    let id = manage(&site, &format!("volume-{id}")).await;
    let (attachment, lun) = site.login(&id).await;
    lun.read(0, &mut found).await.expect("reads");
    assert!(found == [6; BLOCK]);
    lun.close().await.expect("logs out");
    site.call("DELETE", &format!("/v3/attachments/{attachment}"), None).await;
    let (attachment, lun) = site.login(&copy).await;
    lun.read(0, &mut found).await.expect("reads");
    assert!(found == [5; BLOCK], "the snapshot's bytes");
    lun.close().await.expect("logs out");
    site.call("DELETE", &format!("/v3/attachments/{attachment}"), None).await;
    site.stop().await;
    let report = site.report().await;
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}
