//! The table of suites: everything that `check`, `test` and `full` run.
//!
//! Test executables that no row names run in a row of their own package ([`crate::run`] adds it), so that a new crate
//! or test file is never forgotten.

use crate::workspace::Workspace;
use crate::{documents, licences, tidy};

/// When a suite runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// In `check` and `full`: lints that need a compilation of their own.
    Static,
    /// In `check`, `test` (so in CI) and `full`.
    Quick,
    /// In `full` only.
    Full,
}

/// What a suite needs from the machine beyond a Rust toolchain and a C compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Debian packages.
    Packages(&'static [&'static str]),
    /// QEMU's tools with their block modules, all of one build.
    Qemu,
    /// A Python environment with the pinned packages of `tests/clients/requirements.txt`.
    Python,
    /// A Python environment with the pinned packages of `tests/cinder/requirements.txt`, its interpreter in `CINDER_PYTHON`.
    Cinder,
    /// A Python environment with the pinned packages of `tests/keystone/requirements.txt`: Keystone and the stock client.
    Keystone,
    /// A PostgreSQL server, its address in `CINDERBLOCK_TEST_POSTGRES`.
    Postgres,
    /// A MariaDB server, its address in `CINDERBLOCK_TEST_MYSQL`.
    MariaDb,
}

/// What a suite does.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// A check inside this program: one line for each finding.
    Inside(fn(&Workspace) -> anyhow::Result<Vec<String>>),
    /// A cargo command that passes or fails as one.
    Cargo(&'static [&'static str]),
    /// The compilation of every test executable; later rows run them.
    Build,
    /// Test executables: all of a package, or one integration test of it.
    Tests { package: &'static str, target: Option<&'static str>, filter: &'static [&'static str] },
    /// An integration test that exists only with a cargo feature.
    Featured { feature: &'static str, target: &'static str },
    /// The documentation's examples.
    DocTests,
    /// A Python `unittest` module under `tests/`, in the environment among its needs, with the built binary's path in
    /// `CINDERBLOCK_BIN`.
    Python(&'static str),
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Suite {
    pub name: &'static str,
    pub tier: Tier,
    pub needs: &'static [Need],
    pub work: Work,
    /// Minutes after which it is ended and counts as failed.
    pub limit_minutes: u64,
}

const FILESYSTEMS: Need = Need::Packages(&["xfsprogs", "btrfs-progs", "e2fsprogs"]);
/// Records the system calls of a process.
const STRACE: Need = Need::Packages(&["strace"]);
const LIBISCSI: Need = Need::Packages(&["libiscsi-bin"]);

/// All suites, in the order in which they run. What runs the binary comes before what builds it with another feature.
#[rustfmt::skip] // a table reads best as a table
pub const SUITES: &[Suite] = &[
    Suite { name: "format",          tier: Tier::Quick,  needs: &[],                         work: Work::Cargo(&["fmt", "--all", "--check"]),  limit_minutes: 2 },
    Suite { name: "tidy",            tier: Tier::Quick,  needs: &[],                         work: Work::Inside(tidy::findings),               limit_minutes: 2 },
    Suite { name: "licences",        tier: Tier::Quick,  needs: &[],                         work: Work::Inside(licences::findings),           limit_minutes: 2 },
    Suite { name: "documents",       tier: Tier::Quick,  needs: &[],                         work: Work::Inside(documents::findings),          limit_minutes: 2 },
    Suite { name: "lints",           tier: Tier::Static, needs: &[],                         work: Work::Cargo(&["clippy", "--workspace", "--all-targets", "--features", "cinderblock/faults", "--locked", "--", "-D", "warnings"]), limit_minutes: 40 },
    Suite { name: "rustdoc",         tier: Tier::Static, needs: &[],                         work: Work::Cargo(&["doc", "--workspace", "--no-deps", "--locked", "--document-private-items"]),   limit_minutes: 40 },
    Suite { name: "build",           tier: Tier::Quick,  needs: &[],                         work: Work::Build,                                limit_minutes: 60 },
    Suite { name: "db",              tier: Tier::Quick,  needs: &[Need::Postgres, Need::MariaDb, FILESYSTEMS, STRACE], work: Work::Tests { package: "db", target: None, filter: &[] }, limit_minutes: 20 },
    Suite { name: "control",         tier: Tier::Quick,  needs: &[Need::Postgres, Need::MariaDb], work: Work::Tests { package: "control", target: None, filter: &[] }, limit_minutes: 20 },
    Suite { name: "drivers",         tier: Tier::Quick,  needs: &[FILESYSTEMS, Need::Qemu],  work: Work::Tests { package: "drivers", target: None, filter: &[] }, limit_minutes: 20 },
    Suite { name: "iscsi",           tier: Tier::Quick,  needs: &[LIBISCSI, Need::Qemu],     work: Work::Tests { package: "iscsi", target: None, filter: &[] }, limit_minutes: 20 },
    Suite { name: "image",           tier: Tier::Quick,  needs: &[Need::Qemu],               work: Work::Tests { package: "image", target: None, filter: &[] }, limit_minutes: 10 },
    Suite { name: "cinderblock",     tier: Tier::Quick,  needs: &[Need::Postgres, Need::MariaDb, FILESYSTEMS, LIBISCSI, Need::Qemu], work: Work::Tests { package: "cinderblock", target: None, filter: &[] }, limit_minutes: 30 },
    Suite { name: "doc tests",       tier: Tier::Quick,  needs: &[],                         work: Work::DocTests,                             limit_minutes: 20 },
    Suite { name: "clients",         tier: Tier::Quick,  needs: &[Need::Python, LIBISCSI, Need::Qemu], work: Work::Python("clients"),          limit_minutes: 15 },
    Suite { name: "with-keystone",   tier: Tier::Quick,  needs: &[Need::Keystone],           work: Work::Python("keystone"),                   limit_minutes: 10 },
    Suite { name: "crash",           tier: Tier::Quick,  needs: &[FILESYSTEMS],              work: Work::Featured { feature: "cinderblock/faults", target: "crash" }, limit_minutes: 30 },
    Suite { name: "backup",          tier: Tier::Quick,  needs: &[FILESYSTEMS],              work: Work::Tests { package: "backup", target: None, filter: &[] }, limit_minutes: 20 },
    Suite { name: "backup-cinder",   tier: Tier::Full,   needs: &[Need::Cinder],             work: Work::Tests { package: "backup", target: Some("with_cinder"), filter: &[] }, limit_minutes: 20 },
];

/// Prints the table.
pub fn print() {
    for suite in SUITES {
        println!("{:<16} {:<8} {:?}", suite.name, format!("{:?}", suite.tier), suite.needs);
    }
    println!("{:<16} {:<8} every package that no row names", "(package)", "Quick");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_build_precedes_what_runs_its_executables() {
        let mut names: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
        let build = SUITES.iter().position(|suite| matches!(suite.work, Work::Build)).expect("a build row");
        let first =
            SUITES.iter().position(|suite| matches!(suite.work, Work::Tests { .. } | Work::Python(_)));
        assert!(first.is_none_or(|first| build < first));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SUITES.len());
    }
}
