//! Create from a source: a group whose volumes are copies of those of another, or of its snapshot. One job makes all of them or none.
//!
//! The volumes of a group that is copied are frozen at one moment first, by snapshots that live as long as the job: so the copies
//! belong together also while the originals are in use.

use db::Tx;
use db::transition::Outcome;
use drivers::Source;
use model::job::{Lock, ResourceRef};
use model::transition::{GroupOp, VolumeOp};
use model::{
    Group, GroupId, GroupSnapshotId, GroupSnapshotStatus, GroupStatus, JobId, PoolRef, Snapshot, SnapshotId,
    SnapshotStatus, TypeId, Volume, VolumeId, VolumeStatus,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{BY_CG_APIS, Door, Members, by, id_of, invalid, missing};
use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Act, At, Failure, Operation, Output, Step, Work};
use crate::error::{Error, Result};
use crate::message::{self, Detail};
use crate::policy::Action;
use crate::scheduler::Operation as Purpose;
use crate::{locks, placing, quota, snapshot, volume};

/// The operation's table.
pub const OPERATION: Operation = Operation {
    name: "group.create_from_src",
    steps: &[
        Step {
            name: "place",
            at: At::Scheduler,
            act: Act::Record(|work, tx| Box::pin(place(work, tx))),
            undo: Some(|work| Box::pin(unplace(work))),
        },
        Step {
            name: "freeze",
            at: At::Owner,
            act: Act::Do(|work| Box::pin(freeze(work))),
            undo: Some(|work| Box::pin(thaw(work))),
        },
        Step {
            name: "build",
            at: At::Owner,
            act: Act::Do(|work| Box::pin(build(work))),
            undo: Some(|work| Box::pin(unbuild(work))),
        },
        Step {
            name: "thaw",
            at: At::Owner,
            act: Act::Do(|work| Box::pin(async { thaw(work).await.map(|()| Value::Null) })),
            undo: None,
        },
    ],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, failure| Box::pin(fail(work, tx, failure)),
};

/// What a group is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Snapshot(GroupSnapshotId),
    Group(GroupId),
}

/// A new group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGroupFrom {
    pub name: Option<String>,
    pub description: Option<String>,
    pub origin: Origin,
}

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    /// Those that are copied.
    members: Members,
    copies: Vec<NewMember>,
}

/// One new volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct NewMember {
    volume: VolumeId,
    /// Whose content it gets.
    of: VolumeId,
    /// As it was then. Where `temporary`, that is now, and the snapshot has no row.
    snapshot: SnapshotId,
    temporary: bool,
}

/// Everything that was decided before anything is written.
struct Spec {
    group: Group,
    volume_types: Vec<TypeId>,
    /// The originals, each with the snapshot that is copied; `None`: what it holds now.
    members: Vec<(Volume, Option<Snapshot>)>,
    host: PoolRef,
}

impl Cloud {
    /// `create-from-src`: a group that is `creating` with all its volumes, and the job that makes them.
    ///
    /// # Errors
    /// A source that is not there, empty or not ready, over quota, forbidden.
    pub async fn group_create_from(
        &self,
        context: &Context,
        wanted: NewGroupFrom,
        door: Door,
    ) -> Result<Group> {
        let spec = self.group_source(context, wanted.origin, door).await?;
        self.policy.require(Action::GroupCreate, context, &crate::policy::Target::own(context))?;
        self.check_backend_not_frozen(&spec.host.service_host()).await?;
        for (volume, _) in &spec.members {
            let kind = self.type_by_id(volume.type_id).await?;
            self.check_encryption(&kind).await?;
        }
        let limits = self.limits(&context.project_id).await?;
        let (id, job) = (GroupId::new(), JobId::new());
        let by = by(context, Some(&context.project_id), Some(job));
        let mut tx = self.db.begin().await?;
        hold_source(&mut tx, wanted.origin, &spec).await?;
        let usage = spec.members.iter().flat_map(|(volume, snapshot)| {
            quota::of_volume(size(volume, snapshot.as_ref()), volume.type_name.as_deref(), 1)
        });
        let usage = quota::sum(usage.chain(quota::of_group(1)));
        quota::take(&mut tx, &context.project_id, &usage, &limits).await?;
        db::volume_group::insert(&mut tx, &row(context, &wanted, &spec, id)).await?;
        db::event::created(&mut tx, "group", &id.to_string(), by).await?;
        let mut copies = Vec::with_capacity(spec.members.len());
        for (volume, snapshot) in &spec.members {
            let copy = NewMember {
                volume: VolumeId::new(),
                of: volume.id,
                snapshot: snapshot.as_ref().map_or_else(SnapshotId::new, |snapshot| snapshot.id),
                temporary: snapshot.is_none(),
            };
            let new = volume_row(context, &spec, volume, snapshot.as_ref(), copy.volume);
            db::volume::insert(&mut tx, &new).await?;
            db::volume_group::born_in(&mut tx, copy.volume, id).await?;
            db::event::created(&mut tx, "volume", &copy.volume.to_string(), by).await?;
            copies.push(copy);
        }
        db::job::insert(&mut tx, new_job(context, &spec, copies, id, job)).await?;
        let recorded = db::volume_group::get(&mut tx, id).await?;
        self.commit(tx).await?;
        recorded.ok_or_else(|| missing(id))
    }

