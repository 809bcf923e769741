//! `cinderblock job`.

use std::time::{Duration, Instant};

use clap::Subcommand;

use super::Session;
use super::output::{or_dash, seconds};
use super::waiting::Bar;
use crate::job::Job;
use crate::{Error, Progress, Result};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What can be done with jobs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List jobs
    #[command(visible_alias = "ls")]
    List {
        /// That work or worked on this volume, snapshot, attachment or backup (its id)
        #[arg(long, value_name = "ID")]
        resource: Option<String>,
        /// In this state: queued, running, undoing, done, failed, cancelled
        #[arg(long)]
        state: Option<String>,
    },
    /// Show a job
    Show {
        /// Id
        job: String,
    },
    /// Stop a job; what it did so far is undone
    Cancel {
        /// Id
        job: String,
    },
    /// Follow a job to its end
    Watch {
        /// Id
        job: String,
        /// Watch at most this long
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        timeout: u64,
    },
}

impl Command {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let client = &session.client;
        match self {
            Self::List { resource, state } => {
                let mut jobs = match resource {
                    Some(resource) => client.jobs_of(&resource).await?,
                    None => client.jobs().await?,
                };
                jobs.retain(|job| state.as_ref().is_none_or(|state| *state == job.state));
                session.show_jobs(&jobs)
            }
            Self::Show { job } => session.show_job(&client.job(&job).await?),
            Self::Cancel { job } => client.cancel_job(&job).await,
            Self::Watch { job, timeout } => session.watch(&job, Duration::from_secs(timeout)).await,
        }
    }
}

impl Session {
    /// Follows a job with a bar; ends with an error when the job does.
    async fn watch(&self, id: &str, limit: Duration) -> Result<()> {
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut job = self.client.job(id).await?;
        let bar = Bar::new(format!("{} of {} {}", job.operation, job.resource_type, job.resource_id));
        while job.is_under_way() {
            if start.elapsed() > limit {
                bar.end();
                let seconds = limit.as_secs();
                return Err(Error::TimedOut { kind: "job", id: job.id, status: job.state, seconds });
            }
            bar.show(&Progress { status: job.state.clone(), job: Some(job) });
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
            job = self.client.job(id).await?;
        }
        bar.end();
        self.show_job(&job)?;
        if job.state == "done" {
            return Ok(());
        }
        Err(Error::Ended { kind: "job", id: job.id, status: job.state, reason: job.error })
    }

    fn show_jobs(&self, jobs: &[Job]) -> Result<()> {
        let header = ["id", "operation", "resource", "state", "step", "progress", "waits for", "created"];
        self.output.list(&header, jobs, |job| {
            vec![
                job.id.clone(),
                job.operation.clone(),
                format!("{} {}", job.resource_type, job.resource_id),
                job.state.clone(),
                or_dash(job.step.as_deref()),
                progress(job),
                or_dash(job.waits.as_ref().map(|waits| waits.message.as_str())),
                seconds(job.created_at.as_deref()),
            ]
        })
    }

    fn show_job(&self, job: &Job) -> Result<()> {
        let scheduling = job.scheduling.as_ref().map(|decision| decision.lines().join("\n"));
        let cancel = match (job.cancel_requested, job.can_be_cancelled) {
            (true, _) => "asked for",
            (false, true) => "possible",
            (false, false) => "-",
        };
        let fields = [
            ("id", job.id.clone()),
            ("operation", job.operation.clone()),
            ("resource", format!("{} {}", job.resource_type, job.resource_id)),
            ("state", job.state.clone()),
            ("step", step(job)),
            ("progress", progress(job)),
            ("attempts", job.attempts.to_string()),
            ("waits for", or_dash(job.waits.as_ref().map(|waits| waits.message.as_str()))),
            ("cancel", cancel.to_owned()),
            ("scheduling", or_dash(scheduling.as_deref())),
            ("error", or_dash(job.error.as_deref())),
            ("created", seconds(job.created_at.as_deref())),
            ("started", seconds(job.started_at.as_deref())),
            ("finished", seconds(job.finished_at.as_deref())),
        ];
        self.output.one(job, &fields)
    }
}

/// The step among all: `export (1 of 2)`.
fn step(job: &Job) -> String {
    let Some(step) = &job.step else { return "-".to_owned() };
    match job.steps.iter().position(|name| name == step) {
        Some(at) => format!("{step} ({} of {})", at + 1, job.steps.len()),
        None => step.clone(),
    }
}

/// What is done of how much; of a job that is done, how much it was.
fn progress(job: &Job) -> String {
    let total = indicatif::HumanBytes(job.progress.total);
    match job.progress.percent() {
        Some(_) if job.state == "done" => total.to_string(),
        Some(percent) => format!("{percent} % of {total}"),
        None => "-".to_owned(),
    }
}
