//! Group types and their specs.

use std::collections::BTreeMap;

use control::error;
use control::group_type::NewGroupType;
use control::policy::{Action, Target};
use control::request::UpdateType;
use model::{GroupType, GroupTypeId};
use serde_json::json;
use wire::group_type::{self as shape, Specs};
use wire::read::Read;
use wire::{Object, wrap};

use crate::answer::{Answer, Outcome};
use crate::call::{Call, Page};
use crate::fault::Fault;
use crate::list::GROUP_TYPES;
use crate::volume_type::visibility;

fn id(call: &Call, name: &str) -> Result<GroupTypeId, Fault> {
    call.id(name, error::Resource::GroupType)
}

fn specs_of(call: &Call) -> Specs {
    let target = Target::own(&call.context);
    match call.edge.cloud.policy.allows(Action::GroupTypeSpecsAccess, &call.context, &target) {
        true => Specs::Shown,
        false => Specs::Hidden,
    }
}

fn one(call: &Call, kind: &GroupType) -> Answer {
    Answer::json(wrap("group_type", shape::detail(kind, specs_of(call))))
}

/// `GET /group_types`.
pub async fn list(call: Call) -> Outcome {
    let mut query = call.query.clone();
    let show = visibility(query.take("is_public").as_deref().filter(|_| call.context.is_admin))?;
    let wanted = call.list_by(&GROUP_TYPES, &query)?;
    let listed = call.edge.cloud.group_type_list(&call.context, &wanted, show).await?;
    let specs = specs_of(&call);
    let page = Page { key: "group_types", links: "group_type_links", path: "group_types", resource: None };
    Ok(Answer::json(call.page(page, &listed, |kind| shape::detail(kind, specs))?))
}

/// `POST /group_types`.
pub async fn create(call: Call) -> Outcome {
    let body = call.object("group_type");
    let wanted = NewGroupType {
        name: body.text("name").unwrap_or_default(),
        description: body.text("description"),
        is_public: body.flag("is_public").unwrap_or(true),
        specs: nullable(body.get("group_specs").and_then(|specs| specs.as_object())),
    };
    let made = call.edge.cloud.group_type_create(&call.context, wanted).await?;
    Ok(one(&call, &made))
}

/// `GET /group_types/{id}` and `GET /group_types/default`.
pub async fn show(call: Call) -> Outcome {
    let cloud = &call.edge.cloud;
    let kind = match call.param("id") {
        "default" => cloud.group_type_default().await?,
        _ => cloud.group_type_by_id(id(&call, "id")?).await?,
    };
    Ok(one(&call, &kind))
}

/// `PUT /group_types/{id}`.
pub async fn update(call: Call) -> Outcome {
    let body = call.object("group_type");
    let wanted = UpdateType {
        name: body.text("name"),
        description: body.text("description"),
        is_public: body.flag("is_public"),
    };
    if wanted.name.as_deref().is_some_and(|name| !name.is_empty() && name.trim().is_empty()) {
        return Err(Fault::bad_request("Group type name can not be empty."));
    }
    if wanted == UpdateType::default() {
        return Err(Fault::bad_request("Specify group type name, description or a combination thereof."));
    }
    let updated = call.edge.cloud.group_type_update(&call.context, id(&call, "id")?, wanted).await?;
    Ok(one(&call, &updated))
}

/// `DELETE /group_types/{id}`.
pub async fn delete(call: Call) -> Outcome {
    call.edge.cloud.group_type_delete(&call.context, id(&call, "id")?).await?;
    Ok(Answer::bare())
}

/// `GET /group_types/{type_id}/group_specs`.
pub async fn specs(call: Call) -> Outcome {
    let id = id(&call, "type_id")?;
    let specs = call.edge.cloud.group_specs(&call.context, id, Action::GroupTypeSpecList).await?;
    Ok(Answer::json(json!({"group_specs": specs})))
}

/// `POST /group_types/{type_id}/group_specs`: answers what was asked for.
pub async fn specs_set(call: Call) -> Outcome {
    let (id, specs) = (id(&call, "type_id")?, nullable(Some(call.object("group_specs"))));
    call.edge.cloud.group_specs_set(&call.context, id, &specs, Action::GroupTypeSpecCreate).await?;
    Ok(Answer::json(call.body))
}

/// `GET /group_types/{type_id}/group_specs/{key}`.
pub async fn spec(call: Call) -> Outcome {
    let (id, key) = (id(&call, "type_id")?, call.param("key"));
    let specs = call.edge.cloud.group_specs(&call.context, id, Action::GroupTypeSpecShow).await?;
    let missing = || Fault::not_found(format!("Group Type {id} has no extra spec with key {key}."));
    let value = specs.get(key).ok_or_else(missing)?;
    Ok(Answer::json(json!({ key: value })))
}

/// `PUT /group_types/{type_id}/group_specs/{key}`: answers what was asked for.
pub async fn spec_set(call: Call) -> Outcome {
    if !call.whole().contains_key(call.param("key")) {
        return Err(Fault::bad_request("Request body and URI mismatch"));
    }
    let (id, specs) = (id(&call, "type_id")?, nullable(Some(call.whole())));
    call.edge.cloud.group_specs_set(&call.context, id, &specs, Action::GroupTypeSpecUpdate).await?;
    Ok(Answer::json(call.body))
}

/// `DELETE /group_types/{type_id}/group_specs/{key}`.
pub async fn spec_unset(call: Call) -> Outcome {
    let id = id(&call, "type_id")?;
    call.edge.cloud.group_spec_unset(&call.context, id, call.param("key")).await?;
    Ok(Answer::bare())
}

fn nullable(specs: Option<&Object>) -> BTreeMap<String, Option<String>> {
    let pairs = specs.into_iter().flatten();
    pairs.map(|(key, value)| (key.clone(), value.as_str().map(str::to_owned))).collect()
}
