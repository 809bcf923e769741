//! What is done to each operation, and what must hold afterwards.

use control::Context;
use control::request::NewAttachment;
use futures::future::BoxFuture;
use model::list::ListQuery;
use serde_json::{Value, json};

use crate::site::Site;

/// Ids that a scenario's preparation made, by a name.
pub type Ids = Value;

pub struct Scenario {
    pub name: &'static str,
    pub operation: &'static str,
    pub prepare: fn(&mut Site) -> BoxFuture<'_, Ids>,
    /// Sets the operation off. The service may die before it answers.
    pub trigger: fn(&Site, Ids) -> BoxFuture<'_, ()>,
    /// What must hold after the restart; `done` when the operation was to succeed, else it was made to fail.
    pub after: fn(&mut Site, Ids, bool) -> BoxFuture<'_, ()>,
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "blank",
        operation: "volume.create",
        prepare: |_| Box::pin(async { json!({}) }),
        trigger: |site, _| Box::pin(create_volume(site, json!({ "size": 1, "name": "new" }))),
        after: |site, _, done| Box::pin(the_new_volume(site, done, None)),
    },
    Scenario {
        name: "clone",
        operation: "volume.create",
        prepare: |site| Box::pin(filled(site)),
        trigger: |site, ids| {
            Box::pin(async move {
                create_volume(site, json!({ "source_volid": ids["volume"], "name": "new" })).await;
            })
        },
        after: |site, _, done| Box::pin(the_new_volume(site, done, Some(7))),
    },
    Scenario {
        name: "with snapshots",
        operation: "volume.delete",
        prepare: |site| {
            Box::pin(async {
                let ids = filled(site).await;
                site.start(None, None).await;
                let volume = text(&ids, "volume");
                site.snapshot(&volume).await;
                site.snapshot(&volume).await;
                ids
            })
        },
        trigger: |site, ids| {
            Box::pin(async move {
                let path = format!("/v3/volumes/{}?cascade=true", text(&ids, "volume"));
                site.try_call("DELETE", &path, None).await;
            })
        },
        after: |site, ids, _| Box::pin(async move { gone(site, "volumes", &text(&ids, "volume")).await }),
    },
    Scenario {
        name: "full",
        operation: "backup.create",
        prepare: |site| Box::pin(filled(site)),
        trigger: |site, ids| Box::pin(create_backup(site, ids, false)),
        after: |site, ids, done| Box::pin(the_new_backup(site, ids, done)),
    },
    Scenario {
        name: "over a volume",
        operation: "backup.restore",
        prepare: |site| {
            Box::pin(async {
                let mut ids = filled(site).await;
                site.start(None, None).await;
                let volume = text(&ids, "volume");
                ids["backup"] = site.backup(&volume, false).await.into();
                site.stop().await;
                site.fill(&volume, 99).await;
                site.start(None, None).await;
                ids
            })
        },
        trigger: |site, ids| {
            Box::pin(async move {
                let path = format!("/v3/backups/{}/restore", text(&ids, "backup"));
                site.try_call("POST", &path, Some(json!({ "restore": { "volume_id": ids["volume"] } })))
                    .await;
            })
        },
        after: |site, ids, done| {
            Box::pin(async move {
                let volume = text(&ids, "volume");
                let wanted = if done { "available" } else { "error_restoring" };
                site.until(&format!("/v3/volumes/{volume}"), "volume", &[wanted]).await;
                site.until(&format!("/v3/backups/{}", text(&ids, "backup")), "backup", &["available"]).await;
                if done {
                    site.stop().await;
                    site.check(&volume, 7).await;
                }
            })
        },
    },
    Scenario {
        name: "full",
        operation: "backup.delete",
        prepare: |site| {
            Box::pin(async {
                let mut ids = filled(site).await;
                site.start(None, None).await;
                ids["backup"] = site.backup(&text(&ids, "volume"), false).await.into();
                ids
            })
        },
        trigger: |site, ids| {
            Box::pin(async move {
                site.try_call("DELETE", &format!("/v3/backups/{}", text(&ids, "backup")), None).await;
            })
        },
        after: |site, ids, _| {
            Box::pin(async move {
                gone(site, "backups", &text(&ids, "backup")).await;
                assert_eq!(site.objects(), Vec::<String>::new());
            })
        },
    },
    Scenario {
        name: "of a backup whose row is gone",
        operation: "backup.import",
        prepare: |site| Box::pin(exported(site)),
        trigger: |site, ids| Box::pin(import(site, ids)),
        after: |site, ids, done| Box::pin(the_imported_backup(site, ids, done)),
    },
    Scenario {
        name: "with a connection that nobody terminated",
        operation: "volume.delete",
        prepare: |site| {
            Box::pin(async {
                let ids = filled(site).await;
                site.start(None, None).await;
                let cloud = site.cloud().await;
                let NewAttachment { volume_id, connector, .. } = attachment(&ids);
                let connector = connector.expect("a connector");
                cloud.volume_initialize_connection(&admin(), volume_id, connector).await.expect("connects");
                ids
            })
        },
        trigger: |site, ids| {
            Box::pin(async move {
                let path = format!("/v3/volumes/{}", text(&ids, "volume"));
                site.try_call("DELETE", &path, None).await;
            })
        },
        after: |site, ids, _| {
            Box::pin(async move {
                let volume = text(&ids, "volume");
                gone(site, "volumes", &volume).await;
                let cloud = site.cloud().await;
                let exports =
                    db::export::of_volume(&mut cloud.db.read(), volume.parse().expect("an id")).await;
                assert!(exports.expect("reads").is_empty());
            })
        },
    },
    Scenario {
        name: "an attachment with its connector",
        operation: "volume.connect",
        prepare: |site| Box::pin(filled(site)),
        trigger: |site, ids| Box::pin(attach(site, ids)),
        after: |site, ids, done| Box::pin(the_attachment(site, ids, done)),
    },
    Scenario {
        name: "the last attachment",
        operation: "volume.disconnect",
        prepare: |site| {
            Box::pin(async {
                let mut ids = filled(site).await;
                site.start(None, None).await;
                let wanted = attachment(&ids);
                let made = site.cloud().await.attachment_create(&admin(), wanted).await.expect("attaches");
                ids["attachment"] = made.id.to_string().into();
                ids
            })
        },
        trigger: |site, ids| {
            Box::pin(async move {
                let id = text(&ids, "attachment").parse().expect("an id");
                // It dies before it can answer.
                drop(site.cloud().await.attachment_delete(&admin(), id).await);
            })
        },
        after: |site, ids, _| Box::pin(async move { detached(site, &ids).await }),
    },
    Scenario {
        name: "at rest",
        operation: "volume.extend",
        prepare: |site| Box::pin(filled(site)),
        trigger: |site, ids| Box::pin(extend(site, ids)),
        after: |site, ids, done| Box::pin(the_grown_volume(site, ids, done, "available")),
    },
    Scenario {
        name: "attached",
        operation: "volume.extend",
        prepare: |site| Box::pin(attached(site)),
        trigger: |site, ids| Box::pin(extend(site, ids)),
        after: |site, ids, done| Box::pin(the_grown_volume(site, ids, done, "in-use")),
    },
    Scenario {
        name: "to another backend",
        operation: "volume.migrate",
        prepare: |site| {
            Box::pin(async {
                let ids = filled(site).await;
                site.second = true;
                ids
            })
        },
        trigger: |site, ids| {
            Box::pin(async move {
                let host = site.host();
                let body =
                    json!({ "os-migrate_volume": { "host": format!("{host}@other"), "lock_volume": true } });
                site.try_call("POST", &action_of(&ids), Some(body)).await;
            })
        },
        after: |site, ids, done| Box::pin(the_moved_volume(site, ids, done)),
    },
    Scenario {
        name: "in place",
        operation: "volume.retype",
        prepare: |site| {
            Box::pin(async {
                let ids = filled(site).await;
                site.start(None, None).await;
                site.call("POST", "/v3/types", Some(json!({ "volume_type": { "name": "gold" } }))).await;
                ids
            })
        },
        trigger: |site, ids| {
            Box::pin(async move {
                let body = json!({ "os-retype": { "new_type": "gold", "migration_policy": "never" } });
                site.try_call("POST", &action_of(&ids), Some(body)).await;
            })
        },
        after: |site, ids, done| {
            Box::pin(async move {
                let id = text(&ids, "volume");
                let volume = site.call("GET", &format!("/v3/volumes/{id}"), None).await["volume"].clone();
                assert_eq!(volume["status"], "available", "{volume}");
                assert_eq!(volume["volume_type"] == "gold", done, "{volume}");
                site.stop().await;
                site.check(&id, 7).await;
            })
        },
    },
    Scenario {
        name: "at rest",
        operation: "volume.revert",
        prepare: |site| Box::pin(changed_since_its_snapshot(site)),
        trigger: |site, ids| Box::pin(revert(site, ids)),
        after: |site, ids, done| Box::pin(the_reverted_volume(site, ids, done)),
    },
    Scenario {
        name: "at rest",
        operation: "snapshot.create",
        prepare: |site| Box::pin(filled(site)),
        trigger: |site, ids| Box::pin(create_snapshot(site, ids)),
        after: |site, ids, done| Box::pin(the_new_snapshot(site, ids, done)),
    },
    Scenario {
        name: "attached",
        operation: "snapshot.create",
        prepare: |site| Box::pin(attached(site)),
        trigger: |site, ids| Box::pin(create_snapshot(site, ids)),
        after: |site, ids, done| Box::pin(the_new_snapshot(site, ids, done)),
    },
    Scenario {
        name: "at rest",
        operation: "snapshot.delete",
        prepare: |site| {
            Box::pin(async {
                let mut ids = filled(site).await;
                site.start(None, None).await;
                ids["snapshot"] = site.snapshot(&text(&ids, "volume")).await.into();
                ids
            })
        },
        trigger: |site, ids| {
            Box::pin(async move {
                site.try_call("DELETE", &format!("/v3/snapshots/{}", text(&ids, "snapshot")), None).await;
            })
        },
        after: |site, ids, _| {
            Box::pin(async move {
                gone(site, "snapshots", &text(&ids, "snapshot")).await;
                site.stop().await;
                site.check(&text(&ids, "volume"), 7).await;
            })
        },
    },
    Scenario {
        name: "attached",
        operation: "backup.create",
        prepare: |site| Box::pin(attached(site)),
        trigger: |site, ids| Box::pin(create_backup(site, ids, false)),
        after: |site, ids, done| {
            Box::pin(async move {
                let path = format!("/v3/volumes/{}", text(&ids, "volume"));
                site.until(&path, "volume", &["in-use"]).await;
                let listed = site.call("GET", "/v3/backups/detail", None).await;
                let wanted = if done { "available" } else { "error" };
                assert_eq!(listed["backups"][0]["status"], wanted, "{listed}");
            })
        },
    },
];

