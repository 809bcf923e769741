//! A service's own login.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::Utc;
use model::catalogue::Wanted;
use model::{Secret, Time};
use reqwest::{RequestBuilder, Response, StatusCode};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::http::{Http, json, refusal};
use crate::options::{Options, OptionsError, version_3};
use crate::token::Token;

/// How long before its end a token is renewed; a quarter of its life where that is shorter.
const MARGIN: chrono::TimeDelta = chrono::TimeDelta::minutes(2);
/// How long refused credentials are not tried again: Keystone locks accounts out after too many failures.
const COOLING: Duration = Duration::from_secs(1);

/// Our own token.
#[derive(Debug)]
pub struct OwnToken {
    /// What goes into `X-Auth-Token` and `X-Service-Token`.
    pub secret: Secret<String>,
    /// What Keystone said of it, with the whole catalogue.
    pub token: Token,
    renew_at: Time,
}

/// A login that lasts: asks for a token when there is none, renews it in time. Cheap to clone.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    http: Http,
    options: Options,
    current: RwLock<Option<Arc<OwnToken>>>,
    /// Held by whoever asks for a token; the last failure and when it was.
    asking: Mutex<Option<(Error, Instant)>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("auth_url", &self.0.options.auth_url.as_str()).finish_non_exhaustive()
    }
}

impl Session {
    /// A session; nothing is sent before it is needed.
    ///
    /// # Errors
    /// When TLS cannot be set up as the options say.
    pub fn new(options: Options) -> std::result::Result<Self, OptionsError> {
        let http = Http::new(&options.http)?;
        Ok(Self(Arc::new(Inner { http, options, current: RwLock::new(None), asking: Mutex::new(None) })))
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// For requests with somebody else's token: the same TLS and time limits.
    pub fn client(&self) -> &reqwest::Client {
        self.0.http.client()
    }

    /// A token that is good now. However many ask at once, Keystone is asked once.
    ///
    /// # Errors
    /// What kept us from having one.
    pub async fn token(&self) -> Result<Arc<OwnToken>> {
        let arrived = Instant::now();
        if let Some(token) = self.fresh() {
            return Ok(token);
        }
        let mut failure = self.0.asking.lock().await;
        if let Some(token) = self.fresh() {
            return Ok(token);
        }
        if let Some((error, at)) = failure.as_ref() {
            // Whoever waited while others failed would fail too; refused credentials stay refused for a while.
            let refused = matches!(error, Error::Refused { .. }) && at.elapsed() < COOLING;
            if *at >= arrived || refused {
                return Err(error.clone());
            }
        }
        match self.authenticate().await {
            Ok(token) => {
                let token = Arc::new(token);
                *failure = None;
                *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&token));
                Ok(token)
            }
            Err(error) => {
                tracing::error!(%error, "the service cannot log in to Keystone");
                *failure = Some((error.clone(), Instant::now()));
                Err(error)
            }
        }
    }

    fn fresh(&self) -> Option<Arc<OwnToken>> {
        let current = self.0.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().filter(|token| Utc::now() < token.renew_at).cloned()
    }

    /// Forgets a token that Keystone no longer takes, unless it has been replaced since.
    pub fn forget(&self, stale: &Arc<OwnToken>) {
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|token| Arc::ptr_eq(token, stale)) {
            *current = None;
        }
    }

    async fn authenticate(&self) -> Result<OwnToken> {
        let options = &self.0.options;
        let url = format!("{}/auth/tokens", options.auth_url);
        let body = options.login.body();
        let response = self.0.http.send(|client| client.post(&url).json(&body)).await?;
        if response.status() != StatusCode::CREATED {
            return Err(refusal(response).await);
        }
        let secret = response.headers().get("x-subject-token").and_then(|token| token.to_str().ok());
        let secret = secret
            .map(|token| Secret::new(token.to_owned()))
            .ok_or_else(|| Error::Unreadable { url: url.clone(), what: "no X-Subject-Token in it".into() })?;
        let document = json(response).await?;
        let token = Token::read(document, |_| true)
            .map_err(|error| Error::Unreadable { url, what: error.to_string() })?;
        let life = token.expires_at - token.issued_at.unwrap_or_else(Utc::now);
        let renew_at = token.expires_at - MARGIN.min(life / 4);
        tracing::debug!(user = token.user.id, expires_at = %token.expires_at, "logged in to Keystone");
        Ok(OwnToken { secret, token, renew_at })
    }

    /// Where a service is, by the catalogue of our own token.
    ///
    /// # Errors
    /// No token, or no such service in the catalogue.
    pub async fn endpoint(&self, wanted: &Wanted) -> Result<String> {
        let own = self.token().await?;
        let found = own.token.catalogue.find(wanted).map(str::to_owned);
        found.ok_or_else(|| Error::NoEndpoint { wanted: Box::new(wanted.clone()) })
    }

    /// Sends a request with our own token; once more with a new one if the first is not taken.
    ///
    /// # Errors
    /// No token, no connection, no answer in time. Any status is an answer.
    pub async fn send(&self, make: impl Fn(&reqwest::Client) -> RequestBuilder) -> Result<Response> {
        let mut again = true;
        loop {
            let own = self.token().await?;
            let secret = own.secret.expose();
            let response = self.0.http.send(|client| make(client).header("X-Auth-Token", secret)).await?;
            if response.status() != StatusCode::UNAUTHORIZED || !again {
                return Ok(response);
            }
            again = false;
            self.forget(&own);
        }
    }

    /// Where Keystone is asked about tokens: by the catalogue's internal (or chosen) endpoint, else where we log in.
    pub(crate) async fn identity_url(&self) -> Result<String> {
        let options = &self.0.options;
        let wanted = Wanted {
            service_type: "identity".into(),
            service_name: None,
            interface: options.interface,
            region: options.region.clone(),
        };
        match self.endpoint(&wanted).await {
            Ok(url) => Ok(version_3(&url).map_or(url, String::from)),
            Err(Error::NoEndpoint { .. }) => Ok(options.auth_url.to_string()),
            Err(error) => Err(error),
        }
    }
}
