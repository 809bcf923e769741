//! Snapshots of groups: reading them, and one file per operation on them.

pub mod create;
pub mod delete;

use model::list::{ListQuery, Listed};
use model::{GroupSnapshot, GroupSnapshotId, GroupSnapshotStatus};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Failure, Work};
use crate::error::{Error, Resource, Result};
use crate::group::{Door, by};
use crate::policy::{Action, Target};
use crate::volume;

pub use create::NewGroupSnapshot;

/// The group snapshot that a job works on.
fn id_of(work: &Work) -> std::result::Result<GroupSnapshotId, Failure> {
    work.job.resource.id.parse().map_err(|_| Failure::permanent("the job names no group snapshot"))
}

fn missing(id: GroupSnapshotId) -> Error {
    Error::NotFound(Resource::GroupSnapshot, id.to_string())
}

impl Cloud {
    /// A group snapshot the caller may know of, for doing `action` to it. Another project's is not there (404).
    ///
    /// # Errors
    /// Not there, forbidden, not to be reached by this door.
    pub async fn group_snapshot_for(
        &self,
        context: &Context,
        id: GroupSnapshotId,
        door: Door,
        action: Action,
    ) -> Result<GroupSnapshot> {
        let found = db::group_snapshot::get(&mut self.db.read(), id).await?;
        let found = found
            .filter(|found| volume::visible(context, found.project_id.as_deref()))
            .ok_or_else(|| missing(id))?;
        let target = Target {
            project_id: found.project_id.as_deref(),
            user_id: found.user_id.as_deref(),
            fields: None,
        };
        self.policy.require(Action::GroupSnapshotShow, context, &target)?;
        let what = "group snapshots can only be operated by CG snapshot APIs";
        door.check(found.legacy, found.type_id, what)?;
        self.policy.require(action, context, &target)?;
        Ok(found)
    }

    /// `GET /group_snapshots/{id}`.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn group_snapshot_show(
        &self,
        context: &Context,
        id: GroupSnapshotId,
        door: Door,
    ) -> Result<GroupSnapshot> {
        self.group_snapshot_for(context, id, door, Action::GroupSnapshotShow).await
    }

    /// `GET /group_snapshots`, `/group_snapshots/detail`.
    ///
    /// # Errors
    /// Forbidden, an unknown marker, a bad sort key.
    pub async fn group_snapshot_list(
        &self,
        context: &Context,
        query: &ListQuery,
        door: Door,
    ) -> Result<Listed<GroupSnapshot>> {
        self.policy.require(Action::GroupSnapshotList, context, &Target::own(context))?;
        let listed = db::group_snapshot::list(&mut self.db.read(), query, door.shows()).await;
        listed.map_err(|error| Error::of_list(error, Resource::GroupSnapshot))
    }

    /// `reset_status`.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn group_snapshot_reset(
        &self,
        context: &Context,
        id: GroupSnapshotId,
        to: GroupSnapshotStatus,
    ) -> Result<()> {
        let action = Action::GroupSnapshotResetStatus;
        let found = self.group_snapshot_for(context, id, Door::Legacy, action).await?;
        let mut tx = self.db.begin().await?;
        let columns = [("status", Some(to.as_str()))];
        let by = by(context, found.project_id.as_deref(), None);
        let what = db::transition::Resettable::GroupSnapshot;
        if !db::transition::reset(&mut tx, what, &id.to_string(), &columns, by).await? {
            return Err(missing(id));
        }
        Ok(self.commit(tx).await?)
    }
}
