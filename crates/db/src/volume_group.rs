//! Groups of volumes: their rows, the types they take, who is in them.

use std::collections::{HashMap, HashSet};

use model::group::CONSISTENCY_TYPE;
use model::list::{Compare, Direction, Filter, ListQuery, Listed};
use model::{
    Group, GroupId, GroupSnapshotId, GroupStatus, GroupTypeId, PoolRef, TypeId, Volume, VolumeId,
    VolumeStatus,
};

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::page::{ColumnKind, Listing};
use crate::sql::{Row, marks, sql};

const COLUMNS: &[(&str, ColumnKind)] = {
    use ColumnKind::{Host, Text, Time};
    &[
        ("id", Text),
        ("name", Text),
        ("description", Text),
        ("status", Text),
        ("user_id", Text),
        ("project_id", Text),
        ("host", Host),
        ("cluster_name", Host),
        ("availability_zone", Text),
        ("group_type_id", Text),
        ("group_snapshot_id", Text),
        ("source_group_id", Text),
        ("replication_status", Text),
        ("created_at", Time),
        ("updated_at", Time),
    ]
};

const EVERY: Listing = Listing { table: "\"groups\"", columns: COLUMNS, metadata: None, also: "" };

/// Without legacy consistency groups.
const GENERIC: Listing = Listing {
    also: " AND (group_type_id IS NULL OR group_type_id NOT IN \
           (SELECT t.id FROM group_types t WHERE t.name = 'default_cgsnapshot_type'))",
    ..EVERY
};

/// Which groups a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Every,
    /// All but legacy consistency groups.
    Generic,
}

/// What a new group's row holds.
#[derive(Debug, Clone)]
pub struct NewGroup {
    pub id: GroupId,
    pub user_id: String,
    pub project_id: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub availability_zone: Option<String>,
    pub host: Option<PoolRef>,
    pub type_id: GroupTypeId,
    pub volume_types: Vec<TypeId>,
    pub group_snapshot_id: Option<GroupSnapshotId>,
    pub source_group_id: Option<GroupId>,
}

/// Makes the row of a group that is `creating`.
///
/// # Errors
/// The database is away.
pub async fn insert(tx: &mut Tx, new: &NewGroup) -> Result<()> {
    tx.exec(
        sql("INSERT INTO \"groups\" (created_at, deleted, id, user_id, project_id, host, availability_zone, name, \
             description, group_type_id, status, group_snapshot_id, source_group_id, replication_status) \
             VALUES ({utc}, FALSE, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'disabled')")
        .bind(new.id)
        .bind(&new.user_id)
        .bind(&new.project_id)
        .bind(new.host.clone())
        .bind(new.availability_zone.clone())
        .bind(new.name.clone())
        .bind(new.description.clone())
        .bind(new.type_id)
        .bind(GroupStatus::Creating)
        .bind(new.group_snapshot_id)
        .bind(new.source_group_id),
    )
    .await?;
    for kind in &new.volume_types {
        let stmt =
            sql("INSERT INTO group_volume_type_mapping (created_at, deleted, volume_type_id, group_id) \
                        VALUES ({utc}, FALSE, ?, ?)");
        tx.exec(stmt.bind(*kind).bind(new.id)).await?;
    }
    Ok(())
}

/// A live group.
///
/// # Errors
/// The database is away.
pub async fn get(from: &mut impl Read, id: GroupId) -> Result<Option<Group>> {
    let rows = from.rows(sql("SELECT * FROM \"groups\" WHERE id = ? AND deleted = FALSE").bind(id)).await?;
    Ok(complete(from, rows).await?.pop())
}

/// A page of groups.
///
/// # Errors
/// A bad sort key or marker, or the database is away.
pub async fn list(from: &mut impl Read, query: &ListQuery, which: Which) -> Result<Listed<Group>> {
    let listing = if which == Which::Every { &EVERY } else { &GENERIC };
    let (rows, count) = listing.page(from, query).await?;
    Ok(Listed { items: complete(from, rows).await?, count })
}

/// Holds a group in one of these statuses until the transaction ends; whether it is in one.
///
/// # Errors
/// The database is away.
pub async fn hold(tx: &mut Tx, id: GroupId, statuses: &[GroupStatus]) -> Result<bool> {
    let text = format!(
        "UPDATE \"groups\" SET updated_at = updated_at WHERE id = ? AND deleted = FALSE AND status IN ({})",
        marks(statuses.len())
    );
    Ok(tx.exec(sql(text).bind(id).bind_all(statuses.iter().copied())).await? > 0)
}

/// Records where the scheduler has put a group.
///
/// # Errors
/// The database is away.
pub async fn place(tx: &mut Tx, id: GroupId, pool: &PoolRef) -> Result<()> {
    let stmt = sql("UPDATE \"groups\" SET host = ?, updated_at = {utc} WHERE id = ? AND deleted = FALSE");
    tx.exec(stmt.bind(pool).bind(id)).await.map(drop)
}

/// Sets the name and the description; a field that is `None` stays.
///
/// # Errors
/// The database is away.
pub async fn rename(tx: &mut Tx, id: GroupId, name: Option<&str>, description: Option<&str>) -> Result<()> {
    let stmt =
        sql("UPDATE \"groups\" SET name = COALESCE(?, name), description = COALESCE(?, description), \
                    updated_at = {utc} WHERE id = ? AND deleted = FALSE");
    tx.exec(stmt.bind(name).bind(description).bind(id)).await.map(drop)
}

