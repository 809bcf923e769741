//! Requests to the services that the catalogue names.

use model::config::Config;
use reqwest::{StatusCode, Url};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::http::{Http, HttpOptions, json, refusal};
use crate::options::OptionsError;

/// A service that is called: its TLS and time limits are those of a section such as `[nova]`.
#[derive(Debug, Clone)]
pub struct Peer(Http);

impl Peer {
    /// Reads the section's `cafile`, `insecure`, `certfile`, `keyfile` and `timeout`.
    ///
    /// # Errors
    /// The first option that cannot be used, with its place.
    pub fn open(config: &Config, section: &str) -> std::result::Result<Self, OptionsError> {
        Http::new(&HttpOptions::read(&config.section(section))?).map(Self)
    }

    /// The JSON document at an endpoint's path, given by its segments; `None` if there is none (404).
    ///
    /// # Errors
    /// No connection, no answer in time, another status than 200 and 404, or an answer that is no JSON.
    pub async fn get(
        &self,
        endpoint: &str,
        segments: &[&str],
        headers: &[(&str, &str)],
    ) -> Result<Option<Value>> {
        let wrong =
            || Error::Unreadable { url: endpoint.to_owned(), what: "it is no address of a service".into() };
        let mut url = Url::parse(endpoint).map_err(|_| wrong())?;
        // Segments are escaped: whatever they hold, they stay what they are.
        url.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().extend(segments);
        let request = |client: &reqwest::Client| {
            headers
                .iter()
                .fold(client.get(url.clone()), |request, (name, value)| request.header(*name, *value))
        };
        let response = self.0.send(request).await?;
        match response.status() {
            StatusCode::OK => json(response).await.map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(refusal(response).await),
        }
    }
}
