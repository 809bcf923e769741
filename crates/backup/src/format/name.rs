//! Names: containers, prefixes and objects.
//!
//! ```text
//! POSIX family   container <id[0:2]>/<id[2:4]>/<id>        prefix volume_<volume>_<time>_backup_<id>
//! object stores  container as configured (a bucket)        prefix volume_<volume>/<time>/az_<zone>_backup_<id>
//! objects        <prefix>-00001 ... (data)   <prefix>_metadata   <prefix>_sha256file
//! ```

use chrono::TimeDelta;
use model::{BackupId, Time, VolumeId};

/// Which of Cinder's two naming rules a store follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// POSIX, NFS, GlusterFS; `container` replaces the directory of the backup's own (`backup_container`).
    Posix { container: Option<String> },
    /// Swift, S3, GCS.
    Objects { container: String, availability_zone: String },
}

impl Naming {
    /// The container of a backup for which `requested` was asked.
    pub fn container(&self, backup: BackupId, requested: Option<&str>) -> String {
        if let Some(requested) = requested.filter(|name| !name.is_empty()) {
            return requested.to_owned();
        }
        match self {
            Self::Posix { container: Some(container) } | Self::Objects { container, .. } => container.clone(),
            Self::Posix { container: None } => {
                let id = backup.to_string();
                format!("{}/{}/{id}", &id[0..2], &id[2..4])
            }
        }
    }

    /// The prefix of the objects that run `epoch` (from 1) of a backup made at `created_at` writes.
    ///
    /// Cinder stamps the time of the attempt; here the stamp is the creation time plus one second for each epoch before
    /// this one, so that no two runs of a job share a prefix and a rerun can tell whose objects are whose.
    pub fn prefix(&self, volume: VolumeId, backup: BackupId, created_at: Time, epoch: i64) -> String {
        let delay = TimeDelta::try_seconds(epoch.saturating_sub(1)).unwrap_or_default();
        let time = created_at.checked_add_signed(delay).unwrap_or(created_at).format("%Y%m%d%H%M%S");
        match self {
            Self::Posix { .. } => format!("volume_{volume}_{time}_backup_{backup}"),
            Self::Objects { availability_zone, .. } => {
                format!("volume_{volume}/{time}/az_{availability_zone}_backup_{backup}")
            }
        }
    }
}

/// The data object numbered `number` (from 1).
pub fn data(prefix: &str, number: u64) -> String {
    format!("{prefix}-{number:05}")
}

/// The metadata file.
pub fn metadata(prefix: &str) -> String {
    format!("{prefix}_metadata")
}

/// The hash file.
pub fn hashes(prefix: &str) -> String {
    format!("{prefix}_sha256file")
}

/// What an object's name says that it is, seen from a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A data object and its number.
    Data(u64),
    Metadata,
    Hashes,
    /// None of a backup's objects.
    Other,
}

/// Tells what `name` is under `prefix`. Only the one spelling that Cinder writes counts as a data object.
pub fn kind(prefix: &str, name: &str) -> Kind {
    match name.strip_prefix(prefix) {
        Some("_metadata") => Kind::Metadata,
        Some("_sha256file") => Kind::Hashes,
        Some(rest) => number(rest).map_or(Kind::Other, Kind::Data),
        None => Kind::Other,
    }
}

/// The number in `-NNNNN`: at least five digits, no more zeros than needed for that, not 0.
fn number(rest: &str) -> Option<u64> {
    let digits = rest.strip_prefix('-')?;
    if digits.len() < 5 || digits.len() > 18 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if digits.len() > 5 && digits.starts_with('0') {
        return None;
    }
    digits.parse().ok().filter(|n| *n > 0)
}

/// What every object of every run of a backup of `volume` starts with, under both naming rules.
pub(crate) fn volume_prefix(volume: VolumeId) -> String {
    format!("volume_{volume}")
}

/// Whether `name` is an object of any run of `backup`.
pub(crate) fn belongs_to(backup: BackupId, name: &str) -> bool {
    let mark = format!("_backup_{backup}");
    name.find(&mark).is_some_and(|at| kind(&name[..at + mark.len()], name) != Kind::Other)
}

/// Whether `name` is an object of the run of `backup` whose prefix is `own`, or of an earlier one.
pub(crate) fn is_of_run_until(own: &str, volume: VolumeId, backup: BackupId, name: &str) -> bool {
    let stamp = |name: &str| stamp_of(volume, name).map(str::to_owned);
    belongs_to(backup, name) && stamp(name).is_some_and(|stamp_of_name| Some(stamp_of_name) <= stamp(own))
}