    async fn group_source(&self, context: &Context, origin: Origin, door: Door) -> Result<Spec> {
        let (group, members) = match origin {
            Origin::Group(id) => {
                let group = self.group_for(context, id, door, Action::GroupShow).await?;
                let volumes = db::volume_group::volumes(&mut self.db.read(), id).await?;
                (group, volumes.into_iter().map(|volume| (volume, None)).collect())
            }
            Origin::Snapshot(id) => {
                let whole = self.group_snapshot_for(context, id, door, Action::GroupSnapshotShow).await?;
                let group = self.group_for(context, whole.group_id, Door::Legacy, Action::GroupShow).await?;
                door.check(group.legacy, Some(group.type_id), BY_CG_APIS)?;
                let mut members = Vec::new();
                for snapshot in db::group_snapshot::snapshots(&mut self.db.read(), id).await? {
                    let volume = self.volume_again(snapshot.volume_id).await?;
                    members.push((volume, Some(snapshot)));
                }
                (group, members)
            }
        };
        if members.is_empty() {
            return Err(invalid(match origin {
                Origin::Group(_) => "Source Group is empty. No group will be created.",
                Origin::Snapshot(_) => "Group snapshot is empty. No group will be created.",
            }));
        }
        let host = members.iter().find_map(|(volume, _): &(Volume, _)| volume.host.clone());
        let host = group.host.clone().or(host).ok_or_else(|| invalid("No host to create group."))?;
        let mut volume_types = group.volume_types.clone();
        for (volume, snapshot) in &members {
            let kind = snapshot.as_ref().map_or(volume.type_id, |snapshot| snapshot.type_id);
            if !volume_types.contains(&kind) {
                volume_types.push(kind);
            }
        }
        Ok(Spec { group, volume_types, members, host })
    }
}

fn size(volume: &Volume, snapshot: Option<&Snapshot>) -> model::GiB {
    snapshot.map_or(volume.size, |snapshot| snapshot.volume_size)
}

const COPIED: [VolumeStatus; 2] = [VolumeStatus::Available, VolumeStatus::InUse];

/// The checks of the source once more, in the transaction that records the job: from here on their deletion waits for our locks.
async fn hold_source(tx: &mut Tx, origin: Origin, spec: &Spec) -> Result<()> {
    let there = match origin {
        Origin::Group(id) => db::volume_group::hold(tx, id, &[GroupStatus::Available]).await?,
        Origin::Snapshot(id) => db::group_snapshot::hold(tx, id, &[GroupSnapshotStatus::Available]).await?,
    };
    if !there {
        let what = if matches!(origin, Origin::Group(_)) { "group" } else { "group snapshot" };
        return Err(invalid(format!("Originating {what} status must be one of 'available' values")));
    }
    for (volume, snapshot) in &spec.members {
        match snapshot {
            Some(snapshot) => {
                if !db::snapshot::hold(tx, snapshot.id, &[SnapshotStatus::Available]).await? {
                    let text = "Originating snapshot status must be one of 'available' values";
                    return Err(Error::InvalidSnapshot(text.into()));
                }
            }
            None => {
                let held = db::volume::hold(tx, volume.id, &COPIED).await?;
                let now = db::volume::get(tx, volume.id).await?;
                if !held || now.is_none_or(|now| now.size != volume.size) {
                    let text = "Originating source volume status must be one of 'available, in-use' values";
                    return Err(Error::InvalidVolume(text.into()));
                }
            }
        }
    }
    Ok(())
}

fn row(context: &Context, wanted: &NewGroupFrom, spec: &Spec, id: GroupId) -> db::volume_group::NewGroup {
    let (group_snapshot_id, source_group_id) = match wanted.origin {
        Origin::Snapshot(id) => (Some(id), None),
        Origin::Group(id) => (None, Some(id)),
    };
    db::volume_group::NewGroup {
        id,
        user_id: context.user_id.clone(),
        project_id: context.project_id.clone(),
        name: wanted.name.clone(),
        description: wanted.description.clone(),
        availability_zone: spec.group.availability_zone.clone(),
        host: Some(spec.host.clone()),
        type_id: spec.group.type_id,
        volume_types: spec.volume_types.clone(),
        group_snapshot_id,
        source_group_id,
    }
}

