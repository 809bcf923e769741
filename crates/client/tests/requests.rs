//! The client against a fake of the service: what it sends, and what it makes of the answers.
#![allow(clippy::unwrap_used)] // a test

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use client::{Auth, Client, Endpoint, Error, Query, Waited};
use model::Secret;
use serde_json::{Value, json};

const ID: &str = "157ebd00-2dd9-4a67-b6f1-fe14e74b1416";

/// A request as it came.
#[derive(Debug, Clone)]
struct Seen {
    line: String,
    headers: HeaderMap,
}

type Answer = Arc<dyn Fn(&Seen) -> Response + Send + Sync>;

#[derive(Clone)]
struct Fake {
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: Answer,
}

impl Fake {
    /// Starts a service that answers every request with `answer`, and makes a client for it.
    async fn start(
        auth: Auth,
        answer: impl Fn(&Seen) -> Response + Send + Sync + 'static,
    ) -> (Self, client::Result<Client>) {
        let fake = Self { seen: Arc::default(), answer: Arc::new(answer) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/v3", listener.local_addr().unwrap());
        let router = Router::new().fallback(serve).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let client = Client::connect(Endpoint::parse(&endpoint).unwrap(), auth, None).await;
        (fake, client)
    }

    fn lines(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|seen| seen.line.clone()).collect()
    }
}

async fn serve(State(fake): State<Fake>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let seen = Seen { line: format!("{method} {uri}"), headers };
    fake.seen.lock().unwrap().push(seen.clone());
    (fake.answer)(&seen)
}

fn answer(status: u16, body: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::HeaderName::from_static("x-openstack-request-id"), "req-1"),
    ];
    (StatusCode::from_u16(status).unwrap(), headers, body.to_string()).into_response()
}

fn volume(id: &str, name: &str, status: &str) -> Value {
    json!({"id": id, "name": name, "status": status, "size": 1, "new field": {"of": "later"}})
}

fn not_found() -> Response {
    answer(404, &json!({"itemNotFound": {"code": 404, "message": "Volume x could not be found."}}))
}

#[tokio::test]
async fn a_list_follows_its_pages_by_marker_and_stops_at_the_limit() {
    let (fake, client) = Fake::start(Auth::None, |seen| {
        let (id, next) = match seen.line.split_once("marker=") {
            None => ("a", true),
            Some((_, "a")) => ("b", true),
            Some(_) => ("c", false),
        };
        let mut body = json!({"volumes": [volume(id, id, "available")]});
        if next {
            body["volumes_links"] = json!([{"rel": "next", "href": "http://elsewhere.invalid/"}]);
        }
        answer(200, &body)
    })
    .await;
    let client = client.unwrap();
    let ids = |volumes: Vec<client::volume::Volume>| {
        volumes.into_iter().map(|volume| volume.id).collect::<Vec<_>>()
    };
    let query = Query::default().filter("status", Some("available"));
    assert_eq!(ids(client.volumes(&query).await.unwrap()), ["a", "b", "c"]);
    assert_eq!(
        fake.lines(),
        [
            "GET /v3/volumes/detail?limit=1000&status=available",
            "GET /v3/volumes/detail?limit=1000&status=available&marker=a",
            "GET /v3/volumes/detail?limit=1000&status=available&marker=b",
        ]
    );
    assert_eq!(ids(client.volumes(&query.at_most(Some(2))).await.unwrap()), ["a", "b"]);
}

#[tokio::test]
async fn every_request_asks_for_the_newest_microversion_and_carries_the_credentials() {
    let token = Auth::Token(Secret::new("me:p1".into()));
    let (fake, client) = Fake::start(token, |_| answer(200, &json!({"volumes": []}))).await;
    let client = client.unwrap();
    client.volumes(&Query::default()).await.unwrap();
    assert_eq!(client.project(), Some("p1"));
    let headers = fake.seen.lock().unwrap()[0].headers.clone();
    assert_eq!(headers["OpenStack-API-Version"], "volume latest");
    assert_eq!(headers["X-Auth-Token"], "me:p1");
    let basic = Auth::Basic { user: "u".into(), password: Secret::new("p".into()) };
    let (fake, client) = Fake::start(basic, |_| answer(200, &json!({"volumes": []}))).await;
    client.unwrap().volumes(&Query::default()).await.unwrap();
    assert_eq!(fake.seen.lock().unwrap()[0].headers["Authorization"], "Basic dTpw");
}

#[tokio::test]
async fn without_a_token_a_noauth_service_is_asked_for_one() {
    let auth = Auth::NoAuth { user: "me".into(), project: "p1".into() };
    let (fake, client) = Fake::start(auth.clone(), |seen| match seen.headers.get("X-Auth-Token") {
        None => (StatusCode::NO_CONTENT, [("X-Auth-Token", "me:p1")]).into_response(),
        Some(_) => answer(200, &json!({"volumes": []})),
    })
    .await;
    client.unwrap().volumes(&Query::default()).await.unwrap();
    let seen = fake.seen.lock().unwrap().clone();
    assert_eq!(
        (seen[0].headers["X-Auth-User"].as_bytes(), seen[1].headers["X-Auth-Token"].as_bytes()),
        (&b"me"[..], &b"me:p1"[..])
    );
    let (_, refused) = Fake::start(auth, |_| answer(200, &json!({"volumes": []}))).await;
    assert!(matches!(refused, Err(Error::Unreadable { .. })), "{refused:?}");
}

