//! Messages: why something that was accepted did not work out.

use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::connection::segment;
use crate::{Client, Extra, Query, Result};

/// A message to the user about an operation that failed later.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    pub id: String,
    pub event_id: String,
    pub user_message: String,
    pub message_level: String,
    #[serde(default)]
    pub resource_type: Option<String>,
    #[serde(default)]
    pub resource_uuid: Option<String>,
    #[serde(default)]
    pub request_id: Option<String>,
    #[serde(default)]
    pub created_at: Option<String>,
    #[serde(flatten)]
    pub extra: Extra,
}

impl Client {
    /// Messages.
    ///
    /// # Errors
    /// As any request.
    pub async fn messages(&self, query: &Query) -> Result<Vec<Message>> {
        self.pages("messages", "messages", query).await
    }

    /// One message.
    ///
    /// # Errors
    /// As any request; 404 when there is none.
    pub async fn message(&self, id: &str) -> Result<Message> {
        self.v3(Method::GET, &format!("messages/{}", segment(id))).member("message").await
    }

    /// Deletes a message.
    ///
    /// # Errors
    /// As any request.
    pub async fn delete_message(&self, id: &str) -> Result<()> {
        self.v3(Method::DELETE, &format!("messages/{}", segment(id))).done().await
    }

    /// The newest message about a resource.
    pub(crate) async fn newest_message(&self, resource: &str) -> Result<Option<Message>> {
        let query = Query::default().filter("resource_uuid", Some(resource)).at_most(Some(1));
        Ok(self.messages(&query).await?.into_iter().next())
    }
}
