//! Snapshots: lists, one of them, their metadata and actions.

use control::policy::{Action, Target};
use control::request::{MetadataWrite, NewSnapshot, ReportSnapshot, UpdateSnapshot};
use control::{Error, error};
use model::list::Listed;
use model::{Snapshot, SnapshotId};
use serde_json::{Value, json};
use wire::microversion::{Behaviour, Resource};
use wire::read::{Read, texts};
use wire::{snapshot as shape, wrap};

use crate::answer::{Answer, Outcome};
use crate::call::{Call, Page};
use crate::fault::Fault;
use crate::list::SNAPSHOTS;
use crate::volume::{metadata_answer, renamed};

const FORCE_IS_INVALID: &str = "Since microversion 3.66 the 'force' flag is invalid for this request.  For backward \
                                compatability, however, when the 'force' flag is passed with a value evaluating to True, it \
                                is silently ignored.";

/// The snapshot that the path names.
pub fn id(call: &Call) -> Result<SnapshotId, Fault> {
    call.id("id", error::Resource::Snapshot)
}

/// Whether the caller sees its project and progress.
fn extended(call: &Call, snapshot: &Snapshot) -> bool {
    let target = Target {
        project_id: snapshot.project_id.as_deref(),
        user_id: snapshot.user_id.as_deref(),
        ..Target::default()
    };
    call.edge.cloud.policy.allows(Action::SnapshotExtendedAttributes, &call.context, &target)
}

fn one(call: &Call, snapshot: &Snapshot, extended: bool) -> Answer {
    Answer::json(wrap("snapshot", call.lower(Resource::Snapshot, shape::detail(snapshot, extended))))
}

async fn listed(call: &Call) -> Result<Listed<Snapshot>, Fault> {
    Ok(call.edge.cloud.snapshot_list(&call.context, &call.list(&SNAPSHOTS)?).await?)
}

const SUMMARIES: Page<'static> =
    Page { key: "snapshots", links: "snapshots_links", path: "snapshots", resource: None };
const DETAILS: Page<'static> =
    Page { path: "snapshots/detail", resource: Some(Resource::Snapshot), ..SUMMARIES };

/// `GET /snapshots`.
pub async fn list(call: Call) -> Outcome {
    let listed = listed(&call).await?;
    Ok(Answer::json(call.page(SUMMARIES, &listed, shape::summary)?))
}

/// `GET /snapshots/detail`.
pub async fn list_detail(call: Call) -> Outcome {
    let listed = listed(&call).await?;
    let page = call.page(DETAILS, &listed, |snapshot| shape::detail(snapshot, extended(&call, snapshot)))?;
    Ok(Answer::json(page))
}

/// `GET /snapshots/{id}`.
pub async fn show(call: Call) -> Outcome {
    let snapshot = call.edge.cloud.snapshot_show(&call.context, id(&call)?).await?;
    let extended = extended(&call, &snapshot);
    Ok(one(&call, &snapshot, extended))
}

/// `POST /snapshots`.
pub async fn create(call: Call) -> Outcome {
    let body = call.object("snapshot");
    let volume_id = body.id("volume_id").ok_or_else(|| {
        let text =
            body.get("volume_id").map_or("None".into(), |value| value.as_str().unwrap_or("None").to_owned());
        Error::NotFound(error::Resource::Volume, text)
    })?;
    let implied = call.version.has(Behaviour::SnapshotInUse);
    let force = body.flag("force");
    if implied && force == Some(false) {
        // Whether the volume is there comes first.
        call.edge.cloud.volume_show(&call.context, volume_id).await?;
        return Err(Fault::bad_request(FORCE_IS_INVALID));
    }
    let wanted = NewSnapshot {
        volume_id,
        name: renamed(body, "name", "display_name").flatten(),
        description: body.trimmed("description"),
        in_use: implied || force == Some(true),
        metadata: body.texts("metadata").unwrap_or_default(),
    };
    let snapshot = call.edge.cloud.snapshot_create(&call.context, wanted).await?;
    Ok(one(&call, &snapshot, false))
}

