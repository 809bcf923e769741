//! The user command line, for a binary to embed: [`Command`] is a clap subcommand tree, [`Command::run`] runs it.
//!
//! Results go to standard output (tables, or JSON with `--json`), everything else to standard error. The exit code says
//! what kind of failure it was ([`crate::Error::exit_code`]).

mod attachment;
mod backup;
mod fields;
mod job;
mod message;
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

use clap::{Args, Subcommand};
use model::Secret;

use crate::{Auth, Client, Endpoint, Error, Result};
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
pub struct Tool<C: Subcommand> {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: C,
}

/// Where the service is, as whom to speak to it, and how to print.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection and output")]
struct Options {
    /// Address of the Block Storage API
    #[arg(long, global = true, value_name = "URL", env = "CINDERBLOCK_ENDPOINT", default_value = Endpoint::DEFAULT)]
    endpoint: String,
    /// Token; USER:PROJECT where the service does not authenticate
    #[arg(long, global = true, env = "CINDERBLOCK_TOKEN", hide_env_values = true, value_parser = secret)]
    token: Option<Secret<String>>,
    /// User and password for HTTP basic authentication
    #[arg(
        long,
        global = true,
        value_name = "USER:PASSWORD",
        env = "CINDERBLOCK_USER",
        hide_env_values = true
    )]
    #[arg(value_parser = secret, conflicts_with = "token")]
    user: Option<Secret<String>>,
    /// Project to work in, when the credentials do not say
    #[arg(long, global = true, value_name = "ID", env = "CINDERBLOCK_PROJECT")]
    project: Option<String>,
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    json: bool,
}

fn secret(text: &str) -> Result<Secret<String>, std::convert::Infallible> {
    Ok(Secret::new(text.to_owned()))
}

impl Options {
    fn auth(&self) -> Result<Auth> {
        if let Some(user) = &self.user {
            let (user, password) = user.expose().split_once(':').ok_or_else(|| {
                Error::Usage("--user (CINDERBLOCK_USER) needs the form USER:PASSWORD".to_owned())
            })?;
            return Ok(Auth::Basic { user: user.to_owned(), password: Secret::new(password.to_owned()) });
        }
        Ok(self.token.clone().map_or(Auth::None, Auth::Token))
    }
}

/// What a command works with.
struct Session {
    client: Client,
    output: Output,
}

impl Session {
    async fn open(options: &Options) -> Result<Self> {
        let endpoint = Endpoint::parse(&options.endpoint)?;
        let client = Client::connect(endpoint, options.auth()?, options.project.clone()).await?;
        Ok(Self { client, output: Output::new(options.json) })
    }

    /// Says that something is gone, or will be.
    fn tell_deleted(&self, kind: &str, name: &str, is_gone: bool) -> Result<()> {
        let verb = if is_gone { "deleted" } else { "deleting" };
        self.output.say(&format!("{verb} {kind} {name}"))
    }
}

impl Command {
    /// Runs the command to its end; an error is printed with what to do about it.
    pub async fn run(self) -> ExitCode {
        match self.dispatch().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                if !matches!(error, Error::Reported(_)) {
                    report(&error);
                }
                ExitCode::from(error.exit_code())
            }
        }
    }

    async fn dispatch(self) -> Result<()> {
        match self {
            Self::Volume(tool) => tool.command.run(&Session::open(&tool.options).await?).await,
            Self::Snapshot(tool) => tool.command.run(&Session::open(&tool.options).await?).await,
            Self::Backup(tool) => tool.command.run(&Session::open(&tool.options).await?).await,
            Self::Attachment(tool) => tool.command.run(&Session::open(&tool.options).await?).await,
            Self::Type(tool) => tool.command.run(&Session::open(&tool.options).await?).await,
            Self::Job(tool) => tool.command.run(&Session::open(&tool.options).await?).await,
            Self::Service(tool) => tool.command.run(&Session::open(&tool.options).await?).await,
            Self::Pool(tool) => tool.command.run(&Session::open(&tool.options).await?).await,
            Self::Quota(tool) => tool.command.run(&Session::open(&tool.options).await?).await,
            Self::Message(tool) => tool.command.run(&Session::open(&tool.options).await?).await,
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
