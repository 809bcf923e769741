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
use crate::dialect::Dialect;
use crate::error::{Error, Result};
use crate::sql::{marks, sql};

/// A gate that vanishes between two statements more often than this says that something is wrong.
const TRIES: u32 = 10;
/// Holders whose lease ran out are removed this much later, in microseconds: no renewal can be under way any more.
const GRACE_US: i64 = 3_600_000_000;

/// A holder counts only under its job's present claim, while that has a lease.
const LIVE: &str = "j.epoch = w.job_epoch AND j.state IN ('running', 'undoing') AND j.lease_until >= {now}";

/// Of a row of `jobs`: a lock it needs is held, or wanted by an earlier ticket that has asked within the lease (the
/// argument). What [`first_refused`] decides under the gates, as a first look without any.
pub(super) const BLOCKED: &str = "EXISTS (SELECT 1 FROM job_locks l JOIN workers w ON w.lock_name = l.name \
    JOIN jobs j ON j.id = w.job_id WHERE l.job_id = jobs.id AND w.resource_type = 'held' AND w.job_id <> jobs.id \
    AND (w.lock_mode = 'exclusive' OR l.mode = 'exclusive') AND j.epoch = w.job_epoch \
    AND j.state IN ('running', 'undoing') AND j.lease_until >= {now}) \
    OR EXISTS (SELECT 1 FROM job_locks l JOIN job_locks o ON o.name = l.name JOIN jobs j ON j.id = o.job_id \
    WHERE l.job_id = jobs.id AND o.job_id <> jobs.id AND (o.mode = 'exclusive' OR l.mode = 'exclusive') \
    AND (j.ticket < jobs.ticket OR (j.ticket = jobs.ticket AND j.id < jobs.id)) \
    AND j.state IN ('queued', 'running', 'undoing') AND (j.lease_until IS NULL OR j.lease_until < {now}) \
    AND j.wanted_at >= {now} - ?)";

/// The key of a row in `workers` (36 characters at most): a lock's name is longer.
fn key(text: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).to_string()
}

fn held_key(name: &str, job: JobId) -> String {
    key(&format!("{name}/{job}"))
}

/// Closes every gate of a lock set. Before anything else of a claim: all claims that could meet do so here, in the order of
/// the names, and hold nothing else yet.
pub(super) async fn close_gates(tx: &mut Tx, locks: &[Lock]) -> Result<()> {
    for lock in locks {
        close_gate(tx, &lock.name).await?;
    }
    Ok(())
}

/// Names the first lock of the set that the job cannot have now. Its gates are closed.
pub(super) async fn first_refused(tx: &mut Tx, job: &Job, lease_us: i64) -> Result<Option<String>> {
    await_renewals(tx, job).await?;
    for lock in &job.locks {
        if is_held(tx, job, lock).await? || is_wanted(tx, job, lock, lease_us).await? {
            return Ok(Some(lock.name.clone()));
        }
    }
    Ok(None)
}

async fn close_gate(tx: &mut Tx, name: &str) -> Result<()> {
    let update = "UPDATE workers SET race_preventer = race_preventer + 1, updated_at = {utc} \
                  WHERE resource_type = 'lock' AND resource_id = ?";
    for _ in 0..TRIES {
        if tx.exec(sql(update).bind(key(name))).await? > 0 {
            return Ok(());
        }
        tx.exec(
            sql("INSERT INTO workers (created_at, updated_at, deleted, resource_type, resource_id, status, \
                 race_preventer, lock_name) VALUES ({utc}, {utc}, FALSE, 'lock', ?, 'gate', 0, ?) {or_ignore id}")
            .bind(key(name))
            .bind(name),
        )
        .await?;
    }
    Err(Error::Unusable(format!("the gate of the lock {name} was removed {TRIES} times while it was closed")))
}

