//! Delete: `DELETE /backups/{id}`, `os-force_delete`.

use db::Tx;
use db::transition::{Begin, Outcome};
use model::job::ResourceRef;
use model::transition::{BackupOp, Guard};
use model::{BackupId, BackupStatus, JobId};
use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Act, At, Failure, Operation, Output, Step, Work};
use crate::error::{Error, Resource, Result};
use crate::message::{self, Detail};
use crate::policy::Action;
use crate::{locks, quota};

/// The operation's table.
pub const OPERATION: Operation = Operation {
    name: "backup.delete",
    steps: &[Step {
        name: "objects",
        at: At::Backup,
        act: Act::Do(|work| Box::pin(objects(work))),
        undo: None,
    }],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, failure| Box::pin(fail(work, tx, failure)),
};

impl Cloud {
    /// `DELETE /backups/{id}`; `force`: whatever its status.
    ///
    /// # Errors
    /// Not there, forbidden, in another status, with incrementals, its service not up.
    pub async fn backup_delete(&self, context: &Context, id: BackupId, force: bool) -> Result<()> {
        let action = if force { Action::BackupForceDelete } else { Action::BackupDelete };
        let backup = self.backup_for(context, id, action).await?;
        let op = if force { BackupOp::ForceDelete } else { BackupOp::Delete };
        let job = JobId::new();
        let by = db::event::By {
            job: Some(job),
            request_id: Some(&context.request_id),
            project_id: backup.project_id.as_deref(),
        };
        let mut tx = self.db.begin().await?;
        match db::transition::begin_backup(&mut tx, id, op, by).await? {
            Begin::Moved => {}
            Begin::Missing => return Err(Error::NotFound(Resource::Backup, id.to_string())),
            Begin::Refused { unmet, .. } if unmet.contains(&Guard::NoDependents) => {
                return Err(Error::InvalidBackup("Incremental backups exist for this backup.".into()));
            }
            Begin::Refused { .. } => {
                return Err(Error::InvalidBackup("Backup status must be available or error".into()));
            }
        }
        let host = self.keeper_of(&backup).await?;
        // A backup that is being made stops: its job is asked to, and ours waits for its lock.
        for running in db::job::of_resource(&mut tx, &id.to_string()).await? {
            db::job::cancel(&mut tx, running).await?;
        }
        db::job::insert(
            &mut tx,
            db::job::NewJob {
                id: job,
                operation: OPERATION.name,
                resource: ResourceRef { kind: "backup".into(), id: id.to_string() },
                project_id: backup.project_id.clone(),
                user_id: Some(context.user_id.clone()),
                request_id: Some(context.request_id.clone()),
                queue: Self::backup_queue(&host),
                request: json!({ "volume_id": backup.volume_id, "backup_host": host }),
                locks: vec![locks::change_backup(id)],
            },
        )
        .await?;
        Ok(self.commit(tx).await?)
    }
}

async fn objects(work: &Work) -> Output {
    let Some(row) = super::row(work).await? else { return Ok(Value::Null) };
    if row.status != BackupStatus::Deleting {
        // An operator has reset it: it may be in use again.
        let (id, status) = (row.id, row.status);
        return Err(Failure::permanent(format!("backup {id} was reset to {status} meanwhile: it is kept")));
    }
    let keeper = super::keeper(work)?;
    let container = keeper.naming.container(row.id, row.container.as_deref());
    // An imported record may name a container that cannot be: nothing is there then.
    if let Some(prefix) = &row.service_metadata
        && ::backup::store::check_container(&container).is_ok()
    {
        ::backup::delete(keeper.store.as_ref(), &container, prefix).await?;
    }
    // And whatever unfinished runs left.
    ::backup::discard(keeper.store.as_ref(), &container, row.volume_id, row.id).await?;
    Ok(Value::Null)
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let Ok(id) = work.job.resource.id.parse() else { return Ok(()) };
    let Some(row) = db::backup::get(tx, id).await? else { return Ok(()) };
    if let Some(project) = &row.project_id {
        quota::give_back(tx, project, &quota::of_backup(row.size.unwrap_or(0), -1)).await?;
    }
    // Only a backup that was finished is counted by its parent.
    if let (Some(parent), Some(_)) = (row.parent_id, &row.service_metadata) {
        db::backup::count_dependent(tx, parent, -1).await?;
    }
    db::transition::finish_backup(tx, id, BackupOp::Delete, Outcome::Done, work.by()).await
}

async fn fail(work: &Work, tx: &mut Tx, failure: &Failure) -> db::Result<()> {
    let Ok(id) = work.job.resource.id.parse() else { return Ok(()) };
    db::backup::failed(tx, id, Some(&failure.message)).await?;
    let (action, otherwise) = (message::Action::BackupDelete, Detail::BackupDeleteFailed);
    let ttl = work.cloud.settings.message_ttl;
    message::leave(tx, &work.job, "VOLUME_BACKUP", action, failure, otherwise, ttl).await?;
    db::transition::finish_backup(tx, id, BackupOp::Delete, Outcome::Failed, work.by()).await
}
