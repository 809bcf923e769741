//! Version documents (api-routes.md 1).

use serde_json::{Value, json};

use crate::link::Links;
use crate::microversion::{UPDATED, Version};

/// `{"versions": [...]}`: the one major version there is.
pub fn document(links: &Links) -> Value {
    json!({"versions": [{
        "id": "v3.0",
        "status": "CURRENT",
        "version": Version::MAX.to_string(),
        "min_version": Version::MIN.to_string(),
        "updated": UPDATED,
        "links": [
            {"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/"},
            {"rel": "self", "href": links.root()},
        ],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}],
    }]})
}
