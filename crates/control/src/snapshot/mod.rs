//! Snapshots: reading them, and one file per operation on them.

pub mod create;
pub mod delete;
pub mod manage;
mod metadata;
mod status;
pub mod unmanage;

use db::Read;
use drivers::{Provider, SnapshotRef};
use model::list::{ListQuery, Listed};
use model::{Snapshot, SnapshotId, Volume};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Failure, Work};
use crate::error::{Error, Resource, Result};
use crate::policy::{Action, Target};
use crate::request::UpdateSnapshot;
use crate::volume;

/// What the driver is told of a snapshot.
pub fn reference(snapshot: &Snapshot, volume: &Volume) -> SnapshotRef {
    SnapshotRef {
        id: snapshot.id,
        name: snapshot.backend_name(),
        size: snapshot.volume_size,
        provider: Provider { location: snapshot.provider_location.clone(), id: snapshot.provider_id.clone() },
        volume: volume::reference(volume),
    }
}

/// A snapshot and the volume it is of, for a step.
pub(crate) async fn with_volume(
    from: &mut impl Read,
    id: SnapshotId,
) -> std::result::Result<(Snapshot, Volume), Failure> {
    let snapshot = db::snapshot::get(from, id).await?;
    let snapshot = snapshot.ok_or_else(|| Failure::permanent(format!("snapshot {id} is gone")))?;
    let volume = db::volume::get(from, snapshot.volume_id).await?;
    let volume =
        volume.ok_or_else(|| Failure::permanent(format!("volume {} is gone", snapshot.volume_id)))?;
    Ok((snapshot, volume))
}

/// What policy rules see of a snapshot.
fn target(snapshot: &Snapshot) -> Target<'_> {
    Target { project_id: snapshot.project_id.as_deref(), user_id: snapshot.user_id.as_deref(), fields: None }
}

/// The snapshot that a job works on.
fn id_of(work: &Work) -> std::result::Result<SnapshotId, Failure> {
    work.job.resource.id.parse().map_err(|_| Failure::permanent("the job names no snapshot"))
}

/// Who changes a snapshot without a job.
fn by<'a>(context: &'a Context, snapshot: &'a Snapshot) -> db::event::By<'a> {
    db::event::By {
        job: None,
        request_id: Some(&context.request_id),
        project_id: snapshot.project_id.as_deref(),
    }
}

impl Cloud {
    /// `GET /snapshots/{id}`.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn snapshot_show(&self, context: &Context, id: SnapshotId) -> Result<Snapshot> {
        self.snapshot_for(context, id, Action::SnapshotShow).await
    }

    /// `GET /snapshots`, `/snapshots/detail`.
    ///
    /// # Errors
    /// Forbidden, an unknown marker, a bad sort key.
    pub async fn snapshot_list(&self, context: &Context, query: &ListQuery) -> Result<Listed<Snapshot>> {
        self.policy.require(Action::SnapshotList, context, &Target::own(context))?;
        db::snapshot::list(&mut self.db.read(), query)
            .await
            .map_err(|error| Error::of_list(error, Resource::Snapshot))
    }

    /// `PUT /snapshots/{id}`.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn snapshot_update(
        &self,
        context: &Context,
        id: SnapshotId,
        wanted: UpdateSnapshot,
    ) -> Result<Snapshot> {
        self.snapshot_for(context, id, Action::SnapshotUpdate).await?;
        let mut tx = self.db.begin().await?;
        let name = wanted.name.as_ref().map(Option::as_deref);
        let description = wanted.description.as_ref().map(Option::as_deref);
        db::snapshot::rename(&mut tx, id, name, description).await?;
        self.commit(tx).await?;
        self.snapshot_again(id).await
    }

    /// A snapshot that was there a moment ago.
    async fn snapshot_again(&self, id: SnapshotId) -> Result<Snapshot> {
        let snapshot = db::snapshot::get(&mut self.db.read(), id).await?;
        snapshot.ok_or_else(|| Error::NotFound(Resource::Snapshot, id.to_string()))
    }

    /// A snapshot the caller may know of, for doing `action` to it. Another project's is not there (404).
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn snapshot_for(&self, context: &Context, id: SnapshotId, action: Action) -> Result<Snapshot> {
        let snapshot = db::snapshot::get(&mut self.db.read(), id).await?;
        let snapshot = snapshot
            .filter(|snapshot| volume::visible(context, snapshot.project_id.as_deref()))
            .ok_or_else(|| Error::NotFound(Resource::Snapshot, id.to_string()))?;
        self.policy.require(action, context, &target(&snapshot))?;
        Ok(snapshot)
    }
}
