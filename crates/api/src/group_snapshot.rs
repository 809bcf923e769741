//! Snapshots of groups: lists, one of them, its action.

use control::error::{self, Error};
use control::group::Door;
use control::group_snapshot::NewGroupSnapshot;
use control::policy::{Action, Target};
use model::list::{ListQuery, Listed};
use model::{GroupSnapshot, GroupSnapshotId};
use wire::group::{self as shape, Project};
use wire::microversion::{Behaviour, Resource};
use wire::read::Read;
use wire::wrap;

use crate::answer::{Answer, Outcome};
use crate::call::{Call, Page};
use crate::fault::Fault;
use crate::list::GROUP_SNAPSHOTS;

fn id(call: &Call) -> Result<GroupSnapshotId, Fault> {
    call.id("id", error::Resource::GroupSnapshot)
}

/// Whether the caller sees whose a group snapshot is.
fn sees(call: &Call, snapshot: &GroupSnapshot) -> Project {
    let target = Target {
        project_id: snapshot.project_id.as_deref(),
        user_id: snapshot.user_id.as_deref(),
        ..Target::default()
    };
    match call.edge.cloud.policy.allows(Action::GroupSnapshotProjectAttribute, &call.context, &target) {
        true => Project::Shown,
        false => Project::Hidden,
    }
}

async fn listed(call: &Call) -> Result<Listed<GroupSnapshot>, Fault> {
    let query = match call.version.has(Behaviour::GroupSnapshotPaging) {
        true => call.list(&GROUP_SNAPSHOTS)?,
        // Older versions look at no parameter at all.
        false => ListQuery::all(Some(call.context.project_id.clone())),
    };
    Ok(call.edge.cloud.group_snapshot_list(&call.context, &query, Door::Generic).await?)
}

const PAGE: Page<'static> =
    Page { key: "group_snapshots", links: "group_snapshot_links", path: "group_snapshots", resource: None };

/// `GET /group_snapshots`.
pub async fn list(call: Call) -> Outcome {
    let listed = listed(&call).await?;
    Ok(Answer::json(call.page(PAGE, &listed, shape::snapshot_summary)?))
}

/// `GET /group_snapshots/detail`.
pub async fn list_detail(call: Call) -> Outcome {
    let listed = listed(&call).await?;
    let page = Page { resource: Some(Resource::GroupSnapshot), ..PAGE };
    let shaped = call.page(page, &listed, |one| shape::snapshot_detail(one, sees(&call, one)))?;
    Ok(Answer::json(shaped))
}

/// `GET /group_snapshots/{id}`.
pub async fn show(call: Call) -> Outcome {
    let snapshot = call.edge.cloud.group_snapshot_show(&call.context, id(&call)?, Door::Generic).await?;
    let shape = shape::snapshot_detail(&snapshot, sees(&call, &snapshot));
    Ok(Answer::json(wrap("group_snapshot", call.lower(Resource::GroupSnapshot, shape))))
}

/// `POST /group_snapshots`.
pub async fn create(call: Call) -> Outcome {
    let body = call.object("group_snapshot");
    let missing = || Error::NotFound(error::Resource::Group, body.text("group_id").unwrap_or_default());
    let wanted = NewGroupSnapshot {
        group_id: body.id("group_id").ok_or_else(missing)?,
        name: body.text("name"),
        description: body.text("description"),
    };
    let made = call.edge.cloud.group_snapshot_create(&call.context, wanted, Door::Generic).await?;
    Ok(Answer::json(wrap("group_snapshot", shape::snapshot_created(&made))))
}

/// `DELETE /group_snapshots/{id}`.
pub async fn delete(call: Call) -> Outcome {
    call.edge.cloud.group_snapshot_delete(&call.context, id(&call)?, Door::Generic).await?;
    Ok(Answer::bare())
}

/// `reset_status`.
pub async fn reset_status(call: Call) -> Outcome {
    let text = call.object("reset_status").text("status").unwrap_or_default().to_lowercase();
    let status = text.parse().map_err(|_| Fault::generic(400))?;
    call.edge.cloud.group_snapshot_reset(&call.context, id(&call)?, status).await?;
    Ok(Answer::bare())
}
