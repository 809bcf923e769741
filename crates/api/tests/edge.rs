//! The edge as clients meet it, without the service behind: negotiation, routing, authentication, bodies, documents.

mod common;

use std::sync::Arc;

use api::Auth;
use common::{Reply, Service, send};
use serde_json::json;

use common::PROJECT;

async fn get(path: &str, headers: &[(&str, &str)]) -> Reply {
    send(Auth::Open, "GET", path, headers, "").await
}

#[tokio::test]
async fn documents_of_the_version() {
    let root = get("/", &[]).await;
    assert_eq!(root.status, 300);
    assert_eq!(root.header("openstack-api-version"), Some("volume 3.0"));
    let version = &root.json()["versions"][0];
    assert_eq!((&version["version"], &version["min_version"]), (&json!("3.71"), &json!("3.0")));
    assert_eq!(version["links"][1]["href"], "http://h:1/v3/");
    let v3 = get("/v3/", &[("openstack-api-version", "volume 3.5")]).await;
    assert_eq!((v3.status.as_u16(), v3.header("openstack-api-version")), (200, Some("volume 3.5")));
    assert_eq!(v3.json(), root.json());
    let moved = get("/v3", &[]).await;
    assert_eq!((moved.status.as_u16(), moved.header("location")), (302, Some("http://h:1/v3/")));
}

#[tokio::test]
async fn every_answer_carries_its_request_id() {
    for path in ["/", "/healthcheck", "/nowhere", "/v3/extensions"] {
        let id = get(path, &[]).await.header("x-openstack-request-id").expect("an id").to_owned();
        assert!(id.starts_with("req-") && id.len() == 40, "{id}");
    }
    let reply = get("/v3/extensions", &[]).await;
    assert_eq!(reply.header("x-compute-request-id"), reply.header("x-openstack-request-id"));
}

#[tokio::test]
async fn paths_that_are_no_routes_are_answered_by_the_router() {
    for (method, path) in [
        ("GET", "/v9/"),
        ("GET", "/v3/nosuchthing"),
        ("GET", "/v3/extensions/"),
        ("PUT", "/v3/extensions"),
        ("GET", "/v3//extensions"),
    ] {
        let reply = send(Auth::Open, method, path, &[("accept", "application/json")], "").await;
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.header("openstack-api-version"), None);
        assert_eq!(reply.header("x-compute-request-id"), None);
        let body = json!({
            "message": "The resource could not be found.<br /><br />\n\n\n", "code": "404 Not Found", "title": "Not Found",
        });
        assert_eq!(reply.json(), body);
    }
    let plain = get("/v3/nosuchthing", &[]).await;
    assert_eq!(plain.text, "404 Not Found\n\nThe resource could not be found.\n\n   ");
}

#[tokio::test]
async fn versions_are_negotiated_before_anything_else_is_judged() {
    let at = |version: &'static str| async move {
        let reply = get("/v3/extensions", &[("openstack-api-version", version)]).await;
        (
            reply.status.as_u16(),
            reply.header("openstack-api-version").map(str::to_owned),
            reply.header("vary").is_some(),
        )
    };
    assert_eq!(at("volume 3.71").await, (200, Some("volume 3.71".into()), true));
    assert_eq!(at("volume latest").await, (200, Some("volume 3.71".into()), true));
    assert_eq!(at("volume 3.999").await, (406, Some("volume 3.999".into()), true));
    assert_eq!(at("volume 2.0").await, (406, None, false));
    assert_eq!(at("volume 3.x").await, (400, None, false));
    assert_eq!(at("compute 2.1").await, (400, None, false));
    let unsupported = get("/v3/extensions", &[("openstack-api-version", "volume 3.999")]).await;
    let message = "Version 3.999 is not supported by the API. Minimum is 3.0 and maximum is 3.71.";
    assert_eq!(unsupported.json(), json!({"computeFault": {"code": 406, "message": message}}));
}

#[tokio::test]
async fn routes_of_later_versions_are_not_found() {
    let at = |version: &'static str| get_status("/v3/resource_filters", version);
    assert_eq!(at("volume 3.33").await, 200);
    assert_eq!(at("volume 3.32").await, 404);
    let reply = get("/v3/resource_filters", &[]).await;
    let body = json!({"itemNotFound": {"code": 404, "message": "The resource could not be found."}});
    assert_eq!((reply.json(), reply.header("openstack-api-version")), (body, Some("volume 3.0")));
}

async fn get_status(path: &str, version: &str) -> u16 {
    get(path, &[("openstack-api-version", version)]).await.status.as_u16()
}

#[tokio::test]
async fn a_project_in_the_path_is_the_callers() {
    let token = format!("me:{PROJECT}");
    let mine = get(&format!("/v3/{PROJECT}/extensions.json"), &[("x-auth-token", &token)]).await;
    assert_eq!(mine.status, 200);
    let theirs = get("/v3/00ff/extensions", &[("x-auth-token", &token)]).await;
    assert_eq!(theirs.json(), json!({"badRequest": {"code": 400, "message": "Malformed request url"}}));
    assert_eq!(get("/v3/not-hex/extensions", &[("x-auth-token", &token)]).await.status, 404);
}

