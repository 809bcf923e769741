//! The summary of a full run, committed under `docs/proof/`.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::outcome::Report;
use crate::workspace::Workspace;

/// Writes the summary; returns where. A run of chosen suites proves little: its summary stays out of the tree.
///
/// # Errors
/// When the file cannot be written.
pub fn write(workspace: &Workspace, report: &Report, name: Option<&str>, is_whole: bool) -> Result<PathBuf> {
    let folder = if is_whole { workspace.root.join("docs/proof") } else { workspace.target.join("proof") };
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join(format!("{}.md", name.unwrap_or(workspace.version())));
    let text = render(report, workspace.version(), &workspace.commit(), &machine());
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn render(report: &Report, version: &str, commit: &str, machine: &str) -> String {
    let mut text = String::new();
    let total = report.total();
    let _ = writeln!(text, "# Full run of version {version}\n");
    let _ = writeln!(text, "Commit: {commit}  \nMachine: {machine}  ");
    let _ = writeln!(
        text,
        "Result: {} passed, {} failed, {} not run, in {:.0} s\n",
        total.passed,
        total.failed,
        total.skipped,
        report.time.as_secs_f64()
    );
    text.push_str("| suite | passed | failed | not run | seconds |\n|---|---:|---:|---:|---:|\n");
    for outcome in &report.outcomes {
        let tally = outcome.tally;
        let seconds = outcome.time.as_secs_f64();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {seconds:.1} |",
            outcome.name, tally.passed, tally.failed, tally.skipped
        );
    }
    let troubled: Vec<_> = report.outcomes.iter().filter(|outcome| outcome.trouble.is_some()).collect();
    if !troubled.is_empty() {
        text.push_str("\n## Failed as a whole\n\n");
        for outcome in troubled {
            let _ = writeln!(text, "- {}: {}", outcome.name, outcome.trouble.as_deref().unwrap_or_default());
        }
    }
    if report.outcomes.iter().any(|outcome| !outcome.notes.is_empty()) {
        text.push_str("\n## Figures and seeds\n\n");
        for outcome in &report.outcomes {
            for note in &outcome.notes {
                let _ = writeln!(text, "- {}: {note}", outcome.name);
            }
        }
    }
    text
}

/// Cores, kernel and date: what figures depend on.
fn machine() -> String {
    let output = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = output("uname", &["-sr"]).unwrap_or_default();
    let date = output("date", &["-u", "+%Y-%m-%d"]).unwrap_or_default();
    format!("{cores} cores, {kernel}, {date}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Outcome, Tally};
    use std::time::Duration;

    #[test]
    fn a_suite_that_could_not_run_shows_as_failed_with_its_reason() {
        let outcome = Outcome {
            name: "db".into(),
            tally: Tally { failed: 1, ..Tally::default() },
            time: Duration::from_secs(2),
            notes: vec!["seed: 9".into()],
            trouble: Some("missing Postgres".into()),
        };
        let text = render(
            &Report { outcomes: vec![outcome], time: Duration::from_secs(3) },
            "0.1.0",
            "abc",
            "2 cores",
        );
        assert!(text.contains("| db | 0 | 1 | 0 | 2.0 |"), "{text}");
        assert!(text.contains("- db: missing Postgres") && text.contains("- db: seed: 9"), "{text}");
        assert!(text.contains("Result: 0 passed, 1 failed, 0 not run, in 3 s"), "{text}");
    }
}
