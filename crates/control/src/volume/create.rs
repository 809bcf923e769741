//! Create: `POST /volumes`, from nothing, a snapshot, a volume. Scheduled, then built by the backend's driver.
//!
//! Restoring a backup to a new volume creates an empty one here first; the restore is a job of its own.

use db::Tx;
use drivers::Source;
use model::job::ResourceRef;
use model::transition::VolumeOp;
use model::{
    GiB, Group, JobId, PoolRef, Snapshot, SnapshotStatus, Volume, VolumeId, VolumeStatus, VolumeType,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{self, Act, At, Failure, FailureKind, Output, Step, Work};
use crate::error::{Error, Resource, Result};
use crate::message::{self, Detail};
use crate::policy::{Action, Target};
use crate::request::NewVolume;
use crate::scheduler::Operation;
use crate::{group, locks, placing, quota, snapshot};

/// The operation's table.
pub const OPERATION: engine::Operation = engine::Operation {
    name: "volume.create",
    steps: &[
        Step {
            name: "place",
            at: At::Scheduler,
            act: Act::Record(|work, tx| Box::pin(place(work, tx))),
            undo: Some(|work| Box::pin(unplace(work))),
        },
        Step {
            name: "build",
            at: At::Owner,
            act: Act::Do(|work| Box::pin(build(work))),
            undo: Some(|work| Box::pin(unbuild(work))),
        },
    ],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, failure| Box::pin(fail(work, tx, failure)),
};

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    snapshot_id: Option<model::SnapshotId>,
    source_volid: Option<VolumeId>,
    /// Zones the volume may be in; empty: any.
    zones: Vec<String>,
    hints: Map<String, Value>,
}

/// Everything that was decided before anything is written.
struct Spec {
    kind: VolumeType,
    size: GiB,
    zones: Vec<String>,
    bootable: bool,
    snapshot: Option<Snapshot>,
    source: Option<Volume>,
    group: Option<Group>,
}

impl Cloud {
    /// `POST /volumes`: a volume that is `creating`, and the job that makes it.
    ///
    /// # Errors
    /// A source that is not there or not ready, an unknown type or zone, a bad size, over quota, forbidden.
    pub async fn volume_create(&self, context: &Context, wanted: NewVolume) -> Result<Volume> {
        Ok(self.volume_begin_create(context, wanted).await?.0)
    }

    /// As [`volume_create`](Self::volume_create), with the id of its job. The volume is as it was recorded, whatever has become of
    /// it since: the answer must not depend on how quickly the job is taken up.
    pub(crate) async fn volume_begin_create(
        &self,
        context: &Context,
        wanted: NewVolume,
    ) -> Result<(Volume, JobId)> {
        self.policy.require(Action::VolumeCreate, context, &Target::own(context))?;
        let spec = self.resolve(context, &wanted).await?;
        let limits = self.limits(&context.project_id).await?;
        quota::check_volume_size(spec.size, &limits)?;
        let (id, job) = (VolumeId::new(), JobId::new());
        let mut tx = self.db.begin().await?;
        hold_sources(&mut tx, &spec).await?;
        quota::take(
            &mut tx,
            &context.project_id,
            &quota::of_volume(spec.size, Some(&spec.kind.name), 1),
            &limits,
        )
        .await?;
        db::volume::insert(&mut tx, &row(context, &wanted, &spec, id)).await?;
        if let Some(group) = &spec.group {
            group::take_in(&mut tx, group.id, id).await?;
        }
        let by = db::event::By {
            job: Some(job),
            request_id: Some(&context.request_id),
            project_id: Some(&context.project_id),
        };
        db::event::created(&mut tx, "volume", &id.to_string(), by).await?;
        if let Some(source) = spec.source.as_ref().filter(|source| !source.image_metadata.is_empty()) {
            db::volume::replace_metadata(&mut tx, db::volume::Metadata::Image, id, &source.image_metadata)
                .await?;
        }
        db::job::insert(&mut tx, self.create_job(context, &wanted, &spec, id, job)).await?;
        let recorded = db::volume::get(&mut tx, id).await?;
        self.commit(tx).await?;
        let volume = recorded.ok_or_else(|| Error::NotFound(Resource::Volume, id.to_string()))?;
        Ok((volume, job))
    }

