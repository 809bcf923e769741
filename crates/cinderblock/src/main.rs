//! cinderblock: a complete block-storage service in one binary.
//!
//! `main.rs` knows the command line only. `config.rs` turns flags and files into a [`config::Boot`]; `wiring.rs` builds what
//! the roles share; `roles.rs` runs them.

mod config;
mod data_dir;
mod demo;
mod nova;
mod roles;
mod serve;
mod target;
mod telemetry;
mod wiring;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// Block storage as a service: volumes, snapshots, backups, attachments, over OpenStack's Block Storage API v3.
#[derive(Debug, Parser)]
#[command(name = "cinderblock", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    options: client::cli::Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service: all roles in one process unless told otherwise
    Serve(serve::Serve),
    /// Play the whole story with real bytes, against a temporary service or a running one
    Demo(demo::Demo),
    /// The iSCSI target alone
    #[command(subcommand)]
    Target(target::Command),
    #[command(flatten)]
    User(client::cli::Command),
    /// Print a shell's completion script
    Completion {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let Cli { options, command } = Cli::parse();
    if !options.is_empty() && !matches!(command, Command::User(_)) {
        let text = "options of connection and output go before volume, snapshot and the other resources only";
        Cli::command().error(clap::error::ErrorKind::ArgumentConflict, text).exit();
    }
    match command {
        Command::Serve(serve) => report(serve.run()),
        Command::Demo(demo) => report(demo.run()),
        Command::Target(command) => report(command.run()),
        Command::User(command) => match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(command.run(options)),
            Err(error) => report(Err(error.into())),
        },
        Command::Completion { shell } => {
            report(client::cli::completion(shell, &mut Cli::command()).map_err(Into::into))
        }
    }
}

/// Tells of an error on standard error, with its causes.
fn report(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::say_error(&error);
            // The demo is a user of the service: its codes are the command line's (docs/cli.md).
            error.downcast_ref::<client::Error>().map_or(ExitCode::FAILURE, |error| error.exit_code().into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
