//! Delete: a group, with or without the volumes in it.

use db::Tx;
use db::transition::{Begin, Outcome};
use model::job::ResourceRef;
use model::transition::{GroupOp, Guard, VolumeOp};
use model::{Group, GroupId, JobId, PoolRef, Volume, VolumeId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Door, Members, by, id_of, invalid, missing};
use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Act, At, Failure, Operation, Output, Step, Work};
use crate::error::{Error, Result};
use crate::policy::Action;
use crate::volume;
use crate::volume::delete::{check_status, cut_off, gone as volume_gone};
use crate::{locks, quota};

/// The operation's table.
pub const OPERATION: Operation = Operation {
    name: "group.delete",
    steps: &[
        Step { name: "cut", at: At::Owner, act: Act::Do(|work| Box::pin(cut(work))), undo: None },
        Step { name: "volumes", at: At::Owner, act: Act::Do(|work| Box::pin(volumes(work))), undo: None },
    ],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, _| Box::pin(fail(work, tx)),
};

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    /// The volumes that go too.
    members: Members,
}

impl Cloud {
    /// `delete`; `with_volumes`: all that are in it go too.
    ///
    /// # Errors
    /// Not there, forbidden, in a state that forbids it, volumes that may not go.
    pub async fn group_delete(
        &self,
        context: &Context,
        id: GroupId,
        with_volumes: bool,
        door: Door,
    ) -> Result<()> {
        let group = self.group_for(context, id, door, Action::GroupDelete).await?;
        if let Some(pool) = &group.host {
            self.check_backend_not_frozen(&pool.service_host()).await?;
        }
        let job = JobId::new();
        let by = by(context, group.project_id.as_deref(), Some(job));
        // One that was never placed may go whatever its status.
        let op = match with_volumes || group.host.is_none() {
            true => GroupOp::DeleteWithVolumes,
            false => GroupOp::Delete,
        };
        let mut tx = self.db.begin().await?;
        match db::transition::begin_group(&mut tx, id, op, by).await? {
            Begin::Moved => {}
            Begin::Missing => return Err(missing(id)),
            Begin::Refused { status, unmet } => return Err(refusal(&group, op, &status, &unmet)),
        }
        // As they are now that nobody else can change who is in it.
        let volumes = db::volume_group::volumes(&mut tx, id).await?;
        if !with_volumes && !volumes.is_empty() {
            return Err(still_contains(id));
        }
        for volume in &volumes {
            begin_volume(&mut tx, id, volume.id, by).await?;
        }
        let home = group.host.iter().chain(volumes.iter().filter_map(|volume| volume.host.as_ref())).next();
        match home.map(PoolRef::service_host) {
            Some(host) => {
                let members = Members { host, volumes: volumes.iter().map(|volume| volume.id).collect() };
                db::job::insert(&mut tx, new_job(context, &group, members, job)).await?;
            }
            // Never placed: there is nothing on any backend.
            None => gone(&mut tx, &group, &volumes, by).await?,
        }
        Ok(self.commit(tx).await?)
    }
}

fn still_contains(id: GroupId) -> Error {
    invalid(format!("Group {id} still contains volumes. The delete-volumes flag is required to delete it."))
}

/// Cinder's refusals, in its order.
fn refusal(group: &Group, op: GroupOp, status: &str, unmet: &[Guard]) -> Error {
    if !op.rule().from.iter().any(|from| from.as_str() == status) {
        return invalid(format!("Group status must be available or error, but current status is: {status}"));
    }
    if unmet.contains(&Guard::NoGroupSnapshots) {
        return invalid("Group has existing snapshots.");
    }
    if unmet.contains(&Guard::NotASource) {
        return invalid("Group is the source of a group that is being created.");
    }
    still_contains(group.id)
}

async fn begin_volume(tx: &mut Tx, group: GroupId, volume: VolumeId, by: db::event::By<'_>) -> Result<()> {
    match db::transition::begin_volume(tx, volume, VolumeOp::DeleteWithGroup, by).await? {
        Begin::Moved => Ok(db::volume::terminated(tx, volume).await?),
        // Gone meanwhile.
        Begin::Missing => Ok(()),
        Begin::Refused { unmet, .. } if unmet.contains(&Guard::NotAttached) => {
            Err(invalid(format!("Volume in group {group} is attached. Need to detach first.")))
        }
        Begin::Refused { unmet, .. } if unmet.contains(&Guard::NoSnapshots) => {
            Err(invalid("Volume in group still has dependent snapshots."))
        }
        Begin::Refused { .. } => Err(invalid(format!("Volume {volume} in group {group} is being migrated."))),
    }
}

fn new_job(context: &Context, group: &Group, members: Members, job: JobId) -> db::job::NewJob {
    let mut locks = vec![locks::change_group(group.id)];
    locks.extend(members.volumes.iter().map(|volume| locks::change_volume(*volume)));
    db::job::NewJob {
        id: job,
        operation: OPERATION.name,
        resource: ResourceRef { kind: "group".into(), id: group.id.to_string() },
        project_id: group.project_id.clone(),
        user_id: Some(context.user_id.clone()),
        request_id: Some(context.request_id.clone()),
        queue: Cloud::volume_queue(&members.host),
        request: serde_json::to_value(Request { members }).unwrap_or_default(),
        locks,
    }
}

async fn rows(work: &Work) -> std::result::Result<Vec<Volume>, Failure> {
    let request: Request = work.request()?;
    let mut rows = Vec::with_capacity(request.members.volumes.len());
    for id in request.members.volumes {
        rows.extend(db::volume::get(&mut work.cloud.db.read(), id).await?);
    }
    Ok(rows)
}

async fn cut(work: &Work) -> Output {
    for volume in rows(work).await? {
        cut_off(work, &volume).await?;
    }
    Ok(Value::Null)
}

async fn volumes(work: &Work) -> Output {
    for row in rows(work).await? {
        check_status(&row)?;
        let Some(pool) = &row.host else { continue };
        let driver = work.node.driver(pool)?;
        driver.delete_volume(&volume::reference(&row), &work.claim).await?;
    }
    Ok(Value::Null)
}

/// The rows go, and with them what they counted for.
async fn gone(tx: &mut Tx, group: &Group, volumes: &[Volume], by: db::event::By<'_>) -> db::Result<()> {
    for volume in volumes {
        volume_gone(tx, volume, by).await?;
    }
    if let Some(project) = &group.project_id {
        quota::give_back(tx, project, &quota::of_group(-1)).await?;
    }
    db::transition::finish_group(tx, group.id, GroupOp::DeleteWithVolumes, Outcome::Done, by).await
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let Ok(id) = id_of(work) else { return Ok(()) };
    let Some(group) = db::volume_group::get(tx, id).await? else { return Ok(()) };
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    let mut volumes = Vec::new();
    for id in request.members.volumes {
        volumes.extend(db::volume::get(tx, id).await?);
    }
    gone(tx, &group, &volumes, work.by()).await
}

async fn fail(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let Ok(id) = id_of(work) else { return Ok(()) };
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    for volume in request.members.volumes {
        db::transition::finish_volume(tx, volume, VolumeOp::DeleteWithGroup, Outcome::Failed, work.by())
            .await?;
    }
    db::transition::finish_group(tx, id, GroupOp::DeleteWithVolumes, Outcome::Failed, work.by()).await
}
