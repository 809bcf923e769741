//! Attachments: who uses a volume, and how it is reached.

use std::fmt;

use model::Connector;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::connection::segment;
use crate::{Client, Extra, Query, Result};

/// An attachment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attachment {
    pub id: String,
    pub status: String,
    pub volume_id: String,
    #[serde(default)]
    pub instance: Option<String>,
    #[serde(default)]
    pub attach_mode: Option<String>,
    #[serde(default)]
    pub attached_at: Option<String>,
    #[serde(default)]
    pub connection_info: Connection,
    #[serde(flatten)]
    pub extra: Extra,
}

/// How a volume is reached. May hold a CHAP password, so `Debug` shows the names of its fields only.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Connection(Extra);

impl Connection {
    /// Every field as it came, secrets included.
    pub fn fields(&self) -> &Extra {
        &self.0
    }

    /// A field that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// Whether a field must not be shown unasked.
    pub fn is_secret(name: &str) -> bool {
        name.contains("password") || name.contains("secret") || name.contains("keyring")
    }

    /// The address that QEMU's and libiscsi's tools take, `iscsi://user%secret@portal/iqn/lun`; `None` when the volume
    /// is not reached by iSCSI.
    pub fn iscsi_url(&self) -> Option<String> {
        let (portal, iqn) = (self.text("target_portal")?, self.text("target_iqn")?);
        let lun = self.0.get("target_lun")?.as_u64()?;
        let login = match (self.text("auth_username"), self.text("auth_password")) {
            (Some(user), Some(password)) => format!("{user}%{password}@"),
            _ => String::new(),
        };
        Some(format!("iscsi://{login}{portal}/{iqn}/{lun}"))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What a new attachment shall be.
#[derive(Debug, Clone, Default)]
pub struct NewAttachment {
    pub volume_id: String,
    /// The server that will use the volume.
    pub instance: Option<String>,
    /// The host that will use it; without one the volume is only reserved.
    pub connector: Option<Connector>,
    /// `rw` or `ro`.
    pub mode: Option<String>,
}

impl Client {
    /// Attachments, with all their fields.
    ///
    /// # Errors
    /// As any request.
    pub async fn attachments(&self, query: &Query) -> Result<Vec<Attachment>> {
        self.pages("attachments/detail", "attachments", query).await
    }

    /// One attachment.
    ///
    /// # Errors
    /// As any request; 404 when there is none.
    pub async fn attachment(&self, id: &str) -> Result<Attachment> {
        self.v3(Method::GET, &format!("attachments/{}", segment(id))).member("attachment").await
    }

    /// Creates an attachment; with a connector the volume is exported when this returns.
    ///
    /// # Errors
    /// As any request; 400 when the volume's status does not allow it.
    pub async fn create_attachment(&self, wanted: &NewAttachment) -> Result<Attachment> {
        let mut body = json!({ "volume_uuid": wanted.volume_id });
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                body[key] = value;
            }
        };
        set("instance_uuid", wanted.instance.clone().map(Value::from));
        set("mode", wanted.mode.clone().map(Value::from));
        set("connector", wanted.connector.clone().map(|connector| Value::Object(connector.0)));
        self.v3(Method::POST, "attachments").body(json!({ "attachment": body })).member("attachment").await
    }

    /// Gives an attachment its connector; the volume is exported when this returns.
    ///
    /// # Errors
    /// As any request.
    pub async fn update_attachment(&self, id: &str, connector: &Connector) -> Result<Attachment> {
        let body = json!({ "attachment": { "connector": connector } });
        self.v3(Method::PUT, &format!("attachments/{}", segment(id))).body(body).member("attachment").await
    }

    /// Says that the host has connected.
    ///
    /// # Errors
    /// As any request.
    pub async fn complete_attachment(&self, id: &str) -> Result<()> {
        let body = json!({ "os-complete": null });
        self.v3(Method::POST, &format!("attachments/{}/action", segment(id))).body(body).done().await
    }

    /// Ends an attachment; its export is gone when this returns.
    ///
    /// # Errors
    /// As any request; 409 when a server still uses it.
    pub async fn delete_attachment(&self, id: &str) -> Result<()> {
        self.v3(Method::DELETE, &format!("attachments/{}", segment(id))).done().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        let fields = json!({"target_portal": "127.0.0.1:3260", "target_iqn": "iqn.x", "target_lun": 1,
            "auth_method": "CHAP", "auth_username": "u", "auth_password": "hunter2"});
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn an_iscsi_connection_has_an_address_for_user_space_tools() {
        assert_eq!(connection().iscsi_url().unwrap(), "iscsi://u%hunter2@127.0.0.1:3260/iqn.x/1");
        assert_eq!(Connection::default().iscsi_url(), None);
    }

    #[test]
    fn a_password_does_not_show_in_debug_output() {
        assert!(!format!("{:?}", connection()).contains("hunter2"));
        assert!(Connection::is_secret("auth_password") && !Connection::is_secret("auth_username"));
    }
}
