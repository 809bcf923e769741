//! All differences between SQLite, PostgreSQL and MySQL/MariaDB.
//!
//! Statements are written once, in the common subset, with `?` for arguments, `"name"` for names that are reserved
//! somewhere, and these words in braces:
//!
//! | word | meaning |
//! |---|---|
//! | `{now}` | the database's clock, microseconds since 1970, an integer |
//! | `{utc}` | the database's clock as a naive UTC timestamp |
//! | `{int}` | the type name that a sum is cast to |
//! | `{text}` | the type name that anything is cast to in order to be read as text |
//! | `{or_ignore COLUMN}` | at the end of an INSERT of one row: a duplicate key inserts nothing (the count of rows says nothing then; any column of the table will do) |
//! | `{or_keep KEY}` | at the end of an INSERT of one row: when the unique KEY (columns by commas) is there, its row stays as it is and is locked as if it had been changed |
//! | `{exact}` | before an argument: compares by bytes, where the column might ignore case |
//! | `{bytewise}` | after a text that is not a column: compares by code points, where the connection might not |
//! | `{nulls_first}`, `{nulls_last}` | after ASC and DESC: unset values come first, or last |
//! | `{for_update}` | locks the rows read until the transaction ends |

use std::fmt::Write as _;

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
    MySql,
}

impl Dialect {
    /// The statement in this database's words.
    pub fn render(self, sql: &str) -> String {
        let mut out = String::with_capacity(sql.len() + 32);
        let mut argument = 0;
        let mut quoted = false;
        let mut rest = sql;
        while let Some(at) = rest.find(['?', '"', '{', '\'']) {
            out.push_str(&rest[..at]);
            let tail = &rest[at..];
            let mut used = 1;
            match tail.as_bytes()[0] {
                b'\'' => {
                    quoted = !quoted;
                    out.push('\'');
                }
                _ if quoted => out.push_str(&tail[..1]),
                b'?' if self == Self::Postgres => {
                    argument += 1;
                    let _ = write!(out, "${argument}");
                }
                b'"' if self == Self::MySql => out.push('`'),
                b'{' => {
                    let end = tail.find('}').map_or(tail.len(), |end| end + 1);
                    self.word(tail[..end].trim_matches(['{', '}']), &mut out);
                    used = end;
                }
                _ => out.push_str(&tail[..1]),
            }
            rest = &tail[used..];
        }
        out.push_str(rest);
        out
    }

    fn word(self, word: &str, out: &mut String) {
        use Dialect::{MySql, Postgres, Sqlite};
        let (word, rest) = word.split_once(' ').unwrap_or((word, ""));
        out.push_str(match (word, self) {
            ("now", Sqlite) => "CAST(unixepoch('now', 'subsec') * 1000 AS INTEGER) * 1000",
            ("now", Postgres) => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
            ("now", MySql) => "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)",
            ("utc", Sqlite) => "strftime('%Y-%m-%d %H:%M:%f000', 'now')",
            ("utc", Postgres) => "(clock_timestamp() AT TIME ZONE 'UTC')",
            ("utc", MySql) => "UTC_TIMESTAMP(6)",
            ("int", Sqlite) => "INTEGER",
            ("int", Postgres) => "BIGINT",
            ("int", MySql) => "SIGNED",
            ("text", MySql) => "CHAR",
            ("text", _) => "TEXT",
            ("or_ignore", MySql) => return keep(rest, out),
            ("or_ignore", _) => "ON CONFLICT DO NOTHING",
            ("or_keep", MySql) => return keep(first_of(rest), out),
            ("or_keep", _) => {
                let first = first_of(rest);
                let _ = write!(out, "ON CONFLICT ({rest}) DO UPDATE SET {first} = excluded.{first}");
                return;
            }
            ("exact", MySql) => "BINARY ",
            ("bytewise", MySql) => "COLLATE utf8mb4_bin",
            ("for_update", Sqlite) | ("exact" | "bytewise", _) => "",
            ("for_update", _) => "FOR UPDATE",
            ("nulls_first" | "nulls_last", MySql) => "",
            ("nulls_first", _) => "NULLS FIRST",
            ("nulls_last", _) => "NULLS LAST",
            _ => unreachable!("a statement uses an unknown word"),
        });
    }
}

/// The first of a key's columns, which are the same in the row that is there.
fn first_of(key: &str) -> &str {
    key.split(',').next().unwrap_or_default()
}

/// MySQL's INSERT IGNORE would ignore much more than duplicates: texts too long, missing values.
fn keep(column: &str, out: &mut String) {
    let _ = write!(out, "ON DUPLICATE KEY UPDATE `{column}` = `{column}`");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_arguments_names_and_words() {
        let sql = r#"SELECT "key", '?{x}"' FROM t WHERE a = ? AND b = ? {for_update}"#;
        assert_eq!(Dialect::Sqlite.render(sql), r#"SELECT "key", '?{x}"' FROM t WHERE a = ? AND b = ? "#);
        assert_eq!(
            Dialect::Postgres.render(sql),
            r#"SELECT "key", '?{x}"' FROM t WHERE a = $1 AND b = $2 FOR UPDATE"#
        );
        assert_eq!(
            Dialect::MySql.render(sql),
            r#"SELECT `key`, '?{x}"' FROM t WHERE a = ? AND b = ? FOR UPDATE"#
        );
    }

    #[test]
    fn words_take_names() {
        let sql = "INSERT INTO t (a) VALUES (?) {or_ignore a}";
        assert_eq!(Dialect::Sqlite.render(sql), "INSERT INTO t (a) VALUES (?) ON CONFLICT DO NOTHING");
        assert_eq!(
            Dialect::MySql.render(sql),
            "INSERT INTO t (a) VALUES (?) ON DUPLICATE KEY UPDATE `a` = `a`"
        );
        let sql = "VALUES (?) {or_keep a,b}";
        assert_eq!(
            Dialect::Postgres.render(sql),
            "VALUES ($1) ON CONFLICT (a,b) DO UPDATE SET a = excluded.a"
        );
        assert_eq!(Dialect::MySql.render(sql), "VALUES (?) ON DUPLICATE KEY UPDATE `a` = `a`");
    }
}
