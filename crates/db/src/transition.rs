//! The only place that writes a status. Every change is one conditional UPDATE made from the tables in
//! `model::transition` (I2), with its event in the same transaction.

use model::attachment::derive;
use model::transition::{
    After, BackupOp, GroupOp, GroupSnapshotOp, Guard, Rule, SnapshotOp, VolumeMove, VolumeOp,
};
use model::volume::VolumeAttachStatus;
use model::{
    AttachStatus, AttachmentId, BackupId, GroupId, GroupSnapshotId, SnapshotId, SnapshotStatus, VolumeId,
    VolumeStatus,
};

use crate::conn::{Read as _, Tx};
use crate::error::Result;
use crate::event::{By, Change, append};
use crate::sql::{Value, marks, sql};

/// The answer to an attempt to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// It is ours.
    Moved,
    /// The status or a guard says no; nothing has changed.
    Refused {
        status: String,
        unmet: Vec<Guard>,
    },
    Missing,
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Failed,
    /// Nothing was done (refused by the scheduler, cancelled before it began): the status before.
    Undone,
}

struct Kind {
    table: &'static str,
    name: &'static str,
    has_previous: bool,
}

const VOLUME: Kind = Kind { table: "volumes", name: "volume", has_previous: true };
const SNAPSHOT: Kind = Kind { table: "snapshots", name: "snapshot", has_previous: false };
const BACKUP: Kind = Kind { table: "backups", name: "backup", has_previous: false };
const GROUP: Kind = Kind { table: "\"groups\"", name: "group", has_previous: false };
const GROUP_SNAPSHOT: Kind = Kind { table: "group_snapshots", name: "group_snapshot", has_previous: false };

/// The condition that a guard adds to an UPDATE of `table`.
fn condition(guard: Guard, kind: &Kind) -> String {
    match (guard, kind.table) {
        (Guard::NotAttached, _) => "(attach_status IS NULL OR attach_status <> 'attached')".into(),
        (Guard::Attached, _) => "attach_status = 'attached'".into(),
        (Guard::Multiattach, _) => "multiattach = TRUE".into(),
        (Guard::NotMigrating, _) => {
            "(migration_status IS NULL OR migration_status IN ('deleting', 'error', 'success'))".into()
        }
        (Guard::NoSnapshots, table) => {
            format!(
                "NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.volume_id = {table}.id AND s.deleted = FALSE)"
            )
        }
        (Guard::NoGroup, "snapshots") => "(cgsnapshot_id IS NULL AND group_snapshot_id IS NULL)".into(),
        (Guard::NoGroup, _) => "(consistencygroup_id IS NULL AND group_id IS NULL)".into(),
        // Those in the making count too. A derived table that cannot be merged away, because MySQL reads no table it updates.
        (Guard::NoDependents, table) => format!(
            "NOT EXISTS (SELECT 1 FROM (SELECT DISTINCT parent_id FROM {table} WHERE deleted = FALSE AND parent_id IS NOT NULL) c \
             WHERE c.parent_id = {table}.id)"
        ),
        (Guard::NoGroupSnapshots, table) => format!(
            "NOT EXISTS (SELECT 1 FROM group_snapshots s WHERE s.group_id = {table}.id AND s.deleted = FALSE)"
        ),
        (Guard::NoVolumes, table) => {
            format!(
                "NOT EXISTS (SELECT 1 FROM volumes v WHERE v.group_id = {table}.id AND v.deleted = FALSE)"
            )
        }
        (Guard::NotASource, table) => {
            let column = if table == GROUP_SNAPSHOT.table { "group_snapshot_id" } else { "source_group_id" };
            format!(
                "NOT EXISTS (SELECT 1 FROM (SELECT DISTINCT {column} FROM \"groups\" WHERE deleted = FALSE \
                 AND status = 'creating' AND {column} IS NOT NULL) c WHERE c.{column} = {table}.id)"
            )
        }
    }
}

