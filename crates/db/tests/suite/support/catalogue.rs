//! What a database says of its own tables, as lines of text that can be compared.

use std::collections::BTreeSet;

use db::Read as _;
use db::sql::sql;

use super::{Kind, Lab};

/// Lines such as `volumes.size integer null`, `volumes index (deleted,host)`.
pub type Lines = BTreeSet<String>;

/// Everything, in the database's own words: for comparing two databases of one kind.
pub async fn native(lab: &Lab) -> Lines {
    let queries: &[&str] = match lab.kind {
        Kind::Sqlite => &[
            "SELECT m.name || '.' || c.name || ' ' || c.type || ' ' || c.\"notnull\" || ' ' || COALESCE(c.dflt_value, '') \
             || ' ' || c.pk AS line FROM sqlite_master m, pragma_table_info(m.name) c \
             WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%'",
            "SELECT m.name || ' ' || CASE WHEN i.origin = 'c' THEN i.name ELSE '' END || ' ' || i.\"unique\" || ' ' || \
             (SELECT group_concat(x.name) FROM pragma_index_info(i.name) x) AS line \
             FROM sqlite_master m, pragma_index_list(m.name) i WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%'",
            "SELECT m.name || ' ' || f.\"from\" || ' to ' || f.\"table\" || ' ' || f.\"to\" AS line \
             FROM sqlite_master m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table'",
        ],
        Kind::Postgres => &[
            "SELECT concat_ws(' ', table_name || '.' || column_name, data_type, character_maximum_length, \
             datetime_precision, is_nullable, column_default) AS line FROM information_schema.columns \
             WHERE table_schema = 'public'",
            "SELECT replace(indexdef, 'public.', '') AS line FROM pg_indexes WHERE schemaname = 'public'",
            "SELECT concat_ws(' ', CAST(conrelid AS regclass), pg_get_constraintdef(oid)) AS line FROM pg_constraint \
             WHERE contype = 'f'",
        ],
        Kind::MariaDb => &[
            "SELECT CONCAT_WS(' ', CONCAT(table_name, '.', column_name), column_type, is_nullable, column_default, extra) \
             AS line FROM information_schema.columns WHERE table_schema = DATABASE()",
            "SELECT CONCAT_WS(' ', table_name, index_name, non_unique, \
             GROUP_CONCAT(column_name ORDER BY seq_in_index)) AS line FROM information_schema.statistics \
             WHERE table_schema = DATABASE() GROUP BY table_name, index_name, non_unique",
            "SELECT CONCAT_WS(' ', table_name, column_name, 'to', referenced_table_name, referenced_column_name) \
             AS line FROM information_schema.key_column_usage \
             WHERE table_schema = DATABASE() AND referenced_table_name IS NOT NULL",
        ],
    };
    let mut lines = Lines::new();
    for query in queries {
        for row in lab.db.read().rows(sql(*query)).await.unwrap_or_else(|error| panic!("{query}: {error}")) {
            lines.insert(row.get("line").unwrap());
        }
    }
    lines
}

/// Columns with their types and whether they may be null, and the columns of each key, in words that all kinds share.
pub async fn common(lab: &Lab) -> Lines {
    let (columns, keys) = match lab.kind {
        Kind::Sqlite => (
            // SQLite's own tables begin with sqlite_; an autoincrement key is never null without saying so.
            "SELECT m.name AS t, c.name AS n, c.type AS k, CASE WHEN c.\"notnull\" = 1 OR c.pk > 0 THEN 'NO' ELSE 'YES' END \
             AS o FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%'",
            "SELECT m.name AS t, CAST(i.\"unique\" AS TEXT) AS u, (SELECT group_concat(x.name) FROM pragma_index_info(i.name) x) \
             AS c FROM sqlite_master m, pragma_index_list(m.name) i WHERE m.type = 'table' \
             UNION SELECT m.name, '1', c.name FROM sqlite_master m, pragma_table_info(m.name) c \
             WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' AND c.pk = 1 AND c.type = 'INTEGER'",
        ),
        Kind::Postgres => (
            "SELECT CAST(table_name AS TEXT) AS t, CAST(column_name AS TEXT) AS n, concat(data_type, '(' || \
             CAST(character_maximum_length AS TEXT) || ')') AS k, CAST(is_nullable AS TEXT) AS o \
             FROM information_schema.columns WHERE table_schema = 'public'",
            "SELECT CAST(CAST(i.indrelid AS regclass) AS TEXT) AS t, CASE WHEN i.indisunique THEN '1' ELSE '0' END AS u, \
             string_agg(CAST(a.attname AS TEXT), ',' ORDER BY array_position(CAST(i.indkey AS int2[]), a.attnum)) AS c \
             FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) \
             JOIN pg_class k ON k.oid = i.indrelid WHERE k.relnamespace = CAST('public' AS regnamespace) \
             GROUP BY i.indexrelid, i.indrelid, i.indisunique",
        ),
        Kind::MariaDb => (
            "SELECT table_name AS t, column_name AS n, column_type AS k, is_nullable AS o FROM information_schema.columns \
             WHERE table_schema = DATABASE()",
            "SELECT table_name AS t, CAST(1 - non_unique AS CHAR) AS u, \
             GROUP_CONCAT(column_name ORDER BY seq_in_index) AS c FROM information_schema.statistics \
             WHERE table_schema = DATABASE() GROUP BY table_name, index_name, non_unique",
        ),
    };
    let mut lines = Lines::new();
    for row in lab.db.read().rows(sql(columns)).await.unwrap() {
        let text = |name| row.get::<String>(name).unwrap();
        lines.insert(format!(
            "{}.{} {} {}",
            plain(&text("t")),
            text("n"),
            common_type(&text("k")),
            text("o")
        ));
    }
    for row in lab.db.read().rows(sql(keys)).await.unwrap() {
        let text = |name| row.get::<String>(name).unwrap();
        let unique = if text("u") == "1" { "unique" } else { "index" };
        lines.insert(format!("{} {unique} ({})", plain(&text("t")), text("c")));
    }
    lines
}

/// PostgreSQL quotes a table's name where it must.
fn plain(table: &str) -> &str {
    table.trim_matches('"')
}

fn common_type(native: &str) -> String {
    let native = native.to_lowercase();
    let text =
        native.replace("character varying", "varchar").replace("timestamp without time zone", "datetime");
    match text.as_str() {
        "int(11)" | "integer" => "int".into(),
        "bigint(20)" => "bigint".into(),
        "tinyint(1)" | "boolean" => "bool".into(),
        "mediumtext" => "text".into(),
        "datetime(6)" => "datetime".into(),
        other => other.into(),
    }
}

/// What is in one and not in the other, one line each; empty when they are the same.
pub fn differences(ours: &Lines, theirs: &Lines) -> String {
    let only_ours = ours.difference(theirs).map(|line| format!("only ours:   {line}\n"));
    let only_theirs = theirs.difference(ours).map(|line| format!("only theirs: {line}\n"));
    only_ours.chain(only_theirs).collect()
}
