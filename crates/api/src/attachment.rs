//! Attachments: who uses a volume (attach-flow.md).

use control::error;
use control::request::NewAttachment;
use model::{Attachment, AttachmentId};
use serde_json::{Value, json};
use wire::microversion::Resource;
use wire::read::Read;
use wire::{attachment as shape, wrap};

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::fault::Fault;
use crate::list::ATTACHMENTS;
use crate::volume_action::{connector, mode};

fn id(call: &Call) -> Result<AttachmentId, Fault> {
    call.id("id", error::Resource::Attachment)
}

fn one(attachment: &Attachment) -> Answer {
    Answer::json(wrap("attachment", shape::detail(attachment)))
}

async fn listed(call: &Call) -> Result<Vec<Attachment>, Fault> {
    // No link leads to a next page: Cinder gives none either.
    Ok(call.edge.cloud.attachment_list(&call.context, &call.list(&ATTACHMENTS)?).await?.items)
}

fn list_answer(attachments: &[Attachment], shape: fn(&Attachment) -> wire::Object) -> Answer {
    let list: Vec<Value> = attachments.iter().map(|one| Value::Object(shape(one))).collect();
    Answer::json(json!({"attachments": list}))
}

/// `GET /attachments`.
pub async fn list(call: Call) -> Outcome {
    Ok(list_answer(&listed(&call).await?, shape::summary))
}

/// `GET /attachments/detail`.
pub async fn list_detail(call: Call) -> Outcome {
    Ok(list_answer(&listed(&call).await?, shape::detail))
}

/// `GET /attachments/summary`: Cinder routes it to nothing.
pub async fn nothing(_: Call) -> Outcome {
    Err(Fault::generic(404))
}

/// `GET /attachments/{id}`.
pub async fn show(call: Call) -> Outcome {
    Ok(one(&call.edge.cloud.attachment_show(&call.context, id(&call)?).await?))
}

/// `POST /attachments`.
pub async fn create(call: Call) -> Outcome {
    let body = call.object("attachment");
    let wanted = NewAttachment {
        volume_id: body.id("volume_uuid").ok_or_else(|| Fault::generic(400))?,
        instance_uuid: body.text("instance_uuid"),
        connector: connector(body),
        mode: mode(body).filter(|_| call.version.accepts(Resource::Attachment, "mode")),
    };
    Ok(one(&call.edge.cloud.attachment_create(&call.context, wanted).await?))
}

/// `PUT /attachments/{id}`.
pub async fn update(call: Call) -> Outcome {
    let connector = connector(call.object("attachment")).ok_or_else(|| Fault::generic(400))?;
    Ok(one(&call.edge.cloud.attachment_update(&call.context, id(&call)?, connector).await?))
}

/// `DELETE /attachments/{id}`: answers the attachments that are left.
pub async fn delete(call: Call) -> Outcome {
    let left = call.edge.cloud.attachment_delete(&call.context, id(&call)?).await?;
    Ok(list_answer(&left, shape::summary))
}

/// `os-complete`.
pub async fn complete(call: Call) -> Outcome {
    call.edge.cloud.attachment_complete(&call.context, id(&call)?).await?;
    Ok(Answer::none())
}
