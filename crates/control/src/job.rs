//! Jobs as their owners and operators see them: how far they are, and what they wait for. Cinder has none, so that the personas of
//! its rules decide.

use std::collections::HashMap;
use std::ops::Deref;

use chrono::Utc;
use model::job::{Job, JobState};
use model::service::Service;
use model::{JobId, Time};
use serde::Serialize;
use serde_json::Value;

use crate::cloud::Cloud;
use crate::context::Context;
use crate::engine;
use crate::error::{Error, Resource, Result};
use crate::message::{self, Detail};
use crate::operations;
use crate::policy::Target;
use crate::request::ListJobs;
use crate::volume::visible;

/// A job with what can be said of it.
#[derive(Debug, Clone)]
pub struct JobView {
    pub job: Job,
    /// The step that runs, is next, or failed; `None` when there is none (any more).
    pub step: Option<&'static str>,
    /// All steps of its operation, in order.
    pub steps: Vec<&'static str>,
    /// Whether it may be asked to stop now.
    pub can_be_cancelled: bool,
    /// Why nobody works on it now; `None` when somebody does, or it has ended.
    pub waits: Option<Waits>,
    /// The scheduler's reasoning, for those who run the service.
    pub decision: Option<Value>,
}

impl Deref for JobView {
    type Target = Job;

    fn deref(&self) -> &Job {
        &self.job
    }
}

/// What a job waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waits {
    #[serde(rename = "for")]
    pub what: WaitsFor,
    /// In words.
    pub message: String,
    /// The lock's name.
    pub lock: Option<String>,
    /// The job that has the lock, or comes before this one; `None` when it is another project's.
    pub job: Option<JobId>,
    /// When it is tried again.
    pub until: Option<Time>,
}

/// The kinds of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitsFor {
    /// Another job's lock.
    Lock,
    /// The time of its next try: the last one met something that may pass.
    Retry,
    /// A service that is down.
    Service,
    /// Its turn.
    Turn,
}

const READER: &str = "xena_system_admin_or_project_reader";
const MEMBER: &str = "xena_system_admin_or_project_member";

impl Cloud {
    /// The caller's jobs (an administrator's: those asked for), newest first.
    ///
    /// # Errors
    /// Forbidden.
    pub async fn job_list(&self, context: &Context, wanted: &ListJobs) -> Result<Vec<JobView>> {
        self.require_persona(READER, context, Some(&context.project_id))?;
        let own = !(wanted.every_project && context.is_admin);
        let wanted = db::job::Wanted {
            project_id: own.then(|| context.project_id.clone()),
            resource_id: wanted.resource_id.clone(),
            active: wanted.active,
            limit: wanted.limit,
        };
        let jobs = db::job::list(&mut self.db.read(), &wanted).await?;
        self.seen(context, jobs).await
    }

    /// A job.
    ///
    /// # Errors
    /// Not there, another project's, or forbidden.
    pub async fn job_show(&self, context: &Context, id: JobId) -> Result<JobView> {
        let job = self.job_for(context, id, READER).await?;
        let view = self.seen(context, vec![job]).await?.pop();
        view.ok_or_else(|| Error::NotFound(Resource::Job, id.to_string()))
    }

    /// Jobs as their reader may see them.
    async fn seen(&self, context: &Context, jobs: Vec<Job>) -> Result<Vec<JobView>> {
        let waiting: Vec<JobId> = jobs.iter().filter(|job| is_ready(job)).map(|job| job.id).collect();
        let lease_us = self.settings.lease.as_micros() as i64;
        let read = &mut self.db.read();
        let mut blocked = HashMap::new();
        for one in db::job::blocked(read, &waiting, lease_us).await? {
            blocked.entry(one.job).or_insert(one);
        }
        let by: Vec<JobId> = blocked.values().map(|one| one.by).collect();
        let by: HashMap<JobId, Job> =
            db::job::get_all(read, &by).await?.into_iter().map(|job| (job.id, job)).collect();
        let services = if waiting.is_empty() { Vec::new() } else { self.all_services().await? };
        Ok(jobs
            .into_iter()
            .map(|job| {
                let waits = match blocked.get(&job.id) {
                    Some(one) => Some(waits_for_lock(context, one, by.get(&one.by))),
                    None => waits_otherwise(context, &job, &services),
                };
                view(context, job, waits)
            })
            .collect())
    }

