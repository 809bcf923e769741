//! Records: a backup's row as text, given out (`export_record`) and taken in again (`import_record`), here or elsewhere.

use ::backup::format::record::BackupRecord;
use chrono::{DateTime, NaiveDateTime, Utc};
use db::Tx;
use db::backup_record::{Imported, Known, Taker};
use db::transition::Outcome;
use model::job::ResourceRef;
use model::transition::BackupOp;
use model::{Backup, BackupId, BackupStatus, JobId, Time};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Act, At, Failure, Operation, Output, Step, Work};
use crate::error::{Error, Resource, Result};
use crate::policy::{Action, Target};
use crate::{locks, quota};

/// The operation's table.
pub const OPERATION: Operation = Operation {
    name: "backup.import",
    steps: &[Step { name: "look", at: At::Backup, act: Act::Do(|work| Box::pin(look(work))), undo: None }],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, failure| Box::pin(fail(work, tx, failure)),
};

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    /// The driver that wrote it, by Cinder's class path.
    service: String,
    record: BackupRecord,
    backup_host: String,
}

/// A record and the driver that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    pub service: String,
    pub url: String,
}

impl Cloud {
    /// `GET /backups/{id}/export_record`.
    ///
    /// # Errors
    /// Not there, forbidden, not available, or its service is not up.
    pub async fn backup_export(&self, context: &Context, id: BackupId) -> Result<Exported> {
        let backup = self.backup_for(context, id, Action::BackupExport).await?;
        if backup.status != BackupStatus::Available {
            return Err(Error::InvalidBackup(format!(
                "Backup status must be available and not {}.",
                backup.status
            )));
        }
        self.keeper_of(&backup).await?;
        let service = backup.service.clone().unwrap_or_else(|| self.settings.backup_service.clone());
        Ok(Exported { service, url: record(&backup).encode() })
    }

    /// `POST /backups/import_record`: a backup that is `creating` until its service has found it in the store.
    ///
    /// # Errors
    /// Forbidden, no service, no readable record, a backup of that id, or over quota.
    pub async fn backup_import(&self, context: &Context, service: &str, url: &str) -> Result<Backup> {
        self.policy.require(Action::BackupImport, context, &Target::own(context))?;
        let host = self.backup_hosts(None).await?.into_iter().next();
        let host =
            host.ok_or_else(|| Error::Unavailable(format!("Service {service} could not be found.")))?;
        let (id, size, record) = read(url)?;
        let limits = self.limits(&context.project_id).await?;
        let job = JobId::new();
        let mut tx = self.db.begin().await?;
        let exists = || Error::InvalidBackup("Backup already exists in database.".into());
        if db::backup_record::known(&mut tx, id).await? == Known::Live {
            return Err(exists());
        }
        quota::take(&mut tx, &context.project_id, &quota::of_backup(size, 1), &limits).await?;
        let taker = Taker { user: &context.user_id, project: &context.project_id, host: &host, size };
        if !db::backup_record::begin(&mut tx, id, taker).await? {
            return Err(exists());
        }
        let request = Request { service: service.to_owned(), record, backup_host: host.clone() };
        let new = db::job::NewJob {
            id: job,
            operation: OPERATION.name,
            resource: ResourceRef { kind: "backup".into(), id: id.to_string() },
            project_id: Some(context.project_id.clone()),
            user_id: Some(context.user_id.clone()),
            request_id: Some(context.request_id.clone()),
            queue: Self::backup_queue(&host),
            request: serde_json::to_value(request).unwrap_or_default(),
            locks: vec![locks::change_backup(id)],
        };
        db::job::insert(&mut tx, new).await?;
        let made = db::backup::get(&mut tx, id).await?;
        self.commit(tx).await?;
        made.ok_or_else(|| Error::NotFound(Resource::Backup, id.to_string()))
    }
}

