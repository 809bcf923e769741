//! Quotas, limits, types, services, messages and jobs over HTTP.

mod common;

use api::Auth;
use common::{PROJECT, Service};
use control::policy::{Options, Policy};
use serde_json::{Value, json};

async fn service() -> Service {
    Service::start(Auth::Open).await
}

#[tokio::test]
async fn quotas_are_shown_changed_and_reset() {
    let service = service().await;
    let path = "/v3/os-quota-sets/0abc";
    let get = |path: &'static str| service.call(0, "GET", path, Value::Null);
    let wanted = json!({"quota_set": {
        "volumes": 10, "per_volume_gigabytes": -1, "snapshots": 10, "gigabytes": 1000, "backups": 10,
        "backup_gigabytes": 1000, "volumes___DEFAULT__": -1, "gigabytes___DEFAULT__": -1,
        "snapshots___DEFAULT__": -1, "groups": 10, "id": "0abc",
    }});
    assert_eq!(get(path).await.json(), wanted);
    let change = json!({"quota_set": {"volumes": "3", "tenant_id": "x"}});
    let changed = service.call(0, "PUT", path, change).await.json();
    assert_eq!((&changed["quota_set"]["volumes"], changed["quota_set"].get("id")), (&json!(3), None));
    let usage = get("/v3/os-quota-sets/0abc?usage=true").await.json();
    assert_eq!(usage["quota_set"]["volumes"], json!({"limit": 3, "in_use": 0, "reserved": 0}));
    assert_eq!(get("/v3/os-quota-sets/0abc/defaults").await.json(), wanted);
    let reset = service.call(0, "DELETE", path, Value::Null).await;
    assert_eq!((reset.status.as_u16(), reset.text.as_str()), (200, ""));
    assert_eq!(get(path).await.json(), wanted);
}

#[tokio::test]
async fn quotas_do_not_go_below_what_is_used() {
    let service = service().await;
    let made = service.call(0, "POST", "/v3/volumes", json!({"volume": {"size": 2}})).await;
    assert_eq!(made.status, 202);
    let path = format!("/v3/os-quota-sets/{PROJECT}");
    let refused = service.call(0, "PUT", &path, json!({"quota_set": {"snapshots": 1, "gigabytes": 1}})).await;
    let text = "Quota gigabytes limit must be equal or greater than existing resources. Current usage is 2 and the \
                requested limit is 1.";
    assert_eq!(refused.fault(), (400, text.into()));
    let kept = service.call(0, "GET", &path, Value::Null).await.json();
    assert_eq!(kept["quota_set"]["snapshots"], 10, "all of a change or nothing");
    let limits = service.call(0, "GET", "/v3/limits", Value::Null).await.json();
    assert_eq!(limits["limits"]["absolute"]["totalGigabytesUsed"], 2);
    assert_eq!(limits["limits"]["absolute"].as_object().map(serde_json::Map::len), Some(10));
    let theirs = service.call(39, "GET", "/v3/limits?project_id=0abc", Value::Null).await.json();
    assert_eq!(theirs["limits"]["absolute"]["totalGigabytesUsed"], 0);
    let ours = service.call(38, "GET", "/v3/limits?project_id=0abc", Value::Null).await.json();
    assert_eq!(ours, limits, "older versions know no other project");
}

#[tokio::test]
async fn over_quota_is_said_with_when_to_come_back() {
    let service = service().await;
    let path = format!("/v3/os-quota-sets/{PROJECT}");
    service.call(0, "PUT", &path, json!({"quota_set": {"volumes": 0}})).await;
    let refused = service.call(0, "POST", "/v3/volumes", json!({"volume": {"size": 1}})).await;
    assert_eq!(refused.header("retry-after"), Some("0"));
    let text = "VolumeLimitExceeded: Maximum number of volumes allowed (0) exceeded for quota 'volumes'.";
    assert_eq!(refused.json(), json!({"overLimit": {"code": 413, "message": text, "retryAfter": "0"}}));
}

#[tokio::test]
async fn classes_limit_those_who_have_no_limits_of_their_own() {
    let service = service().await;
    let changed = service
        .call(0, "PUT", "/v3/os-quota-class-sets/default", json!({"quota_class_set": {"backups": 4}}))
        .await;
    assert_eq!(changed.json()["quota_class_set"]["backups"], 4);
    let project = service.call(0, "GET", "/v3/os-quota-sets/0abc", Value::Null).await.json();
    assert_eq!(project["quota_set"]["backups"], 4);
    let other = service.call(0, "GET", "/v3/os-quota-class-sets/other", Value::Null).await.json();
    assert_eq!(
        (&other["quota_class_set"]["backups"], &other["quota_class_set"]["id"]),
        (&json!(4), &json!("other"))
    );
    let bad = json!({"quota_class_set": {"nope": 1}});
    let fault = service.call(0, "PUT", "/v3/os-quota-class-sets/other", bad).await.fault();
    assert_eq!(fault, (400, "Invalid input received: Bad key(s) in quota class set: nope".into()));
}