    /// Asks a job to stop. It does so at its next step, and takes back what it did; the job shows when. Asking again is fine.
    ///
    /// # Errors
    /// Not there, forbidden, nothing that can be stopped half-way, or it has ended or failed.
    pub async fn job_cancel(&self, context: &Context, id: JobId) -> Result<JobView> {
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
        // As it is in the transaction that asked: what has failed is on its way back already, and ends as failed.
        let now = db::job::get(&mut tx, id).await?;
        if !job.cancel_requested && now.is_some_and(|now| has_failed(&now)) {
            return Err(Error::Conflict(format!(
                "Job {id} has failed and takes back what it did; it ends by itself."
            )));
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

/// Whether it only takes back what it did, never to begin again.
fn has_failed(job: &Job) -> bool {
    job.state == JobState::Undoing && job.data["failure"]["elsewhere"] != true
}

/// Whether nobody has it and it could be claimed as far as time goes.
fn is_ready(job: &Job) -> bool {
    is_unclaimed(job) && job.run_after <= Utc::now()
}

fn is_unclaimed(job: &Job) -> bool {
    let active = matches!(job.state, JobState::Queued | JobState::Running | JobState::Undoing);
    active && job.lease_until.is_none_or(|until| until < Utc::now())
}

fn waits_for_lock(context: &Context, blocked: &db::job::Blocked, by: Option<&Job>) -> Waits {
    let by = by.filter(|job| visible(context, job.project_id.as_deref()));
    let who = by.map_or_else(
        || "another job".to_owned(),
        |job| format!("job {} ({} of {} {})", job.id, job.operation, job.resource.kind, job.resource.id),
    );
    let message = if blocked.held {
        format!("{who} has the lock {}", blocked.lock)
    } else {
        format!("{who} waits for the lock {} and came earlier", blocked.lock)
    };
    let lock = Some(blocked.lock.clone());
    Waits { what: WaitsFor::Lock, message, lock, job: by.map(|job| job.id), until: None }
}

fn waits_otherwise(context: &Context, job: &Job, services: &[Service]) -> Option<Waits> {
    if !is_unclaimed(job) {
        return None;
    }
    let waits = |what, message| Waits { what, message, lock: None, job: None, until: None };
    if job.run_after > Utc::now() {
        let until = Some(job.run_after);
        let undo = &job.data[engine::UNDO];
        if let Some(step) = undo["step"].as_str() {
            let why = undo["error"].as_str().filter(|_| context.is_admin);
            let why = why.unwrap_or("a part of the service could not do it");
            let message =
                format!("what the step {step} did is taken back again after try {}: {why}", undo["tries"]);
            return Some(Waits { until, ..waits(WaitsFor::Retry, message) });
        }
        let busy = job.data["waits"]["busy"].as_str().map(str::to_owned);
        let error = job.error.clone().filter(|_| context.is_admin);
        let why = error.or(busy).unwrap_or_else(|| "a part of the service could not do it".into());
        let message = format!("tried again after attempt {}: {why}", job.attempts);
        return Some(Waits { until, ..waits(WaitsFor::Retry, message) });
    }
    let (binary, host) = job.queue.split_once('.').unwrap_or((&job.queue, ""));
    let mut known = services
        .iter()
        .filter(|one| one.binary == binary && (host.is_empty() || one.host == host))
        .peekable();
    if known.peek().is_some() && !known.any(|one| one.up) {
        let which = if context.is_admin && !host.is_empty() {
            format!("{binary} on {host}")
        } else {
            binary.to_owned()
        };
        return Some(waits(WaitsFor::Service, format!("the service {which} is down")));
    }
    Some(waits(
        WaitsFor::Turn,
        format!("to be taken up by {}", if context.is_admin { &job.queue } else { binary }),
    ))
}

/// A job as its reader may see it: which process carries it, where the scheduler put what and why, and what a backend said of a
/// failure, is for those who run the service.
fn view(context: &Context, mut job: Job, waits: Option<Waits>) -> JobView {
    let active = matches!(job.state, JobState::Queued | JobState::Running | JobState::Undoing);
    let can_be_cancelled = active
        && job.state != JobState::Undoing
        && !job.cancel_requested
        && operations::can_be_cancelled(&job.operation);
    let steps = operations::find(&job.operation)
        .map_or_else(Vec::new, |operation| operation.steps.iter().map(|step| step.name).collect());
    let step = step(&job);
    let failed = &job.data["failure"]["data"]["decision"];
    let decision = if failed.is_null() { &job.data["place"]["decision"] } else { failed };
    let decision = Some(decision.clone()).filter(|decision| context.is_admin && !decision.is_null());
    if !context.is_admin {
        job.owner = None;
        job.queue = String::new();
        if job.error.is_some() {
            let detail = job.data["failure"]["detail"].as_str().map_or(Detail::Unknown, Detail::named);
            job.error = Some(message::detail_text(detail).to_owned());
        }
    }
    JobView { job, step, steps, can_be_cancelled, waits, decision }
}

/// The name of the step that runs, is next, or failed.
fn step(job: &Job) -> Option<&'static str> {
    if matches!(job.state, JobState::Done | JobState::Cancelled) {
        return None;
    }
    let steps = operations::find(&job.operation)?.steps;
    if let Some(failed) = job.data["failure"]["step"].as_str() {
        return steps.iter().map(|step| step.name).find(|name| *name == failed);
    }
    let done = usize::try_from(job.steps_done).ok()?;
    steps.get(done).map(|step| step.name)
}
