//! Volume types, their extra specs and who may use private ones.

use std::collections::{BTreeMap, HashMap};

use model::list::{ListQuery, Listed};
use model::{TypeId, VolumeType};

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::key_value::KeyValues;
use crate::page::{ColumnKind, Listing};
use crate::sql::{Row, marks, sql};

const SPECS: KeyValues = KeyValues { table: "volume_type_extra_specs", owner: "volume_type_id" };

const COLUMNS: &[(&str, ColumnKind)] = {
    use ColumnKind::{Bool, Text, Time};
    &[
        ("id", Text),
        ("name", Text),
        ("description", Text),
        ("is_public", Bool),
        ("qos_specs_id", Text),
        ("created_at", Time),
        ("updated_at", Time),
    ]
};

/// Makes a type.
///
/// # Errors
/// The database is away.
pub async fn insert(
    tx: &mut Tx,
    id: TypeId,
    name: &str,
    description: Option<&str>,
    is_public: bool,
) -> Result<()> {
    tx.exec(
        sql("INSERT INTO volume_types (created_at, deleted, id, name, description, is_public) \
             VALUES ({utc}, FALSE, ?, ?, ?, ?)")
        .bind(id)
        .bind(name)
        .bind(description)
        .bind(is_public),
    )
    .await
    .map(drop)
}

/// A live type by its id.
///
/// # Errors
/// The database is away.
pub async fn get(from: &mut impl Read, id: TypeId) -> Result<Option<VolumeType>> {
    let rows = from.rows(sql("SELECT * FROM volume_types WHERE id = ? AND deleted = FALSE").bind(id)).await?;
    Ok(complete(from, rows).await?.pop())
}

/// A live type by its name.
///
/// # Errors
/// The database is away.
pub async fn by_name(from: &mut impl Read, name: &str) -> Result<Option<VolumeType>> {
    let rows =
        from.rows(sql("SELECT * FROM volume_types WHERE name = ? AND deleted = FALSE").bind(name)).await?;
    Ok(complete(from, rows).await?.pop())
}

/// A page of types: all of them when `access` is `None`, else public ones and those the project has been given.
///
/// # Errors
/// A bad sort key or marker, or the database is away.
pub async fn list(
    from: &mut impl Read,
    query: &ListQuery,
    access: Option<&str>,
) -> Result<Listed<VolumeType>> {
    let mut query = query.clone();
    query.project_id = None;
    let mut listing = Listing { table: "volume_types", columns: COLUMNS, metadata: Some(SPECS), also: "" };
    if let Some(project) = access {
        let mine = from
            .rows(
                sql("SELECT volume_type_id AS id FROM volume_type_projects WHERE project_id = ? AND deleted = 0").bind(project),
            )
            .await?;
        let ids: Vec<String> = mine.iter().map(|row| row.get("id")).collect::<Result<_>>()?;
        if ids.is_empty() {
            listing.also = " AND is_public = TRUE";
        } else {
            // A derived table keeps the list machinery free of joins.
            listing.table = "(SELECT t.* FROM volume_types t WHERE t.is_public = TRUE OR t.id IN \
                             (SELECT p.volume_type_id FROM volume_type_projects p WHERE p.deleted = 0 \
                             AND p.project_id = ?)) volume_types";
            return list_of(from, &query, &listing, Some(project)).await;
        }
    }
    list_of(from, &query, &listing, None).await
}

async fn list_of(
    from: &mut impl Read,
    query: &ListQuery,
    listing: &Listing,
    project: Option<&str>,
) -> Result<Listed<VolumeType>> {
    let (rows, count) = listing.page_with(from, query, project).await?;
    Ok(Listed { items: complete(from, rows).await?, count })
}

/// The names of types, deleted ones included.
///
/// # Errors
/// The database is away.
pub async fn names(
    from: &mut impl Read,
    ids: impl Iterator<Item = TypeId>,
) -> Result<HashMap<TypeId, String>> {
    let mut ids: Vec<TypeId> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    let text = format!("SELECT id, name FROM volume_types WHERE id IN ({})", marks(ids.len()));
    from.rows(sql(text).bind_all(ids))
        .await?
        .iter()
        .map(|row| Ok((row.parse("volume_types", "id")?, row.get("name")?)))
        .collect()
}

async fn complete(from: &mut impl Read, rows: Vec<Row>) -> Result<Vec<VolumeType>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut types: Vec<VolumeType> = rows.iter().map(read).collect::<Result<_>>()?;
    let ids: Vec<TypeId> = types.iter().map(|kind| kind.id).collect();
    let mut specs = SPECS.texts_of(from, &ids).await?;
    for kind in &mut types {
        kind.extra_specs = specs.remove(&kind.id).unwrap_or_default();
    }
    Ok(types)
}

