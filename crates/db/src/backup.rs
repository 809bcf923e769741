//! Backups and their metadata.

use std::collections::BTreeMap;

use model::list::{ListQuery, Listed};
use model::{Backup, BackupId, BackupStatus, SnapshotId, Time, VolumeId};

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::key_value::KeyValues;
use crate::page::{ColumnKind, Listing};
use crate::sql::{Row, marks, sql};

const METADATA: KeyValues = KeyValues { table: "backup_metadata", owner: "backup_id" };

const LISTING: Listing = Listing {
    table: "backups",
    columns: {
        use ColumnKind::{Int, Text, Time};
        &[
            ("id", Text),
            ("display_name", Text),
            ("display_description", Text),
            ("status", Text),
            ("volume_id", Text),
            ("snapshot_id", Text),
            ("parent_id", Text),
            ("host", Text),
            ("availability_zone", Text),
            ("container", Text),
            ("service", Text),
            ("size", Int),
            ("object_count", Int),
            ("user_id", Text),
            ("project_id", Text),
            ("fail_reason", Text),
            ("restore_volume_id", Text),
            ("created_at", Time),
            ("updated_at", Time),
            ("data_timestamp", Time),
        ]
    },
    metadata: Some(METADATA),
    also: "",
};

/// What a new backup's row holds.
#[derive(Debug, Clone)]
pub struct NewBackup {
    pub id: BackupId,
    pub volume_id: VolumeId,
    pub snapshot_id: Option<SnapshotId>,
    pub parent_id: Option<BackupId>,
    pub user_id: String,
    pub project_id: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub container: Option<String>,
    /// GiB.
    pub size: u32,
    /// The service that is to make it.
    pub host: Option<String>,
    pub availability_zone: Option<String>,
    /// When its data was current; `None`: now.
    pub data_timestamp: Option<Time>,
    pub metadata: BTreeMap<String, String>,
}

/// Makes the row of a backup that is `creating`.
///
/// # Errors
/// The database is away.
pub async fn insert(tx: &mut Tx, new: &NewBackup) -> Result<()> {
    tx.exec(
        sql("INSERT INTO backups (created_at, deleted, id, volume_id, snapshot_id, parent_id, user_id, project_id, \
             display_name, display_description, container, status, size, host, availability_zone, object_count, \
             num_dependent_backups, data_timestamp) \
             VALUES ({utc}, FALSE, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?)")
        .bind(new.id)
        .bind(new.volume_id)
        .bind(new.snapshot_id)
        .bind(new.parent_id)
        .bind(&new.user_id)
        .bind(&new.project_id)
        .bind(new.name.clone())
        .bind(new.description.clone())
        .bind(new.container.clone())
        .bind(BackupStatus::Creating)
        .bind(new.size)
        .bind(new.host.clone())
        .bind(new.availability_zone.clone())
        .bind(new.data_timestamp),
    )
    .await?;
    tx.exec(
        sql("UPDATE backups SET data_timestamp = created_at WHERE id = ? AND data_timestamp IS NULL")
            .bind(new.id),
    )
    .await?;
    for (key, value) in &new.metadata {
        METADATA.put(tx, new.id, key, Some(value)).await?;
    }
    Ok(())
}

/// A live backup.
///
/// # Errors
/// The database is away.
pub async fn get(from: &mut impl Read, id: BackupId) -> Result<Option<Backup>> {
    let rows = from.rows(sql("SELECT * FROM backups WHERE id = ? AND deleted = FALSE").bind(id)).await?;
    Ok(complete(from, rows).await?.pop())
}

/// A page of backups.
///
/// # Errors
/// A bad sort key or marker, or the database is away.
pub async fn list(from: &mut impl Read, query: &ListQuery) -> Result<Listed<Backup>> {
    let (rows, count) = LISTING.page(from, query).await?;
    Ok(Listed { items: complete(from, rows).await?, count })
}

