//! Asking Keystone about a token: once for everybody who wants to know, with a deadline.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use reqwest::StatusCode;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::Instrument;

use crate::cache::{Cache, Key};
use crate::error::Error;
use crate::http::{json, refusal};
use crate::session::Session;
use crate::token::Token;

/// How many tokens Keystone is asked about at a time; the rest wait.
const AT_A_TIME: usize = 32;
/// How many may be asked about or wait.
const UNDER_WAY: usize = 4096;
/// How long anybody waits for an answer, all tries and logins included.
const DEADLINE: Duration = Duration::from_secs(30);
/// How many tokens are remembered.
const CAPACITY: usize = 10_000;

/// The services of users' catalogues that we may have to call in their name.
const KEPT: &[&str] = &["identity", "compute", "object-store", "image", "key-manager"];

/// Why a token is not taken.
#[derive(Debug, Clone)]
pub(crate) enum Bad {
    /// Keystone does not know it, or no longer.
    Token,
    /// Keystone cannot say.
    Keystone(Error),
}

type Outcome = Result<Arc<Token>, Bad>;
type Flight = Shared<BoxFuture<'static, Outcome>>;

/// What is asked, and how.
#[derive(Debug)]
pub(crate) struct Question {
    pub session: Session,
    /// Whether catalogues are wanted (`include_service_catalog`).
    pub catalogue: bool,
    /// Our own type, which restricted tokens must know of.
    pub service_type: Option<String>,
}

/// What is known of tokens and what is being found out.
pub(crate) struct Validation {
    question: Question,
    state: Mutex<State>,
    at_a_time: Semaphore,
}

struct State {
    cache: Cache,
    /// By token, and by whether an expired one will do.
    flights: HashMap<(Key, bool), Flight>,
}

impl Validation {
    pub(crate) fn new(question: Question, cache_time: Duration) -> Self {
        let state = State { cache: Cache::new(cache_time, CAPACITY), flights: HashMap::new() };
        Self { question, state: Mutex::new(state), at_a_time: Semaphore::new(AT_A_TIME) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a token is, by memory or by Keystone. Whether it has expired is for the caller to see.
    pub(crate) async fn of(self: &Arc<Self>, secret: &str, expired_will_do: bool) -> Outcome {
        let key = Key::of(secret);
        let flight = {
            let mut state = self.state();
            if let Some(known) = state.cache.get(&key, Instant::now()) {
                return Ok(known);
            }
            match state.flights.get(&(key, expired_will_do)) {
                Some(flight) => flight.clone(),
                None if state.flights.len() >= UNDER_WAY => return Err(Bad::Keystone(Error::Overloaded)),
                None => {
                    let flight = self.take_off(key, secret.to_owned(), expired_will_do);
                    state.flights.insert((key, expired_will_do), flight.clone());
                    flight
                }
            }
        };
        flight.await
    }

    /// Finds out in a task of its own: an answer is worth having even when nobody waits for it any more.
    fn take_off(self: &Arc<Self>, key: Key, secret: String, expired_will_do: bool) -> Flight {
        let this = Arc::clone(self);
        let task = tokio::spawn(
            async move {
                let asked = tokio::time::timeout(DEADLINE, this.ask(&secret, expired_will_do)).await;
                let late = || Err(Bad::Keystone(Error::Deadline { seconds: DEADLINE.as_secs() }));
                let outcome = asked.unwrap_or_else(|_| late());
                let mut state = this.state();
                if let Ok(token) = &outcome {
                    state.cache.insert(key, Arc::clone(token), Instant::now());
                }
                state.flights.remove(&(key, expired_will_do));
                outcome
            }
            .in_current_span(),
        );
        async move { task.await.unwrap_or(Err(Bad::Keystone(Error::Overloaded))) }.boxed().shared()
    }

    async fn ask(&self, secret: &str, expired_will_do: bool) -> Outcome {
        // The semaphore is never closed.
        let _turn = self.at_a_time.acquire().await;
        let session = &self.question.session;
        let mut url = session.identity_url().await.map_err(Bad::Keystone)?;
        url.push_str("/auth/tokens");
        let flags = [("nocatalog", !self.question.catalogue), ("allow_expired=1", expired_will_do)];
        for (n, (flag, _)) in flags.iter().filter(|(_, set)| *set).enumerate() {
            url.push(if n == 0 { '?' } else { '&' });
            url.push_str(flag);
        }
        let request = |client: &reqwest::Client| {
            client.get(&url).header("X-Subject-Token", secret).header("OpenStack-Identity-Access-Rules", "1")
        };
        let response = session.send(request).await.map_err(Bad::Keystone)?;
        match response.status() {
            StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION => {}
            StatusCode::NOT_FOUND => return Err(Bad::Token),
            _ => return Err(Bad::Keystone(refusal(response).await)),
        }
        let document = json(response).await.map_err(Bad::Keystone)?;
        let own_type = self.question.service_type.as_deref();
        Token::read(document, |kind| KEPT.contains(&kind) || own_type == Some(kind))
            .map(Arc::new)
            .map_err(|error| Bad::Keystone(Error::Unreadable { url: url.clone(), what: error.to_string() }))
    }
}
