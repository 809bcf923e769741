//! The notation of `*.schema`, read, and written as each database's `CREATE TABLE`.

use std::fmt::Write as _;

use crate::dialect::Dialect;
use crate::error::{Error, Result};

#[derive(Debug, Default)]
pub(super) struct Table<'a> {
    pub name: &'a str,
    pub columns: Vec<Column<'a>>,
    pub primary: &'a str,
    /// Its name, where PostgreSQL has another one than its default.
    primary_name: &'a str,
    /// Names and columns.
    pub uniques: Vec<(&'a str, &'a str)>,
    pub indexes: Vec<(&'a str, &'a str)>,
    /// Column, other table, its column.
    pub foreign: Vec<(&'a str, &'a str, &'a str)>,
}

#[derive(Debug)]
pub(super) struct Column<'a> {
    pub name: &'a str,
    kind: &'a str,
    not_null: bool,
    auto: bool,
    default: Option<&'a str>,
}

/// Reads a schema.
///
/// # Errors
/// [`Error::Unusable`] names the line that is none.
pub(super) fn parse(schema: &str) -> Result<Vec<Table<'_>>> {
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
        let (name, columns) = rest.split_once('(')?;
        table.primary_name = name.trim();
        table.primary = columns.strip_suffix(')')?;
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
        table.columns.push(parse_column(line)?);
    }
    Some(())
}

/// `name type [not null] [auto] [default V]`.
pub(super) fn parse_column(line: &str) -> Option<Column<'_>> {
    let mut words = line.split_whitespace();
    let (name, kind) = (words.next()?, words.next()?);
    let rest: Vec<&str> = words.collect();
    Some(Column {
        name,
        kind,
        not_null: rest.contains(&"not"),
        auto: rest.contains(&"auto"),
        default: rest.iter().position(|w| *w == "default").and_then(|at| rest.get(at + 1)).copied(),
    })
}

fn inside(text: &str) -> Option<&str> {
    text.strip_prefix('(')?.strip_suffix(')')
}

/// Double-quoted names of a comma-separated list.
pub(super) fn quoted(columns: &str) -> String {
    columns.split(',').map(|column| format!("\"{}\"", column.trim())).collect::<Vec<_>>().join(", ")
}

fn type_name(kind: &str, dialect: Dialect) -> String {
    match (kind, dialect) {
        ("bigint", _) => "BIGINT".into(),
        ("int", _) => "INTEGER".into(),
        ("long", Dialect::MySql) => "MEDIUMTEXT".into(),
        ("text" | "long", _) => "TEXT".into(),
        ("bool", _) => "BOOLEAN".into(),
        ("datetime" | "datetime(6)", Dialect::Postgres) => "TIMESTAMP".into(),
        (kind, _) => kind.replace("str(", "VARCHAR(").replace("datetime", "DATETIME"),
    }
}

/// How texts compare on MySQL: by code points, as on the others, whatever the server's default is.
const BINARY: &str = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";

/// A column that is added to a table that is there already, in a character set that may not be ours.
pub(super) fn added_column_ddl(column: &Column<'_>, dialect: Dialect) -> String {
    let ddl = column_ddl(column, dialect);
    let is_text = column.kind.starts_with("str(") || matches!(column.kind, "text" | "long");
    if dialect != Dialect::MySql || !is_text {
        return ddl;
    }
    let typed = type_name(column.kind, dialect);
    ddl.replacen(&typed, &format!("{typed}{BINARY}"), 1)
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

/// The whole `CREATE TABLE`; on MySQL with its indexes, elsewhere those are statements of their own.
pub(super) fn table_ddl(table: &Table<'_>, dialect: Dialect) -> String {
    let mut parts: Vec<String> = table.columns.iter().map(|column| column_ddl(column, dialect)).collect();
    // SQLite wants an autoincrement column to be declared as the key itself.
    if !(dialect == Dialect::Sqlite && table.columns.iter().any(|column| column.auto)) {
        let name = match table.primary_name {
            name if dialect == Dialect::Postgres && !name.is_empty() => format!("CONSTRAINT {name} "),
            _ => String::new(),
        };
        parts.push(format!("{name}PRIMARY KEY ({})", quoted(table.primary)));
    }
    for (name, columns) in &table.uniques {
        // Elsewhere constraint names share one space with tables and indexes; their own defaults do. PostgreSQL lets
        // an index be named as Cinder names it.
        match dialect {
            Dialect::MySql => parts.push(format!("UNIQUE KEY \"{name}\" ({})", quoted(columns))),
            Dialect::Postgres if name.ends_with("_idx") => {
                parts.push(format!("CONSTRAINT \"{name}\" UNIQUE ({})", quoted(columns)));
            }
            _ => parts.push(format!("UNIQUE ({})", quoted(columns))),
        }
    }
    if dialect == Dialect::MySql {
        for (name, columns) in &table.indexes {
            parts.push(format!("KEY \"{name}\" ({})", quoted(columns)));
        }
    }
    for (column, other, key) in &table.foreign {
        parts.push(format!("FOREIGN KEY (\"{column}\") REFERENCES \"{other}\" (\"{key}\")"));
    }
    let engine = if dialect == Dialect::MySql { format!(" ENGINE=InnoDB{BINARY}") } else { String::new() };
    format!("CREATE TABLE \"{}\" (\n  {}\n){engine}", table.name, parts.join(",\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_column_added_on_mysql_compares_by_code_points() {
        let column = parse_column("lock_name str(255)").expect("a column");
        assert_eq!(
            added_column_ddl(&column, Dialect::MySql),
            "\"lock_name\" VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        );
        assert_eq!(added_column_ddl(&column, Dialect::Postgres), "\"lock_name\" VARCHAR(255)");
        let column = parse_column("epoch bigint not null default 0").expect("a column");
        assert_eq!(added_column_ddl(&column, Dialect::MySql), "\"epoch\" BIGINT NOT NULL DEFAULT 0");
    }

    #[test]
    fn a_line_that_says_nothing_is_named() {
        let error = parse("table t\n  lonely\n").expect_err("no type");
        assert!(error.to_string().contains("schema of t: lonely"), "{error}");
        assert!(parse("id int\n").is_err(), "a column outside any table");
    }
}
