//! What migration and retype share: a volume's move from one pool to another, as steps of their jobs.
//!
//! ```text
//! place    the destination: its promise, its row (migration_status target:<volume>)     undo: both go
//! build    an empty volume on the destination's backend                                 undo: it goes
//! copy     every byte, verified; nobody else has the volume open for writing
//! finish   one transaction: the rows exchange places; what is left is a volume.delete job on the destination's row
//! ```
//! The source is untouched until the transaction of `finish` has published the destination, so that giving up at any step loses
//! nothing. Whoever connects to a volume that is being moved stops the move ([`super::migrate::interrupt`]).

use db::Tx;
use db::migration::Place;
use db::transition::Outcome;
use drivers::{OpenMode, Openable, Provider, Source};
use model::job::ResourceRef;
use model::transition::VolumeOp;
use model::{JobId, PoolRef, Volume, VolumeId, VolumeType};
use serde_json::{Value, json};

use super::create::pool_of;
use crate::cloud::Cloud;
use crate::engine::{Failure, Output, Work};
use crate::placing::Chosen;
use crate::{copying, locks};

type Result<T, E = Failure> = std::result::Result<T, E>;

/// The id that the request has drawn for the destination's row, so that the job's locks name it.
fn destination(work: &Work) -> Result<VolumeId> {
    let id = work.job.request["destination"].as_str().and_then(|id| id.parse().ok());
    id.ok_or_else(|| Failure::permanent("the job names no destination"))
}

/// Whether the volume moves at all: a retype may find that it need not.
fn moves(work: &Work) -> bool {
    work.output("place")["moves"] == true
}

/// The volume of the job.
pub(super) async fn row(work: &Work, from: &mut impl db::Read) -> Result<Volume> {
    let id =
        crate::cloud::volume_of(&work.job).ok_or_else(|| Failure::permanent("the job names no volume"))?;
    let volume = db::volume::get(from, id).await?;
    volume.ok_or_else(|| Failure::permanent(format!("volume {id} is gone")))
}

/// Records the destination that was chosen: the end of a `place` step.
pub(super) async fn begin(
    work: &Work,
    tx: &mut Tx,
    volume: &Volume,
    kind: &VolumeType,
    chosen: &Chosen,
) -> Output {
    check_movable(tx, volume, &chosen.pool).await?;
    let id = destination(work)?;
    let row = db::volume::NewVolume {
        op: VolumeOp::Create,
        id,
        user_id: volume.user_id.clone().unwrap_or_default(),
        project_id: volume.project_id.clone().unwrap_or_default(),
        size: volume.size,
        availability_zone: Some(chosen.zone.clone()),
        name: volume.name.clone(),
        description: volume.description.clone(),
        type_id: kind.id,
        snapshot_id: None,
        source_volid: None,
        bootable: volume.bootable,
        multiattach: kind.multiattach(),
        use_quota: false,
        metadata: Default::default(),
        replication_status: None,
    };
    db::volume::insert(tx, &row).await?;
    db::volume::place(tx, id, &chosen.pool, &chosen.zone).await?;
    db::migration::mark_destination(tx, id, volume.id).await?;
    let from = [None, Some("starting"), Some("deleting"), Some("error"), Some("success")];
    db::migration::step(tx, volume.id, &from, "migrating", work.by()).await?;
    Ok(json!({
        "pool": chosen.pool.to_string(), "zone": chosen.zone, "moves": true, "decision": chosen.decision,
    }))
}

/// A volume that is open somewhere is moved by the hypervisor that has it, of which this service asks none; its snapshots cannot
/// follow it.
async fn check_movable(tx: &mut Tx, volume: &Volume, to: &PoolRef) -> Result<()> {
    if !volume.attachments.is_empty() || !db::export::of_volume(tx, volume.id).await?.is_empty() {
        return Err(Failure::permanent(
            "a volume that is in use cannot be moved without its hypervisor's help",
        ));
    }
    if !db::snapshot::of_volume(tx, volume.id).await?.is_empty() {
        return Err(Failure::permanent("Volume must not have snapshots."));
    }
    if volume.host.as_ref() == Some(to) {
        return Err(Failure::permanent(format!("volume {} is on {to} already", volume.id)));
    }
    Ok(())
}

/// Takes the destination's row and promise back.
pub(super) async fn unplace(work: &Work) -> Result<()> {
    let id = destination(work)?;
    let mut tx = work.cloud.db.begin().await?;
    db::job::fence(&mut tx, &work.job).await?;
    let Some(row) = db::volume::get(&mut tx, id).await? else { return Ok(()) };
    if let Some(pool) = &row.host {
        db::pool::allocate(&mut tx, &pool.to_string(), -i64::from(row.size.0)).await?;
    }
    db::transition::finish_volume(&mut tx, id, VolumeOp::Delete, Outcome::Done, work.by()).await?;
    Ok(work.cloud.commit(tx).await?)
}

