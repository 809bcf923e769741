//! The way of a request from the socket to its handler and back: ids, authentication, routing, negotiation, body, schema,
//! policy. The order of the checks is Cinder's, because clients see which one fails first.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use control::measure::Told;
use control::policy::Target;
use control::{Cloud, Context};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::Value;
use tokio::sync::Semaphore;
use tracing::Instrument;
use tracing::field::Empty;
use wire::link::Links;
use wire::microversion::{NoVersion, Version, negotiate};
use wire::version::document;

use crate::answer::{API_VERSION, Answer, REQUEST_ID};
use crate::auth::{Auth, Verdict};
use crate::call::Call;
use crate::fault::Fault;
use crate::host::LogLevels;
use crate::list::ResourceFilters;
use crate::number;
use crate::query::Query;
use crate::raw;
use crate::route::{Entry, Found, Gate, OWN, Table, V3};
use crate::schema::validate;

/// What the edge is told at start.
pub struct Settings {
    /// Replaces scheme and host in links, and prefixes their paths.
    pub public_endpoint: Option<String>,
    /// `osapi_max_limit`: the longest page.
    pub max_limit: u32,
    /// `max_request_body_size`, bytes.
    pub max_body: usize,
    /// `[oslo_middleware] enable_proxy_headers_parsing`: whether a proxy in front says by which scheme clients come.
    pub proxy_headers: bool,
    /// What users may filter by.
    pub filters: ResourceFilters,
    /// While this file exists, the health check says so.
    pub disable_file: Option<PathBuf>,
    /// What `/metrics` answers.
    pub metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    /// The log levels of this process.
    pub logs: Option<Arc<dyn LogLevels>>,
    /// What `/metrics` has told of.
    pub told: Told,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            public_endpoint: None,
            max_limit: 1000,
            max_body: 114_688,
            proxy_headers: false,
            filters: ResourceFilters::default(),
            disable_file: None,
            metrics: None,
            logs: None,
            told: Told::default(),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("public_endpoint", &self.public_endpoint)
            .field("max_limit", &self.max_limit)
            .field("max_body", &self.max_body)
            .finish_non_exhaustive()
    }
}

/// The HTTP edge of one process.
#[derive(Debug)]
pub struct Edge {
    pub cloud: Cloud,
    pub auth: Auth,
    pub settings: Settings,
}

/// Requests under way at the same time; more are told to come back.
const MAX_REQUESTS: usize = 4096;
/// How long a client may take to send a body.
const BODY_TIME: Duration = Duration::from_secs(60);

/// The edge and what bounds it.
#[derive(Debug, Clone)]
struct Served {
    edge: Arc<Edge>,
    slots: Arc<Semaphore>,
}

/// The edge as a service.
pub fn router(edge: Arc<Edge>) -> axum::Router {
    let served = Served { edge, slots: Arc::new(Semaphore::new(MAX_REQUESTS)) };
    axum::Router::new().fallback(serve).with_state(served)
}

/// Only what watches over a process asks for: health and measures.
pub fn observer(edge: Arc<Edge>) -> axum::Router {
    let health =
        axum::routing::get(async |State(edge): State<Arc<Edge>>, headers: HeaderMap| edge.health(&headers));
    let measures = axum::routing::get(async |State(edge): State<Arc<Edge>>, headers: HeaderMap| {
        edge.metrics(&headers).await
    });
    let refuse = |fault: fn() -> Fault| async move || fault().render(&new_request_id());
    axum::Router::new()
        .route("/healthcheck", health)
        .route("/metrics", measures)
        .fallback(refuse(|| Fault::generic(404)))
        .method_not_allowed_fallback(refuse(Fault::bad_method))
        .with_state(edge)
}

