//! Quotas: limits by project and class, and use counted by conditional update in the transaction of what is counted (I6).

use std::collections::BTreeMap;

use model::quota::Usage;

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::sql::{marks, sql};

/// A project's use of one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InUse {
    pub in_use: i64,
    pub reserved: i64,
}

/// Why a use was refused: the first resource over its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    pub resource: String,
    pub requested: i64,
    pub limit: i64,
    /// In use and reserved.
    pub used: i64,
}

/// Limits by resource: a project's own (`quotas`).
///
/// # Errors
/// The database is away.
pub async fn project_limits(from: &mut impl Read, project: &str) -> Result<BTreeMap<String, i64>> {
    limits(
        from,
        sql("SELECT resource, hard_limit FROM quotas WHERE project_id = ? AND deleted = FALSE ORDER BY id")
            .bind(project),
    )
    .await
}

/// Limits by resource: those of a class (`quota_classes`).
///
/// # Errors
/// The database is away.
pub async fn class_limits(from: &mut impl Read, class: &str) -> Result<BTreeMap<String, i64>> {
    limits(
        from,
        sql("SELECT resource, hard_limit FROM quota_classes WHERE class_name = ? AND deleted = FALSE ORDER BY id").bind(class),
    )
    .await
}

async fn limits(from: &mut impl Read, stmt: crate::sql::Stmt) -> Result<BTreeMap<String, i64>> {
    from.rows(stmt)
        .await?
        .iter()
        .map(|row| Ok((row.get("resource")?, row.get::<Option<i64>>("hard_limit")?.unwrap_or(-1))))
        .collect()
}

/// Sets a project's own limit.
///
/// # Errors
/// The database is away.
pub async fn set_project_limit(tx: &mut Tx, project: &str, resource: &str, limit: i64) -> Result<()> {
    let updated = tx
        .exec(
            sql("UPDATE quotas SET hard_limit = ?, updated_at = {utc} WHERE project_id = ? AND resource = ? AND deleted = FALSE")
                .bind(limit)
                .bind(project)
                .bind(resource),
        )
        .await?;
    if updated == 0 {
        tx.exec(
            sql("INSERT INTO quotas (created_at, deleted, project_id, resource, hard_limit, allocated) \
                 VALUES ({utc}, FALSE, ?, ?, ?, 0)")
            .bind(project)
            .bind(resource)
            .bind(limit),
        )
        .await?;
    }
    Ok(())
}

/// Sets a class's limit.
///
/// # Errors
/// The database is away.
pub async fn set_class_limit(tx: &mut Tx, class: &str, resource: &str, limit: i64) -> Result<()> {
    let updated = tx
        .exec(
            sql("UPDATE quota_classes SET hard_limit = ?, updated_at = {utc} \
                 WHERE class_name = ? AND resource = ? AND deleted = FALSE")
            .bind(limit)
            .bind(class)
            .bind(resource),
        )
        .await?;
    if updated == 0 {
        tx.exec(
            sql("INSERT INTO quota_classes (created_at, deleted, class_name, resource, hard_limit) \
                 VALUES ({utc}, FALSE, ?, ?, ?)")
            .bind(class)
            .bind(resource)
            .bind(limit),
        )
        .await?;
    }
    Ok(())
}

/// Forgets a project's own limits.
///
/// # Errors
/// The database is away.
pub async fn clear_project_limits(tx: &mut Tx, project: &str) -> Result<()> {
    tx.exec(
        sql("UPDATE quotas SET deleted = TRUE, deleted_at = {utc} WHERE project_id = ? AND deleted = FALSE")
            .bind(project),
    )
    .await
    .map(drop)
}

/// A project's use of every resource it has ever used.
///
/// # Errors
/// The database is away.
pub async fn usages(from: &mut impl Read, project: &str) -> Result<BTreeMap<String, InUse>> {
    from.rows(
        sql("SELECT resource, in_use, reserved FROM quota_usages WHERE project_id = ? AND deleted = FALSE")
            .bind(project),
    )
    .await?
    .iter()
    .map(|row| {
        Ok((row.get("resource")?, InUse { in_use: row.get("in_use")?, reserved: row.get("reserved")? }))
    })
    .collect()
}

/// Counts `wanted` of a project's resources at once, each against its limit (-1: none): all or, at the first that does not
/// fit, `Err(Over)` inside `Ok`; the caller then rolls back. Negative deltas never fail.
///
/// # Errors
/// The database is away.
pub async fn take(
    tx: &mut Tx,
    project: &str,
    wanted: &[Usage],
    limits: &BTreeMap<String, i64>,
) -> Result<Result<(), Over>> {
    count(tx, project, wanted, limits, "in_use").await
}

