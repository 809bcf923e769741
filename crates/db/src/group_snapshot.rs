//! Snapshots of groups of volumes.

use std::collections::HashSet;

use model::group::CONSISTENCY_TYPE;
use model::list::{Compare, Direction, Filter, ListQuery, Listed};
use model::{
    GroupId, GroupSnapshot, GroupSnapshotId, GroupSnapshotStatus, GroupTypeId, Snapshot, SnapshotId,
};

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::page::{ColumnKind, Listing};
use crate::sql::{Row, marks, sql};
use crate::volume_group::Which;

const EVERY: Listing = Listing {
    table: "group_snapshots",
    columns: {
        use ColumnKind::{Text, Time};
        &[
            ("id", Text),
            ("group_id", Text),
            ("group_type_id", Text),
            ("name", Text),
            ("description", Text),
            ("status", Text),
            ("user_id", Text),
            ("project_id", Text),
            ("created_at", Time),
            ("updated_at", Time),
        ]
    },
    metadata: None,
    also: "",
};

const GENERIC: Listing = Listing {
    also: " AND (group_type_id IS NULL OR group_type_id NOT IN \
           (SELECT t.id FROM group_types t WHERE t.name = 'default_cgsnapshot_type'))",
    ..EVERY
};

/// What a new group snapshot's row holds.
#[derive(Debug, Clone)]
pub struct NewGroupSnapshot {
    pub id: GroupSnapshotId,
    pub group_id: GroupId,
    pub type_id: GroupTypeId,
    pub user_id: String,
    pub project_id: String,
    pub name: Option<String>,
    pub description: Option<String>,
}

/// Makes the row of a group snapshot that is `creating`.
///
/// # Errors
/// The database is away.
pub async fn insert(tx: &mut Tx, new: &NewGroupSnapshot) -> Result<()> {
    tx.exec(
        sql("INSERT INTO group_snapshots (created_at, deleted, id, group_id, user_id, project_id, name, description, \
             status, group_type_id) VALUES ({utc}, FALSE, ?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(new.id)
        .bind(new.group_id)
        .bind(&new.user_id)
        .bind(&new.project_id)
        .bind(new.name.clone())
        .bind(new.description.clone())
        .bind(GroupSnapshotStatus::Creating)
        .bind(new.type_id),
    )
    .await
    .map(drop)
}

/// A live group snapshot.
///
/// # Errors
/// The database is away.
pub async fn get(from: &mut impl Read, id: GroupSnapshotId) -> Result<Option<GroupSnapshot>> {
    let stmt = sql("SELECT * FROM group_snapshots WHERE id = ? AND deleted = FALSE").bind(id);
    let rows = from.rows(stmt).await?;
    Ok(complete(from, rows).await?.pop())
}

/// A page of group snapshots.
///
/// # Errors
/// A bad sort key or marker, or the database is away.
pub async fn list(from: &mut impl Read, query: &ListQuery, which: Which) -> Result<Listed<GroupSnapshot>> {
    let listing = if which == Which::Every { &EVERY } else { &GENERIC };
    let (rows, count) = listing.page(from, query).await?;
    Ok(Listed { items: complete(from, rows).await?, count })
}

/// Holds a group snapshot in one of these statuses until the transaction ends; whether it is in one.
///
/// # Errors
/// The database is away.
pub async fn hold(tx: &mut Tx, id: GroupSnapshotId, statuses: &[GroupSnapshotStatus]) -> Result<bool> {
    let text = format!(
        "UPDATE group_snapshots SET updated_at = updated_at WHERE id = ? AND deleted = FALSE AND status IN ({})",
        marks(statuses.len())
    );
    Ok(tx.exec(sql(text).bind(id).bind_all(statuses.iter().copied())).await? > 0)
}

/// A new snapshot's row is part of a group snapshot from the start.
///
/// # Errors
/// The database is away.
pub async fn born_in(tx: &mut Tx, snapshot: SnapshotId, whole: GroupSnapshotId) -> Result<()> {
    let stmt = sql("UPDATE snapshots SET group_snapshot_id = ? WHERE id = ?").bind(whole).bind(snapshot);
    tx.exec(stmt).await.map(drop)
}

/// Live snapshots that a group snapshot is made of, in the order of their volumes.
///
/// # Errors
/// The database is away.
pub async fn snapshots(from: &mut impl Read, id: GroupSnapshotId) -> Result<Vec<Snapshot>> {
    let mut query = ListQuery::all(None);
    query.filters.push(Filter {
        field: "group_snapshot_id".into(),
        compare: Compare::Equal,
        value: id.to_string().into(),
    });
    query.sort = vec![("volume_id".into(), Direction::Ascending)];
    // All there are: a project's quota bounds them.
    query.limit = i32::MAX.unsigned_abs();
    Ok(crate::snapshot::list(from, &query).await?.items)
}

async fn complete(from: &mut impl Read, rows: Vec<Row>) -> Result<Vec<GroupSnapshot>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let stmt = sql("SELECT id FROM group_types WHERE name = ?").bind(CONSISTENCY_TYPE);
    let legacy: HashSet<GroupTypeId> =
        from.rows(stmt).await?.iter().map(|row| row.parse("group_types", "id")).collect::<Result<_>>()?;
    let mut found: Vec<GroupSnapshot> = rows.iter().map(read).collect::<Result<_>>()?;
    for one in &mut found {
        one.legacy = one.type_id.is_some_and(|id| legacy.contains(&id));
    }
    Ok(found)
}

fn read(row: &Row) -> Result<GroupSnapshot> {
    Ok(GroupSnapshot {
        id: row.parse("group_snapshots", "id")?,
        group_id: row.parse("group_snapshots", "group_id")?,
        type_id: row.parse_opt("group_snapshots", "group_type_id")?,
        legacy: false,
        user_id: row.get("user_id")?,
        project_id: row.get("project_id")?,
        name: row.get("name")?,
        description: row.get("description")?,
        status: row.parse("group_snapshots", "status")?,
        created_at: row.get("created_at")?,
    })
}
