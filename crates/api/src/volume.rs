//! Volumes: lists, one of them, their summary.

use control::policy::Action;
use control::request::{DeleteVolume, NewVolume, UpdateVolume};
use control::{Error, error};
use model::list::Listed;
use model::volume::VolumeSummary;
use model::{BackupId, GiB, Volume, VolumeId};
use serde_json::{Value, json};
use wire::microversion::Resource;
use wire::read::Read;
use wire::volume::Sees;
use wire::{Object, volume as shape, wrap};

use crate::answer::{Answer, Outcome};
use crate::call::{Call, Page};
use crate::fault::Fault;
use crate::list::VOLUMES;

const MULTIATTACH_REMOVED: &str = "multiattach parameter has been removed. The default behavior is to use multiattach enabled \
                                   volume types. Contact your administrator to create a multiattach enabled volume type and \
                                   use it to create multiattach volumes.";

/// The volume that the path names.
pub fn id(call: &Call) -> Result<VolumeId, Fault> {
    call.id("id", error::Resource::Volume)
}

/// What the caller may see of every volume.
pub fn sees(call: &Call) -> Sees {
    let admin = call.context.is_admin;
    let service = call.context.roles.iter().any(|role| role == "service");
    Sees { admin_fields: admin, attached_host: admin || service, ..Sees::default() }
}

/// What the caller may see of this volume, the former extensions included.
fn sees_all(call: &Call, volume: &Volume) -> Sees {
    let allows =
        |action| call.edge.cloud.policy.allows(action, &call.context, &control::volume::target(volume));
    Sees {
        host: allows(Action::VolumeHostAttribute),
        tenant: allows(Action::VolumeTenantAttribute),
        migration: allows(Action::VolumeMigrationAttribute),
        image_metadata: !volume.image_metadata.is_empty() && allows(Action::VolumeImageMetadataShow),
        ..sees(call)
    }
}

fn one(call: &Call, volume: &Volume, sees: Sees) -> Answer {
    let shape = shape::detail(volume, &call.links, sees);
    Answer::json(wrap("volume", call.lower(Resource::Volume, shape)))
}

async fn listed(call: &Call) -> Result<Listed<Volume>, Fault> {
    Ok(call.edge.cloud.volume_list(&call.context, &call.list(&VOLUMES)?).await?)
}

const SUMMARIES: Page<'static> =
    Page { key: "volumes", links: "volumes_links", path: "volumes", resource: None };
const DETAILS: Page<'static> = Page { path: "volumes/detail", resource: Some(Resource::Volume), ..SUMMARIES };

/// `GET /volumes`.
pub async fn list(call: Call) -> Outcome {
    let listed = listed(&call).await?;
    Ok(Answer::json(call.page(SUMMARIES, &listed, |volume| shape::summary(volume, &call.links))?))
}

/// `GET /volumes/detail`.
pub async fn list_detail(call: Call) -> Outcome {
    let listed = listed(&call).await?;
    let page =
        call.page(DETAILS, &listed, |volume| shape::detail(volume, &call.links, sees_all(&call, volume)))?;
    Ok(Answer::json(page))
}

/// `GET /volumes/summary`.
pub async fn summary(call: Call) -> Outcome {
    let all = call.query.flag("all_tenants")? && call.context.is_admin;
    let project = (!all).then_some(call.context.project_id.as_str());
    let sums = call.edge.cloud.volume_summary(&call.context, project).await?;
    let shape = shape::sums(&VolumeSummary { count: sums.count, size: sums.size, metadata: sums.metadata });
    Ok(Answer::json(wrap("volume-summary", call.lower(Resource::VolumeSummary, shape))))
}

/// `GET /volumes/{id}`.
pub async fn show(call: Call) -> Outcome {
    let volume = call.edge.cloud.volume_show(&call.context, id(&call)?).await?;
    let sees = sees_all(&call, &volume);
    Ok(one(&call, &volume, sees))
}

/// `POST /volumes`.
pub async fn create(call: Call) -> Outcome {
    let wanted = wanted(&call)?;
    let alone = wanted.snapshot_id.is_none() && wanted.source_volid.is_none() && wanted.image.is_none();
    let volume = match wanted.backup_id.filter(|_| alone) {
        Some(backup) => call.edge.cloud.volume_from_backup(&call.context, backup, wanted).await?,
        None => call.edge.cloud.volume_create(&call.context, wanted).await?,
    };
    let sees = sees(&call);
    Ok(one(&call, &volume, sees))
}

/// `PUT /volumes/{id}`.
pub async fn update(call: Call) -> Outcome {
    let body = call.object("volume");
    let wanted = UpdateVolume {
        name: renamed(body, "name", "display_name"),
        description: renamed(body, "description", "display_description"),
        metadata: body.texts("metadata"),
    };
    let volume = call.edge.cloud.volume_update(&call.context, id(&call)?, wanted).await?;
    let sees = sees(&call);
    Ok(one(&call, &volume, sees))
}

/// `DELETE /volumes/{id}`.
pub async fn delete(call: Call) -> Outcome {
    let cascade = call.query.flag("cascade")?;
    let force = call.version.takes(Resource::Volume, "force") && call.query.flag("force")?;
    call.edge.cloud.volume_delete(&call.context, id(&call)?, DeleteVolume { cascade, force }).await?;
    Ok(Answer::bare())
}

/// A change under its name; under the older one when the name is not there.
pub fn renamed(body: &Object, name: &str, older: &str) -> Option<Option<String>> {
    body.change(name).or_else(|| body.change(older))
}

/// A new volume from its request.
///
/// # Errors
/// What no schema can say: a backup's id that is none at a version that does not check it, `multiattach`.
fn wanted(call: &Call) -> Result<NewVolume, Fault> {
    let body = call.object("volume");
    let backup_id = match body.get("backup_id").and_then(Value::as_str).filter(|text| !text.is_empty()) {
        Some(text) => {
            let id = wire::read::uuid_like(text).map(BackupId);
            Some(id.ok_or_else(|| Error::NotFound(error::Resource::Backup, text.to_owned()))?)
        }
        None => None,
    };
    if body.flag("multiattach") == Some(true) {
        return Err(Fault::bad_request(MULTIATTACH_REMOVED));
    }
    let image = body.text("image_id").or_else(|| body.text("imageRef"));
    Ok(NewVolume {
        size: body.number("size").map(GiB),
        name: renamed(body, "name", "display_name").flatten(),
        description: renamed(body, "description", "display_description").flatten(),
        volume_type: body.text("volume_type").filter(|name| !name.is_empty()),
        metadata: body.texts("metadata").unwrap_or_default(),
        snapshot_id: body.id("snapshot_id"),
        source_volid: body.id("source_volid"),
        backup_id,
        image: image.map(|image| image.rsplit('/').next().unwrap_or_default().to_owned()),
        availability_zone: body.text("availability_zone"),
        group_id: body.text("group_id"),
        consistencygroup_id: body.text("consistencygroup_id"),
        hints: call.object("OS-SCH-HNT:scheduler_hints").clone(),
    })
}

/// `{"metadata": ...}`.
pub fn metadata_answer(metadata: &std::collections::BTreeMap<String, String>) -> Answer {
    Answer::json(json!({"metadata": metadata}))
}