#[tokio::test]
async fn types_are_found_by_their_extra_specs() {
    let service = service().await;
    for (name, tier) in [("gold", "1"), ("zinc", "2")] {
        let body = json!({"volume_type": {"name": name, "extra_specs": {"lab:tier": tier}}});
        assert_eq!(service.call(0, "POST", "/v3/types", body).await.status, 200);
    }
    let found = service.call(52, "GET", "/v3/types?extra_specs={'lab:tier':'2'}", Value::Null).await.json();
    let names: Vec<&Value> =
        found["volume_types"].as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["zinc"]);
    let private = json!({"volume_type": {"name": "priv", "os-volume-type-access:is_public": false}});
    let made = service.call(0, "POST", "/v3/types", private).await.json();
    assert_eq!(made["volume_type"].get("qos_specs_id"), None);
    let id = made["volume_type"]["id"].as_str().expect("an id").to_owned();
    let access = service.call(0, "GET", &format!("/v3/types/{id}/os-volume-type-access"), Value::Null).await;
    assert_eq!(access.json(), json!({"volume_type_access": []}));
    let public = |value: &str| service_list(&service, format!("/v3/types?is_public={value}&sort=name:asc"));
    assert_eq!(public("False").await, ["priv"]);
    assert_eq!(public("None").await.len(), 4);
    assert_eq!(public("True").await.len(), 3);
    let bad = service.call(0, "GET", "/v3/types?is_public=perhaps", Value::Null).await;
    assert_eq!(bad.fault(), (400, "Invalid is_public filter [perhaps]".into()));
}

