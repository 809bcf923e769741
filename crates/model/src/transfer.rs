//! Transfers: a volume offered to whoever knows its key.

use crate::{Time, TransferId, VolumeId};

/// An offer. What its key is checked against stays in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    pub id: TransferId,
    pub volume_id: VolumeId,
    pub name: Option<String>,
    /// Whether the volume's snapshots stay with its old project.
    pub no_snapshots: bool,
    pub source_project_id: Option<String>,
    /// Who took it.
    pub destination_project_id: Option<String>,
    pub accepted: bool,
    pub created_at: Option<Time>,
}
