//! What is done to the operations on groups.

use serde_json::{Value, json};

use crate::scenario::{Ids, Scenario, connector, filled, gone, text};
use crate::site::Site;

pub const GROUPS: &[Scenario] = &[
    Scenario {
        name: "blank",
        operation: "group.create",
        prepare: |site| {
            Box::pin(async {
                let kind = kind(site).await;
                json!({ "kind": kind })
            })
        },
        trigger: |site, ids| {
            Box::pin(async move {
                let body = json!({
                    "name": "new", "group_type": ids["kind"], "volume_types": ["__DEFAULT__"],
                });
                site.try_call("POST", "/v3/groups", Some(json!({ "group": body }))).await;
            })
        },
        after: |site, _, _| Box::pin(async { assert_eq!(named(site, "new").await["status"], "available") }),
    },
    Scenario {
        name: "of a group",
        operation: "group.create_from_src",
        prepare: |site| Box::pin(grouped(site)),
        trigger: |site, ids| {
            Box::pin(async move {
                create_from(site, json!({ "source_group_id": ids["group"] })).await;
            })
        },
        after: |site, ids, done| Box::pin(the_new_group(site, ids, done)),
    },
    Scenario {
        name: "of a snapshot",
        operation: "group.create_from_src",
        prepare: |site| Box::pin(snapshotted(site)),
        trigger: |site, ids| {
            Box::pin(async move {
                create_from(site, json!({ "group_snapshot_id": ids["whole"] })).await;
            })
        },
        after: |site, ids, done| Box::pin(the_new_group(site, ids, done)),
    },
    Scenario {
        name: "with its volumes",
        operation: "group.delete",
        prepare: |site| Box::pin(grouped(site)),
        trigger: |site, ids| {
            Box::pin(async move {
                let path = format!("/v3/groups/{}/action", text(&ids, "group"));
                site.try_call("POST", &path, Some(json!({ "delete": { "delete-volumes": true } }))).await;
            })
        },
        after: |site, ids, _| {
            Box::pin(async move {
                gone(site, "groups", &text(&ids, "group")).await;
                gone(site, "volumes", &text(&ids, "volume")).await;
                gone(site, "volumes", &text(&ids, "other")).await;
            })
        },
    },
    Scenario {
        name: "at rest",
        operation: "group_snapshot.create",
        prepare: |site| Box::pin(grouped(site)),
        trigger: |site, ids| Box::pin(create_snapshot(site, ids)),
        after: |site, ids, done| Box::pin(the_new_snapshot(site, ids, done)),
    },
    Scenario {
        name: "with one of two attached",
        operation: "group_snapshot.create",
        prepare: |site| {
            Box::pin(async {
                let ids = grouped(site).await;
                let connector = json!({ "volume_uuid": ids["other"], "connector": connector() });
                let made =
                    site.call("POST", "/v3/attachments", Some(json!({ "attachment": connector }))).await;
                let id = made["attachment"]["id"].as_str().expect("an id").to_owned();
                let path = format!("/v3/attachments/{id}/action");
                site.call("POST", &path, Some(json!({ "os-complete": null }))).await;
                ids
            })
        },
        trigger: |site, ids| Box::pin(create_snapshot(site, ids)),
        after: |site, ids, done| Box::pin(the_new_snapshot(site, ids, done)),
    },
    Scenario {
        name: "at rest",
        operation: "group_snapshot.delete",
        prepare: |site| Box::pin(snapshotted(site)),
        trigger: |site, ids| {
            Box::pin(async move {
                site.try_call("DELETE", &format!("/v3/group_snapshots/{}", text(&ids, "whole")), None).await;
            })
        },
        after: |site, ids, _| {
            Box::pin(async move {
                gone(site, "group_snapshots", &text(&ids, "whole")).await;
                let listed = site.call("GET", "/v3/snapshots", None).await;
                assert_eq!(listed["snapshots"], json!([]));
                site.stop().await;
                site.check(&text(&ids, "volume"), 7).await;
                site.check(&text(&ids, "other"), 8).await;
            })
        },
    },
];

async fn kind(site: &Site) -> Value {
    let specs = json!({ "consistent_group_snapshot_enabled": "<is> True" });
    let body = json!({ "group_type": { "name": "together", "group_specs": specs } });
    site.call("POST", "/v3/group_types", Some(body)).await["group_type"]["id"].clone()
}

