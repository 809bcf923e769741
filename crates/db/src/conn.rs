//! Connections: one concrete [`Db`] over three kinds of pool, and its transactions.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::dialect::Dialect;
use crate::error::{Error, Result};
use crate::sql::{Row, Stmt, Value};

/// The database. Cloning shares the pools.
#[derive(Debug, Clone)]
pub struct Db {
    pools: Pools,
}

#[derive(Debug, Clone)]
enum Pools {
    /// One writer: SQLite has one anyway, and waiting for it here is fair where its busy handler is not.
    Sqlite {
        readers: SqlitePool,
        writer: SqlitePool,
    },
    Postgres(PgPool),
    MySql(MySqlPool),
}

/// A transaction. Dropping it undoes it.
#[derive(Debug)]
pub struct Tx {
    inner: Inner,
    rings: Vec<String>,
}

#[derive(Debug)]
enum Inner {
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
    MySql(sqlx::Transaction<'static, sqlx::MySql>),
}

macro_rules! run {
    ($executor:expr, $text:expr, $args:expr, $how:ident) => {{
        let mut query = sqlx::query(AssertSqlSafe($text));
        for value in $args {
            query = match value {
                Value::Text(v) => query.bind(v),
                Value::Int(v) => query.bind(v),
                Value::Bool(v) => query.bind(v),
                Value::Time(v) => query.bind(v),
            };
        }
        query.$how($executor).await
    }};
}

/// SQLite compares times as texts: arguments must be spelled as the rows are, with all six digits of the fraction.
fn as_stored(args: Vec<Value>) -> impl Iterator<Item = Value> {
    args.into_iter().map(|value| match value {
        Value::Time(time) => Value::Text(time.map(|time| time.format("%Y-%m-%d %H:%M:%S%.6f").to_string())),
        other => other,
    })
}

impl Db {
    /// Opens a database by its URL as `[database] connection` has it: `sqlite:///path`, `postgresql://...`,
    /// `mysql+pymysql://...` (SQLAlchemy's driver suffixes are accepted and ignored).
    ///
    /// # Errors
    /// The URL is of no known kind, or the database cannot be reached.
    pub async fn connect(url: &str, max_connections: u32) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| {
            Error::Unusable("the database connection must be a URL such as sqlite:///FILE".into())
        })?;
        let wait = Duration::from_secs(30);
        let pools = match scheme.split('+').next().unwrap_or_default() {
            "sqlite" => return Self::connect_sqlite(rest.strip_prefix('/').unwrap_or(rest)).await,
            "postgresql" | "postgres" => {
                let options = PgConnectOptions::from_str(&format!("postgres://{rest}"))?;
                let pool = PgPoolOptions::new().max_connections(max_connections).acquire_timeout(wait);
                Pools::Postgres(pool.connect_with(options).await?)
            }
            "mysql" | "mariadb" => {
                let options = MySqlConnectOptions::from_str(&format!("mysql://{rest}"))?;
                let pool = MySqlPoolOptions::new()
                    .max_connections(max_connections)
                    .acquire_timeout(wait)
                    .after_connect(|conn, _| {
                        Box::pin(async move {
                            // READ COMMITTED: a conditional update must see what others committed since we began.
                            conn.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
                                .await
                                .map(drop)
                        })
                    });
                Pools::MySql(pool.connect_with(options).await?)
            }
            other => return Err(Error::Unusable(format!("no such kind of database: {other}"))),
        };
        Ok(Self { pools })
    }

    async fn connect_sqlite(path: &str) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(30));
        let one = SqlitePoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(60));
        let writer = one.connect_with(options.clone()).await?;
        let readers =
            SqlitePoolOptions::new().max_connections(4).connect_with(options.read_only(true)).await?;
        Ok(Self { pools: Pools::Sqlite { readers, writer } })
    }

    /// Which kind of database this is.
    pub fn dialect(&self) -> Dialect {
        match &self.pools {
            Pools::Sqlite { .. } => Dialect::Sqlite,
            Pools::Postgres(_) => Dialect::Postgres,
            Pools::MySql(_) => Dialect::MySql,
        }
    }

    /// Begins a transaction that may write.
    ///
    /// # Errors
    /// The database is away, or no connection came free in time.
    pub async fn begin(&self) -> Result<Tx> {
        let inner = match &self.pools {
            Pools::Sqlite { writer, .. } => Inner::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
            Pools::Postgres(pool) => Inner::Postgres(pool.begin().await?),
            Pools::MySql(pool) => Inner::MySql(pool.begin().await?),
        };
        Ok(Tx { inner, rings: Vec::new() })
    }

    async fn fetch(&self, stmt: Stmt) -> Result<Vec<Row>> {
        let text = self.dialect().render(&stmt.text);
        Ok(match &self.pools {
            Pools::Sqlite { readers, .. } => {
                run!(readers, text, as_stored(stmt.args), fetch_all)?.into_iter().map(Row::Sqlite).collect()
            }
            Pools::Postgres(pool) => {
                run!(pool, text, stmt.args, fetch_all)?.into_iter().map(Row::Postgres).collect()
            }
            Pools::MySql(pool) => {
                run!(pool, text, stmt.args, fetch_all)?.into_iter().map(Row::MySql).collect()
            }
        })
    }

    /// Reading outside any transaction, for functions that read either way.
    pub fn read(&self) -> Outside<'_> {
        Outside(self)
    }

    /// Closes every connection, after those in use are done.
    pub async fn close(&self) {
        match &self.pools {
            Pools::Sqlite { readers, writer } => {
                readers.close().await;
                writer.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
            Pools::MySql(pool) => pool.close().await,
        }
    }
}

