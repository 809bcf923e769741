//! QoS specs. A set is a tree of rows: the root holds the name, each child a key and its value (database.md).

use std::collections::HashMap;

use model::list::{ListQuery, Listed};
use model::qos::Consumer;
use model::{QosId, QosSpecs, TypeId};

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::page::{ColumnKind, Listing};
use crate::sql::{Row, marks, sql};

/// The key of a root.
const ROOT: &str = "QoS_Specs_Name";
/// The key of the child that says who enforces the specs.
const CONSUMER: &str = "consumer";

const LISTING: Listing = Listing {
    // A derived table: a set's name and consumer as columns.
    table: "(SELECT q.id, q.value AS name, q.deleted, q.created_at, q.updated_at, c.value AS consumer \
            FROM quality_of_service_specs q LEFT JOIN quality_of_service_specs c \
            ON c.specs_id = q.id AND c.\"key\" = 'consumer' AND c.deleted = FALSE \
            WHERE q.specs_id IS NULL) qos",
    columns: {
        use ColumnKind::{Text, Time};
        &[("id", Text), ("name", Text), ("consumer", Text), ("created_at", Time), ("updated_at", Time)]
    },
    metadata: None,
    also: "",
};

/// Makes a set.
///
/// # Errors
/// The database is away.
pub async fn insert(tx: &mut Tx, specs: &QosSpecs) -> Result<()> {
    let root = sql("INSERT INTO quality_of_service_specs (created_at, deleted, id, \"key\", value) \
                    VALUES ({utc}, FALSE, ?, ?, ?)");
    tx.exec(root.bind(specs.id).bind(ROOT).bind(&specs.name)).await?;
    set_consumer(tx, specs.id, specs.consumer).await?;
    for (key, value) in &specs.specs {
        put(tx, specs.id, key, value.as_deref()).await?;
    }
    Ok(())
}

/// Who enforces a set.
///
/// # Errors
/// The database is away.
pub async fn set_consumer(tx: &mut Tx, id: QosId, consumer: Consumer) -> Result<()> {
    put(tx, id, CONSUMER, Some(consumer.as_str())).await
}

/// Sets one key.
///
/// # Errors
/// The database is away.
pub async fn put(tx: &mut Tx, id: QosId, key: &str, value: Option<&str>) -> Result<()> {
    let update = sql("UPDATE quality_of_service_specs SET value = ?, updated_at = {utc} \
                      WHERE specs_id = ? AND \"key\" = {exact}? AND deleted = FALSE");
    if tx.exec(update.bind(value).bind(id).bind(key)).await? > 0 {
        return Ok(());
    }
    let child =
        sql("INSERT INTO quality_of_service_specs (created_at, deleted, id, specs_id, \"key\", value) \
                     VALUES ({utc}, FALSE, ?, ?, ?, ?)");
    tx.exec(child.bind(QosId::new()).bind(id).bind(key).bind(value)).await.map(drop)
}

/// Removes one key; whether it was there.
///
/// # Errors
/// The database is away.
pub async fn drop_key(tx: &mut Tx, id: QosId, key: &str) -> Result<bool> {
    let stmt = sql("UPDATE quality_of_service_specs SET deleted = TRUE, deleted_at = {utc} \
                    WHERE specs_id = ? AND \"key\" = {exact}? AND \"key\" <> ? AND deleted = FALSE");
    Ok(tx.exec(stmt.bind(id).bind(key).bind(CONSUMER)).await? > 0)
}

/// A live set.
///
/// # Errors
/// The database is away.
pub async fn get(from: &mut impl Read, id: QosId) -> Result<Option<QosSpecs>> {
    let text = format!("SELECT * FROM {} WHERE id = ? AND deleted = FALSE", LISTING.table);
    let rows = from.rows(sql(text).bind(id)).await?;
    Ok(complete(from, rows).await?.pop())
}

/// Keeps a set as it is until the transaction ends; whether it is there.
///
/// # Errors
/// The database is away.
pub async fn hold(tx: &mut Tx, id: QosId) -> Result<bool> {
    let stmt = sql("SELECT id FROM quality_of_service_specs \
                    WHERE id = ? AND specs_id IS NULL AND deleted = FALSE {for_update}");
    Ok(tx.row(stmt.bind(id)).await?.is_some())
}

