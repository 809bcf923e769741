//! The HTTP edge: the route table, authentication, microversions, schemas, faults; handlers that call use cases.
//!
//! `table` is the whole API as data. `edge` is the way of a request; [`fault`] alone knows the HTTP statuses of errors.
//! Handlers take a checked `call::Call` and give an [`answer::Answer`]; they know neither SQL nor versions.

pub mod answer;
mod attachment;
pub mod auth;
mod backup;
mod call;
mod catalogue;
mod cluster;
mod consistency_group;
mod default_type;
mod edge;
mod encryption;
pub mod fault;
mod group;
mod group_snapshot;
mod group_type;
pub mod host;
mod job;
pub mod list;
mod literal;
mod manage;
mod message;
mod number;
pub mod openapi;
mod qos;
mod query;
mod quota;
mod raw;
pub mod route;
pub mod schema;
mod service;
mod snapshot;
mod table;
mod transfer;
mod volume;
mod volume_action;
mod volume_metadata;
mod volume_move;
mod volume_type;

pub use auth::Auth;
pub use edge::{Edge, Settings, observer, router};
