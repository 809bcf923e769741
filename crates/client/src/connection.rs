//! The connection: where, as whom, and one request at a time.

use std::fmt;
use std::time::Duration;

use model::Secret;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, Result};

/// Asks for the newest microversion that the server speaks.
const MICROVERSION: &str = "volume latest";
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Longer than the service's own wait for a job that a request needs.
const REQUEST_LIMIT: Duration = Duration::from_secs(120);
/// The largest answer that is read; a page of 1,000 volumes is about 1.2 MiB.
const LARGEST_ANSWER: usize = 64 << 20;

/// The address of an API, with or without `/v3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    root: Url,
}

impl Endpoint {
    /// Where `cinderblock serve` listens when nothing else is said.
    pub const DEFAULT: &'static str = "http://127.0.0.1:8776/v3";

    /// Reads an address such as `http://127.0.0.1:8776/v3`.
    ///
    /// # Errors
    /// [`Error::Endpoint`] when it is none, or not `http`.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || Error::Endpoint(text.to_owned());
        let mut root = Url::parse(text).map_err(|_| wrong())?;
        if root.scheme() != "http" || root.host().is_none() {
            return Err(wrong());
        }
        let path = root.path().trim_end_matches('/');
        let path = path.strip_suffix("/v3").unwrap_or(path).to_owned();
        root.set_path(&format!("{path}/"));
        root.set_query(None);
        Ok(Self { root })
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.root.clone();
        url.set_path(&format!("{}{path}", self.root.path()));
        url
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}v3", self.root)
    }
}

/// As whom requests are made.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// No credentials: the service decides (`auth_strategy = none`).
    #[default]
    None,
    /// A token: `user:project`, or a real one.
    Token(Secret<String>),
    /// HTTP basic authentication.
    Basic { user: String, password: Secret<String> },
    /// A token asked of the service itself (`auth_strategy = noauth`).
    NoAuth { user: String, project: String },
}

/// A client of one service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    endpoint: Endpoint,
    auth: Auth,
    /// Put into paths when set; the service takes the token's project otherwise.
    project: Option<String>,
}

impl Client {
    /// A client; nothing is sent yet, except to get a token ([`Auth::NoAuth`]).
    ///
    /// # Errors
    /// [`Error::Unreachable`] and [`Error::Refused`] when a token cannot be had.
    pub async fn connect(endpoint: Endpoint, auth: Auth, project: Option<String>) -> Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert("OpenStack-API-Version", HeaderValue::from_static(MICROVERSION));
        headers.insert("Accept", HeaderValue::from_static("application/json"));
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .no_proxy()
            // Endpoints are plain HTTP: reading the machine's certificate authorities would cost time, and fail where it has none.
            .tls_certs_only([])
            .connect_timeout(CONNECT_LIMIT)
            .timeout(REQUEST_LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("cinderblock/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|source| Error::Unreachable { endpoint: endpoint.to_string(), source })?;
        let mut client = Self { http, endpoint, auth, project };
        if let Auth::NoAuth { user, project } = client.auth.clone() {
            client.auth = Auth::Token(client.own_token(&user, &project).await?);
        }
        Ok(client)
    }

    /// Asks a `noauth` service for a token.
    async fn own_token(&self, user: &str, project: &str) -> Result<Secret<String>> {
        let request = self.http.get(self.endpoint.url("v3/volumes"));
        let request = request.header("X-Auth-User", user).header("X-Auth-Project-Id", project);
        let response = self.send(request).await?;
        let token = response.headers().get("X-Auth-Token").and_then(|token| token.to_str().ok());
        match token {
            Some(token) => Ok(Secret::new(token.to_owned())),
            None => Err(unreadable(&response, "no token was given; is its auth_strategy noauth?")),
        }
    }

    /// The endpoint, as shown to people.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The project in whose name requests are made, as far as the client knows.
    pub fn project(&self) -> Option<&str> {
        if self.project.is_some() {
            return self.project.as_deref();
        }
        match &self.auth {
            Auth::Token(token) => token.expose().split_once(':').map(|(_, project)| project),
            _ => None,
        }
    }

    /// A request to a v3 path such as `volumes/detail`.
    pub(crate) fn v3(&self, method: Method, path: &str) -> Request<'_> {
        let project =
            self.project.as_deref().map(|project| format!("{}/", segment(project))).unwrap_or_default();
        self.request(method, self.endpoint.url(&format!("v3/{project}{path}")))
    }

    /// A request to one of our own paths, such as `jobs`.
    pub(crate) fn own(&self, method: Method, path: &str) -> Request<'_> {
        self.request(method, self.endpoint.url(&format!("cinderblock/v1/{path}")))
    }

    fn request(&self, method: Method, url: Url) -> Request<'_> {
        Request { client: self, method, url, body: None }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let request = match &self.auth {
            Auth::None | Auth::NoAuth { .. } => request,
            Auth::Token(token) => request.header("X-Auth-Token", token.expose()),
            Auth::Basic { user, password } => request.basic_auth(user, Some(password.expose())),
        };
        let unreachable = |source| Error::Unreachable { endpoint: self.endpoint.to_string(), source };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if status.is_success() || status == StatusCode::MULTIPLE_CHOICES {
            return Ok(response);
        }
        Err(refusal(response).await)
    }
}