/// Whether a live set has the name.
///
/// # Errors
/// The database is away.
pub async fn is_named(from: &mut impl Read, name: &str) -> Result<bool> {
    let stmt = sql("SELECT id FROM quality_of_service_specs \
                    WHERE \"key\" = {exact}? AND value = {exact}? AND specs_id IS NULL AND deleted = FALSE");
    Ok(from.row(stmt.bind(ROOT).bind(name)).await?.is_some())
}

/// A page of sets.
///
/// # Errors
/// A bad sort key or marker, or the database is away.
pub async fn list(from: &mut impl Read, query: &ListQuery) -> Result<Listed<QosSpecs>> {
    let query = ListQuery { project_id: None, ..query.clone() };
    let (rows, count) = LISTING.page(from, &query).await?;
    Ok(Listed { items: complete(from, rows).await?, count })
}

/// Removes a set with its keys.
///
/// # Errors
/// The database is away.
pub async fn delete(tx: &mut Tx, id: QosId) -> Result<()> {
    let stmt = sql("UPDATE quality_of_service_specs SET deleted = TRUE, deleted_at = {utc} \
                    WHERE (id = ? OR specs_id = ?) AND deleted = FALSE");
    tx.exec(stmt.bind(id).bind(id)).await.map(drop)
}

/// The live types that refer to a set, with their names.
///
/// # Errors
/// The database is away.
pub async fn types(from: &mut impl Read, id: QosId) -> Result<Vec<(TypeId, String)>> {
    let stmt = sql("SELECT id, name FROM volume_types WHERE qos_specs_id = ? AND deleted = FALSE \
                    ORDER BY created_at, id");
    let name = |row: &Row| -> Result<_> {
        Ok((row.parse("volume_types", "id")?, row.get::<Option<String>>("name")?.unwrap_or_default()))
    };
    from.rows(stmt.bind(id)).await?.iter().map(name).collect()
}

/// Makes a type refer to a set, unless it refers to another; whether it does now.
///
/// # Errors
/// The database is away.
pub async fn associate(tx: &mut Tx, id: QosId, with: TypeId) -> Result<bool> {
    let stmt = sql("UPDATE volume_types SET qos_specs_id = ?, updated_at = {utc} \
                    WHERE id = ? AND deleted = FALSE AND (qos_specs_id IS NULL OR qos_specs_id = ?)");
    Ok(tx.exec(stmt.bind(id).bind(with).bind(id)).await? > 0)
}

/// Makes one type, or every type, no longer refer to a set.
///
/// # Errors
/// The database is away.
pub async fn disassociate(tx: &mut Tx, id: QosId, from: Option<TypeId>) -> Result<()> {
    let mut stmt = sql("UPDATE volume_types SET qos_specs_id = NULL, updated_at = {utc} \
                        WHERE qos_specs_id = ? AND deleted = FALSE")
    .bind(id);
    if let Some(one) = from {
        stmt = stmt.push(" AND id = ?").bind(one);
    }
    tx.exec(stmt).await.map(drop)
}

async fn complete(from: &mut impl Read, rows: Vec<Row>) -> Result<Vec<QosSpecs>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut sets: Vec<QosSpecs> = rows.iter().map(read).collect::<Result<_>>()?;
    let text = format!(
        "SELECT specs_id, \"key\" AS k, value AS v FROM quality_of_service_specs \
         WHERE deleted = FALSE AND \"key\" <> '{CONSUMER}' AND specs_id IN ({})",
        marks(sets.len())
    );
    let places: HashMap<QosId, usize> = sets.iter().enumerate().map(|(at, set)| (set.id, at)).collect();
    for row in from.rows(sql(text).bind_all(sets.iter().map(|set| set.id))).await? {
        let id: QosId = row.parse("quality_of_service_specs", "specs_id")?;
        if let Some(at) = places.get(&id) {
            sets[*at].specs.insert(row.get("k")?, row.get("v")?);
        }
    }
    Ok(sets)
}

fn read(row: &Row) -> Result<QosSpecs> {
    Ok(QosSpecs {
        id: row.parse("quality_of_service_specs", "id")?,
        name: row.get::<Option<String>>("name")?.unwrap_or_default(),
        consumer: row.parse_opt("quality_of_service_specs", "consumer")?.unwrap_or(Consumer::BackEnd),
        specs: Default::default(),
        created_at: row.get("created_at")?,
    })
}
