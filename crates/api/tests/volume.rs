//! Volumes and their metadata over HTTP.

mod common;

use api::Auth;
use common::{PROJECT, Service};
use serde_json::{Value, json};

async fn service() -> Service {
    Service::start(Auth::Open).await
}

async fn volume(service: &Service, name: &str) -> String {
    let body = json!({"volume": {"size": 1, "name": name, "metadata": {"k": name}}});
    let reply = service.call(71, "POST", "/v3/volumes", body).await;
    assert_eq!(reply.status, 202, "{}", reply.text);
    reply.json()["volume"]["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn a_new_volume_is_shown_as_its_version_knows_it() {
    let service = service().await;
    let body = json!({"volume": {"size": "1", "name": " v1 ", "description": null, "metadata": {"a": "1"}}});
    let path = format!("/v3/{PROJECT}/volumes");
    let newest = service.call(71, "POST", &path, body.clone()).await.json();
    let keys =
        |volume: &Value| volume["volume"].as_object().expect("a volume").keys().cloned().collect::<Vec<_>>();
    let base = [
        "id",
        "status",
        "size",
        "availability_zone",
        "created_at",
        "updated_at",
        "name",
        "description",
        "volume_type",
        "snapshot_id",
        "source_volid",
        "metadata",
        "links",
        "user_id",
        "bootable",
        "encrypted",
        "replication_status",
        "consistencygroup_id",
        "multiattach",
        "attachments",
        "migration_status",
    ];
    let later = [
        "group_id",
        "provider_id",
        "shared_targets",
        "service_uuid",
        "cluster_name",
        "volume_type_id",
        "consumes_quota",
    ];
    assert_eq!(keys(&newest), [&base[..], &later[..]].concat());
    assert_eq!(keys(&service.call(0, "POST", &path, body.clone()).await.json()), base);
    let volume = &newest["volume"];
    assert_eq!(
        (&volume["status"], &volume["size"], &volume["name"]),
        (&json!("creating"), &json!(1), &json!("v1"))
    );
    assert_eq!((&volume["bootable"], &volume["volume_type"]), (&json!("false"), &json!("__DEFAULT__")));
    let id = volume["id"].as_str().expect("an id");
    assert_eq!(volume["links"][0]["href"], format!("http://h:1/v3/{PROJECT}/volumes/{id}"));
    assert_eq!(volume["links"][1]["href"], format!("http://h:1/{PROJECT}/volumes/{id}"));
    let shown = service.call(0, "GET", &format!("/v3/volumes/{id}"), Value::Null).await.json();
    assert_eq!(shown["volume"]["os-vol-tenant-attr:tenant_id"], PROJECT);
    assert!(shown["volume"].as_object().expect("a volume").contains_key("os-vol-host-attr:host"));
    assert_eq!(shown["volume"]["links"][0]["href"], format!("http://h:1/v3/volumes/{id}"));
}

#[tokio::test]
async fn lists_come_in_pages() {
    let service = service().await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        ids.push(volume(&service, name).await);
    }
    let get = |path: &'static str| service.call(45, "GET", path, Value::Null);
    let page = get("/v3/volumes?sort=name:asc&limit=2&with_count=1").await.json();
    let names = |page: &Value| {
        let list = page["volumes"].as_array().expect("a list");
        list.iter().map(|v| v["name"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&page), ["a", "b"]);
    assert_eq!(page["count"], 3);
    let next = page["volumes_links"][0]["href"].as_str().expect("a link").to_owned();
    assert_eq!(next, format!("http://h:1/v3/volumes?sort=name%3Aasc&limit=2&with_count=1&marker={}", ids[1]));
    let path = next.trim_start_matches("http://h:1").to_owned();
    let rest = service.call(45, "GET", &path, Value::Null).await.json();
    assert_eq!(names(&rest), ["c"]);
    let all = get("/v3/volumes/detail?sort=name:asc").await.json();
    assert_eq!((names(&all).len(), all.get("volumes_links"), all.get("count")), (3, None, None));
    assert_eq!(names(&get("/v3/volumes?name~=B").await.json()), ["b"]);
    assert_eq!(names(&get("/v3/volumes?metadata={'k':'c'}").await.json()), ["c"]);
    assert!(names(&get("/v3/volumes?nosuch=1").await.json()).is_empty());
    assert!(names(&get("/v3/volumes?limit=0").await.json()).is_empty());
    assert_eq!(
        get("/v3/volumes?sort=nosuch").await.fault(),
        (400, "Invalid input received: Invalid sort key".into())
    );
    let unknown = "00000000-0000-0000-0000-00000000dead";
    let fault = service.call(0, "GET", &format!("/v3/volumes?marker={unknown}"), Value::Null).await.fault();
    assert_eq!(fault, (404, format!("Volume {unknown} could not be found.")));
}

#[tokio::test]
async fn metadata_is_guarded_by_its_tag() {
    let service = service().await;
    let path = format!("/v3/volumes/{}/metadata", volume(&service, "v").await);
    let first = service.call(15, "GET", &path, Value::Null).await;
    assert_eq!(first.json(), json!({"metadata": {"k": "v"}}));
    assert_eq!(first.header("content-type"), Some("text/html; charset=UTF-8"));
    let tag = first.header("etag").expect("a tag").to_owned();
    assert!(service.call(14, "GET", &path, Value::Null).await.header("etag").is_none());
    let body = json!({"metadata": {"x": "y"}}).to_string();
    let put = |tag: String, version: &'static str| {
        let token = format!("me:{PROJECT}");
        let (service, path, body) = (&service, &path, &body);
        async move {
            let headers = [
                ("x-auth-token", token.as_str()),
                ("openstack-api-version", version),
                ("content-type", "application/json"),
                ("if-match", tag.as_str()),
            ];
            service.send("PUT", path, &headers, body.as_str()).await
        }
    };
    let stale = put("deadbeef".into(), "volume 3.15").await;
    assert_eq!((stale.status.as_u16(), stale.text.as_str()), (412, ""));
    assert_eq!(put(tag, "volume 3.15").await.json(), json!({"metadata": {"x": "y"}}));
    assert_eq!(put("deadbeef".into(), "volume 3.14").await.status, 200, "older versions know no tags");
}

