//! The options of chunked backups, by Cinder's names (reference: backup.md 5, config.md).

use std::path::{Path, PathBuf};

use crate::compression::Compression;
use crate::error::{Error, Result};

/// `backup_file_size`'s default: 61035 hash blocks.
pub const DEFAULT_CHUNK_SIZE: u64 = 61_035 * DEFAULT_BLOCK_SIZE;
/// `backup_sha_block_size_bytes`'s default.
pub const DEFAULT_BLOCK_SIZE: u64 = 32 * 1024;
/// The smallest hash block that is taken: below it the hash file outgrows what it protects.
pub const MIN_BLOCK_SIZE: u64 = 512;
/// The largest object that is written, a bound against typing errors.
pub const MAX_CHUNK_SIZE: u64 = 1 << 40;
/// Objects in work at once unless told otherwise.
const DEFAULT_CONCURRENCY: usize = 4;

/// The POSIX store's options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PosixConfig {
    /// `backup_posix_path`: the directory under which containers are.
    pub path: PathBuf,
    /// `backup_container`: one container for all backups instead of one for each.
    pub container: Option<String>,
    /// `backup_create_containers`: whether missing containers are made.
    pub create_containers: bool,
}

impl PosixConfig {
    /// Reads the options through `get`, which answers an option's text by its name; `default_path` is the default of
    /// `backup_posix_path` (`$state_path/backup`).
    ///
    /// # Errors
    /// `Invalid` names the option that is wrong.
    pub fn from_options(get: impl Fn(&str) -> Option<String>, default_path: &Path) -> Result<Self> {
        let path = get("backup_posix_path").map_or_else(|| default_path.to_owned(), PathBuf::from);
        if !path.is_absolute() {
            return Err(Error::Invalid(format!(
                "backup_posix_path must be absolute, not {}",
                path.display()
            )));
        }
        let container = get("backup_container").filter(|name| !name.is_empty());
        if let Some(name) = &container {
            crate::store::check_container(name)
                .map_err(|e| Error::Invalid(format!("backup_container: {e}")))?;
        }
        let create_containers =
            match get("backup_create_containers").map(|text| text.trim().to_ascii_lowercase()) {
                None => true,
                Some(text) => match text.as_str() {
                    "true" | "1" | "on" | "yes" => true,
                    "false" | "0" | "off" | "no" => false,
                    _ => {
                        return Err(Error::Invalid(format!(
                            "backup_create_containers must be true or false, not {text}"
                        )));
                    }
                },
            };
        Ok(Self { path, container, create_containers })
    }
}

/// How a volume is cut, hashed, compressed and put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineConfig {
    /// `backup_file_size` (object stores: `backup_swift_object_size` and so on): bytes of volume in one object.
    pub chunk_size: u64,
    /// `backup_sha_block_size_bytes` (object stores: `backup_swift_block_size` and so on): bytes under one hash; the
    /// granularity of an incremental backup.
    pub block_size: u64,
    /// `backup_compression_algorithm`.
    pub compression: Compression,
    /// Objects in work at once; memory grows by about 8 MiB for each. Ours, not an option of Cinder's.
    pub concurrency: usize,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self {
            chunk_size: DEFAULT_CHUNK_SIZE,
            block_size: DEFAULT_BLOCK_SIZE,
            compression: Compression::default(),
            concurrency: DEFAULT_CONCURRENCY,
        }
    }
}

impl PipelineConfig {
    /// Reads the POSIX family's options through `get`, which answers an option's text by its name.
    ///
    /// # Errors
    /// `Invalid` names the option that is wrong.
    pub fn from_options(get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let size = |name: &str, default: u64| match get(name) {
            None => Ok(default),
            Some(text) => text
                .trim()
                .parse()
                .map_err(|_| Error::Invalid(format!("{name} must be a number of bytes, not {text:?}"))),
        };
        let compression = match get("backup_compression_algorithm") {
            None => Compression::default(),
            Some(text) => {
                text.parse().map_err(|e| Error::Invalid(format!("backup_compression_algorithm: {e}")))?
            }
        };
        let config = Self {
            chunk_size: size("backup_file_size", DEFAULT_CHUNK_SIZE)?,
            block_size: size("backup_sha_block_size_bytes", DEFAULT_BLOCK_SIZE)?,
            compression,
            concurrency: DEFAULT_CONCURRENCY,
        };
        config.check()?;
        Ok(config)
    }

    /// Checks that the sizes fit each other.
    ///
    /// # Errors
    /// `Invalid` says what does not.
    pub fn check(&self) -> Result<()> {
        if self.block_size < MIN_BLOCK_SIZE {
            let text = format!("a hash block of {} bytes is below {MIN_BLOCK_SIZE}", self.block_size);
            return Err(Error::Invalid(text));
        }
        if self.chunk_size == 0 || !self.chunk_size.is_multiple_of(self.block_size) {
            return Err(Error::Invalid("Chunk size is not multiple of block size for creating hash.".into()));
        }
        if self.chunk_size > MAX_CHUNK_SIZE {
            let text = format!("a chunk of {} bytes is above {MAX_CHUNK_SIZE}", self.chunk_size);
            return Err(Error::Invalid(text));
        }
        if self.concurrency == 0 || self.concurrency > 64 {
            return Err(Error::Invalid(format!("{} objects at once: must be 1 to 64", self.concurrency)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_cinders_defaults() {
        let config = PipelineConfig::from_options(|_| None).unwrap();
        assert_eq!((config.chunk_size, config.block_size), (1_999_994_880, 32_768));
        assert_eq!(config.compression.name(), "zlib");
        let posix = PosixConfig::from_options(|_| None, Path::new("/var/lib/cinder/backup")).unwrap();
        assert_eq!(posix.path, Path::new("/var/lib/cinder/backup"));
    }

    #[test]
    fn wrong_options_are_named() {
        for (name, text) in [
            ("backup_file_size", "1g"),
            ("backup_file_size", "32769"),
            ("backup_file_size", "0"),
            ("backup_sha_block_size_bytes", "-1"),
            ("backup_sha_block_size_bytes", "16"),
            ("backup_compression_algorithm", "lzma"),
        ] {
            let error = PipelineConfig::from_options(|n| (n == name).then(|| text.to_owned())).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Invalid, "{name} = {text}");
        }
        for (name, text) in [
            ("backup_container", "../up"),
            ("backup_posix_path", "relative"),
            ("backup_create_containers", "perhaps"),
        ] {
            let get = |n: &str| (n == name).then(|| text.to_owned());
            assert!(PosixConfig::from_options(get, Path::new("/b")).is_err(), "{name}");
        }
    }
}
