//! Attachments as answers show them (api-routes-resources.md, attach-flow.md).

use model::{AttachMode, Attachment};
use serde_json::Value;

use crate::{Object, object, time};

/// What short lists and the answer to a deletion show.
pub fn summary(attachment: &Attachment) -> Object {
    object! {
        "id": attachment.id,
        "status": attachment.status,
        "instance": attachment.instance_uuid,
        "volume_id": attachment.volume_id,
    }
}

/// The long form. May hold a CHAP secret: for its owner only.
pub fn detail(attachment: &Attachment) -> Object {
    let mut shape = summary(attachment);
    shape.extend(object! {
        "attached_at": time::or_empty(attachment.attach_time),
        "detached_at": time::or_empty(attachment.detach_time),
        "attach_mode": attachment.mode.map(AttachMode::as_str),
        "connection_info": connection_info(attachment),
    });
    shape
}

/// The connection, flattened: the transport's fields beside its name.
fn connection_info(attachment: &Attachment) -> Value {
    let Some(info) = &attachment.connection_info else { return Value::Object(Object::new()) };
    let mut flat = info.data.clone();
    flat.insert("driver_volume_type".into(), info.driver_volume_type.clone().into());
    flat.insert("attachment_id".into(), attachment.id.to_string().into());
    let enforce = attachment.connector.as_ref().is_some_and(|connector| connector.enforce_multipath());
    flat.entry("enforce_multipath").or_insert(Value::Bool(enforce));
    Value::Object(flat)
}
