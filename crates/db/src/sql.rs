//! Statements, arguments and rows, the same for all three databases.

use std::panic::Location;

use model::Time;
use sqlx::{ColumnIndex, Row as _};

use crate::error::Result;

/// A statement with its arguments.
#[derive(Debug, Clone)]
pub struct Stmt {
    pub(crate) text: String,
    pub(crate) args: Vec<Value>,
    /// Where it is written, which names it in logs and metrics.
    pub(crate) at: &'static Location<'static>,
}

/// Begins a statement (words and quoting: [`crate::dialect`]).
#[track_caller]
pub fn sql(text: impl Into<String>) -> Stmt {
    Stmt { text: text.into(), args: Vec::new(), at: Location::caller() }
}

impl Stmt {
    /// Adds the next argument.
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.args.push(value.into());
        self
    }

    /// Adds arguments in turn.
    pub fn bind_all<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        self.args.extend(values.into_iter().map(Into::into));
        self
    }

    /// Appends text, for statements put together from parts.
    pub fn push(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }
}

/// `?, ?, ?` for `n` arguments; `NULL` for none, so that `IN ()` stays valid and matches nothing.
pub fn marks(n: usize) -> String {
    if n == 0 { "NULL".to_owned() } else { vec!["?"; n].join(", ") }
}

/// An argument. Nulls are typed, because PostgreSQL wants to know.
#[derive(Debug, Clone)]
pub enum Value {
    Text(Option<String>),
    Int(Option<i64>),
    Bool(Option<bool>),
    Time(Option<chrono::NaiveDateTime>),
}

macro_rules! into_value {
    ($($from:ty => $variant:ident($v:ident => $expr:expr)),+ $(,)?) => { $(
        impl From<$from> for Value { fn from($v: $from) -> Self { Self::$variant(Some($expr)) } }
        impl From<Option<$from>> for Value { fn from(v: Option<$from>) -> Self { Self::$variant(v.map(|$v| $expr)) } }
    )+ };
}

into_value! {
    String => Text(v => v),
    &str => Text(v => v.to_owned()),
    &String => Text(v => v.clone()),
    i64 => Int(v => v),
    i32 => Int(v => i64::from(v)),
    u32 => Int(v => i64::from(v)),
    bool => Bool(v => v),
    Time => Time(v => v.naive_utc()),
    model::VolumeId => Text(v => v.to_string()),
    model::SnapshotId => Text(v => v.to_string()),
    model::AttachmentId => Text(v => v.to_string()),
    model::BackupId => Text(v => v.to_string()),
    model::TypeId => Text(v => v.to_string()),
    model::JobId => Text(v => v.to_string()),
    model::MessageId => Text(v => v.to_string()),
    model::QosId => Text(v => v.to_string()),
    model::ServiceId => Text(v => v.to_string()),
    model::EncryptionId => Text(v => v.to_string()),
    model::TransferId => Text(v => v.to_string()),
    model::GroupTypeId => Text(v => v.to_string()),
    model::GroupId => Text(v => v.to_string()),
    model::GroupSnapshotId => Text(v => v.to_string()),
    model::encryption::ControlLocation => Text(v => v.as_str().to_owned()),
    model::qos::Consumer => Text(v => v.as_str().to_owned()),
    model::PoolRef => Text(v => v.to_string()),
    &model::PoolRef => Text(v => v.to_string()),
    model::VolumeStatus => Text(v => v.as_str().to_owned()),
    model::SnapshotStatus => Text(v => v.as_str().to_owned()),
    model::BackupStatus => Text(v => v.as_str().to_owned()),
    model::GroupStatus => Text(v => v.as_str().to_owned()),
    model::GroupSnapshotStatus => Text(v => v.as_str().to_owned()),
    model::AttachStatus => Text(v => v.as_str().to_owned()),
    model::AttachMode => Text(v => v.as_str().to_owned()),
    model::volume::VolumeAttachStatus => Text(v => v.as_str().to_owned()),
    model::job::JobState => Text(v => v.as_str().to_owned()),
    model::job::LockMode => Text(v => v.as_str().to_owned()),
}

/// A row of an answer.
#[derive(Debug)]
pub enum Row {
    Sqlite(sqlx::sqlite::SqliteRow),
    Postgres(sqlx::postgres::PgRow),
    MySql(sqlx::mysql::MySqlRow),
}

/// A type that a column can be read as.
pub trait FromColumn: Sized {
    /// Reads column `name` of `row`.
    ///
    /// # Errors
    /// The column is missing or of another type.
    fn read(row: &Row, name: &str) -> Result<Self>;
}

macro_rules! from_column {
    ($($ty:ty),+) => { $(
        impl FromColumn for $ty {
            fn read(row: &Row, name: &str) -> Result<Self> {
                // Unchecked: the databases' integer and text types differ in width only, which decoding handles.
                Ok(match row {
                    Row::Sqlite(row) => row.try_get_unchecked(name)?,
                    Row::Postgres(row) => row.try_get_unchecked(name)?,
                    Row::MySql(row) => row.try_get_unchecked(name)?,
                })
            }
        }
        impl FromColumn for Option<$ty> {
            fn read(row: &Row, name: &str) -> Result<Self> {
                Ok(match row {
                    Row::Sqlite(row) => row.try_get_unchecked(name)?,
                    Row::Postgres(row) => row.try_get_unchecked(name)?,
                    Row::MySql(row) => row.try_get_unchecked(name)?,
                })
            }
        }
    )+ };
}
from_column!(String, i64, bool, chrono::NaiveDateTime);

impl FromColumn for Option<Time> {
    fn read(row: &Row, name: &str) -> Result<Self> {
        Ok(Option::<chrono::NaiveDateTime>::read(row, name)?.map(|naive| naive.and_utc()))
    }
}

impl Row {
    /// The value of a column.
    ///
    /// # Errors
    /// The column is missing or of another type.
    pub fn get<T: FromColumn>(&self, name: &str) -> Result<T> {
        T::read(self, name)
    }

    /// A column that holds an id, a status or another text with a type of its own.
    ///
    /// # Errors
    /// The text is not one of the type's.
    pub fn parse<T: std::str::FromStr>(&self, table: &'static str, column: &'static str) -> Result<T> {
        let value: String = self.get(column)?;
        value.parse().map_err(|_| self.unreadable(table, column, value))
    }

    /// As [`parse`](Self::parse), for a column that may be null or empty.
    ///
    /// # Errors
    /// The text is not one of the type's.
    pub fn parse_opt<T: std::str::FromStr>(
        &self,
        table: &'static str,
        column: &'static str,
    ) -> Result<Option<T>> {
        match self.get::<Option<String>>(column)? {
            None => Ok(None),
            Some(value) if value.is_empty() => Ok(None),
            Some(value) => value.parse().map(Some).map_err(|_| self.unreadable(table, column, value)),
        }
    }

    fn unreadable(&self, table: &'static str, column: &'static str, value: String) -> crate::Error {
        let id = self.get::<String>("id").unwrap_or_default();
        crate::Error::Unreadable { table, column, id, value }
    }

    /// Whether the answer has this column.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Sqlite(row) => name.index(row).is_ok(),
            Self::Postgres(row) => name.index(row).is_ok(),
            Self::MySql(row) => name.index(row).is_ok(),
        }
    }
}
