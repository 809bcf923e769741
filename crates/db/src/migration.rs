//! Migrations: `migration_status`, the row of the destination, and the exchange of places that publishes it (states.md 4).
//!
//! A volume keeps its id when it moves. What the backend calls it changes: `_name_id` is the id of the row that was made for
//! the destination. That row takes the old place and is deleted with what is there.

use model::{PoolRef, ServiceId, Volume, VolumeId, VolumeStatus};

use crate::conn::{Read as _, Tx};
use crate::error::Result;
use crate::event::{By, Change, append};
use crate::sql::sql;

/// Begins the migration of a volume that is in a state for it and not at `destination` (a host, or else a cluster). With `lock`, an
/// available volume goes into maintenance. The status that it has now; `None` when it could not begin.
///
/// # Errors
/// The database is away.
pub async fn begin(
    tx: &mut Tx,
    id: VolumeId,
    destination: Destination<'_>,
    lock: bool,
    by: By<'_>,
) -> Result<Option<VolumeStatus>> {
    let (column, name) = match destination {
        Destination::Host(name) => ("host", name),
        Destination::Cluster(name) => ("cluster_name", name),
    };
    // previous_status before status: MySQL assigns from left to right.
    let text = format!(
        "UPDATE volumes SET migration_status = 'starting', previous_status = status, \
         status = CASE WHEN ? = TRUE AND status = 'available' THEN 'maintenance' ELSE status END, updated_at = {{utc}} \
         WHERE id = ? AND deleted = FALSE AND status IN ('available', 'in-use') \
         AND (migration_status IS NULL OR migration_status IN ('deleting', 'error', 'success')) \
         AND (replication_status IS NULL OR replication_status IN ('disabled', 'not-capable')) \
         AND (consistencygroup_id IS NULL OR consistencygroup_id = '') AND (group_id IS NULL OR group_id = '') \
         AND ({column} IS NULL OR {column} <> ?) \
         AND NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.volume_id = volumes.id AND s.deleted = FALSE)"
    );
    if tx.exec(sql(text).bind(lock).bind(id).bind(name)).await? == 0 {
        return Ok(None);
    }
    let row = tx.row(sql("SELECT status FROM volumes WHERE id = ?").bind(id)).await?;
    let now: VolumeStatus = match row {
        Some(row) => row.parse("volumes", "status")?,
        None => return Ok(None),
    };
    let (name, locked) = (id.to_string(), now == VolumeStatus::Maintenance);
    let (from, to) =
        if locked { (Some(VolumeStatus::Available.as_str()), Some(now.as_str())) } else { (None, None) };
    append(tx, Change { kind: "volume", id: &name, from, to, by, detail: Some("migration starting") })
        .await?;
    Ok(Some(now))
}

/// Where a volume is to go, as an administrator names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination<'a> {
    Host(&'a str),
    Cluster(&'a str),
}

/// Moves `migration_status` on; whether it was one of `from`.
///
/// # Errors
/// The database is away.
pub async fn step(tx: &mut Tx, id: VolumeId, from: &[Option<&str>], to: &str, by: By<'_>) -> Result<bool> {
    let known: Vec<&str> = from.iter().flatten().copied().collect();
    let null = if from.contains(&None) { "migration_status IS NULL" } else { "FALSE" };
    let text = format!(
        "UPDATE volumes SET migration_status = ?, updated_at = {{utc}} WHERE id = ? AND deleted = FALSE \
         AND ({null} OR migration_status IN ({}))",
        crate::sql::marks(known.len())
    );
    let moved = tx.exec(sql(text).bind(to).bind(id).bind_all(known)).await? > 0;
    if moved {
        note(tx, id, &format!("migration {to}"), by).await?;
    }
    Ok(moved)
}

/// Marks a new row as the destination of `of`.
///
/// # Errors
/// The database is away.
pub async fn mark_destination(tx: &mut Tx, id: VolumeId, of: VolumeId) -> Result<()> {
    let stmt = sql("UPDATE volumes SET migration_status = ? WHERE id = ? AND deleted = FALSE");
    tx.exec(stmt.bind(format!("target:{of}")).bind(id)).await.map(drop)
}

/// What is published: where the volume is from now on.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    pub pool: &'a PoolRef,
    pub cluster_name: Option<&'a str>,
    pub zone: Option<&'a str>,
    pub location: Option<&'a str>,
    pub provider_id: Option<&'a str>,
    pub service: Option<ServiceId>,
}

/// Exchanges the places of a volume and its destination's row; whether the volume was still migrating and of the size that was
/// copied, with no snapshot of its old place. The destination's row is `deleting` afterwards: who calls this sees to it.
///
/// # Errors
/// The database is away.
pub async fn exchange(
    tx: &mut Tx,
    volume: &Volume,
    destination: VolumeId,
    new: &Place<'_>,
    by: By<'_>,
) -> Result<bool> {
    let moved = tx
        .exec(
            sql("UPDATE volumes SET host = ?, cluster_name = ?, availability_zone = COALESCE(?, availability_zone), \
                 provider_location = ?, provider_id = ?, service_uuid = ?, _name_id = ?, migration_status = 'success', \
                 updated_at = {utc} WHERE id = ? AND deleted = FALSE AND migration_status = 'migrating' AND size = ? \
                 AND NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.volume_id = volumes.id AND s.deleted = FALSE \
                 AND s.status <> 'creating')")
            .bind(new.pool)
            .bind(new.cluster_name)
            .bind(new.zone)
            .bind(new.location)
            .bind(new.provider_id)
            .bind(new.service)
            .bind(destination)
            .bind(volume.id)
            .bind(volume.size.0),
        )
        .await?;
    if moved == 0 {
        return Ok(false);
    }
    note(tx, volume.id, &format!("migrated to {}", new.pool), by).await?;
    tx.exec(
        sql("UPDATE volumes SET host = ?, cluster_name = ?, provider_location = ?, provider_id = ?, _name_id = ?, \
             status = 'deleting', migration_status = 'deleting', display_description = ?, terminated_at = {utc}, \
             updated_at = {utc} WHERE id = ? AND deleted = FALSE")
        .bind(volume.host.as_ref().map(PoolRef::to_string))
        .bind(volume.cluster_name.as_deref())
        .bind(volume.provider_location.as_deref())
        .bind(volume.provider_id.as_deref())
        .bind(volume.name_id.unwrap_or(volume.id))
        .bind(format!("migration src for {}", volume.id))
        .bind(destination),
    )
    .await?;
    let name = destination.to_string();
    let change = Change {
        kind: "volume",
        id: &name,
        from: Some("creating"),
        to: Some("deleting"),
        by,
        detail: Some("left by a migration"),
    };
    append(tx, change).await?;
    Ok(true)
}

async fn note(tx: &mut Tx, id: VolumeId, what: &str, by: By<'_>) -> Result<()> {
    let name = id.to_string();
    append(tx, Change { kind: "volume", id: &name, from: None, to: None, by, detail: Some(what) }).await
}