fn admin() -> Context {
    let roles = vec!["admin".to_owned(), "member".to_owned(), "reader".to_owned()];
    Context {
        user_id: "crash".into(),
        project_id: "crash".into(),
        roles,
        is_admin: true,
        ..Context::default()
    }
}

fn attachment(ids: &Ids) -> NewAttachment {
    let connector = json!({ "initiator": "iqn.2026-01.test:crash", "host": "crash", "ip": "127.0.0.1" });
    NewAttachment {
        volume_id: text(ids, "volume").parse().expect("an id"),
        instance_uuid: None,
        connector: Some(serde_json::from_value(connector).expect("a connector")),
        mode: None,
    }
}

async fn attach(site: &Site, ids: Ids) {
    // It dies before it can answer.
    drop(site.cloud().await.attachment_create(&admin(), attachment(&ids)).await);
}

/// The attachment is there and its host can read the volume; or nothing of it is.
async fn the_attachment(site: &mut Site, ids: Ids, done: bool) {
    let cloud = site.cloud().await;
    let all = cloud.attachment_list(&admin(), &ListQuery::all(None)).await.expect("lists").items;
    if !done {
        assert!(all.is_empty(), "{all:?}");
        detached(site, &ids).await;
        return;
    }
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].status, model::AttachStatus::Attaching);
    site.check_over_iscsi(&all[0], 7).await;
    cloud.attachment_delete(&admin(), all[0].id).await.expect("detaches");
    detached(site, &ids).await;
}

