//! Lists: one place for filters, order, markers and counts. The tie is broken by id.

use model::list::{Compare, Direction, Filter, ListQuery};
use serde_json::Value as Json;

use crate::conn::Read;
use crate::error::{Error, Result};
use crate::key_value::KeyValues;
use crate::sql::{Row, Stmt, Value, marks, sql};

/// How a resource's table is listed.
pub(crate) struct Listing {
    /// The table, with its alias where the columns need one.
    pub table: &'static str,
    /// Columns that can be filtered and sorted by.
    pub columns: &'static [(&'static str, ColumnKind)],
    /// The table of user metadata.
    pub metadata: Option<KeyValues>,
    /// A condition on every list beside `deleted = FALSE`.
    pub also: &'static str,
}

/// What a column holds, for turning JSON values into arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    Text,
    Int,
    Bool,
    Time,
    /// `host@backend#pool`, matched by the level that the value names.
    Host,
}

impl Listing {
    fn kind(&self, column: &str) -> Option<ColumnKind> {
        self.columns.iter().find(|(name, _)| *name == column).map(|(_, kind)| *kind)
    }

    /// The rows of a page, and the count when the query wants it.
    pub async fn page(&self, from: &mut impl Read, query: &ListQuery) -> Result<(Vec<Row>, Option<u64>)> {
        self.page_with(from, query, None).await
    }

    /// As [`page`](Self::page), where the table is a derived one that takes an argument itself.
    pub async fn page_with(
        &self,
        from: &mut impl Read,
        query: &ListQuery,
        first: Option<&str>,
    ) -> Result<(Vec<Row>, Option<u64>)> {
        let Some((wheres, mut args)) = self.conditions(query)? else {
            return Ok((Vec::new(), query.with_count.then_some(0)));
        };
        if let Some(first) = first {
            args.insert(0, first.into());
        }
        let mut count = None;
        if query.with_count {
            let text = format!("SELECT COUNT(*) AS n FROM {} WHERE {wheres}", self.table);
            let row = from.row(sql(text).bind_all(args.clone())).await?;
            count = Some(row.map_or(Ok(0), |row| row.get::<i64>("n"))? as u64);
        }
        // A marker that is none is refused all the same.
        if query.limit == 0 && query.marker.is_none() {
            return Ok((Vec::new(), count));
        }
        let sort = self.sort(query)?;
        let order: Vec<String> = sort
            .iter()
            .map(|(column, direction)| {
                format!(
                    "{column} {}",
                    if *direction == Direction::Ascending {
                        "ASC {nulls_first}"
                    } else {
                        "DESC {nulls_last}"
                    }
                )
            })
            .collect();
        let mut stmt = sql(format!("SELECT * FROM {} WHERE {wheres}", self.table)).bind_all(args);
        if let Some(marker) = &query.marker {
            stmt = self.after_marker(from, stmt, query, first, &sort, marker).await?;
        }
        let stmt = stmt.push(&format!(" ORDER BY {} LIMIT ? OFFSET ?", order.join(", ")));
        let rows = from.rows(stmt.bind(query.limit).bind(query.offset)).await?;
        Ok((rows, count))
    }

    fn sort(&self, query: &ListQuery) -> Result<Vec<(String, Direction)>> {
        let mut sort = query.sort.clone();
        for (column, _) in &sort {
            if column != "id" && self.kind(column).is_none() {
                return Err(Error::BadSortKey(column.clone()));
            }
        }
        if !sort.iter().any(|(column, _)| column == "id") {
            let direction = sort.last().map_or(Direction::Descending, |(_, direction)| *direction);
            sort.push(("id".into(), direction));
        }
        Ok(sort)
    }

