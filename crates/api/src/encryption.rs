//! The encryption of volume types, and of volumes as hosts need to know it.

use control::encryption::{Changes, NewEncryption};
use control::error;
use model::encryption::ControlLocation;
use model::{TypeId, VolumeId};
use serde_json::{Value, json};
use wire::encryption as shape;
use wire::read::Read;
use wire::{Object, wrap};

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::fault::Fault;

fn type_id(call: &Call) -> Result<TypeId, Fault> {
    call.id("type_id", error::Resource::VolumeType)
}

/// `GET /types/{type_id}/encryption`.
pub async fn show(call: Call) -> Outcome {
    let encryption = call.edge.cloud.encryption_show(&call.context, type_id(&call)?).await?;
    Ok(Answer::json(encryption.as_ref().map(shape::of_type).unwrap_or_default()))
}

/// `GET /types/{type_id}/encryption/{key}`.
pub async fn show_key(call: Call) -> Outcome {
    let id = type_id(&call)?;
    let encryption = call.edge.cloud.encryption_show(&call.context, id).await?;
    let (key, shape) = (call.param("key"), encryption.as_ref().map(shape::of_type).unwrap_or_default());
    let missing = || Fault::not_found(format!("Volume type encryption for type {id} does not exist."));
    let value = shape.get(key).ok_or_else(missing)?;
    Ok(Answer::json(json!({ key: value })))
}

/// `POST /types/{type_id}/encryption`: answers what was asked for, and the ids.
pub async fn create(call: Call) -> Outcome {
    let body = call.object("encryption");
    let wanted = NewEncryption {
        provider: body.text("provider").unwrap_or_default(),
        control_location: location(body).unwrap_or(ControlLocation::FrontEnd),
        cipher: body.text("cipher"),
        key_size: body.number("key_size"),
    };
    let id = type_id(&call)?;
    let made = call.edge.cloud.encryption_create(&call.context, id, wanted).await?;
    let mut echo = echo(body);
    echo.insert("volume_type_id".into(), json!(id));
    echo.insert("encryption_id".into(), json!(made));
    Ok(Answer::json(wrap("encryption", echo)))
}

/// `PUT /types/{type_id}/encryption/{id}`: answers what was asked for. A type has one encryption at most, whatever the id.
pub async fn update(call: Call) -> Outcome {
    let body = call.object("encryption");
    let changes = Changes {
        provider: body.text("provider"),
        control_location: location(body),
        cipher: body.get("cipher").map(|cipher| cipher.as_str().map(str::to_owned)),
        key_size: body.contains_key("key_size").then(|| body.number("key_size")),
    };
    call.edge.cloud.encryption_update(&call.context, type_id(&call)?, &changes).await?;
    Ok(Answer::json(wrap("encryption", echo(body))))
}

/// `DELETE /types/{type_id}/encryption/{id}`. As for updates, the id does not matter.
pub async fn delete(call: Call) -> Outcome {
    call.edge.cloud.encryption_delete(&call.context, type_id(&call)?).await?;
    Ok(Answer::bare())
}

/// `GET /volumes/{id}/encryption`.
pub async fn of_volume(call: Call) -> Outcome {
    Ok(Answer::json(metadata(&call).await?))
}

/// `GET /volumes/{id}/encryption/{key}`: the bare value.
pub async fn of_volume_key(call: Call) -> Outcome {
    let shape = metadata(&call).await?;
    match shape.get(call.param("key")) {
        Some(Value::Null) => Ok(Answer::none()),
        Some(Value::String(text)) => Ok(Answer::text(text.clone())),
        Some(value) => Ok(Answer::text(value.to_string())),
        // Cinder fails (500) over a key that is not there.
        None => Err(Fault::generic(404)),
    }
}

async fn metadata(call: &Call) -> Result<Object, Fault> {
    let id: VolumeId = call.id("id", error::Resource::Volume)?;
    let (volume, encryption) = call.edge.cloud.volume_encryption(&call.context, id).await?;
    Ok(shape::of_volume(&volume, encryption.as_ref()))
}

fn location(body: &Object) -> Option<ControlLocation> {
    body.get("control_location").and_then(Value::as_str).and_then(|text| text.parse().ok())
}

/// The request again, a size in digits as the number that it is.
fn echo(body: &Object) -> Object {
    let mut echo = body.clone();
    if let Some(size) = body.number("key_size") {
        echo.insert("key_size".into(), size.into());
    }
    echo
}
