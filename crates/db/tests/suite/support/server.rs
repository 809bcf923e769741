//! The PostgreSQL and the MariaDB that `xtask` starts, and databases of our own on them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, PgConnection};

use super::Kind;

/// The URL of the server, whose path is the database that it always has.
pub fn url(kind: Kind) -> Option<String> {
    let name = match kind {
        Kind::Sqlite => return None,
        Kind::Postgres => "CINDERBLOCK_TEST_POSTGRES",
        Kind::MariaDb => "CINDERBLOCK_TEST_MYSQL",
    };
    let url = std::env::var(name).ok();
    if url.is_none() {
        println!("not run: {name} names no server; `cargo xtask test --only db` starts one");
    }
    url
}

/// The URL of one of the server's databases.
pub fn url_of(kind: Kind, database: &str) -> String {
    let url = url(kind).expect("a test of a server that is not there is not run");
    format!("{}/{database}", url.rsplit_once('/').expect("a path").0)
}

/// The address of the server.
pub fn address(kind: Kind) -> String {
    let url = url_of(kind, "");
    url.rsplit_once('@').expect("a login").1.trim_end_matches('/').to_owned()
}

/// Makes a database; answers with its URL.
pub async fn create_database(kind: Kind, name: &str, how: &str) -> String {
    administer(kind, &format!("CREATE DATABASE {name} {how}"))
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    url_of(kind, name)
}

/// Removes a database, whoever is connected to it.
pub async fn drop_database(kind: Kind, name: &str) -> sqlx::Result<()> {
    match kind {
        Kind::Postgres => administer(kind, &format!("DROP DATABASE {name} WITH (FORCE)")).await,
        _ => administer(kind, &format!("SET lock_wait_timeout = 5; DROP DATABASE {name}")).await,
    }
}

async fn administer(kind: Kind, text: &str) -> sqlx::Result<()> {
    let url = url(kind).expect("a test of a server that is not there is not run");
    let text = AssertSqlSafe(text.to_owned());
    match kind {
        Kind::Postgres => PgConnection::connect(&url).await?.execute(text).await.map(drop),
        _ => MySqlConnection::connect(&url).await?.execute(text).await.map(drop),
    }
}

/// Loads a dump with the server's own client.
pub fn load(kind: Kind, database: &str, dump: &[u8]) {
    let address = address(kind);
    let (host, port) = address.rsplit_once(':').expect("a port");
    let mut command = Command::new(if kind == Kind::Postgres { "psql" } else { "mariadb" });
    if kind == Kind::Postgres {
        command.args(["-X", "-q", "-h", host, "-p", port, "-U", "postgres", "-v", "ON_ERROR_STOP=1"]);
    } else {
        command.args(["--no-defaults", "-h", host, "-P", port, "-u", "root"]);
    }
    let mut child =
        command.arg(database).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the client");
    child.stdin.take().expect("piped").write_all(dump).expect("the client reads");
    assert!(child.wait().expect("the client ends").success(), "loading a dump into {database}");
}