/// The pattern of the route that served a request, for measures.
#[derive(Debug, Clone, Copy)]
struct Pattern(&'static str);

/// The version headers of an answer: what was agreed on, or what was asked for in vain.
enum Spoken {
    Version(Version),
    Echo(String),
    Nothing,
}

/// What is known of a request once its caller is.
struct Received {
    parts: Parts,
    body: Bytes,
    context: Context,
    /// Scheme, host and prefix of links.
    base: String,
}

async fn serve(State(Served { edge, slots }): State<Served>, request: Request) -> Response {
    let request_id = new_request_id();
    let Ok(_slot) = slots.try_acquire() else { return Fault::generic(503).render(&request_id) };
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = tracing::info_span!(
        "request",
        request_id,
        user_id = Empty,
        project_id = Empty,
        global_request_id = Empty
    );
    let started = Instant::now();
    let mut response = Arc::clone(&edge).answer(request, &request_id).instrument(span.clone()).await;
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let status = response.status().as_u16();
    let took = started.elapsed();
    let route = response.extensions().get::<Pattern>().map_or("none", |pattern| pattern.0);
    metrics::histogram!("cinderblock_api_request_seconds", "method" => known(&method), "route" => route,
        "status" => status.to_string())
    .record(took);
    let duration_ms = took.as_secs_f64() * 1e3;
    span.in_scope(|| match (status, path.as_str()) {
        (500.., _) => tracing::warn!(%method, path, status, duration_ms, "answered"),
        // Asked for every few seconds by whoever watches.
        (_, "/healthcheck" | "/metrics") => tracing::debug!(%method, path, status, duration_ms, "answered"),
        _ => tracing::info!(%method, path, status, duration_ms, "answered"),
    });
    response
}

fn new_request_id() -> String {
    format!("req-{}", uuid::Uuid::new_v4())
}

/// A method's name; clients can make up others.
fn known(method: &Method) -> &'static str {
    let all = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::HEAD,
        Method::PATCH,
        Method::OPTIONS,
    ];
    let names = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"];
    all.iter().zip(names).find(|(known, _)| *known == method).map_or("other", |(_, name)| name)
}

impl Edge {
    async fn answer(self: Arc<Self>, request: Request, request_id: &str) -> Response {
        let (parts, body) = request.into_parts();
        let read = matches!(parts.method, Method::GET | Method::HEAD);
        match parts.uri.path() {
            "/" if read => self.versions(&parts, StatusCode::MULTIPLE_CHOICES, Version::MIN, request_id),
            "/healthcheck" if read => self.health(&parts.headers),
            "/metrics" if read => self.metrics(&parts.headers).await,
            path if path == "/v3" || path.starts_with("/v3/") => self.v3(parts, body, request_id).await,
            path if path.starts_with("/cinderblock/v1/") => self.own(parts, body, request_id).await,
            // What is not Cinder's either way is refused as the API refuses; the rest as Cinder's router does.
            "/healthcheck" | "/metrics" => not_allowed(&["GET", "HEAD"], request_id),
            path if path == "/cinderblock" || path.starts_with("/cinderblock/") => {
                Fault::generic(404).render(request_id)
            }
            _ => raw::not_found(&parts.headers),
        }
    }

    fn health(&self, request: &HeaderMap) -> Response {
        let disabled = self.settings.disable_file.as_ref().filter(|file| file.exists());
        raw::health(disabled.map(|_| "DISABLED BY FILE"), request)
    }