/// As [`take`], but only promised: [`settle`] turns it into use or gives it back.
///
/// # Errors
/// The database is away.
pub async fn reserve(
    tx: &mut Tx,
    project: &str,
    wanted: &[Usage],
    limits: &BTreeMap<String, i64>,
) -> Result<Result<(), Over>> {
    count(tx, project, wanted, limits, "reserved").await
}

async fn count(
    tx: &mut Tx,
    project: &str,
    wanted: &[Usage],
    limits: &BTreeMap<String, i64>,
    column: &str,
) -> Result<Result<(), Over>> {
    for usage in in_order(wanted) {
        ensure_row(tx, project, &usage.resource).await?;
        let limit = limits.get(&usage.resource).copied().unwrap_or(-1);
        let mut stmt = sql(format!(
            "UPDATE quota_usages SET {column} = {column} + ?, updated_at = {{utc}} \
             WHERE project_id = ? AND resource = ? AND deleted = FALSE"
        ))
        .bind(usage.delta)
        .bind(project)
        .bind(&usage.resource);
        if usage.delta > 0 && limit >= 0 {
            stmt = stmt.push(" AND in_use + reserved + ? <= ?").bind(usage.delta).bind(limit);
        }
        if tx.exec(stmt).await? == 0 {
            let used = usages(tx, project).await?.remove(&usage.resource).unwrap_or_default();
            return Ok(Err(Over {
                resource: usage.resource.clone(),
                requested: usage.delta,
                limit,
                used: used.in_use + used.reserved,
            }));
        }
    }
    Ok(Ok(()))
}

/// One order for all, against deadlocks.
fn in_order(usages: &[Usage]) -> Vec<&Usage> {
    let mut usages: Vec<&Usage> = usages.iter().collect();
    usages.sort_by(|a, b| a.resource.cmp(&b.resource));
    usages
}

/// Ends a promise of [`reserve`]: into use when `used`, back otherwise.
///
/// # Errors
/// The database is away.
pub async fn settle(tx: &mut Tx, project: &str, reserved: &[Usage], used: bool) -> Result<()> {
    for usage in in_order(reserved) {
        let gain = if used { usage.delta } else { 0 };
        tx.exec(
            sql("UPDATE quota_usages SET reserved = reserved - ?, in_use = in_use + ?, updated_at = {utc} \
                 WHERE project_id = ? AND resource = ? AND deleted = FALSE")
            .bind(usage.delta)
            .bind(gain)
            .bind(project)
            .bind(&usage.resource),
        )
        .await?;
    }
    Ok(())
}

/// A new row starts at nothing: what a project had before it was counted is found by [`count_uncounted`].
async fn ensure_row(tx: &mut Tx, project: &str, resource: &str) -> Result<()> {
    let there = tx
        .row(
            sql("SELECT id FROM quota_usages WHERE project_id = ? AND resource = ? AND deleted = FALSE")
                .bind(project)
                .bind(resource),
        )
        .await?;
    if there.is_some() {
        return Ok(());
    }
    tx.exec(
        sql("INSERT INTO quota_usages (created_at, updated_at, deleted, project_id, resource, in_use, reserved, \
             race_preventer) VALUES ({utc}, {utc}, FALSE, ?, ?, 0, 0, TRUE) {or_ignore id}")
        .bind(project)
        .bind(resource),
    )
    .await
    .map(drop)
}

