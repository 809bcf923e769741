//! Attachments.

use std::collections::HashMap;

use model::list::{ListQuery, Listed};
use model::{AttachMode, AttachStatus, Attachment, AttachmentId, ConnectionInfo, Connector, VolumeId};

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::page::{ColumnKind, Listing};
use crate::sql::{Row, marks, sql};

const LISTING: Listing = Listing {
    table: "volume_attachment",
    columns: {
        use ColumnKind::{Text, Time};
        &[
            ("id", Text),
            ("volume_id", Text),
            ("instance_uuid", Text),
            ("attach_status", Text),
            ("attached_host", Text),
            ("mountpoint", Text),
            ("attach_mode", Text),
            ("attach_time", Time),
            ("detach_time", Time),
            ("created_at", Time),
            ("updated_at", Time),
        ]
    },
    metadata: None,
    also: "",
};

/// What a new attachment's row holds.
#[derive(Debug, Clone)]
pub struct NewAttachment {
    pub id: AttachmentId,
    pub volume_id: VolumeId,
    pub instance_uuid: Option<String>,
    pub attached_host: Option<String>,
    pub mountpoint: Option<String>,
    pub mode: AttachMode,
    pub status: AttachStatus,
}

/// Makes the row.
///
/// # Errors
/// The database is away.
pub async fn insert(tx: &mut Tx, new: &NewAttachment) -> Result<()> {
    tx.exec(
        sql("INSERT INTO volume_attachment (created_at, deleted, id, volume_id, instance_uuid, attached_host, mountpoint, \
             attach_mode, attach_status) VALUES ({utc}, FALSE, ?, ?, ?, ?, ?, ?, ?)")
        .bind(new.id)
        .bind(new.volume_id)
        .bind(new.instance_uuid.clone())
        .bind(new.attached_host.clone())
        .bind(new.mountpoint.clone())
        .bind(new.mode)
        .bind(new.status),
    )
    .await
    .map(drop)
}

/// A live attachment.
///
/// # Errors
/// The database is away.
pub async fn get(from: &mut impl Read, id: AttachmentId) -> Result<Option<Attachment>> {
    let row =
        from.row(sql("SELECT * FROM volume_attachment WHERE id = ? AND deleted = FALSE").bind(id)).await?;
    row.as_ref().map(read).transpose()
}

/// Live attachments of a volume, oldest first.
///
/// # Errors
/// The database is away.
pub async fn of_volume(from: &mut impl Read, id: VolumeId) -> Result<Vec<Attachment>> {
    Ok(of_volumes(from, &[id]).await?.remove(&id).unwrap_or_default())
}

pub(crate) async fn of_volumes(
    from: &mut impl Read,
    ids: &[VolumeId],
) -> Result<HashMap<VolumeId, Vec<Attachment>>> {
    let text = format!(
        "SELECT * FROM volume_attachment WHERE deleted = FALSE AND volume_id IN ({}) ORDER BY created_at, id",
        marks(ids.len())
    );
    let mut out: HashMap<VolumeId, Vec<Attachment>> = HashMap::new();
    for row in from.rows(sql(text).bind_all(ids.iter().copied())).await? {
        let attachment = read(&row)?;
        out.entry(attachment.volume_id).or_default().push(attachment);
    }
    Ok(out)
}

/// A page of attachments; `project` restricts to volumes of one.
///
/// # Errors
/// A bad sort key or marker, or the database is away.
pub async fn list(from: &mut impl Read, query: &ListQuery) -> Result<Listed<Attachment>> {
    let mut query = query.clone();
    let project = query.project_id.take();
    let Some(project) = project else {
        let (rows, count) = LISTING.page(from, &query).await?;
        return Ok(Listed { items: rows.iter().map(read).collect::<Result<_>>()?, count });
    };
    let owned = Listing {
        // The project is a column of the volume; as a derived table the list machinery needs no joins.
        table: "(SELECT a.*, v.project_id AS project_id FROM volume_attachment a JOIN volumes v ON v.id = a.volume_id) volume_attachment",
        ..LISTING
    };
    query.project_id = Some(project);
    let (rows, count) = owned.page(from, &query).await?;
    Ok(Listed { items: rows.iter().map(read).collect::<Result<_>>()?, count })
}

