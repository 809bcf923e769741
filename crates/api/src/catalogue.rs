//! What the service says of itself: extensions and filters.

use serde_json::{Value, json};
use wire::extension;

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::fault::Fault;

/// `GET /extensions`.
pub async fn extensions(_: Call) -> Outcome {
    Ok(Answer::json(json!({"extensions": extension::all()})))
}

/// `GET /extensions/{id}`.
pub async fn extension(call: Call) -> Outcome {
    let found = extension::one(call.param("id")).ok_or_else(|| Fault::generic(404))?;
    Ok(Answer::json(json!({"extension": found})))
}

/// `GET /resource_filters`: what users may filter by.
pub async fn filters(call: Call) -> Outcome {
    let wanted = call.query.get("resource");
    let shown =
        call.edge.settings.filters.all().filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name));
    let list: Vec<Value> =
        shown.map(|(name, filters)| json!({"resource": name, "filters": filters})).collect();
    Ok(Answer::json(json!({"resource_filters": list})))
}

/// `GET /openapi` under our own root.
pub async fn openapi(_: Call) -> Outcome {
    Ok(Answer::json(crate::openapi::document()))
}
