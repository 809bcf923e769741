//! Making a backup, full or incremental.
//!
//! ```text
//! full:         chunks ───────────────────────────────────────► put objects ──► hash file, metadata file
//! incremental:  stretches ──► hash ──► compare with parent ──► put runs of changed blocks ──► metadata file
//!                                 └──► hash file
//! ```
//!
//! An incremental backup reads what has changed a second time when it puts it: the length of a run is then known before
//! its first byte is packed, nothing of it waits in memory, and a source that does not hold still is found out, because
//! the second reading must hash to the same.

mod compare;
mod object;

use std::ops::Range;

use model::block::Device;
use model::job::{Claim, Stop};
use model::{BackupId, Time, VolumeId};
use tokio::sync::mpsc;

use self::compare::Comparison;
use self::object::{Objects, Span, Stored};
use crate::config::PipelineConfig;
use crate::delete::clear_until;
use crate::error::{Error, Result};
use crate::format::hashes::{self, HashStream, HashWriter};
use crate::format::metadata::{MAX_OBJECTS, MetadataWriter};
use crate::format::name::{self, Naming};
use crate::format::{About, python_time};
use crate::run::{Run, core_count};
use crate::store::{SharedStore, check_container, check_object};

/// Bytes of a volume hashed as one unit of work by an incremental backup.
const HASH_UNIT: u64 = 8 << 20;

/// A backup to make.
#[derive(Debug, Clone)]
pub struct CreateBackup {
    pub backup: BackupId,
    pub volume: VolumeId,
    /// The backup's name and description, for the control files.
    pub name: Option<String>,
    pub description: Option<String>,
    pub created_at: Time,
    /// What to read. It must not change during the run: a snapshot, a temporary clone, or a volume nobody writes to.
    pub source: Device,
    /// Bytes of it to back up.
    pub size: u64,
    /// The backup that this one builds on; none makes a full one.
    pub parent: Option<ParentRef>,
    pub store: SharedStore,
    pub naming: Naming,
    /// The container that was asked for, if any.
    pub container: Option<String>,
    pub config: PipelineConfig,
    /// The volume's metadata as its JSON text ([`VolumeMeta`](crate::format::volume_meta::VolumeMeta)).
    pub volume_meta: Option<String>,
}

/// Where a parent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentRef {
    pub backup: BackupId,
    pub container: String,
    /// Its `service_metadata`.
    pub prefix: String,
}

/// A backup that was made; the fields are those of its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupResult {
    pub container: String,
    /// The prefix of its objects.
    pub service_metadata: String,
    /// Data objects.
    pub object_count: u64,
    /// Bytes of the volume in them.
    pub data_bytes: u64,
    /// Bytes that they take in the store.
    pub stored_bytes: u64,
}

/// Makes a backup. Progress counts bytes of the volume.
///
/// May be repeated after a crash, under a new claim of the job or the same: what earlier runs of this backup left is
/// removed first, and nothing of it is used. The backup exists for readers once the caller has recorded the result.
///
/// # Errors
/// `Invalid` for a request that cannot be; `ParentMismatch` when only a full backup is possible; `NoSpace`; `Stopped`;
/// `Device`; `Store`. After a failure nothing of this run remains in the store, unless the lease was lost: then the
/// next owner removes it.
pub async fn create(request: CreateBackup, claim: &Claim) -> Result<BackupResult> {
    let container = request.naming.container(request.backup, request.container.as_deref());
    let prefix = request.naming.prefix(request.volume, request.backup, request.created_at, claim.epoch);
    check(&request, &container, &prefix)?;
    claim.set_done(0);
    claim.set_total(request.size);
    claim.check()?;
    let store = request.store.as_ref();
    let clear = || clear_until(store, &container, &prefix, request.volume, request.backup);
    let made = async {
        store.prepare(&container).await?;
        clear().await?;
        make(&request, &container, &prefix, claim).await
    };
    let error = match made.await {
        Ok(result) => return Ok(result),
        Err(error) => error,
    };
    if claim.left().is_zero() {
        // Whatever went wrong did so because another has the job, and removes this run's objects.
        return Err(Stop::LeaseLost.into());
    }
    let cleared = async {
        clear().await?;
        store.settle(&container).await?;
        store.tidy(&container).await
    };
    if let Err(remain) = cleared.await {
        tracing::warn!(backup.id = %request.backup, container, error = %remain, "a failed backup's objects remain");
    }
    Err(error)
}

