//! Create: `POST /group_snapshots`: every volume of a group at one moment, also while they are in use.
//!
//! One step takes all of them, in the process that has open those that are. What it holds while it does so, it holds in
//! memory: nothing of that outlives it.

use db::Tx;
use db::transition::Outcome;
use model::group::CONSISTENT_SNAPSHOTS;
use model::job::ResourceRef;
use model::transition::{GroupSnapshotOp, SnapshotOp};
use model::{
    Group, GroupId, GroupSnapshot, GroupSnapshotId, GroupStatus, JobId, PoolRef, SnapshotId, Volume,
    VolumeStatus,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{id_of, missing};
use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Act, At, Failure, Operation, Output, Step, Work};
use crate::error::Result;
use crate::group::{Door, Members, by, invalid};
use crate::message::{self, Detail};
use crate::policy::Action;
use crate::{locks, quota, snapshot};

/// The operation's table.
pub const OPERATION: Operation = Operation {
    name: "group_snapshot.create",
    steps: &[Step {
        name: "take",
        at: At::Owner,
        act: Act::Do(|work| Box::pin(take(work))),
        undo: Some(|work| Box::pin(discard(work))),
    }],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, failure| Box::pin(fail(work, tx, failure)),
};

/// A new group snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGroupSnapshot {
    pub group_id: GroupId,
    pub name: Option<String>,
    pub description: Option<String>,
}

/// What a group snapshot's jobs are told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub members: Members,
    pub snapshots: Vec<SnapshotId>,
    /// Whether the group's type asks for one moment.
    pub consistent: bool,
}

/// Groups of which none can be taken.
const NOT: [GroupStatus; 2] = [GroupStatus::Creating, GroupStatus::Updating];
/// Volumes that nothing but their hosts changes.
const TAKEN: [VolumeStatus; 5] = [
    VolumeStatus::Available,
    VolumeStatus::InUse,
    VolumeStatus::Reserved,
    VolumeStatus::Attaching,
    VolumeStatus::Detaching,
];

impl Cloud {
    /// `POST /group_snapshots`: a group snapshot that is `creating`, with a snapshot of every volume, and the job that takes them.
    ///
    /// # Errors
    /// The group is not there or empty, it or a volume is in a status that forbids it; over quota, forbidden.
    pub async fn group_snapshot_create(
        &self,
        context: &Context,
        wanted: NewGroupSnapshot,
        door: Door,
    ) -> Result<GroupSnapshot> {
        let group = self.group_for(context, wanted.group_id, door, Action::GroupSnapshotCreate).await?;
        let kind = self.group_type_by_id(group.type_id).await?;
        if let Some(pool) = &group.host {
            self.check_backend_not_frozen(&pool.service_host()).await?;
        }
        let limits = self.limits(&context.project_id).await?;
        let (id, job) = (GroupSnapshotId::new(), JobId::new());
        let by = by(context, Some(&context.project_id), Some(job));
        let mut tx = self.db.begin().await?;
        let volumes = hold_members(&mut tx, &group).await?;
        let free = self.settings.snapshot_gb_free;
        let usage = volumes
            .iter()
            .flat_map(|volume| quota::of_snapshot(volume.size, volume.type_name.as_deref(), free, 1));
        quota::take(&mut tx, &context.project_id, &quota::sum(usage), &limits).await?;
        let row = db::group_snapshot::NewGroupSnapshot {
            id,
            group_id: group.id,
            type_id: group.type_id,
            user_id: context.user_id.clone(),
            project_id: context.project_id.clone(),
            name: wanted.name.clone(),
            description: wanted.description.clone(),
        };
        db::group_snapshot::insert(&mut tx, &row).await?;
        db::event::created(&mut tx, "group_snapshot", &id.to_string(), by).await?;
        let mut snapshots = Vec::with_capacity(volumes.len());
        for volume in &volumes {
            let new = snapshot_row(context, &wanted, volume);
            db::snapshot::insert(&mut tx, &new).await?;
            db::group_snapshot::born_in(&mut tx, new.id, id).await?;
            db::event::created(&mut tx, "snapshot", &new.id.to_string(), by).await?;
            snapshots.push(new.id);
        }
        let host = volumes.iter().find_map(|volume| volume.host.as_ref()).map(PoolRef::service_host);
        let members = Members {
            host: host.unwrap_or_default(),
            volumes: volumes.iter().map(|volume| volume.id).collect(),
        };
        let consistent = kind.says_yes(CONSISTENT_SNAPSHOTS);
        let request = Request { members, snapshots, consistent };
        db::job::insert(&mut tx, new_job(context, OPERATION.name, request, id, job)).await?;
        let recorded = db::group_snapshot::get(&mut tx, id).await?;
        self.commit(tx).await?;
        recorded.ok_or_else(|| missing(id))
    }
}

/// The volumes of a group, held until the transaction ends, in the order of their ids.
async fn hold_members(tx: &mut Tx, group: &Group) -> Result<Vec<Volume>> {
    let statuses: Vec<GroupStatus> =
        GroupStatus::ALL.iter().copied().filter(|status| !NOT.contains(status)).collect();
    let held = db::volume_group::hold(tx, group.id, &statuses).await?;
    let mut ids: Vec<_> =
        db::volume_group::volumes(tx, group.id).await?.iter().map(|volume| volume.id).collect();
    if !held || ids.is_empty() {
        return Err(invalid(
            "Source group cannot be empty or in 'creating' or 'updating' state. No group snapshot will be created.",
        ));
    }
    ids.sort_unstable();
    let mut volumes = Vec::with_capacity(ids.len());
    for id in ids {
        let held = db::volume::hold(tx, id, &TAKEN).await?;
        // As it is now that it is held.
        let Some(volume) = db::volume::get(tx, id).await? else { continue };
        snapshot::create::check(&volume, &TAKEN, held)?;
        volumes.push(volume);
    }
    Ok(volumes)
}

