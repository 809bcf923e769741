//! The runner: claims jobs of a process's queues and carries each through its steps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use db::job::{Claimed, Next, Renewed};
use futures::FutureExt as _;
use model::job::{Claim, Job, JobState, Stop};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::{Act, At, Failure, FailureKind, LEFT, Operation, Step, UNDO, Work, fault};
use crate::bus::Listener;
use crate::cloud::Cloud;
use crate::node::Node;
use crate::operations;

/// What a runner is told.
#[derive(Debug, Clone)]
pub struct RunnerConfig {
    /// The queues whose jobs this process runs.
    pub queues: Vec<String>,
    /// Who claims: unique among running processes, the same after a restart of this one.
    pub owner: String,
    pub lease: Duration,
    /// Jobs at the same time.
    pub slots: usize,
    /// How often to look without having been rung.
    pub sweep: Duration,
}

/// Times a job is tried again after failures that may pass, before it counts as failed. Also tries to take back one step.
const ATTEMPTS: i32 = 30;

/// Tries to take back one step that fails with what does not pass by itself: enough to outlast a hiccup, not a quarter of an hour.
const HOPELESS_ATTEMPTS: i32 = 5;

/// How often a claimed job is looked at: for its progress, and for a request to stop it that rang in another process only.
const LOOK: Duration = Duration::from_secs(1);