#[tokio::test]
async fn names_and_ids_mean_one_volume_or_an_error_that_says_how_to_go_on() {
    let (_, client) = Fake::start(Auth::None, |seen| match seen.line.as_str() {
        line if line.ends_with(ID) => answer(200, &json!({"volume": volume(ID, "by id", "available")})),
        line if line.contains("name=twice") => answer(
            200,
            &json!({"volumes": [volume("1", "twice", "available"), volume("2", "twice", "available")]}),
        ),
        line if line.contains("/volumes/detail") => answer(200, &json!({"volumes": []})),
        _ => not_found(),
    })
    .await;
    let client = client.unwrap();
    assert_eq!(client.find_volume(ID).await.unwrap().name.unwrap(), "by id");
    let ambiguous = client.find_volume("twice").await.unwrap_err();
    assert_eq!(ambiguous.exit_code(), 4);
    assert!(ambiguous.hint().unwrap().contains("1, 2"));
    // An id that is unknown may still be somebody's name.
    let missing = client.find_volume("00000000-2dd9-4a67-b6f1-fe14e74b1416").await.unwrap_err();
    assert_eq!(missing.exit_code(), 3);
    assert!(missing.hint().unwrap().contains("cinderblock volume list"));
}

#[tokio::test]
async fn refusals_keep_the_message_and_have_codes_by_kind() {
    for (status, body, code, text) in [
        (
            400,
            json!({"badRequest": {"code": 400, "message": "Invalid volume: no."}}),
            4,
            "Invalid volume: no.",
        ),
        (
            413,
            json!({"overLimit": {"code": 413, "message": "VolumeLimitExceeded: 10"}}),
            4,
            "VolumeLimitExceeded: 10",
        ),
        (404, json!({"itemNotFound": {"code": 404, "message": "gone"}}), 3, "gone"),
        (500, json!({"computeFault": {"code": 500, "message": "broken"}}), 5, "broken"),
        (502, json!("no fault"), 5, "the service answered 502 Bad Gateway: \"no fault\""),
    ] {
        let (_, client) = Fake::start(Auth::None, move |_| answer(status, &body)).await;
        let error = client.unwrap().volume(ID).await.unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().as_str()), (code, text));
    }
    let nobody =
        Client::connect(Endpoint::parse("http://127.0.0.1:9/v3").unwrap(), Auth::None, None).await.unwrap();
    let error = nobody.volume(ID).await.unwrap_err();
    assert_eq!(error.exit_code(), 6);
    assert!(error.hint().unwrap().contains("cinderblock serve"));
}

#[tokio::test]
async fn an_answer_that_is_not_the_contract_is_an_error_not_a_panic() {
    for body in [json!([]), json!({"volume": []}), json!({"volume": {"id": 7}}), json!({}), json!(null)] {
        let (_, client) = Fake::start(Auth::None, move |_| answer(200, &body)).await;
        let error = client.unwrap().volume(ID).await.unwrap_err();
        assert!(matches!(error, Error::Unreadable { .. }), "{error:?}");
    }
    let (_, client) = Fake::start(Auth::None, |_| answer(200, &json!({"volumes": "none"}))).await;
    assert!(matches!(client.unwrap().volumes(&Query::default()).await, Err(Error::Unreadable { .. })));
}

#[tokio::test]
async fn waiting_tells_progress_and_ends_with_the_status() {
    let looks = Mutex::new(vec!["error", "creating", "creating"]);
    let (_, client) = Fake::start(Auth::None, move |seen| match &seen.line {
        line if line.contains("/jobs") => answer(
            200,
            &json!({"jobs": [{"id": "j", "operation": "volume.create", "resource_type": "volume", "resource_id": ID,
                "state": "running", "progress": {"done": 5, "total": 10}}]}),
        ),
        line if line.contains("/messages") => answer(
            200,
            &json!({"messages": [{"id": "m", "event_id": "e", "user_message": "no valid backend was found", "message_level": "ERROR"}]}),
        ),
        _ => answer(200, &json!({"volume": volume(ID, "v", looks.lock().unwrap().pop().unwrap())})),
    })
    .await;
    let waited = Waited {
        kind: "volume",
        id: ID.into(),
        until: &["available"],
        limit: std::time::Duration::from_secs(30),
    };
    let mut told = Vec::new();
    let error = client
        .unwrap()
        .wait(&waited, |progress| told.push(progress.job.as_ref().and_then(|job| job.progress.percent())))
        .await
        .unwrap_err();
    assert_eq!(told, [Some(50), Some(50)]);
    assert_eq!(error.exit_code(), 7);
    assert!(error.to_string().ends_with("is in status error: no valid backend was found"), "{error}");
}

#[tokio::test]
async fn waiting_for_the_end_of_a_resource_ends_when_it_is_gone() {
    let looks = Mutex::new(vec![false, true]);
    let (_, client) = Fake::start(Auth::None, move |seen| {
        if seen.line.contains("/jobs") || !looks.lock().unwrap().pop().unwrap() {
            return not_found();
        }
        answer(200, &json!({"volume": volume(ID, "v", "deleting")}))
    })
    .await;
    let client = client.unwrap();
    let waited =
        Waited { kind: "volume", id: ID.into(), until: &[], limit: std::time::Duration::from_secs(30) };
    let mut told = Vec::new();
    client.wait(&waited, |progress| told.push(progress.clone())).await.unwrap();
    assert_eq!(told.len(), 1);
    assert!(told[0].job.is_none() && told[0].status == "deleting");
}
