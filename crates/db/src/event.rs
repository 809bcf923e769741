//! The log of transitions: appended in the transaction that makes the change, never changed.

use model::JobId;
use model::job::ResourceRef;

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::sql::{Row, sql};

/// One change to record.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// `volume`, `snapshot`, `backup`, `attachment`.
    pub kind: &'a str,
    pub id: &'a str,
    pub from: Option<&'a str>,
    pub to: Option<&'a str>,
    pub by: By<'a>,
    /// What else a reader of the history should know.
    pub detail: Option<&'a str>,
}

/// Who makes a change: a request, a job, or both.
#[derive(Debug, Clone, Copy, Default)]
pub struct By<'a> {
    pub job: Option<JobId>,
    pub request_id: Option<&'a str>,
    pub project_id: Option<&'a str>,
}

/// An event as it was recorded.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: i64,
    /// Microseconds since 1970.
    pub at: i64,
    pub resource: ResourceRef,
    pub from: Option<String>,
    pub to: Option<String>,
    pub job: Option<JobId>,
    pub request_id: Option<String>,
    pub detail: Option<String>,
}

/// Appends a change.
///
/// # Errors
/// The database is away.
pub async fn append(tx: &mut Tx, change: Change<'_>) -> Result<()> {
    tx.exec(
        sql("INSERT INTO events (at, kind, resource_id, project_id, from_status, to_status, job_id, request_id, detail) \
             VALUES ({now}, ?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(change.kind)
        .bind(change.id)
        .bind(change.by.project_id)
        .bind(change.from)
        .bind(change.to)
        .bind(change.by.job)
        .bind(change.by.request_id)
        .bind(change.detail),
    )
    .await?;
    Ok(())
}

/// Appends that a resource has been begun: its row is new, and `creating`.
///
/// # Errors
/// The database is away.
pub async fn created(tx: &mut Tx, kind: &str, id: &str, by: By<'_>) -> Result<()> {
    append(tx, Change { kind, id, from: None, to: Some("creating"), by, detail: None }).await
}

/// The first `limit` events of a resource after event `after`, oldest first.
///
/// # Errors
/// The database is away.
pub async fn of(from: &mut impl Read, resource_id: &str, after: i64, limit: u32) -> Result<Vec<Event>> {
    from.rows(
        sql("SELECT * FROM events WHERE resource_id = ? AND id > ? ORDER BY id LIMIT ?")
            .bind(resource_id)
            .bind(after)
            .bind(limit),
    )
    .await?
    .iter()
    .map(read)
    .collect()
}

fn read(row: &Row) -> Result<Event> {
    Ok(Event {
        id: row.get("id")?,
        at: row.get("at")?,
        resource: ResourceRef { kind: row.get("kind")?, id: row.get("resource_id")? },
        from: row.get("from_status")?,
        to: row.get("to_status")?,
        job: row.parse_opt("events", "job_id")?,
        request_id: row.get("request_id")?,
        detail: row.get("detail")?,
    })
}
