//! Snapshots and their metadata.

use std::collections::BTreeMap;

use model::list::{ListQuery, Listed};
use model::{GiB, Snapshot, SnapshotId, SnapshotStatus, TypeId, VolumeId};

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::key_value::KeyValues;
use crate::page::{ColumnKind, Listing};
use crate::sql::{Row, marks, sql};

/// What a new snapshot's row holds.
#[derive(Debug, Clone)]
pub struct NewSnapshot {
    pub id: SnapshotId,
    pub volume_id: VolumeId,
    pub user_id: String,
    pub project_id: String,
    pub size: GiB,
    pub name: Option<String>,
    pub description: Option<String>,
    pub type_id: TypeId,
    pub use_quota: bool,
    pub metadata: BTreeMap<String, String>,
}

const METADATA: KeyValues = KeyValues { table: "snapshot_metadata", owner: "snapshot_id" };

const LISTING: Listing = Listing {
    table: "snapshots",
    columns: {
        use ColumnKind::{Bool, Host, Int, Text, Time};
        &[
            ("id", Text),
            ("display_name", Text),
            ("display_description", Text),
            ("status", Text),
            ("volume_id", Text),
            ("volume_size", Int),
            ("user_id", Text),
            ("project_id", Text),
            ("progress", Text),
            ("use_quota", Bool),
            ("volume_type_id", Text),
            ("group_snapshot_id", Text),
            ("cgsnapshot_id", Text),
            ("provider_id", Text),
            ("provider_location", Text),
            ("created_at", Time),
            ("updated_at", Time),
            // These three are the volume's: see `WITH_VOLUME`.
            ("availability_zone", Text),
            ("host", Host),
            ("cluster_name", Host),
        ]
    },
    metadata: Some(METADATA),
    also: "",
};

/// Columns of the volume by which snapshots can be listed too.
const OF_VOLUME: [&str; 3] = ["availability_zone", "host", "cluster_name"];

/// As [`LISTING`], where a column of the volume is asked for: a derived table keeps the list machinery free of joins.
const WITH_VOLUME: Listing = Listing {
    table: "(SELECT s.*, v.availability_zone, v.host, v.cluster_name FROM snapshots s \
            LEFT JOIN volumes v ON v.id = s.volume_id) snapshots",
    ..LISTING
};

/// Makes the row of a snapshot that is `creating`.
///
/// # Errors
/// The database is away.
pub async fn insert(tx: &mut Tx, new: &NewSnapshot) -> Result<()> {
    tx.exec(
        sql("INSERT INTO snapshots (created_at, deleted, id, volume_id, user_id, project_id, status, progress, volume_size, \
             display_name, display_description, volume_type_id, use_quota) \
             VALUES ({utc}, FALSE, ?, ?, ?, ?, ?, '0%', ?, ?, ?, ?, ?)")
        .bind(new.id)
        .bind(new.volume_id)
        .bind(&new.user_id)
        .bind(&new.project_id)
        .bind(SnapshotStatus::Creating)
        .bind(new.size.0)
        .bind(new.name.clone())
        .bind(new.description.clone())
        .bind(new.type_id)
        .bind(new.use_quota),
    )
    .await?;
    for (key, value) in &new.metadata {
        put_metadata(tx, new.id, key, value).await?;
    }
    Ok(())
}

/// A live snapshot.
///
/// # Errors
/// The database is away.
pub async fn get(from: &mut impl Read, id: SnapshotId) -> Result<Option<Snapshot>> {
    let rows = from.rows(sql("SELECT * FROM snapshots WHERE id = ? AND deleted = FALSE").bind(id)).await?;
    Ok(complete(from, rows).await?.pop())
}

/// Whether this database has ever known the snapshot, and whether its row is deleted.
///
/// # Errors
/// The database is away.
pub async fn tombstone(from: &mut impl Read, id: SnapshotId) -> Result<Option<bool>> {
    let row = from.row(sql("SELECT id, deleted FROM snapshots WHERE id = ?").bind(id)).await?;
    row.map(|row| row.get("deleted")).transpose()
}

/// Live snapshots of volumes that live on `host@backend` (any pool), oldest first.
///
/// # Errors
/// The database is away.
pub async fn on_backend(from: &mut impl Read, service_host: &str) -> Result<Vec<Snapshot>> {
    let rows = from
        .rows(
            sql(format!(
                "SELECT s.* FROM snapshots s JOIN volumes v ON v.id = s.volume_id WHERE s.deleted = FALSE \
                 AND v.deleted = FALSE AND (v.host = ? OR SUBSTR(v.host, 1, {}) = ?) ORDER BY s.created_at, s.id",
                service_host.chars().count() + 1
            ))
            .bind(service_host)
            .bind(format!("{service_host}#")),
        )
        .await?;
    complete(from, rows).await
}

/// Live snapshots of a volume, oldest first.
///
/// # Errors
/// The database is away.
pub async fn of_volume(from: &mut impl Read, volume: VolumeId) -> Result<Vec<Snapshot>> {
    let rows = from
        .rows(
            sql("SELECT * FROM snapshots WHERE volume_id = ? AND deleted = FALSE ORDER BY created_at, id")
                .bind(volume),
        )
        .await?;
    complete(from, rows).await
}

