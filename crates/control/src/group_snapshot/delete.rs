//! Delete: `DELETE /group_snapshots/{id}`, with all the snapshots that it is made of.

use db::Tx;
use db::transition::{Begin, Outcome};
use model::transition::{GroupSnapshotOp, SnapshotOp};
use model::{GroupSnapshotId, JobId, PoolRef};
use serde_json::Value;

use super::create::{Request, driver, new_job, references};
use super::{id_of, missing};
use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Act, At, Failure, Operation, Output, Step, Work};
use crate::error::{Error, Result};
use crate::group::{Door, Members, by};
use crate::message::{self, Detail};
use crate::policy::Action;
use crate::snapshot::delete::gone as snapshot_gone;

/// The operation's table.
pub const OPERATION: Operation = Operation {
    name: "group_snapshot.delete",
    steps: &[Step { name: "remove", at: At::Owner, act: Act::Do(|work| Box::pin(remove(work))), undo: None }],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, failure| Box::pin(fail(work, tx, failure)),
};

impl Cloud {
    /// `DELETE /group_snapshots/{id}`.
    ///
    /// # Errors
    /// Not there, forbidden, in a status that forbids it, the source of a group that is being made.
    pub async fn group_snapshot_delete(
        &self,
        context: &Context,
        id: GroupSnapshotId,
        door: Door,
    ) -> Result<()> {
        let whole = self.group_snapshot_for(context, id, door, Action::GroupSnapshotDelete).await?;
        let group = db::volume_group::get(&mut self.db.read(), whole.group_id).await?;
        let home = group.and_then(|group| group.host);
        if let Some(pool) = &home {
            self.check_backend_not_frozen(&pool.service_host()).await?;
        }
        let job = JobId::new();
        let by = by(context, whole.project_id.as_deref(), Some(job));
        let mut tx = self.db.begin().await?;
        let op = GroupSnapshotOp::Delete;
        match db::transition::begin_group_snapshot(&mut tx, id, op, by).await? {
            Begin::Moved => {}
            Begin::Missing => return Err(missing(id)),
            Begin::Refused { .. } => {
                return Err(Error::Invalid(
                    "Invalid GroupSnapshot: GroupSnapshot status must be available or error, and no Group can be \
                     currently using it as source for its creation."
                        .into(),
                ));
            }
        }
        let mut members = Members { host: String::new(), volumes: Vec::new() };
        let mut snapshots = Vec::new();
        for snapshot in db::group_snapshot::snapshots(&mut tx, id).await? {
            let op = SnapshotOp::DeleteWithGroup;
            if db::transition::begin_snapshot(&mut tx, snapshot.id, op, by).await? != Begin::Moved {
                continue;
            }
            if members.host.is_empty()
                && let Some(volume) = db::volume::get(&mut tx, snapshot.volume_id).await?
            {
                members.host = volume.host.as_ref().map(PoolRef::service_host).unwrap_or_default();
            }
            members.volumes.push(snapshot.volume_id);
            snapshots.push(snapshot.id);
        }
        if members.host.is_empty() {
            members.host = home.as_ref().map(PoolRef::service_host).unwrap_or_default();
        }
        if members.host.is_empty() || snapshots.is_empty() {
            // There is nothing on any backend.
            gone(&mut tx, self, id, by).await?;
        } else {
            let request = Request { members, snapshots, consistent: false };
            let mut new = new_job(context, OPERATION.name, request, id, job);
            new.project_id = whole.project_id.clone();
            db::job::insert(&mut tx, new).await?;
        }
        Ok(self.commit(tx).await?)
    }
}

async fn remove(work: &Work) -> Output {
    let request: Request = work.request()?;
    for one in references(work, &request).await? {
        driver(work, &request)?.delete_snapshot(&one, &work.claim).await?;
    }
    Ok(Value::Null)
}

/// The rows go, and with them what they counted for.
async fn gone(tx: &mut Tx, cloud: &Cloud, id: GroupSnapshotId, by: db::event::By<'_>) -> db::Result<()> {
    for snapshot in db::group_snapshot::snapshots(tx, id).await? {
        snapshot_gone(tx, cloud, &snapshot, by).await?;
    }
    db::transition::finish_group_snapshot(tx, id, GroupSnapshotOp::Delete, Outcome::Done, by).await
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let Ok(id) = id_of(work) else { return Ok(()) };
    gone(tx, &work.cloud, id, work.by()).await
}

async fn fail(work: &Work, tx: &mut Tx, failure: &Failure) -> db::Result<()> {
    let Ok(id) = id_of(work) else { return Ok(()) };
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    let op = SnapshotOp::DeleteWithGroup;
    for snapshot in request.snapshots {
        db::transition::finish_snapshot(tx, snapshot, op, Outcome::Failed, work.by()).await?;
    }
    let ttl = work.cloud.settings.message_ttl;
    let (action, otherwise) = (message::Action::SnapshotDelete, Detail::SnapshotDeleteFailed);
    message::leave(tx, &work.job, "GROUP_SNAPSHOT", action, failure, otherwise, ttl).await?;
    db::transition::finish_group_snapshot(tx, id, GroupSnapshotOp::Delete, Outcome::Failed, work.by()).await
}
