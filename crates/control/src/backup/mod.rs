//! Backups: reading and renaming them, what a backup service has, and one file per operation.

pub mod create;
pub mod delete;
pub mod record;
pub mod restore;

use ::backup::store::SharedStore;
use ::backup::{Naming, PipelineConfig};
use model::list::{ListQuery, Listed};
use model::{Backup, BackupId, BackupStatus};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::Failure;
use crate::error::{Error, Resource, Result};
use crate::message::Detail;
use crate::policy::{Action, Target};
use crate::request::{ResetBackup, UpdateBackup};
use crate::{service, volume};

/// What a process that runs the backup role has.
#[derive(Debug, Clone)]
pub struct Keeper {
    pub store: SharedStore,
    pub naming: Naming,
    pub pipeline: PipelineConfig,
    /// Cinder's class path of the driver, stored with every backup.
    pub service: String,
    pub zone: String,
}

impl From<::backup::Error> for Failure {
    fn from(error: ::backup::Error) -> Self {
        let text = crate::engine::with_causes(&error);
        match (error.kind(), error) {
            (_, ::backup::Error::Stopped(stop)) => stop.into(),
            (::backup::ErrorKind::NoSpace, _) => Self::permanent(text).telling(Detail::NotEnoughSpace),
            _ => Self::permanent(text),
        }
    }
}

/// The target of policy checks on a backup.
fn target(backup: &Backup) -> Target<'_> {
    Target { project_id: backup.project_id.as_deref(), user_id: backup.user_id.as_deref(), fields: None }
}

impl Cloud {
    /// A backup the caller may know of, for doing `action` to it. Another project's is not there (404).
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn backup_for(&self, context: &Context, id: BackupId, action: Action) -> Result<Backup> {
        let found = db::backup::get(&mut self.db.read(), id).await?;
        let backup = found
            .filter(|backup| volume::visible(context, backup.project_id.as_deref()))
            .ok_or_else(|| Error::NotFound(Resource::Backup, id.to_string()))?;
        self.policy.require(action, context, &target(&backup))?;
        Ok(backup)
    }

    /// `GET /backups/{id}`.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn backup_show(&self, context: &Context, id: BackupId) -> Result<Backup> {
        self.backup_for(context, id, Action::BackupShow).await
    }

    /// `GET /backups`, `/backups/detail`.
    ///
    /// # Errors
    /// Forbidden, an unknown marker, a bad sort key.
    pub async fn backup_list(&self, context: &Context, query: &ListQuery) -> Result<Listed<Backup>> {
        self.policy.require(Action::BackupList, context, &Target::own(context))?;
        db::backup::list(&mut self.db.read(), query)
            .await
            .map_err(|error| Error::of_list(error, Resource::Backup))
    }

    /// `PUT /backups/{id}`.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn backup_update(
        &self,
        context: &Context,
        id: BackupId,
        wanted: UpdateBackup,
    ) -> Result<Backup> {
        self.backup_for(context, id, Action::BackupUpdate).await?;
        let mut tx = self.db.begin().await?;
        let name = wanted.name.as_ref().map(Option::as_deref);
        let description = wanted.description.as_ref().map(Option::as_deref);
        db::backup::rename(&mut tx, id, name, description).await?;
        if let Some(metadata) = &wanted.metadata {
            db::backup::replace_metadata(&mut tx, id, metadata).await?;
        }
        self.commit(tx).await?;
        let backup = db::backup::get(&mut self.db.read(), id).await?;
        backup.ok_or_else(|| Error::NotFound(Resource::Backup, id.to_string()))
    }

    /// `os-reset_status`: to `available` or `error`, and not while a job works on it.
    ///
    /// # Errors
    /// Not there, forbidden, another status.
    pub async fn backup_reset(&self, context: &Context, id: BackupId, to: ResetBackup) -> Result<()> {
        self.backup_for(context, id, Action::BackupResetStatus).await?;
        if !matches!(to, BackupStatus::Available | BackupStatus::Error) {
            return Err(Error::Invalid(format!(
                "Backup status: {to} is invalid, valid statuses are: ['available', 'error']."
            )));
        }
        let mut tx = self.db.begin().await?;
        let columns = [("status", Some(to.as_str()))];
        let by = db::event::By { request_id: Some(&context.request_id), ..db::event::By::default() };
        let kind = db::transition::Resettable::Backup;
        db::transition::reset(&mut tx, kind, &id.to_string(), &columns, by).await?;
        Ok(self.commit(tx).await?)
    }

    /// The hosts of backup services that take work now, in a zone if one is named.
    pub(crate) async fn backup_hosts(&self, zone: Option<&str>) -> Result<Vec<String>> {
        Ok(self
            .all_services()
            .await?
            .into_iter()
            .filter(|s| s.binary == service::BACKUP && s.up && !s.disabled)
            .filter(|s| zone.is_none_or(|zone| s.availability_zone.as_deref() == Some(zone)))
            .map(|s| s.host)
            .collect())
    }

    /// The service that has a backup: its own host, which must be up.
    ///
    /// # Errors
    /// 404 as Cinder: the service could not be found.
    pub(crate) async fn keeper_of(&self, backup: &Backup) -> Result<String> {
        let hosts = self.backup_hosts(None).await?;
        let found = match &backup.host {
            Some(host) => hosts.into_iter().find(|up| up == host),
            None => hosts.into_iter().next(),
        };
        found.ok_or_else(|| Error::Missing("Service cinder-backup could not be found.".into()))
    }
}

/// What this process has for backups.
pub(crate) fn keeper(work: &crate::engine::Work) -> std::result::Result<&Keeper, Failure> {
    work.node.backup.as_ref().ok_or_else(|| Failure::again("this process does not run the backup role"))
}

/// The backup a job works on.
pub(crate) async fn row(work: &crate::engine::Work) -> std::result::Result<Option<Backup>, Failure> {
    let id = work.job.resource.id.parse().map_err(|_| Failure::permanent("the job names no backup"))?;
    Ok(db::backup::get(&mut work.cloud.db.read(), id).await?)
}