fn check(request: &CreateBackup, container: &str, prefix: &str) -> Result<()> {
    request.config.check()?;
    check_container(container)?;
    check_object(prefix)?;
    if request.size == 0 || request.size > request.source.size() {
        let text = format!("cannot back up {} bytes of a device of {}", request.size, request.source.size());
        return Err(Error::Invalid(text));
    }
    if request.size.div_ceil(request.config.chunk_size) > MAX_OBJECTS {
        return Err(Error::Invalid(format!("{} bytes would make too many objects", request.size)));
    }
    if let Some(parent) = &request.parent {
        check_container(&parent.container)?;
        check_object(&parent.prefix)?;
    }
    Ok(())
}

/// Opens the control files, runs the stages, publishes.
async fn make(request: &CreateBackup, container: &str, prefix: &str, claim: &Claim) -> Result<BackupResult> {
    if let Some(parent) = &request.parent {
        compare::check_parent(request, parent).await?;
    }
    let about = About {
        backup_id: request.backup.to_string(),
        volume_id: request.volume.to_string(),
        name: request.name.clone(),
        description: request.description.clone(),
        created_at: python_time(request.created_at),
    };
    let (store, tag) = (&request.store, format!("{}-{}", claim.job, claim.epoch));
    let hash_upload = store.create(container, &name::hashes(prefix), &tag).await?;
    let metadata_upload = store.create(container, &name::metadata(prefix), &tag).await?;
    let mut files = Files {
        hashes: HashWriter::new(hash_upload, about.clone(), request.config.block_size),
        catalog: Catalog {
            metadata: MetadataWriter::new(metadata_upload, about, prefix, request.config.compression),
            objects: 0,
            data_bytes: 0,
            stored_bytes: 0,
        },
    };
    let run = Run::new(claim);
    let objects = Objects::new(&run, request, container, prefix, &tag);
    match &request.parent {
        None => full(&objects, &mut files).await,
        Some(parent) => incremental(&objects, parent, &mut files).await,
    }
    match run.outcome() {
        Ok(()) => files.publish(request, container, prefix, claim).await,
        Err(error) => {
            files.abort().await;
            Err(error)
        }
    }
}

/// The two control files in the making, and what went into them.
#[derive(Debug)]
struct Files {
    hashes: HashWriter,
    catalog: Catalog,
}

/// The metadata file in the making.
#[derive(Debug)]
struct Catalog {
    metadata: MetadataWriter,
    objects: u64,
    data_bytes: u64,
    stored_bytes: u64,
}

impl Catalog {
    /// Records an object.
    async fn record(&mut self, stored: &Stored) -> Result<()> {
        self.objects += 1;
        self.data_bytes += stored.entry.length;
        self.stored_bytes += stored.stored_bytes;
        self.metadata.push(&stored.entry).await
    }
}

impl Files {
    /// Publishes the hash file, then, when all else is durable, the metadata file that makes the backup whole.
    async fn publish(
        self,
        request: &CreateBackup,
        container: &str,
        prefix: &str,
        claim: &Claim,
    ) -> Result<BackupResult> {
        let (store, catalog) = (&request.store, self.catalog);
        claim.check()?;
        self.hashes.finish().await?;
        store.settle(container).await?;
        let parent = request.parent.as_ref().map(|parent| parent.backup.to_string());
        let last_check = || Ok(claim.check()?);
        catalog.metadata.finish(parent.as_deref(), request.volume_meta.as_deref(), last_check).await?;
        store.settle(container).await?;
        claim.check()?; // a new owner may have removed all of it since
        Ok(BackupResult {
            container: container.to_owned(),
            service_metadata: prefix.to_owned(),
            object_count: catalog.objects,
            data_bytes: catalog.data_bytes,
            stored_bytes: catalog.stored_bytes,
        })
    }