fn snapshot_row(context: &Context, wanted: &NewGroupSnapshot, volume: &Volume) -> db::snapshot::NewSnapshot {
    db::snapshot::NewSnapshot {
        id: SnapshotId::new(),
        volume_id: volume.id,
        user_id: context.user_id.clone(),
        project_id: context.project_id.clone(),
        size: volume.size,
        name: wanted.name.clone(),
        description: wanted.description.clone(),
        type_id: volume.type_id,
        use_quota: true,
        metadata: Default::default(),
    }
}

pub(super) fn new_job(
    context: &Context,
    operation: &'static str,
    request: Request,
    id: GroupSnapshotId,
    job: JobId,
) -> db::job::NewJob {
    let keep = request.members.volumes.iter().map(|volume| locks::keep_volume(*volume));
    let change = request.snapshots.iter().map(|snapshot| locks::change_snapshot(*snapshot));
    db::job::NewJob {
        id: job,
        operation,
        resource: ResourceRef { kind: "group_snapshot".into(), id: id.to_string() },
        project_id: Some(context.project_id.clone()),
        user_id: Some(context.user_id.clone()),
        request_id: Some(context.request_id.clone()),
        queue: Cloud::volume_queue(&request.members.host),
        locks: keep.chain(change).collect(),
        request: serde_json::to_value(request).unwrap_or_default(),
    }
}

/// What the driver is told of the snapshots that still have rows.
pub(super) async fn references(
    work: &Work,
    request: &Request,
) -> std::result::Result<Vec<drivers::SnapshotRef>, Failure> {
    let mut references = Vec::with_capacity(request.snapshots.len());
    let mut read = work.cloud.db.read();
    for id in &request.snapshots {
        let Some(row) = db::snapshot::get(&mut read, *id).await? else { continue };
        let Some(volume) = db::volume::get(&mut read, row.volume_id).await? else { continue };
        references.push(snapshot::reference(&row, &volume));
    }
    Ok(references)
}

/// The driver of the group's backend.
pub(super) fn driver<'w>(
    work: &'w Work,
    request: &Request,
) -> std::result::Result<&'w drivers::SharedDriver, Failure> {
    work.node.driver(&request.members.host.parse().unwrap_or_else(|never| match never {}))
}

async fn take(work: &Work) -> Output {
    let request: Request = work.request()?;
    let references = references(work, &request).await?;
    if references.len() != request.snapshots.len() {
        return Err(Failure::permanent("a volume of the group is gone"));
    }
    if let Some(other) = references.iter().find(|one| one.size != one.volume.size) {
        // The locks forbid it; a snapshot of another size than its row says must never come to be.
        return Err(Failure::permanent(format!("volume {} is {} now", other.volume.id, other.volume.size)));
    }
    let driver = driver(work, &request)?;
    if request.consistent && !driver.capabilities().consistent_groups {
        return Err(Failure::permanent("the backend cannot take snapshots of several volumes at one moment"));
    }
    let providers = driver.create_snapshots(&references, &work.claim).await?;
    let taken = references
        .iter()
        .zip(providers)
        .map(|(one, provider)| (one.id.to_string(), serde_json::to_value(provider).unwrap_or_default()));
    Ok(Value::Object(taken.collect::<Map<_, _>>()))
}

async fn discard(work: &Work) -> std::result::Result<(), Failure> {
    let request: Request = work.request()?;
    for one in references(work, &request).await? {
        driver(work, &request)?.delete_snapshot(&one, &work.claim).await?;
    }
    Ok(())
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let Ok(id) = id_of(work) else { return Ok(()) };
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    for snapshot in request.snapshots {
        let taken = work.output("take")[snapshot.to_string()].clone();
        let provider: drivers::Provider = serde_json::from_value(taken).unwrap_or_default();
        let (location, provider_id) = (provider.location.as_deref(), provider.id.as_deref());
        db::snapshot::taken(tx, snapshot, location, provider_id, "100%").await?;
        db::transition::finish_snapshot(tx, snapshot, SnapshotOp::Create, Outcome::Done, work.by()).await?;
    }
    db::transition::finish_group_snapshot(tx, id, GroupSnapshotOp::Create, Outcome::Done, work.by()).await
}

async fn fail(work: &Work, tx: &mut Tx, failure: &Failure) -> db::Result<()> {
    let Ok(id) = id_of(work) else { return Ok(()) };
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    for snapshot in request.snapshots {
        db::transition::finish_snapshot(tx, snapshot, SnapshotOp::Create, Outcome::Failed, work.by()).await?;
    }
    if db::group_snapshot::get(tx, id).await?.is_none() {
        return Ok(());
    }
    let ttl = work.cloud.settings.message_ttl;
    let (action, otherwise) = (message::Action::SnapshotCreate, Detail::SnapshotCreateFailed);
    message::leave(tx, &work.job, "GROUP_SNAPSHOT", action, failure, otherwise, ttl).await?;
    db::transition::finish_group_snapshot(tx, id, GroupSnapshotOp::Create, Outcome::Failed, work.by()).await
}
