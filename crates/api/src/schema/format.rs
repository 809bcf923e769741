//! Formats: checks of values that have texts of their own.

use model::volume::VolumeAttachStatus;
use serde_json::Value;

use super::repr::repr_text;

/// A named check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Uuid,
    Name,
    /// A name that is trimmed before it is measured.
    NameInSpaces,
    /// A number, as such or in digits.
    KeySize,
    /// At most 65535 bytes.
    MysqlText,
    /// Text that base64 could be read from, whatever else is in it.
    Base64,
    TrimmedName,
    TrimmedDescription,
    /// `"N%"`.
    Progress,
    DisabledReason,
    /// The whole of `os-reset_status` of a volume.
    VolumeReset,
    VolumeStatus,
    VolumeAttachStatus,
    VolumeMigrationStatus,
    SnapshotStatus,
    BackupStatus,
    GroupStatus,
    GroupSnapshotStatus,
}

/// How a format refuses a value.
pub enum Refusal {
    /// `VALUE is not a 'FORMAT'`, in the usual frame.
    Mismatch,
    /// A text of its own.
    Bare(String),
}

/// What `os-reset_status` accepts, in Cinder's order.
#[rustfmt::skip]
const VOLUME: &[&str] = &[
    "creating", "available", "deleting", "error", "error_deleting", "error_managing", "managing", "attaching", "in-use",
    "detaching", "maintenance", "restoring-backup", "error_restoring", "reserved", "awaiting-transfer", "backing-up",
    "error_backing-up", "error_extending", "downloading", "uploading", "retyping", "extending",
];
const ATTACH: &[&str] = &[VolumeAttachStatus::Attached.as_str(), VolumeAttachStatus::Detached.as_str()];
const MIGRATION: &[&str] = &["migrating", "error", "success", "completing", "none", "starting"];
#[rustfmt::skip]
const SNAPSHOT: &[&str] = &[
    "error", "available", "creating", "deleting", "deleted", "updating", "error_deleting", "unmanaging", "backing-up",
    "restoring",
];
const BACKUP: &[&str] = &["available", "error"];

impl Format {
    /// The name that messages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Name => "name",
            Self::NameInSpaces => "name_skip_leading_trailing_spaces",
            Self::KeySize => "key_size",
            Self::MysqlText => "mysql_text",
            Self::Base64 => "base64",
            Self::TrimmedName => "name_non_mandatory_remove_white_spaces",
            Self::TrimmedDescription => "description_non_mandatory_remove_white_spaces",
            Self::Progress => "progress",
            Self::DisabledReason => "disabled_reason",
            Self::VolumeReset => "validate_volume_reset_body",
            Self::VolumeStatus => "volume_status",
            Self::VolumeAttachStatus => "volume_attach_status",
            Self::VolumeMigrationStatus => "volume_migration_status",
            Self::SnapshotStatus => "snapshot_status",
            Self::BackupStatus => "backup_status",
            Self::GroupStatus => "group_status",
            Self::GroupSnapshotStatus => "group_snapshot_status",
        }
    }

    /// Checks a value whose type is already right.
    pub fn check(self, value: &Value) -> Result<(), Refusal> {
        let text = value.as_str();
        match self {
            Self::Uuid => match text.and_then(wire::read::uuid_like) {
                Some(_) => Ok(()),
                None => Err(Refusal::Mismatch),
            },
            Self::Name => name(text.unwrap_or_default()),
            Self::NameInSpaces => name_in_spaces(text.unwrap_or_default()),
            Self::KeySize => key_size(value),
            Self::MysqlText if text.is_some_and(|text| text.len() > 65_535) => Err(Refusal::Mismatch),
            Self::MysqlText => Ok(()),
            Self::Base64 => base64(text.unwrap_or_default()),
            Self::TrimmedName => length(text, "name", 0),
            Self::TrimmedDescription => length(text, "description", 0),
            Self::DisabledReason => length(text, "disabled_reason", 1),
            Self::Progress => progress(value),
            Self::VolumeReset => volume_reset(value),
            Self::VolumeStatus => listed(text, VOLUME, "Volume status", Optional::Yes, Brackets::Round),
            Self::VolumeAttachStatus => {
                listed(text, ATTACH, "Volume attach status", Optional::Yes, Brackets::Square)
            }
            Self::VolumeMigrationStatus => {
                listed(text, MIGRATION, "Volume migration status", Optional::Yes, Brackets::Round)
            }
            Self::SnapshotStatus => listed(text, SNAPSHOT, "Snapshot status", Optional::No, Brackets::Round),
            Self::BackupStatus => listed(text, BACKUP, "Backup status", Optional::No, Brackets::Square),
            Self::GroupStatus => group_status(text),
            Self::GroupSnapshotStatus => group_snapshot_status(text),
        }
    }
}

fn bare(text: impl Into<String>) -> Result<(), Refusal> {
    Err(Refusal::Bare(text.into()))
}

