//! The volume's own metadata inside a backup (`volume_meta`): a JSON text of its own (reference: backup.md 3).

use serde_json::{Map, Value};

use super::python;
use crate::error::{Error, Result};

/// The version that is written.
pub const VERSION: u64 = 2;

/// What a backup remembers of the volume it was taken from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VolumeMeta {
    /// `volume-base-metadata`: columns of the volume's row.
    pub base: Map<String, Value>,
    /// `volume-metadata`: the user's keys and values.
    pub metadata: Map<String, Value>,
    /// `volume-glance-metadata`: what the image said.
    pub glance: Map<String, Value>,
    /// The version it was read from: 1 lacks the encryption key's id.
    pub version: u64,
}

const SECTIONS: [&str; 3] = ["volume-base-metadata", "volume-metadata", "volume-glance-metadata"];

impl VolumeMeta {
    /// The text to store; empty sections are left out.
    pub fn encode(&self) -> String {
        let mut all = Map::new();
        all.insert("version".into(), VERSION.into());
        for (name, section) in SECTIONS.iter().zip([&self.base, &self.metadata, &self.glance]) {
            if !section.is_empty() {
                all.insert((*name).into(), Value::Object(section.clone()));
            }
        }
        python::dumps(&Value::Object(all))
    }

    /// Reads a stored text.
    ///
    /// # Errors
    /// `Corrupt` when it is not such a text, or of a version other than 1 and 2.
    pub fn decode(text: &str) -> Result<Self> {
        let corrupt =
            |why: String| Error::Corrupt(format!("the volume metadata in the backup is unusable: {why}"));
        let mut all: Map<String, Value> = serde_json::from_str(text).map_err(|e| corrupt(e.to_string()))?;
        let version = match all.get("version").and_then(Value::as_u64) {
            Some(version @ 1..=VERSION) => version,
            _ => {
                return Err(corrupt(format!(
                    "unknown version {}",
                    all.get("version").unwrap_or(&Value::Null)
                )));
            }
        };
        let mut section = |name: &str| match all.remove(name) {
            None => Ok(Map::new()),
            Some(Value::Object(fields)) => Ok(fields),
            Some(_) => Err(corrupt(format!("{name} is not an object"))),
        };
        Ok(Self {
            base: section(SECTIONS[0])?,
            metadata: section(SECTIONS[1])?,
            glance: section(SECTIONS[2])?,
            version,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_text_reads_back_and_leaves_empty_sections_out() {
        let mut meta = VolumeMeta { version: VERSION, ..VolumeMeta::default() };
        assert_eq!(meta.encode(), r#"{"version": 2}"#);
        meta.base.insert("display_name".into(), "ü".into());
        meta.metadata.insert("k".into(), "v".into());
        let text = meta.encode();
        assert_eq!(
            text,
            r#"{"version": 2, "volume-base-metadata": {"display_name": "\u00fc"}, "volume-metadata": {"k": "v"}}"#
        );
        assert_eq!(VolumeMeta::decode(&text).unwrap(), meta);
    }

    #[test]
    fn unknown_versions_and_shapes_are_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"version": 3}"#,
            r#"{"version": "2"}"#,
            r#"{"version":2,"volume-metadata":[]}"#,
        ] {
            assert_eq!(VolumeMeta::decode(text).unwrap_err().kind(), crate::ErrorKind::Corrupt, "{text}");
        }
        assert_eq!(VolumeMeta::decode(r#"{"version": 1}"#).unwrap().version, 1);
    }
}