/// Sets name, description, visibility; a field that is `None` stays.
///
/// # Errors
/// The database is away.
pub async fn update(
    tx: &mut Tx,
    id: TypeId,
    name: Option<&str>,
    description: Option<&str>,
    is_public: Option<bool>,
) -> Result<()> {
    tx.exec(
        sql("UPDATE volume_types SET name = COALESCE(?, name), description = COALESCE(?, description), \
             is_public = COALESCE(?, is_public), updated_at = {utc} WHERE id = ? AND deleted = FALSE")
        .bind(name)
        .bind(description)
        .bind(is_public)
        .bind(id),
    )
    .await
    .map(drop)
}

/// Removes a type with its specs and its access list.
///
/// # Errors
/// The database is away.
pub async fn delete(tx: &mut Tx, id: TypeId) -> Result<()> {
    tx.exec(
        sql("UPDATE volume_types SET deleted = TRUE, deleted_at = {utc} WHERE id = ? AND deleted = FALSE")
            .bind(id),
    )
    .await?;
    tx.exec(
        sql("UPDATE volume_type_extra_specs SET deleted = TRUE, deleted_at = {utc} \
             WHERE volume_type_id = ? AND deleted = FALSE")
        .bind(id),
    )
    .await?;
    tx.exec(
        sql("UPDATE volume_type_projects SET deleted = id, deleted_at = {utc} WHERE volume_type_id = ? AND deleted = 0")
            .bind(id),
    )
    .await
    .map(drop)
}

/// How many live volumes have the type.
///
/// # Errors
/// The database is away.
pub async fn in_use(from: &mut impl Read, id: TypeId) -> Result<u64> {
    let row = from
        .row(sql("SELECT COUNT(*) AS n FROM volumes WHERE volume_type_id = ? AND deleted = FALSE").bind(id))
        .await?;
    Ok(row.map_or(Ok(0), |row| row.get::<i64>("n"))? as u64)
}

/// How many live types there are.
///
/// # Errors
/// The database is away.
pub async fn count(from: &mut impl Read) -> Result<u64> {
    let row = from.row(sql("SELECT COUNT(*) AS n FROM volume_types WHERE deleted = FALSE")).await?;
    Ok(row.map_or(Ok(0), |row| row.get::<i64>("n"))? as u64)
}

/// Sets one extra spec.
///
/// # Errors
/// The database is away.
pub async fn put_spec(tx: &mut Tx, id: TypeId, key: &str, value: Option<&str>) -> Result<()> {
    SPECS.put(tx, id, key, value).await
}

/// Removes one extra spec; whether it was there.
///
/// # Errors
/// The database is away.
pub async fn drop_spec(tx: &mut Tx, id: TypeId, key: &str) -> Result<bool> {
    SPECS.remove(tx, id, key).await
}

/// The projects that may use a private type.
///
/// # Errors
/// The database is away.
pub async fn access(from: &mut impl Read, id: TypeId) -> Result<Vec<String>> {
    from.rows(
        sql("SELECT project_id FROM volume_type_projects WHERE volume_type_id = ? AND deleted = 0 ORDER BY id").bind(id),
    )
    .await?
    .iter()
    .map(|row| row.get("project_id"))
    .collect()
}

/// Lets a project use a private type; whether it could not before.
///
/// # Errors
/// The database is away.
pub async fn grant(tx: &mut Tx, id: TypeId, project: &str) -> Result<bool> {
    // One grant of a type after the other: of two at once, one is told that the project had it.
    tx.row(sql("SELECT id FROM volume_types WHERE id = ? {for_update}").bind(id)).await?;
    let had = sql(
        "SELECT id FROM volume_type_projects WHERE volume_type_id = ? AND project_id = ? AND deleted = 0",
    );
    if tx.row(had.bind(id).bind(project)).await?.is_some() {
        return Ok(false);
    }
    tx.exec(
        sql("INSERT INTO volume_type_projects (created_at, volume_type_id, project_id, deleted) VALUES ({utc}, ?, ?, 0)")
            .bind(id)
            .bind(project),
    )
    .await?;
    Ok(true)
}

/// Takes a project's right to a private type away; whether it had it.
///
/// # Errors
/// The database is away.
pub async fn revoke(tx: &mut Tx, id: TypeId, project: &str) -> Result<bool> {
    let stmt = sql("UPDATE volume_type_projects SET deleted = id, deleted_at = {utc} \
                    WHERE volume_type_id = ? AND project_id = ? AND deleted = 0");
    Ok(tx.exec(stmt.bind(id).bind(project)).await? > 0)
}

fn read(row: &Row) -> Result<VolumeType> {
    Ok(VolumeType {
        id: row.parse("volume_types", "id")?,
        name: row.get::<Option<String>>("name")?.unwrap_or_default(),
        description: row.get("description")?,
        is_public: row.get::<Option<bool>>("is_public")?.unwrap_or(true),
        qos_specs_id: row.parse_opt("volume_types", "qos_specs_id")?,
        extra_specs: BTreeMap::new(),
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}
