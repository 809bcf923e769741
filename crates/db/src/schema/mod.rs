//! The schema as data, and bringing a database to it.
//!
//! `cinder.schema` holds Cinder's tables, `ours.schema` what we add: a `table NAME` line, then a column, key or comment
//! per line. Column: `name type [not null] [auto] [default V]`; types: `str(N)`, `text`, `int`, `bigint`, `bool`, `datetime`,
//! `datetime(6)`. Keys: `primary key (..)`, `unique NAME (..)`, `index NAME (..)`, `foreign key COL -> TABLE.COL`.
//!
//! Every step can be repeated (MySQL commits DDL by itself). A database that Cinder made is recognised by its
//! `alembic_version` and only added to.

use std::fmt::Write as _;

use crate::conn::{Db, Read as _, Tx};
use crate::dialect::Dialect;
use crate::error::{Error, Result};
use crate::sql::sql;

/// The revision of Cinder's schema that we open in place.
pub const CINDER_REVISION: &str = "9c74c1c6971f";
/// The version of our additions. Raised by every migration.
pub const VERSION: i64 = 1;

const CINDER: &str = include_str!("cinder.schema");
const OURS: &str = include_str!("ours.schema");

/// Columns we add to Cinder's tables, all nullable so that Cinder could still write there.
const ADDED: &[(&str, &str, &str)] = &[
    // A held lock is a row of workers: whose job, under which claim, how.
    ("workers", "lock_name", "str(255)"),
    ("workers", "lock_mode", "str(16)"),
    ("workers", "job_id", "str(36)"),
    ("workers", "job_epoch", "bigint"),
];

/// Indexes we add to Cinder's tables.
const ADDED_INDEXES: &[(&str, &str, &str)] = &[
    ("workers", "workers_lock_name_idx", "lock_name"),
    ("volume_attachment", "volume_attachment_instance_idx", "instance_uuid"),
    ("backups", "backups_volume_idx", "volume_id"),
];

#[derive(Debug, Default)]
struct Table<'a> {
    name: &'a str,
    columns: Vec<Column<'a>>,
    primary: &'a str,
    uniques: Vec<(&'a str, &'a str)>,
    indexes: Vec<(&'a str, &'a str)>,
    foreign: Vec<(&'a str, &'a str, &'a str)>,
}

#[derive(Debug)]
struct Column<'a> {
    name: &'a str,
    kind: &'a str,
    not_null: bool,
    auto: bool,
    default: Option<&'a str>,
}

/// Brings the database to the schema of this version: makes what is missing, changes nothing that is there.
///
/// # Errors
/// [`Error::Unusable`] when it is of another Cinder release, or newer than this program.
pub async fn migrate(db: &Db) -> Result<()> {
    if let Some(found) = version(db).await? {
        if found > VERSION {
            return Err(Error::Unusable(format!(
                "the database has schema version {found}, this program knows {VERSION}: run a newer cinderblock"
            )));
        }
        if found == VERSION {
            return Ok(());
        }
    }
    let adopted = cinder_revision(db).await?;
    if let Some(revision) = &adopted
        && revision != CINDER_REVISION
    {
        return Err(Error::Unusable(format!(
            "the database is at Cinder's revision {revision}; run `cinder-manage db sync` of release 29 \
             (revision {CINDER_REVISION}) first"
        )));
    }
    if adopted.is_none() {
        create(db, CINDER).await?;
        let mut tx = db.begin().await?;
        crate::schema::seed(&mut tx).await?;
        tx.commit().await?;
    }
    create(db, OURS).await?;
    add_columns(db).await?;
    for (table, index, columns) in ADDED_INDEXES {
        create_index(db, table, index, columns).await?;
    }
    record_version(db).await
}

/// The version of our additions that the database has; `None` when it has none.
///
/// # Errors
/// The database is away.
pub async fn version(db: &Db) -> Result<Option<i64>> {
    if !has_table(db, "cinderblock_schema").await? {
        return Ok(None);
    }
    let row = db.read().row(sql("SELECT MAX(version) AS version FROM cinderblock_schema")).await?;
    row.map_or(Ok(None), |row| row.get("version"))
}

async fn cinder_revision(db: &Db) -> Result<Option<String>> {
    if !has_table(db, "alembic_version").await? {
        return Ok(None);
    }
    let row = db.read().row(sql("SELECT version_num FROM alembic_version")).await?;
    row.map(|row| row.get("version_num")).transpose()
}

async fn record_version(db: &Db) -> Result<()> {
    let mut tx = db.begin().await?;
    tx.exec(sql(
        "CREATE TABLE IF NOT EXISTS cinderblock_schema (version BIGINT NOT NULL PRIMARY KEY, applied_at BIGINT NOT NULL)",
    ))
    .await?;
    tx.exec(
        sql("{insert_ignore} INTO cinderblock_schema (version, applied_at) VALUES (?, {now}) {or_ignore}")
            .bind(VERSION),
    )
    .await?;
    tx.commit().await?;
    Ok(())
}

