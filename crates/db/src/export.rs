//! Exports: which initiator reaches which volume, with what secret; and who needs it (I5, I8). From these rows a target
//! serves what it must, after any restart.

use model::{AttachMode, VolumeId};

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::sql::{Row, marks, sql};

/// A volume made reachable for one initiator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    pub id: String,
    pub volume_id: VolumeId,
    pub initiator: String,
    /// The host whose target serves it.
    pub node: String,
    /// The backend's section name on that host.
    pub backend: String,
    pub mode: AttachMode,
    pub chap_user: Option<String>,
    /// Sealed: `control` holds the key.
    pub chap_secret: Option<String>,
    pub iqn: String,
    pub lun: u16,
}

/// Makes an export unless there is one for this volume and initiator, and counts `holder` among those who need it. Answers with
/// the row that holds then.
///
/// # Errors
/// The database is away.
pub async fn need(tx: &mut Tx, wanted: &Export, holder: &str) -> Result<Export> {
    tx.exec(
        sql("{insert_ignore} INTO exports (id, volume_id, initiator, node, backend, mode, chap_user, chap_secret, iqn, lun, \
             created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {now}) {or_ignore}")
        .bind(&wanted.id)
        .bind(wanted.volume_id)
        .bind(&wanted.initiator)
        .bind(&wanted.node)
        .bind(&wanted.backend)
        .bind(wanted.mode)
        .bind(wanted.chap_user.clone())
        .bind(wanted.chap_secret.clone())
        .bind(&wanted.iqn)
        .bind(i64::from(wanted.lun)),
    )
    .await?;
    let export = find(tx, wanted.volume_id, &wanted.initiator).await?.unwrap_or_else(|| wanted.clone());
    tx.exec(
        sql("{insert_ignore} INTO export_uses (export_id, holder) VALUES (?, ?) {or_ignore}")
            .bind(&export.id)
            .bind(holder),
    )
    .await?;
    Ok(export)
}

/// Counts `holder` out; the export goes with its last holder. Answers with the exports that have gone.
///
/// # Errors
/// The database is away.
pub async fn drop_holder(tx: &mut Tx, volume: VolumeId, holder: &str) -> Result<Vec<Export>> {
    let held = tx
        .rows(
            sql("SELECT e.* FROM exports e JOIN export_uses u ON u.export_id = e.id WHERE e.volume_id = ? AND u.holder = ?")
                .bind(volume)
                .bind(holder),
        )
        .await?;
    let mut gone = Vec::new();
    for row in &held {
        let export = read(row)?;
        tx.exec(
            sql("DELETE FROM export_uses WHERE export_id = ? AND holder = ?").bind(&export.id).bind(holder),
        )
        .await?;
        let left = tx.row(sql("SELECT holder FROM export_uses WHERE export_id = ?").bind(&export.id)).await?;
        if left.is_none() {
            tx.exec(sql("DELETE FROM exports WHERE id = ?").bind(&export.id)).await?;
            gone.push(export);
        }
    }
    Ok(gone)
}

/// The holders of an export.
///
/// # Errors
/// The database is away.
pub async fn holders(from: &mut impl Read, export: &str) -> Result<Vec<String>> {
    from.rows(sql("SELECT holder FROM export_uses WHERE export_id = ? ORDER BY holder").bind(export))
        .await?
        .iter()
        .map(|row| row.get("holder"))
        .collect()
}

/// The export of a volume for an initiator.
///
/// # Errors
/// The database is away.
pub async fn find(from: &mut impl Read, volume: VolumeId, initiator: &str) -> Result<Option<Export>> {
    let row = from
        .row(sql("SELECT * FROM exports WHERE volume_id = ? AND initiator = ?").bind(volume).bind(initiator))
        .await?;
    row.as_ref().map(read).transpose()
}

/// All exports of a volume.
///
/// # Errors
/// The database is away.
pub async fn of_volume(from: &mut impl Read, volume: VolumeId) -> Result<Vec<Export>> {
    from.rows(sql("SELECT * FROM exports WHERE volume_id = ? ORDER BY initiator").bind(volume))
        .await?
        .iter()
        .map(read)
        .collect()
}

/// All exports that a node's target has to serve.
///
/// # Errors
/// The database is away.
pub async fn of_node(from: &mut impl Read, node: &str) -> Result<Vec<Export>> {
    from.rows(sql("SELECT * FROM exports WHERE node = ? ORDER BY volume_id, initiator").bind(node))
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Exports whose holders are all gone or that have none: attachments that are no longer live. What a crash between two
/// transactions could leave; the reconciler removes them.
///
/// # Errors
/// The database is away.
pub async fn orphans(from: &mut impl Read) -> Result<Vec<Export>> {
    from.rows(sql(
        "SELECT e.* FROM exports e WHERE NOT EXISTS (SELECT 1 FROM export_uses u WHERE u.export_id = e.id) \
                   OR NOT EXISTS (SELECT 1 FROM volumes v WHERE v.id = e.volume_id AND v.deleted = FALSE)",
    ))
    .await?
    .iter()
    .map(read)
    .collect()
}

/// Removes exports whatever holds them.
///
/// # Errors
/// The database is away.
pub async fn remove(tx: &mut Tx, ids: &[String]) -> Result<()> {
    tx.exec(sql(format!("DELETE FROM export_uses WHERE export_id IN ({})", marks(ids.len()))).bind_all(ids))
        .await?;
    tx.exec(sql(format!("DELETE FROM exports WHERE id IN ({})", marks(ids.len()))).bind_all(ids))
        .await
        .map(drop)
}

/// A volume's persistent reservations as its target last stored them.
///
/// # Errors
/// The database is away.
pub async fn reservations(from: &mut impl Read, volume: &str) -> Result<Option<String>> {
    let row =
        from.row(sql("SELECT state FROM persistent_reservations WHERE volume_id = ?").bind(volume)).await?;
    row.map(|row| row.get("state")).transpose()
}

/// Stores a volume's persistent reservations; `None` removes them.
///
/// # Errors
/// The database is away.
pub async fn store_reservations(tx: &mut Tx, volume: &str, state: Option<&str>) -> Result<()> {
    tx.exec(sql("DELETE FROM persistent_reservations WHERE volume_id = ?").bind(volume)).await?;
    if let Some(state) = state {
        tx.exec(
            sql("INSERT INTO persistent_reservations (volume_id, state, updated_at) VALUES (?, ?, {now})")
                .bind(volume)
                .bind(state),
        )
        .await?;
    }
    Ok(())
}

fn read(row: &Row) -> Result<Export> {
    Ok(Export {
        id: row.get("id")?,
        volume_id: row.parse("exports", "volume_id")?,
        initiator: row.get("initiator")?,
        node: row.get("node")?,
        backend: row.get("backend")?,
        mode: row.parse("exports", "mode")?,
        chap_user: row.get("chap_user")?,
        chap_secret: row.get("chap_secret")?,
        iqn: row.get("iqn")?,
        lun: row.get::<i64>("lun")? as u16,
    })
}
