//! Transfers of volumes to other projects.

use model::list::{ListQuery, Listed};
use model::{SnapshotId, Transfer, TransferId, VolumeId};

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::page::{ColumnKind, Listing};
use crate::sql::{Row, sql};

const LISTING: Listing = Listing {
    // A transfer belongs to the project that has its volume.
    table: "(SELECT t.*, v.project_id FROM transfers t JOIN volumes v ON v.id = t.volume_id) transfers",
    columns: {
        use ColumnKind::{Bool, Text, Time};
        &[
            ("id", Text),
            ("volume_id", Text),
            ("display_name", Text),
            ("no_snapshots", Bool),
            ("source_project_id", Text),
            ("destination_project_id", Text),
            ("accepted", Bool),
            ("created_at", Time),
            ("updated_at", Time),
        ]
    },
    metadata: None,
    also: "",
};

/// What a key is checked against.
#[derive(Clone)]
pub struct Lock {
    pub salt: String,
    /// Hexadecimal.
    pub hash: String,
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lock")
    }
}

/// Records an offer.
///
/// # Errors
/// The database is away.
pub async fn insert(tx: &mut Tx, new: &Transfer, lock: &Lock) -> Result<()> {
    let stmt = sql(
        "INSERT INTO transfers (created_at, deleted, id, volume_id, display_name, salt, crypt_hash, \
                    no_snapshots, source_project_id, accepted) VALUES ({utc}, FALSE, ?, ?, ?, ?, ?, ?, ?, FALSE)",
    );
    let stmt =
        stmt.bind(new.id).bind(new.volume_id).bind(new.name.as_deref()).bind(&lock.salt).bind(&lock.hash);
    tx.exec(stmt.bind(new.no_snapshots).bind(new.source_project_id.as_deref())).await.map(drop)
}

/// A live transfer, and the project that has its volume.
///
/// # Errors
/// The database is away.
pub async fn get(from: &mut impl Read, id: TransferId) -> Result<Option<(Transfer, Option<String>)>> {
    let text = format!("SELECT * FROM {} WHERE id = ? AND deleted = FALSE", LISTING.table);
    let row = from.row(sql(text).bind(id)).await?;
    row.map(|row| Ok((read(&row)?, row.get("project_id")?))).transpose()
}

/// What a transfer's key is checked against.
///
/// # Errors
/// The database is away.
pub async fn lock_of(from: &mut impl Read, id: TransferId) -> Result<Option<Lock>> {
    let stmt = sql("SELECT salt, crypt_hash FROM transfers WHERE id = ? AND deleted = FALSE").bind(id);
    let Some(row) = from.row(stmt).await? else { return Ok(None) };
    let text = |column| row.get::<Option<String>>(column).map(Option::unwrap_or_default);
    Ok(Some(Lock { salt: text("salt")?, hash: text("crypt_hash")? }))
}

/// A page of transfers.
///
/// # Errors
/// A bad sort key or marker, or the database is away.
pub async fn list(from: &mut impl Read, query: &ListQuery) -> Result<Listed<Transfer>> {
    let (rows, count) = LISTING.page(from, query).await?;
    Ok(Listed { items: rows.iter().map(read).collect::<Result<_>>()?, count })
}

/// Ends an offer that nobody took; whether it was still open.
///
/// # Errors
/// The database is away.
pub async fn withdraw(tx: &mut Tx, id: TransferId) -> Result<bool> {
    let stmt =
        sql("UPDATE transfers SET deleted = TRUE, deleted_at = {utc} WHERE id = ? AND deleted = FALSE");
    Ok(tx.exec(stmt.bind(id)).await? > 0)
}

/// Ends an offer that a project takes; whether it was still open.
///
/// # Errors
/// The database is away.
pub async fn accept(tx: &mut Tx, id: TransferId, project: &str) -> Result<bool> {
    let stmt = sql("UPDATE transfers SET deleted = TRUE, deleted_at = {utc}, accepted = TRUE, \
                    destination_project_id = ? WHERE id = ? AND deleted = FALSE");
    Ok(tx.exec(stmt.bind(project).bind(id)).await? > 0)
}

/// Who has a thing.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    pub user: &'a str,
    pub project: &'a str,
}

/// Gives a volume to another owner.
///
/// # Errors
/// The database is away.
pub async fn give_volume(tx: &mut Tx, id: VolumeId, to: Owner<'_>) -> Result<()> {
    let stmt = sql("UPDATE volumes SET user_id = ?, project_id = ?, updated_at = {utc} \
                    WHERE id = ? AND deleted = FALSE");
    tx.exec(stmt.bind(to.user).bind(to.project).bind(id)).await.map(drop)
}

/// Gives a snapshot to another owner; whether it was available.
///
/// # Errors
/// The database is away.
pub async fn give_snapshot(tx: &mut Tx, id: SnapshotId, to: Owner<'_>) -> Result<bool> {
    let stmt = sql("UPDATE snapshots SET user_id = ?, project_id = ?, updated_at = {utc} \
                    WHERE id = ? AND deleted = FALSE AND status = 'available'");
    Ok(tx.exec(stmt.bind(to.user).bind(to.project).bind(id)).await? > 0)
}

fn read(row: &Row) -> Result<Transfer> {
    Ok(Transfer {
        id: row.parse("transfers", "id")?,
        volume_id: row.parse("transfers", "volume_id")?,
        name: row.get("display_name")?,
        no_snapshots: row.get::<Option<bool>>("no_snapshots")?.unwrap_or(false),
        source_project_id: row.get("source_project_id")?,
        destination_project_id: row.get("destination_project_id")?,
        accepted: row.get::<Option<bool>>("accepted")?.unwrap_or(false),
        created_at: row.get("created_at")?,
    })
}
