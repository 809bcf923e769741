//! Jobs, under `/cinderblock/v1`: what the service is doing, how far it is, and stopping it.

use control::request::ListJobs;
use control::{error, job};
use model::JobId;
use model::job::Job;
use serde_json::{Value, json};
use wire::{job as shape, wrap};

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::fault::Fault;

fn id(call: &Call) -> Result<JobId, Fault> {
    call.id("id", error::Resource::Job)
}

fn one(job: &Job) -> Answer {
    Answer::json(wrap("job", shape::detail(job, job::step(job))))
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
    let list: Vec<Value> = jobs.iter().map(|job| Value::Object(shape::detail(job, job::step(job)))).collect();
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
