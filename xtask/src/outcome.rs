//! What a suite's output says: tests passed and failed, figures, seeds.

use std::time::Duration;

/// Tests counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    /// Not run, by an attribute or a condition of the test's own.
    pub skipped: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// How a suite went.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub name: String,
    pub tally: Tally,
    pub time: Duration,
    /// Lines that a suite printed as `figure: NAME = VALUE`, `seed: N` or `crash suite: COUNTS`.
    pub notes: Vec<String>,
    /// Why it failed as a whole, when that is not said by a failed test.
    pub trouble: Option<String>,
}

/// All suites of a run.
#[derive(Debug)]
pub struct Report {
    pub outcomes: Vec<Outcome>,
    pub time: Duration,
}

impl Report {
    /// The sum over all suites.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        for outcome in &self.outcomes {
            total += outcome.tally;
        }
        total
    }

    /// Whether something ran and nothing failed.
    pub fn is_green(&self) -> bool {
        let total = self.total();
        total.failed == 0 && total.passed > 0
    }

    /// `N passed, N failed`: the last line of a run, alone on its line.
    pub fn closing_line(&self) -> String {
        let total = self.total();
        format!("{} passed, {} failed", total.passed, total.failed)
    }
}

/// Counts the tests in the output of Rust's test harness (any number of executables, one after the other).
pub fn count_rust(output: &str) -> Tally {
    let mut tally = Tally::default();
    for line in output.lines() {
        let Some(rest) = line.trim_start().strip_prefix("test result: ") else { continue };
        let number = |word: &str| {
            let part = rest.split([';', '.']).find(|part| part.trim_end().ends_with(word))?;
            part.split_whitespace().next()?.parse::<u64>().ok()
        };
        tally.passed += number("passed").unwrap_or(0);
        tally.failed += number("failed").unwrap_or(0);
        tally.skipped += number("ignored").unwrap_or(0);
    }
    tally
}

/// Counts the tests in the output of Python's `unittest`.
pub fn count_unittest(output: &str) -> Tally {
    let mut tally = Tally::default();
    let mut ran = 0;
    for line in output.lines() {
        if let Some(rest) = line.strip_prefix("Ran ") {
            ran = rest.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0);
        } else if line.starts_with("FAILED (") || line.starts_with("OK (") {
            let inner = line.split_once('(').map_or("", |(_, inner)| inner.trim_end_matches(')'));
            for (word, number) in inner.split(", ").filter_map(|part| part.split_once('=')) {
                let number = number.parse().unwrap_or(0);
                match word {
                    "failures" | "errors" | "unexpected successes" => tally.failed += number,
                    "skipped" => tally.skipped += number,
                    _ => {}
                }
            }
        }
    }
    tally.passed = u64::saturating_sub(ran, tally.failed + tally.skipped);
    tally
}

/// The lines of an output that belong into the summary.
pub fn notes(output: &str) -> Vec<String> {
    let is_note =
        |line: &&str| ["figure: ", "seed: ", "crash suite: "].iter().any(|mark| line.starts_with(mark));
    output.lines().map(str::trim).filter(is_note).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_results_add_up_over_executables() {
        let output = "running 3 tests\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                      test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.2s\n";
        assert_eq!(count_rust(output), Tally { passed: 5, failed: 4, skipped: 1 });
    }

    #[test]
    fn unittest_errors_and_failures_both_count() {
        let output = "Ran 9 tests in 4.2s\n\nFAILED (failures=2, errors=1, skipped=1)\n";
        assert_eq!(count_unittest(output), Tally { passed: 5, failed: 3, skipped: 1 });
        assert_eq!(count_unittest("Ran 2 tests in 0.1s\n\nOK\n"), Tally { passed: 2, failed: 0, skipped: 0 });
        assert_eq!(count_unittest("Traceback: no tests"), Tally::default());
    }

    #[test]
    fn figures_and_seeds_are_kept() {
        assert_eq!(notes("noise\nfigure: start = 0.2 s\nseed: 7\n"), ["figure: start = 0.2 s", "seed: 7"]);
    }
}
