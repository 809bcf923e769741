//! Legacy consistency groups and their snapshots, as thin shells over groups: what they make has a group type of its own.

use control::error::{self, Error};
use control::group::{Door, NewGroup, NewGroupFrom, Origin, UpdateGroup};
use control::group_snapshot::NewGroupSnapshot;
use model::list::Listed;
use model::{Group, GroupId, GroupSnapshot, GroupSnapshotId};
use wire::group as shape;
use wire::microversion::Behaviour;
use wire::read::Read;
use wire::{Object, wrap};

use crate::answer::{Answer, Outcome};
use crate::call::{Call, Page};
use crate::fault::Fault;
use crate::group::refused_source;
use crate::list::CONSISTENCY_GROUPS;

const GROUP: &str = "consistencygroup";

fn id(call: &Call) -> Result<GroupId, Fault> {
    call.id("id", error::Resource::Group)
}

fn snapshot_id(call: &Call) -> Result<GroupSnapshotId, Fault> {
    call.id("id", error::Resource::GroupSnapshot)
}

const GROUPS: Page<'static> = Page {
    key: "consistencygroups",
    links: "consistencygroup_links",
    path: "consistencygroups",
    resource: None,
};

async fn listed(call: &Call) -> Result<Listed<Group>, Fault> {
    let wanted = call.list(&CONSISTENCY_GROUPS)?;
    Ok(call.edge.cloud.group_list(&call.context, &wanted, Door::Legacy).await?)
}

/// `GET /consistencygroups`.
pub async fn list(call: Call) -> Outcome {
    let listed = listed(&call).await?;
    Ok(Answer::json(call.page(GROUPS, &listed, shape::summary)?))
}

/// `GET /consistencygroups/detail`.
pub async fn list_detail(call: Call) -> Outcome {
    let listed = listed(&call).await?;
    Ok(Answer::json(call.page(GROUPS, &listed, shape::consistency_group)?))
}

/// `GET /consistencygroups/{id}`.
pub async fn show(call: Call) -> Outcome {
    let group = call.edge.cloud.group_show(&call.context, id(&call)?, Door::Legacy).await?;
    Ok(Answer::json(wrap(GROUP, shape::consistency_group(&group))))
}

/// A text, as Python prints it where there is none.
fn named(body: &Object) -> String {
    body.trimmed("name").unwrap_or_else(|| "None".into())
}

/// A text that is there and says something.
fn filled(body: &Object, key: &str) -> Option<String> {
    body.text(key).filter(|text| !text.is_empty())
}

/// `POST /consistencygroups`.
pub async fn create(call: Call) -> Outcome {
    let body = call.object(GROUP);
    let Some(types) = filled(body, "volume_types") else {
        let text = format!("volume_types must be provided to create consistency group {}.", named(body));
        return Err(Fault::bad_request(text));
    };
    let wanted = NewGroup {
        name: body.trimmed("name"),
        description: body.trimmed("description"),
        group_type: None,
        volume_types: types.trim_end_matches(',').split(',').map(str::to_owned).collect(),
        availability_zone: body.text("availability_zone"),
    };
    let group = call.edge.cloud.group_create(&call.context, wanted).await?;
    Ok(Answer::json(wrap(GROUP, shape::summary(&group))))
}

/// `POST /consistencygroups/create_from_src`.
pub async fn create_from(call: Call) -> Outcome {
    let body = call.object("consistencygroup-from-src");
    let origin = match (filled(body, "cgsnapshot_id"), filled(body, "source_cgid")) {
        (None, None) => {
            return Err(Fault::bad_request(format!(
                "Either 'cgsnapshot_id' or 'source_cgid' must be provided to create consistency group {} from source.",
                named(body)
            )));
        }
        (Some(_), Some(_)) => {
            return Err(Fault::bad_request(format!(
                "Cannot provide both 'cgsnapshot_id' and 'source_cgid' to create consistency group {} from source.",
                named(body)
            )));
        }
        (Some(text), None) => {
            let id = body.id("cgsnapshot_id");
            Origin::Snapshot(id.ok_or(Error::NotFound(error::Resource::GroupSnapshot, text))?)
        }
        (None, Some(text)) => {
            Origin::Group(body.id("source_cgid").ok_or(Error::NotFound(error::Resource::Group, text))?)
        }
    };
    let wanted =
        NewGroupFrom { name: body.trimmed("name"), description: body.trimmed("description"), origin };
    let made = call.edge.cloud.group_create_from(&call.context, wanted, Door::Legacy).await;
    let group = made.map_err(refused_source)?;
    Ok(Answer::json(wrap(GROUP, shape::summary(&group))))
}

