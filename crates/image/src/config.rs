//! What `cinder.conf` says of images: options of `[DEFAULT]`, names as Cinder's.

use std::path::PathBuf;
use std::time::Duration;

use model::config::{Config, ConfigError};

/// How Glance is reached, and what conversion may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `glance_api_servers`: addresses, tried in turn. Empty: by the catalogue.
    pub servers: Vec<String>,
    /// `glance_catalog_info`: `<service type>:<service name>:<endpoint type>`.
    pub catalog_info: String,
    /// `glance_num_retries`: further tries after a failure that may pass.
    pub retries: u32,
    /// `glance_request_timeout`: how long an answer or the next bytes of one may take.
    pub timeout: Duration,
    /// `glance_ca_certificates_file`: trust these authorities and no others.
    pub cafile: Option<PathBuf>,
    /// `glance_api_insecure`: trust any certificate.
    pub insecure: bool,
    /// `image_conversion_dir`.
    pub conversion_dir: PathBuf,
    /// `image_conversion_disable`: images that would need it are refused.
    pub conversion_disabled: bool,
    /// `image_conversion_cpu_limit`, seconds; each GiB of an image adds [`CPU_PER_GIB`].
    pub cpu_limit: u64,
    /// `image_conversion_address_space_limit`, GiB.
    pub address_space_limit: u64,
    /// `vmdk_allowed_types`.
    pub vmdk_types: Vec<String>,
    /// `allowed_direct_url_schemes`.
    pub direct_url_schemes: Vec<String>,
    /// `allow_compression_on_image_upload`.
    pub compression: bool,
}

/// Seconds of processor time that a conversion may use for each GiB, beyond `image_conversion_cpu_limit`.
pub const CPU_PER_GIB: u64 = 60;
/// Where Cinder waits for ever.
const TIMEOUT: Duration = Duration::from_secs(60);

impl Options {
    /// Reads them.
    ///
    /// # Errors
    /// The first option whose value cannot be used, with its place.
    pub fn read(config: &Config) -> Result<Self, ConfigError> {
        let section = config.default_section();
        let list = |name: &str| section.get::<Vec<String>>(name).map(Option::unwrap_or_default);
        Ok(Self {
            servers: list("glance_api_servers")?,
            catalog_info: section.get("glance_catalog_info")?.unwrap_or_default(),
            retries: section.int_in("glance_num_retries", 0..=100)?.unwrap_or(3) as u32,
            timeout: section
                .int_in("glance_request_timeout", 1..=86_400)?
                .map_or(TIMEOUT, |seconds| Duration::from_secs(seconds as u64)),
            cafile: section.get::<String>("glance_ca_certificates_file")?.map(PathBuf::from),
            insecure: section.get("glance_api_insecure")?.unwrap_or(false),
            conversion_dir: section.require::<String>("image_conversion_dir")?.into(),
            conversion_disabled: section.get("image_conversion_disable")?.unwrap_or(false),
            cpu_limit: section.int_in("image_conversion_cpu_limit", 1..=86_400)?.unwrap_or(60) as u64,
            address_space_limit: section
                .int_in("image_conversion_address_space_limit", 1..=1024)?
                .unwrap_or(1) as u64,
            vmdk_types: list("vmdk_allowed_types")?,
            direct_url_schemes: list("allowed_direct_url_schemes")?,
            compression: section.get("allow_compression_on_image_upload")?.unwrap_or(false),
        })
    }
}
