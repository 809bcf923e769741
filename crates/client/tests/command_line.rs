//! The command tree as a binary embeds it: it is sound, and takes what the documents show.
#![allow(clippy::unwrap_used)] // a test

use clap::{CommandFactory, Parser};

#[derive(Debug, Parser)]
#[command(name = "cinderblock")]
struct Program {
    #[command(flatten)]
    options: client::cli::Options,
    #[command(subcommand)]
    command: client::cli::Command,
}

fn parse(line: &str) -> Result<Program, clap::Error> {
    Program::try_parse_from(line.split_whitespace())
}

#[test]
fn the_command_tree_is_sound() {
    Program::command().debug_assert();
}

#[test]
fn what_the_documents_show_parses() {
    for line in [
        "cinderblock volume create data --size 10 --type fast --metadata a=b --wait",
        "cinderblock volume create copy --source data --wait --timeout 60",
        "cinderblock volume create --snapshot s1",
        "cinderblock volume create --name first --size 1 --wait",
        "cinderblock --help",
        "cinderblock volume list --json --endpoint http://h:1/v3",
        "cinderblock volume --json list --status available --limit 5",
        "cinderblock --endpoint http://h:1/v3 --token a:b --project p --json volume list",
        "cinderblock --endpoint http://h:1/v3 volume list --endpoint http://h:2/v3 --json",
        "cinderblock volume set data --read-only true --name x",
        "cinderblock volume extend data 20 --wait",
        "cinderblock volume delete a b --cascade --force",
        "cinderblock snapshot create data --name s1 --wait",
        "cinderblock backup create data --incremental --force",
        "cinderblock backup restore b1 --volume data --wait",
        "cinderblock attachment create data --initiator iqn.2026-01.x:h --host h --mode ro --secrets",
        "cinderblock attachment create data --initiator iqn.2026-01.x:h --url",
        "cinderblock attachment delete 1 2",
        "cinderblock attachment delete --volume data",
        "cinderblock type create shared --multiattach --property volume_backend_name=local",
        "cinderblock job watch 1",
        "cinderblock quota set p volumes=-1 gigabytes=10",
        "cinderblock message list --resource 1",
        "cinderblock service disable h@local cinder-volume --reason x",
        "cinderblock pool show h@local#local",
    ] {
        let result = parse(line);
        let is_help = |error: &clap::Error| error.kind() == clap::error::ErrorKind::DisplayHelp;
        assert!(result.as_ref().is_ok() || result.as_ref().is_err_and(is_help), "{line}: {result:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_sent() {
    for line in [
        "cinderblock volume create data",
        "cinderblock volume create data --size ten",
        "cinderblock volume create data --source a --snapshot b",
        "cinderblock volume list --token a --user b:c",
        "cinderblock --token a --user b:c volume list",
        "cinderblock --endpoint",
        "cinderblock volume extend data",
        "cinderblock volume delete",
        "cinderblock volume create data --size 1 --timeout 5",
        "cinderblock backup restore b1 --volume a --name b",
        "cinderblock attachment create data --mode rx",
        "cinderblock attachment show 1 --url --json",
        "cinderblock attachment delete",
        "cinderblock attachment delete 1 --volume data",
        "cinderblock quota set p volumes=many",
        "cinderblock volume set data --metadata nonsense",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn credentials_do_not_show_in_debug_output() {
    for line in ["cinderblock volume list --user me:hunter2", "cinderblock --user me:hunter2 volume list"] {
        let program = parse(line).unwrap();
        assert!(!format!("{program:?}").contains("hunter2"));
    }
}
