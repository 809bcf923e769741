//! User messages.

use control::error;
use model::MessageId;
use model::list::ListQuery;
use wire::microversion::Behaviour;
use wire::{message as shape, wrap};

use crate::answer::{Answer, Outcome};
use crate::call::{Call, Page};
use crate::fault::Fault;
use crate::list::MESSAGES;

fn id(call: &Call) -> Result<MessageId, Fault> {
    call.id("id", error::Resource::Message)
}

/// `GET /messages`.
pub async fn list(call: Call) -> Outcome {
    let mut query = if call.version.has(Behaviour::MessagePaging) {
        call.list(&MESSAGES)?
    } else {
        ListQuery::all(Some(call.context.project_id.clone()))
    };
    // Administrators see everybody's without asking.
    if call.context.is_admin {
        query.project_id = None;
    }
    let listed = call.edge.cloud.message_list(&call.context, &query).await?;
    let page = Page { key: "messages", links: "messages_links", path: "messages", resource: None };
    Ok(Answer::json(call.page(page, &listed, |message| shape::detail(message, &call.links))?))
}

/// `GET /messages/{id}`.
pub async fn show(call: Call) -> Outcome {
    let message = call.edge.cloud.message_show(&call.context, id(&call)?).await?;
    Ok(Answer::json(wrap("message", shape::detail(&message, &call.links))))
}

/// `DELETE /messages/{id}`.
pub async fn delete(call: Call) -> Outcome {
    call.edge.cloud.message_delete(&call.context, id(&call)?).await?;
    Ok(Answer::bare())
}
