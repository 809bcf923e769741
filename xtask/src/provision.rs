//! Installs what suites need: Debian packages, a Python environment, database servers.
//!
//! Made for a bare Debian 12 with root; where something is already there, nothing is touched. Installing twice is
//! harmless. What cannot be had fails the suites that need it, never the others.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::servers::Server;
use crate::suite::Need;
use crate::workspace::Workspace;

/// Tries of an installation while another one holds the package manager's lock or the network fails.
const TRIES: u32 = 6;
const BETWEEN_TRIES: Duration = Duration::from_secs(10);
const COMMAND_LIMIT: Duration = Duration::from_secs(15 * 60);

/// What is there, and what runs for the suites until this value is dropped.
pub struct Provisions<'a> {
    workspace: &'a Workspace,
    log: PathBuf,
    trouble: Vec<(Need, String)>,
    postgres: Option<Server>,
    mariadb: Option<Server>,
}

impl<'a> Provisions<'a> {
    pub fn new(workspace: &'a Workspace) -> Self {
        let log = workspace.target.join("suites/provision.log");
        Self { workspace, log, trouble: Vec::new(), postgres: None, mariadb: None }
    }

    /// Installs all that the needs ask for, in one go; what fails is remembered for [`environment`](Self::environment).
    pub fn install(&mut self, needs: &[Need]) {
        let _ = std::fs::remove_file(&self.log);
        let mut packages = BTreeSet::new();
        for need in needs {
            packages.extend(packages_of(*need).iter().copied());
        }
        if let Err(error) = install_packages(&packages, &self.log) {
            let text = format!("{error:#}");
            println!("installation failed: {text}");
            let has_packages = |need: &&Need| !packages_of(**need).is_empty() && !is_met(**need);
            self.trouble.extend(needs.iter().filter(has_packages).map(|need| (*need, text.clone())));
        }
        if needs.contains(&Need::Qemu) {
            self.attempt(Need::Qemu, |this| install_qemu(&this.log));
        }
        for need in [Need::Python, Need::Cinder, Need::Keystone] {
            if needs.contains(&need) {
                self.attempt(need, |this| install_python(need, this.workspace, &this.log));
            }
        }
    }

    fn attempt(&mut self, need: Need, install: impl FnOnce(&Self) -> Result<()>) {
        if let Err(error) = install(self) {
            println!("installation failed: {error:#}");
            self.trouble.push((need, format!("{error:#}")));
        }
    }

    /// The variables that a suite with these needs gets; starts servers on first use.
    ///
    /// # Errors
    /// When one of its needs could not be met.
    pub fn environment(&mut self, needs: &[Need]) -> Result<Vec<(String, String)>> {
        let mut environment = Vec::new();
        for need in needs {
            if let Some((_, why)) = self.trouble.iter().find(|(what, _)| what == need) {
                bail!("missing {need:?}: {why}");
            }
            match need {
                Need::Postgres => {
                    let server = match &mut self.postgres {
                        Some(server) => server,
                        none => none.insert(Server::postgres(&self.log)?),
                    };
                    environment.push(("CINDERBLOCK_TEST_POSTGRES".to_owned(), server.url().to_owned()));
                }
                Need::MariaDb => {
                    let server = match &mut self.mariadb {
                        Some(server) => server,
                        none => none.insert(Server::mariadb(&self.log)?),
                    };
                    environment.push(("CINDERBLOCK_TEST_MYSQL".to_owned(), server.url().to_owned()));
                }
                Need::Cinder => {
                    let python = python_folder(*need, self.workspace).join("bin/python");
                    environment.push(("CINDER_PYTHON".to_owned(), python.display().to_string()));
                }
                Need::Packages(_) | Need::Qemu | Need::Python | Need::Keystone => {}
            }
        }
        Ok(environment)
    }

    /// The interpreter of the Python environment among the needs.
    pub fn python(&self, needs: &[Need]) -> Result<PathBuf> {
        let need = needs.iter().copied().find(|need| environment_of(*need).is_some());
        let python = python_folder(need.unwrap_or(Need::Python), self.workspace).join("bin/python");
        if python.exists() { Ok(python) } else { bail!("no Python environment at {}", python.display()) }
    }
}

fn packages_of(need: Need) -> &'static [&'static str] {
    match need {
        Need::Packages(names) => names,
        Need::Python | Need::Cinder | Need::Keystone => &["python3", "python3-venv"],
        Need::Postgres => &["postgresql"],
        Need::MariaDb => &["mariadb-server"],
        Need::Qemu => &[], // see install_qemu
    }
}

fn is_met(need: Need) -> bool {
    packages_of(need).iter().all(|name| installed_version(name).is_some())
}

fn installed_version(package: &str) -> Option<String> {
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status} ${Version}", package])
        .output()
        .ok()?;
    String::from_utf8_lossy(&output.stdout).strip_prefix("installed ").map(str::to_owned)
}

