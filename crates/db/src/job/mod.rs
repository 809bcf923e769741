//! Jobs: durable requests, claimed with an epoch and a lease, finished only by the claim that holds them (I1, I3, I4).
//!
//! ```text
//!            claim                 finish
//!  queued ----------> running -----------------> done | cancelled
//!    ^  hand over        |  fails for good
//!    +-------------------+----------> undoing --> failed
//! ```
//! A claim whose lease has run out counts as absent: its locks are free, another may claim the job with a new epoch, and
//! every write of the old claim is refused, whether or not another has come yet.

mod lock;

use chrono::{DateTime, Utc};
use model::JobId;
use model::job::{Job, JobState, Lock, ResourceRef};
use serde_json::Value;

use crate::conn::{Db, Read, Tx};
use crate::error::{Error, Result};
use crate::sql::{Row, marks, sql};

pub use lock::{Blocked, Held, blocked, held, purge_gates};

/// What a new job is made of.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub id: JobId,
    pub operation: &'static str,
    pub resource: ResourceRef,
    pub project_id: Option<String>,
    pub user_id: Option<String>,
    pub request_id: Option<String>,
    /// Where its first step runs.
    pub queue: String,
    pub request: Value,
    pub locks: Vec<Lock>,
}

/// The answer to an attempt to claim.
#[derive(Debug)]
pub enum Claimed {
    /// It is ours under the job's `epoch`.
    Yes(Box<Job>),
    /// A lock it needs is held, or wanted earlier by another.
    Waits { lock: String },
    /// Finished, or claimed by another.
    No,
}

const ACTIVE: &str = "state IN ('queued', 'running', 'undoing')";
/// Cancelled before anybody began it: it ends without its locks.
const NOT_BEGUN: &str = "(cancel_requested AND attempts = 0)";
const UNCLAIMED: &str = "(lease_until IS NULL OR lease_until < {now})";

/// Records a job in the transaction of its request and rings its queue on commit. Its ticket comes after all there are: one clock
/// counts milliseconds only. From here on it has its place among those that want its locks.
///
/// # Errors
/// The database is away.
pub async fn insert(tx: &mut Tx, job: NewJob) -> Result<()> {
    tx.exec(
        sql("INSERT INTO jobs (id, ticket, operation, resource_kind, resource_id, project_id, user_id, request_id, queue, \
             state, request, data, steps_done, epoch, attempts, run_after, wanted_at, cancel_requested, progress_done, \
             progress_total, created_at) \
             SELECT ?, CASE WHEN t.top < {now} THEN {now} ELSE t.top + 1 END, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, '{}', 0, \
             0, 0, 0, {now}, FALSE, 0, 0, {now} FROM (SELECT COALESCE(MAX(ticket), 0) AS top FROM jobs) t")
        .bind(job.id)
        .bind(job.operation)
        .bind(&job.resource.kind)
        .bind(&job.resource.id)
        .bind(job.project_id)
        .bind(job.user_id)
        .bind(job.request_id)
        .bind(&job.queue)
        .bind(job.request.to_string()),
    )
    .await?;
    for lock in &job.locks {
        tx.exec(
            sql("INSERT INTO job_locks (job_id, name, mode, ticket) SELECT id, ?, ?, ticket FROM jobs WHERE id = ?")
                .bind(&lock.name)
                .bind(lock.mode)
                .bind(job.id),
        )
        .await?;
    }
    tx.ring(job.queue);
    Ok(())
}

/// Jobs of `queues` that could be claimed now, oldest ticket first. Those whose locks are held, or wanted by an earlier ticket,
/// are left out, so that they do not stand before others.
///
/// # Errors
/// The database is away.
pub async fn claimable(db: &Db, queues: &[String], limit: u32, lease_us: i64) -> Result<Vec<JobId>> {
    let text = format!(
        "SELECT id FROM jobs WHERE queue IN ({}) AND {ACTIVE} AND {UNCLAIMED} AND run_after <= {{now}} \
         AND ({NOT_BEGUN} OR NOT ({})) ORDER BY ticket, id LIMIT ?",
        marks(queues.len()),
        lock::BLOCKED
    );
    db.read()
        .rows(sql(text).bind_all(queues).bind(lease_us).bind(limit))
        .await?
        .iter()
        .map(|row| row.parse("jobs", "id"))
        .collect()
}

