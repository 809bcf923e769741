//! Groups of volumes: lists, one of them, their actions.

use control::error::{self, Error};
use control::group::{Door, NewGroup, NewGroupFrom, Origin, UpdateGroup};
use control::policy::{Action, Target};
use model::list::Listed;
use model::{Group, GroupId, VolumeId};
use serde_json::json;
use wire::group::{self as shape, Project};
use wire::microversion::Resource;
use wire::read::Read;
use wire::wrap;

use crate::answer::{Answer, Outcome};
use crate::call::{Call, Page};
use crate::fault::Fault;
use crate::list::GROUPS;

fn id(call: &Call) -> Result<GroupId, Fault> {
    call.id("id", error::Resource::Group)
}

/// Whether the caller sees whose a group is.
fn sees(call: &Call, group: &Group) -> Project {
    let target = Target {
        project_id: group.project_id.as_deref(),
        user_id: group.user_id.as_deref(),
        ..Target::default()
    };
    match call.edge.cloud.policy.allows(Action::GroupProjectAttribute, &call.context, &target) {
        true => Project::Shown,
        false => Project::Hidden,
    }
}

/// Whether answers tell who is in a group.
fn lists_volumes(call: &Call) -> bool {
    let asked = call.query.get("list_volume").and_then(wire::read::flag_text);
    asked.unwrap_or(false) && call.version.shows(Resource::Group, "volumes")
}

async fn members(call: &Call, group: &Group) -> Result<Option<Vec<VolumeId>>, Fault> {
    if !lists_volumes(call) {
        return Ok(None);
    }
    Ok(Some(call.edge.cloud.group_members(group.id).await?))
}

async fn listed(call: &Call) -> Result<Listed<Group>, Fault> {
    let mut query = call.query.clone();
    query.take("list_volume");
    let wanted = call.list_by(&GROUPS, &query)?;
    Ok(call.edge.cloud.group_list(&call.context, &wanted, Door::Generic).await?)
}

// Cinder's links of the long lists lead to the short ones.
const PAGE: Page<'static> = Page { key: "groups", links: "group_links", path: "groups", resource: None };

/// `GET /groups`.
pub async fn list(call: Call) -> Outcome {
    let listed = listed(&call).await?;
    Ok(Answer::json(call.page(PAGE, &listed, shape::summary)?))
}

/// `GET /groups/detail`.
pub async fn list_detail(call: Call) -> Outcome {
    let listed = listed(&call).await?;
    let mut items = Vec::with_capacity(listed.items.len());
    for group in listed.items {
        let volumes = members(&call, &group).await?;
        items.push((group, volumes));
    }
    let listed = Listed { items, count: listed.count };
    let page = Page { resource: Some(Resource::Group), ..PAGE };
    let shaped = call.page(page, &listed, |(group, volumes)| {
        shape::detail(group, volumes.as_deref(), sees(&call, group))
    })?;
    Ok(Answer::json(shaped))
}

/// `GET /groups/{id}`.
pub async fn show(call: Call) -> Outcome {
    let group = call.edge.cloud.group_show(&call.context, id(&call)?, Door::Generic).await?;
    let volumes = members(&call, &group).await?;
    let shape = shape::detail(&group, volumes.as_deref(), sees(&call, &group));
    Ok(Answer::json(wrap("group", call.lower(Resource::Group, shape))))
}

/// `POST /groups`.
pub async fn create(call: Call) -> Outcome {
    let body = call.object("group");
    let types = body.get("volume_types").and_then(|types| types.as_array());
    let types = types.into_iter().flatten().filter_map(|kind| kind.as_str());
    let wanted = NewGroup {
        name: body.trimmed("name"),
        description: body.trimmed("description"),
        group_type: Some(body.text("group_type").unwrap_or_default()),
        volume_types: types.map(str::to_owned).collect(),
        availability_zone: body.text("availability_zone"),
    };
    let group = call.edge.cloud.group_create(&call.context, wanted).await?;
    Ok(Answer::json(wrap("group", shape::summary(&group))))
}

/// `create-from-src`.
pub async fn create_from(call: Call) -> Outcome {
    let body = call.object("create-from-src");
    let origin = match body.id("group_snapshot_id") {
        Some(id) => Origin::Snapshot(id),
        None => Origin::Group(body.id("source_group_id").ok_or_else(|| Fault::generic(400))?),
    };
    let wanted =
        NewGroupFrom { name: body.trimmed("name"), description: body.trimmed("description"), origin };
    let made = call.edge.cloud.group_create_from(&call.context, wanted, Door::Generic).await;
    let group = made.map_err(refused_source)?;
    Ok(Answer::json(wrap("group", shape::summary(&group))))
}

/// What refuses a group that is to be made from a source is told as a bad request, also that it is too much.
pub(crate) fn refused_source(error: Error) -> Fault {
    let over = matches!(error, Error::OverQuota(_));
    let fault = Fault::from(error);
    match fault.message.split_once(": ") {
        Some((_, text)) if over => Fault::bad_request(text),
        _ => fault,
    }
}

/// `PUT /groups/{id}`.
pub async fn update(call: Call) -> Outcome {
    let body = call.object("group");
    let wanted = UpdateGroup {
        name: body.trimmed("name"),
        description: body.trimmed("description"),
        add_volumes: body.text("add_volumes"),
        remove_volumes: body.text("remove_volumes"),
    };
    call.edge.cloud.group_update(&call.context, id(&call)?, wanted, Door::Generic).await?;
    Ok(Answer::bare())
}

/// `delete`.
pub async fn delete(call: Call) -> Outcome {
    let with_volumes = call.object("delete").flag("delete-volumes").unwrap_or(false);
    call.edge.cloud.group_delete(&call.context, id(&call)?, with_volumes, Door::Generic).await?;
    Ok(Answer::bare())
}

/// `reset_status`.
pub async fn reset_status(call: Call) -> Outcome {
    let text = call.object("reset_status").text("status").unwrap_or_default().to_lowercase();
    let status = text.parse().map_err(|_| Fault::generic(400))?;
    call.edge.cloud.group_reset(&call.context, id(&call)?, status).await?;
    Ok(Answer::bare())
}

/// `enable_replication`.
pub async fn enable_replication(call: Call) -> Outcome {
    call.edge.cloud.group_enable_replication(&call.context, id(&call)?).await?;
    Ok(Answer::bare())
}

/// `disable_replication`.
pub async fn disable_replication(call: Call) -> Outcome {
    call.edge.cloud.group_disable_replication(&call.context, id(&call)?).await?;
    Ok(Answer::bare())
}

/// `failover_replication`.
pub async fn fail_over(call: Call) -> Outcome {
    let attached = call.object("failover_replication").flag("allow_attached_volume").unwrap_or(false);
    call.edge.cloud.group_fail_over(&call.context, id(&call)?, attached).await?;
    Ok(Answer::bare())
}

/// `list_replication_targets`.
pub async fn replication_targets(call: Call) -> Outcome {
    let targets = call.edge.cloud.group_replication_targets(&call.context, id(&call)?).await?;
    let targets: Vec<_> = targets.iter().map(|target| json!({"backend_id": target})).collect();
    Ok(Answer::json(json!({"replication_targets": targets})))
}
