//! Jobs as their owners and operators see them. Cinder has none, so that the personas of its rules decide.

use model::JobId;
use model::job::{Job, JobState};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Resource, Result};
use crate::message::{self, Detail};
use crate::operations;
use crate::policy::Target;
use crate::request::ListJobs;
use crate::volume::visible;

const READER: &str = "xena_system_admin_or_project_reader";
const MEMBER: &str = "xena_system_admin_or_project_member";

impl Cloud {
    /// The caller's jobs (an administrator's: those asked for), newest first.
    ///
    /// # Errors
    /// Forbidden.
    pub async fn job_list(&self, context: &Context, wanted: &ListJobs) -> Result<Vec<Job>> {
        self.require_persona(READER, context, Some(&context.project_id))?;
        let own = !(wanted.every_project && context.is_admin);
        let wanted = db::job::Wanted {
            project_id: own.then(|| context.project_id.clone()),
            resource_id: wanted.resource_id.clone(),
            active: wanted.active,
            limit: wanted.limit,
        };
        let jobs = db::job::list(&mut self.db.read(), &wanted).await?;
        Ok(jobs.into_iter().map(|job| shown(context, job)).collect())
    }

    /// A job.
    ///
    /// # Errors
    /// Not there, another project's, or forbidden.
    pub async fn job_show(&self, context: &Context, id: JobId) -> Result<Job> {
        Ok(shown(context, self.job_for(context, id, READER).await?))
    }

    /// Asks a job to stop. It does so at its next step, and takes back what it did; the job shows when. Asking again is fine.
    ///
    /// # Errors
    /// Not there, forbidden, nothing that can be stopped half-way, or it has ended.
    pub async fn job_cancel(&self, context: &Context, id: JobId) -> Result<Job> {
        let job = self.job_for(context, id, MEMBER).await?;
        if !operations::can_be_cancelled(&job.operation) {
            return Err(Error::Conflict(format!(
                "Job {id} cannot be cancelled: {} runs to its end.",
                job.operation
            )));
        }
        let mut tx = self.db.begin().await?;
        if !db::job::cancel(&mut tx, id).await? {
            return Err(Error::Conflict(format!("Job {id} has ended.")));
        }
        self.commit(tx).await?;
        self.job_show(context, id).await
    }

    async fn job_for(&self, context: &Context, id: JobId, persona: &'static str) -> Result<Job> {
        let job = db::job::get(&mut self.db.read(), id).await?;
        let job = job
            .filter(|job| visible(context, job.project_id.as_deref()))
            .ok_or_else(|| Error::NotFound(Resource::Job, id.to_string()))?;
        self.require_persona(persona, context, job.project_id.as_deref())?;
        Ok(job)
    }

    fn require_persona(
        &self,
        persona: &'static str,
        context: &Context,
        project_id: Option<&str>,
    ) -> Result<()> {
        if self.policy.allows_rule(persona, context, &Target { project_id, ..Target::default() }) {
            return Ok(());
        }
        Err(Error::Forbidden(persona.to_owned()))
    }
}

/// A job as its reader may see it: which process carries it, and what a backend said of a failure, is for those who run the service.
fn shown(context: &Context, mut job: Job) -> Job {
    if context.is_admin {
        return job;
    }
    job.owner = None;
    job.queue = String::new();
    if job.error.is_some() {
        let detail = job.data["failure"]["detail"].as_str().map_or(Detail::Unknown, Detail::named);
        job.error = Some(message::detail_text(detail).to_owned());
    }
    job
}

/// The name of the step that runs or is next; `None` when there is none (any more).
pub fn step(job: &Job) -> Option<&'static str> {
    if matches!(job.state, JobState::Done | JobState::Cancelled) {
        return None;
    }
    let done = usize::try_from(job.steps_done).ok()?;
    operations::find(&job.operation)?.steps.get(done).map(|step| step.name)
}
