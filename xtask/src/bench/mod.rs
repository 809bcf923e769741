//! Measurements: each beside its peer, printing a ratio.

mod api;
mod backup;
mod http;
mod iscsi;
mod service;

use anyhow::{Result, bail};

use crate::workspace::Workspace;

/// A measurement.
struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&Workspace, &[String]) -> Result<bool>,
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "api",
        about: "start-up, memory at rest, creates and lists against Cinder's figures [--binary PATH] [--volumes N]",
        run: api::run,
    },
    Bench {
        name: "iscsi",
        about: "4 KiB random and 1 MiB sequential I/O against Debian's tgt on the same file [--binary PATH]",
        run: iscsi::run,
    },
    Bench {
        name: "backup",
        about: "backup and restore through the service: MiB/s and memory [--binary PATH] [--gib N]",
        run: backup::run,
    },
];

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

/// A row of a measurement's table.
#[derive(Debug, Clone)]
pub struct Figure {
    pub what: String,
    pub ours: f64,
    pub peer: Option<f64>,
    pub unit: &'static str,
    /// Whether less is better.
    pub less_is_better: bool,
    /// What it must not be worse than.
    pub bound: Option<f64>,
}

impl Figure {
    /// With a bound that it must not exceed.
    pub fn at_most(self, bound: f64) -> Self {
        Self { bound: Some(bound), ..self }
    }

    /// How many times better than the peer.
    pub fn ratio(&self) -> Option<f64> {
        let peer = self.peer?;
        let (better, worse) = if self.less_is_better { (self.ours, peer) } else { (peer, self.ours) };
        (better > 0.0).then_some(worse / better)
    }

    /// Whether it is within its bound.
    pub fn is_met(&self) -> bool {
        self.bound
            .is_none_or(|bound| if self.less_is_better { self.ours <= bound } else { self.ours >= bound })
    }
}

/// Prints a table with ratios, and a `figure:` line for each row; true when every bound is met.
pub fn print(figures: &[Figure]) -> bool {
    println!("{:<52} {:>14} {:>10} {:>8}  bound", "", "ours", "peer", "ratio");
    for figure in figures {
        let Figure { what, ours, unit, .. } = figure;
        let peer = figure.peer.map_or_else(|| "-".to_owned(), |peer| format!("{peer:.1}"));
        let ratio = figure.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.1}x"));
        let bound = match figure.bound {
            Some(bound) if figure.is_met() => format!("{bound} {unit}: met"),
            Some(bound) => format!("{bound} {unit}: NOT MET"),
            None => String::new(),
        };
        println!("{what:<52} {ours:>8.2} {unit:<5} {peer:>10} {ratio:>8}  {bound}");
    }
    for figure in figures {
        let ratio = figure
            .ratio()
            .map(|ratio| format!(" ({ratio:.1} times better than the peer)"))
            .unwrap_or_default();
        println!("figure: {} = {:.2} {}{ratio}", figure.what, figure.ours, figure.unit);
    }
    figures.iter().all(Figure::is_met)
}

/// The value at `part` (0 to 1) of the sorted samples.
pub fn percentile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len().saturating_sub(1) as f64 * part).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_say_how_many_times_better_either_way() {
        let figure = |ours, peer, less_is_better, bound| Figure {
            what: String::new(),
            ours,
            peer: Some(peer),
            unit: "ms",
            less_is_better,
            bound,
        };
        assert_eq!(figure(2.0, 10.0, true, Some(1.0)).ratio(), Some(5.0));
        assert_eq!(figure(10.0, 2.0, false, Some(1.0)).ratio(), Some(5.0));
        assert!(!figure(2.0, 10.0, true, Some(1.0)).is_met());
        assert!(figure(10.0, 2.0, false, Some(1.0)).is_met());
    }

    #[test]
    fn percentiles_of_few_samples_are_samples() {
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(percentile(&[3.0, 1.0], 1.0), 3.0);
        assert!(percentile(&[], 0.5).is_nan());
    }
}