/// Holds a live attachment until the transaction ends, and reads it.
///
/// # Errors
/// The database is away.
pub async fn hold(tx: &mut Tx, id: AttachmentId) -> Result<Option<Attachment>> {
    let touch = "UPDATE volume_attachment SET updated_at = updated_at WHERE id = ? AND deleted = FALSE";
    if tx.exec(sql(touch).bind(id)).await? == 0 {
        return Ok(None);
    }
    get(tx, id).await
}

/// Records who connects, how, and when; the info without its secrets.
///
/// # Errors
/// The database is away.
pub async fn connected(
    tx: &mut Tx,
    id: AttachmentId,
    connector: &Connector,
    info: &ConnectionInfo,
    mode: AttachMode,
) -> Result<()> {
    tx.exec(
        sql("UPDATE volume_attachment SET connector = ?, connection_info = ?, attach_mode = ?, attached_host = ?, \
             mountpoint = ?, attach_time = {utc}, updated_at = {utc} WHERE id = ? AND deleted = FALSE")
        .bind(serde_json::to_string(connector)?)
        .bind(flat(id, connector, info))
        .bind(mode)
        .bind(connector.host().unwrap_or_default())
        // As Cinder has it when the client does not say.
        .bind(connector.mountpoint().unwrap_or("na"))
        .bind(id),
    )
    .await
    .map(drop)
}

/// Cinder's shape of the column (connection-info.md 1): the transport's fields beside its name.
fn flat(id: AttachmentId, connector: &Connector, info: &ConnectionInfo) -> String {
    let mut flat = info.data.clone();
    flat.insert("driver_volume_type".into(), info.driver_volume_type.clone().into());
    flat.insert("attachment_id".into(), id.to_string().into());
    flat.insert("enforce_multipath".into(), connector.enforce_multipath().into());
    serde_json::Value::Object(flat).to_string()
}

/// Records that an attachment made without a connection is in use: since when, where and how.
///
/// # Errors
/// The database is away.
pub async fn attached(
    tx: &mut Tx,
    id: AttachmentId,
    mountpoint: Option<&str>,
    mode: AttachMode,
) -> Result<()> {
    tx.exec(
        sql("UPDATE volume_attachment SET attach_time = {utc}, mountpoint = COALESCE(?, mountpoint), attach_mode = ?, \
             updated_at = {utc} WHERE id = ? AND deleted = FALSE")
        .bind(mountpoint)
        .bind(mode)
        .bind(id),
    )
    .await
    .map(drop)
}

fn read(row: &Row) -> Result<Attachment> {
    let json = |column| -> Result<Option<String>> { row.get::<Option<String>>(column) };
    let connector: Option<Connector> = match json("connector")? {
        Some(text) => serde_json::from_str::<Option<Connector>>(&text)?,
        None => None,
    };
    let connection_info = match json("connection_info")? {
        Some(text) => read_connection_info(&text)?,
        None => None,
    };
    Ok(Attachment {
        id: row.parse("volume_attachment", "id")?,
        volume_id: row.parse("volume_attachment", "volume_id")?,
        instance_uuid: row.get("instance_uuid")?,
        attached_host: row.get("attached_host")?,
        mountpoint: row.get("mountpoint")?,
        attach_time: row.get("attach_time")?,
        detach_time: row.get("detach_time")?,
        mode: row.parse_opt("volume_attachment", "attach_mode")?,
        status: row.parse("volume_attachment", "attach_status")?,
        connector: connector.filter(|connector| !connector.0.is_empty()),
        connection_info,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

/// Ours is nested, Cinder's is flat (connection-info.md 1); empty means none.
fn read_connection_info(text: &str) -> Result<Option<ConnectionInfo>> {
    let mut value: serde_json::Value = serde_json::from_str(text)?;
    if value.get("data").is_some_and(serde_json::Value::is_object) {
        return Ok(Some(serde_json::from_value(value)?));
    }
    let Some(flat) = value.as_object_mut().filter(|flat| !flat.is_empty()) else { return Ok(None) };
    let kind = flat.remove("driver_volume_type").and_then(|kind| kind.as_str().map(str::to_owned));
    Ok(Some(ConnectionInfo { driver_volume_type: kind.unwrap_or_default(), data: std::mem::take(flat) }))
}
