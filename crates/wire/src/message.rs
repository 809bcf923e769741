//! User messages as answers show them (api-routes-admin.md).

use model::Message;

use crate::link::Links;
use crate::{Object, object, time};

/// A message.
pub fn detail(message: &Message, links: &Links) -> Object {
    let id = message.id.to_string();
    let mut shape = object! {
        "id": id,
        "event_id": message.event_id,
        "user_message": message.user_message,
        "message_level": message.level,
        "created_at": time::or_null(message.created_at),
        "guaranteed_until": time::or_null(message.expires_at),
        "request_id": message.request_id,
        "links": links.of("messages", &id),
    };
    let about = [("resource_type", &message.resource_type), ("resource_uuid", &message.resource_uuid)];
    shape.extend(about.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?.into()))));
    shape
}