    async fn metrics(&self, request: &HeaderMap) -> Response {
        let Some(render) = &self.settings.metrics else { return raw::not_found(request) };
        if let Err(error) = self.cloud.measure(&self.settings.told).await {
            tracing::warn!(%error, "measuring: what was measured before is told");
        }
        let mut response = Response::new(Body::from(render()));
        let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    /// Scheme, host and prefix of links.
    fn base(&self, parts: &Parts) -> String {
        if let Some(endpoint) = &self.settings.public_endpoint {
            return endpoint.trim_end_matches('/').to_owned();
        }
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let forwarded = text("x-forwarded-host").and_then(|list| list.rsplit(',').next()).map(str::trim);
        let host = forwarded.or_else(|| text("host")).or_else(|| parts.uri.authority().map(|a| a.as_str()));
        let proto = text("x-forwarded-proto").filter(|_| self.settings.proxy_headers);
        let proto =
            proto.and_then(|list| list.split(',').next()).map(str::trim).filter(|one| *one == "https");
        format!("{}://{}", proto.unwrap_or("http"), host.unwrap_or("localhost"))
    }

    fn versions(&self, parts: &Parts, status: StatusCode, version: Version, request_id: &str) -> Response {
        let answer = Answer::json(document(&Links::new(self.base(parts), "/v3", None)));
        spoken(answer.render(status, request_id), &Spoken::Version(version))
    }

    /// Reads the body and finds out who calls; or what they are told instead.
    async fn receive(&self, parts: Parts, body: Body, request_id: &str) -> Result<Received, Box<Response>> {
        let refuse = |fault: Fault| Err(Box::new(fault.render(request_id)));
        let reading = axum::body::to_bytes(body, self.settings.max_body);
        let body = match tokio::time::timeout(BODY_TIME, reading).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => return refuse(Fault::generic(413)),
            Err(_) => return refuse(Fault::too_slow()),
        };
        let base = self.base(&parts);
        let url = format!("{base}{}", parts.uri);
        match self.auth.judge(&parts, &url).await {
            Verdict::Told(response) => Err(response),
            Verdict::Known(caller) => {
                let global_id = global_id(&parts.headers);
                let context = caller.context(&parts.headers, request_id, global_id, &self.cloud.policy);
                let span = tracing::Span::current();
                span.record("user_id", &context.user_id).record("project_id", &context.project_id);
                if let Some(id) = &context.global_request_id {
                    span.record("global_request_id", id);
                }
                Ok(Received { parts, body, context, base })
            }
        }
    }

    async fn v3(self: Arc<Self>, parts: Parts, body: Body, request_id: &str) -> Response {
        let received = match self.receive(parts, body, request_id).await {
            Ok(received) => received,
            Err(told) => return *told,
        };
        let path = received.parts.uri.path().to_owned();
        let Some(rest) = path.strip_prefix("/v3/") else { return redirect(&received.base) };
        let method = received.parts.method.as_str();
        let found = if rest.is_empty() { None } else { route(&V3, method, rest, &received.context) };
        if found.is_none() && !(rest.is_empty() && method == "GET") {
            return raw::not_found(&received.parts.headers);
        }
        let version = match negotiated(&received.parts.headers) {
            Ok(version) => version,
            Err((fault, echo)) => return spoken(fault.render(request_id), &echo),
        };
        let Some((found, project)) = found else {
            return self.versions(&received.parts, StatusCode::OK, version, request_id);
        };
        let pattern = pattern(&found);
        let mut response = self.operate(received, found, project, version, "/v3").await;
        response.extensions_mut().insert(pattern);
        spoken(response, &Spoken::Version(version))
    }

    /// Our own routes: no microversions, the newest shapes.
    async fn own(self: Arc<Self>, parts: Parts, body: Body, request_id: &str) -> Response {
        let received = match self.receive(parts, body, request_id).await {
            Ok(received) => received,
            Err(told) => return *told,
        };
        let path = received.parts.uri.path().to_owned();
        let rest = path.strip_prefix("/cinderblock/v1/").unwrap_or_default();
        match route(&OWN, received.parts.method.as_str(), rest, &received.context) {
            Some((found, project)) => {
                let pattern = pattern(&found);
                let mut response =
                    self.operate(received, found, project, Version::MAX, "/cinderblock/v1").await;
                response.extensions_mut().insert(pattern);
                response
            }
            None => no_route_of_ours(rest, &received.context, request_id),
        }
    }

    async fn operate(
        self: Arc<Self>,
        received: Received,
        found: Found<'static>,
        project: Option<String>,
        version: Version,
        root: &'static str,
    ) -> Response {
        let request_id = received.context.request_id.clone();
        let request_id = request_id.as_str();
        let prepared = prepare(&received, &found, project.as_deref(), version);
        let (entry, body) = match prepared {
            Ok(prepared) => prepared,
            Err(fault) => return fault.render(request_id),
        };
        if let Some(action) = entry.route.gate.action().filter(|_| received.context.is_nowhere()) {
            return Fault::from(control::Error::Forbidden(action.rule().name.to_owned())).render(request_id);
        }
        if let Gate::Caller(action) = entry.route.gate
            && let Err(error) =
                self.cloud.policy.require(action, &received.context, &Target::own(&received.context))
        {
            return Fault::from(error).render(request_id);
        }
        let call = Call {
            links: Links::new(received.base, root, project),
            query: Query::parse(received.parts.uri.query().unwrap_or_default()),
            edge: Arc::clone(&self),
            context: received.context,
            version,
            params: found.params,
            body,
            headers: received.parts.headers,
        };
        let success = StatusCode::from_u16(entry.route.success).unwrap_or(StatusCode::OK);
        match (entry.route.run)(call).await {
            Ok(answer) => answer.render(success, request_id),
            Err(fault) => fault.render(request_id),
        }
    }
}

