//! Clusters of services.

use model::cluster::Cluster;

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::sql::{Row, sql};

/// All live clusters, without what follows from their services.
///
/// # Errors
/// The database is away.
pub async fn list(from: &mut impl Read) -> Result<Vec<Cluster>> {
    let stmt = sql("SELECT * FROM clusters WHERE deleted = FALSE ORDER BY id");
    from.rows(stmt).await?.iter().map(read).collect()
}

/// Changes whether a cluster's services take work; whether there is such a cluster.
///
/// # Errors
/// The database is away.
pub async fn switch(
    tx: &mut Tx,
    name: &str,
    binary: &str,
    disabled: bool,
    reason: Option<&str>,
) -> Result<bool> {
    let stmt = sql("UPDATE clusters SET disabled = ?, disabled_reason = ?, updated_at = {utc} \
                    WHERE name = ? AND \"binary\" = ? AND deleted = FALSE");
    Ok(tx.exec(stmt.bind(disabled).bind(reason).bind(name).bind(binary)).await? > 0)
}

fn read(row: &Row) -> Result<Cluster> {
    Ok(Cluster {
        name: row.get("name")?,
        binary: row.get("binary")?,
        disabled: row.get::<Option<bool>>("disabled")?.unwrap_or(false),
        disabled_reason: row.get("disabled_reason")?,
        replication_status: row.get("replication_status")?,
        frozen: row.get("frozen")?,
        active_backend_id: row.get("active_backend_id")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        hosts: 0,
        down_hosts: 0,
        last_heartbeat: None,
    })
}