    fn create_job(
        &self,
        context: &Context,
        wanted: &NewVolume,
        spec: &Spec,
        id: VolumeId,
        job: JobId,
    ) -> db::job::NewJob {
        let mut locks = vec![locks::change_volume(id)];
        locks.extend(spec.source.as_ref().map(|source| locks::keep_volume(source.id)));
        locks.extend(spec.snapshot.as_ref().map(|snapshot| locks::keep_snapshot(snapshot.id)));
        let request = Request {
            snapshot_id: spec.snapshot.as_ref().map(|snapshot| snapshot.id),
            source_volid: spec.source.as_ref().map(|source| source.id),
            zones: spec.zones.clone(),
            hints: wanted.hints.clone(),
        };
        db::job::NewJob {
            id: job,
            operation: OPERATION.name,
            resource: ResourceRef { kind: "volume".into(), id: id.to_string() },
            project_id: Some(context.project_id.clone()),
            user_id: Some(context.user_id.clone()),
            request_id: Some(context.request_id.clone()),
            queue: crate::cloud::SCHEDULER.into(),
            request: serde_json::to_value(request).unwrap_or_default(),
            locks,
        }
    }

    /// The checks of api-routes-volumes.md in their order; reads only.
    async fn resolve(&self, context: &Context, wanted: &NewVolume) -> Result<Spec> {
        let asked = match &wanted.volume_type {
            Some(name) => Some(self.type_by_name_or_id(context, name).await?),
            None => None,
        };
        let snapshot = match wanted.snapshot_id {
            Some(id) => Some(self.snapshot_for(context, id, Action::SnapshotShow).await?),
            None => None,
        };
        let source = match wanted.source_volid {
            Some(id) => Some(self.volume_for(context, id, Action::VolumeShow).await?),
            None => None,
        };
        if wanted.image.is_some() {
            return Err(Error::Invalid(
                "Invalid image identifier or unable to access requested image.".into(),
            ));
        }
        let group = self.group_of_new_volume(context, wanted).await?;
        if [snapshot.is_some(), source.is_some(), wanted.backup_id.is_some()].iter().filter(|is| **is).count()
            > 1
        {
            return Err(Error::InvalidInput(
                "May specify only one of snapshot, imageRef, source volume, or backup".into(),
            ));
        }
        check_sources(snapshot.as_ref(), source.as_ref())?;
        if let Some(group) = &group {
            group::check_new_volume(group, asked.as_ref())?;
        }
        let inherited = snapshot.as_ref().map(|s| s.type_id).or(source.as_ref().map(|s| s.type_id));
        let kind = match (asked, inherited) {
            (Some(kind), _) => kind,
            (None, Some(id)) => self.type_by_id(id).await?,
            (None, None) => self.default_type_of(&context.project_id).await?,
        };
        let size = size(wanted, snapshot.as_ref(), source.as_ref())?;
        check_type_size(&kind, size)?;
        if kind.multiattach() {
            self.policy.require(Action::VolumeMultiattach, context, &Target::own(context))?;
        }
        self.check_encryption(&kind).await?;
        let origin = match (&source, &snapshot) {
            (Some(source), _) => Some(source.clone()),
            (None, Some(snapshot)) => db::volume::get(&mut self.db.read(), snapshot.volume_id).await?,
            (None, None) => None,
        };
        let zones = self.zones(wanted, origin.as_ref(), group.as_ref(), &kind).await?;
        let bootable = origin.is_some_and(|volume| volume.bootable);
        Ok(Spec { kind, size, zones, bootable, snapshot, source, group })
    }

    async fn zones(
        &self,
        wanted: &NewVolume,
        origin: Option<&Volume>,
        group: Option<&Group>,
        kind: &VolumeType,
    ) -> Result<Vec<String>> {
        let origin_zone = origin.and_then(|volume| volume.availability_zone.clone());
        if let (Some(asked), Some(of_source), true) =
            (&wanted.availability_zone, &origin_zone, self.settings.clone_same_zone)
            && asked != of_source
        {
            return Err(Error::InvalidInput(
                "Volume must be in the same availability zone as the snapshot".into(),
            ));
        }
        let mut zone = wanted
            .availability_zone
            .clone()
            .or(group.and_then(|group| group.availability_zone.clone()))
            .or(origin_zone)
            .or_else(|| self.settings.default_zone.clone())
            .unwrap_or_else(|| self.settings.zone.clone());
        let known = self.availability_zones().await?;
        if !known.iter().any(|known| known.available && known.name == zone) {
            let fallback = self.settings.default_zone.clone().unwrap_or_else(|| self.settings.zone.clone());
            if !self.settings.zone_fallback {
                return Err(Error::InvalidInput(format!("Availability zone '{zone}' is invalid.")));
            }
            zone = fallback;
        }
        if let Some(allowed) = kind.extra_specs.get("RESKEY:availability_zones") {
            let allowed: Vec<String> = allowed
                .split(',')
                .map(|zone| zone.trim().to_owned())
                .filter(|zone| !zone.is_empty())
                .collect();
            if wanted.availability_zone.is_none() {
                return Ok(allowed);
            }
            if !allowed.contains(&zone) {
                return Err(Error::InvalidInput(format!(
                    "Volume type '{}' does not allow availability zone '{zone}'.",
                    kind.name
                )));
            }
        }
        Ok(vec![zone])
    }
}

