//! Transfers: one volume, two projects, one key (I2, I6).

mod common;

use api::Auth;
use common::{PROJECT, Reply, Service};
use serde_json::{Value, json};

const OTHER: &str = "fedcba9876543210fedcba9876543210";

struct Projects(Service);

impl Projects {
    async fn start() -> Self {
        Self(Service::start(Auth::Open).await)
    }

    async fn call(&self, project: &str, method: &str, path: &str, body: Value) -> Reply {
        let token = format!("user-of-{project}:{project}");
        let mut headers = vec![("x-auth-token", token.as_str()), ("openstack-api-version", "volume 3.71")];
        if body.is_null() {
            return self.0.send(method, path, &headers, "").await;
        }
        headers.push(("content-type", "application/json"));
        self.0.send(method, path, &headers, body.to_string()).await
    }

    /// An available volume of 2 GiB with a snapshot, of [`PROJECT`].
    async fn volume(&self) -> (String, String) {
        let made = self.call(PROJECT, "POST", "/v3/volumes", json!({"volume": {"size": 2}})).await.json();
        let volume = made["volume"]["id"].as_str().expect("an id").to_owned();
        self.available("volumes", &volume).await;
        let wanted = json!({"snapshot": {"volume_id": volume}});
        // A snapshot needs a place that its volume has not got here: its row is enough.
        let id = model::SnapshotId::new();
        let mut tx = self.0.cloud.db.begin().await.expect("begins");
        let row = db::snapshot::NewSnapshot {
            id,
            volume_id: volume.parse().expect("an id"),
            user_id: "me".into(),
            project_id: PROJECT.into(),
            size: model::GiB(2),
            name: wanted["snapshot"]["name"].as_str().map(str::to_owned),
            description: None,
            type_id: made["volume"]["volume_type_id"].as_str().and_then(|id| id.parse().ok()).expect("an id"),
            use_quota: true,
            metadata: Default::default(),
        };
        db::snapshot::insert(&mut tx, &row).await.expect("inserts");
        let used =
            [("snapshots", 1), ("gigabytes", 2), ("snapshots___DEFAULT__", 1), ("gigabytes___DEFAULT__", 2)];
        let used = used.map(|(resource, delta)| model::quota::Usage::of(resource, delta));
        let counted = db::quota::take(&mut tx, PROJECT, &used, &Default::default()).await.expect("counts");
        assert_eq!(counted, Ok(()));
        tx.commit().await.expect("commits");
        self.available("snapshots", &id.to_string()).await;
        (volume, id.to_string())
    }

    async fn available(&self, kind: &str, id: &str) {
        let body = json!({"os-reset_status": {"status": "available"}});
        let reply = self.call(PROJECT, "POST", &format!("/v3/{kind}/{id}/action"), body).await;
        assert_eq!(reply.status, 202, "{}", reply.text);
    }

    /// Whose the volume is, and its status.
    async fn volume_now(&self, id: &str) -> (Value, Value) {
        let volume = self.call(PROJECT, "GET", &format!("/v3/volumes/{id}"), Value::Null).await.json();
        (volume["volume"]["os-vol-tenant-attr:tenant_id"].clone(), volume["volume"]["status"].clone())
    }

    async fn offer(&self, volume: &str, no_snapshots: bool) -> (String, String) {
        let body = json!({"transfer": {"volume_id": volume, "name": " n ", "no_snapshots": no_snapshots}});
        let reply = self.call(PROJECT, "POST", "/v3/volume-transfers", body).await;
        assert_eq!(reply.status, 202, "{}", reply.text);
        let made = reply.json();
        let text = |key: &str| made["transfer"][key].as_str().expect("a text").to_owned();
        assert_eq!((text("name").as_str(), text("auth_key").len()), ("n", 16));
        (format!("/v3/volume-transfers/{}", text("id")), text("auth_key"))
    }

    async fn accept(&self, transfer: &str, key: &str) -> Reply {
        let body = json!({"accept": {"auth_key": key}});
        self.call(OTHER, "POST", &format!("{transfer}/accept"), body).await
    }

    /// Counted and recounted use of a project must agree (I6).
    async fn used(&self, project: &str) -> [i64; 3] {
        let read = &mut self.0.cloud.db.read();
        let counted = db::quota::usages(read, project).await.expect("reads");
        let recounted = db::quota::recount(read, project, true).await.expect("reads");
        for (resource, used) in &counted {
            assert_eq!(used.in_use, recounted.get(resource).copied().unwrap_or(0), "{project}: {resource}");
            assert_eq!(used.reserved, 0);
        }
        ["volumes", "snapshots", "gigabytes"]
            .map(|resource| counted.get(resource).map_or(0, |used| used.in_use))
    }
}

