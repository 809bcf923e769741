//! The workspace as cargo describes it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// Packages, dependencies and places, read once at start.
#[derive(Debug)]
pub struct Workspace {
    pub root: PathBuf,
    pub target: PathBuf,
    /// Ours, in cargo's order.
    pub members: Vec<Package>,
    /// Ours and everything the build for this platform uses.
    pub all: Vec<Package>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Package {
    pub id: String,
    pub name: String,
    pub version: String,
    pub license: Option<String>,
    pub manifest_path: PathBuf,
    pub dependencies: Vec<Dependency>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Dependency {
    pub name: String,
    /// `None` for a normal dependency, else `dev` or `build`.
    pub kind: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    /// When `cargo metadata` fails (no lock file, an unparsable manifest, no network at the first build).
    pub fn load() -> Result<Self> {
        let args = [
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ];
        let output = cargo().args(args).output().context("cannot start cargo")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).context("unreadable cargo metadata")?;
        let is_member = |package: &&Package| metadata.workspace_members.contains(&package.id);
        let members = metadata.packages.iter().filter(is_member).cloned().collect();
        let built = built_packages()?;
        let is_built = |package: &Package| built.contains(&format!("{} v{}", package.name, package.version));
        Ok(Self {
            root: metadata.workspace_root,
            target: metadata.target_directory,
            members,
            all: metadata.packages.into_iter().filter(is_built).collect(),
        })
    }

    /// The version that all crates share.
    pub fn version(&self) -> &str {
        self.members.first().map_or("unknown", |package| &package.version)
    }

    /// The commit that is checked out, marked when the tree differs from it.
    pub fn commit(&self) -> String {
        let git = |args: &[&str]| {
            let output = Command::new("git").args(args).current_dir(&self.root).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let Some(head) = git(&["rev-parse", "HEAD"]) else { return "not a git checkout".to_owned() };
        match git(&["status", "--porcelain"]) {
            Some(changes) if changes.is_empty() => head,
            _ => format!("{head} with uncommitted changes"),
        }
    }
}

/// `NAME vVERSION` of everything that is compiled. The lock file, and so `cargo metadata`, also names what features ask for that
/// nobody switches on.
fn built_packages() -> Result<BTreeSet<String>> {
    let args = ["tree", "--workspace", "--locked", "--prefix", "none", "--format", "{p}"];
    let output = cargo().args(args).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let name = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    Ok(text.lines().map(name).collect())
}

impl Package {
    /// The folder of its manifest.
    pub fn folder(&self) -> &Path {
        self.manifest_path.parent().expect("a manifest is in a folder")
    }
}

/// A cargo command without what `cargo run` put into this process's environment: a nested cargo that sees it would
/// take build scripts for changed.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "LD_LIBRARY_PATH"
        {
            command.env_remove(&name);
        }
    }
    command
}