fn check_sources(snapshot: Option<&Snapshot>, source: Option<&Volume>) -> Result<()> {
    if snapshot.is_some_and(|snapshot| snapshot.status != SnapshotStatus::Available) {
        return Err(Error::InvalidSnapshot(
            "Originating snapshot status must be one of 'available' values".into(),
        ));
    }
    if source.is_some_and(|source| !CLONEABLE.contains(&source.status)) {
        return Err(Error::InvalidVolume(
            "Originating source volume status must be one of 'available, in-use' values".into(),
        ));
    }
    Ok(())
}

const CLONEABLE: [VolumeStatus; 2] = [VolumeStatus::Available, VolumeStatus::InUse];

/// The checks of the sources' states once more, in the transaction that records the job: from here on their deletion
/// waits for our lock.
async fn hold_sources(tx: &mut Tx, spec: &Spec) -> Result<()> {
    if let Some(snapshot) = &spec.snapshot
        && !db::snapshot::hold(tx, snapshot.id, &[SnapshotStatus::Available]).await?
    {
        return Err(Error::InvalidSnapshot(
            "Originating snapshot status must be one of 'available' values".into(),
        ));
    }
    if let Some(source) = &spec.source
        && !db::volume::hold(tx, source.id, &CLONEABLE).await?
    {
        return Err(Error::InvalidVolume(
            "Originating source volume status must be one of 'available, in-use' values".into(),
        ));
    }
    if let Some(source) = &spec.source
        && let Some(now) = db::volume::get(tx, source.id).await?
        && now.size > spec.size
    {
        // It has grown since it was looked up.
        return Err(below_source(spec.size, now.size));
    }
    Ok(())
}

fn below_snapshot(size: GiB, least: GiB) -> Error {
    Error::InvalidInput(format!(
        "Volume size '{}'GB cannot be smaller than the snapshot size {}GB. They must be >= original snapshot size.",
        size.0, least.0
    ))
}

fn below_source(size: GiB, least: GiB) -> Error {
    Error::InvalidInput(format!(
        "Volume size '{}'GB cannot be smaller than original volume size  {}GB. They must be >= original volume size.",
        size.0, least.0
    ))
}

fn size(wanted: &NewVolume, snapshot: Option<&Snapshot>, source: Option<&Volume>) -> Result<GiB> {
    let least = snapshot.map(|snapshot| snapshot.volume_size).or(source.map(|source| source.size));
    let size = wanted.size.or(least).ok_or_else(|| {
        // Cinder stumbles over the missing number and says no more than this.
        Error::Invalid(
            "The server could not comply with the request since it is either malformed or otherwise incorrect."
                .into(),
        )
    })?;
    if let Some(snapshot) = snapshot.filter(|snapshot| size < snapshot.volume_size) {
        return Err(below_snapshot(size, snapshot.volume_size));
    }
    if let Some(source) = source.filter(|source| size < source.size) {
        return Err(below_source(size, source.size));
    }
    Ok(size)
}

/// `provisioning:min_vol_size` and `provisioning:max_vol_size` of the type.
pub(crate) fn check_type_size(kind: &VolumeType, size: GiB) -> Result<()> {
    let bound = |key: &str| kind.extra_specs.get(key).and_then(|value| value.trim().parse::<u32>().ok());
    if let Some(least) = bound("provisioning:min_vol_size").filter(|least| size.0 < *least) {
        return Err(Error::InvalidInput(format!(
            "Specified volume size of '{}' is less than the minimum required size of '{least}' for volume type '{}'.",
            size.0, kind.name
        )));
    }
    if let Some(most) = bound("provisioning:max_vol_size").filter(|most| size.0 > *most) {
        return Err(Error::InvalidInput(format!(
            "Specified volume size of '{}' is greater than the maximum allowable size of '{most}' for volume type '{}'.",
            size.0, kind.name
        )));
    }
    Ok(())
}