/// A backup as its record says it.
fn record(backup: &Backup) -> BackupRecord {
    let time = |time: Option<Time>| time.map(|time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string());
    let metadata: Map<String, Value> =
        backup.metadata.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    BackupRecord {
        id: backup.id.to_string(),
        user_id: backup.user_id.clone(),
        project_id: backup.project_id.clone(),
        volume_id: Some(backup.volume_id.to_string()),
        host: backup.host.clone(),
        availability_zone: backup.availability_zone.clone(),
        container: backup.container.clone(),
        parent_id: backup.parent_id.map(|id| id.to_string()),
        status: Some(backup.status.to_string()),
        fail_reason: backup.fail_reason.clone(),
        size: backup.size.map(i64::from),
        display_name: backup.name.clone(),
        display_description: backup.description.clone(),
        service_metadata: backup.service_metadata.clone(),
        service: backup.service.clone(),
        object_count: backup.object_count.map(i64::from),
        temp_volume_id: backup.temp_volume_id.map(|id| id.to_string()),
        temp_snapshot_id: backup.temp_snapshot_id.map(|id| id.to_string()),
        num_dependent_backups: backup.num_dependent_backups.map(i64::from),
        snapshot_id: backup.snapshot_id.map(|id| id.to_string()),
        data_timestamp: time(backup.data_timestamp),
        restore_volume_id: backup.restore_volume_id.map(|id| id.to_string()),
        metadata: Some(metadata),
        encryption_key_id: backup.encryption_key_id.clone(),
        created_at: time(backup.created_at),
        updated_at: time(backup.updated_at),
        ..BackupRecord::default()
    }
}

/// A record with the id and the size that it must have.
fn read(url: &str) -> Result<(BackupId, u32, BackupRecord)> {
    let unreadable = || Error::InvalidInput("Can't parse backup record.".into());
    let record = BackupRecord::decode(url).map_err(|error| {
        if error.to_string().ends_with(::backup::format::record::NO_ID) {
            Error::InvalidInput("Provided backup record is missing an id".into())
        } else {
            unreadable()
        }
    })?;
    let id = record.id.parse().map_err(|_| unreadable())?;
    let size = record.size.and_then(|size| u32::try_from(size).ok());
    let size =
        size.ok_or_else(|| Error::InvalidInput("Provided backup record is missing size attribute".into()))?;
    Ok((id, size, record))
}

/// Whether the driver is the one that wrote it, and the store has what it wrote.
async fn look(work: &Work) -> Output {
    let request: Request = work.request()?;
    let Some(row) = super::row(work).await? else { return Ok(Value::Null) };
    let keeper = super::keeper(work)?;
    if request.service != keeper.service {
        return Err(Failure::permanent(format!(
            "Import record failed, cannot find backup service to perform import. Request service: {}.",
            request.service
        )));
    }
    let container = keeper.naming.container(row.id, request.record.container.as_deref());
    let Some(prefix) = &request.record.service_metadata else {
        return Err(Failure::permanent("the record does not say where the backup's objects are"));
    };
    let name = ::backup::format::name::metadata(prefix);
    keeper.store.open(&container, &name).await.map_err(Failure::from)?;
    Ok(Value::Null)
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let Ok(id) = work.job.resource.id.parse() else { return Ok(()) };
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    db::backup_record::fill(tx, id, &imported(&request.service, request.record)).await?;
    db::transition::finish_backup(tx, id, BackupOp::Create, Outcome::Done, work.by()).await
}

async fn fail(work: &Work, tx: &mut Tx, failure: &Failure) -> db::Result<()> {
    let Ok(id) = work.job.resource.id.parse() else { return Ok(()) };
    db::backup::failed(tx, id, Some(&failure.message)).await?;
    db::transition::finish_backup(tx, id, BackupOp::Create, Outcome::Failed, work.by()).await
}

/// What is taken of a record. Whose it is and what state it was in are not.
fn imported(service: &str, record: BackupRecord) -> Imported {
    let short = |text: Option<String>| text.map(|text| text.chars().take(255).collect::<String>());
    Imported {
        volume_id: record.volume_id.and_then(|id| id.parse().ok()),
        parent_id: record.parent_id.and_then(|id| id.parse().ok()),
        snapshot_id: record.snapshot_id.and_then(|id| id.parse().ok()),
        name: short(record.display_name),
        description: short(record.display_description),
        container: short(record.container),
        availability_zone: short(record.availability_zone),
        service: Some(service.to_owned()),
        service_metadata: short(record.service_metadata),
        object_count: record.object_count,
        data_timestamp: record.data_timestamp.as_deref().and_then(time),
        created_at: record.created_at.as_deref().and_then(time),
    }
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    let plain = text.trim_end_matches('Z');
    NaiveDateTime::parse_from_str(plain, "%Y-%m-%dT%H:%M:%S%.f").ok().map(|time| time.and_utc())
}
