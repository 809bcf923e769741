//! Transfers of volumes, by both generations of paths.

use control::error::OverQuota;
use control::transfer::{Encrypted, NewTransfer};
use control::{Error, error};
use model::list::{Direction, ListQuery, Listed};
use model::{Secret, Transfer, TransferId};
use serde_json::Value;
use wire::microversion::{Behaviour, Resource};
use wire::read::Read;
use wire::{Object, transfer as shape, wrap};

use crate::answer::{Answer, Outcome};
use crate::call::{Call, Page};
use crate::fault::Fault;
use crate::list::TRANSFERS;

fn id(call: &Call) -> Result<TransferId, Fault> {
    call.id("id", error::Resource::Transfer)
}

/// How lists are ordered where the request does not say it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// As the request says, by newer versions.
    Asked,
    /// By age, always.
    Age,
}

/// `GET /volume-transfers`.
pub async fn list(call: Call) -> Outcome {
    let listed = listed(&call, Order::Asked).await?;
    page(&call, &listed, |transfer| shape::summary(transfer, &call.links))
}

/// `GET /volume-transfers/detail`.
pub async fn list_detail(call: Call) -> Outcome {
    let listed = listed(&call, Order::Asked).await?;
    page(&call, &listed, |transfer| shape::detail(transfer, &call.links))
}

/// `GET /os-volume-transfer`.
pub async fn old_list(call: Call) -> Outcome {
    let listed = listed(&call, Order::Age).await?;
    page(&call, &listed, |transfer| shape::summary(transfer, &call.links))
}

/// `GET /os-volume-transfer/detail`.
pub async fn old_list_detail(call: Call) -> Outcome {
    let listed = listed(&call, Order::Age).await?;
    page(&call, &listed, |transfer| shape::detail(transfer, &call.links))
}

async fn listed(call: &Call, order: Order) -> Result<Listed<Transfer>, Fault> {
    let mut query = call.list(&TRANSFERS)?;
    if order == Order::Age || !call.version.has(Behaviour::TransferPaging) {
        let sort = ["created_at", "id"].map(|key| (key.to_owned(), Direction::Ascending)).into();
        query = ListQuery { sort, marker: None, ..query };
    }
    Ok(call.edge.cloud.transfer_list(&call.context, &query).await?)
}

fn page(call: &Call, listed: &Listed<Transfer>, shape: impl Fn(&Transfer) -> Object) -> Outcome {
    let page = Page {
        key: "transfers",
        links: "transfers_links",
        path: shape::COLLECTION,
        resource: Some(Resource::Transfer),
    };
    Ok(Answer::json(call.page(page, listed, shape)?))
}

/// `POST /os-volume-transfer`: its schema does not know `no_snapshots`.
pub async fn old_create(call: Call) -> Outcome {
    let wanted = wanted(&call, Encrypted::Refused)?;
    made(&call, wanted).await
}

/// `POST /volume-transfers`.
pub async fn create(call: Call) -> Outcome {
    let allowed = call.version.has(Behaviour::TransferEncrypted);
    let wanted = wanted(&call, if allowed { Encrypted::Allowed } else { Encrypted::Refused })?;
    made(&call, wanted).await
}

fn wanted(call: &Call, encrypted: Encrypted) -> Result<NewTransfer, Fault> {
    let body = call.object("transfer");
    let missing = || Error::NotFound(error::Resource::Volume, body.text("volume_id").unwrap_or_default());
    Ok(NewTransfer {
        volume_id: body.id("volume_id").ok_or_else(missing)?,
        name: body.trimmed("name"),
        no_snapshots: body.flag("no_snapshots").unwrap_or(false),
        encrypted,
    })
}

async fn made(call: &Call, wanted: NewTransfer) -> Outcome {
    let (transfer, key) = call.edge.cloud.transfer_create(&call.context, wanted).await?;
    let shape = call.lower(Resource::Transfer, shape::created(&transfer, &key, &call.links));
    Ok(Answer::json(wrap("transfer", shape)))
}

/// `GET .../{id}`.
pub async fn show(call: Call) -> Outcome {
    let transfer = call.edge.cloud.transfer_show(&call.context, id(&call)?).await?;
    let shape = call.lower(Resource::Transfer, shape::detail(&transfer, &call.links));
    Ok(Answer::json(wrap("transfer", shape)))
}

/// `DELETE .../{id}`.
pub async fn delete(call: Call) -> Outcome {
    call.edge.cloud.transfer_delete(&call.context, id(&call)?).await?;
    Ok(Answer::bare())
}

/// `POST .../{id}/accept`.
pub async fn accept(call: Call) -> Outcome {
    let key = match call.object("accept").get("auth_key") {
        Some(Value::String(text)) => text.clone(),
        Some(number) => number.to_string(),
        None => String::new(),
    };
    let accepted = call.edge.cloud.transfer_accept(&call.context, id(&call)?, &Secret::new(key)).await;
    let transfer = accepted.map_err(over_quota)?;
    Ok(Answer::json(wrap("transfer", shape::summary(&transfer, &call.links))))
}

/// Too many gigabytes are told of here without the name of their class.
fn over_quota(error: Error) -> Fault {
    let gigabytes = matches!(error, Error::OverQuota(OverQuota::Gigabytes { .. }));
    let fault = Fault::from(error);
    let bare = fault.message.split_once(": ").map(|(_, text)| text.to_owned());
    match bare {
        Some(message) if gigabytes => Fault { message, ..fault },
        _ => fault,
    }
}