    async fn abort(self) {
        for outcome in [self.hashes.abort().await, self.catalog.metadata.abort().await] {
            if let Err(error) = outcome {
                tracing::debug!(%error, "an unfinished control file remains");
            }
        }
    }
}

/// Puts every chunk of the volume.
async fn full(objects: &Objects<'_>, files: &mut Files) {
    let (run, config) = (objects.run, &objects.request.config);
    let (spans, take_spans) = mpsc::channel(1);
    let (results, take_results) = mpsc::channel(1);
    let cutting = async {
        let chunks = cut(objects.request.size, config.chunk_size);
        for (number, stretch) in (1..).zip(chunks) {
            if spans.send(Span { number, stretch, hashes: None }).await.is_err() {
                break;
            }
        }
        drop(spans);
    };
    let putting = run.in_order(take_spans, config.concurrency, |span| objects.put(span), results);
    let recording = record(run, take_results, &mut files.catalog, Some(&mut files.hashes));
    tokio::join!(cutting, putting, recording);
}

/// Puts every run of blocks that differs from the parent.
async fn incremental(objects: &Objects<'_>, parent: &ParentRef, files: &mut Files) {
    let (run, request) = (objects.run, objects.request);
    let (units, take_units) = mpsc::channel(1);
    let (hashed, take_hashed) = mpsc::channel(1);
    let (old, take_old) = mpsc::channel(4);
    let (spans, take_spans) = mpsc::channel(1);
    let (results, take_results) = mpsc::channel(1);
    let cutting = async {
        for unit in units_of(request) {
            if units.send(unit).await.is_err() {
                break;
            }
        }
        drop(units);
    };
    let hashing = run.in_order(take_units, core_count() + 1, |unit| objects.hash(unit), hashed);
    let reading = async {
        let sent = hashes::send(request.store.as_ref(), &parent.container, &parent.prefix, old).await;
        sent.unwrap_or_else(|e| run.fail(e));
    };
    let comparison = Comparison::new(run, &request.config, HashStream::new(take_old), spans);
    let comparing = comparison.compare(take_hashed, &mut files.hashes);
    let putting = run.in_order(take_spans, request.config.concurrency, |span| objects.put(span), results);
    let recording = record(run, take_results, &mut files.catalog, None);
    let (.., complete, (), ()) = tokio::join!(cutting, hashing, reading, comparing, putting, recording);
    if !complete {
        run.fail(hashes::missing_hashes(&parent.prefix)); // unless the run has failed for a better reason
    }
}

/// Enters objects into the control files as they are finished.
async fn record(
    run: &Run,
    mut results: mpsc::Receiver<Stored>,
    catalog: &mut Catalog,
    mut hashes: Option<&mut HashWriter>,
) {
    while let Some(stored) = results.recv().await {
        let mut outcome = catalog.record(&stored).await;
        if let (Ok(()), Some(hashes)) = (&outcome, &mut hashes) {
            outcome = hashes.push(stored.hashes).await;
        }
        if let Err(error) = outcome {
            return run.fail(error);
        }
    }
}

/// `size` bytes cut at multiples of `step`.
fn cut(size: u64, step: u64) -> impl Iterator<Item = Range<u64>> {
    (0..size.div_ceil(step)).map(move |index| index * step..(index * step).saturating_add(step).min(size))
}

/// The units of work of hashing: whole blocks, within one chunk.
fn units_of(request: &CreateBackup) -> impl Iterator<Item = Range<u64>> {
    let block_size = request.config.block_size;
    let unit = (HASH_UNIT / block_size).max(1) * block_size;
    cut(request.size, request.config.chunk_size).flat_map(move |chunk| {
        let start = chunk.start;
        cut(chunk.end - start, unit).map(move |unit| start + unit.start..start + unit.end)
    })
}
