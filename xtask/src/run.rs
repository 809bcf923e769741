//! Runs suites one after the other and prints the time of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::outcome::{self, Outcome, Report, Tally};
use crate::process::{self, Ended};
use crate::provision::Provisions;
use crate::suite::{Need, SUITES, Suite, Tier, Work};
use crate::workspace::{Package, Workspace, cargo};

/// What to run.
#[derive(Debug)]
pub struct Request<'a> {
    pub tiers: &'a [Tier],
    /// Parts of names; empty: all.
    pub only: &'a [String],
    pub verbose: bool,
}

/// The last lines of a failed suite's output that are shown.
const SHOWN_LINES: usize = 300;
/// Our documentation is for those who work on the code: it shows private items, so links to them lead somewhere.
const RUSTDOC_FLAGS: &str = "-D warnings -A rustdoc::private-intra-doc-links";
const PACKAGE_LIMIT_MINUTES: u64 = 20;

/// Runs the suites of a request.
///
/// # Errors
/// Only when nothing can run at all; a suite that cannot run is a failed suite of the report.
pub fn run(workspace: &Workspace, request: &Request<'_>) -> Result<Report> {
    let start = Instant::now();
    let folder = workspace.target.join("suites");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let rows = pick(workspace, request);
    if rows.is_empty() {
        bail!("no suite has such a name; `cargo xtask suites` lists them");
    }
    let mut runner = Runner {
        workspace,
        folder,
        verbose: request.verbose,
        include_ignored: request.tiers.contains(&Tier::Full),
        provisions: Provisions::new(workspace),
        built: None,
    };
    let needs: Vec<Need> = rows.iter().flat_map(|row| row.suite.needs.iter().copied()).collect();
    runner.provisions.install(&needs);
    let mut report = Report { outcomes: Vec::new(), time: Duration::ZERO };
    for row in &rows {
        println!("==> {}", row.name);
        let outcome = runner.run(row);
        println!("{}", line_of(&outcome));
        report.outcomes.push(outcome);
    }
    report.time = start.elapsed();
    println!("\nsuites, in {:.1} s:", report.time.as_secs_f64());
    report.outcomes.iter().for_each(|outcome| println!("{}", line_of(outcome)));
    Ok(report)
}

/// A suite under the name it is shown with.
struct Row {
    name: String,
    suite: Suite,
}

/// The rows of the request: those of the table, and one for each package that no row names.
fn pick(workspace: &Workspace, request: &Request<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    for suite in SUITES {
        if matches!(suite.work, Work::DocTests) {
            rows.extend(unnamed_packages(workspace));
        }
        rows.push(Row { name: suite.name.to_owned(), suite: *suite });
    }
    let is_wanted =
        |row: &Row| request.only.is_empty() || request.only.iter().any(|part| row.name.contains(part));
    rows.retain(|row| request.tiers.contains(&row.suite.tier) && is_wanted(row));
    rows
}

fn unnamed_packages(workspace: &Workspace) -> Vec<Row> {
    // A row for one integration test leaves the package's others to the package's own row.
    let is_named = |package: &Package| {
        SUITES.iter().any(|suite| {
            matches!(suite.work, Work::Tests { package: name, target: None, .. } if name == package.name)
        })
    };
    let row = |package: &Package| Row {
        name: package.name.clone(),
        suite: Suite {
            name: "",
            tier: Tier::Quick,
            needs: &[],
            work: Work::Tests { package: "", target: None, filter: &[] },
            limit_minutes: PACKAGE_LIMIT_MINUTES,
        },
    };
    workspace.members.iter().filter(|package| !is_named(package)).map(row).collect()
}

fn line_of(outcome: &Outcome) -> String {
    let Tally { passed, failed, skipped } = outcome.tally;
    let skipped = if skipped > 0 { format!(", {skipped} not run") } else { String::new() };
    let trouble = outcome.trouble.as_deref().map(|trouble| format!(" [{trouble}]")).unwrap_or_default();
    let seconds = outcome.time.as_secs_f64();
    format!("    {:<16} {seconds:>7.1} s   {passed} passed, {failed} failed{skipped}{trouble}", outcome.name)
}