fn name(text: &str) -> Result<(), Refusal> {
    if text.trim().is_empty() {
        return bare("An invalid 'name' value was provided. The 'name' can not be empty.");
    }
    Ok(())
}

fn name_in_spaces(text: &str) -> Result<(), Refusal> {
    let why = match (text.is_empty(), text.trim().chars().count()) {
        (true, _) => "The 'name' can not be None.",
        (_, 0) => "The 'name' can not be empty.",
        (_, 1..=255) => return Ok(()),
        _ => "The 'name' can not be greater than 255 characters.",
    };
    bare(format!("An invalid 'name' value was provided. {why}"))
}

/// As Python reads it: characters that are none of base64's do not count, but what is left must be whole.
fn base64(text: &str) -> Result<(), Refusal> {
    let digits = text.bytes().filter(|b| b.is_ascii_alphanumeric() || b"+/".contains(b)).count();
    let padding = text.bytes().filter(|b| *b == b'=').count();
    match digits % 4 {
        0 => Ok(()),
        2 if padding >= 2 => Ok(()),
        3 if padding >= 1 => Ok(()),
        _ => Err(Refusal::Mismatch),
    }
}

fn key_size(value: &Value) -> Result<(), Refusal> {
    let is_number = |text: &str| text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
    match value.as_str() {
        Some(text) if !is_number(text) => bare("Invalid input received: key_size must be an integer."),
        _ => Ok(()),
    }
}

/// The length of a text once trimmed; nothing at all is fine.
fn length(text: Option<&str>, what: &str, min: usize) -> Result<(), Refusal> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(()) };
    let length = text.trim().chars().count();
    if length < min {
        return bare(format!("Invalid input received: {what} has {length} characters, less than {min}."));
    }
    if length > 255 {
        return bare(format!("Invalid input received: {what} has {length} characters, more than 255."));
    }
    Ok(())
}

fn progress(value: &Value) -> Result<(), Refusal> {
    let Some(text) = value.as_str() else {
        return if value.is_null() { Ok(()) } else { Err(Refusal::Mismatch) };
    };
    let mut digits = text.chars();
    let Some(last) = digits.next_back() else { return Ok(()) };
    match digits.as_str().trim().parse::<i64>() {
        Err(_) => bare("Invalid input received: progress must be an integer percentage"),
        Ok(0..=100) if last == '%' => Ok(()),
        Ok(_) => bare("Invalid input received: progress must be an integer percentage between 0 and 100"),
    }
}

fn volume_reset(value: &Value) -> Result<(), Refusal> {
    let given = |key: &str| value.get(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if ["status", "attach_status", "migration_status"].into_iter().any(given) {
        return Ok(());
    }
    bare("Must specify 'status', 'attach_status' or 'migration_status' for update.")
}

/// Statuses as Python shows a tuple of them.
fn tuple<S: ToString>(statuses: &[S]) -> String {
    let quoted: Vec<String> = statuses.iter().map(|status| repr_text(&status.to_string())).collect();
    format!("({})", quoted.join(", "))
}

fn group_status(text: Option<&str>) -> Result<(), Refusal> {
    let text = text.unwrap_or_default();
    match text.to_lowercase().parse() {
        // Listed as valid, and refused all the same.
        Ok(model::GroupStatus::InUse) | Err(_) => bare(format!(
            "Invalid Group Status: Group status: {text} is invalid, valid status are: {}.",
            tuple(model::GroupStatus::ALL)
        )),
        Ok(_) => Ok(()),
    }
}

fn group_snapshot_status(text: Option<&str>) -> Result<(), Refusal> {
    let text = text.unwrap_or_default();
    if text.to_lowercase().parse::<model::GroupSnapshotStatus>().is_ok() {
        return Ok(());
    }
    bare(format!(
        "Invalid GroupSnapshot Status: Group snapshot status: {text} is invalid, valid statuses are: {}.",
        tuple(model::GroupSnapshotStatus::ALL)
    ))
}

/// Whether nothing at all is fine.
enum Optional {
    Yes,
    No,
}

/// How Cinder happens to print the list.
enum Brackets {
    Round,
    Square,
}

fn listed(
    text: Option<&str>,
    valid: &[&str],
    what: &str,
    optional: Optional,
    brackets: Brackets,
) -> Result<(), Refusal> {
    let text = text.unwrap_or_default();
    let nothing = text.is_empty() && matches!(optional, Optional::Yes);
    if nothing || valid.contains(&text.to_lowercase().as_str()) {
        return Ok(());
    }
    let list: Vec<String> = valid.iter().map(|one| repr_text(one)).collect();
    let (open, close) = match brackets {
        Brackets::Round => ('(', ')'),
        Brackets::Square => ('[', ']'),
    };
    bare(format!("{what}: {text} is invalid, valid statuses are: {open}{}{close}.", list.join(", ")))
}
