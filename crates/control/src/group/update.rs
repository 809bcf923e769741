//! Update: `PUT /groups/{id}`: its name, and which volumes are in it. Nothing of that concerns a backend, so it is done in the
//! transaction of the request.

use db::Tx;
use model::{Group, GroupId, GroupStatus, VolumeId, VolumeStatus};

use super::{Door, by, invalid, missing};
use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::policy::Action;
use crate::volume;

/// What changes of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateGroup {
    pub name: Option<String>,
    pub description: Option<String>,
    /// Ids with commas between them, as sent.
    pub add_volumes: Option<String>,
    pub remove_volumes: Option<String>,
}

/// Volumes that may come into a group.
const JOIN: [VolumeStatus; 2] = [VolumeStatus::Available, VolumeStatus::InUse];
/// Volumes that may leave one.
const LEAVE: [VolumeStatus; 4] =
    [VolumeStatus::Available, VolumeStatus::InUse, VolumeStatus::Error, VolumeStatus::ErrorDeleting];

impl Cloud {
    /// `PUT /groups/{id}`.
    ///
    /// # Errors
    /// Not there, forbidden, in a status that forbids it, a volume that cannot come or go, nothing that would change.
    pub async fn group_update(
        &self,
        context: &Context,
        id: GroupId,
        wanted: UpdateGroup,
        door: Door,
    ) -> Result<()> {
        let seen = self.group_for(context, id, door, Action::GroupUpdate).await?;
        let (add, remove) = (ids(wanted.add_volumes.as_deref()), ids(wanted.remove_volumes.as_deref()));
        let mut tx = self.db.begin().await?;
        let held = db::volume_group::hold(&mut tx, id, &[GroupStatus::Available]).await?;
        let group = db::volume_group::get(&mut tx, id).await?.ok_or_else(|| missing(id))?;
        if !held {
            let status = group.status;
            return Err(invalid(format!("Group status must be available, but current status is: {status}.")));
        }
        let both: Vec<String> =
            add.iter().filter(|id| remove.contains(id)).map(|id| format!("'{id}'")).collect();
        if !both.is_empty() {
            let both = both.join(", ");
            return Err(Error::InvalidVolume(format!(
                "UUIDs [{both}] are in both add and remove volume list."
            )));
        }
        let mut changes = 0;
        for text in &add {
            changes += usize::from(add_one(&mut tx, context, &group, text).await?);
        }
        for text in &remove {
            remove_one(&mut tx, &group, text).await?;
            changes += 1;
        }
        let name = wanted.name.as_deref().filter(|name| group.name.as_deref() != Some(*name));
        let description =
            wanted.description.as_deref().filter(|text| group.description.as_deref() != Some(*text));
        if name.is_none() && description.is_none() && changes == 0 {
            return Err(invalid(format!(
                "Cannot update group {id} because no valid name, description, add_volumes, or remove_volumes were provided."
            )));
        }
        db::volume_group::rename(&mut tx, id, name, description).await?;
        if changes > 0 {
            let detail = format!("volumes added: [{}], removed: [{}]", add.join(", "), remove.join(", "));
            let (kind, name, at) = ("group", id.to_string(), Some(GroupStatus::Available.as_str()));
            let by = by(context, seen.project_id.as_deref(), None);
            let change = db::event::Change { kind, id: &name, from: at, to: at, by, detail: Some(&detail) };
            db::event::append(&mut tx, change).await?;
        }
        Ok(self.commit(tx).await?)
    }
}

fn ids(text: Option<&str>) -> Vec<String> {
    let text = text.unwrap_or_default().trim_matches(',');
    if text.is_empty() {
        return Vec::new();
    }
    let mut ids: Vec<String> = Vec::new();
    for id in text.split(',') {
        if !ids.iter().any(|known| known == id) {
            ids.push(id.to_owned());
        }
    }
    ids
}

/// Statuses as Python shows a tuple of them.
fn tuple(statuses: &[VolumeStatus]) -> String {
    let quoted: Vec<String> = statuses.iter().map(|status| format!("'{status}'")).collect();
    format!("({})", quoted.join(", "))
}

/// Puts a volume into the group; whether it was not there yet.
async fn add_one(tx: &mut Tx, context: &Context, group: &Group, text: &str) -> Result<bool> {
    let id = group.id;
    let refuse = |why: String| {
        Err(Error::InvalidVolume(format!("Cannot add volume {text} to group {id} because {why}")))
    };
    let found = match text.parse::<VolumeId>() {
        Ok(volume) => db::volume::get(tx, volume).await?,
        Err(_) => None,
    };
    let Some(volume) = found.filter(|one| volume::visible(context, one.project_id.as_deref())) else {
        return refuse("volume cannot be found.".into());
    };
    match volume.group_id.as_deref() {
        Some(other) if other == id.to_string() => return Ok(false),
        Some(other) => return refuse(format!("it is already in group {other}.")),
        None => {}
    }
    if volume.project_id != group.project_id {
        return Err(Error::InvalidVolume(format!(
            "Cannot add volume {text} to group {id} as they belong to different projects."
        )));
    }
    if !group.volume_types.contains(&volume.type_id) {
        return refuse(format!("volume type {} is not supported by the group.", volume.type_id));
    }
    let (status, valid) = (volume.status, tuple(&JOIN));
    let bad = format!("volume is in an invalid state: {status}. Valid states are: {valid}.");
    if !JOIN.contains(&status) {
        return refuse(bad);
    }
    let (home, place) = (group.host.as_ref(), volume.host.as_ref());
    if home.map(model::PoolRef::service_host) != place.map(model::PoolRef::service_host) {
        return Err(Error::InvalidVolume("Volume is not local to this node.".into()));
    }
    if volume.migrating() {
        return refuse("it is being migrated.".into());
    }
    if !db::volume_group::join(tx, volume.id, id, &JOIN).await? {
        // It has changed since it was read.
        return refuse(bad);
    }
    Ok(true)
}

async fn remove_one(tx: &mut Tx, group: &Group, text: &str) -> Result<()> {
    let id = group.id;
    let refuse = |why: String| {
        Err(Error::InvalidVolume(format!("Cannot remove volume {text} from group {id} because {why}")))
    };
    let found = match text.parse::<VolumeId>() {
        Ok(volume) => db::volume::get(tx, volume).await?,
        Err(_) => None,
    };
    let Some(volume) = found.filter(|one| one.group_id.as_deref() == Some(id.to_string().as_str())) else {
        return refuse("it is not in the group.".into());
    };
    if !db::volume_group::leave(tx, volume.id, id, &LEAVE).await? {
        let (status, valid) = (volume.status, tuple(&LEAVE));
        return refuse(format!("volume is in an invalid state: {status}. Valid states are: {valid}."));
    }
    Ok(())
}