/// Begins work on a volume: `available` to `extending`, and so on. A rule without `from` (create) has made the row already.
///
/// # Errors
/// The database is away.
pub async fn begin_volume(tx: &mut Tx, id: VolumeId, op: VolumeOp, by: By<'_>) -> Result<Begin> {
    begin(tx, &VOLUME, &id.to_string(), op.rule(), by).await
}

/// Begins work on a snapshot.
///
/// # Errors
/// The database is away.
pub async fn begin_snapshot(tx: &mut Tx, id: SnapshotId, op: SnapshotOp, by: By<'_>) -> Result<Begin> {
    begin(tx, &SNAPSHOT, &id.to_string(), op.rule(), by).await
}

/// Begins work on a group.
///
/// # Errors
/// The database is away.
pub async fn begin_group(tx: &mut Tx, id: GroupId, op: GroupOp, by: By<'_>) -> Result<Begin> {
    begin(tx, &GROUP, &id.to_string(), op.rule(), by).await
}

/// Begins work on a group snapshot.
///
/// # Errors
/// The database is away.
pub async fn begin_group_snapshot(
    tx: &mut Tx,
    id: GroupSnapshotId,
    op: GroupSnapshotOp,
    by: By<'_>,
) -> Result<Begin> {
    begin(tx, &GROUP_SNAPSHOT, &id.to_string(), op.rule(), by).await
}

/// Begins work on a backup.
///
/// # Errors
/// The database is away.
pub async fn begin_backup(tx: &mut Tx, id: BackupId, op: BackupOp, by: By<'_>) -> Result<Begin> {
    begin(tx, &BACKUP, &id.to_string(), op.rule(), by).await
}

/// As [`begin_volume`], leaving out one guard that the caller fulfils in the same transaction (a cascading delete takes
/// the snapshots along).
///
/// # Errors
/// The database is away.
pub async fn begin_volume_without(
    tx: &mut Tx,
    id: VolumeId,
    op: VolumeOp,
    waived: Guard,
    by: By<'_>,
) -> Result<Begin> {
    let needs: Vec<Guard> = op.rule().needs.iter().copied().filter(|guard| *guard != waived).collect();
    begin_needing(tx, &VOLUME, &id.to_string(), op.rule(), &needs, by).await
}

async fn begin<S: Copy + Into<Value> + AsText>(
    tx: &mut Tx,
    kind: &Kind,
    id: &str,
    rule: Rule<S>,
    by: By<'_>,
) -> Result<Begin> {
    begin_needing(tx, kind, id, rule, rule.needs, by).await
}

async fn begin_needing<S: Copy + Into<Value> + AsText>(
    tx: &mut Tx,
    kind: &Kind,
    id: &str,
    rule: Rule<S>,
    needs: &[Guard],
    by: By<'_>,
) -> Result<Begin> {
    let Some(shows) = rule.shows else { return Ok(Begin::Moved) };
    let Some(row) = tx
        .row(
            sql(format!("SELECT status FROM {} WHERE id = ? AND deleted = FALSE {{for_update}}", kind.table))
                .bind(id),
        )
        .await?
    else {
        return Ok(Begin::Missing);
    };
    let from: String = row.get("status")?;
    let previous = if kind.has_previous { "previous_status = status, " } else { "" };
    let mut text = format!(
        "UPDATE {} SET {previous}status = ?, updated_at = {{utc}} WHERE id = ? AND deleted = FALSE AND status IN ({})",
        kind.table,
        marks(rule.from.len())
    );
    for guard in needs {
        text.push_str(" AND ");
        text.push_str(&condition(*guard, kind));
    }
    let moved = tx.exec(sql(text).bind(shows).bind(id).bind_all(rule.from.iter().copied())).await?;
    if moved == 0 {
        return Ok(Begin::Refused { status: from, unmet: unmet(tx, kind, id, needs).await? });
    }
    append(
        tx,
        Change { kind: kind.name, id, from: Some(&from), to: Some(shows.as_text()), by, detail: None },
    )
    .await?;
    Ok(Begin::Moved)
}

