//! The options of a `file` backend.

use std::path::PathBuf;

use super::installation::Installation;

/// Where and how volumes are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileConfig {
    /// `file_directory`.
    pub directory: PathBuf,
    /// The pool's name: `volume_backend_name`, or the backend's section.
    pub pool_name: String,
    /// Permission bits of new files.
    pub file_mode: u32,
    /// Overlays that a volume may have; the snapshot after that is copied out.
    pub chain_max: usize,
    /// Whether reflinks are used where the file system has them (`file_reflink`).
    pub reflink: bool,
    /// Whose the directory must be; `None` leaves it unmarked and asks nobody.
    pub installation: Option<Installation>,
}

impl FileConfig {
    /// The defaults, for `directory`.
    pub fn new(directory: impl Into<PathBuf>, pool_name: impl Into<String>) -> Self {
        Self {
            directory: directory.into(),
            pool_name: pool_name.into(),
            file_mode: 0o600,
            chain_max: 16,
            reflink: true,
            installation: None,
        }
    }

    /// Reads the options of the backend section `section` through `option`.
    ///
    /// # Errors
    /// A sentence naming the option that is missing or wrong.
    pub fn from_options(section: &str, option: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let directory = option("file_directory")
            .filter(|d| !d.is_empty())
            .ok_or_else(|| format!("[{section}] needs file_directory, the directory of its volumes"))?;
        if !directory.starts_with('/') {
            return Err(format!("[{section}] file_directory must be an absolute path, not {directory:?}"));
        }
        let mut config =
            Self::new(directory, option("volume_backend_name").unwrap_or_else(|| section.to_owned()));
        if let Some(text) = option("file_reflink") {
            config.reflink = match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => true,
                "false" | "0" | "no" | "off" => false,
                _ => return Err(format!("[{section}] file_reflink must be true or false, not {text:?}")),
            };
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let with = |pairs: &'static [(&str, &str)]| {
            FileConfig::from_options("fast", |name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let config = with(&[("file_directory", "/srv/v")]).unwrap();
        assert_eq!(config, FileConfig::new("/srv/v", "fast"));
        let named =
            with(&[("file_directory", "/v"), ("volume_backend_name", "X"), ("file_reflink", "no")]).unwrap();
        assert_eq!((named.pool_name.as_str(), named.reflink), ("X", false));
        assert!(with(&[]).unwrap_err().contains("file_directory"));
        assert!(with(&[("file_directory", "v")]).is_err());
        assert!(with(&[("file_directory", "/v"), ("file_reflink", "maybe")]).is_err());
    }
}
