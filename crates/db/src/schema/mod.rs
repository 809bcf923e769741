//! The schema as data, and bringing a database to it.
//!
//! `cinder.schema` holds Cinder's tables, `ours.schema` what we add: a `table NAME` line, then a column, key or comment
//! per line. Column: `name type [not null] [auto] [default V]`; types: `str(N)`, `text` (64 KiB at least), `long` (16 MiB
//! at least), `int`, `bigint`, `bool`, `datetime`, `datetime(6)`. Keys: `primary key [NAME] (..)`, `unique NAME (..)`,
//! `index NAME (..)`, `foreign key COL -> TABLE.COL`.
//!
//! Bringing up to date makes what is missing and changes nothing that is there, under a lock of its own: one
//! transaction on SQLite and PostgreSQL; on MySQL, which commits DDL by itself, every step can be repeated. A database
//! that Cinder made is recognised by its `alembic_version` and only added to.
//!
//! Texts compare by code points in every table that we make. Cinder's tables on MySQL are made with the server's
//! default, which ignores case: a database opened in place keeps that, for names in filters and for unique names,
//! as Cinder itself behaves on it. Our own tables and columns compare by code points there, too.

mod catalogue;
mod notation;

use std::time::Duration;

use crate::conn::{Db, Read as _, Tx};
use crate::dialect::Dialect;
use crate::error::{Error, Result};
use crate::sql::sql;
use catalogue::Catalogue;
use notation::{Table, added_column_ddl, parse, parse_column, quoted, table_ddl};

/// The revision of Cinder's schema that we open in place.
pub const CINDER_REVISION: &str = "9c74c1c6971f";
/// The version of our additions. Raised when an older program could not work with what a newer one has made.
pub const VERSION: i64 = 1;
/// Cinder's `service_down_time` when nobody says otherwise.
const SERVICE_DOWN: Duration = Duration::from_secs(60);

const CINDER: &str = include_str!("cinder.schema");
const OURS: &str = include_str!("ours.schema");

/// Columns we add to Cinder's tables, all nullable so that Cinder could still write there.
const ADDED: &[(&str, &str)] = &[
    // A held lock is a row of workers: whose job, under which claim, how.
    ("workers", "lock_name str(255)"),
    ("workers", "lock_mode str(16)"),
    ("workers", "job_id str(36)"),
    ("workers", "job_epoch bigint"),
];

/// Indexes we add to Cinder's tables: table, name, column, and how much of it on MySQL, whose older row formats, which a
/// database may have kept through many releases, let a key be 767 bytes long.
const ADDED_INDEXES: &[(&str, &str, &str, &str)] = &[
    ("workers", "workers_lock_name_idx", "lock_name", "(150)"),
    ("volume_attachment", "volume_attachment_instance_idx", "instance_uuid", ""),
    ("backups", "backups_volume_idx", "volume_id", ""),
];

/// Brings the database to the schema of this version, with Cinder's default `service_down_time`.
///
/// # Errors
/// As [`migrate_quiet`].
pub async fn migrate(db: &Db) -> Result<()> {
    migrate_quiet(db, SERVICE_DOWN).await
}

/// Brings the database to the schema of this version. One that Cinder has used until now must be quiet: no heartbeat of
/// its services within `service_down`.
///
/// # Errors
/// [`Error::Unusable`] says what to do when it is of another Cinder release, newer than this program, or in use by Cinder.
pub async fn migrate_quiet(db: &Db, service_down: Duration) -> Result<()> {
    let mut tx = db.begin().await?;
    lock(&mut tx).await?;
    let done = bring_up(&mut tx, service_down).await;
    if tx.dialect() == Dialect::MySql {
        // The lock belongs to the connection, which outlives the transaction.
        tx.rows(sql(format!("SELECT RELEASE_LOCK({MYSQL_LOCK})"))).await?;
    }
    done?;
    tx.commit().await.map(drop)
}

const MYSQL_LOCK: &str = "LEFT(CONCAT('cinderblock.', DATABASE()), 64)";

