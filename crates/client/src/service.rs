//! Services: the running roles and their heartbeats.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Client, Extra, Result};

/// A running role.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Service {
    pub binary: String,
    pub host: String,
    #[serde(default)]
    pub zone: Option<String>,
    /// `enabled` or `disabled`.
    pub status: String,
    /// `up` or `down`.
    pub state: String,
    #[serde(default)]
    pub updated_at: Option<String>,
    #[serde(default)]
    pub disabled_reason: Option<String>,
    #[serde(flatten)]
    pub extra: Extra,
}

impl Client {
    /// All services.
    ///
    /// # Errors
    /// As any request.
    pub async fn services(&self) -> Result<Vec<Service>> {
        self.v3(Method::GET, "os-services").member("services").await
    }

    /// Lets new work go to a service again.
    ///
    /// # Errors
    /// As any request; 404 when there is none.
    pub async fn enable_service(&self, host: &str, binary: &str) -> Result<()> {
        let body = json!({ "host": host, "binary": binary });
        self.v3(Method::PUT, "os-services/enable").body(body).done().await
    }

    /// Keeps new work away from a service.
    ///
    /// # Errors
    /// As any request; 404 when there is none.
    pub async fn disable_service(&self, host: &str, binary: &str, reason: Option<&str>) -> Result<()> {
        let (path, body) = match reason {
            Some(reason) => (
                "os-services/disable-log-reason",
                json!({ "host": host, "binary": binary, "disabled_reason": reason }),
            ),
            None => ("os-services/disable", json!({ "host": host, "binary": binary })),
        };
        self.v3(Method::PUT, path).body(body).done().await
    }
}
