//! House rules that a program can check: lengths, homes of things, forbidden calls.

mod lexer;
mod rules;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace::Workspace;

/// `cargo xtask tidy`: prints the findings; true when there are none.
///
/// # Errors
/// When a source file cannot be read.
pub fn command(workspace: &Workspace) -> Result<bool> {
    let findings = findings(workspace)?;
    findings.iter().for_each(|finding| println!("{finding}"));
    println!("tidy: {} findings", findings.len());
    Ok(findings.is_empty())
}

/// Every breach, a line each: `path:line: what`.
///
/// # Errors
/// When a source file cannot be read.
pub fn findings(workspace: &Workspace) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for folder in ["crates", "xtask"] {
        collect(&workspace.root.join(folder), &mut files)?;
    }
    files.sort();
    let mut findings = Vec::new();
    for file in files {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let path = file.strip_prefix(&workspace.root).unwrap_or(&file).to_string_lossy().into_owned();
        findings.extend(rules::check(&path, &text));
    }
    Ok(findings)
}

/// The `.rs` files under `folder`, build output excepted.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
