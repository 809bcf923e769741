//! Connections: one concrete [`Db`] over three kinds of pool, and its transactions.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Executor as _};

use crate::dialect::Dialect;
use crate::error::{Error, Result};
use crate::group::{Turn, Writer};
use crate::sql::{Row, Stmt, Value};
use crate::url::{self, Target};

/// Waiting longer than this for a connection, or for another process's lock, is an error.
const PATIENCE: Duration = Duration::from_secs(30);
/// A server that has not answered a first connection after this long counts as unreachable.
const REACH: Duration = Duration::from_secs(10);
/// A statement that takes longer than this is worth a line in the log.
const SLOW: Duration = Duration::from_secs(1);

/// READ COMMITTED: a conditional update must see what others committed since we began. A transaction that stands still
/// (its process is stopped, its host gone) is ended by the server: it holds locks that others wait for.
const POSTGRES_SESSION: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED; \
     SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '10s'";
/// As above; strict, so that nothing is cut off to fit. Only MariaDB ends transactions that stand still.
const MYSQL_SESSION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
     SET SESSION sql_mode = 'TRADITIONAL', innodb_lock_wait_timeout = 30 /*M! , idle_transaction_timeout = 10 */";

/// The database. Cloning shares the pools.
#[derive(Debug, Clone)]
pub struct Db {
    pools: Pools,
    meter: Meter,
}

#[derive(Debug, Clone)]
enum Pools {
    /// Processes that share the file take turns by its lock, which nobody takes from one that is stopped in the middle
    /// of a transaction: the others' transactions fail after [`PATIENCE`] until it goes on or is killed.
    Sqlite {
        readers: SqlitePool,
        writer: Writer,
    },
    Postgres(PgPool),
    MySql(MySqlPool),
}

/// A transaction. Dropping it undoes it.
#[derive(Debug)]
pub struct Tx {
    inner: Inner,
    rings: Vec<String>,
    meter: Meter,
}

