//! One HTTP request at a time: TLS as the options say, a time limit, retries of connections, answers of bounded size.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{RequestBuilder, Response, StatusCode};

use crate::error::{Error, Result};
use crate::options::OptionsError;

/// The largest answer that is read, bytes. A catalogue of a thousand endpoints is about 300 KiB.
const LARGEST_ANSWER: usize = 4 << 20;
/// How much of an unexpected answer is shown.
const SHOWN: usize = 300;
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Before the first repeated try; doubles for each further one, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How a peer is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOptions {
    /// `cafile`: trust these authorities and no others; the system's if there is none.
    pub cafile: Option<PathBuf>,
    /// `insecure`: trust any certificate.
    pub insecure: bool,
    /// `certfile`: who we are.
    pub certfile: Option<PathBuf>,
    /// `keyfile`: the key of `certfile`, if that does not hold it.
    pub keyfile: Option<PathBuf>,
    /// How long one request may take.
    pub timeout: Duration,
    /// How often a connection that failed is tried again.
    pub retries: u32,
}

/// A client for one set of options.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: reqwest::Client,
    retries: u32,
}

impl Http {
    pub(crate) fn new(options: &HttpOptions) -> std::result::Result<Self, OptionsError> {
        let mut builder = plain_builder(options);
        if let Some(path) = &options.cafile {
            let pem = read("cafile", path)?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
            if authorities.is_empty() {
                return Err(unusable("cafile", path, "it holds no certificate in PEM form"));
            }
            builder = builder.tls_certs_only(authorities);
        }
        if let Some(path) = &options.certfile {
            let mut pem = read("certfile", path)?;
            if let Some(key) = &options.keyfile {
                pem.push(b'\n');
                pem.extend(read("keyfile", key)?);
            }
            let identity = reqwest::Identity::from_pem(&pem).map_err(|_| {
                unusable("certfile", path, "it holds no certificate with its key in PEM form")
            })?;
            builder = builder.identity(identity);
        }
        let client = match builder.build() {
            Ok(client) => client,
            // A machine without any certificate authorities can still speak to peers that use no TLS.
            Err(error) if options.cafile.is_none() && options.certfile.is_none() => {
                tracing::warn!(%error, "no certificate authorities: only plain HTTP will work");
                plain_builder(options).tls_certs_only([]).build().map_err(OptionsError::tls)?
            }
            Err(error) => return Err(OptionsError::tls(error)),
        };
        Ok(Self { client, retries: options.retries })
    }

    pub(crate) fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Sends what `make` makes, again while no connection can be had.
    pub(crate) async fn send(&self, make: impl Fn(&reqwest::Client) -> RequestBuilder) -> Result<Response> {
        let mut pause = FIRST_PAUSE;
        let mut left = self.retries;
        loop {
            let error = match make(&self.client).send().await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            if left == 0 || !error.is_connect() {
                return Err(unreachable(&error));
            }
            left -= 1;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

fn plain_builder(options: &HttpOptions) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(CONNECT_LIMIT.min(options.timeout))
        .timeout(options.timeout)
        .redirect(reqwest::redirect::Policy::none())
        .tls_danger_accept_invalid_certs(options.insecure)
        .user_agent(concat!("cinderblock/", env!("CARGO_PKG_VERSION")))
}

fn read(option: &'static str, path: &Path) -> std::result::Result<Vec<u8>, OptionsError> {
    std::fs::read(path).map_err(|error| unusable(option, path, &error.to_string()))
}

fn unusable(option: &'static str, path: &Path, problem: &str) -> OptionsError {
    OptionsError::File { option, path: path.to_owned(), problem: problem.to_owned() }
}

/// An error of the client without the address in it twice.
fn unreachable(error: &reqwest::Error) -> Error {
    let url = error.url().map(|url| url.as_str().to_owned()).unwrap_or_default();
    // The outermost text only repeats the address; the innermost says what happened.
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let what = if error.is_timeout() { "no answer in time".to_owned() } else { cause.to_string() };
    Error::Unreachable { url, what }
}

/// Reads an answer's JSON document.
pub(crate) async fn json(response: Response) -> Result<serde_json::Value> {
    let url = response.url().to_string();
    let bytes = bounded(response).await?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Unreadable { url, what: error.to_string() })
}

/// What an answer that is not the one hoped for means.
pub(crate) async fn refusal(response: Response) -> Error {
    let (url, status) = (response.url().to_string(), response.status());
    let body = bounded(response).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).into_owned();
    let later = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    if later {
        Error::Unreachable { url, what: format!("status {}: {text}", status.as_u16()) }
    } else {
        Error::Refused { url, status: status.as_u16(), what: text }
    }
}

async fn bounded(mut response: Response) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))? {
        if bytes.len() + chunk.len() > LARGEST_ANSWER {
            let what = format!("more than {LARGEST_ANSWER} bytes");
            return Err(Error::Unreadable { url: response.url().to_string(), what });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
