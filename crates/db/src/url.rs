//! `[database] connection` as Cinder's users write it: SQLAlchemy's URLs, whose passwords may hold characters that a
//! strict URL would not.
//!
//! `dialect[+driver]://[user[:password]@][host[:port]][/database][?option=value&...]`. The driver is accepted and
//! ignored, and so are options that only mean something to it; a character set always is UTF-8.

use std::fmt;
use std::path::PathBuf;

use model::Secret;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::postgres::PgConnectOptions;

use crate::error::{Error, Result};

/// Where a database is.
pub(crate) enum Target {
    Sqlite(PathBuf),
    Postgres(Box<PgConnectOptions>),
    MySql(Box<MySqlConnectOptions>),
}

/// The drivers' own would show the password.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite(_) => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
            Self::MySql(_) => "MySQL",
        })
    }
}

/// Reads a connection URL. No error repeats it, because it holds a password.
///
/// # Errors
/// [`Error::Unusable`] says what is wrong with it.
pub(crate) fn parse(url: &str) -> Result<Target> {
    let (scheme, rest) = url
        .split_once("://")
        .ok_or_else(|| unusable("it must be a URL such as sqlite:////var/lib/cinder/cinder.sqlite"))?;
    match scheme.split('+').next().unwrap_or_default() {
        "sqlite" => sqlite(rest),
        "postgresql" | "postgres" => postgres(&Parts::read(rest)?),
        "mysql" | "mariadb" => mysql(&Parts::read(rest)?),
        other => Err(unusable(&format!(
            "{other:?} is no known kind of database: sqlite, postgresql, mysql, mariadb"
        ))),
    }
}

fn unusable(why: &str) -> Error {
    Error::Unusable(format!("[database] connection: {why}"))
}

fn sqlite(rest: &str) -> Result<Target> {
    let path = rest.split('?').next().unwrap_or_default();
    // Three slashes: relative; four: absolute.
    let path = path.strip_prefix('/').ok_or_else(|| {
        unusable("a host makes no sense for SQLite: write sqlite:///FILE or sqlite:////FILE")
    })?;
    if path.is_empty() || path == ":memory:" {
        return Err(unusable("a database in memory would be lost: name a file"));
    }
    Ok(Target::Sqlite(path.into()))
}

/// The parts of a URL of a server, decoded.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parts {
    user: Option<String>,
    password: Option<Secret<String>>,
    host: Option<String>,
    port: Option<u16>,
    database: Option<String>,
    options: Vec<(String, String)>,
}

impl Parts {
    fn read(rest: &str) -> Result<Self> {
        let mut parts = Self::default();
        let mut rest = rest;
        // The password may hold anything but `@`; the user neither `:` nor `/`.
        if let Some((login, after)) = rest.split_once('@')
            && !login.split(':').next().unwrap_or_default().contains('/')
        {
            let (user, password) = match login.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (login, None),
            };
            parts.user = Some(unquote(user)).filter(|user| !user.is_empty());
            parts.password = password.map(unquote).map(Secret::new);
            rest = after;
        }
        let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (server, database) = place.split_once('/').unwrap_or((place, ""));
        parts.database = Some(unquote(database)).filter(|name| !name.is_empty());
        let (host, port) = match server.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((address, port)) => (address, port.strip_prefix(':')),
            None => server.split_once(':').map_or((server, None), |(host, port)| (host, Some(port))),
        };
        if host.contains('@') {
            // The rest of a password would be taken, and shown, for a host.
            return Err(unusable("an @ in the password is to be written as %40"));
        }
        parts.host = Some(unquote(host)).filter(|host| !host.is_empty());
        if let Some(port) = port.filter(|port| !port.is_empty()) {
            parts.port = Some(port.parse().map_err(|_| unusable("the port is not a number below 65536"))?);
        }
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            parts.options.push((unquote(name), unquote(&value.replace('+', " "))));
        }
        Ok(parts)
    }

    fn password(&self) -> Option<&str> {
        self.password.as_ref().map(|password| password.expose().as_str())
    }
}