struct Runner<'a> {
    workspace: &'a Workspace,
    folder: PathBuf,
    verbose: bool,
    include_ignored: bool,
    provisions: Provisions<'a>,
    built: Option<Built>,
}

/// What the compilation left.
#[derive(Debug, Default)]
struct Built {
    /// Test executables by package, with the name and kind of their target.
    tests: BTreeMap<String, Vec<TestExecutable>>,
    /// The `cinderblock` binary, if something built it.
    binary: Option<PathBuf>,
}

#[derive(Debug, Clone)]
struct TestExecutable {
    target: String,
    is_integration: bool,
    path: PathBuf,
}

/// How a suite's work ended, before it is judged.
struct Ran {
    tally: Tally,
    trouble: Option<String>,
}

impl Runner<'_> {
    fn run(&mut self, row: &Row) -> Outcome {
        let start = Instant::now();
        let log = self.folder.join(format!("{}.log", row.name.replace(' ', "-")));
        let _ = std::fs::remove_file(&log);
        let ran = self.work(row, &log).unwrap_or_else(|error| Ran {
            tally: Tally { failed: 1, ..Tally::default() },
            trouble: Some(format!("{error:#}")),
        });
        let output = std::fs::read(&log).unwrap_or_default();
        let output = String::from_utf8_lossy(&output);
        if ran.tally.failed > 0 && !self.verbose {
            print_end(&output);
        }
        let notes = outcome::notes(&output);
        Outcome {
            name: row.name.clone(),
            tally: ran.tally,
            time: start.elapsed(),
            notes,
            trouble: ran.trouble,
        }
    }

    fn work(&mut self, row: &Row, log: &Path) -> Result<Ran> {
        let limit = Duration::from_secs(row.suite.limit_minutes * 60);
        let environment = self.provisions.environment(row.suite.needs)?;
        match row.suite.work {
            Work::Inside(check) => inside(check(self.workspace)?, log),
            Work::Cargo(args) => {
                let mut command = cargo();
                command.args(args).current_dir(&self.workspace.root).env("RUSTDOCFLAGS", RUSTDOC_FLAGS);
                Ok(as_one(process::run(&mut command, log, limit, self.verbose)?, row))
            }
            Work::Build => {
                self.build(log, limit)?;
                Ok(as_one_passed())
            }
            Work::Tests { package, target, filter } => {
                let package = if package.is_empty() { &row.name } else { package };
                self.tests(row, package, target, filter, &environment, log)
            }
            Work::DocTests => {
                let mut command = cargo();
                command.args(["test", "--workspace", "--doc", "--locked"]).current_dir(&self.workspace.root);
                let ended = process::run(&mut command, log, limit, self.verbose)?;
                Ok(judge(outcome::count_rust(&read(log)), ended, row))
            }
            Work::Featured { feature, target } => {
                let mut command = cargo();
                command.args([
                    "test",
                    "--workspace",
                    "--locked",
                    "--features",
                    feature,
                    "--test",
                    target,
                    "--",
                ]);
                command.arg("--show-output").current_dir(&self.workspace.root);
                let ended = process::run(&mut command, log, limit, self.verbose)?;
                let tally = outcome::count_rust(&read(log));
                if tally == Tally::default() && ended.is_success() {
                    bail!("no test ran");
                }
                Ok(judge(tally, ended, row))
            }
            Work::Python(module) => self.python(row, module, &environment, log),
        }
    }

    /// Compiles every test executable and notes where they are.
    fn build(&mut self, log: &Path, limit: Duration) -> Result<()> {
        let list = log.with_extension("json");
        let mut command = Command::new("sh");
        // Messages for programs on standard output, those for people on standard error.
        let script = "out=$1; shift; exec \"$@\" >\"$out\"";
        command.args(["-c", script, "build"]).arg(&list).arg(cargo().get_program());
        command.args([
            "test",
            "--workspace",
            "--no-run",
            "--locked",
            "--message-format=json-render-diagnostics",
        ]);
        for (name, value) in cargo().get_envs() {
            if value.is_none() {
                command.env_remove(name);
            }
        }
        command.current_dir(&self.workspace.root);
        if !process::run(&mut command, log, limit, self.verbose)?.is_success() {
            bail!("the workspace does not compile");
        }
        let text = std::fs::read_to_string(&list).context("no list of artifacts")?;
        self.built = Some(Built::read(&text, self.workspace));
        Ok(())
    }

    fn built(&mut self) -> Result<&Built> {
        if self.built.is_none() {
            let log = self.folder.join("build.log");
            self.build(&log, Duration::from_secs(60 * 60))?;
        }
        self.built.as_ref().context("nothing was built")
    }

    fn tests(
        &mut self,
        row: &Row,
        package: &str,
        target: Option<&str>,
        filter: &[&str],
        environment: &[(String, String)],
        log: &Path,
    ) -> Result<Ran> {
        let include_ignored = self.include_ignored;
        let claimed = claimed_targets(package);
        let is_wanted = |test: &&TestExecutable| match target {
            Some(name) => test.is_integration && test.target == name,
            None => !(test.is_integration && claimed.contains(&test.target.as_str())),
        };
        let built = self.built()?;
        let tests: Vec<_> =
            built.tests.get(package).into_iter().flatten().filter(is_wanted).cloned().collect();
        let binary = built.binary.clone();
        let member = self.workspace.members.iter().find(|member| member.name == package);
        let folder = member.with_context(|| format!("no package {package}"))?.folder();
        let mut ran = Ran { tally: Tally::default(), trouble: None };
        for test in tests {
            let from = std::fs::metadata(log).map_or(0, |data| data.len()) as usize;
            let mut command = Command::new(&test.path);
            command.args(filter).arg("--show-output").current_dir(folder).env("CARGO_MANIFEST_DIR", folder);
            command.env("INSTA_UPDATE", "no").env("INSTA_WORKSPACE_ROOT", &self.workspace.root);
            command.envs(environment.iter().map(|(name, value)| (name, value)));
            command.envs(binary.as_ref().map(|path| ("CINDERBLOCK_BIN", path)));
            if include_ignored {
                command.arg("--include-ignored");
            }
            let limit = Duration::from_secs(row.suite.limit_minutes * 60);
            let ended = process::run(&mut command, log, limit, self.verbose)?;
            let output = read(log);
            let one = judge(outcome::count_rust(output.get(from..).unwrap_or_default()), ended, row);
            ran.tally += one.tally;
            ran.trouble = ran.trouble.or(one.trouble.map(|trouble| format!("{}: {trouble}", test.target)));
        }
        if !row.suite.name.is_empty() && target.is_some() && ran.tally == Tally::default() {
            bail!("no test ran");
        }
        Ok(ran)
    }

    fn python(
        &mut self,
        row: &Row,
        module: &str,
        environment: &[(String, String)],
        log: &Path,
    ) -> Result<Ran> {
        let binary = self.built()?.binary.clone().context("the binary was not built")?;
        let python = self.provisions.python(row.suite.needs)?;
        let mut command = Command::new(python);
        command.args([
            "-m",
            "unittest",
            "discover",
            "--verbose",
            "--top-level-directory",
            "tests",
            "--start-directory",
        ]);
        command
            .arg(format!("tests/{module}"))
            .current_dir(&self.workspace.root)
            .env("CINDERBLOCK_BIN", binary);
        command
            .env("PYTHONWARNINGS", "ignore")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUNBUFFERED", "1");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let limit = Duration::from_secs(row.suite.limit_minutes * 60);
        let ended = process::run(&mut command, log, limit, self.verbose)?;
        let tally = outcome::count_unittest(&read(log));
        if tally == Tally::default() && ended.is_success() {
            bail!("no test ran");
        }
        Ok(judge(tally, ended, row))
    }
}