/// Live volumes of a group, oldest first.
///
/// # Errors
/// The database is away.
pub async fn volumes(from: &mut impl Read, id: GroupId) -> Result<Vec<Volume>> {
    let mut query = ListQuery::all(None);
    query.filters.push(Filter {
        field: "group_id".into(),
        compare: Compare::Equal,
        value: id.to_string().into(),
    });
    query.sort = vec![("created_at".into(), Direction::Ascending)];
    // All there are: a project's quota bounds them.
    query.limit = i32::MAX.unsigned_abs();
    Ok(crate::volume::list(from, &query).await?.items)
}

/// Puts a volume that is in no group, not migrating and in one of these statuses, into a group; whether it was.
///
/// # Errors
/// The database is away.
pub async fn join(tx: &mut Tx, volume: VolumeId, group: GroupId, statuses: &[VolumeStatus]) -> Result<bool> {
    let text = format!(
        "UPDATE volumes SET group_id = ?, updated_at = {{utc}} \
         WHERE id = ? AND deleted = FALSE AND group_id IS NULL AND status IN ({}) \
         AND (migration_status IS NULL OR migration_status IN ('deleting', 'error', 'success'))",
        marks(statuses.len())
    );
    Ok(tx.exec(sql(text).bind(group).bind(volume).bind_all(statuses.iter().copied())).await? > 0)
}

/// A new volume's row belongs to a group from the start.
///
/// # Errors
/// The database is away.
pub async fn born_in(tx: &mut Tx, volume: VolumeId, group: GroupId) -> Result<()> {
    tx.exec(sql("UPDATE volumes SET group_id = ? WHERE id = ?").bind(group).bind(volume)).await.map(drop)
}

/// Takes a volume in one of these statuses out of its group; whether it was in it.
///
/// # Errors
/// The database is away.
pub async fn leave(tx: &mut Tx, volume: VolumeId, group: GroupId, statuses: &[VolumeStatus]) -> Result<bool> {
    let text = format!(
        "UPDATE volumes SET group_id = NULL, updated_at = {{utc}} \
         WHERE id = ? AND deleted = FALSE AND group_id = ? AND status IN ({})",
        marks(statuses.len())
    );
    Ok(tx.exec(sql(text).bind(volume).bind(group).bind_all(statuses.iter().copied())).await? > 0)
}

/// Notes how the replication of a group and of its volumes stands.
///
/// # Errors
/// The database is away.
pub async fn set_replication(tx: &mut Tx, id: GroupId, status: &str) -> Result<()> {
    for text in [
        "UPDATE \"groups\" SET replication_status = ?, updated_at = {utc} WHERE id = ? AND deleted = FALSE",
        "UPDATE volumes SET replication_status = ?, updated_at = {utc} WHERE group_id = ? AND deleted = FALSE",
    ] {
        tx.exec(sql(text).bind(status).bind(id)).await?;
    }
    Ok(())
}

/// Which of these groups are legacy consistency groups.
pub(crate) async fn legacy_of(from: &mut impl Read, groups: &[&str]) -> Result<HashSet<String>> {
    if groups.is_empty() {
        return Ok(HashSet::new());
    }
    let text = format!(
        "SELECT g.id FROM \"groups\" g JOIN group_types t ON t.id = g.group_type_id WHERE t.name = ? AND g.id IN ({})",
        marks(groups.len())
    );
    let rows = from.rows(sql(text).bind(CONSISTENCY_TYPE).bind_all(groups.iter().copied())).await?;
    rows.iter().map(|row| row.get("id")).collect()
}

async fn complete(from: &mut impl Read, rows: Vec<Row>) -> Result<Vec<Group>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut groups: Vec<Group> = rows.iter().map(read).collect::<Result<_>>()?;
    let ids: Vec<String> = groups.iter().map(|group| group.id.to_string()).collect();
    let texts: Vec<&str> = ids.iter().map(String::as_str).collect();
    let legacy = legacy_of(from, &texts).await?;
    let text = format!(
        "SELECT group_id, volume_type_id FROM group_volume_type_mapping \
         WHERE deleted = FALSE AND group_id IN ({}) ORDER BY id",
        marks(ids.len())
    );
    let mut types: HashMap<GroupId, Vec<TypeId>> = HashMap::new();
    for row in from.rows(sql(text).bind_all(ids.iter().map(String::as_str))).await? {
        let group: GroupId = row.parse("group_volume_type_mapping", "group_id")?;
        types.entry(group).or_default().push(row.parse("group_volume_type_mapping", "volume_type_id")?);
    }
    for (group, id) in groups.iter_mut().zip(&ids) {
        group.volume_types = types.remove(&group.id).unwrap_or_default();
        group.legacy = legacy.contains(id);
    }
    Ok(groups)
}

fn read(row: &Row) -> Result<Group> {
    let host: Option<String> = row.get("host")?;
    Ok(Group {
        id: row.parse("groups", "id")?,
        user_id: row.get("user_id")?,
        project_id: row.get("project_id")?,
        host: host.filter(|host| !host.is_empty()).and_then(|host| host.parse().ok()),
        availability_zone: row.get("availability_zone")?,
        name: row.get("name")?,
        description: row.get("description")?,
        type_id: row.parse("groups", "group_type_id")?,
        legacy: false,
        status: row.parse("groups", "status")?,
        group_snapshot_id: row.parse_opt("groups", "group_snapshot_id")?,
        source_group_id: row.parse_opt("groups", "source_group_id")?,
        replication_status: row.get("replication_status")?,
        volume_types: Vec::new(),
        created_at: row.get("created_at")?,
    })
}
