//! The authenticator against a Keystone whose answers can be counted, held back and spoilt.
#![allow(clippy::unwrap_used)] // a test

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::{TimeDelta, Utc};
use keystone::{Asked, Authenticator, AuthenticatorOptions, Rejection};
use model::config::Config;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// A Keystone of our own.
struct Fake {
    logins: AtomicU32,
    validations: AtomicU32,
    /// The service's token that counts, and whether logins are refused.
    own: Mutex<(String, bool)>,
    tokens: Mutex<HashMap<String, Value>>,
    /// What validations answer instead.
    spoilt: Mutex<Option<(u16, &'static str)>>,
    /// One permit for each answer that may go out.
    answers: Semaphore,
    address: SocketAddr,
}

const PLENTY: usize = 10_000;

impl Fake {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Arc::new(Self {
            logins: AtomicU32::new(0),
            validations: AtomicU32::new(0),
            own: Mutex::default(),
            tokens: Mutex::default(),
            spoilt: Mutex::default(),
            answers: Semaphore::new(PLENTY),
            address: listener.local_addr().unwrap(),
        });
        let app =
            Router::new().route("/v3/auth/tokens", get(validate).post(log_in)).with_state(Arc::clone(&fake));
        tokio::spawn(async move { axum::serve(listener, app).await });
        fake
    }

    /// Makes a token of a user with a role, that ends in so many seconds.
    fn issue(&self, secret: &str, role: &str, seconds: i64) {
        let expires_at = (Utc::now() + TimeDelta::seconds(seconds)).to_rfc3339();
        let project = json!({"id": "p", "name": "p", "domain": {"id": "default"}});
        let body = json!({"user": {"id": secret}, "project": project, "roles": [{"id": "r", "name": role}], "expires_at": expires_at});
        self.tokens.lock().unwrap().insert(secret.into(), body);
    }

    fn counts(&self) -> (u32, u32) {
        (self.logins.load(Ordering::SeqCst), self.validations.load(Ordering::SeqCst))
    }

    fn authenticator(&self, more: &str) -> Authenticator {
        let text = format!(
            "[keystone_authtoken]\nauth_url = http://{}\nusername = cinder\npassword = secret\nproject_name = service\n{more}",
            self.address
        );
        let config = Config::parse(&[("cinder.conf", text)], std::iter::empty::<(String, String)>()).unwrap();
        Authenticator::new(AuthenticatorOptions::read(&config).unwrap()).unwrap()
    }
}

async fn log_in(State(fake): State<Arc<Fake>>) -> Response {
    let number = fake.logins.fetch_add(1, Ordering::SeqCst);
    let _permit = fake.answers.acquire().await.unwrap();
    let mut own = fake.own.lock().unwrap();
    if own.1 {
        return (StatusCode::UNAUTHORIZED, "no").into_response();
    }
    own.0 = format!("own-{number}");
    let (issued_at, expires_at) = (Utc::now(), Utc::now() + TimeDelta::hours(1));
    let token = json!({"user": {"id": "cinder"}, "issued_at": issued_at.to_rfc3339(), "expires_at": expires_at.to_rfc3339()});
    (StatusCode::CREATED, [("X-Subject-Token", own.0.clone())], json!({"token": token}).to_string())
        .into_response()
}

