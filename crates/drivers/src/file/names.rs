//! The names of files in the directory.
//!
//! ```text
//! volume-<id>                          a volume's bytes, raw; the lowest layer of its chain
//! volume-<id>.<snapshot id>            an overlay: what was written since that snapshot was taken
//! volume-<id>.info                     which file is active, which overlay belongs to which snapshot
//! volume-<id>.snapshot-<snapshot id>   a snapshot's bytes, raw: a reflink or a full copy
//! volume-<id>.tmp-snap-<job>-<epoch>   an overlay over which a clone is being copied
//! .tmp.<name>.<job>.<epoch>            <name> in the making
//! .lock.<name>                         held while <name> is open
//! .installation                        whose the directory is
//! <name>.unmanaged                     a volume, or a snapshot's bytes, that was given up under that name: not ours any more
//! ```
//! The first three are those of Cinder's file-based drivers, with their meaning.

use model::job::Claim;
use model::{JobId, SnapshotId, VolumeId};

use crate::error::{DriverError, ErrorKind, Result};

const TMP: &str = ".tmp.";
const LOCK: &str = ".lock.";
/// The directory's mark.
pub const INSTALLATION: &str = ".installation";
const TEMP_SNAPSHOT: &str = "tmp-snap-";
const FLAT: &str = "snapshot-";
const RELEASED: &str = ".unmanaged";
/// The longest name that a file may have which is to be taken over: ours for it are longer.
const SOURCE_MAX: usize = 200;

/// What a file is, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    Volume(VolumeId),
    Overlay { volume: String, snapshot: SnapshotId },
    Flat { volume: VolumeId, snapshot: SnapshotId },
    Info { volume: String },
    TempSnapshot { volume: String, job: JobId, epoch: i64 },
    Intermediate { job: JobId, epoch: i64 },
    Lock,
    Installation,
    Foreign,
}

impl Name {
    /// Reads a file's name.
    pub fn parse(name: &str) -> Self {
        if let Some(rest) = name.strip_prefix(TMP) {
            return run_suffix(rest, '.')
                .map_or(Self::Foreign, |(_, job, epoch)| Self::Intermediate { job, epoch });
        }
        if name.starts_with(LOCK) {
            return Self::Lock;
        }
        if name == INSTALLATION {
            return Self::Installation;
        }
        let (volume, rest) = match name.split_once('.') {
            Some((volume, rest)) => (volume, Some(rest)),
            None => (name, None),
        };
        let Some(id) = volume_id(volume) else { return Self::Foreign };
        let Some(rest) = rest else { return Self::Volume(id) };
        if rest == "info" {
            return Self::Info { volume: volume.to_owned() };
        }
        if let Some(snapshot) = rest.strip_prefix(FLAT).and_then(exact_uuid) {
            return Self::Flat { volume: id, snapshot };
        }
        if let Some(run) = rest.strip_prefix(TEMP_SNAPSHOT).and_then(|rest| run_of(rest, '-')) {
            return Self::TempSnapshot { volume: volume.to_owned(), job: run.0, epoch: run.1 };
        }
        match exact_uuid(rest) {
            Some(snapshot) => Self::Overlay { volume: volume.to_owned(), snapshot },
            None => Self::Foreign,
        }
    }
}

fn exact_uuid<T: std::str::FromStr + ToString>(text: &str) -> Option<T> {
    text.parse::<T>().ok().filter(|id| id.to_string() == text)
}

/// The id in `volume-<id>`.
pub fn volume_id(name: &str) -> Option<VolumeId> {
    name.strip_prefix("volume-").and_then(exact_uuid)
}

/// `<job><between><epoch>`.
fn run_of(text: &str, between: char) -> Option<(JobId, i64)> {
    let (job, epoch) = text.rsplit_once(between)?;
    Some((exact_uuid(job)?, epoch.parse().ok()?))
}