/// The rows that Cinder's own migrations leave in a new database (database.md, "Seed rows").
async fn seed(tx: &mut Tx) -> Result<()> {
    if tx.row(sql("SELECT version_num FROM alembic_version")).await?.is_some() {
        return Ok(());
    }
    for (resource, limit) in model::quota::DEFAULTS {
        tx.exec(
            sql("INSERT INTO quota_classes (created_at, deleted, class_name, resource, hard_limit) \
                 VALUES ({utc}, ?, 'default', ?, ?)")
            .bind(false)
            .bind(*resource)
            .bind(*limit),
        )
        .await?;
    }
    tx.exec(
        sql("INSERT INTO workers (created_at, updated_at, deleted, resource_type, resource_id, status, race_preventer) \
             VALUES ({utc}, {utc}, ?, 'SENTINEL', 'SUB-SECOND', 'OK', 0)")
        .bind(false),
    )
    .await?;
    tx.exec(
        sql("INSERT INTO volume_types (created_at, deleted, id, name, is_public, description) \
             VALUES ({utc}, ?, ?, ?, ?, 'Default Volume Type')")
        .bind(false)
        .bind(model::TypeId::new())
        .bind(model::DEFAULT_TYPE_NAME)
        .bind(true),
    )
    .await?;
    let group_type = model::TypeId::new();
    tx.exec(
        sql("INSERT INTO group_types (created_at, deleted, id, name, is_public, description) \
             VALUES ({utc}, ?, ?, 'default_cgsnapshot_type', ?, 'Default group type for migrating cgsnapshot')")
        .bind(false)
        .bind(group_type)
        .bind(true),
    )
    .await?;
    tx.exec(
        sql("INSERT INTO group_type_specs (created_at, deleted, \"key\", value, group_type_id) \
             VALUES ({utc}, ?, 'consistent_group_snapshot_enabled', '<is> True', ?)")
        .bind(false)
        .bind(group_type),
    )
    .await?;
    tx.exec(sql("INSERT INTO alembic_version (version_num) VALUES (?)").bind(CINDER_REVISION)).await?;
    Ok(())
}

async fn create(db: &Db, schema: &str) -> Result<()> {
    let dialect = db.dialect();
    for table in parse(schema)? {
        if !has_table(db, table.name).await? {
            let mut tx = db.begin().await?;
            tx.exec(sql(table_ddl(&table, dialect))).await?;
            tx.commit().await?;
        }
        if dialect != Dialect::MySql {
            for (index, columns) in &table.indexes {
                create_index(db, table.name, index, columns).await?;
            }
        }
    }
    Ok(())
}

async fn create_index(db: &Db, table: &str, index: &str, columns: &str) -> Result<()> {
    if has_index(db, table, index).await? {
        return Ok(());
    }
    let mut tx = db.begin().await?;
    tx.exec(sql(format!("CREATE INDEX {index} ON \"{table}\" ({})", quoted(columns)))).await?;
    tx.commit().await?;
    Ok(())
}

async fn add_columns(db: &Db) -> Result<()> {
    for (table, column, kind) in ADDED {
        if has_column(db, table, column).await? {
            continue;
        }
        let mut tx = db.begin().await?;
        let kind = type_name(kind, db.dialect());
        tx.exec(sql(format!("ALTER TABLE \"{table}\" ADD COLUMN {column} {kind}"))).await?;
        tx.commit().await?;
    }
    Ok(())
}

async fn has_table(db: &Db, name: &str) -> Result<bool> {
    let stmt = match db.dialect() {
        Dialect::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table' AND name = ?",
        Dialect::Postgres => {
            "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = ?"
        }
        Dialect::MySql => {
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?"
        }
    };
    Ok(db.read().row(sql(stmt).bind(name)).await?.is_some())
}

async fn has_column(db: &Db, table: &str, column: &str) -> Result<bool> {
    let stmt = match db.dialect() {
        Dialect::Sqlite => "SELECT 1 FROM pragma_table_info(?) WHERE name = ?",
        Dialect::Postgres => {
            "SELECT 1 FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = ? AND column_name = ?"
        }
        Dialect::MySql => {
            "SELECT 1 FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? AND column_name = ?"
        }
    };
    Ok(db.read().row(sql(stmt).bind(table).bind(column)).await?.is_some())
}

async fn has_index(db: &Db, table: &str, index: &str) -> Result<bool> {
    let stmt = match db.dialect() {
        Dialect::Sqlite => "SELECT 1 FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND name = ?",
        Dialect::Postgres => {
            "SELECT 1 FROM pg_indexes WHERE schemaname = current_schema() AND tablename = ? AND indexname = ?"
        }
        Dialect::MySql => {
            "SELECT 1 FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = ? AND index_name = ?"
        }
    };
    Ok(db.read().row(sql(stmt).bind(table).bind(index)).await?.is_some())
}

fn parse(schema: &str) -> Result<Vec<Table<'_>>> {
    let mut tables: Vec<Table<'_>> = Vec::new();
    for line in schema.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("table ") {
            tables.push(Table { name, ..Table::default() });
        } else {
            let table = tables.last_mut().ok_or_else(|| Error::Unusable(format!("schema: {line}")))?;
            parse_line(table, line)
                .ok_or_else(|| Error::Unusable(format!("schema of {}: {line}", table.name)))?;
        }
    }
    Ok(tables)
}