/// The integration tests of a package that rows of their own run.
fn claimed_targets(package: &str) -> Vec<&'static str> {
    let claim = |suite: &Suite| match suite.work {
        Work::Tests { package: name, target: Some(target), .. } if name == package => Some(target),
        _ => None,
    };
    SUITES.iter().filter_map(claim).collect()
}

fn read(log: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
}

fn as_one_passed() -> Ran {
    Ran { tally: Tally { passed: 1, ..Tally::default() }, trouble: None }
}

/// A command that counts as one test.
fn as_one(ended: Ended, row: &Row) -> Ran {
    if ended.is_success() { as_one_passed() } else { judge(Tally::default(), ended, row) }
}

/// A command that ended badly has failed, whatever it counted.
fn judge(mut tally: Tally, ended: Ended, row: &Row) -> Ran {
    let trouble = match ended {
        Ended::TimedOut => Some(format!("not done after {} minutes", row.suite.limit_minutes)),
        Ended::Exited(status) if !status.success() && tally.failed == 0 => Some(status.to_string()),
        Ended::Exited(_) => None,
    };
    if trouble.is_some() {
        tally.failed += 1;
    }
    Ran { tally, trouble }
}

/// Findings count as one failed test and are kept in the log.
fn inside(findings: Vec<String>, log: &Path) -> Result<Ran> {
    if findings.is_empty() {
        return Ok(as_one_passed());
    }
    let text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    std::fs::write(log, text)?;
    let trouble = Some(format!("{} findings", findings.len()));
    Ok(Ran { tally: Tally { failed: 1, ..Tally::default() }, trouble })
}

