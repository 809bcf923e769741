//! A service without backends: the edge over the use cases over a fresh database. Volumes stay `creating`, because nobody
//! carries out jobs.

#![allow(dead_code)] // each test binary uses a part

pub mod things;

use std::sync::Arc;

use api::{Auth, Edge, Settings, router};
use axum::body::Body;
use control::bus::LocalBus;
use control::policy::Policy;
use control::seal::Sealer;
use control::{Cloud, Parts};
use db::Db;
use http::{HeaderMap, Request, StatusCode};
use model::config::Config;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

pub const PROJECT: &str = "0123456789abcdef0123456789abcdef";

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Status and message of a fault.
    pub fn fault(&self) -> (u16, String) {
        let body = self.json();
        let message =
            body.as_object().and_then(|fault| fault.values().next()?["message"].as_str().map(str::to_owned));
        (self.status.as_u16(), message.unwrap_or_default())
    }
}

/// A service and the directory that it lives in.
pub struct Service {
    pub router: axum::Router,
    pub edge: Arc<Edge>,
    pub cloud: Cloud,
    dir: Arc<TempDir>,
}

impl Service {
    pub async fn start(auth: Auth) -> Self {
        Self::with_policy(auth, Policy::default()).await
    }

    pub async fn with_policy(auth: Auth, policy: Policy) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Db::connect(&format!("sqlite:///{}/c.db", dir.path().display()), 4).await.expect("opens");
        db::schema::migrate(&db).await.expect("migrates");
        let service = Self::over(db, Arc::new(dir), auth, policy);
        service.cloud.register("cinder-volume", "node@local", "nova").await.expect("registers");
        service
    }

    /// The same database under other rules.
    pub fn under(&self, policy: Policy) -> Self {
        Self::over(self.cloud.db.clone(), Arc::clone(&self.dir), Auth::Open, policy)
    }

    fn over(db: Db, dir: Arc<TempDir>, auth: Auth, policy: Policy) -> Self {
        let config = Config::parse::<&str, &str>(&[], []).expect("no file is fine");
        let cloud = Cloud::new(Parts {
            db,
            bus: Arc::new(LocalBus::default()),
            policy,
            settings: control::settings::Settings::read(&config, "node").expect("defaults"),
            scheduler: control::scheduler::Options::from_config(&config).expect("defaults"),
            sealer: Sealer::new(&Sealer::fresh_key().expect("a key")),
        });
        let metrics: Arc<dyn Fn() -> String + Send + Sync> = Arc::new(|| "up 1\n".into());
        let settings = Settings { max_body: 2000, metrics: Some(metrics), ..Settings::default() };
        let edge = Arc::new(Edge { cloud: cloud.clone(), auth, settings });
        Self { router: router(Arc::clone(&edge)), edge, cloud, dir }
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<String>,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path).header("host", "h:1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.into())).expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
        Reply {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    /// A request of the administrator of [`PROJECT`] at `3.<minor>`; null is no body.
    pub async fn call(&self, minor: u32, method: &str, path: &str, body: Value) -> Reply {
        let version = format!("volume 3.{minor}");
        let token = format!("me:{PROJECT}");
        let mut headers = vec![("x-auth-token", token.as_str()), ("openstack-api-version", version.as_str())];
        if body.is_null() {
            return self.send(method, path, &headers, "").await;
        }
        headers.push(("content-type", "application/json"));
        self.send(method, path, &headers, body.to_string()).await
    }
}

/// One request to a service of its own.
pub async fn send(auth: Auth, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    Service::start(auth).await.send(method, path, headers, body).await
}
