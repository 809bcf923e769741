//! Images: a client of the image service, what is in an image, and moving bytes between images and volumes.
//!
//! Image bytes are a tenant's and hostile until shown otherwise (I7):
//!
//! - the format is the one that the image's record declares. Content is checked against it and never decides it;
//! - what could name another file (backing files, data files, descriptors with paths) is refused before any program that would
//!   follow it sees the image;
//! - a format that needs understanding is converted by `qemu-img` in a sandbox that has the image as one descriptor and the
//!   volume as another ([`convert`]), with the format given, so that it opens nothing by name and guesses nothing;
//! - what a guest has written into a volume is `raw`, always, whatever it looks like.
//!
//! This crate knows `BlockDevice` and claims, and no database, job table or driver.

pub mod config;
pub mod convert;
mod digest;
mod error;
mod fetch;
mod format;
pub mod glance;
pub mod inspect;
mod nbd;
mod put;
mod sandbox;

pub use config::Options;
pub use convert::Converter;
pub use error::{Error, Result};
pub use fetch::{Fetch, fetch};
pub use format::DiskFormat;
pub use glance::{Glance, Image, NewImage};
pub use put::{Put, put};