fn volume_row(
    context: &Context,
    spec: &Spec,
    of: &Volume,
    snapshot: Option<&Snapshot>,
    id: VolumeId,
) -> db::volume::NewVolume {
    db::volume::NewVolume {
        id,
        op: VolumeOp::Create,
        user_id: context.user_id.clone(),
        project_id: context.project_id.clone(),
        size: size(of, snapshot),
        availability_zone: spec.group.availability_zone.clone(),
        name: None,
        description: None,
        type_id: snapshot.map_or(of.type_id, |snapshot| snapshot.type_id),
        snapshot_id: snapshot.map(|snapshot| snapshot.id),
        source_volid: snapshot.is_none().then_some(of.id),
        bootable: of.bootable,
        multiattach: of.multiattach,
        use_quota: true,
        metadata: Default::default(),
        replication_status: None,
    }
}

fn new_job(
    context: &Context,
    spec: &Spec,
    copies: Vec<NewMember>,
    id: GroupId,
    job: JobId,
) -> db::job::NewJob {
    let mut locks: Vec<Lock> = vec![locks::change_group(id)];
    for copy in &copies {
        locks.push(locks::change_volume(copy.volume));
        locks.push(locks::keep_volume(copy.of));
        if !copy.temporary {
            locks.push(locks::keep_snapshot(copy.snapshot));
        }
    }
    let members =
        Members { host: spec.host.service_host(), volumes: copies.iter().map(|copy| copy.of).collect() };
    db::job::NewJob {
        id: job,
        operation: OPERATION.name,
        resource: ResourceRef { kind: "group".into(), id: id.to_string() },
        project_id: Some(context.project_id.clone()),
        user_id: Some(context.user_id.clone()),
        request_id: Some(context.request_id.clone()),
        queue: crate::cloud::SCHEDULER.into(),
        request: serde_json::to_value(Request { members, copies }).unwrap_or_default(),
        locks,
    }
}

/// Finds room for every volume on the group's backend and promises it, all in the step's transaction.
async fn place(work: &Work, tx: &mut Tx) -> Output {
    let request: Request = work.request()?;
    let (hints, mut pools) = (Map::new(), Vec::new());
    for copy in &request.copies {
        let held = db::volume::hold(tx, copy.volume, VolumeStatus::ALL).await?;
        let volume = db::volume::get(tx, copy.volume).await?.filter(|_| held);
        let volume = volume.ok_or_else(|| Failure::permanent("a volume of the group is gone"))?;
        let kind = db::volume_type::get(tx, volume.type_id).await?;
        let kind = kind.ok_or_else(|| Failure::permanent("a volume's type is gone"))?;
        let zones: Vec<String> = volume.availability_zone.iter().cloned().collect();
        let wanted = placing::Wanted {
            volume: &volume,
            kind: &kind,
            operation: Purpose::CreateVolume,
            new_size: None,
            zones: &zones,
            bound_to: Some(request.members.host.clone()),
            hints: &hints,
            tried: &[],
        };
        let chosen = placing::choose(&work.cloud, tx, &wanted).await?;
        db::volume::place(tx, volume.id, &chosen.pool, &chosen.zone).await?;
        pools.push(chosen.pool.to_string());
    }
    Ok(json!({ "pools": pools }))
}

/// Takes the places and the promises back.
async fn unplace(work: &Work) -> std::result::Result<(), Failure> {
    // Deleting the group in error takes the rest away, there.
    if work.is_left("build") {
        return Ok(());
    }
    let request: Request = work.request()?;
    let mut tx = work.cloud.db.begin().await?;
    db::job::fence(&mut tx, &work.job).await?;
    for copy in &request.copies {
        let Some(volume) = db::volume::get(&mut tx, copy.volume).await? else { continue };
        if let Some(pool) = &volume.host {
            db::pool::allocate(&mut tx, &pool.to_string(), -i64::from(volume.size.0)).await?;
            db::volume::unplace(&mut tx, volume.id).await?;
        }
    }
    Ok(work.cloud.commit(tx).await?)
}