async fn unmet(tx: &mut Tx, kind: &Kind, id: &str, needs: &[Guard]) -> Result<Vec<Guard>> {
    let mut unmet = Vec::new();
    for guard in needs {
        let text = format!("SELECT id FROM {} WHERE id = ? AND {}", kind.table, condition(*guard, kind));
        if tx.row(sql(text).bind(id)).await?.is_none() {
            unmet.push(*guard);
        }
    }
    Ok(unmet)
}

/// A status enum's text.
pub trait AsText {
    fn as_text(&self) -> &'static str;
}
macro_rules! as_text { ($($ty:ty),+) => { $(impl AsText for $ty { fn as_text(&self) -> &'static str { self.as_str() } })+ } }
as_text!(VolumeStatus, SnapshotStatus, model::BackupStatus, model::GroupStatus, model::GroupSnapshotStatus);

/// Ends work on a volume, in the transaction that ends its job. A status that an operator has reset meanwhile is left as it is,
/// unless the volume is gone.
///
/// # Errors
/// The database is away.
pub async fn finish_volume(
    tx: &mut Tx,
    id: VolumeId,
    op: VolumeOp,
    outcome: Outcome,
    by: By<'_>,
) -> Result<()> {
    let rule = op.rule();
    match after(rule, outcome) {
        After::ByAttachments => {
            let (status, _) = derived(tx, id).await?;
            finish(tx, &VOLUME, &id.to_string(), rule, After::Be(status), by).await
        }
        other => finish(tx, &VOLUME, &id.to_string(), rule, other, by).await,
    }
}

/// Ends work on a snapshot.
///
/// # Errors
/// The database is away.
pub async fn finish_snapshot(
    tx: &mut Tx,
    id: SnapshotId,
    op: SnapshotOp,
    outcome: Outcome,
    by: By<'_>,
) -> Result<()> {
    let after = match outcome {
        // A snapshot keeps no previous status: what was not done leaves it usable.
        Outcome::Undone => After::Be(SnapshotStatus::Available),
        outcome => after(op.rule(), outcome),
    };
    finish(tx, &SNAPSHOT, &id.to_string(), op.rule(), after, by).await
}

/// A hypervisor's report on a snapshot that it takes or removes: from one status to another (or the same), with the progress if it
/// says so. Whether the snapshot was still in `from`.
///
/// # Errors
/// The database is away.
pub async fn report_snapshot(
    tx: &mut Tx,
    id: SnapshotId,
    from: SnapshotStatus,
    to: SnapshotStatus,
    progress: Option<&str>,
    by: By<'_>,
) -> Result<bool> {
    let moved = tx
        .exec(
            sql("UPDATE snapshots SET status = ?, progress = COALESCE(?, progress), updated_at = {utc} \
                 WHERE id = ? AND deleted = FALSE AND status = ?")
            .bind(to)
            .bind(progress)
            .bind(id)
            .bind(from),
        )
        .await?;
    if moved > 0 && from != to {
        let (name, detail) = (id.to_string(), Some("reported by the hypervisor"));
        let change = Change {
            kind: "snapshot",
            id: &name,
            from: Some(from.as_str()),
            to: Some(to.as_str()),
            by,
            detail,
        };
        append(tx, change).await?;
    }
    Ok(moved > 0)
}

/// Ends work on a group.
///
/// # Errors
/// The database is away.
pub async fn finish_group(tx: &mut Tx, id: GroupId, op: GroupOp, outcome: Outcome, by: By<'_>) -> Result<()> {
    finish(tx, &GROUP, &id.to_string(), op.rule(), after(op.rule(), outcome), by).await
}

/// Ends work on a group snapshot.
///
/// # Errors
/// The database is away.
pub async fn finish_group_snapshot(
    tx: &mut Tx,
    id: GroupSnapshotId,
    op: GroupSnapshotOp,
    outcome: Outcome,
    by: By<'_>,
) -> Result<()> {
    finish(tx, &GROUP_SNAPSHOT, &id.to_string(), op.rule(), after(op.rule(), outcome), by).await
}

/// Ends work on a backup.
///
/// # Errors
/// The database is away.
pub async fn finish_backup(
    tx: &mut Tx,
    id: BackupId,
    op: BackupOp,
    outcome: Outcome,
    by: By<'_>,
) -> Result<()> {
    finish(tx, &BACKUP, &id.to_string(), op.rule(), after(op.rule(), outcome), by).await
}

/// Makes a deleted backup one that is being made again; whether it was deleted.
///
/// # Errors
/// The database is away.
pub async fn revive_backup(tx: &mut Tx, id: BackupId, by: By<'_>) -> Result<bool> {
    let stmt = sql("UPDATE backups SET deleted = FALSE, deleted_at = NULL, updated_at = {utc}, status = ? \
                    WHERE id = ? AND deleted = TRUE");
    let creating = model::BackupStatus::Creating;
    if tx.exec(stmt.bind(creating).bind(id)).await? == 0 {
        return Ok(false);
    }
    let id = id.to_string();
    let (from, to) = (Some("deleted"), Some(creating.as_str()));
    append(tx, Change { kind: BACKUP.name, id: &id, from, to, by, detail: None }).await?;
    Ok(true)
}

fn after<S: Copy>(rule: Rule<S>, outcome: Outcome) -> After<S> {
    match outcome {
        Outcome::Done => rule.done,
        Outcome::Failed => rule.failed,
        Outcome::Undone => After::Back,
    }
}

async fn finish<S: Copy + Into<Value> + AsText>(
    tx: &mut Tx,
    kind: &Kind,
    id: &str,
    rule: Rule<S>,
    after: After<S>,
    by: By<'_>,
) -> Result<()> {
    let Some(shows) = rule.shows else { return Ok(()) };
    let (text, to) = match after {
        After::Be(status) => (
            format!("UPDATE {} SET status = ?, updated_at = {{utc}} WHERE id = ? AND status = ?", kind.table),
            Some(status.as_text()),
        ),
        After::Back | After::ByAttachments => (
            format!(
                "UPDATE {} SET status = COALESCE(previous_status, 'available'), updated_at = {{utc}} WHERE id = ? AND status = ?",
                kind.table
            ),
            None,
        ),
        After::Gone => (
            format!(
                "UPDATE {} SET status = 'deleted', deleted = TRUE, deleted_at = {{utc}} WHERE id = ? AND deleted = FALSE",
                kind.table
            ),
            Some("deleted"),
        ),
    };
    let stmt = match after {
        After::Be(status) => sql(text).bind(status).bind(id).bind(shows),
        After::Back | After::ByAttachments => sql(text).bind(id).bind(shows),
        After::Gone => sql(text).bind(id),
    };
    if tx.exec(stmt).await? == 0 {
        return Ok(());
    }
    let to = match to {
        Some(to) => Some(to.to_owned()),
        None => {
            match tx.row(sql(format!("SELECT status FROM {} WHERE id = ?", kind.table)).bind(id)).await? {
                Some(row) => row.get("status")?,
                None => None,
            }
        }
    };
    append(
        tx,
        Change { kind: kind.name, id, from: Some(shows.as_text()), to: to.as_deref(), by, detail: None },
    )
    .await
}

/// A client's move of a volume (reserve, begin detaching, ...).
///
/// # Errors
/// The database is away.
pub async fn move_volume(tx: &mut Tx, id: VolumeId, how: VolumeMove, by: By<'_>) -> Result<Begin> {
    let (from, to) = how.rule();
    let rule = Rule { from, shows: Some(to), done: After::Be(to), failed: After::Be(to), needs: how.needs() };
    begin(tx, &VOLUME, &id.to_string(), rule, by).await
}

/// What a volume's attachments say it is. Its row is locked: of two attachments that change at once, the second sees what
/// the first has done.
async fn derived(tx: &mut Tx, id: VolumeId) -> Result<(VolumeStatus, VolumeAttachStatus)> {
    tx.row(sql("SELECT id FROM volumes WHERE id = ? {for_update}").bind(id)).await?;
    let rows = tx
        .rows(
            sql("SELECT id, attach_status FROM volume_attachment WHERE volume_id = ? AND deleted = FALSE")
                .bind(id),
        )
        .await?;
    let live: Vec<AttachStatus> =
        rows.iter().map(|row| row.parse("volume_attachment", "attach_status")).collect::<Result<_>>()?;
    Ok(derive(live))
}

/// Sets a volume's status and attach status to what its attachments say (states.md 3). The status of a volume that is
/// migrating is kept when nothing is attached any more; a status that a job owns is kept for the job to end.
///
/// # Errors
/// The database is away.
pub async fn derive_volume(tx: &mut Tx, id: VolumeId, by: By<'_>) -> Result<()> {
    let to = derived(tx, id).await?;
    follow(tx, id, to, by).await
}

/// Moves a volume where its attachments lead it.
async fn follow(
    tx: &mut Tx,
    id: VolumeId,
    (status, attach): (VolumeStatus, VolumeAttachStatus),
    by: By<'_>,
) -> Result<()> {
    let Some(row) = tx
        .row(
            sql("SELECT status, migration_status FROM volumes WHERE id = ? AND deleted = FALSE {for_update}")
                .bind(id),
        )
        .await?
    else {
        return Ok(());
    };
    let from: VolumeStatus = row.parse("volumes", "status")?;
    let migration: Option<String> = row.get("migration_status")?;
    let migrating = migration.is_some_and(|m| !matches!(m.as_str(), "success" | "error"));
    if from.is_service_owned() {
        // What the job falls back to when it ends.
        let stmt =
            sql("UPDATE volumes SET previous_status = ?, attach_status = ?, updated_at = {utc} WHERE id = ?");
        return tx.exec(stmt.bind(status).bind(attach).bind(id)).await.map(drop);
    }
    let to = if attach == VolumeAttachStatus::Detached && migrating { from } else { status };
    tx.exec(
        sql("UPDATE volumes SET status = ?, attach_status = ?, updated_at = {utc} WHERE id = ?")
            .bind(to)
            .bind(attach)
            .bind(id),
    )
    .await?;
    if from == to {
        return Ok(());
    }
    let id = id.to_string();
    let (from, to) = (Some(from.as_str()), Some(to.as_str()));
    append(tx, Change { kind: "volume", id: &id, from, to, by, detail: None }).await
}

/// `os-unreserve`: from `attaching` back to what the volume was; whether it was `attaching`.
///
/// # Errors
/// The database is away.
pub async fn unreserve_volume(tx: &mut Tx, id: VolumeId, by: By<'_>) -> Result<bool> {
    tx.row(sql("SELECT id FROM volumes WHERE id = ? {for_update}").bind(id)).await?;
    let attached =
        tx.row(sql("SELECT id FROM volume_attachment WHERE volume_id = ? AND deleted = FALSE").bind(id));
    let to = if attached.await?.is_some() { VolumeStatus::InUse } else { VolumeStatus::Available };
    let from = &[VolumeStatus::Attaching];
    let rule = Rule { from, shows: Some(to), done: After::Be(to), failed: After::Be(to), needs: &[] };
    Ok(begin(tx, &VOLUME, &id.to_string(), rule, by).await? == Begin::Moved)
}

/// Moves an attachment on, and its volume with it: one transaction, one winner. Whether a row moved. An attachment that
/// goes wrong leaves its volume as it is.
///
/// # Errors
/// The database is away.
pub async fn move_attachment(
    tx: &mut Tx,
    id: AttachmentId,
    from: &[AttachStatus],
    to: AttachStatus,
    by: By<'_>,
) -> Result<bool> {
    let Some(row) = tx
        .row(
            sql("SELECT volume_id, attach_status FROM volume_attachment WHERE id = ? AND deleted = FALSE {for_update}")
                .bind(id),
        )
        .await?
    else {
        return Ok(false);
    };
    let volume: String = row.get("volume_id")?;
    let was: String = row.get("attach_status")?;
    let gone = matches!(to, AttachStatus::Detached | AttachStatus::Deleted);
    let tail = if gone { ", deleted = TRUE, deleted_at = {utc}, detach_time = {utc}" } else { "" };
    let text = format!(
        "UPDATE volume_attachment SET attach_status = ?, updated_at = {{utc}}{tail} \
         WHERE id = ? AND deleted = FALSE AND attach_status IN ({})",
        marks(from.len())
    );
    if tx.exec(sql(text).bind(to).bind(id).bind_all(from.iter().copied())).await? == 0 {
        return Ok(false);
    }
    let name = id.to_string();
    let change = Change {
        kind: "attachment",
        id: &name,
        from: Some(&was),
        to: Some(to.as_str()),
        by,
        detail: Some(&volume),
    };
    append(tx, change).await?;
    let Ok(volume) = volume.parse() else { return Ok(true) };
    match to {
        AttachStatus::Attaching => {
            follow(tx, volume, (VolumeStatus::Attaching, VolumeAttachStatus::Attaching), by).await?;
        }
        AttachStatus::Attached => {
            follow(tx, volume, (VolumeStatus::InUse, VolumeAttachStatus::Attached), by).await?;
        }
        AttachStatus::Detached | AttachStatus::Deleted => derive_volume(tx, volume, by).await?,
        AttachStatus::Reserved | AttachStatus::ErrorAttaching | AttachStatus::ErrorDetaching => {}
    }
    Ok(true)
}

/// Removes the attachments of a volume that is gone.
///
/// # Errors
/// The database is away.
pub async fn remove_attachments(tx: &mut Tx, volume: VolumeId, by: By<'_>) -> Result<()> {
    for attachment in crate::attachment::of_volume(tx, volume).await? {
        move_attachment(tx, attachment.id, AttachStatus::ALL, AttachStatus::Deleted, by).await?;
    }
    Ok(())
}

/// An administrator's reset of a resource's status columns, without any condition but that the row is there.
///
/// # Errors
/// The database is away.
pub async fn reset(
    tx: &mut Tx,
    what: Resettable,
    id: &str,
    columns: &[(&'static str, Option<&str>)],
    by: By<'_>,
) -> Result<bool> {
    let kind = match what {
        Resettable::Volume => &VOLUME,
        Resettable::Snapshot => &SNAPSHOT,
        Resettable::Backup => &BACKUP,
        Resettable::Group => &GROUP,
        Resettable::GroupSnapshot => &GROUP_SNAPSHOT,
    };
    let Some(row) = tx
        .row(
            sql(format!("SELECT status FROM {} WHERE id = ? AND deleted = FALSE {{for_update}}", kind.table))
                .bind(id),
        )
        .await?
    else {
        return Ok(false);
    };
    let from: String = row.get("status")?;
    let mut text = format!("UPDATE {} SET updated_at = {{utc}}", kind.table);
    let mut values = Vec::new();
    for (column, value) in columns {
        text.push_str(&format!(", {column} = ?"));
        values.push(Value::from(*value));
    }
    let stmt = sql(text).bind_all(values).push(" WHERE id = ? AND deleted = FALSE").bind(id);
    let moved = tx.exec(stmt).await? > 0;
    let to = columns.iter().find(|(column, _)| *column == "status").and_then(|(_, value)| *value);
    append(
        tx,
        Change { kind: kind.name, id, from: Some(&from), to, by, detail: Some("reset by an administrator") },
    )
    .await?;
    Ok(moved)
}

/// What [`reset`] can reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resettable {
    Volume,
    Snapshot,
    Backup,
    Group,
    GroupSnapshot,
}

/// A resource in a service-owned status that no job would end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unowned {
    /// `volume`, `snapshot`, `backup`, `group`, `group_snapshot`.
    pub kind: &'static str,
    pub id: String,
    pub status: String,
}

/// The statuses that jobs own, by kind: those that the rules of job-carried operations show.
fn owned() -> [(&'static Kind, Vec<&'static str>); 5] {
    [
        (&VOLUME, VolumeOp::ALL.iter().filter_map(|op| op.rule().shows).map(VolumeStatus::as_str).collect()),
        (
            &SNAPSHOT,
            SnapshotOp::ALL
                .iter()
                .filter_map(|op| op.rule().shows)
                .map(model::SnapshotStatus::as_str)
                .collect(),
        ),
        (
            &BACKUP,
            BackupOp::ALL.iter().filter_map(|op| op.rule().shows).map(model::BackupStatus::as_str).collect(),
        ),
        (
            &GROUP,
            GroupOp::ALL.iter().filter_map(|op| op.rule().shows).map(model::GroupStatus::as_str).collect(),
        ),
        (
            &GROUP_SNAPSHOT,
            GroupSnapshotOp::ALL
                .iter()
                .filter_map(|op| op.rule().shows)
                .map(model::GroupSnapshotStatus::as_str)
                .collect(),
        ),
    ]
}

const NO_JOB: &str = "NOT EXISTS (SELECT 1 FROM jobs j WHERE j.state IN ('queued', 'running', 'undoing') \
                      AND (j.resource_id = r.id OR j.request LIKE CONCAT('%', r.id, '%')))";

/// An administrator sets maintenance, too, and for as long as they like: it is a job's only while the volume migrates.
const OF_A_JOB: &str = " AND (r.status <> 'maintenance' OR r.migration_status IN ('starting', 'migrating'))";

impl Kind {
    /// What else tells a status that a job has set from one that was set by hand.
    fn of_a_job(&self) -> &'static str {
        if self.table == VOLUME.table { OF_A_JOB } else { "" }
    }

    /// What else goes with a job that is gone.
    fn settled(&self) -> &'static str {
        if self.table != VOLUME.table {
            return "";
        }
        ", migration_status = CASE WHEN migration_status IN ('starting', 'migrating') THEN 'error' ELSE migration_status END"
    }
}

/// Resources in service-owned statuses that no active job works on or mentions (I3: there are none, unless something
/// else wrote to the database).
///
/// # Errors
/// The database is away.
pub async fn unowned(from: &mut impl crate::conn::Read) -> Result<Vec<Unowned>> {
    let mut found = Vec::new();
    for (kind, statuses) in owned() {
        let text = format!(
            "SELECT r.id, r.status FROM {} r WHERE r.deleted = FALSE AND r.status IN ({}){} AND {NO_JOB}",
            kind.table,
            marks(statuses.len()),
            kind.of_a_job()
        );
        for row in from.rows(sql(text).bind_all(statuses.iter().copied())).await? {
            found.push(Unowned { kind: kind.name, id: row.get("id")?, status: row.get("status")? });
        }
    }
    Ok(found)
}

/// Moves such a resource to its error status; whether it still was as it was found.
///
/// # Errors
/// The database is away.
pub async fn settle_unowned(tx: &mut Tx, stuck: &Unowned) -> Result<bool> {
    let Some((kind, _)) = owned().into_iter().find(|(kind, _)| kind.name == stuck.kind) else {
        return Ok(false);
    };
    let text = format!(
        "UPDATE {} AS r SET status = 'error', updated_at = {{utc}}{} WHERE r.id = ? AND r.deleted = FALSE \
         AND r.status = ?{} AND {NO_JOB}",
        kind.table,
        kind.settled(),
        kind.of_a_job()
    );
    if tx.exec(sql(text).bind(&stuck.id).bind(&stuck.status)).await? == 0 {
        return Ok(false);
    }
    let detail = Some("no job would have ended it");
    let by = By::default();
    append(
        tx,
        Change { kind: kind.name, id: &stuck.id, from: Some(&stuck.status), to: Some("error"), by, detail },
    )
    .await?;
    Ok(true)
}