fn print_end(output: &str) {
    let lines: Vec<_> = output.lines().collect();
    let skipped = lines.len().saturating_sub(SHOWN_LINES);
    if skipped > 0 {
        println!("    ({skipped} lines before)");
    }
    lines.iter().skip(skipped).for_each(|line| println!("    {line}"));
}

/// A message of cargo's about one built target.
#[derive(Deserialize)]
struct Artifact {
    reason: String,
    #[serde(default)]
    package_id: String,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

impl Built {
    /// Reads cargo's messages, one JSON document a line.
    fn read(messages: &str, workspace: &Workspace) -> Self {
        let mut built = Self::default();
        for artifact in messages.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok()) {
            let Artifact {
                reason,
                package_id,
                target: Some(target),
                profile: Some(profile),
                executable: Some(path),
            } = artifact
            else {
                continue;
            };
            let Some(package) = workspace.members.iter().find(|package| package.id == package_id) else {
                continue;
            };
            if reason != "compiler-artifact" {
                continue;
            }
            if profile.test {
                let is_integration = target.kind.iter().any(|kind| kind == "test");
                let test = TestExecutable { target: target.name, is_integration, path };
                built.tests.entry(package.name.clone()).or_default().push(test);
            } else if target.name == "cinderblock" {
                built.binary = Some(path);
            }
        }
        built
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> Workspace {
        let package = Package {
            id: "path+file:///x#model@0.1.0".into(),
            name: "model".into(),
            version: "0.1.0".into(),
            license: None,
            manifest_path: "/x/Cargo.toml".into(),
            dependencies: Vec::new(),
        };
        Workspace { root: "/".into(), target: "/t".into(), members: vec![package], all: Vec::new() }
    }

    #[test]
    fn test_executables_are_found_among_other_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","package_id":"path+file:///x#model@0.1.0","target":{"name":"model","kind":["lib"]},"profile":{"test":true},"executable":"/t/model-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","package_id":"path+file:///x#model@0.1.0","target":{"name":"model","kind":["lib"]},"profile":{"test":false},"executable":null}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let built = Built::read(messages, &workspace());
        assert_eq!(built.tests["model"].len(), 1);
        assert!(!built.tests["model"][0].is_integration);
        assert!(built.binary.is_none());
    }

    #[test]
    fn a_package_without_a_row_gets_one_before_the_doc_tests() {
        let request = Request { tiers: &[Tier::Quick], only: &[], verbose: false };
        let rows = pick(&workspace(), &request);
        let position = |name: &str| rows.iter().position(|row| row.name == name).unwrap();
        assert!(position("build") < position("model") && position("model") < position("doc tests"));
    }

    #[test]
    fn a_command_that_counts_nothing_but_ends_badly_has_failed() {
        let status = Command::new("false").status().unwrap();
        let row = &unnamed_packages(&workspace())[0];
        assert_eq!(judge(Tally::default(), Ended::Exited(status), row).tally.failed, 1);
        assert_eq!(judge(Tally { passed: 3, ..Tally::default() }, Ended::TimedOut, row).tally.failed, 1);
    }
}