/// `<name><between><job><between><epoch>`.
fn run_suffix(text: &str, between: char) -> Option<(&str, JobId, i64)> {
    let (rest, epoch) = text.rsplit_once(between)?;
    let (name, job) = rest.rsplit_once(between)?;
    Some((name, exact_uuid(job)?, epoch.parse().ok()?))
}

/// `name` in the making under `claim`.
pub fn intermediate(name: &str, claim: &Claim) -> String {
    format!("{TMP}{name}.{}.{}", claim.job, claim.epoch)
}

/// What an intermediate will be, and whose it is.
pub fn intermediate_of(name: &str) -> Option<(&str, JobId, i64)> {
    run_suffix(name.strip_prefix(TMP)?, '.')
}

/// The lock file of `name`.
pub fn lock(name: &str) -> String {
    format!("{LOCK}{name}")
}

/// The file of a snapshot that is a raw copy.
pub fn flat(volume: &str, snapshot: SnapshotId) -> String {
    format!("{volume}.{FLAT}{snapshot}")
}

/// The overlay of a snapshot, by its key in the `.info` file.
pub fn overlay(volume: &str, key: &str) -> String {
    format!("{volume}.{key}")
}

/// The key of the overlay that a clone uses.
pub fn temp_snapshot_key(claim: &Claim) -> String {
    format!("{TEMP_SNAPSHOT}{}-{}", claim.job, claim.epoch)
}

/// The run that a key of a temporary snapshot names.
pub fn temp_snapshot_run(key: &str) -> Option<(JobId, i64)> {
    run_of(key.strip_prefix(TEMP_SNAPSHOT)?, '-')
}

/// Whether a file is the overlay of a temporary snapshot.
pub fn is_temporary(file: &str) -> bool {
    matches!(Name::parse(file), Name::TempSnapshot { .. })
}

/// The key of a snapshot whose deletion has begun: its bytes are no longer whole.
pub fn deleting_key(snapshot: SnapshotId) -> String {
    format!("deleting-{snapshot}")
}

/// The `.info` file.
pub fn info(volume: &str) -> String {
    format!("{volume}.info")
}

/// What a volume or snapshot is called once it is given up.
pub fn released(name: &str) -> String {
    format!("{name}{RELEASED}")
}

/// The volume and the id of a snapshot that was given up, by its file's name.
pub fn released_snapshot(name: &str) -> Option<(&str, SnapshotId)> {
    let flat = name.strip_suffix(RELEASED)?;
    match Name::parse(flat) {
        Name::Flat { snapshot, .. } => flat.split_once('.').map(|(volume, _)| (volume, snapshot)),
        _ => None,
    }
}

/// Whether a file was given up by us, so that its content is known to be raw.
pub fn was_ours(name: &str) -> bool {
    name.strip_suffix(RELEASED)
        .is_some_and(|old| matches!(Name::parse(old), Name::Volume(_) | Name::Flat { .. }))
}

/// Checks the name of a file that is to be taken over: one plain name in this directory, and no part of a volume.
pub fn check_source(name: &str) -> Result<()> {
    let plain = |c: char| c != '/' && !c.is_control() && c != char::REPLACEMENT_CHARACTER;
    let fits = !name.is_empty() && name.len() <= SOURCE_MAX && name.chars().all(plain);
    if !fits || name.starts_with('.') {
        return Err(DriverError::new(
            ErrorKind::Invalid,
            format!("{name:?} cannot be the name of a file to take over"),
        ));
    }
    match Name::parse(name) {
        Name::Volume(_) | Name::Foreign => Ok(()),
        _ => Err(DriverError::new(ErrorKind::Invalid, format!("{name} is part of a volume"))),
    }
}

/// Checks a name that came from a row: one plain file name.
pub fn check(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || name.len() > 100 || !name.chars().all(plain) {
        return Err(DriverError::new(ErrorKind::Invalid, format!("{name:?} cannot be a volume's file name")));
    }
    Ok(())
}