#[tokio::test]
async fn bodies_must_be_wanted_and_announced() {
    let json_type = [("content-type", "application/json")];
    let refused = send(Auth::Open, "GET", "/v3/extensions", &json_type, "{}").await;
    assert_eq!(refused.status, 400);
    let bad = send(Auth::Open, "GET", "/v3/extensions", &json_type, "{").await;
    assert_eq!(bad.json()["badRequest"]["message"], "Malformed request body");
    let text = send(Auth::Open, "GET", "/v3/extensions", &[("content-type", "text/plain")], "x").await;
    assert_eq!(text.json(), json!({"badMediaType": {"code": 415, "message": "Unsupported Content-Type"}}));
    let unannounced = send(Auth::Open, "GET", "/v3/extensions", &[], "{").await;
    assert_eq!(unannounced.status, 200, "a body without a type is none");
    let long: &'static str = Box::leak(" ".repeat(2001).into_boxed_str());
    let large = send(Auth::Open, "GET", "/v3/extensions", &json_type, long).await;
    let message = "The body of your request was too large for this server.";
    assert_eq!((large.status.as_u16(), large.header("content-type")), (413, Some("application/json")));
    assert_eq!(large.json(), json!({"overLimit": {"code": 413, "message": message}}));
}

#[tokio::test]
async fn what_is_not_cinders_is_refused_as_the_api_refuses() {
    let not_found = json!({"itemNotFound": {"code": 404, "message": "The resource could not be found."}});
    for path in [
        "/cinderblock",
        "/cinderblock/v1",
        "/cinderblock/v2/jobs",
        "/cinderblock/v1/nosuch",
        "/cinderblock/v1/jobs/",
    ] {
        let reply = get(path, &[]).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("content-type")),
            (404, Some("application/json")),
            "{path}"
        );
        assert_eq!(reply.json(), not_found, "{path}");
    }
    for (method, path, allowed) in [
        ("DELETE", "/cinderblock/v1/jobs", "GET"),
        ("GET", "/cinderblock/v1/jobs/1/cancel", "POST"),
        ("POST", "/metrics", "GET, HEAD"),
        ("DELETE", "/healthcheck", "GET, HEAD"),
    ] {
        let reply = send(Auth::Open, method, path, &[], "").await;
        assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, Some(allowed)), "{path}");
        assert_eq!(reply.json()["badMethod"]["code"], 405, "{path}");
    }
    let mut watched = Service::start(Auth::Open).await;
    watched.router = api::observer(Arc::clone(&watched.edge));
    assert_eq!(watched.send("GET", "/metrics", &[], "").await.text, "up 1\n");
    assert_eq!(watched.send("GET", "/v3/", &[], "").await.json(), not_found);
    let refused = watched.send("POST", "/metrics", &[], "").await;
    assert_eq!((refused.status.as_u16(), refused.header("allow")), (405, Some("GET,HEAD")));
    assert_eq!(refused.json()["badMethod"]["code"], 405);
}

#[tokio::test]
async fn strangers_are_told_what_their_strategy_says() {
    let handed = send(Auth::NoAuth, "GET", "/v3/extensions", &[], "").await;
    assert_eq!((handed.status.as_u16(), handed.header("x-auth-token")), (204, Some("admin:admin")));
    assert_eq!(handed.header("x-server-management-url"), Some("http://h:1/v3/extensions"));
    assert_eq!(send(Auth::NoAuth, "GET", "/healthcheck", &[], "").await.status, 200);
    assert_eq!(send(Auth::NoAuth, "GET", "/", &[], "").await.status, 300);
}

#[tokio::test]
async fn health_and_metrics_need_nobody() {
    let health = get("/healthcheck", &[("accept", "application/json")]).await;
    assert_eq!(health.json(), json!({"detailed": false, "reasons": ["OK"]}));
    assert_eq!(get("/healthcheck", &[]).await.text, "OK");
    assert_eq!(get("/metrics", &[]).await.text, "up 1\n");
}

#[tokio::test]
async fn the_catalogue_is_cinders() {
    let all = get("/v3/extensions", &[]).await.json();
    assert_eq!(all["extensions"].as_array().map(Vec::len), Some(32));
    let one = get("/v3/extensions/os-volume-actions", &[]).await.json();
    assert_eq!(one["extension"]["description"], "Enable volume actions.");
    assert_eq!(get("/v3/extensions/os-nosuch", &[]).await.status, 404);
    let filters =
        get("/v3/resource_filters?resource=pool", &[("openstack-api-version", "volume 3.33")]).await;
    assert_eq!(
        filters.json(),
        json!({"resource_filters": [{"resource": "pool", "filters": ["name", "volume_type"]}]})
    );
}

#[tokio::test]
async fn links_go_where_clients_came_from() {
    let href = |headers: &'static [(&'static str, &'static str)]| async move {
        get("/", headers).await.json()["versions"][0]["links"][1]["href"].as_str().map(str::to_owned)
    };
    assert_eq!(href(&[("x-forwarded-host", "a, b")]).await.as_deref(), Some("http://b/v3/"));
    // Nobody said that a proxy may be believed.
    assert_eq!(href(&[("x-forwarded-proto", "https")]).await.as_deref(), Some("http://h:1/v3/"));
}
