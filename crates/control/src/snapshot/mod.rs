//! Snapshots: reading them, and one file per operation on them.

pub mod delete;

use db::Read;
use drivers::{Provider, SnapshotRef};
use model::{Snapshot, SnapshotId, Volume};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine::Failure;
use crate::error::{Error, Resource, Result};
use crate::policy::{Action, Target};
use crate::volume;

/// What the driver is told of a snapshot.
pub fn reference(snapshot: &Snapshot, volume: &Volume) -> SnapshotRef {
    SnapshotRef {
        id: snapshot.id,
        name: snapshot.backend_name(),
        size: snapshot.volume_size,
        provider: Provider { location: snapshot.provider_location.clone(), id: snapshot.provider_id.clone() },
        volume: volume::reference(volume),
    }
}

/// A snapshot and the volume it is of, for a step.
pub(crate) async fn with_volume(
    from: &mut impl Read,
    id: SnapshotId,
) -> std::result::Result<(Snapshot, Volume), Failure> {
    let snapshot = db::snapshot::get(from, id).await?;
    let snapshot = snapshot.ok_or_else(|| Failure::permanent(format!("snapshot {id} is gone")))?;
    let volume = db::volume::get(from, snapshot.volume_id).await?;
    let volume =
        volume.ok_or_else(|| Failure::permanent(format!("volume {} is gone", snapshot.volume_id)))?;
    Ok((snapshot, volume))
}

impl Cloud {
    /// A snapshot the caller may know of, for doing `action` to it. Another project's is not there (404).
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn snapshot_for(&self, context: &Context, id: SnapshotId, action: Action) -> Result<Snapshot> {
        let snapshot = db::snapshot::get(&mut self.db.read(), id).await?;
        let snapshot = snapshot
            .filter(|snapshot| volume::visible(context, snapshot.project_id.as_deref()))
            .ok_or_else(|| Error::NotFound(Resource::Snapshot, id.to_string()))?;
        let target = Target {
            project_id: snapshot.project_id.as_deref(),
            user_id: snapshot.user_id.as_deref(),
            fields: None,
        };
        self.policy.require(action, context, &target)?;
        Ok(snapshot)
    }
}
