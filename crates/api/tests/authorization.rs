//! Every route asks its own rule: where a rule says no, the route says no, and names the rule that the table names.

mod common;

use api::Auth;
use api::route::{Gate, V3};
use common::{PROJECT, Service};
use control::policy::{Action, Options, Policy};
use model::{BackupId, GiB, SnapshotId, VolumeId};
use serde_json::{Value, json};

/// What the routes act upon.
struct Things {
    volume: String,
    snapshot: String,
    attachment: String,
    backup: String,
    message: String,
    kind: String,
}

async fn things(service: &Service) -> Things {
    let made = service.call(71, "POST", "/v3/volumes", json!({"volume": {"size": 1}})).await.json();
    let text = |value: &Value| value.as_str().expect("an id").to_owned();
    let (volume, kind) = (text(&made["volume"]["id"]), text(&made["volume"]["volume_type_id"]));
    let available = json!({"os-reset_status": {"status": "available"}});
    let action = format!("/v3/volumes/{volume}/action");
    assert_eq!(service.call(71, "POST", &action, available).await.status, 202);
    let volume_id: VolumeId = volume.parse().expect("an id");
    let (snapshot, backup) = (SnapshotId::new(), BackupId::new());
    let mut tx = service.cloud.db.begin().await.expect("begins");
    let row = db::snapshot::NewSnapshot {
        id: snapshot,
        volume_id,
        user_id: "me".into(),
        project_id: PROJECT.into(),
        size: GiB(1),
        name: None,
        description: None,
        type_id: kind.parse().expect("an id"),
        use_quota: true,
        metadata: [("k".to_owned(), "v".to_owned())].into(),
    };
    db::snapshot::insert(&mut tx, &row).await.expect("inserts");
    let row = db::backup::NewBackup {
        id: backup,
        volume_id,
        snapshot_id: None,
        parent_id: None,
        user_id: "me".into(),
        project_id: PROJECT.into(),
        name: None,
        description: None,
        container: None,
        size: 1,
        host: None,
        availability_zone: None,
        data_timestamp: None,
        metadata: Default::default(),
    };
    db::backup::insert(&mut tx, &row).await.expect("inserts");
    let row = db::message::NewMessage {
        project_id: PROJECT,
        request_id: None,
        resource_type: "VOLUME",
        resource_uuid: &volume,
        action_id: "001",
        detail_id: "003",
        ttl: 1000,
    };
    db::message::insert(&mut tx, &row).await.expect("inserts");
    tx.commit().await.expect("commits");
    let messages = service.call(71, "GET", "/v3/messages", Value::Null).await.json();
    let wanted = json!({"attachment": {"volume_uuid": volume}});
    let attachment = service.call(71, "POST", "/v3/attachments", wanted).await.json();
    Things {
        snapshot: snapshot.to_string(),
        attachment: text(&attachment["attachment"]["id"]),
        backup: backup.to_string(),
        message: text(&messages["messages"][0]["id"]),
        volume,
        kind,
    }
}

/// The path of a row, with things of ours in it.
fn path(route: &str, things: &Things) -> String {
    let id = match route.split('/').nth(1).unwrap_or_default() {
        "volumes" => &things.volume,
        "snapshots" => &things.snapshot,
        "attachments" => &things.attachment,
        "backups" => &things.backup,
        "messages" => &things.message,
        "types" => &things.kind,
        _ => "0abc",
    };
    format!("/v3{}", route.replace("{id}", id).replace("{type_id}", id).replace("{key}", "k"))
}

/// A body that the row's schema accepts.
fn body(method: &str, route: &str, action: Option<&str>, things: &Things) -> Value {
    let connector = json!({"connector": {"host": "h", "initiator": "iqn.2000-01.x:y"}});
    let inner = match action {
        Some("os-attach") => json!({"mountpoint": "/dev/vdb", "host_name": "h"}),
        Some("os-initialize_connection" | "os-terminate_connection") => connector.clone(),
        Some("os-extend") => json!({"new_size": 2}),
        Some("os-set_bootable") => json!({"bootable": true}),
        Some("os-update_readonly_flag") => json!({"readonly": true}),
        Some("os-reset_status") => json!({"status": "error"}),
        Some("os-update_snapshot_status") => json!({"status": "error"}),
        Some("addProjectAccess" | "removeProjectAccess") => json!({"project": "0abc"}),
        Some(_) => json!({}),
        None => Value::Null,
    };
    if let Some(action) = action {
        return json!({ action: inner });
    }
    match (method, route) {
        ("POST", "/volumes") => json!({"volume": {"size": 1}}),
        ("PUT", "/volumes/{id}") => json!({"volume": {"name": "n"}}),
        ("POST", "/snapshots") => json!({"snapshot": {"volume_id": things.volume}}),
        ("PUT", "/snapshots/{id}") => json!({"snapshot": {"name": "n"}}),
        ("POST", "/attachments") => json!({"attachment": {"volume_uuid": things.volume}}),
        ("PUT", "/attachments/{id}") => json!({ "attachment": connector }),
        ("POST", "/backups") => json!({"backup": {"volume_id": things.volume}}),
        ("PUT", "/backups/{id}") => json!({"backup": {"name": "n"}}),
        ("POST", "/backups/{id}/restore") => json!({"restore": {"name": "n"}}),
        ("POST", "/types") => json!({"volume_type": {"name": "n"}}),
        ("PUT", "/types/{id}") => json!({"volume_type": {"name": "n"}}),
        ("POST", "/types/{type_id}/extra_specs") => json!({"extra_specs": {"k": "v"}}),
        ("PUT", "/types/{type_id}/extra_specs/{key}") => json!({"k": "v"}),
        ("PUT", "/os-quota-sets/{id}") => json!({"quota_set": {"volumes": 5}}),
        ("PUT", "/os-quota-class-sets/{id}") => json!({"quota_class_set": {"volumes": 5}}),
        ("PUT", route) if route.starts_with("/os-services/") => {
            json!({"host": "node@local", "binary": "cinder-volume"})
        }
        ("POST" | "PUT", route) if route.ends_with("/metadata") => json!({"metadata": {"k": "w"}}),
        ("PUT", route) if route.ends_with("/metadata/{key}") => json!({"meta": {"k": "w"}}),
        _ => Value::Null,
    }
}

#[tokio::test]
async fn every_route_asks_its_own_rule() {
    let service = Service::start(Auth::Open).await;
    let things = things(&service).await;
    let mut judged = 0;
    for entry in V3.entries() {
        let route = entry.route;
        let Some(action) = route.gate.action() else { continue };
        // Only this rule says no.
        let rule = action.rule().name;
        let text = format!("\"{rule}\": \"!\"\n");
        let policy = Policy::load(&[("policy.yaml", text)], &Options::default()).expect("a rule");
        let denied = service.under(policy);
        let body = body(route.method, route.path, route.action, &things);
        let reply = denied.call(71, route.method, &path(route.path, &things), body).await;
        let name = format!("{} {} {:?}", route.method, route.path, route.action);
        let wanted = match (route.gate, action) {
            // Whoever may not see a volume is told that it is not there.
            (Gate::Resource(_), Action::VolumeShow) => {
                (404, format!("Volume {} could not be found.", things.volume))
            }
            _ => (403, format!("Policy doesn't allow {rule} to be performed.")),
        };
        assert_eq!(reply.fault(), wanted, "{name}");
        judged += 1;
    }
    assert!(judged > 80, "only {judged} routes were judged");
}
