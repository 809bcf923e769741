//! Manage: `POST /manageable_snapshots` and `/os-snapshot-manage`. What is on a volume's backend already becomes a snapshot of it.
//!
//! As [`crate::volume::manage`], on the backend where the volume is. Use of the quota begins as for a new snapshot, with the
//! volume's size, and `count` corrects it.

use db::Tx;
use db::transition::Outcome;
use drivers::{Openable, Provider};
use model::job::ResourceRef;
use model::transition::SnapshotOp;
use model::{GiB, JobId, Snapshot, SnapshotId, Volume, VolumeId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{id_of, reference, with_volume};
use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Act, At, Failure, Operation, Output, Step, Work};
use crate::error::{Error, Result};
use crate::policy::Action;
use crate::request::{ManageSnapshot, MoveTo, NewSnapshot};
use crate::{locks, manageable, quota, volume};

/// The operation's table.
pub const OPERATION: Operation = Operation {
    name: "snapshot.manage",
    steps: &[
        Step { name: "measure", at: At::Volume, act: Act::Do(|work| Box::pin(measure(work))), undo: None },
        Step {
            name: "count",
            at: At::Volume,
            act: Act::Record(|work, tx| Box::pin(count(work, tx))),
            undo: Some(|work| Box::pin(uncount(work))),
        },
        Step {
            name: "adopt",
            at: At::Volume,
            act: Act::Do(|work| Box::pin(adopt(work))),
            undo: Some(|work| Box::pin(give_back(work))),
        },
    ],
    finish: |work, tx| Box::pin(finish(work, tx)),
    fail: |work, tx, _| Box::pin(fail(work, tx)),
};

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    volume_id: VolumeId,
    /// As the administrator gave it.
    reference: Value,
}

/// What `measure` leaves behind.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    /// Its name on the backend.
    name: String,
    gb: u32,
}

impl Cloud {
    /// `POST /manageable_snapshots`: a snapshot that is `creating`, and the job that takes it over.
    ///
    /// # Errors
    /// The volume is not there, or in a status that forbids a snapshot; its service is away; over quota, forbidden.
    pub async fn snapshot_manage(&self, context: &Context, wanted: ManageSnapshot) -> Result<Snapshot> {
        let volume = self.volume_for(context, wanted.volume_id, Action::SnapshotManage).await?;
        let host = volume.host.as_ref().map(ToString::to_string).unwrap_or_default();
        self.serving_or_missing(&MoveTo::Host(host)).await?;
        let new = NewSnapshot {
            volume_id: volume.id,
            name: wanted.name,
            description: wanted.description,
            in_use: true,
            metadata: wanted.metadata,
        };
        let reference = wanted.reference;
        self.snapshot_record(context, volume, new, |volume, id, job| {
            new_job(context, volume, reference, id, job)
        })
        .await
    }
}

fn new_job(
    context: &Context,
    volume: &Volume,
    reference: Value,
    id: SnapshotId,
    job: JobId,
) -> db::job::NewJob {
    db::job::NewJob {
        id: job,
        operation: OPERATION.name,
        resource: ResourceRef { kind: "snapshot".into(), id: id.to_string() },
        project_id: Some(context.project_id.clone()),
        user_id: Some(context.user_id.clone()),
        request_id: Some(context.request_id.clone()),
        queue: volume::home_queue(volume),
        request: serde_json::to_value(Request { volume_id: volume.id, reference }).unwrap_or_default(),
        locks: vec![locks::keep_volume(volume.id), locks::change_snapshot(id)],
    }
}

async fn measure(work: &Work) -> Output {
    let request: Request = work.request()?;
    let (snapshot, volume) = with_volume(&mut work.cloud.db.read(), id_of(work)?).await?;
    let source = manageable::source_name(&request.reference)
        .ok_or_else(|| Failure::permanent(manageable::no_name(&request.reference)))?;
    let driver = work.node.driver(&volume::create::pool_of(&volume)?)?;
    let what = reference(&snapshot, &volume);
    let found = driver.candidate(Openable::Snapshot(&what), source).await.map_err(manageable::at_once)?;
    let gb = manageable::gibibytes(found.bytes)?;
    Ok(serde_json::to_value(Measured { name: found.name, gb }).unwrap_or_default())
}

fn measured(work: &Work) -> std::result::Result<Measured, Failure> {
    serde_json::from_value(work.output("measure").clone())
        .map_err(|error| Failure::permanent(format!("it was not measured: {error}")))
}