async fn service_list(service: &Service, path: String) -> Vec<String> {
    let list = service.call(0, "GET", &path, Value::Null).await.json();
    let list = list["volume_types"].as_array().expect("a list").clone();
    list.iter().map(|one| one["name"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn what_a_type_shows_follows_the_rules() {
    let rules = "volume_extension:types_extra_specs:read_sensitive: '!'\n\
                 volume_extension:access_types_qos_specs_id: '!'\n";
    let policy = Policy::load(&[("policy.yaml", rules)], &Options::default()).expect("rules");
    let service = Service::with_policy(Auth::Open, policy).await;
    let specs = json!({"multiattach": "<is> False", "secret": "1"});
    let body = json!({"volume_type": {"name": "t", "extra_specs": specs}});
    let id = service.call(0, "POST", "/v3/types", body).await.json()["volume_type"]["id"].clone();
    let path = format!("/v3/types/{}", id.as_str().expect("an id"));
    let shown = service.call(0, "GET", &path, Value::Null).await.json()["volume_type"].clone();
    assert_eq!(shown["extra_specs"], json!({"multiattach": "<is> False"}));
    assert_eq!(shown.get("qos_specs_id"), None);
    let hidden = service.call(52, "GET", "/v3/types?extra_specs={'secret':'1'}", Value::Null).await.json();
    assert_eq!(hidden, json!({"volume_types": []}), "a filter would tell the value");
}

#[tokio::test]
async fn services_say_what_they_are_asked_to() {
    let service = service().await;
    let list =
        service.call(49, "GET", "/v3/os-services?host=node&binary=cinder-volume", Value::Null).await.json();
    let one = &list["services"][0];
    assert_eq!(
        (&one["host"], &one["state"], &one["cluster"]),
        (&json!("node@local"), &json!("up"), &Value::Null)
    );
    assert!(one.as_object().expect("a service").contains_key("backend_state"));
    let older = service.call(6, "GET", "/v3/os-services", Value::Null).await.json();
    let keys: Vec<&String> = older["services"][0].as_object().expect("a service").keys().collect();
    assert!(!keys.contains(&&"cluster".to_owned()) && !keys.contains(&&"backend_state".to_owned()));
    let body = json!({"host": "node@local", "service": "cinder-volume", "disabled_reason": "repairs"});
    let disabled = service.call(0, "PUT", "/v3/os-services/disable-log-reason", body).await.json();
    let wanted = json!({
        "host": "node@local", "service": "cinder-volume", "binary": "", "status": "disabled", "disabled": true,
        "disabled_reason": "repairs",
    });
    assert_eq!(disabled, wanted);
    let zones = service.call(0, "GET", "/v3/os-availability-zone", Value::Null).await.json();
    assert_eq!(
        zones,
        json!({"availabilityZoneInfo": [{"zoneName": "nova", "zoneState": {"available": false}}]})
    );
    let missing = service.call(0, "PUT", "/v3/os-services/enable", json!({"binary": "x"})).await.fault();
    assert_eq!(missing, (400, "Invalid input received: Host field is missing.".into()));
}

#[tokio::test]
async fn messages_exist_from_their_version_on() {
    let service = service().await;
    assert_eq!(service.call(2, "GET", "/v3/messages", Value::Null).await.status, 404);
    assert_eq!(service.call(3, "GET", "/v3/messages", Value::Null).await.json(), json!({"messages": []}));
    assert_eq!(service.call(5, "GET", "/v3/messages?limit=x", Value::Null).await.status, 400);
    let unknown = "00000000-0000-0000-0000-00000000dead";
    let fault = service.call(3, "GET", &format!("/v3/messages/{unknown}"), Value::Null).await.fault();
    assert_eq!(fault, (404, format!("Message {unknown} could not be found.")));
}

#[tokio::test]
async fn jobs_are_shown_and_stopped() {
    let service = service().await;
    let made = service.call(0, "POST", "/v3/volumes", json!({"volume": {"size": 1}})).await.json();
    let volume = made["volume"]["id"].as_str().expect("an id");
    let path = format!("/cinderblock/v1/jobs?resource_id={volume}&active=1");
    let list = service.call(0, "GET", &path, Value::Null).await;
    assert_eq!(list.header("openstack-api-version"), None, "our own routes have no microversions");
    let job = list.json()["jobs"][0].clone();
    assert_eq!((&job["operation"], &job["state"]), (&json!("volume.create"), &json!("queued")));
    assert_eq!((&job["resource_id"], &job["project_id"]), (&json!(volume), &json!(PROJECT)));
    assert!(job["step"].is_string() && job.get("request").is_none());
    let path = format!("/cinderblock/v1/jobs/{}", job["id"].as_str().expect("an id"));
    let cancelled = service.call(0, "POST", &format!("{path}/cancel"), Value::Null).await;
    assert_eq!(cancelled.status, 202);
    assert_eq!(cancelled.json()["job"]["cancel_requested"], true);
    assert_eq!(service.call(0, "GET", &path, Value::Null).await.json()["job"]["id"], job["id"]);
    let theirs = service.send("GET", "/cinderblock/v1/jobs", &[("x-auth-token", "you:00ff")], "").await;
    assert_eq!(theirs.json(), json!({"jobs": []}));
}

#[tokio::test]
async fn a_frozen_backend_is_kept_as_it_is_until_it_is_thawed() {
    let service = service().await;
    let put = |path: &'static str, host: &'static str| service.call(71, "PUT", path, json!({ "host": host }));
    let frozen = put("/v3/os-services/freeze", "node@local").await;
    assert_eq!((frozen.status.as_u16(), frozen.text.as_str()), (200, ""));
    let text = "Invalid input received: No service could be changed: frozen in ['node@local'] must be False to failover.";
    assert_eq!(put("/v3/os-services/freeze", "node").await.fault(), (400, text.into()));
    let shown =
        async || service.call(71, "GET", "/v3/os-services?binary=cinder-volume", Value::Null).await.json();
    let now = shown().await["services"][0].clone();
    assert_eq!(
        (&now["frozen"], &now["status"], &now["disabled_reason"]),
        (&json!(true), &json!("disabled"), &json!("frozen"))
    );
    assert_eq!(put("/v3/os-services/thaw", "node@local").await.status, 200);
    let now = shown().await["services"][0].clone();
    assert_eq!((&now["frozen"], &now["status"]), (&json!(false), &json!("enabled")));
    assert_eq!(
        put("/v3/os-services/thaw", "nohost").await.fault(),
        (400, "No service found with host=nohost".into())
    );
    let both = json!({"host": "node@local", "cluster": "c"});
    let text = "Invalid input received: One and only one of cluster and host must be set.";
    assert_eq!(service.call(26, "PUT", "/v3/os-services/thaw", both).await.fault(), (400, text.into()));
    let none = service.call(25, "PUT", "/v3/os-services/thaw", json!({"cluster": "c"})).await.fault();
    assert_eq!(none, (400, "Invalid input received: Host field is missing.".into()));
    let over = put("/v3/os-services/failover_host", "node@local").await.fault();
    let text = "Invalid input received: No service could be changed: replication_status in ['node@local'] must be \
                enabled or failed-over and must be up to failover.";
    assert_eq!(over, (400, text.into()));
}

#[tokio::test]
async fn hosts_are_listed_counted_and_switched() {
    let service = service().await;
    let get = |path: &'static str| service.call(0, "GET", path, Value::Null);
    let hosts = get("/v3/os-hosts?zone=nova").await.json();
    assert_eq!(hosts["hosts"][0]["host_name"], "node@local");
    assert_eq!(get("/v3/os-hosts?zone=elsewhere").await.json(), json!({"hosts": []}));
    let empty = json!({"host": [{"resource": {
        "host": "node@local", "project": "(total)", "volume_count": "0", "total_volume_gb": "0",
        "snapshot_count": "0", "total_snapshot_gb": "0",
    }}]});
    assert_eq!(get("/v3/os-hosts/node@local").await.json(), empty);
    let put = |body: Value| service.call(0, "PUT", "/v3/os-hosts/node@local", body);
    assert_eq!(put(json!({"status": "off"})).await.fault(), (400, "Invalid status: 'off'".into()));
    assert_eq!(put(json!({"mode": "off"})).await.fault(), (400, "Invalid update setting: 'mode'".into()));
    let disabled = json!({"host": "node@local", "status": "disabled"});
    assert_eq!(put(json!({"status": "disable"})).await.json(), disabled);
    let text = "Service cinder-volume could not be found on host node@local.";
    assert_eq!(get("/v3/os-hosts/node@local").await.fault(), (404, text.into()));
    let capabilities = get("/v3/capabilities/node").await.json();
    assert_eq!(capabilities["namespace"], "OS::Storage::Capabilities::node@local");
    assert_eq!(capabilities["properties"].as_object().map(serde_json::Map::len), Some(4));
    assert_eq!(get("/v3/capabilities/nohost").await.fault(), (404, "Can't find service: nohost".into()));
}

#[tokio::test]
async fn log_levels_are_known_words() {
    let service = service().await;
    let put = |path: &'static str, body: Value| service.call(32, "PUT", path, body);
    let bad = put("/v3/os-services/set-log", json!({"level": "loud"})).await.fault();
    assert_eq!(bad, (400, "Invalid input received: loud is not a valid log level.".into()));
    assert_eq!(put("/v3/os-services/set-log", json!({"level": "debug", "binary": "*"})).await.status, 202);
    let levels = put("/v3/os-services/get-log", json!({"binary": "cinder-api"})).await.json();
    assert_eq!(levels, json!({"log_levels": [{"host": "node", "binary": "cinder-api", "levels": {}}]}));
    assert_eq!(
        put("/v3/os-services/get-log", json!({"server": "other"})).await.json(),
        json!({"log_levels": []})
    );
}

#[tokio::test]
async fn clusters_are_listed_filtered_and_switched() {
    let service = service().await;
    let mut tx = service.cloud.db.begin().await.expect("begins");
    for text in [
        "INSERT INTO clusters (name, \"binary\", race_preventer, frozen, deleted, disabled) \
         VALUES ('c', 'cinder-volume', 0, FALSE, FALSE, FALSE)",
        "UPDATE services SET cluster_name = 'c'",
    ] {
        tx.exec(db::sql::sql(text)).await.expect("writes");
    }
    tx.commit().await.expect("commits");
    let get = |minor: u32, path: &'static str| service.call(minor, "GET", path, Value::Null);
    let summary = json!({"name": "c", "binary": "cinder-volume", "state": "up", "status": "enabled"});
    assert_eq!(get(25, "/v3/clusters?is_up=true").await.json(), json!({"clusters": [summary]}));
    assert_eq!(get(25, "/v3/clusters?num_hosts=2").await.json(), json!({"clusters": []}));
    let text = "Invalid input received: Invalid filter keys: frozen";
    assert_eq!(get(25, "/v3/clusters?frozen=false").await.fault(), (400, text.into()));
    let detail = get(26, "/v3/clusters/detail?frozen=false").await.json()["clusters"][0].clone();
    assert_eq!(
        (&detail["num_hosts"], &detail["num_down_hosts"], &detail["created_at"]),
        (&json!(1), &json!(0), &json!(""))
    );
    assert_eq!(get(26, "/v3/clusters/c").await.json()["cluster"], detail);
    let body = json!({"name": "c", "disabled_reason": " why "});
    let disabled = service.call(7, "PUT", "/v3/clusters/disable", body).await.json();
    assert_eq!(
        (&disabled["cluster"]["status"], &disabled["cluster"]["disabled_reason"]),
        (&json!("disabled"), &json!("why"))
    );
    let enabled = service.call(7, "PUT", "/v3/clusters/enable", json!({"name": "c"})).await.json();
    assert_eq!(
        (&enabled["cluster"]["status"], &enabled["cluster"]["disabled_reason"]),
        (&json!("enabled"), &Value::Null)
    );
    let missing = service.call(7, "PUT", "/v3/clusters/enable", json!({"name": "x"})).await.fault();
    assert_eq!(missing, (404, "Cluster {'binary': 'cinder-volume', 'name': 'x'} could not be found.".into()));
}
