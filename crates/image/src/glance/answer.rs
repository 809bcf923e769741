//! Images as Glance shows them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// An image's record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    pub id: String,
    pub name: Option<String>,
    /// `active` when its data is there.
    pub status: String,
    pub disk_format: Option<String>,
    pub container_format: Option<String>,
    /// Bytes of its data.
    pub size: Option<u64>,
    /// Bytes it holds when unpacked, as Glance believes.
    pub virtual_size: Option<u64>,
    /// GiB.
    pub min_disk: u64,
    /// MiB.
    pub min_ram: u64,
    /// The MD5 of its data.
    pub checksum: Option<String>,
    pub os_hash_algo: Option<String>,
    pub os_hash_value: Option<String>,
    pub visibility: Option<String>,
    pub owner: Option<String>,
    pub protected: bool,
    /// As Glance writes it; it changes with the record.
    pub updated_at: Option<String>,
    /// Everything beyond Glance's own fields.
    pub properties: BTreeMap<String, String>,
}

/// Glance's own fields; what is not among them is a property.
const OWN: &[&str] = &[
    "id",
    "name",
    "status",
    "disk_format",
    "container_format",
    "size",
    "virtual_size",
    "min_disk",
    "min_ram",
    "checksum",
    "os_hash_algo",
    "os_hash_value",
    "os_hidden",
    "visibility",
    "owner",
    "protected",
    "created_at",
    "updated_at",
    "tags",
    "self",
    "file",
    "schema",
    "locations",
    "direct_url",
    "stores",
];

pub(super) fn image(answer: &Value) -> Result<Image> {
    let record = answer.as_object().ok_or_else(|| unreadable("it is no image"))?;
    let text = |name: &str| record.get(name).and_then(Value::as_str).map(str::to_owned);
    let number = |name: &str| record.get(name).and_then(Value::as_u64);
    Ok(Image {
        id: text("id").ok_or_else(|| unreadable("the image has no id"))?,
        name: text("name"),
        status: text("status").ok_or_else(|| unreadable("the image has no status"))?,
        disk_format: text("disk_format"),
        container_format: text("container_format"),
        size: number("size"),
        virtual_size: number("virtual_size"),
        min_disk: number("min_disk").unwrap_or(0),
        min_ram: number("min_ram").unwrap_or(0),
        checksum: text("checksum"),
        os_hash_algo: text("os_hash_algo"),
        os_hash_value: text("os_hash_value"),
        visibility: text("visibility"),
        owner: text("owner"),
        protected: record.get("protected").and_then(Value::as_bool).unwrap_or(false),
        updated_at: text("updated_at"),
        properties: properties(record),
    })
}

pub(super) fn images(answer: &Value) -> Result<Vec<Image>> {
    let list = answer["images"].as_array().ok_or_else(|| unreadable("it is no list of images"))?;
    list.iter().map(image).collect()
}

fn properties(record: &Map<String, Value>) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    for (name, value) in record.iter().filter(|(name, _)| !OWN.contains(&name.as_str())) {
        match value {
            Value::Null => {}
            Value::String(text) => {
                properties.insert(name.clone(), text.clone());
            }
            other => {
                properties.insert(name.clone(), other.to_string());
            }
        }
    }
    properties
}

fn unreadable(what: &str) -> Error {
    Error::Unreadable(what.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_is_read_and_the_rest_are_properties() {
        let answer = json!({"id": "i", "status": "active", "size": 5, "min_disk": 1, "os_type": "linux", "x": null, "n": 3});
        let image = image(&answer).unwrap();
        assert_eq!((image.size, image.min_disk, image.virtual_size), (Some(5), 1, None));
        let wanted = [("n", "3"), ("os_type", "linux")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(image.properties, wanted.into());
        for wrong in
            [json!(null), json!([]), json!({}), json!({"id": "i"}), json!({"id": 1, "status": "active"})]
        {
            assert!(super::image(&wrong).is_err(), "{wrong}");
        }
    }
}
