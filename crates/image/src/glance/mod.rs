//! A client of the image service's API, version 2: what volumes need of it.
//!
//! Addresses are tried in turn; what may pass is tried again, some times, with a pause. A token belongs to a call, not to the client:
//! a user's for what the user asks, the service's own for what a job does.

mod answer;
mod download;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model::Secret;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::{Map, Value, json};

pub use answer::Image;
use answer::{image, images};
pub use download::Download;

use crate::{Error, Options, Result};

/// The largest answer that is read; an image's record has at most some hundred properties.
const LARGEST_ANSWER: usize = 4 << 20;
/// How much of an unexpected answer is shown.
const SHOWN: usize = 300;
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// As whom a call is made.
pub type Token = Option<Secret<String>>;

/// Connections to image services, shared by all clients of a process. No proxy, and no redirects: one could take a token elsewhere.
#[derive(Debug, Clone)]
pub struct Http(reqwest::Client);

impl Http {
    /// With TLS as the options say.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(options: &Options) -> std::result::Result<Self, String> {
        let builder = || {
            reqwest::Client::builder()
                .no_proxy()
                .connect_timeout(CONNECT_LIMIT)
                .redirect(reqwest::redirect::Policy::none())
                .user_agent(concat!("cinderblock/", env!("CARGO_PKG_VERSION")))
                .tls_danger_accept_invalid_certs(options.insecure)
        };
        let mut wanted = builder();
        if let Some(path) = &options.cafile {
            let pem = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let authorities =
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| error.to_string())?;
            wanted = wanted.tls_certs_only(authorities);
        }
        match wanted.build() {
            Ok(client) => Ok(Self(client)),
            // A machine without any certificate authorities can still speak to peers that use no TLS.
            Err(error) if options.cafile.is_none() => {
                tracing::warn!(%error, "no certificate authorities: only plain HTTP will work with the image service");
                builder().tls_certs_only([]).build().map(Self).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A client. Cheap to clone.
#[derive(Clone)]
pub struct Glance(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    servers: Vec<Url>,
    /// The server that answered last.
    current: AtomicUsize,
    retries: u32,
    timeout: Duration,
}

impl fmt::Debug for Glance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<_> = self.0.servers.iter().map(Url::as_str).collect();
        f.debug_struct("Glance").field("servers", &servers).finish_non_exhaustive()
    }
}

/// An image to be made: its record; data follows.
#[derive(Debug, Clone, Default)]
pub struct NewImage {
    pub name: String,
    pub disk_format: String,
    pub container_format: String,
    /// `None`: the service's default.
    pub visibility: Option<String>,
    pub protected: Option<bool>,
    pub min_disk: Option<u64>,
    pub min_ram: Option<u64>,
    /// Further properties, as texts.
    pub properties: std::collections::BTreeMap<String, String>,
}

impl Glance {
    /// A client of `servers` (addresses with or without `/v2`). Nothing is sent before it is needed.
    ///
    /// # Errors
    /// The address that is none.
    pub fn new(http: &Http, servers: &[String], options: &Options) -> std::result::Result<Self, String> {
        let servers: Vec<Url> = servers.iter().map(|text| server(text)).collect::<Result<_, _>>()?;
        if servers.is_empty() {
            return Err("no address of the image service is known".into());
        }
        Ok(Self(Arc::new(Inner {
            http: http.0.clone(),
            servers,
            current: AtomicUsize::new(0),
            retries: options.retries,
            timeout: options.timeout,
        })))
    }

