//! Delete: `DELETE /snapshots/{id}`.

use db::Tx;
use db::transition::Outcome;
use model::Snapshot;
use model::transition::SnapshotOp;

use crate::cloud::Cloud;
use crate::quota;

/// The row goes, and with it what it counted for.
pub(crate) async fn gone(
    tx: &mut Tx,
    cloud: &Cloud,
    snapshot: &Snapshot,
    type_name: Option<&str>,
    by: db::event::By<'_>,
) -> db::Result<()> {
    if let (Some(project), true) = (&snapshot.project_id, snapshot.use_quota) {
        let usage = quota::of_snapshot(snapshot.volume_size, type_name, cloud.settings.snapshot_gb_free, -1);
        quota::give_back(tx, project, &usage).await?;
    }
    db::transition::finish_snapshot(tx, snapshot.id, SnapshotOp::Delete, Outcome::Done, by).await
}
