//! Jobs, under our own `/cinderblock/v1`.

use model::job::Job;

use crate::{Object, object, time};

/// A job; `step` is the one that runs or is next. Its request and what its steps found out stay inside: they may name what the caller must not see.
pub fn detail(job: &Job, step: Option<&str>) -> Object {
    object! {
        "id": job.id,
        "operation": job.operation,
        "resource_type": job.resource.kind,
        "resource_id": job.resource.id,
        "project_id": job.project_id,
        "user_id": job.user_id,
        "request_id": job.request_id,
        "state": job.state,
        "step": step,
        "steps_done": job.steps_done,
        "attempts": job.attempts,
        "progress": serde_json::json!({ "done": job.progress_done, "total": job.progress_total }),
        "cancel_requested": job.cancel_requested,
        "error": job.error,
        "queue": job.queue,
        "owner": job.owner,
        "epoch": job.epoch,
        "created_at": time::text(job.created_at),
        "started_at": time::or_null(job.started_at),
        "finished_at": time::or_null(job.finished_at),
    }
}
