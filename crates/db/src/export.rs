//! Exports: which initiator reaches which volume, with what secret; and who needs it (I5, I8). From these rows a target
//! serves what it must, after any restart.
//!
//! ```text
//!   need -> served --release by the last holder--> ending --the target has cut it--> gone
//! ```
//! An export is never taken up again once it is ending: the next need makes a new one, with a secret of its own.

use std::collections::{BTreeSet, HashMap};

use model::{AttachMode, VolumeId};

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::sql::{Row, marks, sql};

/// How many ids one statement asks for.
const CHUNK: usize = 500;

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
    /// Nobody needs it any more: its target cuts it and then removes the row.
    pub ending: bool,
}

/// The holder of an export that an old-style connection needs; every other holder is an attachment's id.
pub const CONNECTION: &str = "connection";

/// The answer to a need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needed {
    /// The export that serves it from now on.
    Yes {
        export: Export,
        /// The holder did not hold it before.
        newly: bool,
    },
    /// An earlier export for this initiator has not been cut yet.
    Ending,
    /// The initiator has the volume already, in this other mode (I8).
    OtherMode(AttachMode),
}

/// Makes an export unless there is one for this volume and initiator, and counts `holder` among those who need it.
///
/// # Errors
/// The database is away.
pub async fn need(tx: &mut Tx, wanted: &Export, holder: &str) -> Result<Needed> {
    tx.exec(
        sql("INSERT INTO exports (id, volume_id, initiator, node, backend, mode, chap_user, chap_secret, iqn, lun, \
             ending, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, FALSE, {now}) {or_ignore id}")
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
    hold(tx, wanted.volume_id).await?;
    let Some(export) = find(tx, wanted.volume_id, &wanted.initiator).await? else {
        return Ok(Needed::Ending);
    };
    if export.ending {
        return Ok(Needed::Ending);
    }
    if export.mode != wanted.mode {
        return Ok(Needed::OtherMode(export.mode));
    }
    let newly = !holders(tx, &export.id).await?.iter().any(|held| held == holder);
    if newly {
        let stmt = sql("INSERT INTO export_uses (export_id, holder) VALUES (?, ?)");
        tx.exec(stmt.bind(&export.id).bind(holder)).await?;
    }
    Ok(Needed::Yes { export, newly })
}

/// Which exports of a volume a holder gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of<'a> {
    /// All that it holds.
    Any,
    /// The one for this initiator.
    Initiator(&'a str),
    /// All but the one for this initiator.
    AllBut(&'a str),
}

/// Counts `holder` out. An export that nobody holds then is ending: answers with those, and rings their target.
///
/// # Errors
/// The database is away.
pub async fn release(tx: &mut Tx, volume: VolumeId, holder: &str, of: Of<'_>) -> Result<Vec<Export>> {
    hold(tx, volume).await?;
    let held = tx
        .rows(
            sql("SELECT e.* FROM exports e JOIN export_uses u ON u.export_id = e.id WHERE e.volume_id = ? AND u.holder = ?")
                .bind(volume)
                .bind(holder),
        )
        .await?;
    let mut ended = Vec::new();
    for row in &held {
        let export = read(row)?;
        let given_up = match of {
            Of::Any => true,
            Of::Initiator(initiator) => export.initiator == initiator,
            Of::AllBut(initiator) => export.initiator != initiator,
        };
        if !given_up {
            continue;
        }
        tx.exec(
            sql("DELETE FROM export_uses WHERE export_id = ? AND holder = ?").bind(&export.id).bind(holder),
        )
        .await?;
        if end_unheld(tx, &export).await? {
            ended.push(Export { ending: true, ..export });
        }
    }
    Ok(ended)
}

/// Ends every export of a volume, whoever holds it.
///
/// # Errors
/// The database is away.
pub async fn withdraw(tx: &mut Tx, volume: VolumeId) -> Result<()> {
    hold(tx, volume).await?;
    for export in of_volume(tx, volume).await? {
        tx.exec(sql("DELETE FROM export_uses WHERE export_id = ?").bind(&export.id)).await?;
        end_unheld(tx, &export).await?;
    }
    Ok(())
}

/// Ends an export if nobody holds it; whether it ends by that.
async fn end_unheld(tx: &mut Tx, export: &Export) -> Result<bool> {
    let ended = tx
        .exec(
            sql("UPDATE exports SET ending = TRUE WHERE id = ? AND ending = FALSE \
                 AND NOT EXISTS (SELECT 1 FROM export_uses u WHERE u.export_id = exports.id)")
            .bind(&export.id),
        )
        .await?
        > 0;
    if ended {
        tx.ring(topic(&export.node));
    }
    Ok(ended)
}

/// Makes changes to a volume's exports follow one another: counting holders without it would race under MVCC.
async fn hold(tx: &mut Tx, volume: VolumeId) -> Result<()> {
    tx.exec(sql("UPDATE exports SET created_at = created_at WHERE volume_id = ?").bind(volume))
        .await
        .map(drop)
}

/// The topic that rings when a node's exports have changed.
pub fn topic(node: &str) -> String {
    format!("exports.{node}")
}

/// Removes exports that have ended and been cut.
///
/// # Errors
/// The database is away.
pub async fn remove_ended(tx: &mut Tx, ids: &[String]) -> Result<()> {
    let text = format!("DELETE FROM exports WHERE ending = TRUE AND id IN ({})", marks(ids.len()));
    tx.exec(sql(text).bind_all(ids)).await.map(drop)
}

/// Whether `holder` holds the export of a volume for an initiator, and it is not ending.
///
/// # Errors
/// The database is away.
pub async fn is_held(from: &mut impl Read, volume: VolumeId, initiator: &str, holder: &str) -> Result<bool> {
    let stmt = sql("SELECT e.id FROM exports e JOIN export_uses u ON u.export_id = e.id \
         WHERE e.volume_id = ? AND e.initiator = ? AND e.ending = FALSE AND u.holder = ?");
    Ok(from.row(stmt.bind(volume).bind(initiator).bind(holder)).await?.is_some())
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

/// All exports of some volumes.
///
/// # Errors
/// The database is away.
pub async fn of_volumes(from: &mut impl Read, volumes: &[VolumeId]) -> Result<Vec<Export>> {
    let text = format!("SELECT * FROM exports WHERE volume_id IN ({})", marks(volumes.len()));
    from.rows(sql(text).bind_all(volumes.iter().copied())).await?.iter().map(read).collect()
}

/// All exports of a node's target, those that are ending too.
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

/// Exports that nobody needs and that are not ending: without a holder, or held only by attachments that are no longer
/// live, or of a volume that is gone. What another program's writes could leave; the reconciler ends them.
///
/// # Errors
/// The database is away.
pub async fn orphans(from: &mut impl Read) -> Result<Vec<Export>> {
    let rows = from.rows(sql("SELECT * FROM exports WHERE ending = FALSE ORDER BY id")).await?;
    unneeded(from, rows.iter().map(read).collect::<Result<_>>()?).await
}

/// Those of `exports` that nobody needs. Attachments and volumes are asked for by their ids: in a database that Cinder made
/// on MySQL their character set is another than ours, and a join would look at every row there is.
async fn unneeded(from: &mut impl Read, exports: Vec<Export>) -> Result<Vec<Export>> {
    let volumes: BTreeSet<String> = exports.iter().map(|export| export.volume_id.to_string()).collect();
    let volumes = live(from, "volumes", volumes).await?;
    let mut uses: HashMap<String, Vec<String>> = HashMap::new();
    let ids: Vec<&str> = exports.iter().map(|export| export.id.as_str()).collect();
    for some in ids.chunks(CHUNK) {
        let text =
            format!("SELECT export_id, holder FROM export_uses WHERE export_id IN ({})", marks(some.len()));
        for row in from.rows(sql(text).bind_all(some.iter().copied())).await? {
            uses.entry(row.get("export_id")?).or_default().push(row.get("holder")?);
        }
    }
    let holders = uses.values().flatten().filter(|holder| *holder != CONNECTION).cloned().collect();
    let attachments = live(from, "volume_attachment", holders).await?;
    let is_held = |export: &Export| {
        let mut holders = uses.get(&export.id).into_iter().flatten();
        holders.any(|holder| holder == CONNECTION || attachments.contains(holder))
    };
    Ok(exports
        .into_iter()
        .filter(|export| !volumes.contains(&export.volume_id.to_string()) || !is_held(export))
        .collect())
}

/// Which of these ids are those of live rows.
async fn live(from: &mut impl Read, table: &str, ids: BTreeSet<String>) -> Result<BTreeSet<String>> {
    let ids: Vec<String> = ids.into_iter().collect();
    let mut found = BTreeSet::new();
    for some in ids.chunks(CHUNK) {
        let text = format!("SELECT id FROM {table} WHERE deleted = FALSE AND id IN ({})", marks(some.len()));
        for row in from.rows(sql(text).bind_all(some)).await? {
            found.insert(row.get("id")?);
        }
    }
    Ok(found)
}

/// Ends an orphan; whether it still was one.
///
/// # Errors
/// The database is away.
pub async fn end_orphan(tx: &mut Tx, orphan: &Export) -> Result<bool> {
    hold(tx, orphan.volume_id).await?;
    let row = tx.row(sql("SELECT * FROM exports WHERE id = ? AND ending = FALSE").bind(&orphan.id)).await?;
    let Some(export) = row.as_ref().map(read).transpose()? else { return Ok(false) };
    if unneeded(tx, vec![export]).await?.is_empty() {
        return Ok(false);
    }
    tx.exec(sql("DELETE FROM export_uses WHERE export_id = ?").bind(&orphan.id)).await?;
    end_unheld(tx, orphan).await
}

/// Removes every export of a volume that is gone from its backend.
///
/// # Errors
/// The database is away.
pub async fn remove_all(tx: &mut Tx, volume: VolumeId) -> Result<()> {
    for export in of_volume(tx, volume).await? {
        tx.exec(sql("DELETE FROM export_uses WHERE export_id = ?").bind(&export.id)).await?;
        tx.exec(sql("DELETE FROM exports WHERE id = ?").bind(&export.id)).await?;
        tx.ring(topic(&export.node));
    }
    Ok(())
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
        ending: row.get("ending")?,
    })
}
