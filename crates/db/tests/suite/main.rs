//! The whole of `db` on every database: SQLite, and the PostgreSQL and the MariaDB that `CINDERBLOCK_TEST_POSTGRES` and
//! `CINDERBLOCK_TEST_MYSQL` name; without those it is SQLite alone.
//!
//! A test says what it is for in its name and takes a [`support::Lab`]: a database of its own. Names that begin with
//! an invariant (`i2_...`) defend that invariant of the design.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[macro_use]
mod support;

mod attachment;
mod backup;
mod conn;
mod durability;
mod event;
mod export;
mod group;
mod job;
mod list;
mod lock;
mod message;
mod operator;
mod pool;
mod power;
mod quota;
mod schema;
mod service;
mod several;
mod snapshot;
mod transfer;
mod transition;
mod volume;
mod volume_type;