/// What a recount of the rows says a project uses, by resource; compared with [`usages`] it must not differ (I6).
///
/// # Errors
/// The database is away.
pub async fn recount(
    from: &mut impl Read,
    project: &str,
    snapshot_gigabytes: bool,
) -> Result<BTreeMap<String, i64>> {
    let mut out = BTreeMap::new();
    let mut add = |resource: String, n: i64| {
        *out.entry(resource).or_insert(0) += n;
    };
    let volumes = from
        .rows(
            sql("SELECT t.name AS type, COUNT(*) AS n, CAST(COALESCE(SUM(v.size), 0) AS {int}) AS size FROM volumes v \
                 LEFT JOIN volume_types t ON t.id = v.volume_type_id \
                 WHERE v.project_id = ? AND v.deleted = FALSE AND v.use_quota = TRUE GROUP BY t.name")
            .bind(project),
        )
        .await?;
    for row in &volumes {
        let (kind, n, size): (Option<String>, i64, i64) = (row.get("type")?, row.get("n")?, row.get("size")?);
        add("volumes".into(), n);
        add("gigabytes".into(), size);
        if let Some(kind) = kind {
            add(format!("volumes_{kind}"), n);
            add(format!("gigabytes_{kind}"), size);
        }
    }
    let snapshots = from
        .rows(
            sql("SELECT t.name AS type, COUNT(*) AS n, CAST(COALESCE(SUM(s.volume_size), 0) AS {int}) AS size \
                 FROM snapshots s LEFT JOIN volume_types t ON t.id = s.volume_type_id \
                 WHERE s.project_id = ? AND s.deleted = FALSE AND s.use_quota = TRUE GROUP BY t.name")
            .bind(project),
        )
        .await?;
    for row in &snapshots {
        let (kind, n, size): (Option<String>, i64, i64) = (row.get("type")?, row.get("n")?, row.get("size")?);
        let size = if snapshot_gigabytes { size } else { 0 };
        add("snapshots".into(), n);
        add("gigabytes".into(), size);
        if let Some(kind) = kind {
            add(format!("snapshots_{kind}"), n);
            add(format!("gigabytes_{kind}"), size);
        }
    }
    let backups = from
        .row(
            sql("SELECT COUNT(*) AS n, CAST(COALESCE(SUM(size), 0) AS {int}) AS size FROM backups \
                 WHERE project_id = ? AND deleted = FALSE")
            .bind(project),
        )
        .await?;
    if let Some(row) = backups {
        add("backups".into(), row.get("n")?);
        add("backup_gigabytes".into(), row.get("size")?);
    }
    let groups =
        sql("SELECT COUNT(*) AS n FROM \"groups\" WHERE project_id = ? AND deleted = FALSE").bind(project);
    if let Some(row) = from.row(groups).await? {
        add("groups".into(), row.get("n")?);
    }
    Ok(out)
}

/// Every project that has usage rows.
///
/// # Errors
/// The database is away.
pub async fn projects(from: &mut impl Read) -> Result<Vec<String>> {
    from.rows(sql("SELECT DISTINCT project_id FROM quota_usages WHERE deleted = FALSE ORDER BY project_id"))
        .await?
        .iter()
        .map(|row| row.get("project_id"))
        .collect()
}

/// Gives every project usage rows for what it has and no row counts: once, when a database of Cinder's is opened.
///
/// # Errors
/// The database is away.
pub async fn count_uncounted(tx: &mut Tx) -> Result<()> {
    let owners = tx
        .rows(sql("SELECT project_id FROM volumes WHERE deleted = FALSE AND project_id IS NOT NULL \
                   UNION SELECT project_id FROM snapshots WHERE deleted = FALSE AND project_id IS NOT NULL \
                   UNION SELECT project_id FROM backups WHERE deleted = FALSE AND project_id IS NOT NULL \
                   UNION SELECT project_id FROM \"groups\" WHERE deleted = FALSE AND project_id IS NOT NULL"))
        .await?;
    for row in owners {
        let project: String = row.get("project_id")?;
        let counted = usages(tx, &project).await?;
        for (resource, uses) in recount(tx, &project, true).await? {
            if uses != 0 && !counted.contains_key(&resource) {
                ensure_row(tx, &project, &resource).await?;
                count(tx, &project, &[Usage::of(resource, uses)], &BTreeMap::new(), "in_use").await?.ok();
            }
        }
    }
    Ok(())
}

/// Renames a type's resources with the type (quotas.md). Counts that a type of that name has left behind make room.
///
/// # Errors
/// The database is away.
pub async fn rename_type(tx: &mut Tx, old: &str, new: &str) -> Result<()> {
    for resource in ["volumes", "gigabytes", "snapshots"] {
        let (old, new) = (format!("{resource}_{old}"), format!("{resource}_{new}"));
        tx.exec(
            sql("UPDATE quota_usages SET deleted = TRUE, deleted_at = {utc}, race_preventer = NULL \
                 WHERE resource = ? AND deleted = FALSE")
            .bind(&new),
        )
        .await?;
        for table in ["quotas", "quota_classes", "quota_usages"] {
            let text = format!("UPDATE {table} SET resource = ? WHERE resource = ? AND deleted = FALSE");
            tx.exec(sql(text).bind(&new).bind(&old)).await?;
        }
    }
    Ok(())
}

/// Removes the limits of a type that is gone.
///
/// # Errors
/// The database is away.
pub async fn forget_type(tx: &mut Tx, name: &str) -> Result<()> {
    let resources: Vec<String> =
        ["volumes", "gigabytes", "snapshots"].iter().map(|resource| format!("{resource}_{name}")).collect();
    for table in ["quotas", "quota_classes"] {
        tx.exec(
            sql(format!(
                "UPDATE {table} SET deleted = TRUE, deleted_at = {{utc}} WHERE deleted = FALSE AND resource IN ({})",
                marks(resources.len())
            ))
            .bind_all(&resources),
        )
        .await?;
    }
    Ok(())
}