/// Carries jobs.
#[derive(Debug)]
pub struct Runner {
    cloud: Cloud,
    node: Arc<Node>,
    config: RunnerConfig,
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Runner {
    /// A runner that is not running yet.
    pub fn new(cloud: Cloud, node: Arc<Node>, config: RunnerConfig) -> Self {
        let slots = Arc::new(Semaphore::new(config.slots));
        Self { cloud, node, config, slots, tasks: TaskTracker::new() }
    }

    /// Runs until told to stop, then until the jobs under way have come to the end of their step.
    pub async fn run(self, stop: CancellationToken) {
        let this = Arc::new(self);
        // What this process had claimed before it was restarted is its own to take up at once.
        if let Err(error) = db::job::release_owned(&this.cloud.db, &this.config.owner).await {
            tracing::error!(%error, "taking up earlier work");
        }
        let mut bell = this.cloud.bus.listen();
        loop {
            if let Err(error) = this.clone().claim_some(&stop).await {
                tracing::error!(%error, "looking for work");
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = bell.heard(|topic| this.config.queues.iter().any(|queue| queue == topic)) => {}
                () = tokio::time::sleep(this.config.sweep) => {}
            }
        }
        this.tasks.close();
        this.tasks.wait().await;
    }

    async fn claim_some(self: Arc<Self>, stop: &CancellationToken) -> db::Result<()> {
        if stop.is_cancelled() {
            return Ok(());
        }
        let lease_us = self.config.lease.as_micros() as i64;
        // Also with no slot free: what waits here keeps its place among those that want its locks.
        db::job::want(&self.cloud.db, &self.config.queues, lease_us).await?;
        let free = self.slots.available_permits() as u32;
        if free == 0 {
            return Ok(());
        }
        for id in db::job::claimable(&self.cloud.db, &self.config.queues, free, lease_us).await? {
            let Ok(permit) = self.slots.clone().try_acquire_owned() else { break };
            let asked = Instant::now();
            match db::job::claim(&self.cloud.db, id, &self.config.owner, lease_us).await {
                Ok(Claimed::Yes(job)) => {
                    let claim = Claim::new(id, job.epoch, self.config.lease);
                    claim.renew(asked, self.config.lease);
                    if job.cancel_requested {
                        claim.cancel();
                    }
                    if job.attempts == 1 {
                        let operation = job.operation.clone();
                        metrics::histogram!("cinderblock_job_wait_seconds", "operation" => operation)
                            .record(age(&job));
                    }
                    let (this, stop) = (self.clone(), stop.clone());
                    self.tasks.spawn(async move {
                        this.carry(*job, claim, stop).await;
                        drop(permit);
                        // A slot is free: there may be more.
                        this.cloud.bus.ring(&this.config.queues[0]);
                    });
                }
                Ok(Claimed::Waits { lock }) => {
                    metrics::counter!("cinderblock_lock_waits_total").increment(1);
                    tracing::debug!(job_id = %id, lock, "waits for a lock");
                }
                Ok(Claimed::No) => {}
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn carry(&self, job: Job, claim: Claim, stop: CancellationToken) {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let span = tracing::info_span!("job", request_id = text(&job.request_id), user_id = text(&job.user_id),
            project_id = text(&job.project_id), job_id = %job.id, operation = %job.operation,
            resource = %job.resource.id, epoch = job.epoch);
        let carried = async {
            let renewing = self.renew(&claim);
            let working = self.work(job, &claim, &stop);
            tokio::select! {
                () = renewing => tracing::warn!("the claim was lost; another may carry the job on"),
                () = working => {}
            }
        };
        carried.instrument(span).await;
    }

    /// Renews the lease until it is lost.
    async fn renew(&self, claim: &Claim) {
        let lease_us = self.config.lease.as_micros() as i64;
        let mut reported = (0, 0);
        let mut bell = self.cloud.bus.listen();
        loop {
            self.nap(claim, reported, &mut bell).await;
            if claim.left().is_zero() {
                return;
            }
            let asked = Instant::now();
            reported = claim.progress();
            match db::job::renew(&self.cloud.db, claim.job, claim.epoch, lease_us, reported).await {
                Ok(Renewed::Yes { cancel_requested }) => {
                    claim.renew(asked, self.config.lease);
                    if cancel_requested {
                        claim.cancel();
                    }
                }
                Ok(Renewed::Lost) => {
                    claim.lose();
                    return;
                }
                Err(error) => tracing::warn!(%error, "renewing a lease"),
            }
        }
    }

    /// Waits until the lease is to be renewed, and heeds a request to stop meanwhile. Progress is written at most once a second, the
    /// lease every quarter of it.
    async fn nap(&self, claim: &Claim, reported: (u64, u64), bell: &mut Listener) {
        let until = Instant::now() + self.config.lease / 4;
        let topic = db::job::cancel_topic(claim.job);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let looks = tokio::select! {
                () = bell.heard(|rung| rung == topic) => false,
                // Rings of other processes may not reach us.
                () = tokio::time::sleep(LOOK.min(left)) => true,
            };
            if looks && (Instant::now() >= until || claim.progress() != reported) {
                return;
            }
            if claim.check().is_ok() {
                match db::job::is_cancelled(&mut self.cloud.db.read(), claim.job).await {
                    Ok(true) => claim.cancel(),
                    Ok(false) => {}
                    Err(error) => tracing::warn!(%error, "looking at a job"),
                }
            }
        }
    }

    async fn work(&self, job: Job, claim: &Claim, stop: &CancellationToken) {
        let Some(operation) = operations::find(&job.operation) else {
            tracing::error!("no such operation in this version");
            return;
        };
        let mut run = Run { runner: self, operation, job, claim };
        if let Err(failure) = run.carry_on(stop).await {
            tracing::warn!(error = failure.message, "stopped: the job stays for its next claim");
        }
    }
}

/// One claim's run of one job.
struct Run<'r> {
    runner: &'r Runner,
    operation: &'static Operation,
    job: Job,
    claim: &'r Claim,
}

impl Run<'_> {
    fn work(&self) -> Work {
        Work {
            cloud: self.runner.cloud.clone(),
            node: self.runner.node.clone(),
            job: Arc::new(self.job.clone()),
            claim: self.claim.clone(),
        }
    }

    /// Runs until the job ends, moves to another queue, or the claim is lost (`Err`).
    async fn carry_on(&mut self, stop: &CancellationToken) -> Result<(), Failure> {
        if self.job.state == JobState::Undoing {
            let failure = Failure::permanent(self.job.error.clone().unwrap_or_default());
            return self.undo(failure).await;
        }
        while let Some(step) = self.operation.steps.get(self.job.steps_done as usize) {
            match self.hand_over(step).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(failure) => return self.failed(failure).await,
            }
            fault::point(self.operation.name, step.name, "before");
            match self.step(step).await {
                Ok(()) => {}
                Err(failure) => return self.failed(failure).await,
            }
            fault::point(self.operation.name, step.name, "recorded");
            if stop.is_cancelled() && (self.job.steps_done as usize) < self.operation.steps.len() {
                // Draining: the next step belongs to the next claim.
                return self
                    .leave(Next::Later { delay_us: 0, error: "the service was stopped".into() })
                    .await;
            }
        }
        match self.finish().await {
            Ok(()) => Ok(()),
            Err(failure) => self.failed(failure).await,
        }
    }