#[tokio::test]
async fn i6_owner_and_both_quotas_change_at_once() {
    let projects = Projects::start().await;
    let (volume, snapshot) = projects.volume().await;
    assert_eq!((projects.used(PROJECT).await, projects.used(OTHER).await), ([1, 1, 4], [0, 0, 0]));
    let (transfer, key) = projects.offer(&volume, false).await;
    assert_eq!(projects.volume_now(&volume).await, (json!(PROJECT), json!("awaiting-transfer")));
    let accepted = projects.accept(&transfer, &key).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    assert_eq!(accepted.json()["transfer"]["volume_id"], *volume);
    assert_eq!(projects.volume_now(&volume).await, (json!(OTHER), json!("available")));
    assert_eq!((projects.used(PROJECT).await, projects.used(OTHER).await), ([0, 0, 0], [1, 1, 4]));
    let theirs = projects.call(OTHER, "GET", &format!("/v3/snapshots/{snapshot}"), Value::Null).await.json();
    assert_eq!(theirs["snapshot"]["os-extended-snapshot-attributes:project_id"], OTHER);
    assert_eq!(projects.accept(&transfer, &key).await.status, 404, "it is over");
    let gone = projects.call(PROJECT, "GET", &transfer, Value::Null).await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn snapshots_stay_when_the_offer_says_so() {
    let projects = Projects::start().await;
    let (volume, snapshot) = projects.volume().await;
    let (transfer, key) = projects.offer(&volume, true).await;
    assert_eq!(projects.accept(&transfer, &key).await.status, 202);
    assert_eq!((projects.used(PROJECT).await, projects.used(OTHER).await), ([0, 1, 2], [1, 0, 2]));
    let ours = projects.call(PROJECT, "GET", &format!("/v3/snapshots/{snapshot}"), Value::Null).await.json();
    assert_eq!(ours["snapshot"]["os-extended-snapshot-attributes:project_id"], PROJECT);
}

#[tokio::test]
async fn what_is_refused_changes_nothing() {
    let projects = Projects::start().await;
    let (volume, _) = projects.volume().await;
    let (transfer, key) = projects.offer(&volume, false).await;
    let offered = (json!(PROJECT), json!("awaiting-transfer"));

    let id = transfer.rsplit('/').next().expect("an id");
    let wrong = projects.accept(&transfer, "nope").await.fault();
    assert_eq!(wrong, (400, format!("Invalid auth key: Attempt to transfer {id} with invalid auth key.")));
    let limit = |resource: &'static str, n: i64| {
        projects.call(
            OTHER,
            "PUT",
            "/v3/os-quota-sets/fedcba9876543210fedcba9876543210",
            json!({"quota_set": {resource: n}}),
        )
    };
    assert_eq!(limit("gigabytes", 3).await.status, 200);
    let over = projects.accept(&transfer, &key).await;
    let text = "Requested volume or snapshot exceeds allowed gigabytes quota. Requested 4G, quota is 3G and 0G has \
                been consumed.";
    assert_eq!((over.fault(), over.header("retry-after")), ((413, text.into()), Some("0")));
    assert_eq!(limit("gigabytes", -1).await.status, 200);
    assert_eq!(limit("snapshots", 0).await.status, 200);
    let text = "SnapshotLimitExceeded: Maximum number of snapshots allowed (0) exceeded";
    assert_eq!(projects.accept(&transfer, &key).await.fault(), (413, text.into()));
    assert_eq!(projects.volume_now(&volume).await, offered);
    assert_eq!((projects.used(PROJECT).await, projects.used(OTHER).await), ([1, 1, 4], [0, 0, 0]));

    let again = json!({"transfer": {"volume_id": volume}});
    let twice = projects.call(PROJECT, "POST", "/v3/volume-transfers", again).await.fault();
    assert_eq!(twice, (400, "Invalid volume: status must be available".into()));
    assert_eq!(projects.call(PROJECT, "DELETE", &transfer, Value::Null).await.status, 202);
    assert_eq!(projects.volume_now(&volume).await, (json!(PROJECT), json!("available")));
    assert_eq!(projects.accept(&transfer, &key).await.status, 404, "withdrawn");
}

#[tokio::test]
async fn i2_of_two_who_have_the_key_one_gets_the_volume() {
    let projects = Projects::start().await;
    let (volume, _) = projects.volume().await;
    let (transfer, key) = projects.offer(&volume, false).await;
    let (one, other) = tokio::join!(projects.accept(&transfer, &key), projects.accept(&transfer, &key));
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 404]);
    assert_eq!(projects.used(OTHER).await, [1, 1, 4]);
}

#[tokio::test]
async fn both_generations_list_the_same() {
    let projects = Projects::start().await;
    let (volume, _) = projects.volume().await;
    let (transfer, _) = projects.offer(&volume, true).await;
    let id = transfer.rsplit('/').next().expect("an id");
    for path in ["/v3/volume-transfers", "/v3/os-volume-transfer"] {
        let list = projects.call(PROJECT, "GET", &format!("{path}?name=n&limit=1"), Value::Null).await.json();
        assert_eq!(list["transfers"][0]["id"], id, "{path}");
        assert_eq!(list["transfers"][0].as_object().map(serde_json::Map::len), Some(4));
        let detail = projects.call(PROJECT, "GET", &format!("{path}/detail"), Value::Null).await.json();
        assert_eq!(detail["transfers"][0]["no_snapshots"], true);
        assert_eq!(detail["transfers"][0]["source_project_id"], PROJECT);
        let theirs = projects.call(OTHER, "GET", path, Value::Null).await.json();
        assert_eq!(theirs, json!({"transfers": []}), "of other projects' volumes nothing is shown");
    }
    let old = json!({"transfer": {"volume_id": volume, "no_snapshots": true}});
    assert_eq!(projects.call(PROJECT, "POST", "/v3/os-volume-transfer", old).await.status, 400);
}