/// One process at a time; the others wait and then find nothing to do.
async fn lock(tx: &mut Tx) -> Result<()> {
    match tx.dialect() {
        Dialect::Sqlite => {}
        Dialect::Postgres => {
            tx.rows(sql("SELECT CAST(pg_advisory_xact_lock(4217338615) AS TEXT) AS l")).await?;
        }
        Dialect::MySql => {
            let row = tx.row(sql(format!("SELECT GET_LOCK({MYSQL_LOCK}, 60) AS l"))).await?;
            let got = row.map_or(Ok(None), |row| row.get::<Option<i64>>("l"))?;
            if got != Some(1) {
                return Err(Error::Unusable("another process is changing the database's schema".into()));
            }
        }
    }
    Ok(())
}

async fn bring_up(tx: &mut Tx, service_down: Duration) -> Result<()> {
    let dialect = tx.dialect();
    let have = Catalogue::read(tx, dialect).await?;
    let known = version_in(tx, &have).await?;
    if let Some(found) = known
        && found > VERSION
    {
        return Err(Error::Unusable(format!(
            "the database has schema version {found}, this program knows {VERSION}: run a newer cinderblock"
        )));
    }
    let revision = cinder_revision(tx, &have).await?;
    if let Some(revision) = &revision {
        if revision != CINDER_REVISION {
            return Err(wrong_revision(revision));
        }
        if known.is_none() {
            refuse_while_used(tx, service_down).await?;
        }
    } else if have.has_table("migrate_version") {
        return Err(wrong_revision("before alembic"));
    } else {
        create(tx, &have, &parse(CINDER)?).await?;
        seed(tx).await?;
    }
    create(tx, &have, &parse(OURS)?).await?;
    crate::installation::seed(tx).await?;
    let have = Catalogue::read(tx, dialect).await?;
    add_to_cinders(tx, &have).await?;
    if known.is_none() && revision.is_some() {
        crate::quota::count_uncounted(tx).await?;
    }
    record_version(tx, &have).await
}

fn wrong_revision(found: &str) -> Error {
    Error::Unusable(format!(
        "the database is at Cinder's revision {found}; run `cinder-manage db sync` of release 29 (revision \
         {CINDER_REVISION}) first"
    ))
}

async fn refuse_while_used(tx: &mut Tx, service_down: Duration) -> Result<()> {
    let down_us = i64::try_from(service_down.as_micros()).unwrap_or(i64::MAX);
    let up: Vec<String> = crate::service::list(tx, down_us)
        .await?
        .into_iter()
        .filter(|service| service.up)
        .map(|service| format!("{} on {}", service.binary, service.host))
        .collect();
    if up.is_empty() {
        return Ok(());
    }
    Err(Error::Unusable(format!(
        "Cinder is still using the database: {} reported within the last {} s; stop Cinder's services and wait that long",
        up.join(", "),
        service_down.as_secs()
    )))
}

/// The version of our additions that the database has; `None` when it has none.
///
/// # Errors
/// The database is away.
pub async fn version(db: &Db) -> Result<Option<i64>> {
    let mut from = db.read();
    let have = Catalogue::read(&mut from, db.dialect()).await?;
    version_in(&mut from, &have).await
}

async fn version_in(from: &mut impl crate::conn::Read, have: &Catalogue) -> Result<Option<i64>> {
    if !have.has_table("cinderblock_schema") {
        return Ok(None);
    }
    let row = from.row(sql("SELECT MAX(version) AS version FROM cinderblock_schema")).await?;
    row.map_or(Ok(None), |row| row.get("version"))
}

async fn cinder_revision(tx: &mut Tx, have: &Catalogue) -> Result<Option<String>> {
    if !have.has_table("alembic_version") {
        return Ok(None);
    }
    let row = tx.row(sql("SELECT version_num FROM alembic_version")).await?;
    row.map(|row| row.get("version_num")).transpose()
}

async fn record_version(tx: &mut Tx, have: &Catalogue) -> Result<()> {
    if !have.has_table("cinderblock_schema") {
        let ddl = "CREATE TABLE cinderblock_schema (version BIGINT NOT NULL PRIMARY KEY, applied_at BIGINT NOT NULL)";
        tx.exec(sql(ddl)).await?;
    }
    tx.exec(
        sql("INSERT INTO cinderblock_schema (version, applied_at) VALUES (?, {now}) {or_ignore version}")
            .bind(VERSION),
    )
    .await
    .map(drop)
}

