//! User messages.

use chrono::{DateTime, TimeDelta};
use model::MessageId;
use model::list::{ListQuery, Listed};
use model::message::Message;

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::page::{ColumnKind, Listing};
use crate::sql::{Row, sql};

const LISTING: Listing = Listing {
    table: "messages",
    columns: {
        use ColumnKind::{Text, Time};
        &[
            ("id", Text),
            ("event_id", Text),
            ("message_level", Text),
            ("request_id", Text),
            ("resource_type", Text),
            ("resource_uuid", Text),
            ("created_at", Time),
            ("expires_at", Time),
        ]
    },
    metadata: None,
    also: "",
};

/// What a new message's row holds.
#[derive(Debug, Clone)]
pub struct NewMessage<'a> {
    pub project_id: &'a str,
    pub request_id: Option<&'a str>,
    /// `VOLUME`, `VOLUME_SNAPSHOT`, `VOLUME_BACKUP`.
    pub resource_type: &'a str,
    pub resource_uuid: &'a str,
    /// Three digits each.
    pub action_id: &'a str,
    pub detail_id: &'a str,
    /// Seconds that it is kept (`message_ttl`).
    pub ttl: i64,
}

/// Leaves a message for a project.
///
/// # Errors
/// The database is away.
pub async fn insert(tx: &mut Tx, new: &NewMessage<'_>) -> Result<()> {
    let event = format!("VOLUME_{}_{}_{}", new.resource_type, new.action_id, new.detail_id);
    let now = tx.row(sql("SELECT {now} AS now")).await?.map_or(Ok(0), |row| row.get::<i64>("now"))?;
    let expires = DateTime::from_timestamp_micros(now).unwrap_or_default()
        + TimeDelta::try_seconds(new.ttl).unwrap_or_default();
    tx.exec(
        sql("INSERT INTO messages (created_at, deleted, id, project_id, request_id, resource_type, resource_uuid, event_id, \
             message_level, expires_at, action_id, detail_id) \
             VALUES ({utc}, FALSE, ?, ?, ?, ?, ?, ?, 'ERROR', ?, ?, ?)")
        .bind(MessageId::new())
        .bind(new.project_id)
        .bind(new.request_id)
        .bind(new.resource_type)
        .bind(new.resource_uuid)
        .bind(event)
        .bind(expires)
        .bind(new.action_id)
        .bind(new.detail_id),
    )
    .await
    .map(drop)
}

/// A message and the ids of its texts.
#[derive(Debug, Clone)]
pub struct Stored {
    /// With an empty `user_message`: the texts are `control`'s.
    pub message: Message,
    pub action_id: Option<String>,
    pub detail_id: Option<String>,
}

/// A live message.
///
/// # Errors
/// The database is away.
pub async fn get(from: &mut impl Read, id: MessageId) -> Result<Option<Stored>> {
    let row = from.row(sql("SELECT * FROM messages WHERE id = ? AND deleted = FALSE").bind(id)).await?;
    row.as_ref().map(read).transpose()
}

/// A page of messages.
///
/// # Errors
/// A bad sort key or marker, or the database is away.
pub async fn list(from: &mut impl Read, query: &ListQuery) -> Result<Listed<Stored>> {
    let (rows, count) = LISTING.page(from, query).await?;
    Ok(Listed { items: rows.iter().map(read).collect::<Result<_>>()?, count })
}

/// Removes a message; whether it was there.
///
/// # Errors
/// The database is away.
pub async fn delete(tx: &mut Tx, id: MessageId) -> Result<bool> {
    let stmt = sql("UPDATE messages SET deleted = TRUE, deleted_at = {utc} WHERE id = ? AND deleted = FALSE");
    Ok(tx.exec(stmt.bind(id)).await? > 0)
}

/// Removes messages whose time is over.
///
/// # Errors
/// The database is away.
pub async fn expire(tx: &mut Tx) -> Result<u64> {
    tx.exec(sql("DELETE FROM messages WHERE expires_at < {utc}")).await
}

fn read(row: &Row) -> Result<Stored> {
    Ok(Stored {
        message: Message {
            id: row.parse("messages", "id")?,
            project_id: row.get("project_id")?,
            event_id: row.get("event_id")?,
            user_message: String::new(),
            level: row.get("message_level")?,
            request_id: row.get("request_id")?,
            resource_type: row.get("resource_type")?,
            resource_uuid: row.get("resource_uuid")?,
            created_at: row.get("created_at")?,
            expires_at: row.get("expires_at")?,
        },
        action_id: row.get("action_id")?,
        detail_id: row.get("detail_id")?,
    })
}