async fn validate(
    State(fake): State<Arc<Fake>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    fake.validations.fetch_add(1, Ordering::SeqCst);
    fake.answers.acquire().await.unwrap().forget();
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    if header("x-auth-token") != fake.own.lock().unwrap().0 {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if let Some((status, text)) = *fake.spoilt.lock().unwrap() {
        return (StatusCode::from_u16(status).unwrap(), text).into_response();
    }
    let tokens = fake.tokens.lock().unwrap();
    let Some(token) = tokens.get(&header("x-subject-token")) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let expires_at: chrono::DateTime<Utc> = token["expires_at"].as_str().unwrap().parse().unwrap();
    if expires_at < Utc::now() && !query.contains_key("allow_expired") {
        return StatusCode::NOT_FOUND.into_response();
    }
    json!({ "token": token }).to_string().into_response()
}

fn asked<'a>(token: &'a str, service_token: Option<&'a str>) -> Asked<'a> {
    Asked { method: "GET", path: "/v3/volumes", token: Some(token), service_token }
}

async fn user(authenticator: &Authenticator, token: &str) -> Result<String, Rejection> {
    authenticator.judge(&asked(token, None)).await.map(|identity| identity.token.user.id.clone())
}

#[tokio::test]
async fn a_herd_makes_one_validation_and_one_login() {
    let fake = Fake::start().await;
    fake.issue("t", "member", 600);
    let authenticator = Arc::new(fake.authenticator(""));
    // Logins answer, validations are held.
    fake.answers.forget_permits(PLENTY - 1);
    let herd: Vec<_> = (0..200)
        .map(|_| {
            let authenticator = Arc::clone(&authenticator);
            tokio::spawn(async move { user(&authenticator, "t").await })
        })
        .collect();
    tokio::task::yield_now().await;
    fake.answers.add_permits(PLENTY);
    for one in herd {
        assert_eq!(one.await.unwrap().as_deref(), Ok("t"));
    }
    assert_eq!(fake.counts(), (1, 1));
    assert_eq!(user(&authenticator, " t ").await.as_deref(), Ok("t"));
    assert_eq!(fake.counts(), (1, 1));
}

#[tokio::test]
async fn whoever_gives_up_waiting_spoils_nothing() {
    let fake = Fake::start().await;
    fake.issue("t", "member", 600);
    let authenticator = fake.authenticator("");
    fake.answers.forget_permits(PLENTY);
    let impatient = tokio::time::timeout(Duration::from_millis(50), user(&authenticator, "t")).await;
    assert!(impatient.is_err());
    fake.answers.add_permits(PLENTY);
    assert_eq!(user(&authenticator, "t").await.as_deref(), Ok("t"));
    assert_eq!(fake.counts(), (1, 1));
}

#[tokio::test]
async fn nothing_is_remembered_without_a_cache_and_refusals_never_are() {
    let fake = Fake::start().await;
    let (without, with) = (fake.authenticator("token_cache_time = -1"), fake.authenticator(""));
    assert_eq!(user(&without, "t").await, Err(Rejection::Unauthorized));
    assert_eq!(user(&with, "t").await, Err(Rejection::Unauthorized));
    fake.issue("t", "member", 600);
    fake.own.lock().unwrap().0 = "own-0".into();
    for n in 0..3 {
        assert_eq!(user(&without, "t").await.as_deref(), Ok("t"));
        assert_eq!(fake.counts(), (2, 3 + n));
    }
    fake.own.lock().unwrap().0 = "own-1".into();
    assert_eq!(user(&with, "t").await.as_deref(), Ok("t"));
    fake.tokens.lock().unwrap().clear();
    assert_eq!(user(&with, "t").await.as_deref(), Ok("t"));
    assert!(user(&without, "t").await.is_err());
}

#[tokio::test]
async fn our_own_token_is_renewed_when_it_is_no_longer_taken() {
    let fake = Fake::start().await;
    fake.issue("a", "member", 600);
    fake.issue("b", "member", 600);
    let authenticator = fake.authenticator("");
    assert!(user(&authenticator, "a").await.is_ok());
    fake.own.lock().unwrap().0 = "another".into();
    assert!(user(&authenticator, "b").await.is_ok());
    assert_eq!(fake.counts(), (2, 3));
}

#[tokio::test]
async fn a_token_that_ends_while_it_is_remembered_is_refused_but_to_services() {
    let fake = Fake::start().await;
    fake.issue("t", "member", -1);
    fake.issue("nova", "service", 600);
    fake.issue("bob", "member", 600);
    let authenticator = fake.authenticator("");
    assert_eq!(user(&authenticator, "t").await, Err(Rejection::Unauthorized));
    let by_service = authenticator.judge(&asked("t", Some("nova"))).await.unwrap();
    assert_eq!(by_service.service.unwrap().roles, ["service"]);
    assert_eq!(user(&authenticator, "t").await, Err(Rejection::Unauthorized));
    assert_eq!(authenticator.judge(&asked("t", Some("bob"))).await.unwrap_err(), Rejection::Unauthorized);
    assert_eq!(authenticator.judge(&asked("bob", Some("bob"))).await.unwrap_err(), Rejection::Unauthorized);
    let lax = fake.authenticator("service_token_roles_required = false");
    assert!(lax.judge(&asked("bob", Some("bob"))).await.is_ok());
    // Even then it does not revive what is over.
    assert_eq!(lax.judge(&asked("t", Some("bob"))).await.unwrap_err(), Rejection::Unauthorized);
    let chosen = fake.authenticator("service_token_roles = member, other");
    assert!(chosen.judge(&asked("t", Some("bob"))).await.is_ok());
    assert!(chosen.judge(&asked("t", Some("nova"))).await.is_err());
}

#[tokio::test]
async fn what_keystone_cannot_say_is_no_refusal() {
    let fake = Fake::start().await;
    fake.issue("t", "member", 600);
    let authenticator = fake.authenticator("");
    for (status, text) in
        [(500, ""), (503, ""), (403, "no"), (429, ""), (200, "not json"), (200, "{}"), (302, "")]
    {
        *fake.spoilt.lock().unwrap() = Some((status, text));
        assert_eq!(user(&authenticator, "t").await, Err(Rejection::Unavailable), "{status} {text}");
    }
    *fake.spoilt.lock().unwrap() = None;
    assert_eq!(user(&authenticator, "t").await.as_deref(), Ok("t"));
}

#[tokio::test]
async fn a_slow_keystone_costs_a_bounded_time() {
    let fake = Fake::start().await;
    let authenticator = fake.authenticator("http_connect_timeout = 1");
    fake.answers.forget_permits(PLENTY);
    assert_eq!(user(&authenticator, "t").await, Err(Rejection::Unavailable));
    assert_eq!(fake.counts(), (1, 0));
}

#[tokio::test]
async fn refused_credentials_are_not_tried_over_and_over() {
    let fake = Fake::start().await;
    fake.own.lock().unwrap().1 = true;
    let authenticator = Arc::new(fake.authenticator(""));
    for n in 0..20 {
        assert_eq!(user(&authenticator, &format!("t{n}")).await, Err(Rejection::Unavailable));
    }
    assert!(fake.counts().0 < 10, "{:?}", fake.counts());
}

#[tokio::test]
async fn a_keystone_that_is_not_there_is_unavailable() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let fake = Fake::start().await;
    let text = format!(
        "[keystone_authtoken]\nauth_url = http://{closed}\nusername = u\npassword = p\nproject_id = s\nhttp_request_max_retries = 1\n"
    );
    let config = Config::parse(&[("cinder.conf", text)], std::iter::empty::<(String, String)>()).unwrap();
    let authenticator = Authenticator::new(AuthenticatorOptions::read(&config).unwrap()).unwrap();
    assert_eq!(user(&authenticator, "t").await, Err(Rejection::Unavailable));
    assert_eq!(authenticator.challenge(), format!("Keystone uri=\"http://{closed}\""));
    drop(fake);
}
