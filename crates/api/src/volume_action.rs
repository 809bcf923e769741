//! `POST /volumes/{id}/action`: one handler per action.

use control::request::{AttachVolume, DetachVolume, ExtendVolume, ForceDetachVolume, ResetVolume};
use model::volume::VolumeAttachStatus;
use model::{AttachMode, Connector, GiB, VolumeStatus};
use serde_json::Value;
use wire::microversion::Behaviour;
use wire::read::Read;
use wire::{Object, volume as shape};

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::fault::Fault;
use crate::volume::{id, metadata_answer};

/// `os-reserve`.
pub async fn reserve(call: Call) -> Outcome {
    call.edge.cloud.volume_reserve(&call.context, id(&call)?).await?;
    Ok(Answer::none())
}

/// `os-unreserve`.
pub async fn unreserve(call: Call) -> Outcome {
    call.edge.cloud.volume_unreserve(&call.context, id(&call)?).await?;
    Ok(Answer::none())
}

/// `os-begin_detaching`.
pub async fn begin_detaching(call: Call) -> Outcome {
    call.edge.cloud.volume_begin_detaching(&call.context, id(&call)?).await?;
    Ok(Answer::none())
}

/// `os-roll_detaching`.
pub async fn roll_detaching(call: Call) -> Outcome {
    call.edge.cloud.volume_roll_detaching(&call.context, id(&call)?).await?;
    Ok(Answer::none())
}

/// `os-attach`.
pub async fn attach(call: Call) -> Outcome {
    let body = call.object("os-attach");
    let wanted = AttachVolume {
        instance_uuid: body.text("instance_uuid"),
        host_name: body.text("host_name"),
        mountpoint: body.text("mountpoint").unwrap_or_default(),
        mode: mode(body).unwrap_or(AttachMode::ReadWrite),
    };
    call.edge.cloud.volume_attach(&call.context, id(&call)?, wanted).await?;
    Ok(Answer::none())
}

/// The attach mode that an object names.
pub fn mode(body: &Object) -> Option<AttachMode> {
    body.get("mode").and_then(Value::as_str).and_then(|text| text.parse().ok())
}

/// `os-detach`.
pub async fn detach(call: Call) -> Outcome {
    let wanted = DetachVolume { attachment_id: call.object("os-detach").id("attachment_id") };
    call.edge.cloud.volume_detach(&call.context, id(&call)?, wanted).await?;
    Ok(Answer::none())
}

/// `os-force_detach`.
pub async fn force_detach(call: Call) -> Outcome {
    let body = call.object("os-force_detach");
    let wanted = ForceDetachVolume { attachment_id: body.text("attachment_id"), connector: connector(body) };
    call.edge.cloud.volume_force_detach(&call.context, id(&call)?, wanted).await?;
    Ok(Answer::none())
}

/// The connector in an object, when it is an object itself.
pub fn connector(body: &Object) -> Option<Connector> {
    body.get("connector").and_then(Value::as_object).cloned().map(Connector)
}

/// `os-initialize_connection`.
pub async fn initialize_connection(call: Call) -> Outcome {
    // The schema admits a text for the sake of old clients, but no backend can connect to one.
    let connector = connector(call.object("os-initialize_connection")).ok_or_else(|| {
        Fault::bad_request(
            "Invalid input received: Connector doesn't have required information: it must be an object.",
        )
    })?;
    let enforce = connector.enforce_multipath();
    let info = call.edge.cloud.volume_initialize_connection(&call.context, id(&call)?, connector).await?;
    Ok(Answer::json(shape::connection(&info, enforce)))
}

/// `os-terminate_connection`.
pub async fn terminate_connection(call: Call) -> Outcome {
    let connector = connector(call.object("os-terminate_connection"));
    call.edge.cloud.volume_terminate_connection(&call.context, id(&call)?, connector).await?;
    Ok(Answer::none())
}

/// `os-extend`.
pub async fn extend(call: Call) -> Outcome {
    let new_size = GiB(call.object("os-extend").number("new_size").unwrap_or_default());
    let wanted = ExtendVolume { new_size, in_use: call.version.has(Behaviour::ExtendInUse) };
    call.edge.cloud.volume_extend(&call.context, id(&call)?, wanted).await?;
    Ok(Answer::none())
}

/// `os-extend_volume_completion`.
pub async fn extend_completion(call: Call) -> Outcome {
    call.edge.cloud.volume_extend_completion(&call.context, id(&call)?).await?;
    Ok(Answer::none())
}

/// `os-set_bootable`.
pub async fn set_bootable(call: Call) -> Outcome {
    let bootable = call.object("os-set_bootable").flag("bootable").unwrap_or_default();
    call.edge.cloud.volume_set_bootable(&call.context, id(&call)?, bootable).await?;
    Ok(Answer::none())
}

/// `os-update_readonly_flag`.
pub async fn set_readonly(call: Call) -> Outcome {
    let readonly = call.object("os-update_readonly_flag").flag("readonly").unwrap_or_default();
    call.edge.cloud.volume_set_readonly(&call.context, id(&call)?, readonly).await?;
    Ok(Answer::none())
}

/// `os-force_delete`.
pub async fn force_delete(call: Call) -> Outcome {
    call.edge.cloud.volume_force_delete(&call.context, id(&call)?).await?;
    Ok(Answer::none())
}

/// `os-reset_status`.
pub async fn reset_status(call: Call) -> Outcome {
    let body = call.object("os-reset_status");
    let lower = |key: &str| body.text(key).filter(|text| !text.is_empty()).map(|text| text.to_lowercase());
    let wanted = ResetVolume {
        status: lower("status").and_then(|text| text.parse::<VolumeStatus>().ok()),
        attach_status: lower("attach_status").and_then(|text| text.parse::<VolumeAttachStatus>().ok()),
        migration_status: lower("migration_status").map(|text| Some(text).filter(|text| text != "none")),
    };
    call.edge.cloud.volume_reset(&call.context, id(&call)?, wanted).await?;
    Ok(Answer::none())
}

/// `revert`.
pub async fn revert(call: Call) -> Outcome {
    let snapshot = call.object("revert").text("snapshot_id");
    call.edge.cloud.volume_revert(&call.context, id(&call)?, snapshot.as_deref()).await?;
    Ok(Answer::none())
}

/// `os-show_image_metadata`.
pub async fn show_image_metadata(call: Call) -> Outcome {
    Ok(metadata_answer(&call.edge.cloud.volume_image_metadata(&call.context, id(&call)?).await?))
}

/// `os-set_image_metadata`.
pub async fn set_image_metadata(call: Call) -> Outcome {
    let wanted = call.object("os-set_image_metadata").texts("metadata").unwrap_or_default();
    let all = call.edge.cloud.volume_image_metadata_set(&call.context, id(&call)?, &wanted).await?;
    Ok(metadata_answer(&all))
}

/// `os-unset_image_metadata`.
pub async fn unset_image_metadata(call: Call) -> Outcome {
    let key = call.object("os-unset_image_metadata").text("key").unwrap_or_default();
    call.edge.cloud.volume_image_metadata_unset(&call.context, id(&call)?, &key).await?;
    Ok(Answer::bare())
}
