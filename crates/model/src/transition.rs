//! State transitions as data: where an operation may start, what it shows, where it ends (I2; states.md 2, 5, 6).
//!
//! Only `db::transition` writes a status, and it reads these tables. `docs/states.md` is drawn from them by a test.

mod group;

use crate::{BackupStatus, SnapshotStatus, VolumeStatus};

pub use group::{GroupOp, GroupSnapshotOp};

/// Where a resource goes when an operation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After<S: 'static> {
    /// To this status.
    Be(S),
    /// To the status it had before (`previous_status`).
    Back,
    /// To what its attachments say ([`crate::attachment::derive`]).
    ByAttachments,
    /// Away: the row is soft-deleted.
    Gone,
}

/// A fact beyond the status, tested in the same UPDATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// `attach_status` is not `attached`.
    NotAttached,
    /// `attach_status` is `attached`.
    Attached,
    /// It may be attached several times.
    Multiattach,
    /// No migration under way.
    NotMigrating,
    /// The volume has no live snapshot.
    NoSnapshots,
    /// In no group or consistency group (for a snapshot: no group snapshot).
    NoGroup,
    /// No backup depends on it.
    NoDependents,
    /// No live snapshot of the group.
    NoGroupSnapshots,
    /// No live volume in the group.
    NoVolumes,
    /// No group is being made from it.
    NotASource,
}

/// One operation's row.
#[derive(Debug, Clone, Copy)]
pub struct Rule<S: 'static> {
    /// Statuses it may start from; empty: it makes the row.
    pub from: &'static [S],
    /// The service-owned status while its job runs; `None`: the status does not change.
    pub shows: Option<S>,
    pub done: After<S>,
    pub failed: After<S>,
    pub needs: &'static [Guard],
}

/// Work on a volume that a job carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VolumeOp {
    Create,
    Delete,
    ForceDelete,
    Extend,
    ExtendInUse,
    BackUp,
    BackUpInUse,
    Restore,
    Revert,
    Retype,
    /// A migration that locks the volume.
    MigrateLocked,
    Manage,
    Unmanage,
    /// With its group.
    DeleteWithGroup,
}

const DELETABLE: &[VolumeStatus] = {
    use VolumeStatus::*;
    &[Available, Error, ErrorRestoring, ErrorExtending, ErrorManaging]
};

impl VolumeOp {
    /// All rows, for the tests and for drawing.
    pub const ALL: &'static [Self] = {
        use VolumeOp::*;
        &[
            Create,
            Delete,
            ForceDelete,
            Extend,
            ExtendInUse,
            BackUp,
            BackUpInUse,
            Restore,
            Revert,
            Retype,
            MigrateLocked,
            Manage,
            Unmanage,
            DeleteWithGroup,
        ]
    };

    /// The rule of this operation.
    #[rustfmt::skip] // a table reads best as a table
    pub const fn rule(self) -> Rule<VolumeStatus> {
        use {After::*, Guard::*, VolumeStatus::*};
        match self {
            Self::Create      => Rule { from: &[],          shows: Some(Creating),        done: Be(Available),   failed: Be(Error),          needs: &[] },
            Self::Delete      => Rule { from: DELETABLE,    shows: Some(Deleting),        done: Gone,            failed: Be(ErrorDeleting),  needs: &[NotAttached, NotMigrating, NoGroup, NoSnapshots] },
            Self::ForceDelete => Rule { from: VolumeStatus::ALL, shows: Some(Deleting),   done: Gone,            failed: Be(ErrorDeleting),  needs: &[NotAttached, NotMigrating, NoGroup, NoSnapshots] },
            Self::Extend      => Rule { from: &[Available], shows: Some(Extending),       done: ByAttachments,   failed: Be(ErrorExtending), needs: &[] },
            Self::ExtendInUse => Rule { from: &[InUse],     shows: Some(Extending),       done: ByAttachments,   failed: Be(ErrorExtending), needs: &[] },
            Self::BackUp      => Rule { from: &[Available], shows: Some(BackingUp),       done: Back,            failed: Back,               needs: &[] },
            Self::BackUpInUse => Rule { from: &[InUse],     shows: Some(BackingUp),       done: Back,            failed: Back,               needs: &[] },
            Self::Restore     => Rule { from: &[Available], shows: Some(RestoringBackup), done: Be(Available),   failed: Be(ErrorRestoring), needs: &[] },
            Self::Revert      => Rule { from: &[Available], shows: Some(Reverting),       done: Be(Available),   failed: Be(Error),          needs: &[] },
            Self::Retype      => Rule { from: &[Available, InUse], shows: Some(Retyping), done: Back,            failed: Back,               needs: &[NotMigrating, NoGroup] },
            Self::MigrateLocked => Rule { from: &[Available], shows: Some(Maintenance),   done: Back,            failed: Back,               needs: &[NotMigrating, NoGroup, NoSnapshots] },
            Self::Manage      => Rule { from: &[],          shows: Some(Managing),        done: Be(Available),   failed: Be(ErrorManaging),  needs: &[] },
            Self::Unmanage    => Rule { from: DELETABLE,    shows: Some(Unmanaging),      done: Gone,            failed: Be(ErrorUnmanaging), needs: &[NotAttached, NotMigrating, NoGroup, NoSnapshots] },
            Self::DeleteWithGroup => Rule { from: VolumeStatus::ALL, shows: Some(Deleting), done: Gone,          failed: Be(Error),          needs: &[NotAttached, NotMigrating, NoSnapshots] },
        }
    }
}

