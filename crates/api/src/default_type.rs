//! The default volume types of projects.

use control::Error;
use model::TypeId;
use serde_json::{Value, json};
use wire::read::Read;

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::fault::Fault;

/// Whoever may not is told so without the rule's name.
fn told(error: Error) -> Fault {
    match error {
        Error::Forbidden(_) => Fault::forbidden("You are not authorized to perform this operation."),
        other => other.into(),
    }
}

fn shape(project: &str, type_id: TypeId) -> Value {
    json!({"project_id": project, "volume_type_id": type_id})
}

/// `GET /default-types`.
pub async fn list(call: Call) -> Outcome {
    let listed = call.edge.cloud.default_type_list(&call.context).await.map_err(told)?;
    let list: Vec<Value> = listed.iter().map(|(project, type_id)| shape(project, *type_id)).collect();
    Ok(Answer::json(json!({"default_types": list})))
}

/// `GET /default-types/{id}`.
pub async fn show(call: Call) -> Outcome {
    let project = call.param("id");
    let found = call.edge.cloud.default_type_show(&call.context, project).await.map_err(told)?;
    Ok(Answer::json(json!({"default_type": shape(project, found)})))
}

/// `PUT /default-types/{id}`.
pub async fn set(call: Call) -> Outcome {
    let wanted = call.object("default_type").text("volume_type").unwrap_or_default();
    let project = call.param("id");
    let set = call.edge.cloud.default_type_set(&call.context, project, &wanted).await.map_err(told)?;
    Ok(Answer::json(json!({"default_type": shape(project, set)})))
}

/// `DELETE /default-types/{id}`.
pub async fn unset(call: Call) -> Outcome {
    call.edge.cloud.default_type_unset(&call.context, call.param("id")).await.map_err(told)?;
    Ok(Answer::none())
}