/// A group of two volumes with a pattern each. The service is running afterwards.
async fn grouped(site: &mut Site) -> Ids {
    let mut ids = filled(site).await;
    site.start(None, None).await;
    let other = site.volume(json!({ "size": 1, "name": "other" })).await;
    site.stop().await;
    site.fill(&other, 8).await;
    site.start(None, None).await;
    let kind = kind(site).await;
    let body = json!({ "group": { "group_type": kind, "volume_types": ["__DEFAULT__"] } });
    let made = site.call("POST", "/v3/groups", Some(body)).await;
    let path = format!("/v3/groups/{}", made["group"]["id"].as_str().expect("an id"));
    site.until(&path, "group", &["available"]).await;
    let add = format!("{},{other}", text(&ids, "volume"));
    site.call("PUT", &path, Some(json!({ "group": { "add_volumes": add } }))).await;
    ids["group"] = made["group"]["id"].clone();
    ids["other"] = other.into();
    ids
}

/// The same with a snapshot of it.
async fn snapshotted(site: &mut Site) -> Ids {
    let mut ids = grouped(site).await;
    let body = json!({ "group_snapshot": { "group_id": ids["group"] } });
    let made = site.call("POST", "/v3/group_snapshots", Some(body)).await["group_snapshot"].clone();
    let path = format!("/v3/group_snapshots/{}", made["id"].as_str().expect("an id"));
    site.until(&path, "group_snapshot", &["available"]).await;
    ids["whole"] = made["id"].clone();
    ids
}

async fn create_snapshot(site: &Site, ids: Ids) {
    let body = json!({ "group_snapshot": { "group_id": ids["group"] } });
    site.try_call("POST", "/v3/group_snapshots", Some(body)).await;
}

async fn create_from(site: &Site, mut origin: Value) {
    origin["name"] = "new".into();
    site.try_call("POST", "/v3/groups/action", Some(json!({ "create-from-src": origin }))).await;
}

/// The group of that name, with its volumes.
async fn named(site: &Site, name: &str) -> Value {
    let listed = site.call("GET", &format!("/v3/groups/detail?list_volume=true&name={name}"), None).await;
    let found = listed["groups"].as_array().expect("a list").clone();
    assert_eq!(found.len(), 1, "{listed}");
    found[0].clone()
}

/// The group called `new` is there with both patterns; or it and its volumes are in error, and it can be removed.
async fn the_new_group(site: &mut Site, ids: Ids, done: bool) {
    let group = named(site, "new").await;
    let wanted = if done { "available" } else { "error" };
    assert_eq!(group["status"], wanted, "{group}");
    let mut copies = Vec::new();
    for id in group["volumes"].as_array().expect("volumes") {
        let path = format!("/v3/volumes/{}", id.as_str().expect("an id"));
        let volume = site.call("GET", &path, None).await["volume"].clone();
        assert_eq!(volume["status"], wanted, "{volume}");
        let source = match volume["snapshot_id"].as_str() {
            Some(snapshot) => {
                let path = format!("/v3/snapshots/{snapshot}");
                site.call("GET", &path, None).await["snapshot"]["volume_id"].clone()
            }
            None => volume["source_volid"].clone(),
        };
        copies.push((id.as_str().expect("an id").to_owned(), source));
    }
    assert_eq!(copies.len(), 2, "{group}");
    if !done {
        let path = format!("/v3/groups/{}/action", group["id"].as_str().expect("an id"));
        site.call("POST", &path, Some(json!({ "delete": { "delete-volumes": true } }))).await;
        site.settle().await;
        gone(site, "groups", group["id"].as_str().expect("an id")).await;
    }
    site.stop().await;
    if done {
        for (copy, source) in copies {
            site.check(&copy, if source == ids["volume"] { 7 } else { 8 }).await;
        }
    }
    site.check(&text(&ids, "volume"), 7).await;
    site.check(&text(&ids, "other"), 8).await;
}

/// The group snapshot is there with both parts, and copies of it are as they should be; or all of it is in error.
async fn the_new_snapshot(site: &mut Site, ids: Ids, done: bool) {
    let wanted = if done { "available" } else { "error" };
    let listed = site.call("GET", "/v3/group_snapshots/detail", None).await;
    let whole = &listed["group_snapshots"][0];
    assert_eq!(whole["status"], wanted, "{listed}");
    let listed = site.call("GET", "/v3/snapshots/detail", None).await;
    let parts = listed["snapshots"].as_array().expect("a list");
    assert_eq!(parts.len(), 2, "{listed}");
    assert!(parts.iter().all(|part| part["status"] == wanted), "{listed}");
    if done {
        create_from(site, json!({ "group_snapshot_id": whole["id"] })).await;
        site.settle().await;
        the_new_group(site, ids, true).await;
    }
}
