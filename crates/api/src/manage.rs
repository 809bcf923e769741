//! Managing what backends have: `/os-volume-manage` and `/manageable_volumes`, the same for snapshots, and `os-unmanage`.

use control::Error;
use control::manageable::{Entry, Key, Kind, ListManageable};
use control::request::{ManageSnapshot, ManageVolume, MoveTo};
use model::VolumeId;
use model::list::Direction;
use serde_json::{Value, json};
use wire::manageable::{self as shape, Shown};
use wire::microversion::{Behaviour, Resource, Version};
use wire::read::Read;
use wire::{Object, wrap};

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::fault::Fault;
use crate::list::DB_MAX_INT;
use crate::query::{Query, integer};
use crate::schema::repr::repr;

/// `GET /manageable_volumes`.
pub async fn volumes(call: Call) -> Outcome {
    let entries = listed(&call, Kind::Volumes).await?;
    let shapes: Vec<Object> = entries.iter().map(|one| shape::summary(shown(one))).collect();
    Ok(Answer::json(json!({ "manageable-volumes": shapes })))
}

/// `GET /manageable_volumes/detail`.
pub async fn volumes_detail(call: Call) -> Outcome {
    let entries = listed(&call, Kind::Volumes).await?;
    let shapes: Vec<Object> = entries.iter().map(|one| shape::detail(shown(one))).collect();
    Ok(Answer::json(json!({ "manageable-volumes": shapes })))
}

/// `GET /manageable_snapshots`.
pub async fn snapshots(call: Call) -> Outcome {
    let entries = listed(&call, Kind::Snapshots).await?;
    let of = |one: &Entry| shape::of(shape::summary(shown(one)), one.of.as_deref());
    Ok(Answer::json(json!({ "manageable-snapshots": entries.iter().map(of).collect::<Vec<_>>() })))
}

/// `GET /manageable_snapshots/detail`.
pub async fn snapshots_detail(call: Call) -> Outcome {
    let entries = listed(&call, Kind::Snapshots).await?;
    let of = |one: &Entry| shape::of(shape::detail(shown(one)), one.of.as_deref());
    Ok(Answer::json(json!({ "manageable-snapshots": entries.iter().map(of).collect::<Vec<_>>() })))
}

fn shown(one: &Entry) -> Shown<'_> {
    Shown { name: &one.name, size: one.gb, refusal: one.refusal.as_deref(), id: one.id.as_deref() }
}

async fn listed(call: &Call, kind: Kind) -> Result<Vec<Entry>, Fault> {
    let mut query = call.query.clone();
    let clusters = call.version.has(Behaviour::ManageableOfCluster);
    let place = place(query.take("host"), query.take("cluster"), clusters)?;
    let limit = call.limit()?;
    let marker = query.take("marker").filter(|marker| !marker.is_empty());
    let offset = query.take("offset").map_or(Ok(0), |text| integer(&text, "offset", 0, DB_MAX_INT))?;
    let sort = sort(&mut query)?;
    let marker = match marker {
        Some(text) => Some(reference(&text)?),
        None => None,
    };
    let offset = u32::try_from(offset).unwrap_or(u32::MAX);
    let wanted = ListManageable { kind, place, sort, marker, limit, offset };
    Ok(call.edge.cloud.manageable(&call.context, wanted).await?)
}

/// The one host or cluster that is named.
fn place(host: Option<String>, cluster: Option<String>, clusters: bool) -> Result<MoveTo, Fault> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    match (given(host), given(cluster).filter(|_| clusters)) {
        (Some(host), None) => Ok(MoveTo::Host(host)),
        (None, Some(cluster)) => Ok(MoveTo::Cluster(cluster)),
        _ if clusters => {
            Err(Error::InvalidInput("One and only one of cluster and host must be set.".into()).into())
        }
        _ => Err(Error::InvalidInput("Host field is missing.".into()).into()),
    }
}

/// A marker: a reference as JSON, and as Cinder prints it.
fn reference(text: &str) -> Result<(Value, String), Fault> {
    let parsed: Value = serde_json::from_str(text).map_err(|_| {
        Error::InvalidInput(format!("marker {text} can not be analysed, please use json like format"))
    })?;
    let printed = repr(&parsed);
    Ok((parsed, printed))
}

