//! Volume types, their extra specs, and who may use private ones.

use std::collections::BTreeMap;

use control::error;
use control::policy::{Action, Target};
use control::request::{NewType, TypeVisibility, UpdateType};
use model::{TypeId, VolumeType};
use serde_json::{Value, json};
use wire::Object;
use wire::read::Read;
use wire::volume_type::{self as shape, Sees};
use wire::wrap;

use crate::answer::{Answer, Outcome};
use crate::call::{Call, Page};
use crate::fault::Fault;
use crate::list::TYPES;

fn id(call: &Call, name: &str) -> Result<TypeId, Fault> {
    call.id(name, error::Resource::VolumeType)
}

fn allows(call: &Call, action: Action) -> bool {
    call.edge.cloud.policy.allows(action, &call.context, &Target::own(&call.context))
}

/// What the caller may see of types.
fn sees(call: &Call) -> Sees {
    Sees {
        extra_specs: allows(call, Action::TypeExtraSpecsAccess),
        sensitive_specs: allows(call, Action::TypeExtraSpecReadSensitive),
        qos: allows(call, Action::TypeQosAccess),
        access: allows(call, Action::TypeAccess),
    }
}

fn one(volume_type: &VolumeType, sees: Sees) -> Answer {
    Answer::json(wrap("volume_type", shape::detail(volume_type, sees)))
}

/// `GET /types`.
pub async fn list(call: Call) -> Outcome {
    let mut query = call.query.clone();
    let show = visibility(query.take("is_public").as_deref().filter(|_| call.context.is_admin))?;
    let wanted = call.list_by(&TYPES, &query)?;
    let sees = sees(&call);
    let hidden = |filter: &model::list::Filter| {
        let specs = filter.value.as_object().filter(|_| filter.field == "metadata");
        specs.is_some_and(|specs| specs.keys().any(|key| !shape::USER_VISIBLE_SPECS.contains(&key.as_str())))
    };
    // A filter on a spec that one may not read would tell its value.
    let listed = if !sees.sensitive_specs && wanted.filters.iter().any(hidden) {
        model::list::Listed { items: Vec::new(), count: None }
    } else {
        call.edge.cloud.type_list(&call.context, &wanted, show).await?
    };
    let page = Page { key: "volume_types", links: "volume_type_links", path: "types", resource: None };
    Ok(Answer::json(call.page(page, &listed, |one| shape::detail(one, sees))?))
}

/// Which types `is_public` asks for.
pub(crate) fn visibility(text: Option<&str>) -> Result<TypeVisibility, Fault> {
    let Some(text) = text else { return Ok(TypeVisibility::Public) };
    if text.eq_ignore_ascii_case("none") {
        return Ok(TypeVisibility::All);
    }
    match wire::read::flag_text(text) {
        Some(true) => Ok(TypeVisibility::Public),
        Some(false) => Ok(TypeVisibility::Private),
        None => Err(Fault::bad_request(format!("Invalid is_public filter [{text}]"))),
    }
}

/// `GET /types/{id}` and `GET /types/default`.
pub async fn show(call: Call) -> Outcome {
    let cloud = &call.edge.cloud;
    if call.param("id") == "default" {
        let default = cloud.type_show_default(&call.context).await?;
        return Ok(one(&default, Sees { access: false, ..sees(&call) }));
    }
    Ok(one(&cloud.type_show(&call.context, id(&call, "id")?).await?, sees(&call)))
}

/// `POST /types`.
pub async fn create(call: Call) -> Outcome {
    let body = call.object("volume_type");
    let wanted = NewType {
        name: body.text("name").unwrap_or_default(),
        description: body.text("description"),
        is_public: body.flag("os-volume-type-access:is_public").unwrap_or(true),
        extra_specs: body.texts("extra_specs").unwrap_or_default(),
    };
    let created = call.edge.cloud.type_create(&call.context, wanted).await?;
    Ok(one(&created, Sees { qos: false, ..sees(&call) }))
}