/// No attachment, no export, a volume that is free with its bytes.
async fn detached(site: &mut Site, ids: &Ids) {
    let volume = text(ids, "volume");
    site.until(&format!("/v3/volumes/{volume}"), "volume", &["available"]).await;
    let cloud = site.cloud().await;
    let exports = db::export::of_volume(&mut cloud.db.read(), volume.parse().expect("an id")).await;
    assert!(exports.expect("reads").is_empty());
    let all = cloud.attachment_list(&admin(), &ListQuery::all(None)).await.expect("lists").items;
    assert!(all.is_empty(), "{all:?}");
    cloud.db.close().await;
    site.stop().await;
    site.check(&volume, 7).await;
}

pub fn text(ids: &Ids, name: &str) -> String {
    ids[name].as_str().unwrap_or_else(|| panic!("no {name}")).to_owned()
}

/// A volume with a pattern on it. The service is stopped afterwards.
pub async fn filled(site: &mut Site) -> Ids {
    let volume = site.volume(json!({ "size": 1, "name": "old" })).await;
    site.stop().await;
    site.fill(&volume, 7).await;
    json!({ "volume": volume })
}

async fn create_volume(site: &Site, body: Value) {
    site.try_call("POST", "/v3/volumes", Some(json!({ "volume": body }))).await;
}

