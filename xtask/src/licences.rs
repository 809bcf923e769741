//! What the build may be made of: licences, forbidden crates, and which of our crates may know which.

use anyhow::Result;

use crate::workspace::{Package, Workspace};

/// Licences that a dependency may have (SPDX names). Copyleft is not among them.
const ALLOWED: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "0BSD",
    "ISC",
    "Zlib",
    "CC0-1.0",
    "Unicode-3.0",
    "bzip2-1.0.6",
    "BSL-1.0",
    "Unlicense",
    "CDLA-Permissive-2.0",
];

/// Crates that must not be in the build, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("ring", "one TLS provider only: aws-lc-rs"),
    ("openssl-sys", "one TLS provider only: aws-lc-rs"),
    ("native-tls", "one TLS provider only: aws-lc-rs"),
    ("bindgen", "the build needs a C compiler, not libclang"),
    ("clang-sys", "the build needs a C compiler, not libclang"),
    ("prost-build", "the build needs no protoc: generated code is committed"),
    ("rusqlite", "SQLite is linked once, by sqlx"),
];

/// Our crates, and which of the others, and of [`GUARDED`], they may know: arrows point down only.
#[rustfmt::skip]
const LAYERS: &[(&str, &[&str])] = &[
    ("model",       &[]),
    ("wire",        &["model"]),
    ("db",          &["model", "sqlx"]),
    ("drivers",     &["model"]),
    ("iscsi",       &["model"]),
    ("backup",      &["model"]),
    ("image",       &["model"]),
    ("keystone",    &["model"]),
    ("control",     &["model", "db", "drivers", "iscsi", "backup", "image"]),
    ("api",         &["model", "wire", "control", "keystone", "axum"]),
    ("client",      &["model", "wire"]),
    ("cinderblock", &["model", "wire", "db", "drivers", "iscsi", "backup", "image", "keystone", "control", "api", "client", "axum"]),
    ("xtask",       &[]),
];

/// Crates of others that have one home.
const GUARDED: &[&str] = &["axum", "sqlx"];

/// Every breach, a line each.
///
/// # Errors
/// None of its own; the signature is that of a check.
pub fn findings(workspace: &Workspace) -> Result<Vec<String>> {
    let mut findings: Vec<_> = workspace.all.iter().filter_map(check_package).collect();
    findings.extend(workspace.members.iter().flat_map(check_layer));
    Ok(findings)
}

fn check_package(package: &Package) -> Option<String> {
    let Package { name, version, license, .. } = package;
    if let Some((_, why)) = FORBIDDEN.iter().find(|(forbidden, _)| forbidden == name) {
        return Some(format!("{name} {version} must not be in the build: {why}"));
    }
    match license {
        Some(license) if is_allowed(license) => None,
        Some(license) => Some(format!("{name} {version} has the licence {license:?}, which is not allowed")),
        None => Some(format!("{name} {version} names no licence")),
    }
}

fn check_layer(package: &Package) -> Vec<String> {
    let used = package.dependencies.iter().filter(|dependency| dependency.kind.as_deref() != Some("dev"));
    breaches(&package.name, used.map(|dependency| dependency.name.as_str()))
}

/// What the crate `name` uses and must not.
fn breaches<'a>(name: &str, used: impl Iterator<Item = &'a str>) -> Vec<String> {
    let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == name) else {
        return vec![format!("{name} has no row among the layers")];
    };
    let guarded = |used: &&str| GUARDED.contains(used) || LAYERS.iter().any(|(layer, _)| layer == used);
    let forbidden = used.filter(guarded).filter(|used| !allowed.contains(used));
    forbidden.map(|used| format!("{name} must not depend on {used}")).collect()
}

/// Whether a licence expression can be met with the allowed licences: one side of an OR, both of an AND.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words };
    parser.any() && parser.words.is_empty()
}

struct Parser<'a> {
    words: &'a [&'a str],
}

impl Parser<'_> {
    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first().is_some_and(|first| *first == word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }

    fn any(&mut self) -> bool {
        let mut met = self.all();
        while self.take("OR") {
            met |= self.all();
        }
        met
    }

    fn all(&mut self) -> bool {
        let mut met = self.one();
        while self.take("AND") {
            met &= self.one();
        }
        met
    }

    fn one(&mut self) -> bool {
        if self.take("(") {
            return self.any() & self.take(")");
        }
        let Some((name, rest)) = self.words.split_first() else { return false };
        self.words = rest;
        if self.take("WITH") && !self.words.is_empty() {
            self.words = &self.words[1..]; // an exception only adds permissions
        }
        ALLOWED.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_by_one_side_of_or_and_both_of_and() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR MIT",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND AGPL-3.0", "", "(MIT", "MIT Apache-2.0", "LGPL-2.1 WITH x"] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }
    #[test]
    fn arrows_point_down_only() {
        let breaches = |name, used: &[&str]| breaches(name, used.iter().copied()).len();
        assert_eq!(breaches("control", &["model", "db", "tokio"]), 0);
        assert_eq!(breaches("control", &["model", "wire", "axum", "sqlx"]), 3);
        assert_eq!(breaches("model", &["db", "serde"]), 1);
        assert_eq!(breaches("one that is new", &[]), 1, "every crate has its place");
    }
}
