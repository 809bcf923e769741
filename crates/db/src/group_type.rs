//! Group types and their specs.

use model::list::{ListQuery, Listed};
use model::{GroupType, GroupTypeId};

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::key_value::KeyValues;
use crate::page::{ColumnKind, Listing};
use crate::sql::{Row, sql};

const SPECS: KeyValues = KeyValues { table: "group_type_specs", owner: "group_type_id" };

const LISTING: Listing = Listing {
    table: "group_types",
    columns: {
        use ColumnKind::{Bool, Text, Time};
        &[
            ("id", Text),
            ("name", Text),
            ("description", Text),
            ("is_public", Bool),
            ("created_at", Time),
            ("updated_at", Time),
        ]
    },
    metadata: None,
    also: "",
};

/// Makes a type with its specs.
///
/// # Errors
/// The database is away.
pub async fn insert(tx: &mut Tx, new: &GroupType) -> Result<()> {
    let stmt = sql("INSERT INTO group_types (created_at, deleted, id, name, description, is_public) \
                    VALUES ({utc}, FALSE, ?, ?, ?, ?)");
    tx.exec(stmt.bind(new.id).bind(&new.name).bind(new.description.as_deref()).bind(new.is_public)).await?;
    for (key, value) in &new.specs {
        put_spec(tx, new.id, key, value.as_deref()).await?;
    }
    Ok(())
}

/// A live type by its id.
///
/// # Errors
/// The database is away.
pub async fn get(from: &mut impl Read, id: GroupTypeId) -> Result<Option<GroupType>> {
    let rows = from.rows(sql("SELECT * FROM group_types WHERE id = ? AND deleted = FALSE").bind(id)).await?;
    Ok(complete(from, rows).await?.pop())
}

/// A live type by its name.
///
/// # Errors
/// The database is away.
pub async fn by_name(from: &mut impl Read, name: &str) -> Result<Option<GroupType>> {
    let stmt = sql("SELECT * FROM group_types WHERE name = {exact}? AND deleted = FALSE").bind(name);
    let rows = from.rows(stmt).await?;
    Ok(complete(from, rows).await?.pop())
}

/// A page of types.
///
/// # Errors
/// A bad sort key or marker, or the database is away.
pub async fn list(from: &mut impl Read, query: &ListQuery) -> Result<Listed<GroupType>> {
    let query = ListQuery { project_id: None, ..query.clone() };
    let (rows, count) = LISTING.page(from, &query).await?;
    Ok(Listed { items: complete(from, rows).await?, count })
}

/// Sets name, description, visibility; a field that is `None` stays.
///
/// # Errors
/// The database is away.
pub async fn update(
    tx: &mut Tx,
    id: GroupTypeId,
    name: Option<&str>,
    description: Option<&str>,
    is_public: Option<bool>,
) -> Result<()> {
    let stmt =
        sql("UPDATE group_types SET name = COALESCE(?, name), description = COALESCE(?, description), \
                    is_public = COALESCE(?, is_public), updated_at = {utc} WHERE id = ? AND deleted = FALSE");
    tx.exec(stmt.bind(name).bind(description).bind(is_public).bind(id)).await.map(drop)
}

/// Whether live groups have the type.
///
/// # Errors
/// The database is away.
pub async fn in_use(from: &mut impl Read, id: GroupTypeId) -> Result<bool> {
    let stmt = sql("SELECT id FROM \"groups\" WHERE group_type_id = ? AND deleted = FALSE LIMIT 1").bind(id);
    Ok(from.row(stmt).await?.is_some())
}

/// Removes a type with its specs.
///
/// # Errors
/// The database is away.
pub async fn delete(tx: &mut Tx, id: GroupTypeId) -> Result<()> {
    for (table, column) in [("group_types", "id"), ("group_type_specs", "group_type_id")] {
        let text = format!(
            "UPDATE {table} SET deleted = TRUE, deleted_at = {{utc}} WHERE {column} = ? AND deleted = FALSE"
        );
        tx.exec(sql(text).bind(id)).await?;
    }
    Ok(())
}

/// Sets one spec.
///
/// # Errors
/// The database is away.
pub async fn put_spec(tx: &mut Tx, id: GroupTypeId, key: &str, value: Option<&str>) -> Result<()> {
    SPECS.put(tx, id, key, value).await
}

/// Removes one spec; whether it was there.
///
/// # Errors
/// The database is away.
pub async fn drop_spec(tx: &mut Tx, id: GroupTypeId, key: &str) -> Result<bool> {
    SPECS.remove(tx, id, key).await
}

async fn complete(from: &mut impl Read, rows: Vec<Row>) -> Result<Vec<GroupType>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut types: Vec<GroupType> = rows.iter().map(read).collect::<Result<_>>()?;
    let ids: Vec<GroupTypeId> = types.iter().map(|one| one.id).collect();
    let mut specs = SPECS.of(from, &ids).await?;
    for one in &mut types {
        one.specs = specs.remove(&one.id).unwrap_or_default();
    }
    Ok(types)
}

fn read(row: &Row) -> Result<GroupType> {
    Ok(GroupType {
        id: row.parse("group_types", "id")?,
        name: row.get("name")?,
        description: row.get("description")?,
        is_public: row.get::<Option<bool>>("is_public")?.unwrap_or(true),
        specs: Default::default(),
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}
