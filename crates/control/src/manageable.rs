//! What a backend has that could be managed: `GET /manageable_volumes`, `/manageable_snapshots`, and what managing needs to know.
//!
//! Only the backend's own service can look, so that a list is a job as any other; who asked waits for it.

use std::cmp::Ordering;

use drivers::{ErrorKind, Manageable};
use model::job::ResourceRef;
use model::list::Direction;
use model::service::Service;
use model::{JobId, SnapshotId, VolumeId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::{Act, At, Failure, FailureKind, Operation, Output, Step, Work};
use crate::error::{Error, Result};
use crate::policy::{Action, Target};
use crate::request::MoveTo;
use crate::service;

/// The operation's table.
pub const OPERATION: Operation = Operation {
    name: "backend.look",
    steps: &[Step { name: "look", at: At::Queued, act: Act::Do(|work| Box::pin(look(work))), undo: None }],
    finish: |_, _| Box::pin(async { Ok(()) }),
    fail: |_, _, _| Box::pin(async { Ok(()) }),
};

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Volumes,
    Snapshots,
}

/// By what lists are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Key {
    Reference,
    Size,
}

/// `GET /manageable_volumes` and `/manageable_snapshots`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListManageable {
    pub kind: Kind,
    pub place: MoveTo,
    /// Keys, each with whether it is descending.
    pub sort: Vec<(Key, Direction)>,
    /// The reference after which the page begins, and how it is spelled in a refusal.
    pub marker: Option<(Value, String)>,
    pub limit: u32,
    pub offset: u32,
}

/// One thing on a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The `source-name` of its reference.
    pub name: String,
    /// Its size in GiB, rounded up.
    pub gb: u64,
    /// Why it cannot be managed; `None`: it can.
    pub refusal: Option<String>,
    /// The volume or snapshot that it is already.
    pub id: Option<String>,
    /// The `source-name` of the volume that a snapshot is of.
    pub of: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    kind: Kind,
    /// The service that looks.
    host: String,
    /// Keys, each with whether it is descending.
    sort: Vec<(Key, bool)>,
    marker: Option<Value>,
    limit: u32,
    offset: u32,
}

const ALREADY: &str = "already managed";

impl Cloud {
    /// What there is on a backend, a page of it: what is managed already, too.
    ///
    /// # Errors
    /// Forbidden, no such backend or one that is down, a marker that is nothing's, the backend fails or does not answer.
    pub async fn manageable(&self, context: &Context, wanted: ListManageable) -> Result<Vec<Entry>> {
        let action = match wanted.kind {
            Kind::Volumes => Action::VolumeListManageable,
            Kind::Snapshots => Action::SnapshotListManageable,
        };
        self.policy.require(action, context, &Target::own(context))?;
        let service = self.serving_or_missing(&wanted.place).await?;
        let request = Request {
            kind: wanted.kind,
            host: service.host.clone(),
            sort: wanted
                .sort
                .iter()
                .map(|(key, direction)| (*key, *direction == Direction::Descending))
                .collect(),
            marker: wanted.marker.as_ref().map(|(reference, _)| reference.clone()),
            limit: wanted.limit,
            offset: wanted.offset,
        };
        let id = JobId::new();
        let new = db::job::NewJob {
            id,
            operation: OPERATION.name,
            resource: ResourceRef { kind: "service".into(), id: service.id.to_string() },
            project_id: Some(context.project_id.clone()),
            user_id: Some(context.user_id.clone()),
            request_id: Some(context.request_id.clone()),
            queue: Self::volume_queue(&service.host),
            request: serde_json::to_value(request).unwrap_or_default(),
            locks: Vec::new(),
        };
        let mut tx = self.db.begin().await?;
        db::job::insert(&mut tx, new).await?;
        self.commit(tx).await?;
        let found = self.wait(id, self.settings.patience).await?.data["look"].clone();
        match (serde_json::from_value(found), wanted.marker) {
            (Ok(Some(entries)), _) => Ok(entries),
            (_, Some((_, marker))) => Err(Error::InvalidInput(format!("marker not found: {marker}"))),
            (_, None) => Err(Error::Failed("the backend's answer cannot be read".into())),
        }
    }

    /// The volume service of a backend or cluster; `None` when there is none.
    ///
    /// # Errors
    /// It is down or disabled, or the database is away.
    pub(crate) async fn serving(&self, place: &MoveTo) -> Result<Option<Service>> {
        let (MoveTo::Host(name) | MoveTo::Cluster(name)) = place;
        let backend = name.split('#').next().unwrap_or_default();
        let named = |service: &Service| {
            service.binary == service::VOLUME
                && match place {
                    MoveTo::Host(_) => service.host == backend,
                    MoveTo::Cluster(_) => service.cluster_name.as_deref() == Some(backend),
                }
        };
        let mut services: Vec<Service> = self.all_services().await?.into_iter().filter(named).collect();
        services.sort_by_key(|service| (service.disabled, !service.up));
        match services.into_iter().next() {
            Some(service) if service.disabled || !service.up => {
                Err(Error::Invalid("Service is unavailable at this time.".into()))
            }
            found => Ok(found),
        }
    }

