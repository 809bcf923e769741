//! Statuses set from outside: an administrator's reset, a hypervisor's report.

use db::transition::Resettable;
use model::{SnapshotId, SnapshotStatus};

use super::by;
use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Resource, Result};
use crate::policy::Action;
use crate::request::{ReportSnapshot, ResetSnapshot};

/// What a report may make of what.
const REPORTS: &[(SnapshotStatus, &[SnapshotStatus])] = {
    use SnapshotStatus::{Available, Creating, Deleting, Error, ErrorDeleting};
    &[(Creating, &[Creating, Available, Error]), (Deleting, &[Deleting, ErrorDeleting])]
};

impl Cloud {
    /// `os-reset_status`.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn snapshot_reset(&self, context: &Context, id: SnapshotId, to: ResetSnapshot) -> Result<()> {
        let snapshot = self.snapshot_for(context, id, Action::SnapshotResetStatus).await?;
        let mut tx = self.db.begin().await?;
        let columns = [("status", Some(to.as_str()))];
        let by = by(context, &snapshot);
        if !db::transition::reset(&mut tx, Resettable::Snapshot, &id.to_string(), &columns, by).await? {
            return Err(Error::NotFound(Resource::Snapshot, id.to_string()));
        }
        Ok(self.commit(tx).await?)
    }

    /// `os-update_snapshot_status`: how far the hypervisor is.
    ///
    /// # Errors
    /// Not there, forbidden, nothing that a report could make of its status.
    pub async fn snapshot_report(
        &self,
        context: &Context,
        id: SnapshotId,
        report: &ReportSnapshot,
    ) -> Result<()> {
        let snapshot = self.snapshot_for(context, id, Action::SnapshotUpdateStatus).await?;
        let from = snapshot.status;
        let (_, reachable) = REPORTS.iter().find(|(known, _)| *known == from).ok_or_else(|| {
            Error::Invalid(format!("Snapshot status {from} not allowed for update_snapshot_status"))
        })?;
        let to = reachable.iter().find(|to| to.as_str() == report.status).ok_or_else(|| {
            Error::Invalid(format!(
                "Provided snapshot status {} not allowed for snapshot with current status {from}.",
                report.status
            ))
        })?;
        let mut tx = self.db.begin().await?;
        let (progress, by) = (report.progress.as_deref(), by(context, &snapshot));
        if !db::transition::report_snapshot(&mut tx, id, from, *to, progress, by).await? {
            return Err(Error::Conflict(format!("Snapshot {id} has changed its status meanwhile.")));
        }
        Ok(self.commit(tx).await?)
    }
}
