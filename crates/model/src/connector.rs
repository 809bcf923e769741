//! What a host says of itself when it asks for a volume, and what it is told in return.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A host's properties as os-brick's `get_connector_properties` gives them. Kept whole, because they are stored and
/// handed back as they came; the accessors name what we read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Connector(pub Map<String, Value>);

impl Connector {
    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// The iSCSI initiator name.
    pub fn initiator(&self) -> Option<&str> {
        self.text("initiator")
    }

    /// The host's name.
    pub fn host(&self) -> Option<&str> {
        self.text("host")
    }

    /// Where the device appears in the instance, when the client says so.
    pub fn mountpoint(&self) -> Option<&str> {
        self.text("mountpoint")
    }

    /// The mode asked for in the connector (`rw` or `ro`), which attachments honour when the request has none.
    pub fn mode(&self) -> Option<&str> {
        self.text("mode")
    }

    /// Whether the host wants several paths.
    pub fn multipath(&self) -> bool {
        self.0.get("multipath").and_then(Value::as_bool).unwrap_or(false)
    }

    /// Whether the host insists on multipath.
    pub fn enforce_multipath(&self) -> bool {
        self.0.get("enforce_multipath").and_then(Value::as_bool).unwrap_or(false)
    }
}

/// How to reach an exported volume: `driver_volume_type` and its `data`. `Debug` hides the secrets in it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectionInfo {
    /// The transport: `iscsi`, `rbd`, `nfs`, `local`, ...
    pub driver_volume_type: String,
    /// The transport's fields (reference: connection_info). May hold a CHAP password: never logged.
    pub data: Map<String, Value>,
}

impl fmt::Debug for ConnectionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = |key: &str| ["password", "keyring", "token"].iter().any(|word| key.contains(word));
        let shown = |(key, value): (&String, &Value)| {
            (key.clone(), if secret(key) { "***".to_owned() } else { value.to_string() })
        };
        f.debug_struct("ConnectionInfo")
            .field("driver_volume_type", &self.driver_volume_type)
            .field("data", &self.data.iter().map(shown).collect::<BTreeMap<_, _>>())
            .finish()
    }
}