    /// As [`serving`](Self::serving), where what is missing is not found.
    ///
    /// # Errors
    /// There is none, or as there.
    pub(crate) async fn serving_or_missing(&self, place: &MoveTo) -> Result<Service> {
        let missing = match place {
            MoveTo::Host(host) => {
                let backend = host.split('#').next().unwrap_or_default();
                format!("Service {} could not be found on host {backend}.", service::VOLUME)
            }
            MoveTo::Cluster(_) => format!("Service {} could not be found.", service::VOLUME),
        };
        self.serving(place).await?.ok_or(Error::Missing(missing))
    }
}

/// The name in a reference that is made as ours are.
pub(crate) fn source_name(reference: &Value) -> Option<&str> {
    reference.get("source-name")?.as_str()
}

/// Why a reference means nothing.
pub(crate) fn no_name(reference: &Value) -> String {
    format!(
        "Manage existing volume failed due to invalid backend reference {reference}: Reference must contain source-name \
         element."
    )
}

/// Whole GiB.
pub(crate) fn gibibytes(bytes: u64) -> std::result::Result<u32, Failure> {
    let gb = bytes.div_ceil(model::GiB(1).bytes());
    u32::try_from(gb).map_err(|_| Failure::permanent(format!("{bytes} bytes are too many for a volume")))
}

/// What is in use or missing now is told now: the administrator may try again.
pub(crate) fn at_once(error: drivers::DriverError) -> Failure {
    let failure = Failure::from(error);
    match failure.kind {
        FailureKind::Again => Failure { kind: FailureKind::Permanent, ..failure },
        _ => failure,
    }
}

async fn look(work: &Work) -> Output {
    let request: Request = work.request()?;
    let driver =
        work.node.backends.get(&request.host).ok_or_else(|| {
            Failure::again(format!("this process does not run the backend {}", request.host))
        })?;
    let found = match driver.manageable().await {
        Ok(found) => found,
        // As Cinder answers for drivers that cannot say.
        Err(error) if error.kind == ErrorKind::Unsupported => return Ok(json!([])),
        Err(error) => return Err(at_once(error)),
    };
    let mut entries = match request.kind {
        Kind::Volumes => volumes(work, &request.host, found).await?,
        Kind::Snapshots => snapshots(work, &request.host, found).await?,
    };
    entries.sort_by(|one, other| compare(&request.sort, one, other));
    Ok(page(entries, &request))
}

/// The page that was asked for; null when its marker is nothing's.
fn page(entries: Vec<Entry>, request: &Request) -> Value {
    let start = match &request.marker {
        Some(marker) => {
            let here = |entry: &Entry| *marker == json!({ "source-name": entry.name });
            match entries.iter().position(here) {
                Some(at) => at + 1,
                None => return Value::Null,
            }
        }
        None => 0,
    };
    let skipped = start + request.offset as usize;
    let page: Vec<Entry> = entries.into_iter().skip(skipped).take(request.limit as usize).collect();
    serde_json::to_value(page).unwrap_or_default()
}

fn compare(sort: &[(Key, bool)], one: &Entry, other: &Entry) -> Ordering {
    let by = |(key, descending): &(Key, bool)| {
        let order = match key {
            Key::Reference => one.name.cmp(&other.name),
            Key::Size => one.gb.cmp(&other.gb),
        };
        if *descending { order.reverse() } else { order }
    };
    let order = sort.iter().map(by).find(|order| order.is_ne());
    order.unwrap_or_else(|| one.name.cmp(&other.name))
}

async fn volumes(
    work: &Work,
    host: &str,
    found: Vec<Manageable>,
) -> std::result::Result<Vec<Entry>, Failure> {
    let read = &mut work.cloud.db.read();
    let rows = db::volume::on_backend(read, host).await?;
    let managed = |volume: &model::Volume| Entry {
        name: volume.backend_name(),
        gb: volume.size.0.into(),
        refusal: Some(ALREADY.into()),
        id: Some(volume.id.to_string()),
        of: None,
    };
    let mut entries: Vec<Entry> = rows.iter().map(managed).collect();
    for one in found.into_iter().filter(|one| one.of.is_none()) {
        // What this database knows is a volume, or what a deletion has left, which goes.
        if let Some(id) = one.volume
            && db::volume::tombstone(read, id).await?.is_some()
        {
            continue;
        }
        entries.push(manageable(one));
    }
    Ok(entries)
}

async fn snapshots(
    work: &Work,
    host: &str,
    found: Vec<Manageable>,
) -> std::result::Result<Vec<Entry>, Failure> {
    let read = &mut work.cloud.db.read();
    let rows = db::volume::on_backend(read, host).await?;
    let named = |id: VolumeId| rows.iter().find(|volume| volume.id == id).map(model::Volume::backend_name);
    let mut entries: Vec<Entry> = Vec::new();
    for snapshot in db::snapshot::on_backend(read, host).await? {
        let id: SnapshotId = snapshot.id;
        entries.push(Entry {
            name: snapshot.backend_name(),
            gb: snapshot.volume_size.0.into(),
            refusal: Some(ALREADY.into()),
            id: Some(id.to_string()),
            of: named(snapshot.volume_id),
        });
    }
    for one in found.into_iter().filter(|one| one.of.is_some()) {
        let there = rows.iter().any(|volume| one.of.as_ref() == Some(&volume.backend_name()));
        let mut entry = manageable(one);
        if !there {
            entry.refusal.get_or_insert_with(|| "its volume is not managed".into());
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn manageable(one: Manageable) -> Entry {
    let gb = one.bytes.div_ceil(model::GiB(1).bytes());
    Entry { name: one.name, gb, refusal: one.refusal, id: None, of: one.of }
}
