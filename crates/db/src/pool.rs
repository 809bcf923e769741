//! Pools: what their backends last reported, and what the scheduler has promised on them (I6).

use std::collections::HashMap;

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
    /// What volumes on it that are being extended will have more, GiB.
    pub promised_gb: i64,
    pub version: i64,
    /// Microseconds since 1970.
    pub reported_at: i64,
}

/// Records a backend's report: its pools, and no others. What is allocated is added from here, so that the scheduler can tell what
/// has been promised since; what is promised and not yet built counts as provisioned.
///
/// # Errors
/// The database is away.
pub async fn report(db: &Db, service_host: &str, pools: &[(String, Value)]) -> Result<()> {
    let mut tx = db.begin().await?;
    let mut known: HashMap<String, i64> = HashMap::new();
    for row in
        tx.rows(sql("SELECT name, allocated_gb FROM pools WHERE service_host = ?").bind(service_host)).await?
    {
        known.insert(row.get("name")?, row.get("allocated_gb")?);
    }
    for (name, stats) in pools {
        let allocated = match known.remove(name) {
            Some(allocated) => allocated,
            None => {
                let allocated = recount(&mut tx, name).await?;
                tx.exec(
                    sql("INSERT INTO pools (name, service_host, stats, allocated_gb, promised_gb, version, reported_at) \
                         VALUES (?, ?, '{}', ?, 0, 0, {now}) {or_ignore name}")
                    .bind(name)
                    .bind(service_host)
                    .bind(allocated),
                )
                .await?;
                allocated
            }
        };
        let mut stats = stats.clone();
        let provisioned = stats["provisioned_capacity_gb"].as_f64().unwrap_or(0.0).max(allocated as f64);
        stats["provisioned_capacity_gb"] = provisioned.into();
        stats["allocated_capacity_gb"] = allocated.into();
        tx.exec(
            sql("UPDATE pools SET stats = ?, reported_at = {now} WHERE name = ?")
                .bind(stats.to_string())
                .bind(name),
        )
        .await?;
    }
    for gone in known.keys() {
        tx.exec(sql("DELETE FROM pools WHERE name = ?").bind(gone)).await?;
    }
    tx.commit().await.map(drop)
}

/// How many live volumes each pool has.
///
/// # Errors
/// The database is away.
pub async fn volume_counts(from: &mut impl Read) -> Result<HashMap<String, u64>> {
    from.rows(sql(
        "SELECT host, COUNT(*) AS n FROM volumes WHERE deleted = FALSE AND host IS NOT NULL GROUP BY host",
    ))
    .await?
    .iter()
    .map(|row| Ok((row.get("host")?, row.get::<i64>("n")? as u64)))
    .collect()
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

/// Promises growth of `gb` on a pool as it was seen at `version`; whether it still was. [`unpromise`] ends it.
///
/// # Errors
/// The database is away.
pub async fn promise_growth(tx: &mut Tx, name: &str, version: i64, gb: i64) -> Result<bool> {
    let stmt = sql(
        "UPDATE pools SET promised_gb = promised_gb + ?, version = version + 1 WHERE name = ? AND version = ?",
    );
    Ok(tx.exec(stmt.bind(gb).bind(name).bind(version)).await? > 0)
}

/// Ends a promise of [`promise_growth`]; what has really grown is [`allocate`]d in the same transaction. A pool that was forgotten and
/// came back has forgotten its promises too.
///
/// # Errors
/// The database is away.
pub async fn unpromise(tx: &mut Tx, name: &str, gb: i64) -> Result<()> {
    tx.exec(
        sql("UPDATE pools SET promised_gb = CASE WHEN promised_gb > ? THEN promised_gb - ? ELSE 0 END, \
             version = version + 1 WHERE name = ?")
        .bind(gb)
        .bind(gb)
        .bind(name),
    )
    .await
    .map(drop)
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
        promised_gb: row.get("promised_gb")?,
        version: row.get("version")?,
        reported_at: row.get("reported_at")?,
    })
}