/// Tries to claim a job for `owner` with its whole lock set, in one transaction.
///
/// # Errors
/// The database is away.
pub async fn claim(db: &Db, id: JobId, owner: &str, lease_us: i64) -> Result<Claimed> {
    let mut tx = db.begin().await?;
    let locks = locks_of(&mut tx, id).await?;
    lock::close_gates(&mut tx, &locks).await?;
    let text = format!("SELECT * FROM jobs WHERE id = ? AND {ACTIVE} AND {UNCLAIMED} {{for_update}}");
    let Some(row) = tx.row(sql(text).bind(id)).await? else { return Ok(Claimed::No) };
    let mut job = Job { locks, ..read(&row)? };
    if job.cancel_requested && job.attempts == 0 {
        job.locks.clear();
    }
    if let Some(lock) = lock::first_refused(&mut tx, &job, lease_us).await? {
        tx.exec(sql("UPDATE jobs SET wanted_at = {now} WHERE id = ?").bind(id)).await?;
        tx.commit().await?;
        return Ok(Claimed::Waits { lock });
    }
    let moved = tx
        .exec(
            sql("UPDATE jobs SET state = CASE WHEN state = 'undoing' THEN 'undoing' ELSE 'running' END, owner = ?, \
                 epoch = epoch + 1, lease_until = {now} + ?, attempts = attempts + 1, \
                 started_at = COALESCE(started_at, {now}), wanted_at = {now} + ? WHERE id = ? AND epoch = ?")
            .bind(owner)
            .bind(lease_us)
            .bind(lease_us)
            .bind(id)
            .bind(job.epoch),
        )
        .await?;
    if moved == 0 {
        return Ok(Claimed::No);
    }
    job.epoch += 1;
    job.attempts += 1;
    job.owner = Some(owner.to_owned());
    if job.state == JobState::Queued {
        job.state = JobState::Running;
    }
    lock::take(&mut tx, &job).await?;
    tx.commit().await?;
    Ok(Claimed::Yes(Box::new(job)))
}

/// Says for the jobs of `queues` that wait that they still want their locks: whoever runs the queues is alive.
///
/// # Errors
/// The database is away.
pub async fn want(db: &Db, queues: &[String], lease_us: i64) -> Result<()> {
    // Well before a lease is over, and not at every look.
    let text = format!(
        "SELECT id FROM jobs WHERE queue IN ({}) AND {ACTIVE} AND {UNCLAIMED} \
         AND (wanted_at IS NULL OR wanted_at < {{now}} - ?) \
         AND EXISTS (SELECT 1 FROM job_locks l WHERE l.job_id = jobs.id) ORDER BY ticket, id LIMIT 500",
        marks(queues.len())
    );
    let rows = db.read().rows(sql(text).bind_all(queues).bind(lease_us / 3)).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = rows.iter().map(|row| row.get("id")).collect::<Result<_>>()?;
    let text =
        format!("UPDATE jobs SET wanted_at = {{now}} WHERE {UNCLAIMED} AND id IN ({})", marks(ids.len()));
    let mut tx = db.begin().await?;
    match tx.exec(sql(text).bind_all(&ids)).await {
        Ok(_) => tx.commit().await.map(drop),
        // Claims are being made of the same jobs; there is another look soon.
        Err(error) if error.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}

/// What the owner learns when it renews.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    Yes {
        cancel_requested: bool,
    },
    /// The claim is over.
    Lost,
}

/// Extends a claim's lease and records its progress.
///
/// # Errors
/// The database is away; the lease may or may not have been extended.
pub async fn renew(db: &Db, id: JobId, epoch: i64, lease_us: i64, progress: (u64, u64)) -> Result<Renewed> {
    let mut tx = db.begin().await?;
    let held = tx
        .exec(
            sql("UPDATE jobs SET lease_until = {now} + ?, wanted_at = {now} + ?, progress_done = ?, progress_total = ? \
                 WHERE id = ? AND epoch = ? AND state IN ('running', 'undoing') AND lease_until >= {now}")
            .bind(lease_us)
            .bind(lease_us)
            .bind(progress.0 as i64)
            .bind(progress.1 as i64)
            .bind(id)
            .bind(epoch),
        )
        .await?;
    if held == 0 {
        return Ok(Renewed::Lost);
    }
    let cancel_requested = is_cancelled(&mut tx, id).await?;
    tx.commit().await?;
    Ok(Renewed::Yes { cancel_requested })
}

/// Where a job goes after a step.
#[derive(Debug, Clone)]
pub enum Next {
    /// The same claim runs the next step.
    Stay { lease_us: i64 },
    /// Another service's queue; its claim and locks are let go.
    Queue(String),
    /// The same queue, not before `delay_us` from now.
    Later { delay_us: i64, error: String },
}

