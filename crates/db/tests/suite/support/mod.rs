//! What the tests stand on: a database of their own on a server of ours, and things to put into it.

pub mod catalogue;
pub mod make;
pub mod road;
pub mod server;

use std::sync::atomic::{AtomicU32, Ordering};

use db::Db;
use sqlx::{ConnectOptions as _, Executor as _};

/// Makes one test a database kind of each function.
macro_rules! on_each_database {
    ($($name:ident),+ $(,)?) => { on_each_database!(fresh: $($name),+); };
    ($how:ident: $($name:ident),+ $(,)?) => { $(
        mod $name {
            use crate::support::{Kind, Lab, run};

            #[test]
            fn sqlite() {
                run(async { super::$name(Lab::$how(Kind::Sqlite).await).await });
            }

            #[test]
            fn postgresql() {
                if Kind::Postgres.is_here() {
                    run(async { super::$name(Lab::$how(Kind::Postgres).await).await });
                }
            }

            #[test]
            fn mariadb() {
                if Kind::MariaDb.is_here() {
                    run(async { super::$name(Lab::$how(Kind::MariaDb).await).await });
                }
            }
        }
    )+ };
}

/// Runs a test on a runtime of its own.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(test);
}

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
    MariaDb,
}

impl Kind {
    /// Whether there is a server of this kind to test with.
    pub fn is_here(self) -> bool {
        self == Self::Sqlite || server::url(self).is_some()
    }
}

/// A database of a test's own, gone with this value.
pub struct Lab {
    pub kind: Kind,
    pub url: String,
    pub db: Db,
    _folder: Option<tempfile::TempDir>,
}

/// Enough for the most concurrent of tests to run side by side, few enough for the server.
const CONNECTIONS: u32 = 8;

impl Lab {
    /// With the schema.
    pub async fn fresh(kind: Kind) -> Self {
        if kind == Kind::Postgres {
            return Self::of_template().await;
        }
        let lab = Self::blank(kind).await;
        db::schema::migrate(&lab.db).await.expect("makes the schema");
        lab
    }

    /// With nothing in it.
    pub async fn blank(kind: Kind) -> Self {
        if kind == Kind::Sqlite {
            let folder = tempfile::tempdir().expect("a folder");
            let url = format!("sqlite:///{}/cinder.sqlite", folder.path().display());
            return Self::open(kind, url, Some(folder)).await;
        }
        let how = if kind == Kind::Postgres {
            "TEMPLATE template0 ENCODING 'UTF8'"
        } else {
            // What Cinder's guides make, and a server's own default may be: it ignores case.
            "CHARACTER SET utf8mb3 COLLATE utf8mb3_general_ci"
        };
        let url = server::create_database(kind, &next_name(), how).await;
        Self::open(kind, url, None).await
    }

    /// PostgreSQL copies a database faster than we make the schema. The one that is copied stays on the server.
    async fn of_template() -> Self {
        static TEMPLATE: tokio::sync::OnceCell<String> = tokio::sync::OnceCell::const_new();
        let template = TEMPLATE
            .get_or_init(|| async {
                let name = next_name();
                let how = "TEMPLATE template0 ENCODING 'UTF8'";
                let url = server::create_database(Kind::Postgres, &name, how).await;
                let db = Db::connect(&url, 2).await.expect("opens the template");
                db::schema::migrate(&db).await.expect("makes the schema");
                db.close().await;
                name
            })
            .await;
        let url =
            server::create_database(Kind::Postgres, &next_name(), &format!("TEMPLATE {template}")).await;
        Self::open(Kind::Postgres, url, None).await
    }

    async fn open(kind: Kind, url: String, folder: Option<tempfile::TempDir>) -> Self {
        let db = Db::connect(&url, CONNECTIONS).await.expect("opens");
        Self { kind, url, db, _folder: folder }
    }

    /// Another process's view of the same database: connections of its own.
    pub async fn beside(&self) -> Db {
        Db::connect(&self.url, CONNECTIONS).await.expect("opens beside")
    }

    /// Runs a statement in a transaction of its own, past the crate's functions.
    pub async fn exec(&self, text: &str) -> u64 {
        let mut tx = self.db.begin().await.expect("begins");
        let rows = tx.exec(db::sql::sql(text)).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        tx.commit().await.expect("commits");
        rows
    }

    /// The number that a query answers with as `n`.
    pub async fn number(&self, text: &str) -> i64 {
        use db::Read as _;
        let row =
            self.db.read().row(db::sql::sql(text)).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        row.expect("a row").get("n").expect("a number")
    }

    /// Waits until the database's clock has moved on, so that what is made next is younger.
    pub async fn tick(&self) {
        let first = self.number("SELECT {now} AS n").await;
        // SQLite's clock counts milliseconds.
        while self.number("SELECT {now} AS n").await / 1000 == first / 1000 {
            tokio::task::yield_now().await;
        }
    }
}

fn next_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("lab_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Lab {
    fn name(&self) -> &str {
        self.url.rsplit('/').next().expect("a name")
    }

    /// Loads a dump into the database.
    pub async fn load(&self, dump: &[u8]) {
        if self.kind != Kind::Sqlite {
            return server::load(self.kind, self.name(), dump);
        }
        let file = self.url.trim_start_matches("sqlite:///");
        // In the order of names, as dumps are.
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file).foreign_keys(false);
        let mut conn = options.connect().await.expect("opens");
        let text = String::from_utf8(dump.to_vec()).expect("a text");
        conn.execute(sqlx::AssertSqlSafe(text)).await.expect("loads");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.kind == Kind::Sqlite {
            return;
        }
        let (kind, name) = (self.kind, self.name().to_owned());
        // On a thread of its own, because this one may be the runtime's. A server that is gone keeps nothing.
        let dropped =
            std::thread::spawn(move || run(async move { drop(server::drop_database(kind, &name).await) }));
        let _ = dropped.join();
    }
}

/// A small generator of our own, so that a failure comes again from its seed.
pub struct Dice(pub u64);

impl Dice {
    /// A new seed, printed.
    pub fn seed() -> u64 {
        let seed = u64::from(uuid::Uuid::new_v4().as_fields().0);
        println!("seed: {seed}");
        seed
    }

    /// A number below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }
}
