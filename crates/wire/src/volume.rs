//! Volumes as answers show them (api-routes-volumes.md).

use model::volume::VolumeSummary;
use model::{AttachStatus, Attachment, Volume};
use serde_json::Value;

use crate::link::Links;
use crate::{Object, object, time, wrap};

const COLLECTION: &str = "volumes";

/// The key id that stands for a key in the configuration file: never shown.
const FIXED_KEY: &str = "00000000-0000-0000-0000-000000000000";

/// What the caller may see of volumes beyond the base.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sees {
    /// Migration, provider and cluster (administrators).
    pub admin_fields: bool,
    /// On which host an attachment is (administrators and services).
    pub attached_host: bool,
    /// `os-vol-host-attr`, on show and detail.
    pub host: bool,
    /// `os-vol-tenant-attr`, on show and detail.
    pub tenant: bool,
    /// `os-vol-mig-status-attr`, on show and detail.
    pub migration: bool,
    /// `volume_image_metadata`, on show and detail.
    pub image_metadata: bool,
}

/// The short form that lists show.
pub fn summary(volume: &Volume, links: &Links) -> Object {
    let id = volume.id.to_string();
    object! { "id": id, "name": volume.name, "links": links.of(COLLECTION, &id) }
}

/// The long form, newest shape.
pub fn detail(volume: &Volume, links: &Links, sees: Sees) -> Object {
    let id = volume.id.to_string();
    let mut shape = object! {
        "id": id,
        "status": volume.status.shown(),
        "size": volume.size,
        "availability_zone": volume.availability_zone,
        "created_at": time::or_null(volume.created_at),
        "updated_at": time::or_null(volume.updated_at),
        "name": volume.name,
        "description": volume.description,
        "volume_type": volume.type_name,
        "snapshot_id": volume.snapshot_id,
        "source_volid": volume.source_volid,
        "metadata": metadata(volume),
        "links": links.of(COLLECTION, &id),
        "user_id": volume.user_id,
        "bootable": if volume.bootable { "true" } else { "false" },
        "encrypted": volume.encryption_key_id.is_some(),
        "replication_status": volume.replication_status,
        "consistencygroup_id": volume.consistencygroup_id,
        "multiattach": volume.multiattach,
    };
    let attached = volume.attachments.iter().filter(|one| one.status == AttachStatus::Attached);
    shape.insert("attachments".into(), attached.map(|one| attachment(one, sees)).collect());
    if sees.admin_fields {
        shape.insert("migration_status".into(), volume.migration_status.clone().into());
    }
    shape.insert("group_id".into(), volume.group_id.clone().into());
    if sees.admin_fields {
        shape.insert("provider_id".into(), volume.provider_id.clone().into());
    }
    shape.insert("shared_targets".into(), volume.shared_targets.into());
    shape.insert("service_uuid".into(), volume.service_uuid.map(|id| id.to_string()).into());
    if sees.admin_fields {
        shape.insert("cluster_name".into(), volume.cluster_name.clone().into());
    }
    shape.insert("volume_type_id".into(), volume.type_id.to_string().into());
    if let Some(key) = volume.encryption_key_id.as_deref().filter(|key| *key != FIXED_KEY) {
        shape.insert("encryption_key_id".into(), key.into());
    }
    shape.insert("consumes_quota".into(), volume.use_quota.into());
    extend(&mut shape, volume, sees);
    shape
}

/// The four groups of fields that used to be extensions.
fn extend(shape: &mut Object, volume: &Volume, sees: Sees) {
    if sees.tenant {
        shape.insert("os-vol-tenant-attr:tenant_id".into(), volume.project_id.clone().into());
    }
    if sees.migration {
        shape.insert("os-vol-mig-status-attr:migstat".into(), volume.migration_status.clone().into());
        shape.insert("os-vol-mig-status-attr:name_id".into(), volume.name_id.map(|id| id.to_string()).into());
    }
    if sees.host {
        shape.insert("os-vol-host-attr:host".into(), volume.host.as_ref().map(ToString::to_string).into());
    }
    if sees.image_metadata && !volume.image_metadata.is_empty() {
        shape.insert("volume_image_metadata".into(), serde_json::json!(volume.image_metadata));
    }
}

/// The user's metadata, overlaid with what users may know of the administrator's.
fn metadata(volume: &Volume) -> Value {
    let mut shown = volume.metadata.clone();
    for key in ["readonly", "attached_mode"] {
        if let Some(value) = volume.admin_metadata.get(key) {
            shown.insert(key.into(), value.clone());
        }
    }
    serde_json::json!(shown)
}

fn attachment(one: &Attachment, sees: Sees) -> Value {
    let host = one.attached_host.as_deref().filter(|_| sees.attached_host);
    Value::Object(object! {
        "id": one.volume_id,
        "attachment_id": one.id,
        "volume_id": one.volume_id,
        "server_id": one.instance_uuid,
        "host_name": host,
        "device": one.mountpoint,
        "attached_at": time::or_null(one.attach_time),
    })
}

/// `GET /volumes/summary`, newest shape of what is inside `volume-summary`.
pub fn sums(summary: &VolumeSummary) -> Object {
    object! { "total_count": summary.count, "total_size": summary.size, "metadata": summary.metadata }
}

/// `{"connection_info": ...}` of `os-initialize_connection`.
pub fn connection(info: &model::ConnectionInfo, enforce_multipath: bool) -> Value {
    let inner = object! {
        "driver_volume_type": info.driver_volume_type, "data": info.data, "enforce_multipath": enforce_multipath,
    };
    wrap("connection_info", inner)
}
