//! User messages: why something that was accepted failed later.

use crate::{MessageId, Time};

/// A message as its owner reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub id: MessageId,
    pub project_id: Option<String>,
    /// `VOLUME_<RESOURCE>_<action>_<detail>`.
    pub event_id: String,
    /// `<action text>:<detail text>`.
    pub user_message: String,
    /// `ERROR`.
    pub level: String,
    pub request_id: Option<String>,
    pub resource_type: Option<String>,
    pub resource_uuid: Option<String>,
    pub created_at: Option<Time>,
    /// Until when it is kept.
    pub expires_at: Option<Time>,
}