/// `PUT /snapshots/{id}`.
pub async fn update(call: Call) -> Outcome {
    let body = call.object("snapshot");
    let wanted = UpdateSnapshot {
        name: renamed(body, "name", "display_name"),
        description: renamed(body, "description", "display_description"),
    };
    let snapshot = call.edge.cloud.snapshot_update(&call.context, id(&call)?, wanted).await?;
    Ok(one(&call, &snapshot, false))
}

/// `DELETE /snapshots/{id}`.
pub async fn delete(call: Call) -> Outcome {
    call.edge.cloud.snapshot_delete(&call.context, id(&call)?).await?;
    Ok(Answer::bare())
}

/// `GET /snapshots/{id}/metadata`.
pub async fn metadata(call: Call) -> Outcome {
    Ok(metadata_answer(&call.edge.cloud.snapshot_metadata(&call.context, id(&call)?).await?))
}

/// `POST /snapshots/{id}/metadata`: added to what is there.
pub async fn metadata_merge(call: Call) -> Outcome {
    metadata_write(&call, MetadataWrite::Merge).await
}

/// `PUT /snapshots/{id}/metadata`: in place of what is there.
pub async fn metadata_replace(call: Call) -> Outcome {
    metadata_write(&call, MetadataWrite::Replace).await
}

async fn metadata_write(call: &Call, how: MetadataWrite) -> Outcome {
    let wanted = texts(call.object("metadata"));
    let metadata = call.edge.cloud.snapshot_metadata_write(&call.context, id(call)?, &wanted, how).await?;
    Ok(metadata_answer(&metadata))
}

/// `GET /snapshots/{id}/metadata/{key}`.
pub async fn metadata_show(call: Call) -> Outcome {
    let (id, key) = (id(&call)?, call.param("key"));
    let mut metadata = call.edge.cloud.snapshot_metadata(&call.context, id).await?;
    let missing = || Fault::not_found(format!("Snapshot {id} has no metadata with key {key}."));
    let value = metadata.remove(key).ok_or_else(missing)?;
    Ok(Answer::json(json!({"meta": {key: value}})))
}

/// `PUT /snapshots/{id}/metadata/{key}`.
pub async fn metadata_set(call: Call) -> Outcome {
    let (pair, key) = (call.object("meta"), call.param("key"));
    let Some(value) = pair.get(key).and_then(Value::as_str) else {
        return Err(Fault::bad_request("Request body and URI mismatch"));
    };
    call.edge.cloud.snapshot_metadata_set(&call.context, id(&call)?, key, value).await?;
    Ok(Answer::json(json!({"meta": pair})))
}

/// `DELETE /snapshots/{id}/metadata/{key}`.
pub async fn metadata_unset(call: Call) -> Outcome {
    call.edge.cloud.snapshot_metadata_unset(&call.context, id(&call)?, call.param("key")).await?;
    Ok(Answer::bare())
}

/// `os-reset_status`.
pub async fn reset_status(call: Call) -> Outcome {
    let text = call.object("os-reset_status").text("status").unwrap_or_default().to_lowercase();
    let status = text.parse().map_err(|_| Fault::generic(400))?;
    call.edge.cloud.snapshot_reset(&call.context, id(&call)?, status).await?;
    Ok(Answer::none())
}

/// `os-force_delete`.
pub async fn force_delete(call: Call) -> Outcome {
    call.edge.cloud.snapshot_force_delete(&call.context, id(&call)?).await?;
    Ok(Answer::none())
}

/// `os-update_snapshot_status`.
pub async fn report(call: Call) -> Outcome {
    let body = call.object("os-update_snapshot_status");
    let wanted = ReportSnapshot {
        status: body.text("status").unwrap_or_default(),
        progress: body.text("progress").filter(|text| !text.is_empty()),
    };
    call.edge.cloud.snapshot_report(&call.context, id(&call)?, &wanted).await?;
    Ok(Answer::bare())
}
