//! What several suites need.
#![allow(dead_code, unused_imports)] // each suite uses its part

pub mod disk;
pub mod mount;

use std::path::Path;

use drivers::Driver;
pub use drivers::conformance::{claim, snapshot, volume};
use drivers::file::{FileConfig, FileDriver};

/// A small seeded generator (xorshift64*): the same numbers everywhere for one seed.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// The seed to use: `SEED` from the environment, or the suite's own. Printed, so that a failure can be repeated.
pub fn seed(own: u64) -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(own);
    println!("SEED={seed}");
    seed
}

/// How many seeds to try: `SEEDS` from the environment, or the suite's own number.
pub fn count(own: u64) -> u64 {
    std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(own)
}

/// A started `file` driver on a directory.
pub async fn driver(dir: &Path) -> FileDriver {
    let driver = FileDriver::new(FileConfig::new(dir, "local"));
    driver.start().await.unwrap();
    driver
}
