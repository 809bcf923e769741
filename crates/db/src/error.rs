//! What can go wrong with the database.

use sqlx::mysql::MySqlDatabaseError;
use sqlx::postgres::PgDatabaseError;

/// A database result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused or is away.
    #[error("database: {0}")]
    Sql(#[from] sqlx::Error),
    /// The server cannot be reached, or does not let us in: worth another try later.
    #[error("{server}: {reason}")]
    Unreachable { server: String, reason: String },
    /// A row holds something this version does not understand.
    #[error("{table}.{column} of {id} holds {value:?}, which this version does not know")]
    Unreadable { table: &'static str, column: &'static str, id: String, value: String },
    /// The claim under which the work ran is no longer ours: nothing was changed.
    #[error("job {0} has been taken over by another claim")]
    Fenced(model::JobId),
    /// The database cannot be used as it is, and what to do.
    #[error("{0}")]
    Unusable(String),
    /// JSON of ours that does not parse.
    #[error("stored JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A list request names a column that is not there to sort by.
    #[error("Invalid sort key")]
    BadSortKey(String),
    /// A list request's marker is not a row of the list.
    #[error("no item {0}")]
    BadMarker(String),
}

impl Error {
    /// Whether the transaction lost against another and may simply be run again: a deadlock, a lock that did not come free
    /// in time, a serialisation failure (under Galera also at commit), a busy SQLite file.
    pub fn is_conflict(&self) -> bool {
        let Self::Sql(sqlx::Error::Database(error)) = self else { return false };
        if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
            // Deadlock, lock wait timeout, a record changed since it was read.
            return matches!(error.number(), 1213 | 1205 | 1020);
        }
        match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => matches!(error.code(), "40001" | "40P01" | "55P03"),
            // SQLITE_BUSY and SQLITE_LOCKED, whatever their extended codes.
            None => error
                .code()
                .and_then(|code| code.parse::<u32>().ok())
                .is_some_and(|code| matches!(code & 0xff, 5 | 6)),
        }
    }

    /// Whether the database has no room to write: the transaction is gone, what was committed before stays (SQLite 13; PostgreSQL
    /// 53100; MySQL 1021 and 1114, and 3 when a temporary file could not be written).
    pub fn is_full(&self) -> bool {
        let error = match self {
            Self::Sql(sqlx::Error::Database(error)) => error,
            // Told on by a transaction that failed for several.
            Self::Sql(sqlx::Error::Protocol(text)) => return text.contains("database or disk is full"),
            _ => return false,
        };
        if let Some(error) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
            return matches!(error.number(), 3 | 1021 | 1114);
        }
        matches!(error.code().as_deref(), Some("13" | "53100"))
    }

    /// Whether the database cannot be reached or cannot work just now: nothing is wrong with what was asked of it.
    pub fn is_away(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed => true,
            // SQLite's primary codes of I/O errors and of files that cannot be opened; PostgreSQL's classes 08 (connections) and
            // 57P (shutting down).
            sqlx::Error::Database(error) => error.code().is_some_and(|code| match code.len() {
                5 => code.starts_with("08") || code.starts_with("57P"),
                _ => code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 10 | 14)),
            }),
            _ => false,
        }
    }

    /// Whether a unique constraint refused the row.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(error)) if error.is_unique_violation())
    }
}