/// Records how far a job has come and where it goes next.
///
/// # Errors
/// [`Error::Fenced`] when the claim is over; nothing has changed then.
pub async fn advance(tx: &mut Tx, job: &Job, next: Next) -> Result<()> {
    let (queue, error, delay, lease) = match &next {
        Next::Stay { lease_us } => (job.queue.clone(), None, 0, Some(*lease_us)),
        Next::Queue(queue) => (queue.clone(), None, 0, None),
        Next::Later { delay_us, error } => (job.queue.clone(), Some(error.clone()), *delay_us, None),
    };
    let state = match (job.state, lease) {
        (JobState::Running, None) => JobState::Queued,
        (state, _) => state,
    };
    let owner = lease.and(job.owner.clone());
    let moved = tx
        .exec(
            sql("UPDATE jobs SET state = ?, steps_done = ?, data = ?, queue = ?, owner = ?, \
                 error = COALESCE(?, error), run_after = {now} + ?, lease_until = {now} + ?, wanted_at = {now} + ? \
                 WHERE id = ? AND epoch = ? AND state IN ('running', 'undoing') \
                 AND lease_until >= {now}")
            .bind(state)
            .bind(job.steps_done)
            .bind(job.data.to_string())
            .bind(&queue)
            .bind(owner)
            .bind(error)
            .bind(delay)
            .bind(lease)
            .bind(lease.unwrap_or(delay))
            .bind(job.id)
            .bind(job.epoch),
        )
        .await?;
    fenced(moved, job)?;
    if lease.is_none() {
        lock::release(tx, job).await?;
        tx.ring(queue);
    }
    Ok(())
}

/// Ends a job, in the transaction that ends what it did to its resource.
///
/// # Errors
/// [`Error::Fenced`] when the claim is over: roll back.
pub async fn finish(tx: &mut Tx, job: &Job, state: JobState, error: Option<&str>) -> Result<()> {
    let moved = tx
        .exec(
            sql("UPDATE jobs SET state = ?, steps_done = ?, data = ?, error = ?, finished_at = {now}, owner = NULL, \
                 lease_until = NULL WHERE id = ? AND epoch = ? AND state IN ('running', 'undoing') \
                 AND lease_until >= {now}")
            .bind(state)
            .bind(job.steps_done)
            .bind(job.data.to_string())
            .bind(error)
            .bind(job.id)
            .bind(job.epoch),
        )
        .await?;
    fenced(moved, job)?;
    lock::release(tx, job).await?;
    tx.exec(sql("DELETE FROM job_locks WHERE job_id = ?").bind(job.id)).await?;
    tx.ring(done_topic(job.id));
    Ok(())
}

/// Turns a failed job round: from now on its steps are undone.
///
/// # Errors
/// [`Error::Fenced`] when the claim is over.
pub async fn begin_undo(tx: &mut Tx, job: &Job, error: &str) -> Result<()> {
    let moved = tx
        .exec(
            sql("UPDATE jobs SET state = 'undoing', error = ? WHERE id = ? AND epoch = ? AND state = 'running' \
                 AND lease_until >= {now}")
                .bind(error)
                .bind(job.id)
                .bind(job.epoch),
        )
        .await?;
    fenced(moved, job)
}

/// Sends a job that has been undone back to its first step.
///
/// # Errors
/// [`Error::Fenced`] when the claim is over.
pub async fn restart(tx: &mut Tx, job: &Job, queue: &str) -> Result<()> {
    let moved = tx
        .exec(
            sql("UPDATE jobs SET state = 'queued', steps_done = 0, data = ?, queue = ?, owner = NULL, lease_until = NULL, \
                 run_after = {now}, wanted_at = {now} WHERE id = ? AND epoch = ? AND state = 'undoing' \
                 AND lease_until >= {now}")
            .bind(job.data.to_string())
            .bind(queue)
            .bind(job.id)
            .bind(job.epoch),
        )
        .await?;
    fenced(moved, job)?;
    lock::release(tx, job).await?;
    tx.ring(queue);
    Ok(())
}

fn fenced(moved: u64, job: &Job) -> Result<()> {
    if moved == 0 { Err(Error::Fenced(job.id)) } else { Ok(()) }
}

/// Makes a transaction that a step runs by itself subject to the claim.
///
/// # Errors
/// [`Error::Fenced`] when the claim is over: roll back.
pub async fn fence(tx: &mut Tx, job: &Job) -> Result<()> {
    let held = tx
        .exec(
            sql("UPDATE jobs SET epoch = epoch WHERE id = ? AND epoch = ? AND state IN ('running', 'undoing') \
                 AND lease_until >= {now}")
            .bind(job.id)
            .bind(job.epoch),
        )
        .await?;
    fenced(held, job)
}

