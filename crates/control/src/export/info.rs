//! Connection info: what a host needs to reach an export (connection-info.md). Stored without secrets; they are joined when it
//! is handed out to whoever may see it.

use db::export::Export;
use model::{AttachMode, Attachment, ConnectionInfo, Connector, QosSpecs, Volume, VolumeType};
use serde_json::{Map, Value, json};

use crate::cloud::Cloud;
use crate::error::{Error, Result};

/// How a volume is reached by iSCSI, without the secret.
pub(crate) fn iscsi(
    volume: &Volume,
    export: &Export,
    portals: &[String],
    connector: &Connector,
) -> ConnectionInfo {
    let mut data = Map::new();
    data.insert("target_discovered".into(), false.into());
    if portals.len() > 1 || connector.multipath() {
        data.insert("target_portals".into(), portals.into());
        data.insert("target_iqns".into(), vec![export.iqn.clone(); portals.len()].into());
        data.insert("target_luns".into(), vec![export.lun; portals.len()].into());
    }
    data.insert("target_portal".into(), portals.first().cloned().into());
    data.insert("target_iqn".into(), export.iqn.clone().into());
    data.insert("target_lun".into(), export.lun.into());
    data.insert("volume_id".into(), volume.id.to_string().into());
    // The target unmaps, and what is unmapped goes back to the backend.
    data.insert("discard".into(), true.into());
    ConnectionInfo { driver_volume_type: "iscsi".into(), data }
}

/// Adds what holds for every transport.
pub(crate) fn complete(
    info: &mut ConnectionInfo,
    volume: &Volume,
    kind: Option<&VolumeType>,
    qos: Option<&QosSpecs>,
    mode: AttachMode,
) {
    let data = &mut info.data;
    let access = if mode == AttachMode::ReadOnly { "ro" } else { "rw" };
    let cacheable = kind.is_some_and(|kind| kind.says_yes("cacheable"));
    let allowed = data.get("cacheable").and_then(Value::as_bool).unwrap_or(true);
    let qos = qos.and_then(|qos| qos.front_end(volume.size));
    data.insert("qos_specs".into(), qos.map_or(Value::Null, Value::Object));
    data.insert("access_mode".into(), access.into());
    if data.get("encrypted").is_none_or(Value::is_null) {
        data.insert("encrypted".into(), volume.encryption_key_id.is_some().into());
    }
    data.insert("cacheable".into(), (cacheable && allowed).into());
}

impl Cloud {
    /// Joins the secret of an export to the connection info that describes it.
    ///
    /// # Errors
    /// The secret was sealed with another key.
    pub(crate) fn reveal(&self, info: &mut ConnectionInfo, export: &Export) -> Result<()> {
        let (Some(user), Some(sealed)) = (&export.chap_user, &export.chap_secret) else { return Ok(()) };
        let secret = self.sealer.open(sealed).map_err(|error| Error::Internal(Box::new(error)))?;
        info.data.insert("auth_method".into(), "CHAP".into());
        info.data.insert("auth_username".into(), user.clone().into());
        info.data.insert("auth_password".into(), json!(secret.expose()));
        Ok(())
    }

    /// Joins the secrets to what attachments store, for whoever may see them.
    ///
    /// # Errors
    /// The database is away, or a secret was sealed with another key.
    pub(crate) async fn reveal_all(&self, attachments: &mut [Attachment]) -> Result<()> {
        let is_iscsi = |one: &&mut Attachment| {
            one.connection_info.as_ref().is_some_and(|info| info.driver_volume_type == "iscsi")
        };
        let volumes: Vec<_> = attachments.iter_mut().filter(is_iscsi).map(|one| one.volume_id).collect();
        if volumes.is_empty() {
            return Ok(());
        }
        let exports = db::export::of_volumes(&mut self.db.read(), &volumes).await?;
        for one in attachments.iter_mut().filter(is_iscsi) {
            let Some(initiator) = one.connector.as_ref().and_then(super::initiator) else { continue };
            let mine = exports.iter().find(|export| {
                export.volume_id == one.volume_id && export.initiator == initiator && !export.ending
            });
            if let (Some(export), Some(info)) = (mine, one.connection_info.as_mut()) {
                self.reveal(info, export)?;
            }
        }
        Ok(())
    }
}