/// `PUT /consistencygroups/{id}`, `PUT /consistencygroups/{id}/update`.
pub async fn update(call: Call) -> Outcome {
    let body = call.object(GROUP);
    let mut wanted = UpdateGroup {
        name: body.trimmed("name"),
        description: body.trimmed("description"),
        add_volumes: filled(body, "add_volumes"),
        remove_volumes: filled(body, "remove_volumes"),
    };
    let nameless = call.version.has(Behaviour::ConsistencyGroupNameless);
    if !nameless {
        wanted.name = wanted.name.filter(|name| !name.is_empty());
        wanted.description = wanted.description.filter(|text| !text.is_empty());
    }
    if wanted == UpdateGroup::default() {
        return Err(Fault::bad_request(match nameless {
            true => {
                "Must specify one or more of the following keys to update: name, description, add_volumes, remove_volumes."
            }
            false => {
                "Name, description, add_volumes, and remove_volumes can not be all empty in the request body."
            }
        }));
    }
    call.edge.cloud.group_update(&call.context, id(&call)?, wanted, Door::Legacy).await?;
    Ok(Answer::bare())
}

/// `POST /consistencygroups/{id}/delete`, `DELETE /consistencygroups/{id}`.
pub async fn delete(call: Call) -> Outcome {
    let force = call.object(GROUP).flag("force").unwrap_or(false);
    call.edge.cloud.group_delete(&call.context, id(&call)?, force, Door::Legacy).await?;
    Ok(Answer::bare())
}

const SNAPSHOTS: Page<'static> =
    Page { key: "cgsnapshots", links: "cgsnapshots_links", path: "cgsnapshots", resource: None };

async fn listed_snapshots(call: &Call) -> Result<Listed<GroupSnapshot>, Fault> {
    let wanted = call.list(&CONSISTENCY_GROUPS)?;
    Ok(call.edge.cloud.group_snapshot_list(&call.context, &wanted, Door::Legacy).await?)
}

/// `GET /cgsnapshots`.
pub async fn snapshots(call: Call) -> Outcome {
    let listed = listed_snapshots(&call).await?;
    Ok(Answer::json(call.page(SNAPSHOTS, &listed, shape::snapshot_summary)?))
}

/// `GET /cgsnapshots/detail`.
pub async fn snapshots_detail(call: Call) -> Outcome {
    let listed = listed_snapshots(&call).await?;
    Ok(Answer::json(call.page(SNAPSHOTS, &listed, shape::cgsnapshot)?))
}

/// `GET /cgsnapshots/{id}`.
pub async fn snapshot_show(call: Call) -> Outcome {
    let snapshot = call.edge.cloud.group_snapshot_show(&call.context, snapshot_id(&call)?, Door::Legacy);
    Ok(Answer::json(wrap("cgsnapshot", shape::cgsnapshot(&snapshot.await?))))
}

/// `POST /cgsnapshots`.
pub async fn snapshot_create(call: Call) -> Outcome {
    let body = call.object("cgsnapshot");
    let Some(value) = body.get("consistencygroup_id") else {
        return Err(Fault::bad_request("'consistencygroup_id' must be specified"));
    };
    let missing = || {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Error::NotFound(error::Resource::Group, text)
    };
    let wanted = NewGroupSnapshot {
        group_id: body.id("consistencygroup_id").ok_or_else(missing)?,
        name: body.trimmed("name"),
        description: body.trimmed("description"),
    };
    let made = call.edge.cloud.group_snapshot_create(&call.context, wanted, Door::Legacy).await?;
    Ok(Answer::json(wrap("cgsnapshot", shape::snapshot_summary(&made))))
}

/// `DELETE /cgsnapshots/{id}`.
pub async fn snapshot_delete(call: Call) -> Outcome {
    call.edge.cloud.group_snapshot_delete(&call.context, snapshot_id(&call)?, Door::Legacy).await?;
    Ok(Answer::bare())
}
