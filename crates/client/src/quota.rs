//! Quotas: how much a project may use, and does.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::connection::segment;
use crate::{Client, Error, Result};

/// One resource's quota; a limit of -1 means that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    pub limit: i64,
    #[serde(default)]
    pub in_use: i64,
    #[serde(default)]
    pub reserved: i64,
}

impl Client {
    /// A project's quotas with what is used, by resource.
    ///
    /// # Errors
    /// As any request.
    pub async fn quotas(&self, project: &str) -> Result<BTreeMap<String, Quota>> {
        let request =
            self.v3(Method::GET, &format!("os-quota-sets/{}", segment(project))).query("usage", true);
        let mut set: BTreeMap<String, Value> = request.member("quota_set").await?;
        set.remove("id");
        read(set)
    }

    /// Changes a project's quotas; those not named stay.
    ///
    /// # Errors
    /// As any request; 400 below what is used.
    pub async fn set_quotas(&self, project: &str, limits: &BTreeMap<String, i64>) -> Result<()> {
        let body = json!({ "quota_set": limits });
        self.v3(Method::PUT, &format!("os-quota-sets/{}", segment(project))).body(body).done().await
    }

    /// Takes a project's quotas back to the defaults.
    ///
    /// # Errors
    /// As any request.
    pub async fn reset_quotas(&self, project: &str) -> Result<()> {
        self.v3(Method::DELETE, &format!("os-quota-sets/{}", segment(project))).done().await
    }

    /// What the caller's own project may use, and does.
    ///
    /// # Errors
    /// As any request.
    pub async fn own_limits(&self) -> Result<BTreeMap<String, Quota>> {
        let limits: Value = self.v3(Method::GET, "limits").member("limits").await?;
        let number = |name: &str| limits.pointer(&format!("/absolute/{name}")).and_then(Value::as_i64);
        let quota = |(resource, limit, used): &(&str, &str, &str)| {
            let quota = Quota { limit: number(limit)?, in_use: number(used).unwrap_or(0), reserved: 0 };
            Some(((*resource).to_owned(), quota))
        };
        Ok(ABSOLUTE.iter().filter_map(quota).collect())
    }
}

/// Resource, and the names of its limit and use in `GET /limits`.
const ABSOLUTE: &[(&str, &str, &str)] = &[
    ("volumes", "maxTotalVolumes", "totalVolumesUsed"),
    ("snapshots", "maxTotalSnapshots", "totalSnapshotsUsed"),
    ("gigabytes", "maxTotalVolumeGigabytes", "totalGigabytesUsed"),
    ("backups", "maxTotalBackups", "totalBackupsUsed"),
    ("backup_gigabytes", "maxTotalBackupGigabytes", "totalBackupGigabytesUsed"),
];

fn read(set: BTreeMap<String, Value>) -> Result<BTreeMap<String, Quota>> {
    let one = |(resource, value): (String, Value)| match serde_json::from_value(value) {
        Ok(quota) => Ok((resource, quota)),
        Err(error) => {
            Err(Error::Unreadable { url: "os-quota-sets".to_owned(), what: format!("{resource}: {error}") })
        }
    };
    set.into_iter().map(one).collect()
}
