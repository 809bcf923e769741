//! What is on a backend, by project: the figures of `/os-hosts`.

use std::collections::BTreeMap;

use crate::conn::Read;
use crate::error::Result;
use crate::sql::sql;

/// How much of one kind there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    pub count: i64,
    pub gigabytes: i64,
}

/// What one project has on a backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    pub volumes: Amount,
    pub snapshots: Amount,
}

/// What each project has on a backend, by project.
///
/// # Errors
/// The database is away.
pub async fn shares(from: &mut impl Read, service_host: &str) -> Result<BTreeMap<String, Share>> {
    let pools = format!("{}#%", service_host.replace('!', "!!").replace('%', "!%").replace('_', "!_"));
    let mut shares = BTreeMap::<String, Share>::new();
    let volumes =
        sql("SELECT project_id, COUNT(*) AS n, CAST(COALESCE(SUM(size), 0) AS {int}) AS gb FROM volumes \
                       WHERE deleted = FALSE AND (host = ? OR host LIKE ? ESCAPE '!') GROUP BY project_id");
    for row in from.rows(volumes.bind(service_host).bind(&pools)).await? {
        let project = row.get::<Option<String>>("project_id")?.unwrap_or_default();
        shares.entry(project).or_default().volumes =
            Amount { count: row.get("n")?, gigabytes: row.get("gb")? };
    }
    let snapshots = sql(
        "SELECT s.project_id, COUNT(*) AS n, CAST(COALESCE(SUM(s.volume_size), 0) AS {int}) AS gb \
                         FROM snapshots s JOIN volumes v ON v.id = s.volume_id WHERE s.deleted = FALSE \
                         AND v.deleted = FALSE AND (v.host = ? OR v.host LIKE ? ESCAPE '!') GROUP BY s.project_id",
    );
    for row in from.rows(snapshots.bind(service_host).bind(&pools)).await? {
        let project = row.get::<Option<String>>("project_id")?.unwrap_or_default();
        shares.entry(project).or_default().snapshots =
            Amount { count: row.get("n")?, gigabytes: row.get("gb")? };
    }
    Ok(shares)
}
