//! Every route, one row each.

use crate::catalogue;
use crate::route::Gate::Open;
use crate::route::{Route, get, run};

/// `/v3`. Rows with fixed last segments stand before rows with parameters there.
#[rustfmt::skip] // a table reads best as a table
pub const V3: &[Route] = &[
    get("/extensions",       Open, 200, run!(catalogue::extensions)),
    get("/extensions/{id}",  Open, 200, run!(catalogue::extension)),
    get("/resource_filters", Open, 200, run!(catalogue::filters)),
];

/// `/cinderblock/v1`.
#[rustfmt::skip]
pub const OWN: &[Route] = &[];
