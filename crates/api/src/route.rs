//! Routes as data: the type of the table's rows, and finding the rows that a request means.

use std::sync::LazyLock;

use control::policy::Action;
use futures::future::BoxFuture;
use wire::microversion::Version;

use crate::answer::Outcome;
use crate::call::Call;
use crate::query::{Plus, decode};
use crate::schema::Body;

/// What serves a route.
pub type Handler = fn(Call) -> BoxFuture<'static, Outcome>;

/// Which policy rule guards a route, and where it is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Nobody is refused.
    Open,
    /// Judged here, before anything is looked up: the caller alone decides.
    Caller(Action),
    /// Judged by the use case, against the resource that the path names: what one may not see is not there.
    Resource(Action),
}

impl Gate {
    /// What the route does, as policy calls it.
    pub fn action(self) -> Option<Action> {
        match self {
            Self::Open => None,
            Self::Caller(action) | Self::Resource(action) => Some(action),
        }
    }
}

/// One operation.
pub struct Route {
    pub method: &'static str,
    /// `/volumes/{id}`: what follows the version and the project.
    pub path: &'static str,
    /// The one key of the body that chooses among the rows of an `.../action` path.
    pub action: Option<&'static str>,
    pub gate: Gate,
    /// What its body must look like; `None`: it takes none.
    pub body: Option<&'static Body>,
    /// The status of success.
    pub success: u16,
    pub run: Handler,
}

impl Route {
    /// The version that brought it.
    pub fn since(&self) -> Version {
        Version::of_route(self.method, self.path, self.action)
    }
}

pub const fn get(path: &'static str, gate: Gate, success: u16, run: Handler) -> Route {
    Route { method: "GET", path, action: None, gate, body: None, success, run }
}

pub const fn delete(path: &'static str, gate: Gate, success: u16, run: Handler) -> Route {
    Route { method: "DELETE", path, action: None, gate, body: None, success, run }
}

pub const fn post(path: &'static str, gate: Gate, body: &'static Body, success: u16, run: Handler) -> Route {
    Route { method: "POST", path, action: None, gate, body: Some(body), success, run }
}

pub const fn put(path: &'static str, gate: Gate, body: &'static Body, success: u16, run: Handler) -> Route {
    Route { method: "PUT", path, action: None, gate, body: Some(body), success, run }
}

/// A `DELETE` with a body.
pub const fn remove(
    path: &'static str,
    gate: Gate,
    body: &'static Body,
    success: u16,
    run: Handler,
) -> Route {
    Route { method: "DELETE", path, action: None, gate, body: Some(body), success, run }
}

/// A `POST` without a body.
pub const fn ring(path: &'static str, gate: Gate, success: u16, run: Handler) -> Route {
    Route { method: "POST", path, action: None, gate, body: None, success, run }
}

pub const fn action(
    path: &'static str,
    name: &'static str,
    gate: Gate,
    body: &'static Body,
    success: u16,
    run: Handler,
) -> Route {
    Route { method: "POST", path, action: Some(name), gate, body: Some(body), success, run }
}

/// Makes a [`Handler`] of an asynchronous function.
macro_rules! run {
    ($handler:path) => {
        |call| Box::pin($handler(call))
    };
}
pub(crate) use run;

/// A row, ready to be matched and checked.
pub struct Entry {
    pub route: &'static Route,
    pub since: Version,
    segments: Vec<&'static str>,
}

/// A table of routes.
pub struct Table(Vec<Entry>);

/// The values of a path's parameters, by name.
pub type Params = Vec<(&'static str, String)>;

/// The rows that a request's method and path mean: one, or the actions of one path.
pub struct Found<'a> {
    pub entries: Vec<&'a Entry>,
    pub params: Params,
}

impl Table {
    /// A table over rows; rows of one path stand in the order in which they are tried.
    pub fn new(routes: &'static [Route]) -> Self {
        let entry = |route: &'static Route| Entry {
            route,
            since: route.since(),
            segments: route.path.split('/').skip(1).collect(),
        };
        Self(routes.iter().map(entry).collect())
    }

    /// Every row.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    /// The rows of a path, given without its leading slash and still encoded.
    pub fn find(&self, method: &str, path: &str) -> Option<Found<'_>> {
        let path = path.strip_suffix(".json").unwrap_or(path);
        let segments: Vec<&str> = path.split('/').collect();
        let first = self
            .0
            .iter()
            .find(|entry| entry.route.method == method && matches(&entry.segments, &segments))?;
        let same =
            self.0.iter().filter(|one| one.route.method == method && one.route.path == first.route.path);
        let params = first.segments.iter().zip(&segments).filter_map(|(pattern, value)| {
            let name = pattern.strip_prefix('{')?.strip_suffix('}')?;
            Some((name, decode(value, Plus::IsItself)))
        });
        Some(Found { entries: same.collect(), params: params.collect() })
    }
}

fn matches(pattern: &[&str], segments: &[&str]) -> bool {
    pattern.len() == segments.len()
        && pattern.iter().zip(segments).all(|(pattern, segment)| {
            if pattern.starts_with('{') { !segment.is_empty() } else { pattern == segment }
        })
}

/// The table of `/v3`.
pub static V3: LazyLock<Table> = LazyLock::new(|| Table::new(crate::table::V3));

/// The table of `/cinderblock/v1`.
pub static OWN: LazyLock<Table> = LazyLock::new(|| Table::new(crate::table::OWN));