    /// `None` when a filter can match nothing.
    fn conditions(&self, query: &ListQuery) -> Result<Option<(String, Vec<Value>)>> {
        let mut wheres = String::from("deleted = FALSE");
        wheres.push_str(self.also);
        let mut args = Vec::new();
        if let Some(project) = &query.project_id {
            wheres.push_str(" AND project_id = ?");
            args.push(project.into());
        }
        for filter in &query.filters {
            let Some(text) = self.condition(filter, &mut args) else { return Ok(None) };
            wheres.push_str(" AND ");
            wheres.push_str(&text);
        }
        Ok(Some((wheres, args)))
    }

    fn condition(&self, filter: &Filter, args: &mut Vec<Value>) -> Option<String> {
        if filter.field == "metadata" {
            return self.metadata_condition(&filter.value, args);
        }
        let kind = if filter.field == "id" { ColumnKind::Text } else { self.kind(&filter.field)? };
        let column = &filter.field;
        if filter.compare == Compare::Like {
            let part = text(&filter.value)?;
            args.push(Value::Text(Some(format!("%{}%", escape_like(&part)))));
            // Both sides by the database's idea of lower case: SQLite knows it of ASCII letters only.
            return Some(format!("LOWER(CAST({column} AS {{text}})) {{bytewise}} LIKE LOWER(?) ESCAPE '!'"));
        }
        if filter.value.is_null() {
            return Some(match filter.compare {
                Compare::NotEqual => format!("{column} IS NOT NULL"),
                _ => format!("{column} IS NULL"),
            });
        }
        if kind == ColumnKind::Host && filter.compare == Compare::Equal && filter.value.is_string() {
            return Some(host_condition(column, &text(&filter.value)?, args));
        }
        if let (Json::Array(values), Compare::Equal) = (&filter.value, filter.compare) {
            let values: Vec<Value> = values.iter().filter_map(|value| argument(kind, value)).collect();
            let text = format!("{column} IN ({})", marks(values.len()));
            args.extend(values);
            return Some(text);
        }
        args.push(argument(kind, &filter.value)?);
        let operator = match filter.compare {
            Compare::Equal | Compare::Like => "=",
            Compare::NotEqual => "<>",
            Compare::Greater => ">",
            Compare::GreaterOrEqual => ">=",
            Compare::Less => "<",
            Compare::LessOrEqual => "<=",
        };
        Some(format!("{column} {operator} ?"))
    }

    fn metadata_condition(&self, wanted: &Json, args: &mut Vec<Value>) -> Option<String> {
        let KeyValues { table, owner: key } = self.metadata?;
        // The name that a derived table goes by comes last.
        let owner = self.table.rsplit(' ').next().unwrap_or(self.table);
        let mut parts = vec!["1 = 1".to_owned()];
        for (name, value) in wanted.as_object()? {
            args.push(plain(name)?.into());
            args.push(value.as_str().map_or_else(|| Some(value.to_string()), plain)?.into());
            parts.push(format!(
                "EXISTS (SELECT 1 FROM {table} m WHERE m.{key} = {owner}.id AND m.deleted = FALSE \
                 AND m.\"key\" = ? AND m.value = ?)"
            ));
        }
        Some(parts.join(" AND "))
    }

