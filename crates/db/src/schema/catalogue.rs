//! What a database has: its tables, columns and indexes, read in three queries.

use std::collections::{BTreeMap, BTreeSet};

use crate::conn::Read;
use crate::dialect::Dialect;
use crate::error::Result;
use crate::sql::sql;

/// Table names with their columns and the names of their indexes.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    tables: BTreeMap<String, Existing>,
}

#[derive(Debug, Default)]
struct Existing {
    columns: BTreeSet<String>,
    indexes: BTreeSet<String>,
}

impl Catalogue {
    /// Reads it.
    pub async fn read(from: &mut impl Read, dialect: Dialect) -> Result<Self> {
        let (columns, indexes) = match dialect {
            Dialect::Sqlite => (
                "SELECT m.name AS t, c.name AS n FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'",
                "SELECT tbl_name AS t, name AS n FROM sqlite_master WHERE type = 'index'",
            ),
            Dialect::Postgres => (
                "SELECT CAST(table_name AS TEXT) AS t, CAST(column_name AS TEXT) AS n FROM information_schema.columns \
                 WHERE table_schema = current_schema()",
                "SELECT CAST(tablename AS TEXT) AS t, CAST(indexname AS TEXT) AS n FROM pg_indexes \
                 WHERE schemaname = current_schema()",
            ),
            Dialect::MySql => (
                "SELECT table_name AS t, column_name AS n FROM information_schema.columns WHERE table_schema = DATABASE()",
                "SELECT DISTINCT table_name AS t, index_name AS n FROM information_schema.statistics \
                 WHERE table_schema = DATABASE()",
            ),
        };
        let mut out = Self::default();
        for row in from.rows(sql(columns)).await? {
            out.tables.entry(row.get("t")?).or_default().columns.insert(row.get("n")?);
        }
        for row in from.rows(sql(indexes)).await? {
            out.tables.entry(row.get("t")?).or_default().indexes.insert(row.get("n")?);
        }
        Ok(out)
    }

    pub fn has_table(&self, table: &str) -> bool {
        self.tables.contains_key(table)
    }

    pub fn has_column(&self, table: &str, column: &str) -> bool {
        self.tables.get(table).is_some_and(|existing| existing.columns.contains(column))
    }

    pub fn has_index(&self, table: &str, index: &str) -> bool {
        self.tables.get(table).is_some_and(|existing| existing.indexes.contains(index))
    }
}
