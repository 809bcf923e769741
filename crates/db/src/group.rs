//! SQLite's one writer, shared so that transactions that come together are made durable by one commit.
//!
//! ```text
//!   BEGIN IMMEDIATE                                   COMMIT: durable, all are told
//!     |  SAVEPOINT .. RELEASE   SAVEPOINT .. RELEASE    |
//!     +--- transaction 1 ---------- transaction 2 ------+
//!          then queues again behind those that wait
//! ```
//! Each transaction is a savepoint within an outer one. When it ends while others wait, it lets the next in line go
//! on and queues again itself; the first to come round commits the outer transaction for all that ended in it. Alone,
//! it commits at once. Nobody is told of success before the outer commit, and the line is fair, so that the wait is
//! bounded by those who were there before.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, SqliteConnection};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

/// Waiting longer than this for the writer is an error.
const PATIENCE: Duration = Duration::from_secs(60);

/// The writer. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    state: Arc<Mutex<State>>,
    /// Transactions that wait to begin.
    waiting: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct State {
    /// `None` once it is closed.
    conn: Option<SqliteConnection>,
    /// The outer transaction, while it is open.
    group: Option<Group>,
    /// Transactions that have ended in it.
    members: usize,
}

/// How the outer transaction ended, once it has.
type Group = Arc<watch::Sender<Option<Result<(), Arc<str>>>>>;

impl State {
    async fn run(&mut self, statement: &'static str) -> sqlx::Result<()> {
        let conn = self.conn.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        conn.execute(statement).await.map(drop)
    }

    /// Ends the outer transaction by `statement` and tells all that ended in it.
    async fn settle(&mut self, statement: &'static str) -> sqlx::Result<()> {
        let result = self.run(statement).await;
        if result.is_err() {
            // Most errors have undone it already; a transaction that stayed open would block everybody.
            let _ = self.run("ROLLBACK").await;
        }
        self.tell(result.as_ref().map(drop).map_err(|error| error.to_string().into()));
        result
    }

    fn tell(&mut self, result: Result<(), Arc<str>>) {
        self.members = 0;
        if let Some(group) = self.group.take() {
            group.send_replace(Some(result));
        }
    }

    /// Undoes the transaction whose turn it is; with `lost` everything that has not been committed.
    async fn undo(&mut self, lost: bool) {
        if !lost {
            // Both fail when it had not come so far as to set its savepoint: then there is nothing to undo.
            let _ = self.run("ROLLBACK TO one").await;
            let _ = self.run("RELEASE one").await;
            if self.members > 0 {
                return; // those are in line to commit
            }
        }
        let _ = self.run("ROLLBACK").await;
        self.tell(Err("the database undid a group of transactions when one of them failed".into()));
    }
}

impl Writer {
    /// Opens the connection.
    pub async fn open(options: &SqliteConnectOptions) -> sqlx::Result<Self> {
        let state = State { conn: Some(options.connect().await?), group: None, members: 0 };
        Ok(Self { state: Arc::new(Mutex::new(state)), waiting: Arc::default() })
    }

    /// Waits for its turn and begins.
    pub async fn begin(&self) -> sqlx::Result<Turn> {
        let waiting = Waiting::new(&self.waiting);
        let state = tokio::time::timeout(PATIENCE, self.state.clone().lock_owned())
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)?;
        drop(waiting);
        let mut turn = Turn { writer: self.clone(), state: Some(state), lost: false };
        let state = turn.state.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        if state.group.is_none() {
            // First: should we be dropped while it begins, it is ended all the same.
            state.group = Some(Arc::new(watch::Sender::new(None)));
            state.run("BEGIN IMMEDIATE; SAVEPOINT one").await?;
        } else {
            state.run("SAVEPOINT one").await?;
        }
        Ok(turn)
    }

    /// Commits what has ended and closes the connection.
    pub async fn close(&self) {
        let mut state = self.state.lock().await;
        if state.group.is_some() {
            let _ = state.settle("COMMIT").await;
        }
        if let Some(conn) = state.conn.take() {
            let _ = conn.close().await;
        }
    }
}

/// Counts itself among those that wait, for as long as it lives.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A transaction whose turn it is. Dropping it undoes it.
#[derive(Debug)]
pub(crate) struct Turn {
    writer: Writer,
    /// `None` once it has ended.
    state: Option<OwnedMutexGuard<State>>,
    /// An error has come that makes SQLite undo the outer transaction by itself.
    lost: bool,
}

impl Turn {
    /// The connection to run statements on.
    pub fn conn(&mut self) -> sqlx::Result<&mut SqliteConnection> {
        self.state.as_mut().and_then(|state| state.conn.as_mut()).ok_or(sqlx::Error::PoolClosed)
    }

    /// Takes note of a statement's error. Of SQLite's, only those that blame the statement itself (an error in it, a
    /// value too big, a constraint, a mismatch, a bad argument) are sure to have left the transaction open.
    pub fn note(&mut self, error: &sqlx::Error) {
        let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
        self.lost |= !matches!(code.map(|code| code & 0xff), Some(1 | 18 | 19 | 20 | 25));
    }

    /// Makes it durable, together with those that end in the same group.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        let Some(state) = self.state.take() else { return Err(sqlx::Error::PoolClosed) };
        // On a task of its own: others depend on it to go on, even if our caller loses interest.
        let ending = tokio::spawn(end(self.writer.clone(), state, self.lost));
        ending.await.unwrap_or_else(|error| Err(sqlx::Error::Protocol(error.to_string())))
    }
}

async fn end(writer: Writer, mut state: OwnedMutexGuard<State>, lost: bool) -> sqlx::Result<()> {
    if lost {
        state.undo(true).await;
        return Err(sqlx::Error::Protocol("an earlier error has undone the transaction".into()));
    }
    if writer.waiting.load(Ordering::SeqCst) == 0 {
        return state.settle("RELEASE one; COMMIT").await;
    }
    if let Err(error) = state.run("RELEASE one").await {
        state.undo(true).await;
        return Err(error);
    }
    state.members += 1;
    let group = state.group.clone().ok_or(sqlx::Error::PoolClosed)?;
    drop(state);
    let mut told = group.subscribe();
    let turn = tokio::select! {
        biased;
        () = async { told.wait_for(Option::is_some).await.map(drop).unwrap_or_default() } => None,
        state = writer.state.clone().lock_owned() => Some(state),
    };
    if let Some(mut state) = turn
        && state.group.as_ref().is_some_and(|open| Arc::ptr_eq(open, &group))
    {
        return state.settle("COMMIT").await;
    }
    let result = told.borrow().clone();
    match result {
        Some(Ok(())) => Ok(()),
        Some(Err(why)) => Err(sqlx::Error::Protocol(why.to_string())),
        None => Err(sqlx::Error::PoolClosed),
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(mut state) = self.state.take() else { return };
        let lost = self.lost;
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move { state.undo(lost).await });
            }
            Err(_) => {
                // No runtime any more to wait on: the connection's end undoes it.
                state.conn = None;
                state.tell(Err("the database was closed".into()));
            }
        }
    }
}