    /// Adds "comes after the marker in this order"; unset values sort below all others.
    async fn after_marker(
        &self,
        from: &mut impl Read,
        mut stmt: Stmt,
        query: &ListQuery,
        first: Option<&str>,
        sort: &[(String, Direction)],
        marker: &str,
    ) -> Result<Stmt> {
        let find = sql(format!("SELECT * FROM {} WHERE id = ? AND deleted = FALSE", self.table));
        let mut find = find.bind_all(first).bind(marker);
        if let Some(project) = &query.project_id {
            find = find.push(" AND project_id = ?").bind(project);
        }
        let row = from.row(find).await?.ok_or_else(|| Error::BadMarker(marker.to_owned()))?;
        let mut values = Vec::new();
        for (column, _) in sort {
            values.push(self.value_of(&row, column)?);
        }
        let mut alternatives = Vec::new();
        let mut args = Vec::new();
        for (at, (column, direction)) in sort.iter().enumerate() {
            let mut parts = Vec::new();
            for (before, value) in sort[..at].iter().zip(&values) {
                parts.push(if is_null(value) {
                    format!("{} IS NULL", before.0)
                } else {
                    format!("{} = ?", before.0)
                });
                if !is_null(value) {
                    args.push(value.clone());
                }
            }
            parts.push(match (is_null(&values[at]), direction) {
                (true, Direction::Ascending) => format!("{column} IS NOT NULL"),
                (true, Direction::Descending) => "1 = 0".into(),
                (false, Direction::Ascending) => format!("{column} > ?"),
                (false, Direction::Descending) => format!("({column} < ? OR {column} IS NULL)"),
            });
            if !is_null(&values[at]) {
                args.push(values[at].clone());
            }
            alternatives.push(format!("({})", parts.join(" AND ")));
        }
        stmt = stmt.push(&format!(" AND ({})", alternatives.join(" OR "))).bind_all(args);
        Ok(stmt)
    }

    fn value_of(&self, row: &Row, column: &str) -> Result<Value> {
        Ok(match self.kind(column) {
            Some(ColumnKind::Int) => Value::Int(row.get(column)?),
            Some(ColumnKind::Bool) => Value::Bool(row.get(column)?),
            Some(ColumnKind::Time) => Value::Time(row.get(column)?),
            _ => Value::Text(row.get(column)?),
        })
    }
}

fn is_null(value: &Value) -> bool {
    matches!(value, Value::Text(None) | Value::Int(None) | Value::Bool(None) | Value::Time(None))
}

fn escape_like(text: &str) -> String {
    text.replace('!', "!!").replace('%', "!%").replace('_', "!_")
}

/// A host names every pool of all its backends, a backend every one of its pools.
fn host_condition(column: &str, host: &str, args: &mut Vec<Value>) -> String {
    let marks: &[char] = match (host.contains('#'), host.contains('@')) {
        (true, _) => &[],
        (false, true) => &['#'],
        (false, false) => &['#', '@'],
    };
    args.push(host.into());
    let mut alternatives = vec![format!("{column} = ?")];
    for mark in marks {
        // No LIKE: SQLite's ignores case.
        args.push(Value::Text(Some(format!("{host}{mark}"))));
        alternatives.push(format!("SUBSTR({column}, 1, {}) = ?", host.chars().count() + 1));
    }
    format!("({})", alternatives.join(" OR "))
}

/// A value that is compared as a text.
fn text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => plain(text),
        Json::Number(_) | Json::Bool(_) => Some(value.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// PostgreSQL has no texts with a zero byte in them, and so no row that could match one.
fn plain(text: &str) -> Option<String> {
    (!text.contains('\0')).then(|| text.to_owned())
}

fn argument(kind: ColumnKind, value: &Json) -> Option<Value> {
    match kind {
        ColumnKind::Int => match value {
            Json::Number(n) => n.as_i64().map(|n| Value::Int(Some(n))),
            Json::String(s) => s.trim().parse().ok().map(|n| Value::Int(Some(n))),
            _ => None,
        },
        ColumnKind::Bool => match value {
            Json::Bool(b) => Some(Value::Bool(Some(*b))),
            Json::String(s) => Some(Value::Bool(Some(matches!(s.to_lowercase().as_str(), "true" | "1")))),
            _ => None,
        },
        ColumnKind::Time => {
            let text = value.as_str()?;
            let time = chrono::DateTime::parse_from_rfc3339(text)
                .map(|t| t.naive_utc())
                .or_else(|_| text.trim_end_matches('Z').parse::<chrono::NaiveDateTime>())
                .ok()?;
            Some(Value::Time(Some(time)))
        }
        ColumnKind::Text | ColumnKind::Host => text(value).map(Value::from),
    }
}
