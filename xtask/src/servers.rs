//! Database servers for the suites that need them: Debian's, on a free loopback port, in a folder of their own.
//!
//! A shell stands between this program and a server: when the pipe to it closes, because this program has ended in
//! whatever way, it ends the server and removes the folder.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process;

const START_LIMIT: Duration = Duration::from_secs(60);

/// $1: the signal that ends the server at once, whose data is worth nothing; $2: the folder; the rest: the server.
const KEEPER: &str = r#"
signal=$1 folder=$2; shift 2
exec 3<&0
"$@" </dev/null 3<&- & server=$!
(read -r _ <&3; kill -"$signal" "$server" 2>/dev/null) & reader=$!
wait "$server"; status=$?
kill "$reader" 2>/dev/null
rm -rf "$folder"
exit "$status"
"#;

/// A server, gone with this value.
pub struct Server {
    keeper: Child,
    url: String,
}

impl Server {
    /// Initialises a PostgreSQL cluster and starts it. It refuses to run as root, so it runs as its package's user.
    ///
    /// # Errors
    /// When the package is missing or the server does not answer within a minute.
    pub fn postgres(log: &Path) -> Result<Self> {
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
        ]);
        if !process::run(init.arg(&data).current_dir("/"), log, START_LIMIT, false)?.is_success() {
            bail!("initdb failed; see {}", log.display());
        }
        let port = free_port()?;
        let mut server = as_user("postgres", &programs.join("postgres"));
        server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k"]).arg(&folder);
        for option in ["fsync=off", "full_page_writes=off", "max_connections=400", "shared_buffers=64MB"] {
            server.args(["-c", option]);
        }
        Self::start(
            "QUIT",
            &server,
            &folder,
            port,
            format!("postgresql://postgres@127.0.0.1:{port}/postgres"),
            log,
        )
    }

    /// Initialises a MariaDB data directory and starts the server on it.
    ///
    /// # Errors
    /// When the package is missing or the server does not answer within a minute.
    pub fn mariadb(log: &Path) -> Result<Self> {
        let folder = new_folder("mariadb")?;
        let data = folder.join("data");
        let mut init = Command::new("mariadb-install-db");
        init.args([
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--user=root",
        ]);
        init.args(["--innodb-flush-method=nosync", "--skip-name-resolve"]);
        init.arg(format!("--datadir={}", data.display()));
        if !process::run(&mut init, log, START_LIMIT, false)?.is_success() {
            bail!("mariadb-install-db failed; see {}", log.display());
        }
        let port = free_port()?;
        let debian = Path::new("/usr/sbin/mariadbd");
        let mut server = Command::new(if debian.exists() { debian } else { Path::new("mariadbd") });
        server.args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1", "--skip-name-resolve"]);
        server.args(["--innodb-flush-method=nosync", "--innodb-flush-log-at-trx-commit=2", "--skip-log-bin"]);
        server.args(["--innodb-buffer-pool-size=64M", "--max-connections=400"]);
        server.arg(format!("--port={port}")).arg(format!("--datadir={}", data.display()));
        server.arg(format!("--socket={}", folder.join("socket").display()));
        Self::start("KILL", &server, &folder, port, format!("mysql://root@127.0.0.1:{port}/mysql"), log)
    }

    /// Where it is reached, as its superuser and without a password; tests create databases of their own.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn start(
        signal: &str,
        server: &Command,
        folder: &Path,
        port: u16,
        url: String,
        log: &Path,
    ) -> Result<Self> {
        let file = std::fs::File::options().create(true).append(true).open(log)?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", KEEPER, "keeper", signal])
            .arg(folder)
            .arg(server.get_program())
            .args(server.get_args());
        command
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .current_dir("/");
        let keeper = command.spawn().context("cannot start the database server")?;
        let mut server = Self { keeper, url };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = server.keeper.try_wait()? {
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
        drop(self.keeper.stdin.take());
        let start = Instant::now();
        while matches!(self.keeper.try_wait(), Ok(None)) && start.elapsed() < START_LIMIT {
            process::pause(Duration::from_millis(20));
        }
        process::kill_group(&mut self.keeper);
    }
}

/// In memory where that is possible, because the suites make thousands of tables; never under `target/`, because
/// another user must be able to reach it.
fn new_folder(name: &str) -> Result<PathBuf> {
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = root.join(format!("cinderblock-{name}-{}", std::process::id()));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper(folder: &Path, server: &str) -> Child {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEPER, "keeper", "TERM"]).arg(folder).args(["sh", "-c", server]);
        command.stdin(Stdio::piped()).process_group(0).spawn().unwrap()
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("xtask-keeper-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn is_over(mut child: Child) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            if child.try_wait().unwrap().is_some() {
                return true;
            }
            process::pause(Duration::from_millis(20));
        }
        process::kill_group(&mut child);
        false
    }

    #[test]
    fn a_server_ends_with_the_pipe_to_its_keeper() {
        let folder = folder("pipe");
        let mut keeper = keeper(&folder, "exec sleep 60");
        drop(keeper.stdin.take());
        assert!(is_over(keeper));
        assert!(!folder.exists());
    }

    #[test]
    fn a_server_that_ends_by_itself_is_not_waited_for() {
        let folder = folder("dead");
        assert!(is_over(keeper(&folder, "exit 3")));
        assert!(!folder.exists());
    }
}