fn row(context: &Context, wanted: &NewVolume, spec: &Spec, id: VolumeId) -> db::volume::NewVolume {
    db::volume::NewVolume {
        op: VolumeOp::Create,
        id,
        user_id: context.user_id.clone(),
        project_id: context.project_id.clone(),
        size: spec.size,
        availability_zone: (spec.zones.len() == 1).then(|| spec.zones[0].clone()),
        name: wanted.name.clone(),
        description: wanted.description.clone(),
        type_id: spec.kind.id,
        snapshot_id: spec.snapshot.as_ref().map(|snapshot| snapshot.id),
        source_volid: spec.source.as_ref().map(|source| source.id),
        bootable: spec.bootable,
        multiattach: spec.kind.multiattach(),
        use_quota: true,
        metadata: wanted.metadata.clone(),
        replication_status: None,
    }
}

fn volume_id(work: &Work) -> std::result::Result<VolumeId, Failure> {
    crate::cloud::volume_of(&work.job).ok_or_else(|| Failure::permanent("the job names no volume"))
}

/// Chooses a pool, promises the capacity on it and gives the volume its place, all in the step's transaction.
async fn place(work: &Work, tx: &mut Tx) -> Output {
    let request: Request = work.request()?;
    let id = volume_id(work)?;
    // Held, so that a deletion by force comes before or after.
    let held = db::volume::hold(tx, id, VolumeStatus::ALL).await?;
    let volume = db::volume::get(tx, id).await?.filter(|_| held);
    let volume = volume.ok_or_else(|| Failure::permanent("the volume is gone"))?;
    let kind = db::volume_type::get(tx, volume.type_id).await?;
    let kind = kind.ok_or_else(|| Failure::permanent("the volume's type is gone"))?;
    let tried: Vec<String> =
        work.tried().iter().filter_map(|pool| pool.as_str()).map(str::to_owned).collect();
    let wanted = placing::Wanted {
        volume: &volume,
        kind: &kind,
        operation: Operation::CreateVolume,
        new_size: None,
        zones: &request.zones,
        bound_to: bound_to(tx, &request, &volume).await?,
        hints: &request.hints,
        tried: &tried,
    };
    let chosen = placing::choose(&work.cloud, tx, &wanted).await?;
    db::volume::place(tx, id, &chosen.pool, &chosen.zone).await?;
    Ok(json!({ "pool": chosen.pool.to_string(), "decision": chosen.decision }))
}

/// The backend that the volume must be on: that of its source, which is built on the same, and that of its group.
async fn bound_to(
    tx: &mut Tx,
    request: &Request,
    volume: &Volume,
) -> std::result::Result<Option<String>, Failure> {
    let source = origin(tx, request).await?.map(|pool| pool.service_host());
    match (source, group::home_of(tx, volume).await?) {
        (Some(source), Some(group)) if source != group => {
            let text =
                format!("No valid backend was found. The source is on {source}, the group on {group}.");
            Err(Failure::permanent(text).telling(Detail::NoBackend))
        }
        (source, group) => Ok(source.or(group)),
    }
}

/// Where the volume's source is.
async fn origin(tx: &mut Tx, request: &Request) -> std::result::Result<Option<PoolRef>, Failure> {
    let source = match (request.snapshot_id, request.source_volid) {
        (Some(snapshot), _) => {
            let snapshot = db::snapshot::get(tx, snapshot).await?;
            Some(snapshot.ok_or_else(|| Failure::permanent("the source snapshot is gone"))?.volume_id)
        }
        (None, source) => source,
    };
    match source {
        Some(id) => Ok(db::volume::get(tx, id).await?.and_then(|volume| volume.host)),
        None => Ok(None),
    }
}

