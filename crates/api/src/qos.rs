//! QoS specs and their associations with volume types.

use std::collections::BTreeMap;

use control::error;
use control::qos::{DeleteQos, Disassociate, Specs};
use model::{QosId, TypeId};
use serde_json::{Value, json};
use wire::Object;
use wire::qos as shape;
use wire::read::Read;

use crate::answer::{Answer, Outcome};
use crate::call::{Call, Page};
use crate::fault::Fault;
use crate::list::QOS;

fn id(call: &Call) -> Result<QosId, Fault> {
    call.id("id", error::Resource::Qos)
}

/// `GET /qos-specs`.
pub async fn list(call: Call) -> Outcome {
    let listed = call.edge.cloud.qos_list(&call.context, &call.list(&QOS)?).await?;
    let page = Page { key: "qos_specs", links: "qos_specs_links", path: "qos-specs", resource: None };
    Ok(Answer::json(call.page(page, &listed, shape::detail)?))
}

/// `POST /qos-specs`.
pub async fn create(call: Call) -> Outcome {
    let body = call.object("qos_specs");
    let name = body.trimmed("name").unwrap_or_default();
    let qos = call.edge.cloud.qos_create(&call.context, &name, specs(body)?).await?;
    Ok(Answer::json(shape::single(&qos, &call.links)))
}

/// `GET /qos-specs/{id}`.
pub async fn show(call: Call) -> Outcome {
    let qos = call.edge.cloud.qos_show(&call.context, id(&call)?).await?;
    Ok(Answer::json(shape::single(&qos, &call.links)))
}

/// `PUT /qos-specs/{id}`: answers what was asked for.
pub async fn update(call: Call) -> Outcome {
    let wanted = specs(call.object("qos_specs"))?;
    call.edge.cloud.qos_update(&call.context, id(&call)?, wanted).await?;
    Ok(Answer::json(call.body))
}

/// `DELETE /qos-specs/{id}`.
pub async fn delete(call: Call) -> Outcome {
    let how = if call.query.flag("force")? { DeleteQos::Force } else { DeleteQos::IfUnused };
    call.edge.cloud.qos_delete(&call.context, id(&call)?, how).await?;
    Ok(Answer::bare())
}

/// `PUT /qos-specs/{id}/delete_keys`.
pub async fn delete_keys(call: Call) -> Outcome {
    let keys = call.whole().get("keys").and_then(Value::as_array);
    let keys: Vec<String> = keys.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    call.edge.cloud.qos_delete_keys(&call.context, id(&call)?, &keys).await?;
    Ok(Answer::bare())
}

/// `GET /qos-specs/{id}/associations`.
pub async fn associations(call: Call) -> Outcome {
    let types = call.edge.cloud.qos_associations(&call.context, id(&call)?).await?;
    Ok(Answer::json(json!({"qos_associations": shape::associations(&types)})))
}

/// `GET /qos-specs/{id}/associate`.
pub async fn associate(call: Call) -> Outcome {
    let with = type_id(&call)?;
    call.edge.cloud.qos_associate(&call.context, id(&call)?, with).await?;
    Ok(Answer::bare())
}

/// `GET /qos-specs/{id}/disassociate`.
pub async fn disassociate(call: Call) -> Outcome {
    let from = Disassociate::One(type_id(&call)?);
    call.edge.cloud.qos_disassociate(&call.context, id(&call)?, from).await?;
    Ok(Answer::bare())
}

/// `GET /qos-specs/{id}/disassociate_all`.
pub async fn disassociate_all(call: Call) -> Outcome {
    call.edge.cloud.qos_disassociate(&call.context, id(&call)?, Disassociate::All).await?;
    Ok(Answer::bare())
}

fn type_id(call: &Call) -> Result<TypeId, Fault> {
    let text = call.query.get("vol_type_id").filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| Fault::bad_request("Volume Type id must not be None."))?;
    let missing = || error::Error::NotFound(error::Resource::VolumeType, text.to_owned());
    text.parse().map_err(|_| missing().into())
}

/// The specs among the keys of a request: all but the name. Their schema is open, so that they are measured here.
fn specs(body: &Object) -> Result<Specs, Fault> {
    let mut specs = BTreeMap::new();
    for (key, value) in body.iter().filter(|(key, _)| *key != "name") {
        let refuse = |text: String| Err(Fault::bad_request(format!("Invalid input received: {text}")));
        let length = key.chars().count();
        match (length, value) {
            (0, _) => return refuse("Key \"\" has 0 characters, less than 1.".into()),
            (256.., _) => {
                return refuse(format!("Key \"{key}\" has {length} characters, more than 255."));
            }
            (_, Value::Null) => specs.insert(key.clone(), None),
            (_, Value::String(text)) if text.chars().count() > 255 => {
                let length = text.chars().count();
                return refuse(format!("Value for key \"{key}\" has {length} characters, more than 255."));
            }
            (_, Value::String(text)) => specs.insert(key.clone(), Some(text.clone())),
            _ => return refuse(format!("Value for key \"{key}\" is not a string or unicode")),
        };
    }
    Ok(specs)
}