/// A lease that looks run out may just be being renewed: the renewal's transaction holds the job's row. Locking the row waits
/// for its end; from then on no renewal of that lease succeeds, nor any other write of that claim, before we end.
async fn await_renewals(tx: &mut Tx, job: &Job) -> Result<()> {
    if job.locks.is_empty() || tx.dialect() == Dialect::Sqlite {
        return Ok(()); // SQLite runs one transaction after the other
    }
    let text = format!(
        "SELECT DISTINCT j.id FROM workers w JOIN jobs j ON j.id = w.job_id WHERE w.resource_type = 'held' \
         AND w.lock_name IN ({}) AND w.job_id <> ? AND j.epoch = w.job_epoch \
         AND j.state IN ('running', 'undoing') AND j.lease_until < {{now}} ORDER BY j.id",
        marks(job.locks.len())
    );
    let names = job.locks.iter().map(|lock| lock.name.as_str());
    for row in tx.rows(sql(text).bind_all(names).bind(job.id)).await? {
        let holder: String = row.get("id")?;
        tx.row(sql("SELECT id FROM jobs WHERE id = ? {for_update}").bind(holder)).await?;
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
    forget(tx, job).await?;
    for lock in &job.locks {
        tx.exec(
            sql("INSERT INTO workers (created_at, updated_at, deleted, resource_type, resource_id, status, \
                 race_preventer, lock_name, lock_mode, job_id, job_epoch) \
                 VALUES ({utc}, {utc}, FALSE, 'held', ?, 'held', 0, ?, ?, ?, ?)")
            .bind(held_key(&lock.name, job.id))
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
    forget(tx, job).await?;
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

/// By their keys: a deletion that searched would wait for the rows of others.
async fn forget(tx: &mut Tx, job: &Job) -> Result<()> {
    let text = format!(
        "DELETE FROM workers WHERE resource_type = 'held' AND resource_id IN ({})",
        marks(job.locks.len())
    );
    let keys = job.locks.iter().map(|lock| held_key(&lock.name, job.id));
    tx.exec(sql(text).bind_all(keys)).await.map(drop)
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

/// Why a job cannot have one of its locks now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// Who waits.
    pub job: JobId,
    /// The lock's name.
    pub lock: String,
    /// Who has it, or wants it and came earlier.
    pub by: JobId,
    /// Whether that one has it.
    pub held: bool,
}

/// For each of these jobs that cannot have all its locks now, what it waits for: holders first, then those before it in the queue.
///
/// # Errors
/// The database is away.
pub async fn blocked(from: &mut impl Read, jobs: &[JobId], lease_us: i64) -> Result<Vec<Blocked>> {
    let mut found = Vec::new();
    for some in jobs.chunks(200) {
        let held = format!(
            "SELECT l.job_id AS waiting, l.name, w.job_id AS blocking FROM job_locks l JOIN workers w ON w.lock_name = l.name \
             JOIN jobs j ON j.id = w.job_id WHERE l.job_id IN ({}) AND w.resource_type = 'held' AND w.job_id <> l.job_id \
             AND (w.lock_mode = 'exclusive' OR l.mode = 'exclusive') AND {LIVE} ORDER BY w.id",
            marks(some.len())
        );
        let wanted = format!(
            "SELECT m.job_id AS waiting, m.name, l.job_id AS blocking FROM job_locks m JOIN jobs me ON me.id = m.job_id \
             JOIN job_locks l ON l.name = m.name JOIN jobs j ON j.id = l.job_id WHERE m.job_id IN ({}) \
             AND l.job_id <> m.job_id AND (l.mode = 'exclusive' OR m.mode = 'exclusive') \
             AND (j.ticket < me.ticket OR (j.ticket = me.ticket AND j.id < me.id)) \
             AND j.state IN ('queued', 'running', 'undoing') AND (j.lease_until IS NULL OR j.lease_until < {{now}}) \
             AND j.wanted_at >= {{now}} - ? ORDER BY j.ticket, j.id",
            marks(some.len())
        );
        let ids = || some.iter().map(ToString::to_string);
        for (text, held) in
            [(sql(held).bind_all(ids()), true), (sql(wanted).bind_all(ids()).bind(lease_us), false)]
        {
            for row in from.rows(text).await? {
                found.push(Blocked {
                    job: row.parse("job_locks", "waiting")?,
                    lock: row.get("name")?,
                    by: row.parse("job_locks", "blocking")?,
                    held,
                });
            }
        }
    }
    Ok(found)
}

/// Removes lock rows that serve nobody, at most 500: holders whose claim is over, gates of names that no job mentions.
///
/// # Errors
/// The database is away.
pub async fn purge_gates(db: &Db) -> Result<u64> {
    let stale = "((resource_type = 'held' AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = workers.job_id \
                 AND j.epoch = workers.job_epoch AND j.state IN ('running', 'undoing') \
                 AND j.lease_until >= {now} - ?)) OR (resource_type = 'lock' AND NOT EXISTS \
                 (SELECT 1 FROM job_locks l WHERE l.name = workers.lock_name)))";
    let find = format!("SELECT id FROM workers WHERE {stale} LIMIT 500");
    let rows = db.read().rows(sql(find).bind(GRACE_US)).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let mut gone = 0;
    let mut tx = db.begin().await?;
    for row in rows {
        // The condition once more: a claim may have come in between. A gate that goes while a claim waits for it makes
        // that claim's update match nothing, and it makes the gate anew.
        let remove = format!("DELETE FROM workers WHERE id = ? AND {stale}");
        gone += tx.exec(sql(remove).bind(row.get::<i64>("id")?).bind(GRACE_US)).await?;
    }
    tx.commit().await?;
    Ok(gone)
}
