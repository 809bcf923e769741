//! The user command line, for a binary to embed: [`Command`] is a clap subcommand tree, [`Command::run`] runs it.
//!
//! Results go to standard output (tables, or JSON with `--json`), everything else to standard error. The exit code says
//! what kind of failure it was ([`crate::Error::exit_code`]).

mod attachment;
mod backup;
mod fields;
mod job;
mod message;
mod options;
mod output;
mod pool;
mod quota;
mod service;
mod snapshot;
mod volume;
mod volume_type;
mod waiting;

use std::io::Write;
use std::process::ExitCode;

use crate::{Client, Error, Result};
use clap::{Args, Subcommand};
pub use options::Options;
use output::Output;

/// The commands of a user, a subcommand a resource.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Volumes: create, list, show, set, extend, delete
    Volume(Tool<volume::Command>),
    /// Snapshots of volumes
    Snapshot(Tool<snapshot::Command>),
    /// Backups of volumes, and their restore
    Backup(Tool<backup::Command>),
    /// Who uses a volume, and how it is reached
    Attachment(Tool<attachment::Command>),
    /// Volume types
    Type(Tool<volume_type::Command>),
    /// Running and past work, with progress and cancel
    Job(Tool<job::Command>),
    /// The service's roles and whether they are up
    Service(Tool<service::Command>),
    /// Where volumes can go, and how much room there is
    Pool(Tool<pool::Command>),
    /// How much a project may use, and does
    Quota(Tool<quota::Command>),
    /// Why something that was accepted did not work out
    Message(Tool<message::Command>),
}

/// A resource's commands with the options that all share.
#[derive(Debug, Args)]
#[command(mut_args(|option| option.global(true)))]
pub struct Tool<C: Subcommand> {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: C,
}

/// What a command works with.
struct Session {
    client: Client,
    output: Output,
}

impl Session {
    async fn open(options: &Options) -> Result<Self> {
        let client = Client::connect(options.endpoint()?, options.auth()?, options.project()).await?;
        Ok(Self { client, output: Output::new(options.json()) })
    }

    /// Says that something is gone, or will be.
    fn tell_deleted(&self, kind: &str, name: &str, is_gone: bool) -> Result<()> {
        let verb = if is_gone { "deleted" } else { "deleting" };
        self.output.say(&format!("{verb} {kind} {name}"))
    }
}

impl Command {
    /// Runs the command to its end; an error is printed with what to do about it. `before` are the options that stood before
    /// the resource's name: one after it wins.
    pub async fn run(self, before: Options) -> ExitCode {
        match self.dispatch(before).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                if !matches!(error, Error::Reported(_)) {
                    report(&error);
                }
                ExitCode::from(error.exit_code())
            }
        }
    }

    async fn dispatch(self, before: Options) -> Result<()> {
        match self {
            Self::Volume(tool) => tool.command.run(&Session::open(&tool.options.over(before)).await?).await,
            Self::Snapshot(tool) => tool.command.run(&Session::open(&tool.options.over(before)).await?).await,
            Self::Backup(tool) => tool.command.run(&Session::open(&tool.options.over(before)).await?).await,
            Self::Attachment(tool) => {
                tool.command.run(&Session::open(&tool.options.over(before)).await?).await
            }
            Self::Type(tool) => tool.command.run(&Session::open(&tool.options.over(before)).await?).await,
            Self::Job(tool) => tool.command.run(&Session::open(&tool.options.over(before)).await?).await,
            Self::Service(tool) => tool.command.run(&Session::open(&tool.options.over(before)).await?).await,
            Self::Pool(tool) => tool.command.run(&Session::open(&tool.options.over(before)).await?).await,
            Self::Quota(tool) => tool.command.run(&Session::open(&tool.options.over(before)).await?).await,
            Self::Message(tool) => tool.command.run(&Session::open(&tool.options.over(before)).await?).await,
        }
    }
}

/// Prints an error, its causes and the way out to standard error.
fn report(error: &Error) {
    let mut text = format!("error: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(&format!(": {inner_text}"));
        }
        cause = inner.source();
    }
    if let Some(hint) = error.hint() {
        text.push_str(&format!("\nhint: {hint}"));
    }
    // With standard error closed there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes the completion script of a whole program for a shell to standard output.
///
/// # Errors
/// When standard output cannot be written.
pub fn completion(shell: clap_complete::Shell, program: &mut clap::Command) -> std::io::Result<()> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, program, name, &mut script);
    std::io::stdout().write_all(&script)
}

/// Runs `work` for each name, tells of each failure, and goes on; the first failure is the result.
async fn for_each<F: AsyncFnMut(&str) -> Result<()>>(names: &[String], mut work: F) -> Result<()> {
    let mut first = Ok(());
    for name in names {
        let Err(error) = work(name).await else { continue };
        if names.len() > 1 {
            report(&error);
        }
        if first.is_ok() {
            first = Err(error);
        }
    }
    match first {
        // Each has been told of; what is left is the exit code.
        Err(error) if names.len() > 1 => Err(Error::Reported(Box::new(error))),
        other => other,
    }
}
