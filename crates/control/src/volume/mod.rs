//! Volumes: reading them, and one file per operation on them.

mod attach;
mod connection;
pub mod create;
pub mod delete;
pub mod extend;
mod image_metadata;
pub mod manage;
mod metadata;
pub mod migrate;
mod relocation;
mod reserve;
mod reset;
pub mod retype;
pub mod revert;
pub mod unmanage;

use std::collections::BTreeMap;

use drivers::{Provider, VolumeRef};
use model::list::{ListQuery, Listed};
use model::{Volume, VolumeId};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Resource, Result};
use crate::policy::{Action, Target};
use crate::request::UpdateVolume;

/// How many volumes there are and how large they are together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub count: u64,
    /// GiB.
    pub size: u64,
    /// Every value of every metadata key.
    pub metadata: BTreeMap<String, Vec<String>>,
}

/// What the driver is told of a volume.
pub fn reference(volume: &Volume) -> VolumeRef {
    VolumeRef {
        id: volume.name_id.unwrap_or(volume.id),
        name: volume.backend_name(),
        size: volume.size,
        provider: Provider { location: volume.provider_location.clone(), id: volume.provider_id.clone() },
    }
}

/// The target of policy checks on a volume.
pub fn target(volume: &Volume) -> Target<'_> {
    Target { project_id: volume.project_id.as_deref(), user_id: volume.user_id.as_deref(), fields: None }
}

/// The queue of the volume service that has the volume; empty when none has it yet.
pub(crate) fn home_queue(volume: &Volume) -> String {
    volume.host.as_ref().map(|pool| Cloud::volume_queue(&pool.service_host())).unwrap_or_default()
}

/// Whether an object of `project` is the caller's to know of.
pub(crate) fn visible(context: &Context, project: Option<&str>) -> bool {
    context.is_admin || project == Some(context.project_id.as_str())
}

impl Cloud {
    /// A volume the caller may know of, for doing `action` to it. Another project's is not there (404).
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn volume_for(&self, context: &Context, id: VolumeId, action: Action) -> Result<Volume> {
        let volume = db::volume::get(&mut self.db.read(), id).await?;
        let volume = volume
            .filter(|volume| visible(context, volume.project_id.as_deref()))
            .ok_or_else(|| Error::NotFound(Resource::Volume, id.to_string()))?;
        self.policy.require(action, context, &target(&volume))?;
        Ok(volume)
    }

    /// `GET /volumes/{id}`. Whoever may not see it is told that it is not there.
    ///
    /// # Errors
    /// Not there.
    pub async fn volume_show(&self, context: &Context, id: VolumeId) -> Result<Volume> {
        match self.volume_for(context, id, Action::VolumeShow).await {
            Err(Error::Forbidden(_)) => Err(Error::NotFound(Resource::Volume, id.to_string())),
            other => other,
        }
    }

    /// `GET /volumes`, `/volumes/detail`. Migration targets are the administrators' to see.
    ///
    /// # Errors
    /// Forbidden, an unknown marker, a bad sort key.
    pub async fn volume_list(&self, context: &Context, query: &ListQuery) -> Result<Listed<Volume>> {
        self.policy.require(Action::VolumeList, context, &Target::own(context))?;
        db::volume::list(&mut self.db.read(), query)
            .await
            .map_err(|error| Error::of_list(error, Resource::Volume))
    }

    /// `GET /volumes/summary`; `project` is `None` for all.
    ///
    /// # Errors
    /// Forbidden.
    pub async fn volume_summary(&self, context: &Context, project: Option<&str>) -> Result<Summary> {
        self.policy.require(Action::VolumeList, context, &Target::own(context))?;
        let (count, size) = db::volume::summary(&mut self.db.read(), project).await?;
        let metadata = db::volume::summary_metadata(&mut self.db.read(), project).await?;
        Ok(Summary { count, size, metadata })
    }

    /// `PUT /volumes/{id}`.
    ///
    /// # Errors
    /// Not there, forbidden, under maintenance.
    pub async fn volume_update(
        &self,
        context: &Context,
        id: VolumeId,
        wanted: UpdateVolume,
    ) -> Result<Volume> {
        let volume = self.volume_for(context, id, Action::VolumeUpdate).await?;
        if volume.status == model::VolumeStatus::Maintenance {
            return Err(Error::InvalidVolume("The volume cannot be updated during maintenance.".into()));
        }
        let mut tx = self.db.begin().await?;
        let name = wanted.name.as_ref().map(Option::as_deref);
        let description = wanted.description.as_ref().map(Option::as_deref);
        db::volume::rename(&mut tx, id, name, description).await?;
        if let Some(metadata) = &wanted.metadata {
            db::volume::replace_metadata(&mut tx, db::volume::Metadata::User, id, metadata).await?;
        }
        self.commit(tx).await?;
        self.volume_again(id).await
    }

    /// A volume that was there a moment ago.
    pub(crate) async fn volume_again(&self, id: VolumeId) -> Result<Volume> {
        let volume = db::volume::get(&mut self.db.read(), id).await?;
        volume.ok_or_else(|| Error::NotFound(Resource::Volume, id.to_string()))
    }
}
