//! One of each thing that routes act upon, and for every route a path to them and a body that its schema accepts.

use model::{BackupId, GiB, GroupId, GroupSnapshotId, GroupType, GroupTypeId, SnapshotId, VolumeId};
use serde_json::{Value, json};

use super::{PROJECT, Service};

/// What the routes act upon.
pub struct Things {
    pub volume: String,
    pub snapshot: String,
    pub attachment: String,
    pub backup: String,
    pub message: String,
    pub kind: String,
    pub transfer: String,
    pub group: String,
    pub group_snapshot: String,
}

/// Makes one of each.
pub async fn things(service: &Service) -> Things {
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
    let (group, group_snapshot) = group(&mut tx, &kind).await;
    tx.commit().await.expect("commits");
    let messages = service.call(71, "GET", "/v3/messages", Value::Null).await.json();
    let wanted = json!({"attachment": {"volume_uuid": volume}});
    let attachment = service.call(71, "POST", "/v3/attachments", wanted).await.json();
    Things {
        transfer: transfer(service).await,
        snapshot: snapshot.to_string(),
        attachment: text(&attachment["attachment"]["id"]),
        backup: backup.to_string(),
        message: text(&messages["messages"][0]["id"]),
        volume,
        kind,
        group,
        group_snapshot,
    }
}

/// A group of a type of its own, and a snapshot of it.
async fn group(tx: &mut db::Tx, volume_type: &str) -> (String, String) {
    let kind = GroupType {
        id: GroupTypeId::new(),
        name: "groups".into(),
        description: None,
        is_public: true,
        specs: Default::default(),
        created_at: None,
        updated_at: None,
    };
    db::group_type::insert(tx, &kind).await.expect("inserts");
    let row = db::volume_group::NewGroup {
        id: GroupId::new(),
        user_id: "me".into(),
        project_id: PROJECT.into(),
        name: None,
        description: None,
        availability_zone: None,
        host: None,
        type_id: kind.id,
        volume_types: vec![volume_type.parse().expect("an id")],
        group_snapshot_id: None,
        source_group_id: None,
    };
    db::volume_group::insert(tx, &row).await.expect("inserts");
    let snapshot = db::group_snapshot::NewGroupSnapshot {
        id: GroupSnapshotId::new(),
        group_id: row.id,
        type_id: kind.id,
        user_id: "me".into(),
        project_id: PROJECT.into(),
        name: None,
        description: None,
    };
    db::group_snapshot::insert(tx, &snapshot).await.expect("inserts");
    (row.id.to_string(), snapshot.id.to_string())
}

/// An offered volume's transfer.
async fn transfer(service: &Service) -> String {
    let made = service.call(71, "POST", "/v3/volumes", json!({"volume": {"size": 1}})).await.json();
    let volume = made["volume"]["id"].as_str().expect("an id");
    let available = json!({"os-reset_status": {"status": "available"}});
    assert_eq!(
        service.call(71, "POST", &format!("/v3/volumes/{volume}/action"), available).await.status,
        202
    );
    let wanted = json!({"transfer": {"volume_id": volume}});
    let transfer = service.call(71, "POST", "/v3/volume-transfers", wanted).await.json();
    transfer["transfer"]["id"].as_str().expect("an id").to_owned()
}

/// The path of a row, with things of ours in it.
pub fn path(route: &str, things: &Things) -> String {
    let id = match route.split('/').nth(1).unwrap_or_default() {
        "volumes" => &things.volume,
        "snapshots" => &things.snapshot,
        "attachments" => &things.attachment,
        "backups" => &things.backup,
        "messages" => &things.message,
        "types" => &things.kind,
        "groups" | "consistencygroups" => &things.group,
        "group_snapshots" | "cgsnapshots" => &things.group_snapshot,
        "volume-transfers" | "os-volume-transfer" => &things.transfer,
        _ => "0abc",
    };
    format!("/v3{}", route.replace("{id}", id).replace("{type_id}", id).replace("{key}", "k"))
}

fn connector() -> Value {
    json!({"connector": {"host": "h", "initiator": "iqn.2000-01.x:y"}})
}

/// What a body holds under its action.
fn of_action(action: &str, things: &Things) -> Value {
    match action {
        "os-attach" => json!({"mountpoint": "/dev/vdb", "host_name": "h"}),
        "os-initialize_connection" | "os-terminate_connection" => connector(),
        "os-set_image_metadata" => json!({"metadata": {"k": "v"}}),
        "os-unset_image_metadata" => json!({"key": "k"}),
        "revert" => json!({"snapshot_id": things.snapshot}),
        "os-extend" => json!({"new_size": 2}),
        "os-retype" => json!({"new_type": "n"}),
        "os-migrate_volume" => json!({"host": "node@local"}),
        "os-migrate_volume_completion" => json!({"new_volume": things.volume}),
        "os-set_bootable" => json!({"bootable": true}),
        "os-update_readonly_flag" => json!({"readonly": true}),
        "os-reset_status" => json!({"status": "error"}),
        "create-from-src" => json!({"group_snapshot_id": things.group_snapshot}),
        "reset_status" => json!({"status": "error"}),
        "os-update_snapshot_status" => json!({"status": "error"}),
        "addProjectAccess" | "removeProjectAccess" => json!({"project": "0abc"}),
        _ => json!({}),
    }
}

