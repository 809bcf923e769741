//! The documents against the tree: links lead somewhere, and documented options are read by the code.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace::Workspace;

/// The page whose first table columns are options of `cinder.conf`.
const OPTIONS_PAGE: &str = "docs/configuration.md";
/// Naming an option here does not mean that anything reads it.
const OPTION_TABLE: &str = "crates/model/src/config/known";

/// Every breach, a line each.
///
/// # Errors
/// When a file cannot be read.
pub fn findings(workspace: &Workspace) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for page in pages(&workspace.root)? {
        let text = read(&page)?;
        let folder = page.parent().expect("a page is in a folder");
        let shown = page.strip_prefix(&workspace.root).unwrap_or(&page).display();
        let is_dead = |link: &&str| !folder.join(link).exists();
        findings.extend(
            links(&text).into_iter().filter(is_dead).map(|link| format!("{shown}: {link} does not exist")),
        );
    }
    let options = workspace.root.join(OPTIONS_PAGE);
    if options.exists() {
        let text = read(&options)?;
        let sources = sources(&workspace.root.join("crates"))?;
        let is_unread =
            |option: &&str| !sources.iter().any(|source| source.contains(&format!("\"{option}\"")));
        let unread = documented_options(&text).into_iter().filter(is_unread);
        findings.extend(unread.map(|option| format!("{OPTIONS_PAGE}: nothing reads {option}")));
    }
    Ok(findings)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The documents: in the root, and under `docs/`.
fn pages(root: &Path) -> Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(root)?.flatten() {
        pages.push(entry.path());
    }
    walk(&root.join("docs"), &mut pages)?;
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    Ok(pages)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?.flatten()
    {
        let path = entry.path();
        if path.is_dir() { walk(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

fn sources(folder: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    walk(folder, &mut files)?;
    let is_source = |path: &&PathBuf| {
        path.extension().is_some_and(|extension| extension == "rs")
            && !path.to_string_lossy().contains(OPTION_TABLE)
    };
    files.iter().filter(is_source).map(|path| read(path)).collect()
}

/// Relative targets of Markdown links, without their fragments; code blocks are no prose.
fn links(text: &str) -> Vec<&str> {
    let mut links = Vec::new();
    let mut is_code = false;
    for line in text.lines() {
        is_code ^= line.starts_with("```");
        if is_code {
            continue;
        }
        for part in line.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default().split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                links.push(target);
            }
        }
    }
    links
}

/// Rows of tables that begin with `` | `option` ``; flags are the command line's own matter.
fn documented_options(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|option| !option.starts_with('-'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_links_are_found_and_code_is_left_alone() {
        let text =
            "see [a](x.md#part) and [b](https://example.org/) [c](#here)\n```\n[d](y.md)\n```\n[e](../z/)";
        assert_eq!(links(text), ["x.md", "../z/"]);
    }

    #[test]
    fn options_are_the_first_cells() {
        assert_eq!(
            documented_options("| option | default |\n|---|---|\n| `host` | the `x` name |\n| `--flag` | |"),
            ["host"]
        );
    }
}