fn sort(query: &mut Query) -> Result<Vec<(Key, Direction)>, Fault> {
    if query.has("sort") && (query.has("sort_key") || query.has("sort_dir")) {
        return Err(Fault::bad_request(
            "The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter.",
        ));
    }
    let asked: Vec<(String, String)> = match query.take("sort") {
        Some(list) => {
            let parts = list.trim().split(',').map(|one| one.split_once(':').unwrap_or((one, "")));
            let or_down = |dir: &str| if dir.is_empty() { "desc".to_owned() } else { dir.trim().to_owned() };
            parts.map(|(key, dir)| (key.trim().to_owned(), or_down(dir))).collect()
        }
        None => {
            let key = query.take("sort_key").unwrap_or_else(|| "reference".into());
            let direction = query.take("sort_dir").unwrap_or_else(|| "desc".into());
            vec![(key.trim().to_owned(), direction.trim().to_owned())]
        }
    };
    let keys = asked.iter().map(|(key, _)| match key.as_str() {
        "reference" => Ok(Key::Reference),
        "size" => Ok(Key::Size),
        other => Err(other.to_owned()),
    });
    let keys = all(keys, "Invalid sort keys passed")?;
    let directions = asked.iter().map(|(_, direction)| match direction.as_str() {
        "asc" => Ok(Direction::Ascending),
        "desc" => Ok(Direction::Descending),
        other => Err(other.to_owned()),
    });
    let directions = all(directions, "Invalid sort dirs passed")?;
    Ok(keys.into_iter().zip(directions).collect())
}

/// All of them, or a refusal that names each that is none.
fn all<T>(read: impl Iterator<Item = Result<T, String>>, refusal: &str) -> Result<Vec<T>, Fault> {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for one in read {
        match one {
            Ok(one) => known.push(one),
            Err(text) => unknown.push(text),
        }
    }
    if unknown.is_empty() {
        return Ok(known);
    }
    Err(Fault::bad_request(format!("{refusal}: {}", unknown.join(", "))))
}

/// `POST /manageable_volumes`. The answer is of the oldest version, whichever was asked for.
pub async fn manage_volume(call: Call) -> Outcome {
    let body = call.object("volume");
    let clusters = call.version.has(Behaviour::MigrateToCluster);
    let given = |key: &str| body.text(key).filter(|text| !text.is_empty());
    let trimmed = |key: &str| given(key).map(|text| text.trim().to_owned());
    let wanted = ManageVolume {
        place: place(body.text("host"), body.text("cluster"), clusters)?,
        reference: body.get("ref").cloned().unwrap_or_default(),
        name: trimmed("name"),
        description: trimmed("description"),
        volume_type: given("volume_type"),
        availability_zone: given("availability_zone"),
        bootable: body.flag("bootable").unwrap_or_default(),
        metadata: body.texts("metadata").unwrap_or_default(),
    };
    let volume = call.edge.cloud.volume_manage(&call.context, wanted).await?;
    let mut shape = wire::volume::detail(&volume, &call.links, crate::volume::sees(&call));
    Version::MIN.lowering(Resource::Volume).apply(&mut shape);
    Ok(Answer::json(wrap("volume", shape)))
}

/// `POST /manageable_snapshots`.
pub async fn manage_snapshot(call: Call) -> Outcome {
    let body = call.object("snapshot");
    let wanted = ManageSnapshot {
        volume_id: body.id("volume_id").unwrap_or_else(VolumeId::new),
        reference: body.get("ref").cloned().unwrap_or_default(),
        name: body.text("name"),
        description: body.text("description"),
        metadata: body.texts("metadata").unwrap_or_default(),
    };
    let snapshot = call.edge.cloud.snapshot_manage(&call.context, wanted).await?;
    let shape = wire::snapshot::detail(&snapshot, false);
    Ok(Answer::json(wrap("snapshot", call.lower(Resource::Snapshot, shape))))
}

/// `os-unmanage` of a volume.
pub async fn unmanage_volume(call: Call) -> Outcome {
    call.edge.cloud.volume_unmanage(&call.context, crate::volume::id(&call)?).await?;
    Ok(Answer::none())
}

/// `os-unmanage` of a snapshot.
pub async fn unmanage_snapshot(call: Call) -> Outcome {
    call.edge.cloud.snapshot_unmanage(&call.context, crate::snapshot::id(&call)?).await?;
    Ok(Answer::none())
}
