//! Measurements: each beside its peer, printing a ratio.

use anyhow::{Result, bail};

use crate::workspace::Workspace;

/// A measurement.
struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&Workspace, &[String]) -> Result<bool>,
}

const BENCHES: &[Bench] = &[];

/// Runs one, or lists all.
///
/// # Errors
/// When there is no such measurement, or it could not be made.
pub fn command(workspace: &Workspace, name: Option<&str>, args: &[String]) -> Result<bool> {
    let Some(name) = name else {
        BENCHES.iter().for_each(|bench| println!("{:<10} {}", bench.name, bench.about));
        return Ok(true);
    };
    match BENCHES.iter().find(|bench| bench.name == name) {
        Some(bench) => (bench.run)(workspace, args),
        None => bail!("no measurement is called {name}; `cargo xtask bench` lists them"),
    }
}
