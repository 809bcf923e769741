//! The locks that jobs declare, in one place: what makes the operations on one volume safe against each other. Their names are
//! Cinder's (reference: locks.md).
//!
//! There are two kinds. `<volume>-delete_volume` is held *shared* by whoever needs the volume to stay as it is, its existence, its size
//! and what a copy of it reads; *exclusive* by whoever ends it or makes it something else. `<snapshot>-delete_snapshot` is the
//! same for a snapshot.
//!
//! | operation | on `<volume>-delete_volume` | on `<snapshot>-delete_snapshot` |
//! |---|---|---|
//! | `volume.create` | the new volume exclusive, the source volume shared | the source snapshot shared |
//! | `volume.extend` | exclusive | |
//! | `volume.delete` | exclusive | exclusive, each that goes along |
//! | `volume.revert` | exclusive | shared |
//! | `volume.migrate`, `volume.retype` | exclusive, and that of the volume moved to | |
//! | `volume.manage`, `volume.unmanage` | exclusive | |
//! | `snapshot.create`, `snapshot.manage`, `snapshot.unmanage` | shared | exclusive |
//! | `snapshot.delete` | shared | exclusive |
//! | `backup.create` | shared | shared, of the snapshot that is backed up |
//! | `backup.restore` | exclusive | |
//!
//! Backups have `<backup>-backup`, shared by a restore of it, exclusive by its deletion and by taking it in (`backup.import`).
//!
//! Groups: `group.create_from_src` is to each new volume what `volume.create` is, to each source's too; `group.delete` to each volume
//! what `volume.delete` is; `group_snapshot.create` and `group_snapshot.delete` to each volume and snapshot what those of a single
//! snapshot are. What makes or ends a group has `<group>-group` exclusive.
//!
//! So clones, snapshots and backups of one volume run side by side, and its extension, deletion and overwriting wait for all of
//! them, and they for these, in the order of their tickets. A snapshot's recorded size cannot differ from what was frozen, because no
//! extension comes between its row and its file. Drivers order what runs side by side on one volume themselves.
//!
//! Statuses refuse most of these meetings before a lock is asked for; locks are for those that no status shows (a clone does not
//! change its source's status) and for what an operator forces. A job takes all its locks with its claim and lets them go between
//! claims: it never holds one while it waits for another. Attaching
//! takes none: exports are counted rows, and an open volume has one owner.

use model::job::Lock;
use model::{BackupId, GroupId, SnapshotId, VolumeId};

/// The volume stays as it is.
pub fn keep_volume(id: VolumeId) -> Lock {
    Lock::shared(format!("{id}-delete_volume"))
}

/// The volume comes, goes or becomes something else.
pub fn change_volume(id: VolumeId) -> Lock {
    Lock::exclusive(format!("{id}-delete_volume"))
}

/// The snapshot stays.
pub fn keep_snapshot(id: SnapshotId) -> Lock {
    Lock::shared(format!("{id}-delete_snapshot"))
}

/// The snapshot comes or goes.
pub fn change_snapshot(id: SnapshotId) -> Lock {
    Lock::exclusive(format!("{id}-delete_snapshot"))
}

/// The backup stays.
pub fn keep_backup(id: BackupId) -> Lock {
    Lock::shared(format!("{id}-backup"))
}

/// The backup goes.
pub fn change_backup(id: BackupId) -> Lock {
    Lock::exclusive(format!("{id}-backup"))
}

/// The group comes or goes.
pub fn change_group(id: GroupId) -> Lock {
    Lock::exclusive(format!("{id}-group"))
}
