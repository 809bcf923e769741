//! Jobs, under our own `/cinderblock/v1`.

use model::job::Job;
use serde_json::Value;

use crate::{Object, object, time};

/// What is said of a job beyond its row.
#[derive(Debug, Clone, Default)]
pub struct About<'a> {
    /// The step that runs, is next, or failed.
    pub step: Option<&'a str>,
    /// All steps of its operation.
    pub steps: &'a [&'static str],
    pub can_be_cancelled: bool,
    /// Why nobody works on it now.
    pub waits: Value,
    /// The scheduler's reasoning.
    pub decision: Option<&'a Value>,
}

/// A job. Its request and what its steps found out stay inside: they may name what the caller must not see.
pub fn detail(job: &Job, about: &About<'_>) -> Object {
    object! {
        "id": job.id,
        "operation": job.operation,
        "resource_type": job.resource.kind,
        "resource_id": job.resource.id,
        "project_id": job.project_id,
        "user_id": job.user_id,
        "request_id": job.request_id,
        "state": job.state,
        "step": about.step,
        "steps": about.steps,
        "steps_done": job.steps_done,
        "attempts": job.attempts,
        "progress": serde_json::json!({ "done": job.progress_done, "total": job.progress_total }),
        "waits": about.waits,
        "can_be_cancelled": about.can_be_cancelled,
        "cancel_requested": job.cancel_requested,
        "scheduling": about.decision,
        "error": job.error,
        "queue": job.queue,
        "owner": job.owner,
        "epoch": job.epoch,
        "created_at": time::text(job.created_at),
        "started_at": time::or_null(job.started_at),
        "finished_at": time::or_null(job.finished_at),
    }
}
