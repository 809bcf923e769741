//! Every route, one row each.

use control::policy::Action::*;

use crate::route::Gate::{Caller, Open, Resource};
use crate::route::{Route, action, delete, get, post, put, ring, run};
use crate::schema::requests::*;
use crate::{
    attachment, backup, catalogue, job, message, quota, service, snapshot, volume, volume_action,
    volume_metadata, volume_type,
};

/// `/v3`. Rows with fixed last segments stand before rows with parameters there.
#[rustfmt::skip] // a table reads best as a table
pub const V3: &[Route] = &[
    get   ("/volumes",                             Caller(VolumeList),                             200, run!(volume::list)),
    post  ("/volumes",                             Caller(VolumeCreate),     &VOLUME_CREATE,       202, run!(volume::create)),
    get   ("/volumes/detail",                      Caller(VolumeList),                             200, run!(volume::list_detail)),
    get   ("/volumes/summary",                     Caller(VolumeList),                             200, run!(volume::summary)),
    get   ("/volumes/{id}",                        Resource(VolumeShow),                           200, run!(volume::show)),
    put   ("/volumes/{id}",                        Resource(VolumeUpdate),   &VOLUME_UPDATE,       200, run!(volume::update)),
    delete("/volumes/{id}",                        Resource(VolumeDelete),                         202, run!(volume::delete)),
    get   ("/volumes/{id}/metadata",               Resource(VolumeMetadataShow),                   200, run!(volume_metadata::list)),
    post  ("/volumes/{id}/metadata",               Resource(VolumeMetadataCreate), &METADATA,      200, run!(volume_metadata::merge)),
    put   ("/volumes/{id}/metadata",               Resource(VolumeMetadataUpdate), &METADATA,      200, run!(volume_metadata::replace)),
    get   ("/volumes/{id}/metadata/{key}",         Resource(VolumeMetadataShow),                   200, run!(volume_metadata::show)),
    put   ("/volumes/{id}/metadata/{key}",         Resource(VolumeMetadataUpdate), &METADATA_ITEM, 200, run!(volume_metadata::set)),
    delete("/volumes/{id}/metadata/{key}",         Resource(VolumeMetadataDelete),                 200, run!(volume_metadata::unset)),

    action("/volumes/{id}/action", "os-reserve",               Resource(VolumeReserve),              &OS_RESERVE,               202, run!(volume_action::reserve)),
    action("/volumes/{id}/action", "os-unreserve",             Resource(VolumeUnreserve),            &OS_UNRESERVE,             202, run!(volume_action::unreserve)),
    action("/volumes/{id}/action", "os-begin_detaching",       Resource(VolumeBeginDetaching),       &OS_BEGIN_DETACHING,       202, run!(volume_action::begin_detaching)),
    action("/volumes/{id}/action", "os-roll_detaching",        Resource(VolumeRollDetaching),        &OS_ROLL_DETACHING,        202, run!(volume_action::roll_detaching)),
    action("/volumes/{id}/action", "os-attach",                Resource(VolumeAttach),               &OS_ATTACH,                202, run!(volume_action::attach)),
    action("/volumes/{id}/action", "os-detach",                Resource(VolumeDetach),               &OS_DETACH,                202, run!(volume_action::detach)),
    action("/volumes/{id}/action", "os-force_detach",          Resource(VolumeForceDetach),          &OS_FORCE_DETACH,          202, run!(volume_action::force_detach)),
    action("/volumes/{id}/action", "os-initialize_connection", Resource(VolumeInitializeConnection), &OS_INITIALIZE_CONNECTION, 200, run!(volume_action::initialize_connection)),
    action("/volumes/{id}/action", "os-terminate_connection",  Resource(VolumeTerminateConnection),  &OS_TERMINATE_CONNECTION,  202, run!(volume_action::terminate_connection)),
    action("/volumes/{id}/action", "os-extend",                Resource(VolumeExtend),               &OS_EXTEND,                202, run!(volume_action::extend)),
    action("/volumes/{id}/action", "os-extend_volume_completion", Resource(VolumeExtendCompletion),  &OS_EXTEND_VOLUME_COMPLETION, 202, run!(volume_action::extend_completion)),
    action("/volumes/{id}/action", "os-set_bootable",          Resource(VolumeUpdate),               &OS_SET_BOOTABLE,          200, run!(volume_action::set_bootable)),
    action("/volumes/{id}/action", "os-update_readonly_flag",  Resource(VolumeReadonly),             &OS_UPDATE_READONLY_FLAG,  202, run!(volume_action::set_readonly)),
    action("/volumes/{id}/action", "os-reset_status",          Resource(VolumeResetStatus),          &OS_RESET_STATUS_VOLUME,   202, run!(volume_action::reset_status)),
    action("/volumes/{id}/action", "os-force_delete",          Resource(VolumeForceDelete),          &OS_FORCE_DELETE,          202, run!(volume_action::force_delete)),

    get   ("/snapshots",                           Caller(SnapshotList),                           200, run!(snapshot::list)),
    post  ("/snapshots",                           Resource(SnapshotCreate), &SNAPSHOT_CREATE,     202, run!(snapshot::create)),
    get   ("/snapshots/detail",                    Caller(SnapshotList),                           200, run!(snapshot::list_detail)),
    get   ("/snapshots/{id}",                      Resource(SnapshotShow),                         200, run!(snapshot::show)),
    put   ("/snapshots/{id}",                      Resource(SnapshotUpdate), &SNAPSHOT_UPDATE,     200, run!(snapshot::update)),
    delete("/snapshots/{id}",                      Resource(SnapshotDelete),                       202, run!(snapshot::delete)),
    action("/snapshots/{id}/action", "os-reset_status",           Resource(SnapshotResetStatus),  &OS_RESET_STATUS_SNAPSHOT,  202, run!(snapshot::reset_status)),
    action("/snapshots/{id}/action", "os-force_delete",           Resource(SnapshotForceDelete),  &OS_FORCE_DELETE,           202, run!(snapshot::force_delete)),
    action("/snapshots/{id}/action", "os-update_snapshot_status", Resource(SnapshotUpdateStatus), &OS_UPDATE_SNAPSHOT_STATUS, 202, run!(snapshot::report)),
    get   ("/snapshots/{id}/metadata",             Resource(SnapshotMetadataShow),                 200, run!(snapshot::metadata)),
    post  ("/snapshots/{id}/metadata",             Resource(SnapshotMetadataUpdate), &SNAPSHOT_METADATA, 200, run!(snapshot::metadata_merge)),
    put   ("/snapshots/{id}/metadata",             Resource(SnapshotMetadataUpdate), &SNAPSHOT_METADATA, 200, run!(snapshot::metadata_replace)),
    get   ("/snapshots/{id}/metadata/{key}",       Resource(SnapshotMetadataShow),                 200, run!(snapshot::metadata_show)),
    put   ("/snapshots/{id}/metadata/{key}",       Resource(SnapshotMetadataUpdate), &SNAPSHOT_METADATA_ITEM, 200, run!(snapshot::metadata_set)),
    delete("/snapshots/{id}/metadata/{key}",       Resource(SnapshotMetadataDelete),               200, run!(snapshot::metadata_unset)),

    get   ("/attachments",                         Open,                                           200, run!(attachment::list)),
    post  ("/attachments",                         Resource(AttachmentCreate), &ATTACHMENT_CREATE, 200, run!(attachment::create)),
    get   ("/attachments/detail",                  Open,                                           200, run!(attachment::list_detail)),
    get   ("/attachments/summary",                 Open,                                           200, run!(attachment::nothing)),
    get   ("/attachments/{id}",                    Open,                                           200, run!(attachment::show)),
    put   ("/attachments/{id}",                    Resource(AttachmentUpdate), &ATTACHMENT_UPDATE, 200, run!(attachment::update)),
    delete("/attachments/{id}",                    Resource(AttachmentDelete),                     200, run!(attachment::delete)),
    action("/attachments/{id}/action", "os-complete", Resource(AttachmentComplete), &OS_COMPLETE,  204, run!(attachment::complete)),

    get   ("/backups",                             Caller(BackupList),                             200, run!(backup::list)),
    post  ("/backups",                             Caller(BackupCreate),     &BACKUP_CREATE,       202, run!(backup::create)),
    get   ("/backups/detail",                      Caller(BackupList),                             200, run!(backup::list_detail)),
    get   ("/backups/{id}",                        Resource(BackupShow),                           200, run!(backup::show)),
    put   ("/backups/{id}",                        Resource(BackupUpdate),   &BACKUP_UPDATE,       200, run!(backup::update)),
    delete("/backups/{id}",                        Resource(BackupDelete),                         202, run!(backup::delete)),
    post  ("/backups/{id}/restore",                Resource(BackupRestore),  &BACKUP_RESTORE,      202, run!(backup::restore)),
    action("/backups/{id}/action", "os-reset_status", Resource(BackupResetStatus), &OS_RESET_STATUS_BACKUP, 202, run!(backup::reset_status)),
    action("/backups/{id}/action", "os-force_delete", Resource(BackupForceDelete), &OS_FORCE_DELETE, 202, run!(backup::force_delete)),

    get   ("/types",                               Caller(TypeList),                               200, run!(volume_type::list)),
    post  ("/types",                               Caller(TypeCreate),       &TYPE_CREATE,         200, run!(volume_type::create)),
    get   ("/types/{id}",                          Resource(TypeShow),                             200, run!(volume_type::show)),
    put   ("/types/{id}",                          Caller(TypeUpdate),       &TYPE_UPDATE,         200, run!(volume_type::update)),
    delete("/types/{id}",                          Caller(TypeDelete),                             202, run!(volume_type::delete)),
    action("/types/{id}/action", "addProjectAccess",    Caller(TypeAccessAdd),    &ADD_PROJECT_ACCESS,    202, run!(volume_type::access_add)),
    action("/types/{id}/action", "removeProjectAccess", Caller(TypeAccessRemove), &REMOVE_PROJECT_ACCESS, 202, run!(volume_type::access_remove)),
    get   ("/types/{type_id}/extra_specs",         Caller(TypeExtraSpecList),                      200, run!(volume_type::specs)),
    post  ("/types/{type_id}/extra_specs",         Caller(TypeExtraSpecCreate), &EXTRA_SPECS,      200, run!(volume_type::specs_set)),
    get   ("/types/{type_id}/extra_specs/{key}",   Caller(TypeExtraSpecShow),                      200, run!(volume_type::spec)),
    put   ("/types/{type_id}/extra_specs/{key}",   Caller(TypeExtraSpecUpdate), &EXTRA_SPEC,       200, run!(volume_type::spec_set)),
    delete("/types/{type_id}/extra_specs/{key}",   Caller(TypeExtraSpecDelete),                    202, run!(volume_type::spec_unset)),
    get   ("/types/{type_id}/os-volume-type-access", Caller(TypeAccessList),                       200, run!(volume_type::access)),

    get   ("/os-quota-sets/{id}",                  Resource(QuotaShow),                            200, run!(quota::show)),
    put   ("/os-quota-sets/{id}",                  Resource(QuotaUpdate),    &QUOTA_UPDATE,        200, run!(quota::update)),
    delete("/os-quota-sets/{id}",                  Resource(QuotaDelete),                          200, run!(quota::delete)),
    get   ("/os-quota-sets/{id}/defaults",         Resource(QuotaShow),                            200, run!(quota::defaults)),
    get   ("/os-quota-class-sets/{id}",            Caller(QuotaClassShow),                         200, run!(quota::class_show)),
    put   ("/os-quota-class-sets/{id}",            Caller(QuotaClassUpdate), &QUOTA_CLASS_UPDATE,  200, run!(quota::class_update)),
    get   ("/limits",                              Open,                                           200, run!(quota::limits)),
    get   ("/messages",                            Caller(MessageList),                            200, run!(message::list)),
    get   ("/messages/{id}",                       Resource(MessageShow),                          200, run!(message::show)),
    delete("/messages/{id}",                       Resource(MessageDelete),                        204, run!(message::delete)),

    get   ("/os-services",                         Caller(ServiceList),                            200, run!(service::list)),
    put   ("/os-services/enable",                  Caller(ServiceUpdate),    &SERVICE_SWITCH,      200, run!(service::enable)),
    put   ("/os-services/disable",                 Caller(ServiceUpdate),    &SERVICE_SWITCH,      200, run!(service::disable)),
    put   ("/os-services/disable-log-reason",      Caller(ServiceUpdate),    &SERVICE_DISABLE_REASON, 200, run!(service::disable_with_reason)),
    get   ("/os-availability-zone",                Open,                                           200, run!(service::zones)),
    get   ("/scheduler-stats/get_pools",           Caller(PoolList),                               200, run!(service::pools)),

    get   ("/extensions",                          Open,                                           200, run!(catalogue::extensions)),
    get   ("/extensions/{id}",                     Open,                                           200, run!(catalogue::extension)),
    get   ("/resource_filters",                    Open,                                           200, run!(catalogue::filters)),
];

/// `/cinderblock/v1`.
#[rustfmt::skip]
pub const OWN: &[Route] = &[
    get ("/jobs",             Open, 200, run!(job::list)),
    get ("/jobs/{id}",        Open, 200, run!(job::show)),
    get ("/openapi",          Open, 200, run!(catalogue::openapi)),
    ring("/jobs/{id}/cancel", Open, 202, run!(job::cancel)),
];