/// The available backup that an incremental one of this volume would build on: the newest data of the same project, older
/// than `before` when that is given.
///
/// # Errors
/// The database is away.
pub async fn parent(
    from: &mut impl Read,
    volume: VolumeId,
    project: &str,
    before: Option<Time>,
) -> Result<Option<Backup>> {
    let mut stmt =
        sql("SELECT * FROM backups WHERE volume_id = ? AND project_id = ? AND status = 'available' AND deleted = FALSE")
            .bind(volume)
            .bind(project);
    if let Some(before) = before {
        stmt = stmt.push(" AND data_timestamp < ?").bind(before);
    }
    let rows = from.rows(stmt.push(" ORDER BY data_timestamp DESC, id DESC LIMIT 1")).await?;
    Ok(complete(from, rows).await?.pop())
}

async fn complete(from: &mut impl Read, rows: Vec<Row>) -> Result<Vec<Backup>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut backups: Vec<Backup> = rows.iter().map(read).collect::<Result<_>>()?;
    let ids: Vec<BackupId> = backups.iter().map(|backup| backup.id).collect();
    let mut metadata = METADATA.texts_of(from, &ids).await?;
    for backup in &mut backups {
        backup.metadata = metadata.remove(&backup.id).unwrap_or_default();
    }
    Ok(backups)
}

/// Makes `wanted` the whole metadata.
///
/// # Errors
/// The database is away.
pub async fn replace_metadata(tx: &mut Tx, id: BackupId, wanted: &BTreeMap<String, String>) -> Result<()> {
    METADATA.replace(tx, id, wanted).await
}

/// Sets the name and the description; a field that is `None` stays.
///
/// # Errors
/// The database is away.
pub async fn rename(
    tx: &mut Tx,
    id: BackupId,
    name: Option<Option<&str>>,
    description: Option<Option<&str>>,
) -> Result<()> {
    for (column, value) in [("display_name", name), ("display_description", description)] {
        if let Some(value) = value {
            let text = format!(
                "UPDATE backups SET {column} = ?, updated_at = {{utc}} WHERE id = ? AND deleted = FALSE"
            );
            tx.exec(sql(text).bind(value).bind(id)).await?;
        }
    }
    Ok(())
}

/// Where a backup's objects are or will be; written before the first one, so that a crash leaves nothing unnamed.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub service: &'a str,
    pub container: &'a str,
    /// The object prefix.
    pub service_metadata: &'a str,
    pub host: &'a str,
    pub availability_zone: &'a str,
}

/// Records a backup's place.
///
/// # Errors
/// The database is away.
pub async fn place(tx: &mut Tx, id: BackupId, place: Place<'_>) -> Result<()> {
    tx.exec(
        sql("UPDATE backups SET service = ?, container = ?, service_metadata = ?, host = ?, availability_zone = ?, \
             updated_at = {utc} WHERE id = ?")
        .bind(place.service)
        .bind(place.container)
        .bind(place.service_metadata)
        .bind(place.host)
        .bind(place.availability_zone)
        .bind(id),
    )
    .await
    .map(drop)
}

/// Records how many objects a finished backup has; its parent gains a dependent.
///
/// # Errors
/// The database is away.
pub async fn written(tx: &mut Tx, backup: &Backup, object_count: u32) -> Result<()> {
    tx.exec(sql("UPDATE backups SET object_count = ? WHERE id = ?").bind(object_count).bind(backup.id))
        .await?;
    if let Some(parent) = backup.parent_id {
        count_dependent(tx, parent, 1).await?;
    }
    Ok(())
}

/// Changes the number of backups that build on `parent`.
///
/// # Errors
/// The database is away.
pub async fn count_dependent(tx: &mut Tx, parent: BackupId, delta: i64) -> Result<()> {
    tx.exec(
        sql("UPDATE backups SET num_dependent_backups = COALESCE(num_dependent_backups, 0) + ? WHERE id = ?")
            .bind(delta)
            .bind(parent),
    )
    .await
    .map(drop)
}

