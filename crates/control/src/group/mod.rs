//! Groups of volumes: reading them, and one file per operation on them.
//!
//! All volumes of a group are on one backend, so that one process can have all of them open: a job on the members goes to the target
//! that serves any of them, else to the volume service.

pub mod create;
pub mod create_from;
pub mod delete;
mod replication;
mod update;

use db::Tx;
use db::volume_group::Which;
use model::job::Job;
use model::list::{ListQuery, Listed};
use model::{Group, GroupId, GroupStatus, GroupTypeId, Volume, VolumeId, VolumeType};
use serde::{Deserialize, Serialize};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Failure, Work};
use crate::error::{Error, Resource, Result};
use crate::policy::{Action, Target};
use crate::request::NewVolume;
use crate::volume;

pub use create::NewGroup;
pub use create_from::{NewGroupFrom, Origin};
pub use update::UpdateGroup;

/// By which paths a request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `/groups`, `/group_snapshots`: legacy consistency groups are not to be touched.
    Generic,
    /// `/consistencygroups`, `/cgsnapshots`: every group.
    Legacy,
}

impl Door {
    pub(crate) const fn shows(self) -> Which {
        match self {
            Self::Generic => Which::Generic,
            Self::Legacy => Which::Every,
        }
    }

    /// Refuses what this door does not lead to; `what` names it.
    pub(crate) fn check(self, legacy: bool, kind: Option<GroupTypeId>, what: &str) -> Result<()> {
        let kind = kind.filter(|_| legacy && self == Self::Generic);
        kind.map_or(Ok(()), |kind| {
            Err(Error::Invalid(format!(
                "Group_type {kind} is reserved for migrating CGs to groups. Migrated {what}."
            )))
        })
    }
}

pub(crate) const BY_CG_APIS: &str = "group can only be operated by CG APIs";

/// Which volumes a job reads or changes on their backend, in its request under `members`: what leads it to its queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Members {
    /// `host@backend`.
    pub host: String,
    pub volumes: Vec<VolumeId>,
}

impl Members {
    /// Those of a job on a group; `None` for other jobs.
    pub(crate) fn of(job: &Job) -> Option<Self> {
        serde_json::from_value(job.request.get("members")?.clone()).ok()
    }
}

pub(crate) fn invalid(reason: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("Invalid Group: {reason}"))
}

pub(crate) fn missing(id: GroupId) -> Error {
    Error::NotFound(Resource::Group, id.to_string())
}

/// The target of policy checks on a group.
pub(crate) fn target(group: &Group) -> Target<'_> {
    Target { project_id: group.project_id.as_deref(), user_id: group.user_id.as_deref(), fields: None }
}

/// Who changes a group, for the event log.
pub(crate) fn by<'a>(
    context: &'a Context,
    project: Option<&'a str>,
    job: Option<model::JobId>,
) -> db::event::By<'a> {
    db::event::By { job, request_id: Some(&context.request_id), project_id: project }
}

/// The group that a job works on.
fn id_of(work: &Work) -> std::result::Result<GroupId, Failure> {
    work.job.resource.id.parse().map_err(|_| Failure::permanent("the job names no group"))
}

impl Cloud {
    /// A group the caller may know of, for doing `action` to it. Another project's is not there (404).
    ///
    /// # Errors
    /// Not there, forbidden, not to be reached by this door.
    pub async fn group_for(
        &self,
        context: &Context,
        id: GroupId,
        door: Door,
        action: Action,
    ) -> Result<Group> {
        let group = db::volume_group::get(&mut self.db.read(), id).await?;
        let group = group
            .filter(|group| volume::visible(context, group.project_id.as_deref()))
            .ok_or_else(|| missing(id))?;
        self.policy.require(Action::GroupShow, context, &target(&group))?;
        door.check(group.legacy, Some(group.type_id), BY_CG_APIS)?;
        self.policy.require(action, context, &target(&group))?;
        Ok(group)
    }