async fn count(work: &Work, tx: &mut Tx) -> Output {
    let (snapshot, volume) = with_volume(tx, id_of(work)?).await?;
    let Measured { gb, .. } = measured(work)?;
    if gb > volume.size.0 {
        return Err(Failure::permanent(format!("{gb} GiB are more than volume {} has", volume.id)));
    }
    let limits = match &snapshot.project_id {
        Some(project) => {
            let limits = work.cloud.limits(project).await;
            limits.map_err(|error: Error| Failure::permanent(error.to_string()))?
        }
        None => Default::default(),
    };
    let before = snapshot.volume_size;
    let usage = difference(work, tx, &snapshot, GiB(gb)).await?;
    if let (Some(project), Some(usage)) = (&snapshot.project_id, usage) {
        let taken = quota::take(tx, project, &usage, &limits).await;
        taken.map_err(|error| Failure::permanent(error.to_string()))?;
    }
    db::snapshot::resize(tx, snapshot.id, GiB(gb)).await?;
    Ok(json!({ "before": before.0 }))
}

/// What of the quota another size takes or gives back; `None`: nothing.
async fn difference(
    work: &Work,
    tx: &mut Tx,
    snapshot: &Snapshot,
    size: GiB,
) -> std::result::Result<Option<Vec<model::quota::Usage>>, Failure> {
    let more = i64::from(size.0) - i64::from(snapshot.volume_size.0);
    if more == 0 || !snapshot.use_quota || work.cloud.settings.snapshot_gb_free {
        return Ok(None);
    }
    let names = db::volume_type::names(tx, [snapshot.type_id].into_iter()).await?;
    Ok(Some(quota::gigabytes(more, names.get(&snapshot.type_id).map(String::as_str))))
}

async fn uncount(work: &Work) -> std::result::Result<(), Failure> {
    let mut tx = work.cloud.db.begin().await?;
    db::job::fence(&mut tx, &work.job).await?;
    let Some(before) = work.output("count")["before"].as_u64().and_then(|gb| u32::try_from(gb).ok()) else {
        return Ok(());
    };
    let Some(snapshot) = db::snapshot::get(&mut tx, id_of(work)?).await? else { return Ok(()) };
    let usage = difference(work, &mut tx, &snapshot, GiB(before)).await?;
    if let (Some(project), Some(usage)) = (&snapshot.project_id, usage) {
        quota::count(&mut tx, project, &usage).await?;
    }
    db::snapshot::resize(&mut tx, snapshot.id, GiB(before)).await?;
    Ok(work.cloud.commit(tx).await?)
}

async fn adopt(work: &Work) -> Output {
    let (snapshot, volume) = with_volume(&mut work.cloud.db.read(), id_of(work)?).await?;
    let driver = work.node.driver(&volume::create::pool_of(&volume)?)?;
    let (what, name) = (reference(&snapshot, &volume), measured(work)?.name);
    let provider = driver.adopt(Openable::Snapshot(&what), &name, &work.claim).await?;
    Ok(serde_json::to_value(provider).unwrap_or_default())
}

/// What was taken is what it was before.
async fn give_back(work: &Work) -> std::result::Result<(), Failure> {
    let mut read = work.cloud.db.read();
    let Some(snapshot) = db::snapshot::get(&mut read, id_of(work)?).await? else { return Ok(()) };
    let Some(volume) = db::volume::get(&mut read, snapshot.volume_id).await? else { return Ok(()) };
    let driver = work.node.driver(&volume::create::pool_of(&volume)?)?;
    let (what, name) = (reference(&snapshot, &volume), measured(work)?.name);
    let claim = work.claim.for_undo();
    Ok(driver.release(Openable::Snapshot(&what), Some(&name), &claim).await?)
}

async fn finish(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let Ok(id) = id_of(work) else { return Ok(()) };
    let provider: Provider = serde_json::from_value(work.output("adopt").clone()).unwrap_or_default();
    let (location, provider_id) = (provider.location.as_deref(), provider.id.as_deref());
    db::snapshot::taken(tx, id, location, provider_id, "100%").await?;
    db::transition::finish_snapshot(tx, id, SnapshotOp::Create, Outcome::Done, work.by()).await
}

async fn fail(work: &Work, tx: &mut Tx) -> db::Result<()> {
    let Ok(id) = id_of(work) else { return Ok(()) };
    db::transition::finish_snapshot(tx, id, SnapshotOp::Create, Outcome::Failed, work.by()).await
}