fn install_packages(packages: &BTreeSet<&str>, log: &Path) -> Result<()> {
    let missing: Vec<_> = packages.iter().copied().filter(|name| installed_version(name).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    refresh_package_lists(log)?;
    let mut args = vec!["install", "-y", "--no-install-recommends"];
    args.extend(missing);
    apt_get(&args, log)
}

/// Once for each run of this program.
fn refresh_package_lists(log: &Path) -> Result<()> {
    static DONE: std::sync::Once = std::sync::Once::new();
    let mut result = Ok(());
    DONE.call_once(|| result = apt_get(&["update", "-q"], log));
    result
}

/// `apt-get`, again while its lock is held or a download fails. Services that a package would start stay off.
fn apt_get(args: &[&str], log: &Path) -> Result<()> {
    for attempt in 1..=TRIES {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]).args(args);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C").env("RUNLEVEL", "1");
        if process::run(&mut command, log, COMMAND_LIMIT, false)
            .context("this machine has no apt-get")?
            .is_success()
        {
            return Ok(());
        }
        // A half-done installation by another process is completed before the next try.
        if attempt < TRIES {
            process::pause(BETWEEN_TRIES);
        }
    }
    bail!("apt-get {} failed {TRIES} times; see {}", args.join(" "), log.display())
}

/// QEMU loads block modules only of its very own build: both packages come from the release that the installed
/// tools came from (some machines carry those of the backports).
fn install_qemu(log: &Path) -> Result<()> {
    let tools = installed_version("qemu-utils");
    let modules = installed_version("qemu-block-extra");
    if tools.is_some() && tools == modules {
        return Ok(());
    }
    println!("installing qemu-utils qemu-block-extra");
    refresh_package_lists(log)?;
    let mut args = vec!["install", "-y", "--no-install-recommends"];
    if tools.is_some_and(|version| version.contains("~bpo12")) {
        add_backports(log)?;
        args.extend(["-t", "bookworm-backports"]);
    }
    args.extend(["qemu-utils", "qemu-block-extra"]);
    apt_get(&args, log)
}

/// Adds the backports beside the machine's own source of Debian packages: same archive, same key.
fn add_backports(log: &Path) -> Result<()> {
    let policy = Command::new("apt-cache").arg("policy").output().context("no apt-cache")?;
    if String::from_utf8_lossy(&policy.stdout).contains("bookworm-backports") {
        return Ok(());
    }
    let folder = Path::new("/etc/apt/sources.list.d");
    for entry in std::fs::read_dir(folder).context("no package sources")?.flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line[name.len()..].trim().to_owned())
        };
        let suites = field("Suites:").unwrap_or_default();
        if !suites.split_whitespace().any(|suite| suite == "bookworm") {
            continue;
        }
        let (Some(address), Some(key)) = (field("URIs:"), field("Signed-By:")) else { continue };
        let line = format!("deb [signed-by={key}] {address} bookworm-backports main\n");
        std::fs::write(folder.join("bookworm-backports.list"), line)?;
        return apt_get(&["update", "-q"], log);
    }
    bail!("found no source of Debian 12 packages to take the backports from")
}

/// A Python environment's folder under `target/`, and the one under `tests/` that holds its list of packages.
fn environment_of(need: Need) -> Option<(&'static str, &'static str)> {
    match need {
        Need::Python => Some(("venv", "clients")),
        Need::Cinder => Some(("venv-cinder", "cinder")),
        Need::Keystone => Some(("venv-keystone", "keystone")),
        Need::Packages(_) | Need::Qemu | Need::Postgres | Need::MariaDb => None,
    }
}

fn python_folder(need: Need, workspace: &Workspace) -> PathBuf {
    workspace.target.join(environment_of(need).map_or("venv", |(folder, _)| folder))
}

/// A virtual environment with exactly the pinned packages; made anew when the list has changed.
fn install_python(need: Need, workspace: &Workspace, log: &Path) -> Result<()> {
    let folder = python_folder(need, workspace);
    let of = environment_of(need).map_or("clients", |(_, of)| of);
    let list = workspace.root.join(format!("tests/{of}/requirements.txt"));
    let wanted = std::fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let stamp = folder.join("installed.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("installing the Python packages of tests/{of}");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    // Debian's own interpreter: others on the path may lack the venv module.
    let system = Path::new("/usr/bin/python3");
    let mut make = Command::new(if system.exists() { system } else { Path::new("python3") });
    make.args(["-m", "venv"]).arg(&folder);
    if !process::run(&mut make, log, COMMAND_LIMIT, false)?.is_success() {
        bail!("cannot make a Python environment; see {}", log.display());
    }
    for attempt in 1..=TRIES {
        let mut install = Command::new(folder.join("bin/pip"));
        install.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r"]).arg(&list);
        if process::run(&mut install, log, COMMAND_LIMIT, false)?.is_success() {
            return std::fs::write(&stamp, wanted).context("cannot mark the environment as complete");
        }
        if attempt < TRIES {
            process::pause(BETWEEN_TRIES);
        }
    }
    bail!("pip failed {TRIES} times; see {}", log.display())
}