async fn create_backup(site: &Site, ids: Ids, incremental: bool) {
    let body = json!({ "backup": { "volume_id": ids["volume"], "incremental": incremental, "force": true } });
    site.try_call("POST", "/v3/backups", Some(body)).await;
}

pub async fn one_of(site: &Site, collection: &str, name: &str) -> Value {
    let path = format!("/v3/{collection}/detail?name={name}");
    let listed = site.call("GET", &path, None).await;
    let found = listed[collection].as_array().expect("a list").clone();
    assert_eq!(found.len(), 1, "{listed}");
    found[0].clone()
}

/// The volume called `new` is there, or in error with a message; nothing in between.
async fn the_new_volume(site: &mut Site, done: bool, seed: Option<u8>) {
    let volume = one_of(site, "volumes", "new").await;
    if !done {
        assert_eq!(volume["status"], "error");
        let messages = site.call("GET", "/v3/messages", None).await;
        assert_eq!(messages["messages"][0]["resource_uuid"], volume["id"], "{messages}");
        let path = format!("/v3/volumes/{}", volume["id"].as_str().expect("an id"));
        site.call("DELETE", &path, None).await;
        site.settle().await;
        return;
    }
    assert_eq!(volume["status"], "available");
    site.stop().await;
    if let Some(seed) = seed {
        site.check(volume["id"].as_str().expect("an id"), seed).await;
    }
}

async fn the_new_backup(site: &mut Site, ids: Ids, done: bool) {
    let volume = text(&ids, "volume");
    site.until(&format!("/v3/volumes/{volume}"), "volume", &["available"]).await;
    let listed = site.call("GET", "/v3/backups/detail", None).await;
    let backup = &listed["backups"][0];
    let id = backup["id"].as_str().expect("an id");
    if !done {
        assert_eq!(backup["status"], "error", "{backup}");
        assert!(backup["fail_reason"].as_str().is_some_and(|reason| !reason.is_empty()));
        assert_eq!(site.objects(), Vec::<String>::new());
        return;
    }
    assert_eq!(backup["status"], "available", "{backup}");
    let objects = site.objects();
    assert!(!objects.is_empty() && objects.iter().all(|name| name.contains(id)), "{objects:?}");
    site.call("POST", &format!("/v3/backups/{id}/restore"), Some(json!({ "restore": { "name": "back" } })))
        .await;
    site.settle().await;
    let back = one_of(site, "volumes", "back").await;
    site.stop().await;
    site.check(back["id"].as_str().expect("an id"), 7).await;
}

