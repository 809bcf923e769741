//! `volume-<id>.info`: Cinder's own record of a chain, JSON with one key per snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::job::Claim;
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::dir::Dir;
use super::names;
use crate::error::{DriverError, ErrorKind, Result};

const ACTIVE: &str = "active";

/// Which file of a volume takes writes, and which overlay began at which snapshot. A snapshot's bytes are what lies
/// *below* its overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    volume: String,
    pub active: String,
    /// Overlay by snapshot id (or by the key of a temporary snapshot).
    pub overlays: BTreeMap<String, String>,
}

impl Info {
    /// Reads the record of `volume`. None means that its only file is the volume's own.
    pub fn load(dir: &Dir, volume: &str) -> Result<Self> {
        let plain = Self { volume: volume.to_owned(), active: volume.to_owned(), overlays: BTreeMap::new() };
        let name = names::info(volume);
        let Some(text) = dir.text(&name)? else { return Ok(plain) };
        let mut files: BTreeMap<String, String> = serde_json::from_str(&text).map_err(|e| DriverError {
            source: Some(Box::new(e)),
            ..DriverError::new(ErrorKind::Backend, format!("{name} cannot be read"))
        })?;
        for file in files.values_mut() {
            *file = names::backing(volume, file)?;
        }
        let active = files.remove(ACTIVE).ok_or_else(|| {
            DriverError::new(ErrorKind::Backend, format!("{name} does not say which file is active"))
        })?;
        Ok(Self { active, overlays: files, ..plain })
    }

    /// Publishes the record, unless the claim is lost. `Err` means that it is not published.
    pub fn store(&self, dir: &Arc<Dir>, claim: &Claim) -> Result<Stored> {
        let name = names::info(&self.volume);
        if self.overlays.is_empty() && self.active == self.volume {
            claim.check()?;
            dir.remove(&name)?;
        } else {
            let making = dir.make(&name, claim)?;
            making.write_text(&self.json())?;
            making.publish_over(claim)?;
        }
        Ok(match dir.sync() {
            Ok(()) => Stored::Durable,
            Err(error) => Stored::Unsynced(error),
        })
    }

    /// The text as Cinder writes it: sorted, indented by one.
    fn json(&self) -> String {
        let mut all: BTreeMap<&str, &str> =
            self.overlays.iter().map(|(key, file)| (key.as_str(), file.as_str())).collect();
        all.insert(ACTIVE, &self.active);
        let mut out = Vec::new();
        let mut to = Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b" "));
        all.serialize(&mut to).expect("text in memory cannot fail to be written");
        String::from_utf8(out).expect("JSON is UTF-8")
    }
}

/// How far a published record got. Either way it is what everybody reads from now on.
#[derive(Debug)]
#[must_use = "an unsynced record is an error to report"]
pub enum Stored {
    Durable,
    Unsynced(DriverError),
}

impl Stored {
    /// An error unless it is durable.
    pub fn durable(self) -> Result<()> {
        match self {
            Self::Durable => Ok(()),
            Self::Unsynced(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_cinders() {
        let volume = "volume-0a1b2c3d-0000-4000-8000-000000000001";
        let overlay = format!("{volume}.aa");
        let overlays = BTreeMap::from([("aa".to_owned(), overlay.clone())]);
        let info = Info { volume: volume.into(), active: overlay.clone(), overlays };
        assert_eq!(info.json(), format!("{{\n \"aa\": \"{overlay}\",\n \"active\": \"{overlay}\"\n}}"));
    }
}