/// Takes the place and the promise back.
async fn unplace(work: &Work) -> std::result::Result<(), Failure> {
    // Deleting the volume in error takes the rest away, there.
    if work.is_left("build") {
        return Ok(());
    }
    let id = volume_id(work)?;
    let mut tx = work.cloud.db.begin().await?;
    db::job::fence(&mut tx, &work.job).await?;
    let Some(volume) = db::volume::get(&mut tx, id).await? else { return Ok(()) };
    if let Some(pool) = &volume.host {
        db::pool::allocate(&mut tx, &pool.to_string(), -i64::from(volume.size.0)).await?;
        db::volume::unplace(&mut tx, id).await?;
        work.cloud.commit(tx).await?;
    }
    Ok(())
}

/// Has the driver make the volume.
async fn build(work: &Work) -> Output {
    let request: Request = work.request()?;
    let mut read = work.cloud.db.read();
    let volume = db::volume::get(&mut read, volume_id(work)?)
        .await?
        .ok_or_else(|| Failure::permanent("the volume is gone"))?;
    let driver = work.node.driver(&pool_of(&volume)?)?.clone();
    let wanted = super::reference(&volume);
    let from_snapshot;
    let from_volume;
    let source = match (request.snapshot_id, request.source_volid) {
        (Some(id), _) => {
            let (row, origin) = snapshot::with_volume(&mut read, id).await?;
            from_snapshot = snapshot::reference(&row, &origin);
            Source::Snapshot(&from_snapshot)
        }
        (None, Some(id)) => {
            let row = db::volume::get(&mut read, id).await?;
            from_volume =
                super::reference(&row.ok_or_else(|| Failure::permanent("the source volume is gone"))?);
            Source::Volume(&from_volume)
        }
        (None, None) => Source::Blank,
    };
    let bound = request.snapshot_id.is_some() || request.source_volid.is_some();
    match driver.create_volume(&wanted, source, &work.claim).await {
        Ok(provider) => Ok(serde_json::to_value(provider).unwrap_or_default()),
        Err(error) => Err(elsewhere(work, &volume, error.into(), bound)),
    }
}

/// A backend that failed may not be the only one: another is tried, as often as the scheduler is told.
fn elsewhere(work: &Work, volume: &Volume, mut failure: Failure, bound: bool) -> Failure {
    let attempt = work.tried().len() as u32 + 1;
    if failure.kind == FailureKind::Permanent && !bound && attempt < work.cloud.scheduler.max_attempts {
        failure.kind = FailureKind::Elsewhere;
        failure.data = volume.host.as_ref().map(PoolRef::to_string).into();
    }
    failure
}

/// The pool a placed volume is on.
pub(crate) fn pool_of(volume: &Volume) -> std::result::Result<PoolRef, Failure> {
    volume.host.clone().ok_or_else(|| Failure::permanent(format!("volume {} is on no backend", volume.id)))
}

async fn unbuild(work: &Work) -> std::result::Result<(), Failure> {
    let volume = db::volume::get(&mut work.cloud.db.read(), volume_id(work)?).await?;
    let Some(volume) = volume.filter(|volume| volume.host.is_some()) else { return Ok(()) };
    let driver = work.node.driver(&pool_of(&volume)?)?;
    Ok(driver.delete_volume(&super::reference(&volume), &work.claim).await?)
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let Some(id) = crate::cloud::volume_of(&work.job) else { return Ok(()) };
    let provider: drivers::Provider =
        serde_json::from_value(work.output("build").clone()).unwrap_or_default();
    let host = db::volume::get(tx, id).await?.and_then(|volume| volume.host);
    let service = host.and_then(|pool| work.node.services.get(&pool.service_host()).copied());
    db::volume::launched(tx, id, provider.location.as_deref(), provider.id.as_deref(), service).await?;
    db::transition::finish_volume(tx, id, VolumeOp::Create, db::transition::Outcome::Done, work.by()).await
}

async fn fail(work: &Work, tx: &mut Tx, failure: &Failure) -> db::Result<()> {
    let Some(id) = crate::cloud::volume_of(&work.job) else { return Ok(()) };
    let placed = !work.output("place").is_null();
    let (action, otherwise) = if placed {
        (message::Action::CreateFromBackend, Detail::CreateFailed)
    } else {
        (message::Action::Schedule, Detail::NoBackend)
    };
    let ttl = work.cloud.settings.message_ttl;
    message::leave(tx, &work.job, "VOLUME", action, failure, otherwise, ttl).await?;
    db::transition::finish_volume(tx, id, VolumeOp::Create, db::transition::Outcome::Failed, work.by()).await
}