fn parse_line<'a>(table: &mut Table<'a>, line: &'a str) -> Option<()> {
    if let Some(rest) = line.strip_prefix("primary key ") {
        table.primary = inside(rest)?;
    } else if let Some(rest) = line.strip_prefix("unique ") {
        let (name, columns) = rest.split_once(' ')?;
        table.uniques.push((name, inside(columns)?));
    } else if let Some(rest) = line.strip_prefix("index ") {
        let (name, columns) = rest.split_once(' ')?;
        table.indexes.push((name, inside(columns)?));
    } else if let Some(rest) = line.strip_prefix("foreign key ") {
        let (column, target) = rest.split_once(" -> ")?;
        let (other, key) = target.split_once('.')?;
        table.foreign.push((column, other, key));
    } else {
        let mut words = line.split_whitespace();
        let (name, kind) = (words.next()?, words.next()?);
        let rest: Vec<&str> = words.collect();
        table.columns.push(Column {
            name,
            kind,
            not_null: rest.contains(&"not"),
            auto: rest.contains(&"auto"),
            default: rest.iter().position(|w| *w == "default").and_then(|at| rest.get(at + 1)).copied(),
        });
    }
    Some(())
}

fn inside(text: &str) -> Option<&str> {
    text.strip_prefix('(')?.strip_suffix(')')
}

/// Double-quoted names of a comma-separated list.
fn quoted(columns: &str) -> String {
    columns.split(',').map(|column| format!("\"{}\"", column.trim())).collect::<Vec<_>>().join(", ")
}

fn type_name(kind: &str, dialect: Dialect) -> String {
    match (kind, dialect) {
        ("bigint", _) => "BIGINT".into(),
        ("int", _) => "INTEGER".into(),
        ("text", Dialect::MySql) => "MEDIUMTEXT".into(),
        ("text", _) => "TEXT".into(),
        ("bool", _) => "BOOLEAN".into(),
        ("datetime" | "datetime(6)", Dialect::Postgres) => "TIMESTAMP".into(),
        (kind, _) => kind.replace("str(", "VARCHAR(").replace("datetime", "DATETIME"),
    }
}

fn column_ddl(column: &Column<'_>, dialect: Dialect) -> String {
    let mut out = format!("\"{}\" ", column.name);
    match (column.auto, dialect) {
        (true, Dialect::Sqlite) => out.push_str("INTEGER PRIMARY KEY AUTOINCREMENT"),
        (true, Dialect::Postgres) => {
            out.push_str(if column.kind == "bigint" { "BIGSERIAL" } else { "SERIAL" })
        }
        _ => out.push_str(&type_name(column.kind, dialect)),
    }
    if column.not_null && !(column.auto && dialect == Dialect::Sqlite) {
        out.push_str(" NOT NULL");
    }
    if column.auto && dialect == Dialect::MySql {
        out.push_str(" AUTO_INCREMENT");
    }
    if let Some(default) = column.default {
        let default = match (column.kind, default) {
            ("bool", "1") => "TRUE",
            ("bool", "0") => "FALSE",
            (_, other) => other,
        };
        let _ = write!(out, " DEFAULT {default}");
    }
    out
}

fn table_ddl(table: &Table<'_>, dialect: Dialect) -> String {
    let mut parts: Vec<String> = table.columns.iter().map(|column| column_ddl(column, dialect)).collect();
    // SQLite wants an autoincrement column to be declared as the key itself.
    if !(dialect == Dialect::Sqlite && table.columns.iter().any(|column| column.auto)) {
        parts.push(format!("PRIMARY KEY ({})", quoted(table.primary)));
    }
    for (name, columns) in &table.uniques {
        // Elsewhere constraint names share one space with tables and indexes; their own defaults do.
        parts.push(match dialect {
            Dialect::MySql => format!("UNIQUE KEY \"{name}\" ({})", quoted(columns)),
            _ => format!("UNIQUE ({})", quoted(columns)),
        });
    }
    if dialect == Dialect::MySql {
        for (name, columns) in &table.indexes {
            parts.push(format!("KEY \"{name}\" ({})", quoted(columns)));
        }
    }
    for (column, other, key) in &table.foreign {
        parts.push(format!("FOREIGN KEY (\"{column}\") REFERENCES \"{other}\" (\"{key}\")"));
    }
    let engine = if dialect == Dialect::MySql { " ENGINE=InnoDB" } else { "" };
    format!("CREATE TABLE \"{}\" (\n  {}\n){engine}", table.name, parts.join(",\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_schemas_parse_and_name_a_key_for_every_table() {
        for schema in [CINDER, OURS] {
            for table in parse(schema).expect("parses") {
                assert!(!table.primary.is_empty(), "{}", table.name);
                assert!(!table.columns.is_empty(), "{}", table.name);
            }
        }
        assert_eq!(parse(CINDER).expect("parses").len(), 36);
    }
}