/// The topic that rings when a job has ended.
pub fn done_topic(id: JobId) -> String {
    format!("job.{id}")
}

/// The topic that rings when a job is asked to stop.
pub fn cancel_topic(id: JobId) -> String {
    format!("job.{id}.cancel")
}

/// Whether a job has been asked to stop.
///
/// # Errors
/// The database is away.
pub async fn is_cancelled(from: &mut impl Read, id: JobId) -> Result<bool> {
    let row = from.row(sql("SELECT cancel_requested FROM jobs WHERE id = ?").bind(id)).await?;
    row.map_or(Ok(false), |row| row.get("cancel_requested"))
}

/// Asks a job to stop; whether it was still active. Rings its queue and whoever carries it.
///
/// # Errors
/// The database is away.
pub async fn cancel(tx: &mut Tx, id: JobId) -> Result<bool> {
    // What waits to be tried again has no need to wait any longer.
    let text = format!(
        "UPDATE jobs SET cancel_requested = TRUE, run_after = CASE WHEN run_after > {{now}} THEN {{now}} ELSE run_after \
         END WHERE id = ? AND {ACTIVE}"
    );
    let active = tx.exec(sql(text).bind(id)).await? > 0;
    if active && let Some(row) = tx.row(sql("SELECT queue FROM jobs WHERE id = ?").bind(id)).await? {
        tx.ring(row.get::<String>("queue")?);
        tx.ring(cancel_topic(id));
    }
    Ok(active)
}

/// The active jobs on a resource.
///
/// # Errors
/// The database is away.
pub async fn of_resource(from: &mut impl Read, resource_id: &str) -> Result<Vec<JobId>> {
    let text = format!("SELECT id FROM jobs WHERE resource_id = ? AND {ACTIVE} ORDER BY ticket, id");
    from.rows(sql(text).bind(resource_id)).await?.iter().map(|row| row.parse("jobs", "id")).collect()
}

/// Lets jobs that `owner` still holds be claimed at once: a restarted process takes over its own old work (I4). Also sends jobs
/// of a queue that are only waiting to be retried on their way.
///
/// # Errors
/// The database is away.
pub async fn release_owned(db: &Db, owner: &str) -> Result<u64> {
    let mut tx = db.begin().await?;
    let freed = tx
        .exec(
            sql("UPDATE jobs SET lease_until = NULL WHERE owner = ? AND state IN ('running', 'undoing')")
                .bind(owner),
        )
        .await?;
    tx.commit().await?;
    Ok(freed)
}

/// A job by its id.
///
/// # Errors
/// The database is away.
pub async fn get(from: &mut impl Read, id: JobId) -> Result<Option<Job>> {
    let Some(row) = from.row(sql("SELECT * FROM jobs WHERE id = ?").bind(id)).await? else { return Ok(None) };
    let mut job = read(&row)?;
    job.locks = locks_of(from, id).await?;
    Ok(Some(job))
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// `None`: of every project.
    pub project_id: Option<String>,
    pub resource_id: Option<String>,
    /// Only those that have not ended.
    pub active: bool,
    pub limit: u32,
}

/// Jobs by their ids, in no order; without their locks.
///
/// # Errors
/// The database is away.
pub async fn get_all(from: &mut impl Read, ids: &[JobId]) -> Result<Vec<Job>> {
    let mut found = Vec::new();
    for some in ids.chunks(200) {
        let text = format!("SELECT * FROM jobs WHERE id IN ({})", marks(some.len()));
        for row in from.rows(sql(text).bind_all(some.iter().map(ToString::to_string))).await? {
            found.push(read(&row)?);
        }
    }
    Ok(found)
}

/// How many jobs there are of an operation in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    pub operation: String,
    pub state: JobState,
    pub jobs: i64,
    /// Microseconds since the oldest of them was made.
    pub oldest_us: i64,
}

/// The active jobs, counted.
///
/// # Errors
/// The database is away.
pub async fn counts(from: &mut impl Read) -> Result<Vec<Count>> {
    let text = format!(
        "SELECT operation, state, COUNT(*) AS n, {{now}} - MIN(created_at) AS oldest FROM jobs WHERE {ACTIVE} \
         GROUP BY operation, state ORDER BY operation, state"
    );
    from.rows(sql(text))
        .await?
        .iter()
        .map(|row| {
            Ok(Count {
                operation: row.get("operation")?,
                state: row.parse("jobs", "state")?,
                jobs: row.get("n")?,
                oldest_us: row.get("oldest")?,
            })
        })
        .collect()
}

