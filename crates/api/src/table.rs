//! Every route, one row each.

use control::policy::Action::*;

use crate::route::Gate::{Caller, Open, Resource};
use crate::route::{Route, action, delete, get, post, put, ring, run};
use crate::schema::requests::*;
use crate::{
    backup, catalogue, job, message, quota, service, volume, volume_action, volume_metadata, volume_type,
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

    action("/volumes/{id}/action", "os-set_bootable",          Resource(VolumeUpdate),               &OS_SET_BOOTABLE,          200, run!(volume_action::set_bootable)),
    action("/volumes/{id}/action", "os-update_readonly_flag",  Resource(VolumeReadonly),             &OS_UPDATE_READONLY_FLAG,  202, run!(volume_action::set_readonly)),
    action("/volumes/{id}/action", "os-force_delete",          Resource(VolumeForceDelete),          &OS_FORCE_DELETE,          202, run!(volume_action::force_delete)),



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
    ring("/jobs/{id}/cancel", Open, 202, run!(job::cancel)),
];
