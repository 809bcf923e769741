//! Volume types: what volumes of a kind have in common, and which backends take them.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::connection::segment;
use crate::list::find;
use crate::{Client, Extra, Query, Result};

/// A volume type.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VolumeType {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub is_public: bool,
    #[serde(default)]
    pub extra_specs: BTreeMap<String, Option<String>>,
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a new type shall be.
#[derive(Debug, Clone)]
pub struct NewVolumeType {
    pub name: String,
    pub description: Option<String>,
    pub is_public: bool,
    pub extra_specs: BTreeMap<String, String>,
}

/// What of a type shall change.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VolumeTypeChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_public: Option<bool>,
}

impl VolumeTypeChange {
    /// Whether nothing shall change.
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.description.is_none() && self.is_public.is_none()
    }
}

impl Client {
    /// Volume types, private ones included where they may be seen.
    ///
    /// # Errors
    /// As any request.
    pub async fn volume_types(&self, query: &Query) -> Result<Vec<VolumeType>> {
        let query = query.clone().filter("is_public", Some("None"));
        self.pages("types", "volume_types", &query).await
    }

    /// One volume type; `default` is the one used when none is named.
    ///
    /// # Errors
    /// As any request; 404 when there is none.
    pub async fn volume_type(&self, id: &str) -> Result<VolumeType> {
        self.v3(Method::GET, &format!("types/{}", segment(id))).member("volume_type").await
    }

    /// The volume type that a name or id means.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`], [`crate::Error::Ambiguous`], and as any request.
    pub async fn find_volume_type(&self, name: &str) -> Result<VolumeType> {
        // The list has no filter by name.
        let named = async {
            let all = self.volume_types(&Query::default()).await?;
            Ok(all.into_iter().filter(|volume_type| volume_type.name == name).collect())
        };
        find("volume type", name, self.volume_type(name), named, |volume_type| &volume_type.id).await
    }

    /// Creates a volume type.
    ///
    /// # Errors
    /// As any request; 409 when the name is taken.
    pub async fn create_volume_type(&self, wanted: &NewVolumeType) -> Result<VolumeType> {
        let mut body = json!({
            "name": wanted.name,
            "os-volume-type-access:is_public": wanted.is_public,
            "extra_specs": wanted.extra_specs,
        });
        if let Some(description) = &wanted.description {
            body["description"] = json!(description);
        }
        self.v3(Method::POST, "types").body(json!({ "volume_type": body })).member("volume_type").await
    }

    /// Changes a volume type.
    ///
    /// # Errors
    /// As any request.
    pub async fn update_volume_type(&self, id: &str, change: &VolumeTypeChange) -> Result<VolumeType> {
        self.v3(Method::PUT, &format!("types/{}", segment(id)))
            .body(json!({ "volume_type": change }))
            .member("volume_type")
            .await
    }

    /// Adds or overwrites extra specs.
    ///
    /// # Errors
    /// As any request; 400 while the type is in use.
    pub async fn set_extra_specs(&self, id: &str, specs: &BTreeMap<String, String>) -> Result<()> {
        let request = self.v3(Method::POST, &format!("types/{}/extra_specs", segment(id)));
        request.body(json!({ "extra_specs": specs })).done().await
    }

    /// Removes one extra spec.
    ///
    /// # Errors
    /// As any request; 404 when there is no such key.
    pub async fn unset_extra_spec(&self, id: &str, key: &str) -> Result<()> {
        self.v3(Method::DELETE, &format!("types/{}/extra_specs/{}", segment(id), segment(key))).done().await
    }

    /// Deletes a volume type.
    ///
    /// # Errors
    /// As any request; 400 while volumes use it.
    pub async fn delete_volume_type(&self, id: &str) -> Result<()> {
        self.v3(Method::DELETE, &format!("types/{}", segment(id))).done().await
    }
}