async fn create(tx: &mut Tx, have: &Catalogue, tables: &[Table<'_>]) -> Result<()> {
    let dialect = tx.dialect();
    for table in tables {
        let is_new = !have.has_table(table.name);
        if is_new {
            tx.exec(sql(table_ddl(table, dialect))).await?;
        }
        for column in &table.columns {
            if !is_new && !have.has_column(table.name, column.name) {
                add_column(tx, table.name, &added_column_ddl(column, dialect)).await?;
            }
        }
        for (index, columns) in &table.indexes {
            let comes_with_table = is_new && dialect == Dialect::MySql;
            if !comes_with_table && !have.has_index(table.name, index) {
                create_index(tx, table.name, index, &quoted(columns)).await?;
            }
        }
    }
    Ok(())
}

async fn add_to_cinders(tx: &mut Tx, have: &Catalogue) -> Result<()> {
    for (table, column) in ADDED {
        let column =
            parse_column(column).ok_or_else(|| Error::Unusable(format!("schema of {table}: {column}")))?;
        if !have.has_column(table, column.name) {
            let ddl = added_column_ddl(&column, tx.dialect());
            add_column(tx, table, &ddl).await?;
        }
    }
    for (table, index, column, part) in ADDED_INDEXES {
        if !have.has_index(table, index) {
            let part = if tx.dialect() == Dialect::MySql { part } else { "" };
            create_index(tx, table, index, &format!("{}{part}", quoted(column))).await?;
        }
    }
    Ok(())
}

async fn add_column(tx: &mut Tx, table: &str, ddl: &str) -> Result<()> {
    tx.exec(sql(format!("ALTER TABLE \"{table}\" ADD COLUMN {ddl}"))).await.map(drop)
}

async fn create_index(tx: &mut Tx, table: &str, index: &str, columns: &str) -> Result<()> {
    tx.exec(sql(format!("CREATE INDEX {index} ON \"{table}\" ({columns})"))).await.map(drop)
}

/// The rows that Cinder's own migrations leave in a new database (database.md, "Seed rows"). Each is made unless it is
/// there; the revision comes last, so that on MySQL an interrupted run is taken up again.
async fn seed(tx: &mut Tx) -> Result<()> {
    for (resource, limit) in model::quota::DEFAULTS {
        if !crate::quota::class_limits(tx, "default").await?.contains_key(*resource) {
            crate::quota::set_class_limit(tx, "default", resource, *limit).await?;
        }
    }
    tx.exec(
        sql("INSERT INTO workers (created_at, updated_at, deleted, resource_type, resource_id, status, race_preventer) \
             VALUES ({utc}, {utc}, ?, 'SENTINEL', 'SUB-SECOND', 'OK', 0) {or_ignore id}")
        .bind(false),
    )
    .await?;
    if crate::volume_type::by_name(tx, model::DEFAULT_TYPE_NAME).await?.is_none() {
        let id = model::TypeId::new();
        crate::volume_type::insert(tx, id, model::DEFAULT_TYPE_NAME, Some("Default Volume Type"), true)
            .await?;
    }
    seed_group_type(tx).await?;
    tx.exec(sql("INSERT INTO alembic_version (version_num) VALUES (?)").bind(CINDER_REVISION)).await.map(drop)
}

async fn seed_group_type(tx: &mut Tx) -> Result<()> {
    const NAME: &str = "default_cgsnapshot_type";
    let id = match tx.row(sql("SELECT id FROM group_types WHERE name = ?").bind(NAME)).await? {
        Some(row) => row.get::<String>("id")?,
        None => {
            let id = model::TypeId::new().to_string();
            tx.exec(
                sql("INSERT INTO group_types (created_at, deleted, id, name, is_public, description) \
                     VALUES ({utc}, FALSE, ?, ?, TRUE, 'Default group type for migrating cgsnapshot')")
                .bind(&id)
                .bind(NAME),
            )
            .await?;
            id
        }
    };
    let spec = tx.row(sql("SELECT id FROM group_type_specs WHERE group_type_id = ?").bind(&id)).await?;
    if spec.is_some() {
        return Ok(());
    }
    tx.exec(
        sql("INSERT INTO group_type_specs (created_at, deleted, \"key\", value, group_type_id) \
             VALUES ({utc}, FALSE, 'consistent_group_snapshot_enabled', '<is> True', ?)")
        .bind(id),
    )
    .await
    .map(drop)
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

    #[test]
    fn every_column_added_to_cinders_tables_may_be_null() {
        for (table, column) in ADDED {
            assert!(parse_column(column).is_some() && !column.contains("not null"), "{table}.{column}");
        }
    }
}