impl Tx {
    /// Which kind of database this is.
    pub fn dialect(&self) -> Dialect {
        match &self.inner {
            Inner::Sqlite(_) => Dialect::Sqlite,
            Inner::Postgres(_) => Dialect::Postgres,
            Inner::MySql(_) => Dialect::MySql,
        }
    }

    /// Writes; says how many rows matched.
    ///
    /// # Errors
    /// The database is away or refuses the statement.
    pub async fn exec(&mut self, stmt: Stmt) -> Result<u64> {
        let text = self.dialect().render(&stmt.text);
        Ok(match &mut self.inner {
            Inner::Sqlite(tx) => run!(&mut **tx, text, as_stored(stmt.args), execute)?.rows_affected(),
            Inner::Postgres(tx) => run!(&mut **tx, text, stmt.args, execute)?.rows_affected(),
            Inner::MySql(tx) => run!(&mut **tx, text, stmt.args, execute)?.rows_affected(),
        })
    }

    /// Remembers to ring `topic` once this has been committed.
    pub fn ring(&mut self, topic: impl Into<String>) {
        self.rings.push(topic.into());
    }

    /// Makes it durable; answers with the topics to ring now.
    ///
    /// # Errors
    /// The database is away, or (Galera) another transaction won: see [`Error::is_conflict`].
    pub async fn commit(self) -> Result<Vec<String>> {
        match self.inner {
            Inner::Sqlite(tx) => tx.commit().await?,
            Inner::Postgres(tx) => tx.commit().await?,
            Inner::MySql(tx) => tx.commit().await?,
        }
        Ok(self.rings)
    }
}

/// Something that can be read from: a transaction, or the database outside any ([`Db::read`]).
pub trait Read: Send {
    /// Reads rows.
    ///
    /// # Errors
    /// The database is away or refuses the statement.
    fn rows(&mut self, stmt: Stmt) -> impl Future<Output = Result<Vec<Row>>> + Send;

    /// Reads one row, if there is one.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    fn row(&mut self, stmt: Stmt) -> impl Future<Output = Result<Option<Row>>> + Send {
        async { Ok(self.rows(stmt).await?.into_iter().next()) }
    }
}

/// Reads of [`Db::read`]: each sees what is committed at that moment.
#[derive(Debug)]
pub struct Outside<'a>(&'a Db);

impl Read for Outside<'_> {
    async fn rows(&mut self, stmt: Stmt) -> Result<Vec<Row>> {
        self.0.fetch(stmt).await
    }
}

impl Read for Tx {
    async fn rows(&mut self, stmt: Stmt) -> Result<Vec<Row>> {
        let text = self.dialect().render(&stmt.text);
        Ok(match &mut self.inner {
            Inner::Sqlite(tx) => {
                run!(&mut **tx, text, as_stored(stmt.args), fetch_all)?.into_iter().map(Row::Sqlite).collect()
            }
            Inner::Postgres(tx) => {
                run!(&mut **tx, text, stmt.args, fetch_all)?.into_iter().map(Row::Postgres).collect()
            }
            Inner::MySql(tx) => {
                run!(&mut **tx, text, stmt.args, fetch_all)?.into_iter().map(Row::MySql).collect()
            }
        })
    }
}