fn unquote(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `options` with a part of the URL, where the URL has it.
fn with<T, V>(options: T, part: Option<V>, set: impl FnOnce(T, V) -> T) -> T {
    match part {
        Some(part) => set(options, part),
        None => options,
    }
}

fn postgres(parts: &Parts) -> Result<Target> {
    let mut options = PgConnectOptions::new_without_pgpass();
    options = with(options, parts.host.as_deref(), PgConnectOptions::host);
    options = with(options, parts.port, PgConnectOptions::port);
    options = with(options, parts.user.as_deref(), PgConnectOptions::username);
    options = with(options, parts.password(), PgConnectOptions::password);
    options = with(options, parts.database.as_deref(), PgConnectOptions::database);
    for (name, value) in &parts.options {
        options = match name.as_str() {
            "host" if value.starts_with('/') => options.socket(value),
            "host" | "hostaddr" => options.host(value),
            "port" => options.port(value.parse().map_err(|_| unusable("port is not a number"))?),
            "user" => options.username(value),
            "password" => options.password(value),
            "dbname" => options.database(value),
            "sslmode" => options.ssl_mode(value.parse().map_err(|_| unusable("sslmode is none of libpq's"))?),
            "sslrootcert" => options.ssl_root_cert(value),
            "sslcert" => options.ssl_client_cert(value),
            "sslkey" => options.ssl_client_key(value),
            "application_name" => options.application_name(value),
            _ => ignored(options, name),
        };
    }
    Ok(Target::Postgres(Box::new(options)))
}

fn mysql(parts: &Parts) -> Result<Target> {
    let mut options = MySqlConnectOptions::new();
    options = with(options, parts.host.as_deref(), MySqlConnectOptions::host);
    options = with(options, parts.port, MySqlConnectOptions::port);
    options = with(options, parts.user.as_deref(), MySqlConnectOptions::username);
    options = with(options, parts.password(), MySqlConnectOptions::password);
    options = with(options, parts.database.as_deref(), MySqlConnectOptions::database);
    for (name, value) in &parts.options {
        options = match name.as_str() {
            "unix_socket" | "socket" => options.socket(value),
            "ssl_ca" => options.ssl_mode(MySqlSslMode::VerifyCa).ssl_ca(value),
            "ssl_cert" => options.ssl_client_cert(value),
            "ssl_key" => options.ssl_client_key(value),
            "ssl_verify_identity" if is_true(value) => options.ssl_mode(MySqlSslMode::VerifyIdentity),
            "ssl_disabled" if is_true(value) => options.ssl_mode(MySqlSslMode::Disabled),
            _ => ignored(options, name),
        };
    }
    Ok(Target::MySql(Box::new(options)))
}

fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on")
}

/// Those of the character set are known to be needless; others are told of.
fn ignored<T>(options: T, name: &str) -> T {
    if !matches!(name, "charset" | "client_encoding" | "use_unicode") {
        tracing::warn!(option = name, "[database] connection has an option that is not known here");
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(rest: &str) -> Parts {
        Parts::read(rest).expect("reads")
    }

    #[test]
    fn a_server_url_is_taken_apart_as_sqlalchemy_does() {
        let read = parts("cinder:secret@db.example:3307/cinder?charset=utf8&read_timeout=30");
        assert_eq!((read.user.as_deref(), read.password()), (Some("cinder"), Some("secret")));
        assert_eq!((read.host.as_deref(), read.port), (Some("db.example"), Some(3307)));
        assert_eq!(read.database.as_deref(), Some("cinder"));
        assert_eq!(read.options[1], ("read_timeout".into(), "30".into()));
        let read = parts("cinder:p%40ss/w?rd#:x@[::1]/cinder");
        assert_eq!(read.password(), Some("p@ss/w?rd#:x"));
        assert_eq!((read.host.as_deref(), read.port), (Some("::1"), None));
        let read = parts("[fe80::2]:5432/c");
        assert_eq!((read.user, read.host.as_deref(), read.port), (None, Some("fe80::2"), Some(5432)));
        let read = parts("u:@/cinder?unix_socket=/run/my%20sql.sock");
        assert_eq!((read.password(), &read.host), (Some(""), &None));
        assert_eq!(read.options[0].1, "/run/my sql.sock");
        assert_eq!(parts("/db?host=a@b").host, None, "an @ behind the path belongs to no login");
        assert_eq!(parts(""), Parts::default());
        assert!(Parts::read("h:99999/d").is_err());
        let error = Parts::read("u:secret@tail@h/d").expect_err("the password's end is no host").to_string();
        assert!(error.contains("%40") && !error.contains("tail"), "{error}");
    }

    #[test]
    fn every_kind_of_url_that_cinder_takes_is_taken() {
        for url in [
            "postgresql://u:p@h/d",
            "postgresql+psycopg2://u:p@h:5432/d?client_encoding=utf8",
            "postgres://h/d",
        ] {
            assert!(matches!(parse(url), Ok(Target::Postgres(_))), "{url}");
        }
        for url in ["mysql://u:p@h/d", "mysql+pymysql://u:p@h/d?charset=utf8mb4", "mariadb+mysqldb://u@h/d"] {
            assert!(matches!(parse(url), Ok(Target::MySql(_))), "{url}");
        }
        let path = |url: &str| match parse(url) {
            Ok(Target::Sqlite(path)) => path,
            other => panic!("{url}: {other:?}"),
        };
        assert_eq!(path("sqlite:////var/lib/c d.db?timeout=3"), PathBuf::from("/var/lib/c d.db"));
        assert_eq!(path("sqlite:///c.db"), PathBuf::from("c.db"));
    }

    #[test]
    fn what_cannot_be_used_says_why_and_never_the_password() {
        for url in [
            "cinder.db",
            "sqlite://",
            "sqlite:///:memory:",
            "sqlite://h/f",
            "oracle://u:hush@h/d",
            "postgresql://u:hush@h:port/d",
            "postgresql://u:hush@h/d?sslmode=hush",
        ] {
            let error = parse(url).expect_err(url).to_string();
            assert!(
                error.starts_with("[database] connection: ") && !error.contains("hush"),
                "{url}: {error}"
            );
        }
    }
}