    async fn hand_over(&mut self, step: &Step) -> Result<bool, Failure> {
        let queue = self.runner.cloud.queue_of(step.at, &self.job).await?;
        if self.runner.config.queues.contains(&queue) {
            return Ok(false);
        }
        self.leave(Next::Queue(queue)).await?;
        Ok(true)
    }

    async fn leave(&mut self, next: Next) -> Result<(), Failure> {
        let mut tx = self.runner.cloud.db.begin().await?;
        db::job::advance(&mut tx, &self.job, next).await?;
        self.runner.cloud.commit(tx).await?;
        Ok(())
    }

    /// Runs a step and records it as complete.
    async fn step(&mut self, step: &Step) -> Result<(), Failure> {
        if let Err(stop) = self.claim.check() {
            let begun = self.job.attempts > 1 || self.job.steps_done > 0;
            return Err(Failure { data: serde_json::json!({ "begun": begun }), ..Failure::from(stop) });
        }
        if fault::fails(self.operation.name, step.name) {
            return Err(Failure::permanent("this step was told to fail"));
        }
        let work = self.work();
        let started = Instant::now();
        let cloud = &self.runner.cloud;
        let lease_us = self.runner.config.lease.as_micros() as i64;
        let (mut tx, output) = match step.act {
            Act::Do(act) => {
                let output = guarded(act(&work)).await?;
                fault::point(self.operation.name, step.name, "after");
                (cloud.db.begin().await?, output)
            }
            Act::Record(act) => {
                let mut tx = cloud.db.begin().await?;
                let output = guarded(act(&work, &mut tx)).await?;
                fault::point(self.operation.name, step.name, "after");
                (tx, output)
            }
        };
        drop(work);
        self.claim.check()?;
        let mut job = self.job.clone();
        job.steps_done += 1;
        if let Some(data) = job.data.as_object_mut() {
            data.insert(step.name.to_owned(), output);
        }
        let asked = Instant::now();
        db::job::advance(&mut tx, &job, Next::Stay { lease_us }).await?;
        cloud.commit(tx).await?;
        self.claim.renew(asked, self.runner.config.lease);
        self.job = job;
        let took = started.elapsed();
        let (operation, name) = (self.operation.name, step.name);
        metrics::histogram!("cinderblock_job_step_seconds", "operation" => operation, "step" => name)
            .record(took);
        tracing::debug!(step = name, duration_ms = took.as_secs_f64() * 1e3, "step complete");
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Failure> {
        fault::point(self.operation.name, "finish", "before");
        let work = self.work();
        let mut tx = self.runner.cloud.db.begin().await?;
        // Held until the transaction ends: who asks it to stop is either heeded or told that it has ended.
        db::job::fence(&mut tx, &self.job).await?;
        if db::job::is_cancelled(&mut tx, self.job.id).await? {
            return Err(Stop::Cancelled.into());
        }
        (self.operation.finish)(&work, &mut tx).await?;
        db::job::finish(&mut tx, &self.job, JobState::Done, None).await?;
        self.claim.check()?;
        self.runner.cloud.commit(tx).await?;
        fault::point(self.operation.name, "finish", "after");
        self.ended(JobState::Done);
        Ok(())
    }

    async fn failed(&mut self, failure: Failure) -> Result<(), Failure> {
        match failure.kind {
            FailureKind::Lost => Err(failure),
            FailureKind::Again if self.job.attempts < ATTEMPTS => {
                let delay = Duration::from_millis(100 << self.job.attempts.min(7));
                tracing::info!(error = failure.message, ?delay, "will be tried again");
                metrics::counter!("cinderblock_job_retries_total", "operation" => self.operation.name)
                    .increment(1);
                if let Some(data) = self.job.data.as_object_mut() {
                    data.insert("waits".into(), failure.data);
                }
                self.leave(Next::Later { delay_us: delay.as_micros() as i64, error: failure.message }).await
            }
            FailureKind::Cancelled => {
                tracing::info!("cancelled: taking back what was done");
                self.turn_round(&failure).await?;
                self.undo(failure).await
            }
            _ => {
                tracing::error!(error = failure.message, "failed");
                self.turn_round(&failure).await?;
                self.undo(failure).await
            }
        }
    }

    async fn turn_round(&mut self, failure: &Failure) -> Result<(), Failure> {
        let mut tx = self.runner.cloud.db.begin().await?;
        let mut job = self.job.clone();
        let step = self.operation.steps.get(job.steps_done as usize).map(|step| step.name);
        // The step that failed may have begun: it is undone too.
        job.steps_done = (job.steps_done + 1).min(self.operation.steps.len() as i32);
        if let Some(data) = job.data.as_object_mut() {
            data.insert(
                "failure".into(),
                serde_json::json!({
                    "cancelled": failure.kind == FailureKind::Cancelled,
                    "elsewhere": failure.kind == FailureKind::Elsewhere,
                    "detail": failure.detail.id(),
                    "data": failure.data,
                    "step": step,
                }),
            );
        }
        db::job::begin_undo(&mut tx, &job, &failure.message).await?;
        job.state = JobState::Undoing;
        let lease_us = self.runner.config.lease.as_micros() as i64;
        db::job::advance(&mut tx, &job, Next::Stay { lease_us }).await?;
        self.runner.cloud.commit(tx).await?;
        job.error = Some(failure.message.clone());
        self.job = job;
        Ok(())
    }

    /// Takes back the steps in reverse, then ends the job as failed. A step that cannot be taken back is left: the resource ends in
    /// its error state with what is left still its own, to be removed with it.
    async fn undo(&mut self, failure: Failure) -> Result<(), Failure> {
        while self.job.steps_done > 0 {
            let step = &self.operation.steps[self.job.steps_done as usize - 1];
            if let Some(undo) = step.undo {
                if self.hand_over(step).await? {
                    return Ok(());
                }
                fault::point(self.operation.name, step.name, "undo");
                // A cancelled claim still has to clean up.
                let work = Work { claim: self.claim.for_undo(), ..self.work() };
                if let Err(error) = guarded(undo(&work)).await {
                    if error.kind == FailureKind::Lost {
                        return Err(error);
                    }
                    if let Some(delay) = self.undo_failed(step, &error) {
                        let delay_us = delay.as_micros() as i64;
                        return self.leave(Next::Later { delay_us, error: failure.message }).await;
                    }
                }
            }
            self.job.steps_done -= 1;
            if let Some(data) = self.job.data.as_object_mut() {
                data.remove(UNDO);
            }
            let lease_us = self.runner.config.lease.as_micros() as i64;
            self.leave(Next::Stay { lease_us }).await?;
        }
        if self.job.data["failure"]["elsewhere"].as_bool().unwrap_or(false) && self.job.data[LEFT].is_null() {
            return self.again_elsewhere().await;
        }
        self.fail(failure).await
    }

    /// Notes that a step could not be taken back: how long until the next try, or `None` after the last.
    fn undo_failed(&mut self, step: &Step, error: &Failure) -> Option<Duration> {
        let tries = self.job.data[UNDO]["tries"].as_i64().unwrap_or(0) as i32 + 1;
        let most = if error.kind == FailureKind::Again { ATTEMPTS } else { HOPELESS_ATTEMPTS };
        let data = self.job.data.as_object_mut()?;
        if tries < most {
            let delay = Duration::from_millis(250 << tries.min(7));
            tracing::warn!(
                step = step.name,
                error = error.message,
                tries,
                ?delay,
                "could not be taken back yet"
            );
            let note = serde_json::json!({ "step": step.name, "tries": tries, "error": error.message });
            data.insert(UNDO.into(), note);
            return Some(delay);
        }
        tracing::error!(step = step.name, error = error.message, tries, "could not be taken back");
        metrics::counter!("cinderblock_job_steps_left_total", "operation" => self.operation.name)
            .increment(1);
        let left = data.entry(LEFT).or_insert_with(|| serde_json::json!({}));
        left[step.name] = error.message.clone().into();
        None
    }

    /// Begins again from the first step; what was tried is remembered.
    async fn again_elsewhere(&mut self) -> Result<(), Failure> {
        let mut job = self.job.clone();
        if let Some(data) = job.data.as_object_mut() {
            let tried = data.remove("failure").map(|mut failure| failure["data"].take()).unwrap_or_default();
            let mut all = data.remove("tried").and_then(|all| all.as_array().cloned()).unwrap_or_default();
            all.push(tried);
            data.clear();
            data.insert("tried".into(), all.into());
        }
        let first = self.operation.steps.first().map_or(At::Scheduler, |step| step.at);
        let queue = self.runner.cloud.queue_of(first, &job).await?;
        let mut tx = self.runner.cloud.db.begin().await?;
        db::job::restart(&mut tx, &job, &queue).await?;
        self.runner.cloud.commit(tx).await?;
        tracing::info!("tried again elsewhere");
        Ok(())
    }

    async fn fail(&mut self, mut failure: Failure) -> Result<(), Failure> {
        let known = &self.job.data["failure"];
        let cancelled = known["cancelled"].as_bool().unwrap_or(false);
        if let Some(detail) = known["detail"].as_str() {
            failure.detail = crate::message::Detail::named(detail);
        }
        // Who cancelled knows why it ended, not that something is left.
        let clean = self.job.data[LEFT].is_null();
        failure.kind = if cancelled && clean { FailureKind::Cancelled } else { FailureKind::Permanent };
        for (step, error) in self.job.data[LEFT].as_object().into_iter().flatten() {
            let error = error.as_str().unwrap_or_default();
            failure.message += &format!("; what the step {step} did could not be taken back: {error}");
        }
        let work = self.work();
        let mut tx = self.runner.cloud.db.begin().await?;
        (self.operation.fail)(&work, &mut tx, &failure).await?;
        let state = if cancelled { JobState::Cancelled } else { JobState::Failed };
        db::job::finish(&mut tx, &self.job, state, Some(&failure.message)).await?;
        self.claim.check().or_else(|stop| match stop {
            Stop::Cancelled => Ok(()),
            lost @ Stop::LeaseLost => Err(lost),
        })?;
        self.runner.cloud.commit(tx).await?;
        self.ended(state);
        Ok(())
    }

    fn ended(&self, state: JobState) {
        let (operation, seconds) = (self.operation.name, age(&self.job));
        metrics::histogram!("cinderblock_job_seconds", "operation" => operation, "outcome" => state.as_str())
            .record(seconds);
        tracing::info!(
            outcome = state.as_str(),
            attempts = self.job.attempts,
            duration_ms = seconds * 1e3,
            "job ended"
        );
    }
}

/// A step's act or undo; one that panics has failed, as its next run would.
async fn guarded<T>(act: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match std::panic::AssertUnwindSafe(act).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Err(Failure::permanent(format!("a fault in the program: {text}")))
        }
    }
}

/// Seconds since a job was made; this machine's clock and the database's may differ a little.
fn age(job: &Job) -> f64 {
    (chrono::Utc::now() - job.created_at).as_seconds_f64().max(0.0)
}
