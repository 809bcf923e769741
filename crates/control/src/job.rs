//! Jobs as their owners and operators see them.

use model::JobId;
use model::job::{Job, JobState};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Resource, Result};
use crate::operations;
use crate::request::ListJobs;
use crate::volume::visible;

impl Cloud {
    /// The caller's jobs (an administrator's: those asked for), newest first.
    ///
    /// # Errors
    /// The database is away.
    pub async fn job_list(&self, context: &Context, wanted: &ListJobs) -> Result<Vec<Job>> {
        let own = !(wanted.every_project && context.is_admin);
        let wanted = db::job::Wanted {
            project_id: own.then(|| context.project_id.clone()),
            resource_id: wanted.resource_id.clone(),
            active: wanted.active,
            limit: wanted.limit,
        };
        Ok(db::job::list(&mut self.db.read(), &wanted).await?)
    }

    /// A job.
    ///
    /// # Errors
    /// Not there, or another project's.
    pub async fn job_show(&self, context: &Context, id: JobId) -> Result<Job> {
        let job = db::job::get(&mut self.db.read(), id).await?;
        job.filter(|job| visible(context, job.project_id.as_deref()))
            .ok_or_else(|| Error::NotFound(Resource::Job, id.to_string()))
    }

    /// Asks a job to stop. It does so at its next step, and takes back what it did; the job shows when.
    ///
    /// # Errors
    /// Not there, or it has ended.
    pub async fn job_cancel(&self, context: &Context, id: JobId) -> Result<Job> {
        self.job_show(context, id).await?;
        let mut tx = self.db.begin().await?;
        if !db::job::cancel(&mut tx, id).await? {
            return Err(Error::Conflict(format!("Job {id} has ended.")));
        }
        self.commit(tx).await?;
        self.job_show(context, id).await
    }
}

/// The name of the step that runs or is next; `None` when there is none (any more).
pub fn step(job: &Job) -> Option<&'static str> {
    if matches!(job.state, JobState::Done | JobState::Cancelled) {
        return None;
    }
    let done = usize::try_from(job.steps_done).ok()?;
    operations::find(&job.operation)?.steps.get(done).map(|step| step.name)
}
