//! Backups that are taken in by their records: rows with ids of others' making.

use model::{BackupId, SnapshotId, Time, VolumeId};

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::event::By;
use crate::sql::sql;

/// What becomes of an id that is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    Never,
    /// It was here and was deleted: its row is used again.
    Deleted,
    Live,
}

/// What is known of an id, whoever's it is.
///
/// # Errors
/// The database is away.
pub async fn known(from: &mut impl Read, id: BackupId) -> Result<Known> {
    let row = from.row(sql("SELECT deleted FROM backups WHERE id = ?").bind(id)).await?;
    Ok(match row.map(|row| row.get::<Option<bool>>("deleted")).transpose()? {
        None => Known::Never,
        Some(Some(true)) => Known::Deleted,
        Some(_) => Known::Live,
    })
}

/// Who takes a backup in, and what is counted for it.
#[derive(Debug, Clone, Copy)]
pub struct Taker<'a> {
    pub user: &'a str,
    pub project: &'a str,
    /// The service that looks after it.
    pub host: &'a str,
    /// GiB.
    pub size: u32,
}

/// Makes the row of a backup that is `creating`, or makes a deleted one live again; whether it could.
///
/// # Errors
/// The database is away.
pub async fn begin(tx: &mut Tx, id: BackupId, taker: Taker<'_>) -> Result<bool> {
    let nil = VolumeId::from(uuid::Uuid::nil());
    if known(tx, id).await? == Known::Never {
        let made = sql(
            "INSERT INTO backups (created_at, deleted, id, volume_id, user_id, project_id, status, size, \
                        host, object_count, num_dependent_backups) \
                        VALUES ({utc}, FALSE, ?, ?, ?, ?, 'creating', ?, ?, 0, 0)",
        );
        let made =
            made.bind(id).bind(nil).bind(taker.user).bind(taker.project).bind(taker.size).bind(taker.host);
        return match tx.exec(made).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_duplicate() => Ok(false),
            Err(error) => Err(error),
        };
    }
    if !crate::transition::revive_backup(tx, id, By { project_id: Some(taker.project), ..By::default() })
        .await?
    {
        return Ok(false);
    }
    let again = sql("UPDATE backups SET volume_id = ?, user_id = ?, project_id = ?, size = ?, host = ?, \
                     fail_reason = NULL, display_name = NULL, display_description = NULL, service_metadata = NULL, \
                     parent_id = NULL WHERE id = ?");
    let again = again.bind(nil).bind(taker.user).bind(taker.project).bind(taker.size).bind(taker.host);
    tx.exec(again.bind(id)).await?;
    Ok(true)
}

/// What a record says of a backup.
#[derive(Debug, Clone, Default)]
pub struct Imported {
    pub volume_id: Option<VolumeId>,
    pub parent_id: Option<BackupId>,
    pub snapshot_id: Option<SnapshotId>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub container: Option<String>,
    pub availability_zone: Option<String>,
    pub service: Option<String>,
    pub service_metadata: Option<String>,
    pub object_count: Option<i64>,
    pub data_timestamp: Option<Time>,
    pub created_at: Option<Time>,
}

/// Fills in what the record says. A parent that is here counts it, and those that build on it are counted.
///
/// # Errors
/// The database is away.
pub async fn fill(tx: &mut Tx, id: BackupId, from: &Imported) -> Result<()> {
    let children = sql("SELECT COUNT(*) AS n FROM backups WHERE parent_id = ? AND deleted = FALSE").bind(id);
    let children: i64 = tx.row(children).await?.map_or(Ok(0), |row| row.get("n"))?;
    let stmt = sql("UPDATE backups SET volume_id = COALESCE(?, volume_id), parent_id = ?, snapshot_id = ?, \
                    display_name = ?, display_description = ?, container = ?, \
                    availability_zone = COALESCE(?, availability_zone), service = ?, service_metadata = ?, \
                    object_count = ?, data_timestamp = COALESCE(?, created_at), \
                    created_at = COALESCE(?, created_at), num_dependent_backups = ?, updated_at = {utc} \
                    WHERE id = ? AND deleted = FALSE")
    .bind(from.volume_id)
    .bind(from.parent_id)
    .bind(from.snapshot_id)
    .bind(from.name.as_deref())
    .bind(from.description.as_deref())
    .bind(from.container.as_deref())
    .bind(from.availability_zone.as_deref())
    .bind(from.service.as_deref())
    .bind(from.service_metadata.as_deref())
    .bind(from.object_count)
    .bind(from.data_timestamp)
    .bind(from.created_at)
    .bind(children)
    .bind(id);
    tx.exec(stmt).await?;
    match from.parent_id {
        Some(parent) => crate::backup::count_dependent(tx, parent, 1).await,
        None => Ok(()),
    }
}
