//! Use cases against a whole service in one process: SQLite in a temporary directory, the in-process bus, runners, the `file`
//! driver behind one that can be told to fail or to wait.
//!
//! Every test ends with [`lab::Lab::close`], which demands that nothing is left: no job, lock, promise, leaked file or stuck
//! status, and that every counter equals a recount (I3, I5, I6).
#![allow(clippy::unwrap_used)] // a test

mod driver;
mod extend;
mod group;
mod lab;
mod managing;
mod meeting;
mod moving;
mod quota;
mod seen;
mod snapshot;
mod status;
mod takeover;