/// The file that a backing name in an overlay's header means: one of the volume's own, in the same directory.
///
/// # Errors
/// `Invalid` for anything else.
pub fn backing(volume: &str, header: &str) -> Result<String> {
    let name = header.rsplit('/').next().unwrap_or_default();
    let own = match name.strip_prefix(volume) {
        Some("") => true,
        Some(rest) => rest.strip_prefix('.').is_some_and(|rest| {
            let id = rest.strip_prefix(TEMP_SNAPSHOT).unwrap_or(rest);
            !id.is_empty() && id.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
        }),
        None => false,
    };
    if own {
        Ok(name.to_owned())
    } else {
        Err(DriverError::new(
            ErrorKind::Invalid,
            format!("an overlay of {volume} lies on {header:?}, not its own file"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V: &str = "volume-0a1b2c3d-0000-4000-8000-000000000001";
    const S: &str = "0a1b2c3d-0000-4000-8000-000000000002";

    #[test]
    fn names_read_back() {
        let claim = Claim::unbounded();
        let snapshot: SnapshotId = S.parse().unwrap();
        let volume = volume_id(V).unwrap();
        assert_eq!(Name::parse(V), Name::Volume(volume));
        assert_eq!(Name::parse(&overlay(V, S)), Name::Overlay { volume: V.into(), snapshot });
        assert_eq!(Name::parse(&flat(V, snapshot)), Name::Flat { volume, snapshot });
        assert_eq!(Name::parse(&info(V)), Name::Info { volume: V.into() });
        let key = temp_snapshot_key(&claim);
        let temp = Name::TempSnapshot { volume: V.into(), job: claim.job, epoch: 1 };
        assert_eq!(Name::parse(&overlay(V, &key)), temp);
        assert_eq!(temp_snapshot_run(&key), Some((claim.job, 1)));
        assert_eq!(
            Name::parse(&intermediate(&info(V), &claim)),
            Name::Intermediate { job: claim.job, epoch: 1 }
        );
        assert_eq!(intermediate_of(&intermediate(&info(V), &claim)), Some((&*info(V), claim.job, 1)));
        assert_eq!(Name::parse(&lock(V)), Name::Lock);
        for foreign in
            ["", "x", "volume-1", &V.to_uppercase(), &format!("{V}.bak"), ".tmp.x", "..", &V.replace('-', "")]
        {
            assert_eq!(Name::parse(foreign), Name::Foreign, "{foreign}");
        }
    }

    #[test]
    fn what_is_given_up_is_not_ours_any_more() {
        let flat = flat(V, S.parse().unwrap());
        for name in [V, &flat] {
            assert_eq!(Name::parse(&released(name)), Name::Foreign);
            assert!(was_ours(&released(name)) && !was_ours(name));
            assert!(check_source(&released(name)).is_ok());
        }
        assert_eq!(released_snapshot(&released(&flat)), Some((V, S.parse().unwrap())));
        assert_eq!(released_snapshot(&released(V)), None);
        assert!(!was_ours("disk.unmanaged") && check_source("disk.img").is_ok() && check_source(V).is_ok());
        for not in
            ["", ".", "..", ".lock.x", "a/b", "/etc/passwd", "a\0", "a\n", &flat, &info(V), &"x".repeat(300)]
        {
            assert!(check_source(not).is_err(), "{not}");
        }
    }

    #[test]
    fn only_own_files_are_backing_files() {
        assert_eq!(backing(V, V).unwrap(), V);
        assert_eq!(backing(V, &format!("/mnt/x/{V}.{S}")).unwrap(), format!("{V}.{S}"));
        assert!(backing(V, &overlay(V, &temp_snapshot_key(&Claim::unbounded()))).is_ok());
        for other in ["/etc/passwd", "", "..", &V[..V.len() - 1], &format!("{V}x"), &format!("{V}.info")] {
            assert!(backing(V, other).is_err(), "{other}");
        }
    }
}
