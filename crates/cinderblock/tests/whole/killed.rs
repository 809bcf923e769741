//! What was answered as accepted is there after the process was killed at that very moment (I1), for every kind of request that
//! changes something. That the database's transactions survive the loss of power is the database suite's.

use serde_json::{Value, json};

use crate::site::Site;

/// Sends a request, kills the service as soon as it is answered, and starts it again.
async fn killed(site: &mut Site, method: &str, path: &str, body: Value) -> Value {
    let body = if body.is_null() { None } else { Some(body) };
    let answer = site.call(method, path, body).await;
    site.kill();
    site.start(None, None).await;
    answer
}

fn id(answer: &Value, kind: &str) -> String {
    answer[kind]["id"].as_str().unwrap_or_else(|| panic!("no {kind} in {answer}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_what_was_accepted_is_done_although_the_service_was_killed() {
    let mut site = Site::new();
    site.start(None, None).await;
    let site = &mut site;

    let body = json!({ "volume": { "size": 1, "name": "one" } });
    let volume = id(&killed(site, "POST", "/v3/volumes", body).await, "volume");
    let path = format!("/v3/volumes/{volume}");
    site.until(&path, "volume", &["available"]).await;

    let body = json!({ "volume": { "name": "two" } });
    killed(site, "PUT", &path, body).await;
    assert_eq!(site.call("GET", &path, None).await["volume"]["name"], "two");

    killed(site, "POST", &format!("{path}/metadata"), json!({ "metadata": { "a": "b" } })).await;
    assert_eq!(site.call("GET", &path, None).await["volume"]["metadata"]["a"], "b");

    let body = json!({ "os-extend": { "new_size": 2 } });
    killed(site, "POST", &format!("{path}/action"), body).await;
    site.settle().await;
    assert_eq!(site.call("GET", &path, None).await["volume"]["size"], 2);

    let body = json!({ "snapshot": { "volume_id": volume } });
    let snapshot = id(&killed(site, "POST", "/v3/snapshots", body).await, "snapshot");
    site.until(&format!("/v3/snapshots/{snapshot}"), "snapshot", &["available"]).await;

    let body = json!({ "volume": { "snapshot_id": snapshot } });
    let copy = id(&killed(site, "POST", "/v3/volumes", body).await, "volume");
    site.until(&format!("/v3/volumes/{copy}"), "volume", &["available"]).await;

    let body = json!({ "backup": { "volume_id": volume } });
    let backup = id(&killed(site, "POST", "/v3/backups", body).await, "backup");
    site.until(&format!("/v3/backups/{backup}"), "backup", &["available"]).await;

    let body = json!({ "restore": { "volume_id": copy } });
    killed(site, "POST", &format!("/v3/backups/{backup}/restore"), body).await;
    site.until(&format!("/v3/volumes/{copy}"), "volume", &["available"]).await;

    let connector = json!({ "initiator": "iqn.2026-11.test:killed", "host": "h", "ip": "127.0.0.1" });
    let body = json!({ "attachment": { "volume_uuid": copy, "connector": connector } });
    let attachment = id(&killed(site, "POST", "/v3/attachments", body).await, "attachment");
    let path = format!("/v3/attachments/{attachment}");
    assert_eq!(site.call("GET", &path, None).await["attachment"]["status"], "attaching");
    killed(site, "POST", &format!("{path}/action"), json!({ "os-complete": null })).await;
    assert_eq!(site.call("GET", &path, None).await["attachment"]["status"], "attached");
    killed(site, "DELETE", &path, Value::Null).await;
    assert_eq!(site.try_call("GET", &path, None).await.expect("alive").0, 404);

    let body = json!({ "volume_type": { "name": "kept", "extra_specs": { "k": "v" } } });
    let kind = id(&killed(site, "POST", "/v3/types", body).await, "volume_type");
    assert_eq!(
        site.call("GET", &format!("/v3/types/{kind}"), None).await["volume_type"]["extra_specs"]["k"],
        "v"
    );

    killed(site, "DELETE", &format!("/v3/backups/{backup}"), Value::Null).await;
    killed(site, "DELETE", &format!("/v3/volumes/{copy}"), Value::Null).await;
    killed(site, "DELETE", &format!("/v3/volumes/{volume}?cascade=true"), Value::Null).await;
    site.settle().await;
    let left = site.call("GET", "/v3/volumes", None).await;
    assert_eq!(left["volumes"], json!([]));
    site.stop().await;
    let report = site.report().await;
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}
