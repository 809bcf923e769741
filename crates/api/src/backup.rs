//! Backups: lists, one of them, restoring, actions.

use control::error;
use control::policy::{Action, Target};
use control::request::{NewBackup, RestoreBackup, UpdateBackup};
use model::list::Listed;
use model::{Backup, BackupId};
use serde_json::json;
use wire::microversion::Resource;
use wire::read::Read;
use wire::{backup as shape, wrap};

use crate::answer::{Answer, Outcome};
use crate::call::{Call, Page};
use crate::fault::Fault;
use crate::list::BACKUPS;

fn id(call: &Call) -> Result<BackupId, Fault> {
    call.id("id", error::Resource::Backup)
}

/// Whether the caller sees whose a backup is.
fn owner(call: &Call) -> bool {
    call.edge.cloud.policy.allows(Action::BackupProjectAttribute, &call.context, &Target::own(&call.context))
}

async fn listed(call: &Call) -> Result<Listed<Backup>, Fault> {
    Ok(call.edge.cloud.backup_list(&call.context, &call.list(&BACKUPS)?).await?)
}

fn summary(call: &Call, backup: &Backup) -> Answer {
    Answer::json(wrap("backup", shape::summary(backup, &call.links)))
}

const SUMMARIES: Page<'static> =
    Page { key: "backups", links: "backups_links", path: "backups", resource: None };
const DETAILS: Page<'static> = Page { path: "backups/detail", resource: Some(Resource::Backup), ..SUMMARIES };

/// `GET /backups`.
pub async fn list(call: Call) -> Outcome {
    let listed = listed(&call).await?;
    Ok(Answer::json(call.page(SUMMARIES, &listed, |backup| shape::summary(backup, &call.links))?))
}

/// `GET /backups/detail`.
pub async fn list_detail(call: Call) -> Outcome {
    let (listed, owner) = (listed(&call).await?, owner(&call));
    Ok(Answer::json(call.page(DETAILS, &listed, |backup| shape::detail(backup, &call.links, owner))?))
}

/// `GET /backups/{id}`.
pub async fn show(call: Call) -> Outcome {
    let backup = call.edge.cloud.backup_show(&call.context, id(&call)?).await?;
    let shape = shape::detail(&backup, &call.links, owner(&call));
    Ok(Answer::json(wrap("backup", call.lower(Resource::Backup, shape))))
}

/// `POST /backups`.
pub async fn create(call: Call) -> Outcome {
    let body = call.object("backup");
    let wanted = NewBackup {
        volume_id: body.id("volume_id").ok_or_else(|| Fault::generic(400))?,
        name: body.trimmed("name"),
        description: body.trimmed("description"),
        container: body.text("container"),
        incremental: body.flag("incremental").unwrap_or_default(),
        force: body.flag("force").unwrap_or_default(),
        snapshot_id: body.id("snapshot_id"),
        metadata: body.texts("metadata").unwrap_or_default(),
        availability_zone: body.text("availability_zone").filter(|zone| !zone.is_empty()),
    };
    Ok(summary(&call, &call.edge.cloud.backup_create(&call.context, wanted).await?))
}

/// `PUT /backups/{id}`.
pub async fn update(call: Call) -> Outcome {
    let body = call.object("backup");
    let wanted = UpdateBackup {
        name: body.change("name"),
        description: body.change("description"),
        metadata: body.texts("metadata"),
    };
    Ok(summary(&call, &call.edge.cloud.backup_update(&call.context, id(&call)?, wanted).await?))
}

/// `DELETE /backups/{id}`.
pub async fn delete(call: Call) -> Outcome {
    call.edge.cloud.backup_delete(&call.context, id(&call)?, false).await?;
    Ok(Answer::none())
}

/// `POST /backups/{id}/restore`.
pub async fn restore(call: Call) -> Outcome {
    let body = call.object("restore");
    let wanted = RestoreBackup { volume_id: body.id("volume_id"), name: body.text("name") };
    let id = id(&call)?;
    let volume = call.edge.cloud.backup_restore(&call.context, id, wanted).await?;
    Ok(Answer::json(wrap("restore", shape::restore(id, volume.id, volume.name.as_deref()))))
}

/// `os-reset_status`.
pub async fn reset_status(call: Call) -> Outcome {
    let text = call.object("os-reset_status").text("status").unwrap_or_default().to_lowercase();
    let status = text.parse().map_err(|_| Fault::generic(400))?;
    call.edge.cloud.backup_reset(&call.context, id(&call)?, status).await?;
    Ok(Answer::none())
}

/// `os-force_delete`.
pub async fn force_delete(call: Call) -> Outcome {
    call.edge.cloud.backup_delete(&call.context, id(&call)?, true).await?;
    Ok(Answer::none())
}

/// `GET /backups/{id}/export_record`.
pub async fn export(call: Call) -> Outcome {
    let exported = call.edge.cloud.backup_export(&call.context, id(&call)?).await?;
    let record = json!({"backup_service": exported.service, "backup_url": exported.url});
    Ok(Answer::json(json!({"backup-record": record})))
}

/// `POST /backups/import_record`.
pub async fn import(call: Call) -> Outcome {
    let body = call.object("backup-record");
    let text = |key: &str| body.text(key).unwrap_or_default();
    let (service, url) = (text("backup_service"), text("backup_url"));
    let imported = call.edge.cloud.backup_import(&call.context, &service, &url).await?;
    Ok(summary(&call, &imported))
}