#[derive(Debug)]
enum Inner {
    Sqlite(Turn),
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
    MySql(sqlx::Transaction<'static, sqlx::MySql>),
}

/// What every statement runs through: counted, timed, named by where it is written.
#[derive(Debug, Clone, Default)]
struct Meter(Arc<AtomicU64>);

impl Meter {
    async fn run<T>(
        &self,
        at: &'static std::panic::Location<'static>,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let result = work.await;
        let took = begun.elapsed();
        metrics::histogram!("cinderblock_database_seconds", "at" => at.to_string())
            .record(took.as_secs_f64());
        if took > SLOW {
            tracing::warn!(%at, duration_ms = took.as_millis() as u64, "a slow statement");
        }
        Ok(result?)
    }
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
        let pools = match url::parse(url)? {
            Target::Sqlite(path) => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(PATIENCE);
                let writer = Writer::open(&options).await?;
                let readers = SqlitePoolOptions::new().max_connections(4).acquire_timeout(PATIENCE);
                Pools::Sqlite { readers: readers.connect_with(options.read_only(true)).await?, writer }
            }
            Target::Postgres(options) => Pools::Postgres(postgres(*options, max_connections).await?),
            Target::MySql(options) => Pools::MySql(mysql(*options, max_connections).await?),
        };
        Ok(Self { pools, meter: Meter::default() })
    }

    /// Which kind of database this is.
    pub fn dialect(&self) -> Dialect {
        match &self.pools {
            Pools::Sqlite { .. } => Dialect::Sqlite,
            Pools::Postgres(_) => Dialect::Postgres,
            Pools::MySql(_) => Dialect::MySql,
        }
    }

    /// How many statements have been run since it was opened; begins and ends of transactions do not count.
    pub fn statements(&self) -> u64 {
        self.meter.0.load(Ordering::Relaxed)
    }

    /// Begins a transaction that may write.
    ///
    /// # Errors
    /// The database is away, or no connection came free in time.
    pub async fn begin(&self) -> Result<Tx> {
        let inner = match &self.pools {
            Pools::Sqlite { writer, .. } => Inner::Sqlite(writer.begin().await?),
            Pools::Postgres(pool) => Inner::Postgres(pool.begin().await?),
            Pools::MySql(pool) => Inner::MySql(pool.begin().await?),
        };
        Ok(Tx { inner, rings: Vec::new(), meter: self.meter.clone() })
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

/// Makes one connection and lets it go. A pool tries again silently until its patience ends, and then tells only that:
/// an operator who mistyped a host or a password must hear the server's own words, at once.
async fn probe<O>(options: &O, server: String) -> Result<()>
where
    O: ConnectOptions<Connection: Sized>,
{
    let reason = match tokio::time::timeout(REACH, options.connect()).await {
        Ok(Ok(conn)) => return Ok(conn.close().await?),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", REACH.as_secs()),
    };
    Err(Error::Unreachable { server, reason })
}

async fn postgres(options: PgConnectOptions, max_connections: u32) -> Result<PgPool> {
    probe(&options, format!("PostgreSQL at {}:{}", options.get_host(), options.get_port())).await?;
    let pool = PgPoolOptions::new().max_connections(max_connections).acquire_timeout(PATIENCE);
    let pool =
        pool.after_connect(|conn, _| Box::pin(async move { conn.execute(POSTGRES_SESSION).await.map(drop) }));
    Ok(pool.connect_with(options).await?)
}

async fn mysql(options: MySqlConnectOptions, max_connections: u32) -> Result<MySqlPool> {
    probe(&options, format!("MySQL at {}:{}", options.get_host(), options.get_port())).await?;
    let pool = MySqlPoolOptions::new().max_connections(max_connections).acquire_timeout(PATIENCE);
    let pool =
        pool.after_connect(|conn, _| Box::pin(async move { conn.execute(MYSQL_SESSION).await.map(drop) }));
    Ok(pool.connect_with(options).await?)
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
        let Self { inner, meter, .. } = self;
        meter
            .run(stmt.at, async {
                Ok(match inner {
                    Inner::Sqlite(turn) => {
                        let result = run!(turn.conn()?, text, as_stored(stmt.args), execute);
                        result.inspect_err(|error| turn.note(error))?.rows_affected()
                    }
                    Inner::Postgres(tx) => run!(&mut **tx, text, stmt.args, execute)?.rows_affected(),
                    Inner::MySql(tx) => run!(&mut **tx, text, stmt.args, execute)?.rows_affected(),
                })
            })
            .await
    }

    /// Remembers to ring `topic` once this has been committed.
    pub fn ring(&mut self, topic: impl Into<String>) {
        self.rings.push(topic.into());
    }

    /// Makes it durable; answers with the topics to ring now.
    ///
    /// # Errors
    /// The database is away, or (Galera) another transaction won: see [`Error::is_conflict`](crate::Error::is_conflict).
    pub async fn commit(self) -> Result<Vec<String>> {
        match self.inner {
            Inner::Sqlite(turn) => turn.commit().await?,
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
        let text = self.0.dialect().render(&stmt.text);
        let work = async {
            Ok(match &self.0.pools {
                Pools::Sqlite { readers, .. } => {
                    let rows = run!(readers, text, as_stored(stmt.args), fetch_all)?;
                    rows.into_iter().map(Row::Sqlite).collect()
                }
                Pools::Postgres(pool) => {
                    run!(pool, text, stmt.args, fetch_all)?.into_iter().map(Row::Postgres).collect()
                }
                Pools::MySql(pool) => {
                    run!(pool, text, stmt.args, fetch_all)?.into_iter().map(Row::MySql).collect()
                }
            })
        };
        self.0.meter.run(stmt.at, work).await
    }
}

impl Read for Tx {
    async fn rows(&mut self, stmt: Stmt) -> Result<Vec<Row>> {
        let text = self.dialect().render(&stmt.text);
        let Self { inner, meter, .. } = self;
        let work = async {
            Ok(match inner {
                Inner::Sqlite(turn) => {
                    let result = run!(turn.conn()?, text, as_stored(stmt.args), fetch_all);
                    result.inspect_err(|error| turn.note(error))?.into_iter().map(Row::Sqlite).collect()
                }
                Inner::Postgres(tx) => {
                    run!(&mut **tx, text, stmt.args, fetch_all)?.into_iter().map(Row::Postgres).collect()
                }
                Inner::MySql(tx) => {
                    run!(&mut **tx, text, stmt.args, fetch_all)?.into_iter().map(Row::MySql).collect()
                }
            })
        };
        meter.run(stmt.at, work).await
    }
}