/// A backup that only its record tells of. The service is running afterwards.
async fn exported(site: &mut Site) -> Ids {
    let mut ids = filled(site).await;
    site.start(None, None).await;
    let backup = site.backup(&text(&ids, "volume"), false).await;
    let path = format!("/v3/backups/{backup}/export_record");
    ids["record"] = site.call("GET", &path, None).await["backup-record"].clone();
    // As in a database that never knew it.
    let cloud = site.cloud().await;
    let mut tx = cloud.db.begin().await.expect("begins");
    for table in ["jobs", "backups"] {
        let text = match table {
            "jobs" => "DELETE FROM jobs WHERE resource_id = ?",
            _ => "DELETE FROM backups WHERE id = ?",
        };
        tx.exec(db::sql::sql(text).bind(&backup)).await.expect("deletes");
    }
    tx.exec(db::sql::sql("UPDATE quota_usages SET in_use = 0 WHERE resource LIKE 'backup%'"))
        .await
        .expect("updates");
    tx.commit().await.expect("commits");
    cloud.db.close().await;
    ids["backup"] = backup.into();
    ids
}

async fn import(site: &Site, ids: Ids) {
    let body = json!({ "backup-record": ids["record"] });
    site.try_call("POST", "/v3/backups/import_record", Some(body)).await;
}