/// A text as one segment of a path: whatever could end the segment is escaped.
pub(crate) fn segment(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// One request under construction.
pub(crate) struct Request<'a> {
    client: &'a Client,
    method: Method,
    url: Url,
    body: Option<Value>,
}

impl Request<'_> {
    /// Adds a query parameter.
    pub fn query(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.url.query_pairs_mut().append_pair(name, &value.to_string());
        self
    }

    /// Adds a query parameter that is there.
    pub fn maybe(self, name: &str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Sets the JSON body.
    pub fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Sends it and drops what comes back.
    pub async fn done(self) -> Result<()> {
        self.send().await.map(drop)
    }

    /// Sends it and reads the member `key` of the JSON object that comes back.
    pub async fn member<T: DeserializeOwned>(self, key: &str) -> Result<T> {
        let (mut object, url) = self.object().await?;
        let wrong = |what: String| Error::Unreadable { url: url.to_string(), what };
        let value = object.get_mut(key).map(Value::take).ok_or_else(|| wrong(format!("no {key:?} in it")))?;
        serde_json::from_value(value).map_err(|error| wrong(format!("{key}: {error}")))
    }

    /// Sends it and reads the JSON document that comes back.
    pub async fn object(self) -> Result<(Value, Url)> {
        let response = self.send().await?;
        let url = response.url().clone();
        let wrong = |what: String| Error::Unreadable { url: url.to_string(), what };
        let bytes = bounded(response).await.map_err(&wrong)?;
        let value = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        Ok((value, url))
    }

    async fn send(self) -> Result<Response> {
        let mut request = self.client.http.request(self.method, self.url);
        if let Some(body) = &self.body {
            request = request.json(body);
        }
        self.client.send(request).await
    }
}

/// Reads a body, of a bounded size.
async fn bounded(mut response: Response) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
        if bytes.len() + chunk.len() > LARGEST_ANSWER {
            return Err(format!("more than {LARGEST_ANSWER} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn unreadable(response: &Response, what: &str) -> Error {
    Error::Unreadable { url: response.url().to_string(), what: what.to_owned() }
}

/// The error that a response of 300 or more stands for: `{"<fault>": {"code": N, "message": "..."}}`, or anything.
async fn refusal(response: Response) -> Error {
    let status = response.status();
    let header =
        |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let request_id = header("x-openstack-request-id").or_else(|| header("x-compute-request-id"));
    let body = bounded(response).await.unwrap_or_default();
    let parsed = serde_json::from_slice::<Value>(&body).ok();
    let (fault, message) = parsed.as_ref().and_then(read_fault).unwrap_or_default();
    let message = if message.is_empty() { plain_message(status, &body) } else { message };
    Error::Refused { status: status.as_u16(), fault, message, request_id }
}

/// A fault's name and message. An unknown path is answered by the layer below Cinder's, in a shape of its own.
fn read_fault(body: &Value) -> Option<(String, String)> {
    if let Some(message) = body.get("message").and_then(Value::as_str) {
        return Some((String::new(), message.replace("<br />", " ").trim().to_owned()));
    }
    let (fault, inner) = body.as_object()?.iter().next()?;
    let message = inner.get("message")?.as_str()?;
    Some((fault.clone(), message.to_owned()))
}

/// For an answer without a fault: the status, and the last line of a short text.
fn plain_message(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned();
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    if line.is_empty() {
        format!("the service answered {status}")
    } else {
        format!("the service answered {status}: {line}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_taken_with_and_without_the_version() {
        for text in ["http://h:8776", "http://h:8776/", "http://h:8776/v3", "http://h:8776/v3/"] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint.to_string(), "http://h:8776/v3", "{text}");
            assert_eq!(endpoint.url("cinderblock/v1/jobs").as_str(), "http://h:8776/cinderblock/v1/jobs");
        }
        let prefixed = Endpoint::parse("http://h/volume/v3").unwrap();
        assert_eq!(prefixed.url("v3/volumes").as_str(), "http://h/volume/v3/volumes");
        for text in ["h:8776", "ftp://h/", "", "https://h/v3"] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn faults_are_read_and_anything_else_is_quoted() {
        let body =
            serde_json::json!({"itemNotFound": {"code": 404, "message": "Volume x could not be found."}});
        assert_eq!(read_fault(&body), Some(("itemNotFound".into(), "Volume x could not be found.".into())));
        assert_eq!(read_fault(&serde_json::json!([1])), None);
        let plain = serde_json::json!({"message": "Not here.<br /><br />\n", "code": "404 Not Found"});
        assert_eq!(read_fault(&plain), Some((String::new(), "Not here.".into())));
        let text =
            plain_message(StatusCode::NOT_FOUND, b"404 Not Found\n\nThe resource could not be found.\n\n   ");
        assert_eq!(text, "the service answered 404 Not Found: The resource could not be found.");
    }

    #[test]
    fn a_key_with_a_slash_stays_one_segment() {
        let endpoint = Endpoint::parse("http://h").unwrap();
        let url = endpoint.url(&format!("v3/volumes/1/metadata/{}", segment("a/b c?%")));
        assert_eq!(url.path(), "/v3/volumes/1/metadata/a%2Fb%20c%3F%25");
    }

    #[test]
    fn credentials_do_not_show_in_debug_output() {
        let auth = Auth::Basic { user: "u".into(), password: Secret::new("hunter2".into()) };
        assert!(!format!("{auth:?}").contains("hunter2"));
    }
}
