//! Locks as rows of `workers` (design.md 4), taken with the claim of a job and gone with it.
//!
//! Two kinds of row, both invisible to Cinder, whose own rows have other resource types:
//! - `lock`, one a name: the gate. Claims update it first, so that claims on one name serialise on one row; a bare
//!   `WHERE NOT EXISTS` would race under MVCC.
//! - `held`, one a holder: valid only while its job is claimed under the same epoch with a live lease, so a dead holder's
//!   locks are free by themselves.
//!
//! Order: a claim is refused while an earlier ticket wants a lock that conflicts. A job wants its locks from the moment it is
//! recorded, between its claims, and for one lease after its owner has died, as long as somebody says so at least once a lease:
//! whoever runs its queue ([`super::want`]). A waiter that nobody runs blocks nobody.

use model::JobId;
use model::job::{Job, Lock, LockMode};
use uuid::Uuid;

use crate::conn::{Db, Read, Tx};
use crate::error::Result;
use crate::sql::{marks, sql};

/// Whether a lock of the job in `jobs` is held by another.
pub(super) const WAITS: &str = "EXISTS (SELECT 1 FROM job_locks l JOIN workers w ON w.lock_name = l.name \
     JOIN jobs h ON h.id = w.job_id WHERE l.job_id = jobs.id AND w.resource_type = 'held' AND w.job_id <> l.job_id \
     AND (w.lock_mode = 'exclusive' OR l.mode = 'exclusive') AND h.epoch = w.job_epoch \
     AND h.state IN ('running', 'undoing') AND h.lease_until >= {now})";

const LIVE: &str = "j.epoch = w.job_epoch AND j.state IN ('running', 'undoing') AND j.lease_until >= {now}";

/// The key of a row in `workers` (36 characters at most): a lock's name is longer.
fn key(text: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).to_string()
}

/// Closes every gate of the job's lock set, then names the first lock that it cannot have now.
pub(super) async fn first_refused(tx: &mut Tx, job: &Job, lease_us: i64) -> Result<Option<String>> {
    for lock in &job.locks {
        close_gate(tx, &lock.name).await?;
        if is_held(tx, job, lock).await? || is_wanted(tx, job, lock, lease_us).await? {
            return Ok(Some(lock.name.clone()));
        }
    }
    Ok(None)
}

async fn close_gate(tx: &mut Tx, name: &str) -> Result<()> {
    let update = "UPDATE workers SET race_preventer = race_preventer + 1, updated_at = {utc} \
                  WHERE resource_type = 'lock' AND resource_id = ?";
    while tx.exec(sql(update).bind(key(name))).await? == 0 {
        tx.exec(
            sql("{insert_ignore} INTO workers (created_at, updated_at, deleted, resource_type, resource_id, status, \
                 race_preventer, lock_name) VALUES ({utc}, {utc}, FALSE, 'lock', ?, 'gate', 0, ?) {or_ignore}")
            .bind(key(name))
            .bind(name),
        )
        .await?;
    }
    Ok(())
}

async fn is_held(tx: &mut Tx, job: &Job, lock: &Lock) -> Result<bool> {
    let text = format!(
        "SELECT w.id FROM workers w JOIN jobs j ON j.id = w.job_id WHERE w.resource_type = 'held' \
         AND w.lock_name = ? AND w.job_id <> ? AND (w.lock_mode = 'exclusive' OR ? = 'exclusive') AND {LIVE} LIMIT 1"
    );
    Ok(tx.row(sql(text).bind(&lock.name).bind(job.id).bind(lock.mode)).await?.is_some())
}

async fn is_wanted(tx: &mut Tx, job: &Job, lock: &Lock, lease_us: i64) -> Result<bool> {
    let stmt = sql(
        "SELECT l.job_id FROM job_locks l JOIN jobs j ON j.id = l.job_id WHERE l.name = ? AND l.job_id <> ? \
                    AND (l.mode = 'exclusive' OR ? = 'exclusive') \
                    AND (j.ticket < ? OR (j.ticket = ? AND j.id < ?)) \
                    AND j.state IN ('queued', 'running', 'undoing') \
                    AND (j.lease_until IS NULL OR j.lease_until < {now}) AND j.wanted_at >= {now} - ? LIMIT 1",
    );
    let stmt = stmt
        .bind(&lock.name)
        .bind(job.id)
        .bind(lock.mode)
        .bind(job.ticket)
        .bind(job.ticket)
        .bind(job.id)
        .bind(lease_us);
    Ok(tx.row(stmt).await?.is_some())
}

