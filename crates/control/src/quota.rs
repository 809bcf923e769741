//! Quotas: which limits hold for a project, what each operation uses, what is refused (quotas.md, I6).

use std::collections::BTreeMap;

use db::Tx;
use db::quota::Over;
use model::GiB;
use model::quota::Usage;

use crate::cloud::Cloud;
use crate::error::{Error, OverQuota, Result};

/// The class that holds the defaults.
pub const DEFAULT_CLASS: &str = "default";

impl Cloud {
    /// The limits a project has: its own, else the default class's, else the configured ones. Resources that are not there have
    /// none.
    ///
    /// # Errors
    /// The database is away.
    pub async fn limits(&self, project: &str) -> Result<BTreeMap<String, i64>> {
        let mut limits = self.default_limits().await?;
        limits.extend(db::quota::project_limits(&mut self.db.read(), project).await?);
        Ok(limits)
    }

    /// The limits of a project that has none of its own.
    ///
    /// # Errors
    /// The database is away.
    pub async fn default_limits(&self) -> Result<BTreeMap<String, i64>> {
        let mut limits = self.settings.quotas.clone();
        if self.settings.default_quota_class {
            limits.extend(db::quota::class_limits(&mut self.db.read(), DEFAULT_CLASS).await?);
        }
        Ok(limits)
    }
}

/// What a volume of a type uses; `sign` is 1 to take, -1 to give back.
pub fn of_volume(size: GiB, type_name: Option<&str>, sign: i64) -> Vec<Usage> {
    twins("volumes", sign, type_name)
        .into_iter()
        .chain(gigabytes(i64::from(size.0) * sign, type_name))
        .collect()
}

/// What `gb` more (or less) of a volume of a type use.
pub fn gigabytes(gb: i64, type_name: Option<&str>) -> Vec<Usage> {
    twins("gigabytes", gb, type_name)
}

/// What a snapshot uses. Its gigabytes count unless `free`.
pub fn of_snapshot(size: GiB, type_name: Option<&str>, free: bool, sign: i64) -> Vec<Usage> {
    let mut usage = twins("snapshots", sign, type_name);
    if !free {
        usage.extend(gigabytes(i64::from(size.0) * sign, type_name));
    }
    usage
}

/// What a backup uses; `size` in GiB.
pub fn of_backup(size: u32, sign: i64) -> Vec<Usage> {
    vec![Usage::of("backups", sign), Usage::of("backup_gigabytes", i64::from(size) * sign)]
}

/// What a group uses.
pub fn of_group(sign: i64) -> Vec<Usage> {
    vec![Usage::of("groups", sign)]
}

/// The use of several things as one: each resource once.
pub fn sum(usages: impl IntoIterator<Item = Usage>) -> Vec<Usage> {
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    for usage in usages {
        *sums.entry(usage.resource).or_default() += usage.delta;
    }
    sums.into_iter().map(|(resource, delta)| Usage::of(resource, delta)).collect()
}

fn twins(resource: &str, delta: i64, type_name: Option<&str>) -> Vec<Usage> {
    let mut usage = vec![Usage::of(resource, delta)];
    if let Some(name) = type_name {
        usage.push(Usage::of(format!("{resource}_{name}"), delta));
    }
    usage
}

/// Takes, or refuses in Cinder's words; the caller rolls back then.
///
/// # Errors
/// [`Error::OverQuota`], or the database is away.
pub async fn take(tx: &mut Tx, project: &str, usage: &[Usage], limits: &BTreeMap<String, i64>) -> Result<()> {
    db::quota::take(tx, project, usage, limits).await?.map_err(refused)
}

/// Promises, or refuses in Cinder's words; the caller rolls back then.
///
/// # Errors
/// [`Error::OverQuota`], or the database is away.
pub async fn reserve(
    tx: &mut Tx,
    project: &str,
    usage: &[Usage],
    limits: &BTreeMap<String, i64>,
) -> Result<()> {
    db::quota::reserve(tx, project, usage, limits).await?.map_err(refused)
}

/// Counts what is used whatever the limits are: they were asked before.
///
/// # Errors
/// The database is away.
pub async fn count(tx: &mut Tx, project: &str, usage: &[Usage]) -> db::Result<()> {
    db::quota::take(tx, project, usage, &BTreeMap::new()).await.map(drop)
}

/// Gives back what a thing that is gone used. Negative deltas are never refused.
///
/// # Errors
/// The database is away.
pub async fn give_back(tx: &mut Tx, project: &str, usage: &[Usage]) -> db::Result<()> {
    count(tx, project, usage).await
}

/// Refuses a volume larger than the limit of one volume.
///
/// # Errors
/// [`Error::OverQuota`].
pub fn check_volume_size(size: GiB, limits: &BTreeMap<String, i64>) -> Result<()> {
    match limits.get("per_volume_gigabytes") {
        Some(limit) if *limit >= 0 && i64::from(size.0) > *limit => {
            Err(Error::OverQuota(OverQuota::VolumeSize { size: i64::from(size.0), limit: *limit }))
        }
        _ => Ok(()),
    }
}

fn refused(over: Over) -> Error {
    let Over { resource, requested, limit, used } = over;
    Error::OverQuota(match resource.split('_').next() {
        Some("volumes") => OverQuota::Volumes { quota: resource, limit },
        Some("snapshots") => OverQuota::Snapshots { limit },
        Some("backups") => OverQuota::Backups { limit },
        Some("groups") => OverQuota::Groups { limit },
        Some("backup") => OverQuota::BackupGigabytes { requested, limit, used },
        _ => OverQuota::Gigabytes { quota: resource, requested, limit, used },
    })
}