/// Records why it failed (the first 255 characters), or clears it.
///
/// # Errors
/// The database is away.
pub async fn failed(tx: &mut Tx, id: BackupId, reason: Option<&str>) -> Result<()> {
    let reason = reason.map(|reason| reason.chars().take(255).collect::<String>());
    tx.exec(sql("UPDATE backups SET fail_reason = ? WHERE id = ?").bind(reason).bind(id)).await.map(drop)
}

/// Records the snapshot that was taken to back up a volume in use; `None` once it is gone.
///
/// # Errors
/// The database is away.
pub async fn through(tx: &mut Tx, id: BackupId, snapshot: Option<SnapshotId>) -> Result<()> {
    tx.exec(sql("UPDATE backups SET temp_snapshot_id = ? WHERE id = ?").bind(snapshot).bind(id))
        .await
        .map(drop)
}

/// Records what it is being restored to.
///
/// # Errors
/// The database is away.
pub async fn restoring_to(tx: &mut Tx, id: BackupId, volume: Option<VolumeId>) -> Result<()> {
    tx.exec(sql("UPDATE backups SET restore_volume_id = ? WHERE id = ?").bind(volume).bind(id))
        .await
        .map(drop)
}

fn read(row: &Row) -> Result<Backup> {
    Ok(Backup {
        id: row.parse("backups", "id")?,
        volume_id: row.parse("backups", "volume_id")?,
        user_id: row.get("user_id")?,
        project_id: row.get("project_id")?,
        host: row.get("host")?,
        availability_zone: row.get("availability_zone")?,
        name: row.get("display_name")?,
        description: row.get("display_description")?,
        container: row.get("container")?,
        status: row.parse("backups", "status")?,
        fail_reason: row.get("fail_reason")?,
        service_metadata: row.get("service_metadata")?,
        service: row.get("service")?,
        size: row.get::<Option<i64>>("size")?.map(|size| size.max(0) as u32),
        object_count: row.get::<Option<i64>>("object_count")?.map(|n| n as i32),
        parent_id: row.parse_opt("backups", "parent_id")?,
        num_dependent_backups: row.get::<Option<i64>>("num_dependent_backups")?.map(|n| n as i32),
        snapshot_id: row.parse_opt("backups", "snapshot_id")?,
        data_timestamp: row.get("data_timestamp")?,
        restore_volume_id: row.parse_opt("backups", "restore_volume_id")?,
        temp_volume_id: row.parse_opt("backups", "temp_volume_id")?,
        temp_snapshot_id: row.parse_opt("backups", "temp_snapshot_id")?,
        encryption_key_id: row.get("encryption_key_id")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        metadata: BTreeMap::new(),
    })
}

/// Holds a backup in one of these statuses until the transaction ends; whether it is in one.
///
/// # Errors
/// The database is away.
pub async fn hold(tx: &mut Tx, id: BackupId, statuses: &[BackupStatus]) -> Result<bool> {
    let text = format!(
        "UPDATE backups SET updated_at = updated_at WHERE id = ? AND deleted = FALSE AND status IN ({})",
        marks(statuses.len())
    );
    Ok(tx.exec(sql(text).bind(id).bind_all(statuses.iter().copied())).await? > 0)
}

/// Records which service is to make a backup.
///
/// # Errors
/// The database is away.
pub async fn assign(tx: &mut Tx, id: BackupId, host: &str) -> Result<()> {
    tx.exec(sql("UPDATE backups SET host = ? WHERE id = ?").bind(host).bind(id)).await.map(drop)
}

/// Whether a snapshot is one that a backup in the making froze its volume with.
///
/// # Errors
/// The database is away.
pub async fn froze(from: &mut impl Read, snapshot: SnapshotId) -> Result<bool> {
    let stmt = sql("SELECT id FROM backups WHERE temp_snapshot_id = ? AND deleted = FALSE").bind(snapshot);
    Ok(from.row(stmt).await?.is_some())
}
