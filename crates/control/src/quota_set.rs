//! Quota sets: the limits and the use of projects and classes, shown and changed (quotas.md).

use std::collections::BTreeMap;

use model::list::ListQuery;
use model::quota::QuotaLine;

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::policy::{Action, Target};
use crate::request::QuotaChange;

/// What is limited for every project, in the order in which it is shown; types' own resources stand before the last.
const BASE: [&str; 7] =
    ["volumes", "per_volume_gigabytes", "snapshots", "gigabytes", "backups", "backup_gigabytes", "groups"];
/// What a type has of its own.
const OF_TYPE: [&str; 3] = ["volumes", "gigabytes", "snapshots"];
/// No more types than this are shown in a quota set.
const MAX_TYPES: u32 = 10_000;

impl Cloud {
    /// Everything that can be limited, in the order in which it is shown.
    ///
    /// # Errors
    /// The database is away.
    pub async fn quota_resources(&self) -> Result<Vec<String>> {
        let query = ListQuery { limit: MAX_TYPES, ..ListQuery::all(None) };
        let types = db::volume_type::list(&mut self.db.read(), &query, None).await?.items;
        let own = types.iter().flat_map(|one| OF_TYPE.map(|resource| format!("{resource}_{}", one.name)));
        let (last, first) = BASE.split_last().unwrap_or((&"", &[]));
        Ok(first.iter().map(|name| (*name).to_owned()).chain(own).chain([(*last).to_owned()]).collect())
    }

    /// A project's limits and use, whoever asks.
    ///
    /// # Errors
    /// The database is away.
    pub async fn quota_of(&self, project: &str) -> Result<Vec<QuotaLine>> {
        let limits = self.limits(project).await?;
        let mut used = db::quota::usages(&mut self.db.read(), project).await?;
        let mut lines = self.lines(&limits).await?;
        for line in &mut lines {
            if let Some(used) = used.remove(&line.resource) {
                (line.in_use, line.reserved) = (used.in_use, used.reserved);
            }
        }
        Ok(lines)
    }

    /// Limits with nothing used.
    async fn lines(&self, limits: &BTreeMap<String, i64>) -> Result<Vec<QuotaLine>> {
        let line = |resource: String| {
            let limit = limits.get(&resource).copied().unwrap_or(-1);
            QuotaLine { resource, limit, in_use: 0, reserved: 0 }
        };
        Ok(self.quota_resources().await?.into_iter().map(line).collect())
    }

    /// `GET /os-quota-sets/{project}`.
    ///
    /// # Errors
    /// Forbidden.
    pub async fn quota_show(&self, context: &Context, project: &str) -> Result<Vec<QuotaLine>> {
        self.policy.require(Action::QuotaShow, context, &Target::project(project))?;
        self.quota_of(project).await
    }

    /// `GET /os-quota-sets/{project}/defaults`.
    ///
    /// # Errors
    /// Forbidden.
    pub async fn quota_defaults(&self, context: &Context, project: &str) -> Result<Vec<QuotaLine>> {
        self.policy.require(Action::QuotaShow, context, &Target::project(project))?;
        let limits = self.default_limits().await?;
        self.lines(&limits).await
    }

    /// `PUT /os-quota-sets/{project}`: all of the change, or nothing.
    ///
    /// # Errors
    /// Forbidden, or a limit below what is used.
    pub async fn quota_update(
        &self,
        context: &Context,
        project: &str,
        change: QuotaChange,
    ) -> Result<Vec<QuotaLine>> {
        self.policy.require(Action::QuotaUpdate, context, &Target::project(project))?;
        let mut tx = self.db.begin().await?;
        let used = db::quota::usages(&mut tx, project).await?;
        for (resource, limit) in &change {
            let usage = used.get(resource).map_or(0, |used| used.in_use + used.reserved);
            if *limit >= 0 && *limit < usage && resource != "per_volume_gigabytes" {
                return Err(Error::Invalid(format!(
                    "Quota {resource} limit must be equal or greater than existing resources. Current usage is \
                     {usage} and the requested limit is {limit}."
                )));
            }
            db::quota::set_project_limit(&mut tx, project, resource, *limit).await?;
        }
        self.commit(tx).await?;
        self.quota_of(project).await
    }

    /// `DELETE /os-quota-sets/{project}`: back to the defaults.
    ///
    /// # Errors
    /// Forbidden.
    pub async fn quota_delete(&self, context: &Context, project: &str) -> Result<()> {
        self.policy.require(Action::QuotaDelete, context, &Target::project(project))?;
        let mut tx = self.db.begin().await?;
        db::quota::clear_project_limits(&mut tx, project).await?;
        Ok(self.commit(tx).await?)
    }

    /// `GET /os-quota-class-sets/{class}`: what the class does not say is the default's.
    ///
    /// # Errors
    /// Forbidden.
    pub async fn quota_class_show(&self, context: &Context, class: &str) -> Result<Vec<QuotaLine>> {
        self.policy.require(Action::QuotaClassShow, context, &Target::own(context))?;
        let mut limits = self.default_limits().await?;
        limits.extend(db::quota::class_limits(&mut self.db.read(), class).await?);
        self.lines(&limits).await
    }

    /// `PUT /os-quota-class-sets/{class}`.
    ///
    /// # Errors
    /// Forbidden.
    pub async fn quota_class_update(
        &self,
        context: &Context,
        class: &str,
        change: QuotaChange,
    ) -> Result<Vec<QuotaLine>> {
        self.policy.require(Action::QuotaClassUpdate, context, &Target::own(context))?;
        let mut tx = self.db.begin().await?;
        for (resource, limit) in &change {
            db::quota::set_class_limit(&mut tx, class, resource, *limit).await?;
        }
        self.commit(tx).await?;
        let mut limits = self.default_limits().await?;
        limits.extend(db::quota::class_limits(&mut self.db.read(), class).await?);
        self.lines(&limits).await
    }
}