/// The volume and the backup that a prefix names.
pub(crate) fn owner_of(prefix: &str) -> Option<(VolumeId, BackupId)> {
    let (start, backup) = prefix.rsplit_once("_backup_")?;
    let volume = start.strip_prefix("volume_")?.get(..36)?;
    Some((volume.parse().ok()?, backup.parse().ok()?))
}

/// The time stamp in a name or prefix under one of `volume`'s prefixes.
fn stamp_of(volume: VolumeId, name: &str) -> Option<&str> {
    let rest = name.strip_prefix(&volume_prefix(volume))?;
    let stamp = rest.get(1..15)?;
    stamp.bytes().all(|b| b.is_ascii_digit()).then_some(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKUP: &str = "3e165958-5169-462c-8b74-7273b1912aef";
    const VOLUME: &str = "a232f9b7-3f2c-41bf-a596-407da6086926";

    #[test]
    fn names_are_cinders() {
        let (backup, volume): (BackupId, VolumeId) = (BACKUP.parse().unwrap(), VOLUME.parse().unwrap());
        let posix = Naming::Posix { container: None };
        assert_eq!(posix.container(backup, None), format!("3e/16/{BACKUP}"));
        assert_eq!(posix.container(backup, Some("mine")), "mine");
        let at = "2026-11-21T19:32:04.683138Z".parse().unwrap();
        let prefix = posix.prefix(volume, backup, at, 1);
        assert_eq!(prefix, format!("volume_{VOLUME}_20261121193204_backup_{BACKUP}"));
        assert_eq!(data(&prefix, 7), format!("{prefix}-00007"));
        assert_eq!(data(&prefix, 123_456), format!("{prefix}-123456"));
        let swift = Naming::Objects { container: "volumebackups".into(), availability_zone: "nova".into() };
        assert_eq!(swift.container(backup, None), "volumebackups");
        let expected = format!("volume_{VOLUME}/20261121193204/az_nova_backup_{BACKUP}");
        assert_eq!(swift.prefix(volume, backup, at, 1), expected);
    }

    #[test]
    fn i4_every_epoch_has_a_prefix_of_its_own() {
        let (backup, volume) = (BackupId::new(), VolumeId::new());
        let naming = Naming::Posix { container: None };
        let at = "2026-11-21T19:32:04Z".parse().unwrap();
        let first = naming.prefix(volume, backup, at, 1);
        let second = naming.prefix(volume, backup, at, 2);
        assert_ne!(first, second);
        assert!(!first.starts_with(&second) && !second.starts_with(&first));
        for prefix in [&first, &second] {
            assert!(belongs_to(backup, &data(prefix, 1)) && belongs_to(backup, &metadata(prefix)));
            assert!(!belongs_to(BackupId::new(), &data(prefix, 1)));
            assert!(prefix.starts_with(&volume_prefix(volume)));
        }
        let until = |own: &str, name: &str| is_of_run_until(own, volume, backup, name);
        assert!(until(&second, &data(&first, 1)) && until(&second, &metadata(&second)));
        assert!(!until(&first, &data(&second, 1)), "an old owner must not remove a newer one's objects");
        assert!(!is_of_run_until(&second, volume, BackupId::new(), &data(&first, 1)));
        assert_eq!(owner_of(&first), Some((volume, backup)));
        let far = naming.prefix(volume, backup, at, i64::MAX);
        assert!(belongs_to(backup, &hashes(&far)));
    }

    #[test]
    fn only_cinders_spelling_is_a_data_object() {
        for (name, expected) in [
            ("p-00001", Kind::Data(1)),
            ("p-100000", Kind::Data(100_000)),
            ("p_metadata", Kind::Metadata),
            ("p_sha256file", Kind::Hashes),
            ("p-1", Kind::Other),
            ("p-000001", Kind::Other),
            ("p-00000", Kind::Other),
            ("p-0000a", Kind::Other),
            ("p-00001.tmp", Kind::Other),
            ("p-99999999999999999999999", Kind::Other),
            ("p_metadata2", Kind::Other),
            ("../p-00001", Kind::Other),
        ] {
            assert_eq!(kind("p", name), expected, "{name}");
        }
    }
}