/// What a path of ours that is none, or none for this method, is answered.
fn no_route_of_ours(path: &str, context: &Context, request_id: &str) -> Response {
    let methods = ["GET", "POST", "PUT", "DELETE"];
    let allowed: Vec<&str> =
        methods.into_iter().filter(|method| route(&OWN, method, path, context).is_some()).collect();
    if allowed.is_empty() {
        Fault::generic(404).render(request_id)
    } else {
        not_allowed(&allowed, request_id)
    }
}

/// 405 with the methods that would do.
fn not_allowed(methods: &[&str], request_id: &str) -> Response {
    let mut response = Fault::bad_method().render(request_id);
    if let Ok(methods) = HeaderValue::from_str(&methods.join(", ")) {
        response.headers_mut().insert(header::ALLOW, methods);
    }
    response
}

fn pattern(found: &Found<'static>) -> Pattern {
    Pattern(found.entries.first().map_or("none", |entry| entry.route.path))
}

/// Finds the operation and its body: what can go wrong before a handler runs, in order.
fn prepare<'a>(
    received: &Received,
    found: &Found<'a>,
    project: Option<&str>,
    version: Version,
) -> Result<(&'a Entry, Value), Fault> {
    refuse_null_characters(received, found)?;
    let body = body_bytes(received)?;
    let (entry, body) = match found.entries.as_slice() {
        [only] if only.route.action.is_none() => (*only, body.map(parse).transpose()?),
        actions => {
            let (entry, body) = choose(actions, body)?;
            (entry, Some(body))
        }
    };
    if project.is_some_and(|project| project != received.context.project_id) {
        return Err(Fault::bad_request("Malformed request url"));
    }
    if !version.serves(entry.since) {
        return Err(Fault::generic(404));
    }
    match (entry.route.body, body) {
        (None, None) => Ok((entry, Value::Null)),
        (Some(wanted), Some(body)) => {
            let huge = number::huge_integers(&received.body);
            validate(&body, wanted, version).map_err(|refused| number::in_digits(refused, &huge))?;
            // A schema that admits anything has let it through, as a float.
            match huge.first() {
                Some(digits) => Err(number::too_large(digits)),
                None => Ok((entry, body)),
            }
        }
        // Cinder's release 29 answers 500 to a missing body: it means this.
        _ => Err(Fault::generic(400)),
    }
}

/// The body's bytes, when there are any that are announced as JSON.
fn body_bytes(received: &Received) -> Result<Option<&Bytes>, Fault> {
    let Some(kind) = received.parts.headers.get(header::CONTENT_TYPE) else { return Ok(None) };
    if received.body.is_empty() {
        return Ok(None);
    }
    let kind =
        kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/json" | "application/vnd.openstack.volume+json" => Ok(Some(&received.body)),
        _ => Err(Fault::bad_media_type()),
    }
}

/// No name, filter or id has U+0000 in it. Cinder stores it where the database can and answers 500 where it cannot
/// (PostgreSQL); here the answer does not depend on the database.
fn refuse_null_characters(received: &Received, found: &Found<'_>) -> Result<(), Fault> {
    if found.params.iter().any(|(_, value)| value.contains('\0')) {
        return Err(Fault::generic(404));
    }
    let query = Query::parse(received.parts.uri.query().unwrap_or_default());
    if query.pairs().iter().any(|(key, value)| key.contains('\0') || value.contains('\0')) {
        return Err(Fault::bad_request("Invalid input received: null characters are not allowed"));
    }
    Ok(())
}

