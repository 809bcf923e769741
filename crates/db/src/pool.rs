//! Pools: what their backends last reported, and what the scheduler has promised on them (I6).

use serde_json::Value;

use crate::conn::{Db, Read, Tx};
use crate::error::Result;
use crate::sql::{Row, sql};

/// A pool's row.
#[derive(Debug, Clone)]
pub struct Pool {
    /// `host@backend#pool`.
    pub name: String,
    /// `host@backend`.
    pub service_host: String,
    /// Cinder's capability names and values.
    pub stats: Value,
    /// The sizes of all volumes placed on it, GiB.
    pub allocated_gb: i64,
    pub version: i64,
    /// Microseconds since 1970.
    pub reported_at: i64,
}

/// Records a backend's report: its pools, and no others.
///
/// # Errors
/// The database is away.
pub async fn report(db: &Db, service_host: &str, pools: &[(String, Value)]) -> Result<()> {
    let mut tx = db.begin().await?;
    for (name, stats) in pools {
        let known = tx
            .exec(
                sql("UPDATE pools SET stats = ?, reported_at = {now} WHERE name = ?")
                    .bind(stats.to_string())
                    .bind(name),
            )
            .await?;
        if known == 0 {
            tx.exec(
                sql("{insert_ignore} INTO pools (name, service_host, stats, allocated_gb, version, reported_at) \
                     SELECT ?, ?, ?, CAST(COALESCE(SUM(size), 0) AS {int}), 0, {now} FROM volumes \
                     WHERE host = ? AND deleted = FALSE {or_ignore}")
                .bind(name)
                .bind(service_host)
                .bind(stats.to_string())
                .bind(name),
            )
            .await?;
        }
    }
    let have = tx.rows(sql("SELECT name FROM pools WHERE service_host = ?").bind(service_host)).await?;
    for row in have {
        let name: String = row.get("name")?;
        if !pools.iter().any(|(reported, _)| *reported == name) {
            tx.exec(sql("DELETE FROM pools WHERE name = ?").bind(name)).await?;
        }
    }
    tx.commit().await.map(drop)
}

/// All pools, by name.
///
/// # Errors
/// The database is away.
pub async fn list(from: &mut impl Read) -> Result<Vec<Pool>> {
    from.rows(sql("SELECT * FROM pools ORDER BY name")).await?.iter().map(read).collect()
}

/// Promises `gb` on a pool as it was seen at `version`; whether it still was (one winner: a loser looks again).
///
/// # Errors
/// The database is away.
pub async fn promise(tx: &mut Tx, name: &str, version: i64, gb: i64) -> Result<bool> {
    let stmt = sql(
        "UPDATE pools SET allocated_gb = allocated_gb + ?, version = version + 1 WHERE name = ? AND version = ?",
    );
    Ok(tx.exec(stmt.bind(gb).bind(name).bind(version)).await? > 0)
}

/// Changes what is placed on a pool, in the transaction of the volume's row. A pool that is not known now needs no count.
///
/// # Errors
/// The database is away.
pub async fn allocate(tx: &mut Tx, name: &str, delta_gb: i64) -> Result<()> {
    tx.exec(
        sql("UPDATE pools SET allocated_gb = allocated_gb + ?, version = version + 1 WHERE name = ?")
            .bind(delta_gb)
            .bind(name),
    )
    .await
    .map(drop)
}

/// What a recount says is placed on each pool; must not differ from `allocated_gb` (I6).
///
/// # Errors
/// The database is away.
pub async fn recount(from: &mut impl Read, name: &str) -> Result<i64> {
    let row = from
        .row(
            sql("SELECT CAST(COALESCE(SUM(size), 0) AS {int}) AS total FROM volumes WHERE host = ? AND deleted = FALSE")
                .bind(name),
        )
        .await?;
    row.map_or(Ok(0), |row| row.get("total"))
}

fn read(row: &Row) -> Result<Pool> {
    Ok(Pool {
        name: row.get("name")?,
        service_host: row.get("service_host")?,
        stats: serde_json::from_str(&row.get::<String>("stats")?)?,
        allocated_gb: row.get("allocated_gb")?,
        version: row.get("version")?,
        reported_at: row.get("reported_at")?,
    })
}