    /// `GET /groups/{id}`.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn group_show(&self, context: &Context, id: GroupId, door: Door) -> Result<Group> {
        self.group_for(context, id, door, Action::GroupShow).await
    }

    /// `GET /groups`, `/groups/detail`.
    ///
    /// # Errors
    /// Forbidden, an unknown marker, a bad sort key.
    pub async fn group_list(
        &self,
        context: &Context,
        query: &ListQuery,
        door: Door,
    ) -> Result<Listed<Group>> {
        self.policy.require(Action::GroupList, context, &Target::own(context))?;
        let listed = db::volume_group::list(&mut self.db.read(), query, door.shows()).await;
        listed.map_err(|error| Error::of_list(error, Resource::Group))
    }

    /// The volumes of a group that the caller has been shown.
    ///
    /// # Errors
    /// The database is away.
    pub async fn group_members(&self, id: GroupId) -> Result<Vec<VolumeId>> {
        let volumes = db::volume_group::volumes(&mut self.db.read(), id).await?;
        Ok(volumes.into_iter().map(|volume| volume.id).collect())
    }

    /// `reset_status`.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn group_reset(&self, context: &Context, id: GroupId, to: GroupStatus) -> Result<()> {
        let group = self.group_for(context, id, Door::Legacy, Action::GroupResetStatus).await?;
        let mut tx = self.db.begin().await?;
        let columns = [("status", Some(to.as_str()))];
        let by = by(context, group.project_id.as_deref(), None);
        let what = db::transition::Resettable::Group;
        if !db::transition::reset(&mut tx, what, &id.to_string(), &columns, by).await? {
            return Err(missing(id));
        }
        Ok(self.commit(tx).await?)
    }

    /// The group that a new volume is to be in.
    pub(crate) async fn group_of_new_volume(
        &self,
        context: &Context,
        wanted: &NewVolume,
    ) -> Result<Option<Group>> {
        let Some(text) = wanted.group_id.as_ref().or(wanted.consistencygroup_id.as_ref()) else {
            return Ok(None);
        };
        let id = text.parse().ok().filter(|id: &GroupId| id.to_string() == *text);
        let id = id.ok_or_else(|| Error::NotFound(Resource::Group, text.clone()))?;
        self.group_for(context, id, Door::Legacy, Action::GroupShow).await.map(Some)
    }
}

const TAKES_IN: [GroupStatus; 2] = [GroupStatus::Available, GroupStatus::Creating];

/// What a group demands of a new volume: one of its types, by name.
pub(crate) fn check_new_volume(group: &Group, kind: Option<&VolumeType>) -> Result<()> {
    let Some(kind) = kind else {
        return Err(Error::InvalidInput(
            "volume_type must be provided when creating a volume in a group.".into(),
        ));
    };
    if !group.volume_types.contains(&kind.id) {
        return Err(Error::InvalidInput(format!(
            "Invalid volume_type provided: {} (requested type must be supported by this group).",
            kind.name
        )));
    }
    Ok(())
}

/// A new volume's row joins its group, in the transaction that makes the row.
pub(crate) async fn take_in(tx: &mut Tx, group: GroupId, volume: VolumeId) -> Result<()> {
    if !db::volume_group::hold(tx, group, &TAKES_IN).await? {
        return Err(invalid("Originating group status must be one of 'available, creating' values"));
    }
    Ok(db::volume_group::born_in(tx, volume, group).await?)
}

/// The backend that a volume must be on for its group's sake.
pub(crate) async fn home_of(tx: &mut Tx, volume: &Volume) -> std::result::Result<Option<String>, Failure> {
    let Some(id) = volume.group_id.as_deref().and_then(|id| id.parse().ok()) else { return Ok(None) };
    match db::volume_group::get(tx, id).await? {
        Some(Group { host: Some(pool), .. }) => Ok(Some(pool.service_host())),
        Some(Group { status: GroupStatus::Creating, .. }) => {
            Err(Failure::again("the volume's group is still being placed"))
        }
        _ => Err(Failure::permanent("the volume's group is on no backend")),
    }
}