fn parse(bytes: &Bytes) -> Result<Value, Fault> {
    let body = serde_json::from_slice(bytes).map_err(|_| Fault::bad_request("Malformed request body"))?;
    if has_null_character(&body) {
        return Err(Fault::bad_request("Invalid input received: null characters are not allowed"));
    }
    Ok(body)
}

fn has_null_character(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_null_character),
        Value::Object(object) => {
            object.iter().any(|(key, value)| key.contains('\0') || has_null_character(value))
        }
        _ => false,
    }
}

/// The action that the body names by its one key.
fn choose<'a>(actions: &[&'a Entry], body: Option<&Bytes>) -> Result<(&'a Entry, Value), Fault> {
    let unknown = |name: &str| {
        let text = "Verify the request body and Content-Type header and try again.";
        Fault::bad_request(format!("There is no such action: {name}. {text}"))
    };
    let Some(bytes) = body else { return Err(unknown("None")) };
    let body = parse(bytes)?;
    let keys = match &body {
        Value::Object(object) => object.len(),
        Value::Array(items) => items.len(),
        Value::String(text) => text.chars().count(),
        _ => return Err(Fault::generic(404)),
    };
    if keys != 1 {
        return Err(Fault::bad_request("Malformed request body"));
    }
    let name = body.as_object().and_then(|object| object.keys().next().cloned());
    let Some(name) = name else { return Err(Fault::generic(404)) };
    let entry = actions
        .iter()
        .find(|entry| entry.route.action == Some(name.as_str()))
        .ok_or_else(|| unknown(&name))?;
    Ok((entry, body))
}

/// The rows that a path means, with or without a project in front.
fn route(
    table: &'static Table,
    method: &str,
    path: &str,
    context: &Context,
) -> Option<(Found<'static>, Option<String>)> {
    if let Some((first, rest)) = path.split_once('/').filter(|(first, _)| is_project(first, context))
        && let Some(found) = table.find(method, rest)
    {
        return Some((found, Some(first.to_owned())));
    }
    table.find(method, path).map(|found| (found, None))
}

/// Whether a segment stands for a project: hexadecimal digits and dashes, or the caller's own by any name.
fn is_project(segment: &str, context: &Context) -> bool {
    let hex = !segment.is_empty() && segment.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    hex || segment == context.project_id
}

fn negotiated(headers: &HeaderMap) -> Result<Version, (Fault, Spoken)> {
    let asked = headers.get(API_VERSION).map(|value| value.to_str().unwrap_or_default());
    negotiate(asked).map_err(|error| {
        let text = error.to_string();
        match error {
            NoVersion::OtherService => (Fault::generic(400), Spoken::Nothing),
            NoVersion::Malformed(_) => (Fault::bad_request(text), Spoken::Nothing),
            // Cinder takes anything with these in it for one of its dead versions, and says nothing.
            NoVersion::Unsupported(asked) if asked.contains("1.0") || asked.contains("2.0") => {
                (Fault::not_acceptable(text), Spoken::Nothing)
            }
            NoVersion::Unsupported(asked) => (Fault::not_acceptable(text), Spoken::Echo(asked)),
        }
    })
}

/// The answer with its version headers.
fn spoken(mut response: Response, version: &Spoken) -> Response {
    let text = match version {
        Spoken::Version(version) => version.to_string(),
        Spoken::Echo(text) => text.clone(),
        Spoken::Nothing => return response,
    };
    if let Ok(value) = HeaderValue::from_str(&format!("volume {text}")) {
        response.headers_mut().insert(API_VERSION, value);
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("OpenStack-API-Version"));
    }
    response
}

/// 302 from `/v3` to `/v3/`.
fn redirect(base: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    if let Ok(location) = HeaderValue::from_str(&format!("{base}/v3/")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The id that the caller gave to all that belongs to their request: `req-` and a UUID.
fn global_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(REQUEST_ID)?.to_str().ok()?;
    let id = text.strip_prefix("req-")?;
    (id.len() == 36 && uuid::Uuid::try_parse(id).is_ok()).then(|| text.to_owned())
}
