//! What the use cases take from the configuration, typed and checked at start.

use std::collections::BTreeMap;
use std::time::Duration;

use model::config::{Config, ConfigError};

use crate::transfer::Lengths;

/// Options of `[DEFAULT]` that decide what use cases do. Names are `cinder.conf`'s.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `host`.
    pub host: String,
    /// `storage_availability_zone`.
    pub zone: String,
    /// `default_availability_zone`.
    pub default_zone: Option<String>,
    /// `allow_availability_zone_fallback`.
    pub zone_fallback: bool,
    /// `cloned_volume_same_az`.
    pub clone_same_zone: bool,
    /// `default_volume_type`.
    pub default_type: String,
    /// `default_group_type`.
    pub default_group_type: Option<String>,
    /// `volume_transfer_salt_length` and `volume_transfer_key_length`.
    pub transfer_lengths: Lengths,
    /// `service_down_time`.
    pub service_down: Duration,
    /// `report_interval`.
    pub report_interval: Duration,
    /// `backend_stats_polling_interval`.
    pub stats_interval: Duration,
    /// `no_snapshot_gb_quota`.
    pub snapshot_gb_free: bool,
    /// `use_default_quota_class`.
    pub default_quota_class: bool,
    /// `quota_volumes` and so on, by resource.
    pub quotas: BTreeMap<String, i64>,
    /// `message_ttl`, seconds.
    pub message_ttl: i64,
    /// `enable_new_services`.
    pub enable_new_services: bool,
    /// `target_prefix`.
    pub target_prefix: String,
    /// How long a claim lasts without being renewed (`cinderblock_lease`, seconds).
    pub lease: Duration,
    /// How long a request waits for work that it must answer with (`rpc_response_timeout`).
    pub patience: Duration,
    /// `[keystone_authtoken] service_token_roles`: who has one may take attachments from servers.
    pub service_roles: Vec<String>,
    /// `backup_compression_algorithm` and the like are the backup crate's.
    pub backup_service: String,
}

const QUOTAS: &[(&str, &str)] = &[
    ("volumes", "quota_volumes"),
    ("snapshots", "quota_snapshots"),
    ("gigabytes", "quota_gigabytes"),
    ("backups", "quota_backups"),
    ("backup_gigabytes", "quota_backup_gigabytes"),
    ("groups", "quota_groups"),
    ("per_volume_gigabytes", "per_volume_size_limit"),
];

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// The first option whose value cannot be used, with its place.
    pub fn read(config: &Config, host: &str) -> Result<Self, ConfigError> {
        let section = config.default_section();
        let seconds = |name: &str, floor: i64| -> Result<Duration, ConfigError> {
            Ok(Duration::from_secs(section.int_in(name, floor..=86_400 * 365)?.unwrap_or(floor) as u64))
        };
        let report_interval = seconds("report_interval", 1)?;
        let mut service_down = seconds("service_down_time", 1)?;
        if service_down <= report_interval {
            // As Cinder: otherwise every service would count as down between two heartbeats.
            service_down = report_interval.mul_f64(2.5);
        }
        let quotas = QUOTAS
            .iter()
            .map(|(resource, option)| Ok((resource.to_string(), section.get::<i64>(option)?.unwrap_or(-1))))
            .collect::<Result<_, ConfigError>>()?;
        Ok(Self {
            host: host.to_owned(),
            zone: section.get("storage_availability_zone")?.unwrap_or_else(|| "nova".into()),
            default_zone: section.get::<String>("default_availability_zone")?.filter(|zone| !zone.is_empty()),
            zone_fallback: section.get("allow_availability_zone_fallback")?.unwrap_or(false),
            clone_same_zone: section.get("cloned_volume_same_az")?.unwrap_or(true),
            default_type: section
                .get("default_volume_type")?
                .unwrap_or_else(|| model::DEFAULT_TYPE_NAME.into()),
            default_group_type: section.get::<String>("default_group_type")?.filter(|name| !name.is_empty()),
            transfer_lengths: transfer_lengths(config)?,
            service_down,
            report_interval,
            stats_interval: seconds("backend_stats_polling_interval", 3)?,
            snapshot_gb_free: section.get("no_snapshot_gb_quota")?.unwrap_or(false),
            default_quota_class: section.get("use_default_quota_class")?.unwrap_or(true),
            quotas,
            message_ttl: section.get("message_ttl")?.unwrap_or(2_592_000),
            enable_new_services: section.get("enable_new_services")?.unwrap_or(true),
            target_prefix: section
                .get("target_prefix")?
                .unwrap_or_else(|| "iqn.2010-10.org.openstack:".into()),
            lease: Duration::from_secs(section.int_in("cinderblock_lease", 2..=3600)?.unwrap_or(15) as u64),
            patience: seconds("rpc_response_timeout", 1)?,
            service_roles: config
                .section("keystone_authtoken")
                .get("service_token_roles")?
                .unwrap_or_else(|| vec!["service".into()]),
            backup_service: String::from("cinder.backup.drivers.posix.PosixBackupDriver"),
        })
    }
}

fn transfer_lengths(config: &Config) -> Result<Lengths, ConfigError> {
    let section = config.default_section();
    let length = |name: &str, default: usize| -> Result<usize, ConfigError> {
        Ok(section.int_in(name, 1..=255)?.and_then(|digits| usize::try_from(digits).ok()).unwrap_or(default))
    };
    let Lengths { salt, key } = Lengths::default();
    Ok(Lengths {
        salt: length("volume_transfer_salt_length", salt)?,
        key: length("volume_transfer_key_length", key)?,
    })
}