/// Records the locks as held under the job's new epoch.
pub(super) async fn take(tx: &mut Tx, job: &Job) -> Result<()> {
    if job.locks.is_empty() {
        return Ok(());
    }
    forget(tx, job.id).await?;
    for lock in &job.locks {
        tx.exec(
            sql("INSERT INTO workers (created_at, updated_at, deleted, resource_type, resource_id, status, \
                 race_preventer, lock_name, lock_mode, job_id, job_epoch) \
                 VALUES ({utc}, {utc}, FALSE, 'held', ?, 'held', 0, ?, ?, ?, ?)")
            .bind(key(&format!("{}/{}", lock.name, job.id)))
            .bind(&lock.name)
            .bind(lock.mode)
            .bind(job.id)
            .bind(job.epoch),
        )
        .await?;
    }
    Ok(())
}

/// Lets the job's locks go and rings the queues of those that wait for them.
pub(super) async fn release(tx: &mut Tx, job: &Job) -> Result<()> {
    if job.locks.is_empty() {
        return Ok(());
    }
    forget(tx, job.id).await?;
    let names: Vec<&str> = job.locks.iter().map(|lock| lock.name.as_str()).collect();
    let text = format!(
        "SELECT DISTINCT j.queue FROM jobs j JOIN job_locks l ON l.job_id = j.id \
         WHERE l.name IN ({}) AND j.id <> ? AND j.state IN ('queued', 'undoing') AND j.lease_until IS NULL",
        marks(names.len())
    );
    for row in tx.rows(sql(text).bind_all(names).bind(job.id)).await? {
        tx.ring(row.get::<String>("queue")?);
    }
    Ok(())
}

async fn forget(tx: &mut Tx, job: JobId) -> Result<()> {
    tx.exec(sql("DELETE FROM workers WHERE resource_type = 'held' AND job_id = ?").bind(job)).await.map(drop)
}

/// A lock that is held now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub name: String,
    pub mode: LockMode,
    pub job: JobId,
}

/// Every lock held under a live claim.
///
/// # Errors
/// The database is away.
pub async fn held(from: &mut impl Read) -> Result<Vec<Held>> {
    let text = format!(
        "SELECT w.lock_name, w.lock_mode, w.job_id FROM workers w JOIN jobs j ON j.id = w.job_id \
         WHERE w.resource_type = 'held' AND {LIVE} ORDER BY w.lock_name"
    );
    from.rows(sql(text))
        .await?
        .iter()
        .map(|row| {
            Ok(Held {
                name: row.get("lock_name")?,
                mode: row.parse("workers", "lock_mode")?,
                job: row.parse("workers", "job_id")?,
            })
        })
        .collect()
}

/// Removes lock rows that serve nobody: holders whose claim is over, gates of names that no job mentions.
///
/// # Errors
/// The database is away.
pub async fn purge_gates(db: &Db) -> Result<u64> {
    let stale = format!(
        "SELECT w.id FROM workers w WHERE (w.resource_type = 'held' AND NOT EXISTS \
         (SELECT 1 FROM jobs j WHERE j.id = w.job_id AND {LIVE})) OR (w.resource_type = 'lock' \
         AND NOT EXISTS (SELECT 1 FROM job_locks l WHERE l.name = w.lock_name)) LIMIT 500"
    );
    let rows = db.read().rows(sql(stale)).await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.get("id")).collect::<Result<_>>()?;
    let mut gone = 0;
    let mut tx = db.begin().await?;
    for id in ids {
        // The condition once more: a claim may have come in between. A gate that goes while a claim waits for it makes that
        // claim's update match nothing, and it makes the gate anew.
        gone += tx
            .exec(
                sql("DELETE FROM workers WHERE id = ? AND ((resource_type = 'held' AND NOT EXISTS (SELECT 1 FROM jobs j \
                     WHERE j.id = workers.job_id AND j.epoch = workers.job_epoch \
                     AND j.state IN ('running', 'undoing') AND j.lease_until >= {now})) \
                     OR (resource_type = 'lock' AND NOT EXISTS (SELECT 1 FROM job_locks l \
                     WHERE l.name = workers.lock_name)))")
                .bind(id),
            )
            .await?;
    }
    tx.commit().await?;
    Ok(gone)
}