/// What the driver is told of the snapshot that a copy is made from.
async fn source_of(work: &Work, copy: &NewMember) -> std::result::Result<drivers::SnapshotRef, Failure> {
    let mut read = work.cloud.db.read();
    if !copy.temporary {
        let (row, origin) = snapshot::with_volume(&mut read, copy.snapshot).await?;
        return Ok(snapshot::reference(&row, &origin));
    }
    let volume = db::volume::get(&mut read, copy.of).await?;
    let volume = volume.ok_or_else(|| Failure::permanent("a source volume is gone"))?;
    Ok(drivers::SnapshotRef {
        id: copy.snapshot,
        name: format!("snapshot-{}", copy.snapshot),
        size: volume.size,
        provider: drivers::Provider::default(),
        volume: volume::reference(&volume),
    })
}

async fn temporary(
    work: &Work,
    request: &Request,
) -> std::result::Result<Vec<drivers::SnapshotRef>, Failure> {
    let mut snapshots = Vec::new();
    for copy in request.copies.iter().filter(|copy| copy.temporary) {
        snapshots.push(source_of(work, copy).await?);
    }
    Ok(snapshots)
}

fn host(request: &Request) -> PoolRef {
    request.members.host.parse().unwrap_or_else(|never| match never {})
}

async fn freeze(work: &Work) -> Output {
    let request: Request = work.request()?;
    let snapshots = temporary(work, &request).await?;
    if !snapshots.is_empty() {
        let driver = work.node.driver(&host(&request))?;
        driver.create_snapshots(&snapshots, &work.claim).await?;
    }
    Ok(Value::Null)
}

/// Ends what [`freeze`] has made.
async fn thaw(work: &Work) -> std::result::Result<(), Failure> {
    let request: Request = work.request()?;
    for snapshot in temporary(work, &request).await? {
        let driver = work.node.driver(&host(&request))?;
        driver.delete_snapshot(&snapshot, &work.claim).await?;
    }
    Ok(())
}

async fn build(work: &Work) -> Output {
    let request: Request = work.request()?;
    let mut providers = Map::new();
    for copy in &request.copies {
        let volume = db::volume::get(&mut work.cloud.db.read(), copy.volume).await?;
        let volume = volume.ok_or_else(|| Failure::permanent("a volume of the group is gone"))?;
        let driver = work.node.driver(&volume::create::pool_of(&volume)?)?;
        let source = source_of(work, copy).await?;
        let wanted = volume::reference(&volume);
        let provider = driver.create_volume(&wanted, Source::Snapshot(&source), &work.claim).await?;
        providers.insert(copy.volume.to_string(), serde_json::to_value(provider).unwrap_or_default());
    }
    Ok(Value::Object(providers))
}

async fn unbuild(work: &Work) -> std::result::Result<(), Failure> {
    let request: Request = work.request()?;
    for copy in &request.copies {
        let volume = db::volume::get(&mut work.cloud.db.read(), copy.volume).await?;
        let Some(volume) = volume.filter(|volume| volume.host.is_some()) else { continue };
        let driver = work.node.driver(&volume::create::pool_of(&volume)?)?;
        driver.delete_volume(&volume::reference(&volume), &work.claim).await?;
    }
    Ok(())
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let Ok(id) = id_of(work) else { return Ok(()) };
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    for copy in &request.copies {
        let built = work.output("build")[copy.volume.to_string()].clone();
        let provider: drivers::Provider = serde_json::from_value(built).unwrap_or_default();
        let host = db::volume::get(tx, copy.volume).await?.and_then(|volume| volume.host);
        let service = host.and_then(|pool| work.node.services.get(&pool.service_host()).copied());
        let (location, provider_id) = (provider.location.as_deref(), provider.id.as_deref());
        db::volume::launched(tx, copy.volume, location, provider_id, service).await?;
        db::transition::finish_volume(tx, copy.volume, VolumeOp::Create, Outcome::Done, work.by()).await?;
    }
    db::transition::finish_group(tx, id, GroupOp::Create, Outcome::Done, work.by()).await
}

async fn fail(work: &Work, tx: &mut Tx, failure: &Failure) -> db::Result<()> {
    let Ok(id) = id_of(work) else { return Ok(()) };
    let request: Request = serde_json::from_value(work.job.request.clone())?;
    if db::volume_group::get(tx, id).await?.is_some() {
        let placed = !work.output("place").is_null();
        let (action, otherwise) = if placed {
            (message::Action::CreateFromBackend, Detail::CreateFailed)
        } else {
            (message::Action::Schedule, Detail::NoBackend)
        };
        let ttl = work.cloud.settings.message_ttl;
        message::leave(tx, &work.job, "GROUP", action, failure, otherwise, ttl).await?;
    }
    for copy in &request.copies {
        db::transition::finish_volume(tx, copy.volume, VolumeOp::Create, Outcome::Failed, work.by()).await?;
    }
    db::transition::finish_group(tx, id, GroupOp::Create, Outcome::Failed, work.by()).await
}
