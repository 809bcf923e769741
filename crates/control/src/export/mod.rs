//! Exports: making a volume reachable for a host, and taking that back (I5, I8). Attachments and old-style connections end up
//! here; who needs an export is its holder.

pub mod connect;
pub mod disconnect;
pub mod info;

use db::Read;
use db::job::Wanted;
use model::job::Job;
use model::{AttachmentId, Connector, JobId, Volume};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Result};

/// The longest iSCSI name (RFC 7143 4.2.7.1), in bytes.
const NAME_MAX: usize = 223;

/// An initiator's name as the target compares it; `None` when it cannot be one.
pub(crate) fn initiator(connector: &Connector) -> Option<String> {
    // Lower case first: what is stored is what is compared, and must itself be a name.
    let name = connector.initiator()?.to_lowercase();
    let proper = name.len() <= NAME_MAX
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | ':' | '_'));
    proper.then_some(name)
}

/// Who needs an export, as its rows say.
pub(crate) fn holder(attachment: Option<AttachmentId>) -> String {
    attachment.map_or_else(|| db::export::CONNECTION.to_owned(), |id| id.to_string())
}

impl Cloud {
    /// Refuses a connector that lacks what the volume's backend needs.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] in Cinder's words.
    pub(crate) async fn check_connector(&self, volume: &Volume, connector: &Connector) -> Result<()> {
        let Some(place) = &volume.host else { return Ok(()) };
        let pools = db::pool::list(&mut self.db.read()).await?;
        let pool = pools.iter().find(|pool| pool.name == place.to_string());
        let iscsi = pool.is_some_and(|pool| pool.stats["storage_protocol"] == "iSCSI");
        if iscsi && initiator(connector).is_none() {
            let missing = "Connector doesn't have required information: initiator";
            return Err(Error::InvalidInput(missing.into()));
        }
        Ok(())
    }
}

/// Active jobs of an operation on a resource.
pub(crate) async fn active(from: &mut impl Read, operation: &str, resource: &str) -> db::Result<Vec<Job>> {
    let wanted =
        Wanted { resource_id: Some(resource.to_owned()), active: true, limit: 100, ..Wanted::default() };
    let mut jobs = db::job::list(from, &wanted).await?;
    jobs.retain(|job| job.operation == operation);
    Ok(jobs)
}

/// Who makes a change to a volume by a request.
pub(crate) fn by<'a>(context: &'a Context, volume: &'a Volume, job: Option<JobId>) -> db::event::By<'a> {
    db::event::By { job, request_id: Some(&context.request_id), project_id: volume.project_id.as_deref() }
}