/// The active jobs without a live claim that have locks to take, oldest first; at most `limit`.
///
/// # Errors
/// The database is away.
pub async fn unclaimed_with_locks(from: &mut impl Read, limit: u32) -> Result<Vec<JobId>> {
    let text = format!(
        "SELECT id FROM jobs WHERE {ACTIVE} AND {UNCLAIMED} AND run_after <= {{now}} \
         AND EXISTS (SELECT 1 FROM job_locks l WHERE l.job_id = jobs.id) ORDER BY ticket, id LIMIT ?"
    );
    from.rows(sql(text).bind(limit)).await?.iter().map(|row| row.parse("jobs", "id")).collect()
}

/// Jobs, newest first.
///
/// # Errors
/// The database is away.
pub async fn list(from: &mut impl Read, wanted: &Wanted) -> Result<Vec<Job>> {
    let mut stmt = sql("SELECT * FROM jobs WHERE 1 = 1");
    if let Some(project) = &wanted.project_id {
        stmt = stmt.push(" AND project_id = ?").bind(project);
    }
    if let Some(resource) = &wanted.resource_id {
        stmt = stmt.push(" AND resource_id = ?").bind(resource);
    }
    if wanted.active {
        stmt = stmt.push(" AND ").push(ACTIVE);
    }
    let stmt = stmt.push(" ORDER BY ticket DESC, id DESC LIMIT ?").bind(wanted.limit.max(1));
    from.rows(stmt).await?.iter().map(read).collect()
}

/// Removes jobs that ended more than `age_us` ago; at most `limit`.
///
/// # Errors
/// The database is away.
pub async fn purge(db: &Db, age_us: i64, limit: u32) -> Result<u64> {
    let old = db
        .read()
        .rows(
            sql("SELECT id FROM jobs WHERE state IN ('done', 'failed', 'cancelled') AND finished_at < {now} - ? \
                 ORDER BY finished_at LIMIT ?")
                .bind(age_us)
                .bind(limit),
        )
        .await?;
    let ids: Vec<String> = old.iter().map(|row| row.get("id")).collect::<Result<_>>()?;
    if ids.is_empty() {
        return Ok(0);
    }
    let mut tx = db.begin().await?;
    let gone =
        tx.exec(sql(format!("DELETE FROM jobs WHERE id IN ({})", marks(ids.len()))).bind_all(&ids)).await?;
    tx.commit().await?;
    Ok(gone)
}

async fn locks_of(from: &mut impl Read, id: JobId) -> Result<Vec<Lock>> {
    from.rows(sql("SELECT name, mode FROM job_locks WHERE job_id = ? ORDER BY name").bind(id))
        .await?
        .iter()
        .map(|row| Ok(Lock { name: row.get("name")?, mode: row.parse("job_locks", "mode")? }))
        .collect()
}

/// A time of our own tables.
fn moment(us: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(us).unwrap_or_default()
}

fn read(row: &Row) -> Result<Job> {
    Ok(Job {
        id: row.parse("jobs", "id")?,
        ticket: row.get("ticket")?,
        operation: row.get("operation")?,
        resource: ResourceRef { kind: row.get("resource_kind")?, id: row.get("resource_id")? },
        project_id: row.get("project_id")?,
        user_id: row.get("user_id")?,
        request_id: row.get("request_id")?,
        queue: row.get("queue")?,
        state: row.parse("jobs", "state")?,
        request: serde_json::from_str(&row.get::<String>("request")?)?,
        data: serde_json::from_str(&row.get::<String>("data")?)?,
        steps_done: row.get::<i64>("steps_done")? as i32,
        owner: row.get("owner")?,
        epoch: row.get("epoch")?,
        attempts: row.get::<i64>("attempts")? as i32,
        cancel_requested: row.get("cancel_requested")?,
        progress_done: row.get("progress_done")?,
        progress_total: row.get("progress_total")?,
        error: row.get("error")?,
        created_at: moment(row.get("created_at")?),
        started_at: row.get::<Option<i64>>("started_at")?.map(moment),
        finished_at: row.get::<Option<i64>>("finished_at")?.map(moment),
        run_after: moment(row.get("run_after")?),
        lease_until: row.get::<Option<i64>>("lease_until")?.map(moment),
        locks: Vec::new(),
    })
}