/// What a body of a route of groups holds.
fn of_group(method: &str, route: &str, things: &Things) -> Value {
    match (method, route) {
        ("POST", "/groups") => json!({"group": {"group_type": "groups", "volume_types": [things.kind]}}),
        ("PUT", "/groups/{id}") => json!({"group": {"name": "n"}}),
        ("POST", "/group_snapshots") => json!({"group_snapshot": {"group_id": things.group}}),
        ("POST", "/consistencygroups") => json!({"consistencygroup": {"volume_types": things.kind}}),
        ("POST", "/consistencygroups/create_from_src") => {
            json!({"consistencygroup-from-src": {"cgsnapshot_id": things.group_snapshot}})
        }
        ("POST" | "DELETE", route) if route.starts_with("/consistencygroups/{id}") => {
            json!({"consistencygroup": {"force": true}})
        }
        ("PUT", route) if route.starts_with("/consistencygroups/{id}") => {
            json!({"consistencygroup": {"name": "n"}})
        }
        ("POST", "/cgsnapshots") => json!({"cgsnapshot": {"consistencygroup_id": things.group}}),
        _ => Value::Null,
    }
}

/// A body that the row's schema accepts.
pub fn body(method: &str, route: &str, action: Option<&str>, things: &Things) -> Value {
    if let Some(action) = action {
        return json!({ action: of_action(action, things) });
    }
    let connector = connector();
    match (method, route) {
        ("POST", "/volumes") => json!({"volume": {"size": 1}}),
        ("PUT", "/volumes/{id}") => json!({"volume": {"name": "n"}}),
        ("POST", "/snapshots") => json!({"snapshot": {"volume_id": things.volume}}),
        ("POST", "/os-volume-manage" | "/manageable_volumes") => {
            json!({"volume": {"host": "node@local", "ref": {"source-name": "x"}}})
        }
        ("POST", "/os-snapshot-manage" | "/manageable_snapshots") => {
            json!({"snapshot": {"volume_id": things.volume, "ref": {"source-name": "x"}}})
        }
        ("PUT", "/snapshots/{id}") => json!({"snapshot": {"name": "n"}}),
        ("POST", "/attachments") => json!({"attachment": {"volume_uuid": things.volume}}),
        ("PUT", "/attachments/{id}") => json!({ "attachment": connector }),
        ("POST", "/backups") => json!({"backup": {"volume_id": things.volume}}),
        ("PUT", "/backups/{id}") => json!({"backup": {"name": "n"}}),
        ("POST", "/backups/{id}/restore") => json!({"restore": {"name": "n"}}),
        ("POST", "/backups/import_record") => {
            json!({"backup-record": {"backup_service": "s", "backup_url": "e30="}})
        }
        ("POST", "/types") => json!({"volume_type": {"name": "n"}}),
        ("PUT", "/types/{id}") => json!({"volume_type": {"name": "n"}}),
        ("POST", "/types/{type_id}/extra_specs") => json!({"extra_specs": {"k": "v"}}),
        ("PUT", "/types/{type_id}/extra_specs/{key}") => json!({"k": "v"}),
        ("PUT", "/os-quota-sets/{id}") => json!({"quota_set": {"volumes": 5}}),
        ("PUT", "/os-quota-class-sets/{id}") => json!({"quota_class_set": {"volumes": 5}}),
        ("POST", "/types/{type_id}/encryption") => {
            json!({"encryption": {"provider": "luks", "control_location": "front-end"}})
        }
        ("PUT", "/types/{type_id}/encryption/{id}") => json!({"encryption": {"key_size": 256}}),
        ("POST", "/qos-specs") => json!({"qos_specs": {"name": "n"}}),
        ("PUT", "/qos-specs/{id}") => json!({"qos_specs": {"k": "v"}}),
        ("PUT", "/qos-specs/{id}/delete_keys") => json!({"keys": ["k"]}),
        ("PUT", "/default-types/{id}") => json!({"default_type": {"volume_type": "n"}}),
        ("POST", "/group_types") => json!({"group_type": {"name": "n"}}),
        ("PUT", "/group_types/{id}") => json!({"group_type": {"name": "n"}}),
        ("POST", "/group_types/{type_id}/group_specs") => json!({"group_specs": {"k": "v"}}),
        ("PUT", "/group_types/{type_id}/group_specs/{key}") => json!({"k": "v"}),
        ("POST", "/volume-transfers" | "/os-volume-transfer") => {
            json!({"transfer": {"volume_id": things.volume}})
        }
        ("POST", route) if route.ends_with("/accept") => json!({"accept": {"auth_key": "k"}}),
        ("PUT", "/clusters/enable" | "/clusters/disable") => json!({"name": "c"}),
        ("PUT", "/os-hosts/{id}") => json!({"status": "enable"}),
        ("PUT", "/os-services/set-log") => json!({"level": "info"}),
        ("PUT", "/os-services/get-log") => json!({}),
        ("PUT", "/os-services/freeze" | "/os-services/thaw") => json!({"host": "node@local"}),
        ("PUT", "/os-services/failover" | "/os-services/failover_host") => json!({"host": "node@local"}),
        ("PUT", route) if route.starts_with("/os-services/") => {
            json!({"host": "node@local", "binary": "cinder-volume"})
        }
        ("POST" | "PUT", route) if route.ends_with("/metadata") => json!({"metadata": {"k": "w"}}),
        ("PUT", route) if route.ends_with("/metadata/{key}") => json!({"meta": {"k": "w"}}),
        _ => of_group(method, route, things),
    }
}