/// `PUT /types/{id}`.
pub async fn update(call: Call) -> Outcome {
    let body = call.object("volume_type");
    let wanted = UpdateType {
        name: body.text("name"),
        description: body.text("description"),
        is_public: body.flag("is_public"),
    };
    // The rule comes before what is wrong with the request.
    call.edge.cloud.policy.require(Action::TypeUpdate, &call.context, &Target::own(&call.context))?;
    if wanted.name.as_deref().is_some_and(|name| name.trim().is_empty()) {
        return Err(Fault::bad_request("Volume type name can not be empty."));
    }
    if wanted == UpdateType::default() {
        return Err(Fault::bad_request(
            "Specify volume type name, description, is_public or a combination thereof.",
        ));
    }
    let updated = call.edge.cloud.type_update(&call.context, id(&call, "id")?, wanted).await?;
    Ok(one(&updated, Sees { qos: false, access: false, ..sees(&call) }))
}

/// `DELETE /types/{id}`.
pub async fn delete(call: Call) -> Outcome {
    call.edge.cloud.type_delete(&call.context, id(&call, "id")?).await?;
    Ok(Answer::bare())
}

/// `GET /types/{type_id}/extra_specs`.
pub async fn specs(call: Call) -> Outcome {
    let specs = call.edge.cloud.type_specs(&call.context, id(&call, "type_id")?).await?;
    Ok(Answer::json(json!({"extra_specs": specs})))
}

/// `POST /types/{type_id}/extra_specs`: answers what was asked for.
pub async fn specs_set(call: Call) -> Outcome {
    let specs = nullable(call.object("extra_specs"));
    let id = id(&call, "type_id")?;
    call.edge.cloud.type_specs_set(&call.context, id, &specs, Action::TypeExtraSpecCreate).await?;
    Ok(Answer::json(call.body))
}

/// `GET /types/{type_id}/extra_specs/{key}`.
pub async fn spec(call: Call) -> Outcome {
    let key = call.param("key");
    let value = call.edge.cloud.type_spec(&call.context, id(&call, "type_id")?, key).await?;
    Ok(Answer::json(json!({ key: value })))
}

/// `PUT /types/{type_id}/extra_specs/{key}`: answers what was asked for.
pub async fn spec_set(call: Call) -> Outcome {
    if !call.whole().contains_key(call.param("key")) {
        return Err(Fault::bad_request("Request body and URI mismatch"));
    }
    let specs = nullable(call.whole());
    let id = id(&call, "type_id")?;
    call.edge.cloud.type_specs_set(&call.context, id, &specs, Action::TypeExtraSpecUpdate).await?;
    Ok(Answer::json(call.body))
}

/// `DELETE /types/{type_id}/extra_specs/{key}`.
pub async fn spec_unset(call: Call) -> Outcome {
    call.edge.cloud.type_spec_unset(&call.context, id(&call, "type_id")?, call.param("key")).await?;
    Ok(Answer::none())
}

fn nullable(specs: &Object) -> BTreeMap<String, Option<String>> {
    specs.iter().map(|(key, value)| (key.clone(), value.as_str().map(str::to_owned))).collect()
}

/// `GET /types/{type_id}/os-volume-type-access`.
pub async fn access(call: Call) -> Outcome {
    let id = id(&call, "type_id")?;
    let projects = call.edge.cloud.type_access_list(&call.context, id).await?;
    Ok(Answer::json(json!({"volume_type_access": shape::access(id, &projects)})))
}

/// `addProjectAccess`.
pub async fn access_add(call: Call) -> Outcome {
    let project = project(&call, "addProjectAccess");
    call.edge.cloud.type_access_add(&call.context, id(&call, "id")?, &project).await?;
    Ok(Answer::bare())
}

/// `removeProjectAccess`.
pub async fn access_remove(call: Call) -> Outcome {
    let project = project(&call, "removeProjectAccess");
    call.edge.cloud.type_access_remove(&call.context, id(&call, "id")?, &project).await?;
    Ok(Answer::bare())
}

fn project(call: &Call, action: &str) -> String {
    call.object(action).get("project").and_then(Value::as_str).unwrap_or_default().to_owned()
}