/// A client's move of a volume that needs no job: client-owned states (I3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VolumeMove {
    /// `os-reserve`.
    Reserve,
    /// `os-reserve` of a multi-attach volume.
    ReserveMulti,
    /// `POST /attachments`.
    AttachmentReserve,
    /// `POST /attachments` on a multi-attach volume.
    AttachmentReserveMulti,
    /// `os-begin_detaching`.
    BeginDetaching,
    /// `os-roll_detaching`.
    RollDetaching,
    /// Offered to another project.
    Offer,
    /// The offer was taken, or withdrawn.
    EndOffer,
}

impl VolumeMove {
    /// The statuses it starts from and the one it leads to.
    #[rustfmt::skip]
    pub const fn rule(self) -> (&'static [VolumeStatus], VolumeStatus) {
        use VolumeStatus::*;
        match self {
            Self::Reserve                => (&[Available],                      Attaching),
            Self::ReserveMulti           => (&[Available, InUse],               Attaching),
            Self::AttachmentReserve      => (&[Available, Downloading],         Reserved),
            Self::AttachmentReserveMulti => (&[Available, Downloading, InUse],  Reserved),
            Self::BeginDetaching         => (&[InUse],                          Detaching),
            Self::RollDetaching          => (&[Detaching],                      InUse),
            Self::Offer                  => (&[Available],                      AwaitingTransfer),
            Self::EndOffer               => (&[AwaitingTransfer],               Available),
        }
    }

    /// Facts beyond the status.
    pub const fn needs(self) -> &'static [Guard] {
        match self {
            Self::ReserveMulti | Self::AttachmentReserveMulti => &[Guard::Multiattach],
            Self::BeginDetaching => &[Guard::Attached, Guard::NotMigrating],
            // What is in a group is its project's with the others.
            Self::Offer => &[Guard::NoGroup],
            Self::Reserve | Self::AttachmentReserve | Self::RollDetaching | Self::EndOffer => &[],
        }
    }
}

/// Work on a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SnapshotOp {
    Create,
    Delete,
    ForceDelete,
    BackUp,
    Revert,
    Unmanage,
    /// With its group snapshot.
    DeleteWithGroup,
}

impl SnapshotOp {
    pub const ALL: &'static [Self] = &[
        Self::Create,
        Self::Delete,
        Self::ForceDelete,
        Self::BackUp,
        Self::Revert,
        Self::Unmanage,
        Self::DeleteWithGroup,
    ];

    /// The rule of this operation.
    #[rustfmt::skip]
    pub const fn rule(self) -> Rule<SnapshotStatus> {
        use {After::*, Guard::*, SnapshotStatus::*};
        match self {
            Self::Create      => Rule { from: &[],                 shows: Some(Creating),  done: Be(Available), failed: Be(Error),         needs: &[] },
            Self::Delete      => Rule { from: &[Available, Error], shows: Some(Deleting),  done: Gone,          failed: Be(ErrorDeleting), needs: &[NoGroup] },
            Self::ForceDelete => Rule { from: SnapshotStatus::ALL, shows: Some(Deleting),  done: Gone,          failed: Be(ErrorDeleting), needs: &[NoGroup] },
            Self::BackUp      => Rule { from: &[Available],        shows: Some(BackingUp), done: Be(Available), failed: Be(Available),     needs: &[] },
            Self::Revert      => Rule { from: &[Available],        shows: Some(Restoring), done: Be(Available), failed: Be(Available),     needs: &[] },
            Self::Unmanage    => Rule { from: &[Available, Error], shows: Some(Unmanaging), done: Gone,        failed: Be(ErrorDeleting), needs: &[NoGroup] },
            Self::DeleteWithGroup => Rule { from: SnapshotStatus::ALL, shows: Some(Deleting), done: Gone,      failed: Be(Error),         needs: &[] },
        }
    }
}

/// Work on a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackupOp {
    Create,
    Restore,
    Delete,
    ForceDelete,
}

impl BackupOp {
    pub const ALL: &'static [Self] = &[Self::Create, Self::Restore, Self::Delete, Self::ForceDelete];

    /// The rule of this operation.
    #[rustfmt::skip]
    pub const fn rule(self) -> Rule<BackupStatus> {
        use {After::*, BackupStatus::*, Guard::*};
        match self {
            Self::Create      => Rule { from: &[],                 shows: Some(Creating),  done: Be(Available), failed: Be(Error),     needs: &[] },
            Self::Restore     => Rule { from: &[Available],        shows: Some(Restoring), done: Be(Available), failed: Be(Available), needs: &[] },
            Self::Delete      => Rule { from: &[Available, Error], shows: Some(Deleting),  done: Gone,          failed: Be(Error),     needs: &[NoDependents] },
            Self::ForceDelete => Rule { from: BackupStatus::ALL,   shows: Some(Deleting),  done: Gone,          failed: Be(Error),     needs: &[NoDependents] },
        }
    }
}