    /// How long an answer or the next bytes of one may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.0.timeout
    }

    /// Further tries after a failure that may pass.
    pub fn retries(&self) -> u32 {
        self.0.retries
    }

    /// An image's record.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the bearer cannot see it.
    pub async fn show(&self, id: &str, token: &Token) -> Result<Image> {
        let path = ["images", id];
        let response = self.ask("show an image", |glance| glance.request(Method::GET, &path, token)).await;
        let response = response.map_err(|error| missing(error, id))?;
        image(&body(response).await?)
    }

    /// The image with this id, else the only one with this name.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`].
    pub async fn find(&self, name_or_id: &str, token: &Token) -> Result<Image> {
        let plain = !name_or_id.is_empty() && !name_or_id.contains(['/', '?', '#']) && name_or_id != "..";
        if plain {
            match self.show(name_or_id, token).await {
                Err(Error::NotFound(_)) => {}
                other => return other,
            }
        }
        let make = |glance: &Self| {
            let name = format!("in:\"{}\"", name_or_id.replace('\\', "\\\\").replace('"', "\\\""));
            glance.request_with(Method::GET, &["images"], &[("name", &name), ("limit", "2")], token)
        };
        let response = self.ask("list images", make).await?;
        let mut found = images(&body(response).await?)?;
        match found.len() {
            0 => Err(Error::NotFound(name_or_id.to_owned())),
            1 => Ok(found.remove(0)),
            _ => Err(Error::Ambiguous(name_or_id.to_owned())),
        }
    }

    /// Opens the data of an image. It is checked as it is read, by the digests that `record` has.
    ///
    /// # Errors
    /// [`Error::NotFound`] also where the data is gone.
    pub async fn download(&self, record: &Image, token: &Token) -> Result<Download> {
        let path = ["images", &record.id, "file"];
        let response =
            self.ask("send an image's data", |glance| glance.request(Method::GET, &path, token)).await;
        let response = response.map_err(|error| missing(error, &record.id))?;
        if response.status() == StatusCode::NO_CONTENT {
            return Err(Error::NotFound(record.id.clone()));
        }
        Download::new(response, record, self.0.timeout)
    }

    /// Makes an image's record; it waits for data (`queued`).
    ///
    /// # Errors
    /// The service refused it.
    pub async fn create(&self, wanted: &NewImage, token: &Token) -> Result<Image> {
        let mut record = Map::new();
        for (name, value) in &wanted.properties {
            record.insert(name.clone(), Value::from(value.as_str()));
        }
        record.insert("name".into(), wanted.name.as_str().into());
        record.insert("disk_format".into(), wanted.disk_format.as_str().into());
        record.insert("container_format".into(), wanted.container_format.as_str().into());
        for (name, value) in [
            ("visibility", wanted.visibility.as_deref().map(Value::from)),
            ("protected", wanted.protected.map(Value::from)),
            ("min_disk", wanted.min_disk.map(Value::from)),
            ("min_ram", wanted.min_ram.map(Value::from)),
        ] {
            if let Some(value) = value {
                record.insert(name.into(), value);
            }
        }
        let make = |glance: &Self| glance.request(Method::POST, &["images"], token).json(&record);
        // Not again after a failure: the first try may have made one.
        let response = self.once("make an image", make(self)).await?;
        image(&body(response).await?)
    }

    /// Sends an image its data, `length` bytes, once.
    ///
    /// # Errors
    /// The service refused or failed; the image is then still `queued`, or gone.
    pub async fn upload(&self, id: &str, length: u64, data: Body, token: &Token) -> Result<()> {
        let request = self.request(Method::PUT, &["images", id, "file"], token);
        let request = request.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, length);
        let sent = self.once("take an image's data", request.body(data)).await;
        sent.map(drop).map_err(|error| missing(error, id))
    }

    /// Deletes an image; one that is gone is fine.
    ///
    /// # Errors
    /// The service refused or failed.
    pub async fn delete(&self, id: &str, token: &Token) -> Result<()> {
        let path = ["images", id];
        match self.ask("delete an image", |glance| glance.request(Method::DELETE, &path, token)).await {
            Ok(_) => Ok(()),
            Err(Error::Refused { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Adds or replaces properties of an image.
    ///
    /// # Errors
    /// The service refused or failed.
    pub async fn set_properties(
        &self,
        id: &str,
        properties: &std::collections::BTreeMap<String, String>,
        token: &Token,
    ) -> Result<()> {
        let escape = |name: &str| name.replace('~', "~0").replace('/', "~1");
        let patch: Vec<Value> = properties
            .iter()
            .map(|(name, value)| json!({ "op": "add", "path": format!("/{}", escape(name)), "value": value }))
            .collect();
        let text = Value::from(patch).to_string();
        let make = |glance: &Self| {
            let request = glance.request(Method::PATCH, &["images", id], token);
            request.header(CONTENT_TYPE, "application/openstack-images-v2.1-json-patch").body(text.clone())
        };
        self.ask("change an image", make).await.map(drop).map_err(|error| missing(error, id))
    }

    fn request(&self, method: Method, path: &[&str], token: &Token) -> RequestBuilder {
        self.request_with(method, path, &[], token)
    }

    fn request_with(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        token: &Token,
    ) -> RequestBuilder {
        let inner = &self.0;
        let mut url = inner.servers[inner.current.load(Ordering::Relaxed) % inner.servers.len()].clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v2").extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = inner.http.request(method, url);
        match token {
            Some(token) => request.header("X-Auth-Token", token.expose()),
            None => request,
        }
    }

    /// Sends, again while that may help, to the next server each time.
    async fn ask(&self, action: &'static str, make: impl Fn(&Self) -> RequestBuilder) -> Result<Response> {
        let mut pause = FIRST_PAUSE;
        let mut left = self.0.retries;
        loop {
            let error = match self.limited(action, make(self)).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            if left == 0 || !error.is_transient() {
                return Err(error);
            }
            left -= 1;
            self.0.current.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Sends once; the start of the answer must come in time.
    async fn limited(&self, action: &'static str, request: RequestBuilder) -> Result<Response> {
        match tokio::time::timeout(self.0.timeout, self.once(action, request)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Away { action, text: "no answer in time".into() }),
        }
    }

    /// Sends once, without a limit of its own.
    async fn once(&self, action: &'static str, request: RequestBuilder) -> Result<Response> {
        let response = request.send().await.map_err(|error| away(action, &error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = tokio::time::timeout(self.0.timeout, refusal(response)).await.unwrap_or_default();
        Err(match status {
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::INSUFFICIENT_STORAGE => Error::NoRoom(text),
            _ if status.is_server_error() => Error::Away { action, text: format!("status {status}: {text}") },
            _ => Error::Refused { action, status: status.as_u16(), text },
        })
    }
}

fn away(action: &'static str, error: &reqwest::Error) -> Error {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Error::Away { action, text }
}

/// What the bearer may not see is not there; a record may not tell more.
fn missing(error: Error, id: &str) -> Error {
    match error {
        Error::Refused { status: 403 | 404, .. } => Error::NotFound(id.to_owned()),
        other => other,
    }
}

/// `http://host:9292`, `host:9292`, either with `/v2`.
fn server(text: &str) -> std::result::Result<Url, String> {
    let wrong = || format!("{text:?} is not an address of an image service");
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let mut url = Url::parse(&full).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(wrong());
    }
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix("/v2").unwrap_or(path).to_owned();
    url.set_path(&path);
    url.set_query(None);
    Ok(url)
}

/// An answer's body, of bounded size.
async fn body(response: Response) -> Result<Value> {
    let bytes = bounded(response).await?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Unreadable(error.to_string()))
}

async fn bounded(mut response: Response) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| away("answer", &error))? {
        if bytes.len() + chunk.len() > LARGEST_ANSWER {
            return Err(Error::Unreadable("it is too large".into()));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// What the service says of a refusal: the text of Glance's small HTML page.
async fn refusal(response: Response) -> String {
    let bytes = bounded(response).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut plain = String::new();
    let mut inside = false;
    for letter in text.chars() {
        match letter {
            '<' => inside = true,
            '>' => inside = false,
            _ if !inside => plain.push(letter),
            _ => {}
        }
    }
    plain.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::server;

    #[test]
    fn addresses_may_end_in_the_version() {
        for text in ["http://g:9292", "g:9292", "http://g:9292/", "http://g:9292/v2/", "http://g:9292/v2"] {
            assert_eq!(server(text).unwrap().as_str(), "http://g:9292/", "{text}");
        }
        assert_eq!(server("https://g/image/v2").unwrap().as_str(), "https://g/image");
        for text in ["", "ftp://g", "http://", "file:///etc/passwd"] {
            assert!(server(text).is_err(), "{text}");
        }
    }
}
