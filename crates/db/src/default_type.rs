//! The default volume types of projects.

use model::TypeId;

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::sql::{Row, sql};

/// Gives a project its default type, in place of one that it has.
///
/// # Errors
/// The database is away.
pub async fn set(tx: &mut Tx, project: &str, type_id: TypeId) -> Result<()> {
    // The project is the key: a row that was deleted comes back.
    let row = sql("INSERT INTO default_volume_types (created_at, deleted, project_id, volume_type_id) \
                   VALUES ({utc}, FALSE, ?, ?) {or_keep project_id}");
    tx.exec(row.bind(project).bind(type_id)).await?;
    let set = sql("UPDATE default_volume_types SET volume_type_id = ?, deleted = FALSE, deleted_at = NULL, \
                   updated_at = {utc} WHERE project_id = ?");
    tx.exec(set.bind(type_id).bind(project)).await.map(drop)
}

/// A project's default type.
///
/// # Errors
/// The database is away.
pub async fn of_project(from: &mut impl Read, project: &str) -> Result<Option<TypeId>> {
    let stmt =
        sql("SELECT volume_type_id FROM default_volume_types WHERE project_id = ? AND deleted = FALSE");
    let row = from.row(stmt.bind(project)).await?;
    row.map_or(Ok(None), |row| row.parse_opt("default_volume_types", "volume_type_id"))
}

/// Every project that has one, with it.
///
/// # Errors
/// The database is away.
pub async fn list(from: &mut impl Read) -> Result<Vec<(String, TypeId)>> {
    let stmt = sql("SELECT project_id, volume_type_id FROM default_volume_types \
                    WHERE deleted = FALSE AND volume_type_id IS NOT NULL ORDER BY created_at, project_id");
    let pair = |row: &Row| -> Result<_> {
        Ok((row.get("project_id")?, row.parse("default_volume_types", "volume_type_id")?))
    };
    from.rows(stmt).await?.iter().map(pair).collect()
}

/// Takes a project's default type away.
///
/// # Errors
/// The database is away.
pub async fn unset(tx: &mut Tx, project: &str) -> Result<()> {
    let stmt = sql("UPDATE default_volume_types SET deleted = TRUE, deleted_at = {utc} \
                    WHERE project_id = ? AND deleted = FALSE");
    tx.exec(stmt.bind(project)).await.map(drop)
}

/// Whether a type is the default of a project.
///
/// # Errors
/// The database is away.
pub async fn is_default(from: &mut impl Read, type_id: TypeId) -> Result<bool> {
    let stmt = sql(
        "SELECT project_id FROM default_volume_types WHERE volume_type_id = ? AND deleted = FALSE LIMIT 1",
    );
    Ok(from.row(stmt.bind(type_id)).await?.is_some())
}