#[tokio::test]
async fn single_keys_of_metadata() {
    let service = service().await;
    let id = volume(&service, "v").await;
    let path = format!("/v3/volumes/{id}/metadata/k");
    assert_eq!(service.call(0, "GET", &path, Value::Null).await.json(), json!({"meta": {"k": "v"}}));
    let set = service.call(0, "PUT", &path, json!({"meta": {"k": "w"}})).await;
    assert_eq!(set.json(), json!({"meta": {"k": "w"}}));
    let other = service.call(0, "PUT", &path, json!({"meta": {"d": "w"}})).await;
    assert_eq!(other.fault(), (400, "Request body and URI mismatch".into()));
    let gone = service.call(0, "DELETE", &path, Value::Null).await;
    assert_eq!((gone.status.as_u16(), gone.header("content-type")), (200, Some("text/html; charset=UTF-8")));
    let missing = format!("Volume {id} has no metadata with key k.");
    assert_eq!(service.call(0, "DELETE", &path, Value::Null).await.fault(), (404, missing.clone()));
    assert_eq!(service.call(0, "GET", &path, Value::Null).await.fault(), (404, missing));
}

#[tokio::test]
async fn what_is_not_there_is_named_as_it_was_asked_for() {
    let service = service().await;
    for id in ["abc", "00000000-0000-0000-0000-00000000dead", "00000000000000000000000000000bad"] {
        let fault = service.call(0, "GET", &format!("/v3/volumes/{id}"), Value::Null).await.fault();
        assert_eq!(fault, (404, format!("Volume {id} could not be found.")));
    }
    let body = json!({"volume": {"size": 1, "backup_id": "nonsense"}});
    let fault = service.call(46, "POST", "/v3/volumes", body).await.fault();
    assert_eq!(fault, (404, "Backup nonsense could not be found.".into()));
}

#[tokio::test]
async fn the_summary_shows_metadata_from_its_version_on() {
    let service = service().await;
    volume(&service, "v").await;
    let at = |minor| service.call(minor, "GET", "/v3/volumes/summary", Value::Null);
    assert_eq!(at(11).await.status, 404);
    assert_eq!(at(12).await.json(), json!({"volume-summary": {"total_count": 1, "total_size": 1}}));
    let newest = json!({"volume-summary": {"total_count": 1, "total_size": 1, "metadata": {"k": ["v"]}}});
    assert_eq!(at(36).await.json(), newest);
}

#[tokio::test]
async fn what_is_kept_of_an_image_is_shown_set_and_unset() {
    let service = service().await;
    let id = volume(&service, "v").await;
    let path = format!("/v3/volumes/{id}/action");
    let act = |name: &'static str, inner: Value| service.call(71, "POST", &path, json!({ name: inner }));
    assert_eq!(act("os-show_image_metadata", Value::Null).await.json(), json!({"metadata": {}}));
    let set = act("os-set_image_metadata", json!({"metadata": {"os_type": "linux", "a": "b"}})).await;
    assert_eq!(set.json(), json!({"metadata": {"a": "b", "os_type": "linux"}}));
    let unset = act("os-unset_image_metadata", json!({"key": "a"})).await;
    assert_eq!((unset.status.as_u16(), unset.text.as_str()), (200, ""));
    let again = act("os-unset_image_metadata", json!({"key": "a"})).await.fault();
    assert_eq!(again, (404, format!("Glance metadata for volume/snapshot {id} cannot be found.")));
    let shown = service.call(71, "GET", &format!("/v3/volumes/{id}"), Value::Null).await.json();
    assert_eq!(shown["volume"]["volume_image_metadata"], json!({"os_type": "linux"}));
    assert_eq!(shown["volume"]["metadata"], json!({"k": "v"}), "the user's is another");
}
