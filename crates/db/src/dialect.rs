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
//! | `{insert_ignore}` ... `{or_ignore}` | around an INSERT: a duplicate key inserts nothing |
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
                    out.push_str(self.word(&tail[..end]));
                    used = end;
                }
                _ => out.push_str(&tail[..1]),
            }
            rest = &tail[used..];
        }
        out.push_str(rest);
        out
    }

    fn word(self, word: &str) -> &'static str {
        use Dialect::{MySql, Postgres, Sqlite};
        match (word, self) {
            ("{now}", Sqlite) => "CAST(unixepoch('now', 'subsec') * 1000 AS INTEGER) * 1000",
            ("{now}", Postgres) => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
            ("{now}", MySql) => "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)",
            ("{utc}", Sqlite) => "strftime('%Y-%m-%d %H:%M:%f000', 'now')",
            ("{utc}", Postgres) => "(clock_timestamp() AT TIME ZONE 'UTC')",
            ("{utc}", MySql) => "UTC_TIMESTAMP(6)",
            ("{int}", Sqlite) => "INTEGER",
            ("{int}", Postgres) => "BIGINT",
            ("{int}", MySql) => "SIGNED",
            ("{insert_ignore}", MySql) => "INSERT IGNORE",
            ("{insert_ignore}", _) => "INSERT",
            ("{or_ignore}", MySql) | ("{for_update}", Sqlite) => "",
            ("{or_ignore}", _) => "ON CONFLICT DO NOTHING",
            ("{for_update}", _) => "FOR UPDATE",
            ("{nulls_first}" | "{nulls_last}", MySql) => "",
            ("{nulls_first}", _) => "NULLS FIRST",
            ("{nulls_last}", _) => "NULLS LAST",
            _ => unreachable!("a statement uses an unknown word"),
        }
    }
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
}
