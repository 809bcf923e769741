//! Jobs, under `/cinderblock/v1`: what the service is doing, how far it is, and stopping it.

use control::error;
use control::job::JobView;
use control::request::ListJobs;
use model::JobId;
use serde_json::{Value, json};
use wire::{Object, job as shape, time, wrap};

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::fault::Fault;

fn id(call: &Call) -> Result<JobId, Fault> {
    call.id("id", error::Resource::Job)
}

fn one(view: &JobView) -> Answer {
    Answer::json(wrap("job", detail(view)))
}

fn detail(view: &JobView) -> Object {
    let waits = view.waits.as_ref().map(|waits| {
        json!({
            "for": waits.what,
            "message": waits.message,
            "lock": waits.lock,
            "job": waits.job,
            "until": time::or_null(waits.until),
        })
    });
    let about = shape::About {
        step: view.step,
        steps: &view.steps,
        can_be_cancelled: view.can_be_cancelled,
        waits: waits.unwrap_or_default(),
        decision: view.decision.as_ref(),
    };
    shape::detail(&view.job, &about)
}

/// `GET /jobs?resource_id=&active=&all_tenants=&limit=`, newest first.
pub async fn list(call: Call) -> Outcome {
    let wanted = ListJobs {
        every_project: call.query.flag("all_tenants")?,
        resource_id: call.query.get("resource_id").map(str::to_owned),
        active: call.query.flag("active")?,
        limit: call.limit()?,
    };
    let jobs = call.edge.cloud.job_list(&call.context, &wanted).await?;
    let list: Vec<Value> = jobs.iter().map(|view| Value::Object(detail(view))).collect();
    Ok(Answer::json(json!({"jobs": list})))
}

/// `GET /jobs/{id}`.
pub async fn show(call: Call) -> Outcome {
    Ok(one(&call.edge.cloud.job_show(&call.context, id(&call)?).await?))
}

/// `POST /jobs/{id}/cancel`: asks it to stop; whether and when it does, the job shows.
pub async fn cancel(call: Call) -> Outcome {
    Ok(one(&call.edge.cloud.job_cancel(&call.context, id(&call)?).await?))
}