/// A page of snapshots.
///
/// # Errors
/// A bad sort key or marker, or the database is away.
pub async fn list(from: &mut impl Read, query: &ListQuery) -> Result<Listed<Snapshot>> {
    let filtered = query.filters.iter().map(|filter| filter.field.as_str());
    let mut fields = filtered.chain(query.sort.iter().map(|(column, _)| column.as_str()));
    let listing = if fields.any(|field| OF_VOLUME.contains(&field)) { &WITH_VOLUME } else { &LISTING };
    let (rows, count) = listing.page(from, query).await?;
    Ok(Listed { items: complete(from, rows).await?, count })
}

async fn complete(from: &mut impl Read, rows: Vec<Row>) -> Result<Vec<Snapshot>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut snapshots: Vec<Snapshot> = rows.iter().map(read).collect::<Result<_>>()?;
    let ids: Vec<SnapshotId> = snapshots.iter().map(|snapshot| snapshot.id).collect();
    let mut metadata = METADATA.texts_of(from, &ids).await?;
    for snapshot in &mut snapshots {
        snapshot.metadata = metadata.remove(&snapshot.id).unwrap_or_default();
    }
    Ok(snapshots)
}

/// Sets one key.
///
/// # Errors
/// The database is away.
pub async fn put_metadata(tx: &mut Tx, id: SnapshotId, key: &str, value: &str) -> Result<()> {
    METADATA.put(tx, id, key, Some(value)).await
}

/// Removes one key; whether it was there.
///
/// # Errors
/// The database is away.
pub async fn drop_metadata(tx: &mut Tx, id: SnapshotId, key: &str) -> Result<bool> {
    METADATA.remove(tx, id, key).await
}

/// Makes `wanted` the whole metadata.
///
/// # Errors
/// The database is away.
pub async fn replace_metadata(tx: &mut Tx, id: SnapshotId, wanted: &BTreeMap<String, String>) -> Result<()> {
    METADATA.replace(tx, id, wanted).await
}

/// Sets the name and the description; a field that is `None` stays.
///
/// # Errors
/// The database is away.
pub async fn rename(
    tx: &mut Tx,
    id: SnapshotId,
    name: Option<Option<&str>>,
    description: Option<Option<&str>>,
) -> Result<()> {
    for (column, value) in [("display_name", name), ("display_description", description)] {
        if let Some(value) = value {
            let text = format!(
                "UPDATE snapshots SET {column} = ?, updated_at = {{utc}} WHERE id = ? AND deleted = FALSE"
            );
            tx.exec(sql(text).bind(value).bind(id)).await?;
        }
    }
    Ok(())
}

/// Sets the size.
///
/// # Errors
/// The database is away.
pub async fn resize(tx: &mut Tx, id: SnapshotId, size: GiB) -> Result<()> {
    tx.exec(
        sql("UPDATE snapshots SET volume_size = ?, updated_at = {utc} WHERE id = ? AND deleted = FALSE")
            .bind(size.0)
            .bind(id),
    )
    .await
    .map(drop)
}

/// Records what the driver returned, and the progress.
///
/// # Errors
/// The database is away.
pub async fn taken(
    tx: &mut Tx,
    id: SnapshotId,
    location: Option<&str>,
    provider_id: Option<&str>,
    progress: &str,
) -> Result<()> {
    tx.exec(
        sql("UPDATE snapshots SET provider_location = ?, provider_id = ?, progress = ? WHERE id = ? AND deleted = FALSE")
            .bind(location)
            .bind(provider_id)
            .bind(progress)
            .bind(id),
    )
    .await
    .map(drop)
}

fn read(row: &Row) -> Result<Snapshot> {
    Ok(Snapshot {
        id: row.parse("snapshots", "id")?,
        volume_id: row.parse("snapshots", "volume_id")?,
        user_id: row.get("user_id")?,
        project_id: row.get("project_id")?,
        status: row.parse("snapshots", "status")?,
        progress: row.get("progress")?,
        volume_size: GiB(row.get::<Option<i64>>("volume_size")?.unwrap_or(0).max(0) as u32),
        name: row.get("display_name")?,
        description: row.get("display_description")?,
        type_id: row.parse("snapshots", "volume_type_id")?,
        provider_location: row.get("provider_location")?,
        provider_id: row.get("provider_id")?,
        group_snapshot_id: row.get("group_snapshot_id")?,
        cgsnapshot_id: row.get("cgsnapshot_id")?,
        encryption_key_id: row.get("encryption_key_id")?,
        use_quota: row.get("use_quota")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        metadata: BTreeMap::new(),
    })
}

/// Holds a snapshot in one of these statuses until the transaction ends; whether it is in one.
///
/// # Errors
/// The database is away.
pub async fn hold(tx: &mut Tx, id: SnapshotId, statuses: &[SnapshotStatus]) -> Result<bool> {
    let text = format!(
        "UPDATE snapshots SET updated_at = updated_at WHERE id = ? AND deleted = FALSE AND status IN ({})",
        marks(statuses.len())
    );
    Ok(tx.exec(sql(text).bind(id).bind_all(statuses.iter().copied())).await? > 0)
}
