//! Database servers for the db suite: Debian's, on a free loopback port, in a folder of their own.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process;

const START_LIMIT: Duration = Duration::from_secs(60);

/// A PostgreSQL server, gone with this value.
pub struct Postgres(Server);

/// A MariaDB server, gone with this value.
pub struct MariaDb(Server);

struct Server {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Postgres {
    /// Initialises a cluster and starts it. The server refuses to run as root, so it runs as its package's user.
    ///
    /// # Errors
    /// When the package is missing or the server does not answer within a minute.
    pub fn start(log: &Path) -> Result<Self> {
        let programs = newest_postgres()?;
        let folder = new_folder("postgres")?;
        owned_by("postgres", &folder, log)?;
        let data = folder.join("data");
        let mut init = as_user("postgres", &programs.join("initdb"));
        init.args([
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "-D",
        ])
        .arg(&data);
        if !process::run(init.current_dir("/"), log, START_LIMIT, false)?.is_success() {
            bail!("initdb failed; see {}", log.display());
        }
        let port = free_port()?;
        let mut server = as_user("postgres", &programs.join("postgres"));
        server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k"]).arg(&folder);
        for option in ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200"] {
            server.args(["-c", option]);
        }
        Server::start(server, folder, port, log).map(Self)
    }

    /// Where it is reached, as its superuser; tests create databases of their own.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.0.port)
    }
}

impl MariaDb {
    /// Initialises a data directory and starts the server on it.
    ///
    /// # Errors
    /// When the package is missing or the server does not answer within a minute.
    pub fn start(log: &Path) -> Result<Self> {
        let folder = new_folder("mariadb")?;
        let data = folder.join("data");
        let mut init = Command::new("mariadb-install-db");
        init.args([
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--user=root",
        ]);
        init.arg(format!("--datadir={}", data.display()));
        if !process::run(&mut init, log, START_LIMIT, false)?.is_success() {
            bail!("mariadb-install-db failed; see {}", log.display());
        }
        let port = free_port()?;
        let mut server = Command::new(if Path::new("/usr/sbin/mariadbd").exists() {
            "/usr/sbin/mariadbd"
        } else {
            "mariadbd"
        });
        server.args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1", "--skip-name-resolve"]);
        server.args([
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=64M",
            "--max-connections=300",
        ]);
        server.arg(format!("--port={port}")).arg(format!("--datadir={}", data.display()));
        server.arg(format!("--socket={}", folder.join("socket").display()));
        Server::start(server, folder, port, log).map(Self)
    }

    /// Where it is reached, as root without a password; tests create databases of their own.
    pub fn url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}/mysql", self.0.port)
    }
}

impl Server {
    fn start(mut command: Command, folder: PathBuf, port: u16, log: &Path) -> Result<Self> {
        let file = std::fs::File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0).current_dir("/");
        let child = command.spawn().context("cannot start the database server")?;
        let mut server = Self { child, folder, port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("the database server ended at once ({status}); see {}", log.display());
            }
            if start.elapsed() > START_LIMIT {
                bail!("the database server does not answer; see {}", log.display());
            }
            process::pause(Duration::from_millis(50));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        process::kill_group(&mut self.child);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Under the temporary directory, not under `target/`: another user must be able to reach it.
fn new_folder(name: &str) -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("cinderblock-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

fn newest_postgres() -> Result<PathBuf> {
    let root = Path::new("/usr/lib/postgresql");
    let versions = std::fs::read_dir(root).context("no PostgreSQL server is installed")?.flatten();
    let newest = versions.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok()).max();
    let version = newest.context("no PostgreSQL server is installed")?;
    Ok(root.join(version.to_string()).join("bin"))
}

fn owned_by(user: &str, folder: &Path, log: &Path) -> Result<()> {
    let mut chown = Command::new("chown");
    chown.arg(user).arg(folder);
    if is_root() && !process::run(&mut chown, log, START_LIMIT, false)?.is_success() {
        bail!("there is no user {user}");
    }
    Ok(())
}

/// `program` as `user`, when we are root; else as ourselves.
fn as_user(user: &str, program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]).arg(program);
    command
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0)
}

/// A port that was free a moment ago; the server binds it itself.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