/// Makes an empty volume where this one goes.
pub(super) async fn build(work: &Work) -> Output {
    if !moves(work) {
        return Ok(Value::Null);
    }
    let new = destination_row(work).await?.ok_or_else(|| Failure::permanent("the destination is gone"))?;
    let pool = pool_of(&new)?;
    if !work.node.backends.contains_key(&pool.service_host()) {
        return Err(Failure::permanent(format!(
            "{pool} belongs to another process: a volume moves between the backends of one process only"
        )));
    }
    let driver = work.node.driver(&pool)?;
    let provider = driver.create_volume(&super::reference(&new), Source::Blank, &work.claim).await?;
    Ok(serde_json::to_value(provider).unwrap_or_default())
}

async fn destination_row(work: &Work) -> Result<Option<Volume>> {
    Ok(db::volume::get(&mut work.cloud.db.read(), destination(work)?).await?)
}

/// Removes what was built.
pub(super) async fn unbuild(work: &Work) -> Result<()> {
    let Some(new) = destination_row(work).await?.filter(|new| new.host.is_some()) else { return Ok(()) };
    // Where this process has no backend it has built nothing.
    let Some(driver) = work.node.backends.get(&pool_of(&new)?.service_host()) else { return Ok(()) };
    Ok(driver.delete_volume(&super::reference(&new), &work.claim.for_undo()).await?)
}

/// Copies and verifies.
pub(super) async fn copy(work: &Work) -> Output {
    if !moves(work) {
        return Ok(Value::Null);
    }
    let volume = row(work, &mut work.cloud.db.read()).await?;
    let new = destination_row(work).await?.ok_or_else(|| Failure::permanent("the destination is gone"))?;
    let (old, new) = (Side::of(work, &volume)?, Side::of(work, &new)?);
    let from = old.driver.open(Openable::Volume(&old.volume), OpenMode::Read).await?;
    let to = new.driver.open(Openable::Volume(&new.volume), OpenMode::Write).await?;
    let copied = copying::copy(&from, &to, &work.claim).await?;
    tracing::info!(volume.id = %volume.id, bytes = copied.bytes, written = copied.written,
        sha256 = copied.sha256, "copied and verified");
    Ok(serde_json::to_value(copied).unwrap_or_default())
}

/// One end of a copy.
struct Side<'w> {
    driver: &'w drivers::SharedDriver,
    volume: drivers::VolumeRef,
}

impl<'w> Side<'w> {
    fn of(work: &'w Work, volume: &Volume) -> Result<Self> {
        let driver = work.node.driver(&pool_of(volume)?)?;
        Ok(Self { driver, volume: super::reference(volume) })
    }
}

/// Publishes the destination and sees to it that the old place is cleared. Nothing when the volume does not move.
///
/// # Errors
/// The volume is no longer as it was copied: it stays where it is.
pub(super) async fn publish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    if !moves(work) {
        return Ok(());
    }
    let refused =
        || db::Error::Unusable("the volume has changed while it was moved: it stays where it was".into());
    let (Some(id), Ok(destination)) = (crate::cloud::volume_of(&work.job), destination(work)) else {
        return Err(refused());
    };
    let Some(volume) = db::volume::get(tx, id).await? else { return Err(refused()) };
    let Some(new) = db::volume::get(tx, destination).await? else { return Err(refused()) };
    let Some(pool) = &new.host else { return Err(refused()) };
    let provider: Provider = serde_json::from_value(work.output("build").clone()).unwrap_or_default();
    let place = Place {
        pool,
        cluster_name: new.cluster_name.as_deref(),
        zone: new.availability_zone.as_deref(),
        location: provider.location.as_deref(),
        provider_id: provider.id.as_deref(),
        service: work.node.services.get(&pool.service_host()).copied(),
    };
    if !db::migration::exchange(tx, &volume, destination, &place, work.by()).await? {
        return Err(refused());
    }
    db::job::insert(tx, clearing(work, &volume, destination)).await
}

/// The job that removes what is left at the old place.
fn clearing(work: &Work, volume: &Volume, row: VolumeId) -> db::job::NewJob {
    db::job::NewJob {
        id: JobId::new(),
        operation: super::delete::OPERATION.name,
        resource: ResourceRef { kind: "volume".into(), id: row.to_string() },
        project_id: volume.project_id.clone(),
        user_id: work.job.user_id.clone(),
        request_id: work.job.request_id.clone(),
        queue: volume.host.as_ref().map(|pool| Cloud::volume_queue(&pool.service_host())).unwrap_or_default(),
        request: super::delete::alone(),
        // Also the volume's own: what is removed has its name.
        locks: vec![locks::change_volume(row), locks::keep_volume(volume.id)],
    }
}

/// A move that did not come about; what it had made is gone already.
pub(super) async fn fail(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let Some(id) = crate::cloud::volume_of(&work.job) else { return Ok(()) };
    db::migration::step(tx, id, &[Some("starting"), Some("migrating")], "error", work.by()).await.map(drop)
}