/// The backup is there and restores; or in error with the reason, its objects untouched.
async fn the_imported_backup(site: &mut Site, ids: Ids, done: bool) {
    let id = text(&ids, "backup");
    let backup = site.call("GET", &format!("/v3/backups/{id}"), None).await["backup"].clone();
    assert!(!site.objects().is_empty());
    if !done {
        assert_eq!(backup["status"], "error", "{backup}");
        assert!(backup["fail_reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{backup}");
        return;
    }
    assert_eq!((&backup["status"], &backup["volume_id"]), (&json!("available"), &ids["volume"]), "{backup}");
    let body = json!({ "restore": { "name": "back" } });
    site.call("POST", &format!("/v3/backups/{id}/restore"), Some(body)).await;
    site.settle().await;
    let back = one_of(site, "volumes", "back").await;
    site.stop().await;
    site.check(back["id"].as_str().expect("an id"), 7).await;
}

pub async fn gone(site: &Site, collection: &str, id: &str) {
    let answer = site.try_call("GET", &format!("/v3/{collection}/{id}"), None).await;
    assert_eq!(answer.map(|(status, _)| status), Some(404), "{}", site.log());
}

pub fn connector() -> Value {
    json!({ "initiator": "iqn.2026-11.io.cinderblock:crash", "host": "host", "ip": "127.0.0.1", "multipath": false })
}

/// A volume with a pattern on it, attached. The service is running afterwards.
async fn attached(site: &mut Site) -> Ids {
    let mut ids = filled(site).await;
    site.start(None, None).await;
    let body = json!({ "attachment": { "volume_uuid": ids["volume"], "connector": connector() } });
    let made = site.call("POST", "/v3/attachments", Some(body)).await;
    let id = made["attachment"]["id"].as_str().expect("an id").to_owned();
    site.call("POST", &format!("/v3/attachments/{id}/action"), Some(json!({ "os-complete": null }))).await;
    ids["attachment"] = id.into();
    ids
}

async fn extend(site: &Site, ids: Ids) {
    let path = format!("/v3/volumes/{}/action", text(&ids, "volume"));
    site.try_call("POST", &path, Some(json!({ "os-extend": { "new_size": 2 } }))).await;
}

async fn the_grown_volume(site: &mut Site, ids: Ids, done: bool, status: &str) {
    let id = text(&ids, "volume");
    let volume = site.call("GET", &format!("/v3/volumes/{id}"), None).await["volume"].clone();
    if done {
        assert_eq!((&volume["status"], &volume["size"]), (&json!(status), &json!(2)), "{volume}");
    } else {
        assert_eq!((&volume["status"], &volume["size"]), (&json!("error_extending"), &json!(1)), "{volume}");
    }
    site.stop().await;
    site.check(&id, 7).await;
}

/// A volume whose snapshot has one pattern and it another. The service is stopped afterwards.
async fn changed_since_its_snapshot(site: &mut Site) -> Ids {
    let mut ids = filled(site).await;
    site.start(None, None).await;
    let volume = text(&ids, "volume");
    ids["snapshot"] = site.snapshot(&volume).await.into();
    site.stop().await;
    site.fill(&volume, 8).await;
    ids
}

async fn revert(site: &Site, ids: Ids) {
    let path = format!("/v3/volumes/{}/action", text(&ids, "volume"));
    site.try_call("POST", &path, Some(json!({ "revert": { "snapshot_id": ids["snapshot"] } }))).await;
}

/// The volume is as its snapshot; or in error, its bytes the old ones or the new, but never both.
async fn the_reverted_volume(site: &mut Site, ids: Ids, done: bool) {
    let id = text(&ids, "volume");
    let volume = site.call("GET", &format!("/v3/volumes/{id}"), None).await["volume"].clone();
    assert_eq!(volume["status"], if done { "available" } else { "error" }, "{volume}");
    let path = format!("/v3/snapshots/{}", text(&ids, "snapshot"));
    assert_eq!(site.call("GET", &path, None).await["snapshot"]["status"], "available");
    let copy = site.volume(json!({ "snapshot_id": ids["snapshot"], "name": "copy" })).await;
    site.stop().await;
    site.check(&copy, 7).await;
    site.check(&id, if done { 7 } else { 8 }).await;
}

pub fn action_of(ids: &Ids) -> String {
    format!("/v3/volumes/{}/action", text(ids, "volume"))
}

/// All of the volume is at its new place, or all of it at the old one; never at both.
async fn the_moved_volume(site: &mut Site, ids: Ids, done: bool) {
    let id = text(&ids, "volume");
    let volume = site.call("GET", &format!("/v3/volumes/{id}"), None).await["volume"].clone();
    let wanted = if done { "success" } else { "error" };
    assert_eq!((&volume["status"], &volume["migration_status"]), (&json!("available"), &json!(wanted)));
    let db = site.database().await;
    let row = db::volume::get(&mut db.read(), id.parse().expect("an id")).await.expect("reads");
    let row = row.expect("is there");
    db.close().await;
    let backend = row.host.as_ref().and_then(|pool| pool.backend.as_deref());
    assert_eq!(backend, Some(if done { "other" } else { "local" }));
    site.stop().await;
    let name = row.name_id.unwrap_or(row.id);
    assert_eq!(site.path().join("volumes").join(format!("volume-{id}")).exists(), !done);
    site.check(&name.to_string(), 7).await;
}

async fn create_snapshot(site: &Site, ids: Ids) {
    let body = json!({ "snapshot": { "volume_id": ids["volume"] } });
    site.try_call("POST", "/v3/snapshots", Some(body)).await;
}

async fn the_new_snapshot(site: &mut Site, ids: Ids, done: bool) {
    let listed = site.call("GET", "/v3/snapshots/detail", None).await;
    let snapshots = listed["snapshots"].as_array().expect("a list").clone();
    assert_eq!(snapshots.len(), 1, "{listed}");
    let wanted = if done { "available" } else { "error" };
    assert_eq!(snapshots[0]["status"], wanted, "{listed}");
    if done {
        let copy = site.volume(json!({ "snapshot_id": snapshots[0]["id"], "name": "copy" })).await;
        site.stop().await;
        site.check(&copy, 7).await;
    }
    site.stop().await;
    site.check(&text(&ids, "volume"), 7).await;
}
