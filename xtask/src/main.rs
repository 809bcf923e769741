//! The project's build tool: `cargo xtask check | test | full | tidy | bench`.
//!
//! Everything that is run to prove the project is a row of the table in [`suite`]; this file only picks rows. CI runs
//! `cargo xtask test`.

mod bench;
mod documents;
mod licences;
mod outcome;
mod process;
mod proof;
mod provision;
mod run;
mod servers;
mod suite;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::suite::Tier;
use crate::workspace::Workspace;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Builds, checks, tests and measures the project")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Formatting, lints, documentation, house rules, then the quick tests: what a change must pass
    Check(Select),
    /// The quick tests; first installs what they need from Debian and PyPI
    Test(Select),
    /// Every suite there is, with a summary written to docs/proof/
    Full {
        #[command(flatten)]
        select: Select,
        /// Name of the summary's file, without `.md` (default: the version)
        #[arg(long)]
        name: Option<String>,
    },
    /// The house rules that can be checked by a program
    Tidy,
    /// Measure something beside its peer and print the ratio
    Bench {
        /// Which measurement; without it, the list
        name: Option<String>,
        /// Arguments of the measurement
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// The table of suites
    Suites,
}

/// Which suites of a tier to run.
#[derive(Debug, clap::Args)]
struct Select {
    /// Only suites whose name contains this (repeatable)
    #[arg(long)]
    only: Vec<String>,
    /// Show the output of every suite as it comes, not only of those that fail
    #[arg(long, short)]
    verbose: bool,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command; true when everything passed.
fn dispatch(command: Command) -> Result<bool> {
    let workspace = Workspace::load()?;
    match command {
        Command::Check(select) => run_tiers(&workspace, &[Tier::Static, Tier::Quick], &select),
        Command::Test(select) => run_tiers(&workspace, &[Tier::Quick], &select),
        Command::Full { select, name } => {
            let report = run::run(&workspace, &request(&[Tier::Static, Tier::Quick, Tier::Full], &select))?;
            let path = proof::write(&workspace, &report, name.as_deref(), select.only.is_empty())?;
            println!("summary: {}", path.display());
            println!("{}", report.closing_line());
            Ok(report.is_green())
        }
        Command::Tidy => tidy::command(&workspace),
        Command::Bench { name, args } => bench::command(&workspace, name.as_deref(), &args),
        Command::Suites => {
            suite::print();
            Ok(true)
        }
    }
}

fn request<'a>(tiers: &'a [Tier], select: &'a Select) -> run::Request<'a> {
    run::Request { tiers, only: &select.only, verbose: select.verbose }
}

fn run_tiers(workspace: &Workspace, tiers: &[Tier], select: &Select) -> Result<bool> {
    let report = run::run(workspace, &request(tiers, select))?;
    println!("{}", report.closing_line());
    Ok(report.is_green())
}
