//! Services: running roles, their heartbeats by the database's clock, and whether they count as up.

use model::ServiceId;
use model::service::Service;

use crate::conn::{Db, Read, Tx};
use crate::error::Result;
use crate::sql::{Row, sql};

/// A role that starts.
#[derive(Debug, Clone)]
pub struct NewService {
    /// `host` or `host@backend`.
    pub host: String,
    /// `cinder-volume`, ...
    pub binary: String,
    pub topic: String,
    pub availability_zone: String,
    /// Whether a new service takes work at once (`enable_new_services`).
    pub enabled: bool,
}

/// Registers a service, or finds its row again.
///
/// # Errors
/// The database is away.
pub async fn register(db: &Db, new: &NewService) -> Result<ServiceId> {
    let mut tx = db.begin().await?;
    let found = tx
        .row(
            sql("SELECT id, uuid FROM services WHERE host = ? AND \"binary\" = ? AND deleted = FALSE ORDER BY id")
                .bind(&new.host)
                .bind(&new.binary),
        )
        .await?;
    let uuid = match found.map(|row| row.parse_opt("services", "uuid")).transpose()?.flatten() {
        Some(uuid) => {
            tx.exec(
                sql("UPDATE services SET updated_at = {utc}, availability_zone = ?, report_count = report_count + 1 WHERE uuid = ?")
                    .bind(&new.availability_zone)
                    .bind(uuid),
            )
            .await?;
            uuid
        }
        None => insert(&mut tx, new).await?,
    };
    tx.commit().await?;
    Ok(uuid)
}

async fn insert(tx: &mut Tx, new: &NewService) -> Result<ServiceId> {
    let uuid = ServiceId::new();
    tx.exec(
        sql("INSERT INTO services (created_at, updated_at, deleted, host, \"binary\", topic, report_count, disabled, \
             availability_zone, rpc_current_version, object_current_version, frozen, uuid) \
             VALUES ({utc}, {utc}, FALSE, ?, ?, ?, 0, ?, ?, '3.19', '1.39', FALSE, ?)")
        .bind(&new.host)
        .bind(&new.binary)
        .bind(&new.topic)
        .bind(!new.enabled)
        .bind(&new.availability_zone)
        .bind(uuid),
    )
    .await?;
    Ok(uuid)
}

/// Tells that a service is alive.
///
/// # Errors
/// The database is away.
pub async fn beat(db: &Db, id: ServiceId) -> Result<()> {
    let mut tx = db.begin().await?;
    tx.exec(
        sql("UPDATE services SET report_count = report_count + 1, updated_at = {utc} WHERE uuid = ?")
            .bind(id),
    )
    .await?;
    tx.commit().await.map(drop)
}

/// All live services; `down_after_us` is the age of a heartbeat from which a service counts as down.
///
/// # Errors
/// The database is away.
pub async fn list(from: &mut impl Read, down_after_us: i64) -> Result<Vec<Service>> {
    // The clock as a column, so that age is measured by the database's clock alone.
    from.rows(sql("SELECT s.*, {utc} AS now_utc FROM services s WHERE s.deleted = FALSE ORDER BY s.id"))
        .await?
        .iter()
        .map(|row| read(row, down_after_us))
        .collect()
}

/// Changes whether a service takes work; whether it was found.
///
/// # Errors
/// The database is away.
pub async fn switch(
    tx: &mut Tx,
    host: &str,
    binary: &str,
    disabled: bool,
    reason: Option<&str>,
) -> Result<bool> {
    let stmt = sql("UPDATE services SET disabled = ?, disabled_reason = ?, modified_at = {utc} \
                    WHERE host = ? AND \"binary\" = ? AND deleted = FALSE");
    Ok(tx.exec(stmt.bind(disabled).bind(reason).bind(host).bind(binary)).await? > 0)
}

/// Keeps a backend as it is, or no longer; whether that is a change. A frozen one takes no work either.
///
/// # Errors
/// The database is away.
pub async fn freeze(tx: &mut Tx, host: &str, frozen: bool) -> Result<bool> {
    let reason = if frozen { "frozen" } else { "" };
    let stmt = sql("UPDATE services SET frozen = ?, disabled = ?, disabled_reason = ?, modified_at = {utc} \
                    WHERE host = ? AND \"binary\" = 'cinder-volume' AND deleted = FALSE AND frozen = ?");
    Ok(tx.exec(stmt.bind(frozen).bind(frozen).bind(reason).bind(host).bind(!frozen)).await? > 0)
}

fn read(row: &Row, down_after_us: i64) -> Result<Service> {
    let beat: Option<model::Time> = row.get::<Option<model::Time>>("updated_at")?.or(row.get("created_at")?);
    let now: chrono::NaiveDateTime = match row.get::<chrono::NaiveDateTime>("now_utc") {
        Ok(now) => now,
        // SQLite gives a computed column no type: it is text.
        Err(_) => row
            .get::<String>("now_utc")?
            .parse::<chrono::NaiveDateTime>()
            .unwrap_or_else(|_| chrono::Utc::now().naive_utc()),
    };
    let age = beat.map(|beat| now.and_utc().signed_duration_since(beat));
    let modified: Option<model::Time> = row.get("modified_at")?;
    Ok(Service {
        id: row.parse("services", "uuid")?,
        host: row.get::<Option<String>>("host")?.unwrap_or_default(),
        binary: row.get::<Option<String>>("binary")?.unwrap_or_default(),
        availability_zone: row.get("availability_zone")?,
        cluster_name: row.get("cluster_name")?,
        disabled: row.get::<Option<bool>>("disabled")?.unwrap_or(false),
        disabled_reason: row.get("disabled_reason")?,
        up: age.and_then(|age| age.num_microseconds()).is_some_and(|age| age <= down_after_us),
        backend_up: None,
        replication_status: row.get("replication_status")?,
        active_backend_id: row.get("active_backend_id")?,
        frozen: row.get::<Option<bool>>("frozen")?.unwrap_or(false),
        created_at: row.get("created_at")?,
        updated_at: row.get::<Option<model::Time>>("updated_at")?.max(modified),
    })
}
