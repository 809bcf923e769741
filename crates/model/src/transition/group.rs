//! The rules of groups and group snapshots (states.md 7).

use super::{After, Guard, Rule};
use crate::{GroupSnapshotStatus, GroupStatus};

/// Work on a group that a job carries. Changing its name or its members needs none: it is done with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupOp {
    Create,
    /// Without volumes.
    Delete,
    /// With the volumes in it, whatever its status.
    DeleteWithVolumes,
}

impl GroupOp {
    pub const ALL: &'static [Self] = &[Self::Create, Self::Delete, Self::DeleteWithVolumes];

    /// The rule of this operation.
    #[rustfmt::skip] // a table reads best as a table
    pub const fn rule(self) -> Rule<GroupStatus> {
        use {After::*, Guard::*, GroupStatus::*};
        match self {
            Self::Create            => Rule { from: &[],                 shows: Some(Creating), done: Be(Available), failed: Be(Error), needs: &[] },
            Self::Delete            => Rule { from: &[Available, Error], shows: Some(Deleting), done: Gone,          failed: Be(Error), needs: &[NoGroupSnapshots, NotASource, NoVolumes] },
            Self::DeleteWithVolumes => Rule { from: GroupStatus::ALL,    shows: Some(Deleting), done: Gone,          failed: Be(Error), needs: &[NoGroupSnapshots, NotASource] },
        }
    }
}

/// Work on a group snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupSnapshotOp {
    Create,
    Delete,
}

impl GroupSnapshotOp {
    pub const ALL: &'static [Self] = &[Self::Create, Self::Delete];

    /// The rule of this operation.
    #[rustfmt::skip]
    pub const fn rule(self) -> Rule<GroupSnapshotStatus> {
        use {After::*, Guard::*, GroupSnapshotStatus::*};
        match self {
            Self::Create => Rule { from: &[],                 shows: Some(Creating), done: Be(Available), failed: Be(Error), needs: &[] },
            Self::Delete => Rule { from: &[Available, Error], shows: Some(Deleting), done: Gone,          failed: Be(Error), needs: &[NotASource] },
        }
    }
}
