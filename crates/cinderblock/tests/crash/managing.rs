//! The scenarios of managing: what is taken over or given up is whole, under one name, whenever the service dies.

use serde_json::{Value, json};

use crate::scenario::{Ids, Scenario, action_of, filled, gone, one_of, text};
use crate::site::Site;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a volume that was given up",
        operation: "volume.manage",
        prepare: |site| {
            Box::pin(async {
                let ids = filled(site).await;
                site.start(None, None).await;
                give_up(site, &ids).await;
                ids
            })
        },
        trigger: |site, ids| {
            Box::pin(async move {
                site.try_call("POST", "/v3/os-volume-manage", Some(wanted(site, &ids))).await;
            })
        },
        after: |site, ids, done| {
            Box::pin(async move {
                let volume = one_of(site, "volumes", "new").await;
                assert_eq!(volume["status"], if done { "available" } else { "error" }, "{volume}");
                let given = site.volumes().join(format!("volume-{}.unmanaged", text(&ids, "volume")));
                assert_eq!(given.exists(), !done);
                let id = text(&volume, "id");
                if done {
                    site.stop().await;
                    return site.check(&id, 7).await;
                }
                // What could not be taken over is not removed with its row.
                site.call("DELETE", &format!("/v3/volumes/{id}"), None).await;
                site.settle().await;
                gone(site, "volumes", &id).await;
                the_given_volume(site, &ids).await;
            })
        },
    },
    Scenario {
        name: "at rest",
        operation: "volume.unmanage",
        prepare: |site| Box::pin(filled(site)),
        trigger: |site, ids| {
            Box::pin(async move {
                site.try_call("POST", &action_of(&ids), Some(json!({ "os-unmanage": {} }))).await;
            })
        },
        after: |site, ids, _| {
            Box::pin(async move {
                gone(site, "volumes", &text(&ids, "volume")).await;
                the_given_volume(site, &ids).await;
            })
        },
    },
    Scenario {
        name: "one that was given up",
        operation: "snapshot.manage",
        prepare: |site| {
            Box::pin(async {
                let mut ids = with_snapshot(site).await;
                let path = format!("/v3/snapshots/{}", text(&ids, "snapshot"));
                site.call("POST", &format!("{path}/action"), Some(json!({ "os-unmanage": {} }))).await;
                site.settle().await;
                ids["name"] = format!("snapshot-{}", text(&ids, "snapshot")).into();
                ids
            })
        },
        trigger: |site, ids| Box::pin(manage_snapshot(site, ids)),
        after: |site, ids, done| {
            Box::pin(async move {
                let snapshot = one_of(site, "snapshots", "new").await;
                assert_eq!(snapshot["status"], if done { "available" } else { "error" }, "{snapshot}");
                if !done {
                    let path = format!("/v3/snapshots/{}", text(&snapshot, "id"));
                    site.call("DELETE", &path, None).await;
                    site.settle().await;
                    manage_snapshot(site, ids.clone()).await;
                    site.settle().await;
                }
                the_snapshots_bytes(site, &ids).await;
            })
        },
    },
    Scenario {
        name: "of a volume that has changed since",
        operation: "snapshot.unmanage",
        prepare: |site| Box::pin(with_snapshot(site)),
        trigger: |site, ids| {
            Box::pin(async move {
                let path = format!("/v3/snapshots/{}/action", text(&ids, "snapshot"));
                site.try_call("POST", &path, Some(json!({ "os-unmanage": {} }))).await;
            })
        },
        after: |site, mut ids, _| {
            Box::pin(async move {
                gone(site, "snapshots", &text(&ids, "snapshot")).await;
                ids["name"] = format!("snapshot-{}", text(&ids, "snapshot")).into();
                manage_snapshot(site, ids.clone()).await;
                site.settle().await;
                the_snapshots_bytes(site, &ids).await;
            })
        },
    },
    Scenario {
        name: "for volumes",
        operation: "backend.look",
        prepare: |site| Box::pin(filled(site)),
        trigger: |site, _| {
            Box::pin(async move {
                let path = format!("/v3/os-volume-manage?host={}@local", site.host());
                site.try_call("GET", &path, None).await;
            })
        },
        after: |site, ids, _| {
            Box::pin(async move {
                let path = format!("/v3/os-volume-manage/detail?host={}@local", site.host());
                let listed = site.call("GET", &path, None).await;
                assert_eq!(listed["manageable-volumes"][0]["cinder_id"], ids["volume"], "{listed}");
            })
        },
    },
];

/// Gives the volume up; the service goes on.
async fn give_up(site: &Site, ids: &Ids) {
    site.call("POST", &action_of(ids), Some(json!({ "os-unmanage": {} }))).await;
    site.settle().await;
}

fn wanted(site: &Site, ids: &Ids) -> Value {
    let source = format!("volume-{}", text(ids, "volume"));
    let host = format!("{}@local#local", site.host());
    json!({ "volume": { "host": host, "ref": { "source-name": source }, "name": "new" } })
}

/// What was given up can be taken over, and has its bytes.
async fn the_given_volume(site: &mut Site, ids: &Ids) {
    let made = site.call("POST", "/v3/os-volume-manage", Some(wanted(site, ids))).await;
    let id = text(&made["volume"], "id");
    site.until(&format!("/v3/volumes/{id}"), "volume", &["available"]).await;
    site.stop().await;
    site.check(&id, 7).await;
}

/// A volume whose snapshot has one pattern and which has another. The service runs.
async fn with_snapshot(site: &mut Site) -> Ids {
    let mut ids = filled(site).await;
    site.start(None, None).await;
    ids["snapshot"] = site.snapshot(&text(&ids, "volume")).await.into();
    site.stop().await;
    site.fill(&text(&ids, "volume"), 8).await;
    site.start(None, None).await;
    ids
}

async fn manage_snapshot(site: &Site, ids: Ids) {
    let body = json!({ "snapshot": {
        "volume_id": ids["volume"], "ref": { "source-name": ids["name"] }, "name": "new",
    } });
    site.try_call("POST", "/v3/os-snapshot-manage", Some(body)).await;
}

/// The snapshot called `new` has the old pattern, and its volume the new one.
async fn the_snapshots_bytes(site: &mut Site, ids: &Ids) {
    let snapshot = one_of(site, "snapshots", "new").await;
    assert_eq!(snapshot["status"], "available", "{snapshot}");
    let copy = site.volume(json!({ "snapshot_id": snapshot["id"] })).await;
    site.stop().await;
    site.check(&copy, 7).await;
    site.check(&text(ids, "volume"), 8).await;
}
