//! Cinder's on-store formats: names, the metadata file, the hash file, the volume's metadata, export records.

pub mod hashes;
pub mod metadata;
pub mod name;
pub mod python;
pub mod record;
mod stream;
pub mod volume_meta;

pub(crate) use stream::{Document, parse};

use chrono::{SubsecRound, Timelike};
use model::Time;

/// The text of a time as Python's `str(datetime)` gives it, which is what both control files hold.
pub fn python_time(time: Time) -> String {
    let time = time.trunc_subsecs(6);
    match time.nanosecond() {
        0 => time.format("%Y-%m-%d %H:%M:%S+00:00").to_string(),
        _ => time.format("%Y-%m-%d %H:%M:%S%.6f+00:00").to_string(),
    }
}

/// What both control files say of a backup.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub backup_id: String,
    pub volume_id: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub created_at: String,
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_read_as_python_prints_them() {
        let at = |text: &str| super::python_time(text.parse().unwrap());
        assert_eq!(at("2026-11-21T19:32:04.683138Z"), "2026-11-21 19:32:04.683138+00:00");
        assert_eq!(at("2026-11-21T19:32:04.000100Z"), "2026-11-21 19:32:04.000100+00:00");
        assert_eq!(at("2026-11-21T19:32:04Z"), "2026-11-21 19:32:04+00:00");
    }
}
