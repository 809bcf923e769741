//! OpenStack's identity service (Keystone) as a service needs it: a token of its own, other people's tokens, the catalogue.
//!
//! [`Session`] is a service's own login: it asks for a token by password, renews it in time, and finds services in the
//! catalogue that came with it. [`Authenticator`] judges the tokens that requests carry, with the meaning and the option names
//! of keystonemiddleware: it asks Keystone once per token, however many requests come with it, and remembers the answer for a
//! while. [`Peer`] speaks to services of the catalogue. [`Options`] reads a section of `cinder.conf` such as `[keystone_authtoken]`.
//!
//! Everything is bounded: each request has a time limit and a number of retries, each judgement a deadline, and the cache, the
//! validations under way and the answers that are read have a largest size. A token is never kept: the cache knows digests.
//!
//! Not here: HTTP's side of a request (the `api` crate's), policy (the `control` crate's), Keystone's version 2.

mod authenticator;
mod cache;
mod error;
mod http;
mod options;
mod peer;
mod rules;
mod session;
mod token;
mod validation;

pub use authenticator::{Asked, Authenticator, AuthenticatorOptions, Identity, Rejection};
pub use error::{Error, Result};
pub use options::{Login, Options, OptionsError, Scope};
pub use peer::Peer;
pub use session::{OwnToken, Session};
pub use token::{Project, Token, User};
