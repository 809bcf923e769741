//! Export records: a backup's row as text, so that another service can take the backup in (reference: backup.md 4).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::python;
use crate::error::{Error, Result};

/// The longest text that is taken in, in bytes.
pub const MAX_TEXT: usize = 1 << 20;

/// How the refusal of a record without an id ends.
pub const NO_ID: &str = "it has no id";

/// A backup's row, by Cinder's field names and in its order. Times are `YYYY-MM-DDTHH:MM:SSZ`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupRecord {
    /// What the driver adds; none of the chunked ones adds anything.
    pub driver_info: Map<String, Value>,
    pub id: String,
    pub user_id: Option<String>,
    pub project_id: Option<String>,
    pub volume_id: Option<String>,
    pub host: Option<String>,
    pub availability_zone: Option<String>,
    pub container: Option<String>,
    pub parent_id: Option<String>,
    pub status: Option<String>,
    pub fail_reason: Option<String>,
    /// GiB.
    pub size: Option<i64>,
    pub display_name: Option<String>,
    pub display_description: Option<String>,
    /// The prefix of the backup's objects.
    pub service_metadata: Option<String>,
    /// The driver's class path.
    pub service: Option<String>,
    pub object_count: Option<i64>,
    pub temp_volume_id: Option<String>,
    pub temp_snapshot_id: Option<String>,
    pub num_dependent_backups: Option<i64>,
    pub snapshot_id: Option<String>,
    pub data_timestamp: Option<String>,
    pub restore_volume_id: Option<String>,
    pub metadata: Option<Map<String, Value>>,
    pub encryption_key_id: Option<String>,
    pub created_at: Option<String>,
    pub updated_at: Option<String>,
    pub deleted_at: Option<String>,
    pub deleted: bool,
}

impl BackupRecord {
    /// The `backup_url` of an export answer.
    pub fn encode(&self) -> String {
        let value = serde_json::to_value(self).expect("plain fields with string keys are always JSON");
        STANDARD.encode(python::dumps(&value))
    }

    /// Reads the `backup_url` of an import request. Fields that are unknown here are ignored.
    ///
    /// # Errors
    /// `Invalid` when it is not the base64 text of a JSON object with an id, or too long.
    pub fn decode(text: &str) -> Result<Self> {
        let refuse = |why: String| Error::Invalid(format!("Can't parse backup record: {why}"));
        if text.len() > MAX_TEXT {
            return Err(refuse(format!("{} bytes are more than {MAX_TEXT}", text.len())));
        }
        let json = STANDARD.decode(text.trim()).map_err(|e| refuse(e.to_string()))?;
        let record: Self = serde_json::from_slice(&json).map_err(|e| refuse(e.to_string()))?;
        if record.id.is_empty() {
            return Err(refuse(NO_ID.into()));
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junk_is_refused() {
        let long = "A".repeat(MAX_TEXT + 4);
        for text in ["", "!", "AAAA", "W10=", "e30=", &long] {
            assert_eq!(BackupRecord::decode(text).unwrap_err().kind(), crate::ErrorKind::Invalid);
        }
        let deep = STANDARD.encode(format!("{{\"id\": \"x\", \"metadata\": {}", "{\"a\":".repeat(100_000)));
        assert!(BackupRecord::decode(&deep).is_err());
    }

    #[test]
    fn a_record_reads_back() {
        let record = BackupRecord { id: "i".into(), size: Some(1), ..BackupRecord::default() };
        assert_eq!(BackupRecord::decode(&record.encode()).unwrap(), record);
    }
}
