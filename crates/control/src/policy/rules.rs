//! Every rule of Cinder 29, as one table: the rule's name, who may by default, what held before, the requests, what it lets
//! one do.
//!
//! `actions!` makes the enum [`Action`] of it, so that code names a rule by a variant that the compiler knows. No rule limits the
//! scope of a token: tokens of any scope are judged by the check alone.

/// A registered rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The name in `policy.yaml`.
    pub name: &'static str,
    /// The check unless `policy.yaml` has another.
    pub check: &'static str,
    /// What the rule was before the present defaults.
    pub old: Option<Old>,
    /// Method and path, and the action of a body in parentheses.
    pub requests: &'static [&'static str],
    pub description: &'static str,
}

/// A rule's form before the present defaults: it still allows where `enforce_new_defaults` is off, and a name of its own may
/// still stand in `policy.yaml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Old {
    /// `None`: the same as now.
    pub name: Option<&'static str>,
    pub check: &'static str,
}

const ADMIN: &str = "rule:admin_api";
const MEMBER: &str = "rule:xena_system_admin_or_project_member";
const READER: &str = "rule:xena_system_admin_or_project_reader";
const OWNER: &str = "rule:admin_or_owner";
const ANYONE: &str = "";
const ANY_ADMIN: &str = "rule:system_or_domain_or_project_admin";

const NEW: Option<Old> = None;

const fn was(check: &'static str) -> Option<Old> {
    Some(Old { name: None, check })
}

const fn called(name: &'static str, check: &'static str) -> Option<Old> {
    Some(Old { name: Some(name), check })
}

/// The rules that others are made of: no request asks for them directly.
#[rustfmt::skip] // a table reads best as a table
pub const BASE: &[Rule] = &[
    base("context_is_admin", "role:admin", "Who is an administrator (is_admin:True in other checks)"),
    base("admin_api", "is_admin:True or (role:admin and is_admin_project:True)", "The persona admin"),
    base("xena_system_admin_or_project_member", "(role:admin) or (role:member and project_id:%(project_id)s)", "The persona member"),
    base("xena_system_admin_or_project_reader", "(role:admin) or (role:reader and project_id:%(project_id)s)", "The persona reader"),
    base("admin_or_owner", "is_admin:True or (role:admin and is_admin_project:True) or project_id:%(project_id)s", "Old: administrators, and anybody in the project"),
    base("system_or_domain_or_project_admin", "(role:admin and system_scope:all) or (role:admin and domain_id:%(domain_id)s) or (role:admin and project_id:%(project_id)s)", "Old: administrators of the cloud, a domain or a project"),
];

const fn base(name: &'static str, check: &'static str, description: &'static str) -> Rule {
    Rule { name, check, old: NEW, requests: &[], description }
}

macro_rules! actions {
    ($($action:ident = $name:literal, $check:expr, $old:expr, [$($request:literal),*], $description:literal;)+) => {
        /// What a request wants to do; each variant is one rule.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action { $(#[doc = $description] $action),+ }

        impl Action {
            /// Every action, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$action),+];

            /// The rule that decides.
            pub const fn rule(self) -> &'static Rule {
                match self {
                    $(Self::$action => const {
                        &Rule {
                            name: $name,
                            check: $check,
                            old: $old,
                            requests: &[$($request),*],
                            description: $description,
                        }
                    },)+
                }
            }
        }
    };
}

impl Action {
    /// The action of a rule's name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|action| action.rule().name == name)
    }
}

actions! {
    AttachmentCreate = "volume:attachment_create", MEMBER, was(ANYONE), ["POST /attachments"], "Reserve a volume for a server or host, or attach it there";
    AttachmentUpdate = "volume:attachment_update", MEMBER, was(OWNER), ["PUT /attachments/{attachment_id}"], "Give an attachment its connector";
    AttachmentDelete = "volume:attachment_delete", MEMBER, was(OWNER), ["DELETE /attachments/{attachment_id}"], "Delete an attachment";
    AttachmentComplete = "volume:attachment_complete", MEMBER, was(OWNER), ["POST /attachments/{attachment_id}/action (os-complete)"], "Say that an attachment's device is connected";
    MultiattachBootable = "volume:multiattach_bootable_volume", MEMBER, was(OWNER), ["POST /attachments"], "Attach a bootable volume once more while it is in use";
    MessageList = "message:get_all", READER, was(OWNER), ["GET /messages"], "List user messages";
    MessageShow = "message:get", READER, was(OWNER), ["GET /messages/{message_id}"], "Show a user message";
    MessageDelete = "message:delete", MEMBER, was(OWNER), ["DELETE /messages/{message_id}"], "Delete a user message";
    ClusterList = "clusters:get_all", ADMIN, NEW, ["GET /clusters", "GET /clusters/detail"], "List clusters of services";
    ClusterShow = "clusters:get", ADMIN, NEW, ["GET /clusters/{cluster_id}"], "Show a cluster of services";
    ClusterUpdate = "clusters:update", ADMIN, NEW, ["PUT /clusters/{cluster_id}"], "Enable or disable a cluster of services";
    WorkersCleanup = "workers:cleanup", ADMIN, NEW, ["POST /workers/cleanup"], "Take up the work of services that are down";
    SnapshotMetadataShow = "volume:get_snapshot_metadata", READER, was(OWNER), ["GET /snapshots/{snapshot_id}/metadata", "GET /snapshots/{snapshot_id}/metadata/{key}"], "Read a snapshot's metadata";
    SnapshotMetadataUpdate = "volume:update_snapshot_metadata", MEMBER, was(OWNER), ["POST /snapshots/{snapshot_id}/metadata", "PUT /snapshots/{snapshot_id}/metadata/{key}"], "Write a snapshot's metadata";
    SnapshotMetadataDelete = "volume:delete_snapshot_metadata", MEMBER, was(OWNER), ["DELETE /snapshots/{snapshot_id}/metadata/{key}"], "Delete a key of a snapshot's metadata";
    SnapshotList = "volume:get_all_snapshots", READER, was(OWNER), ["GET /snapshots", "GET /snapshots/detail"], "List snapshots";
    SnapshotExtendedAttributes = "volume_extension:extended_snapshot_attributes", READER, was(OWNER), ["GET /snapshots/{snapshot_id}", "GET /snapshots/detail"], "See a snapshot's project and progress";
    SnapshotCreate = "volume:create_snapshot", MEMBER, was(OWNER), ["POST /snapshots"], "Take a snapshot of a volume";
    SnapshotShow = "volume:get_snapshot", READER, was(OWNER), ["GET /snapshots/{snapshot_id}"], "Show a snapshot";
    SnapshotUpdate = "volume:update_snapshot", MEMBER, was(OWNER), ["PUT /snapshots/{snapshot_id}"], "Rename a snapshot or change its description";
    SnapshotDelete = "volume:delete_snapshot", MEMBER, was(OWNER), ["DELETE /snapshots/{snapshot_id}"], "Delete a snapshot";
    SnapshotResetStatus = "volume_extension:snapshot_admin_actions:reset_status", ADMIN, NEW, ["POST /snapshots/{snapshot_id}/action (os-reset_status)"], "Overwrite a snapshot's status";
    SnapshotUpdateStatus = "snapshot_extension:snapshot_actions:update_snapshot_status", MEMBER, was(ANYONE), ["POST /snapshots/{snapshot_id}/action (update_snapshot_status)"], "Report the progress of a snapshot that a hypervisor takes";
    SnapshotForceDelete = "volume_extension:snapshot_admin_actions:force_delete", ADMIN, NEW, ["POST /snapshots/{snapshot_id}/action (os-force_delete)"], "Delete a snapshot whatever its status";
    SnapshotListManageable = "snapshot_extension:list_manageable", ADMIN, NEW, ["GET /manageable_snapshots", "GET /manageable_snapshots/detail"], "List what a backend has that could become a snapshot here";
    SnapshotManage = "snapshot_extension:snapshot_manage", ADMIN, NEW, ["POST /manageable_snapshots"], "Take over a snapshot that a backend already has";
    SnapshotUnmanage = "snapshot_extension:snapshot_unmanage", ADMIN, NEW, ["POST /snapshots/{snapshot_id}/action (os-unmanage)"], "Forget a snapshot but leave it on its backend";
    BackupList = "backup:get_all", READER, was(OWNER), ["GET /backups", "GET /backups/detail"], "List backups";
    BackupProjectAttribute = "backup:backup_project_attribute", ADMIN, NEW, ["GET /backups/{backup_id}", "GET /backups/detail"], "See the project of a backup";
    BackupCreate = "backup:create", MEMBER, was(ANYONE), ["POST /backups"], "Back up a volume or snapshot";
    BackupShow = "backup:get", READER, was(OWNER), ["GET /backups/{backup_id}"], "Show a backup";
    BackupUpdate = "backup:update", MEMBER, was(OWNER), ["PUT /backups/{backup_id}"], "Rename a backup or change its description or metadata";
    BackupDelete = "backup:delete", MEMBER, was(OWNER), ["DELETE /backups/{backup_id}"], "Delete a backup";
    BackupRestore = "backup:restore", MEMBER, was(OWNER), ["POST /backups/{backup_id}/restore"], "Restore a backup to a volume";
    BackupImport = "backup:backup-import", ADMIN, NEW, ["POST /backups/{backup_id}/import_record"], "Make a backup known from its record";
    BackupExport = "backup:export-import", ADMIN, NEW, ["POST /backups/{backup_id}/export_record"], "Read the record of a backup";
    BackupResetStatus = "volume_extension:backup_admin_actions:reset_status", ADMIN, NEW, ["POST /backups/{backup_id}/action (os-reset_status)"], "Overwrite a backup's status";
    BackupForceDelete = "volume_extension:backup_admin_actions:force_delete", ADMIN, NEW, ["POST /backups/{backup_id}/action (os-force_delete)"], "Delete a backup whatever its status";
    GroupList = "group:get_all", READER, was(OWNER), ["GET /groups", "GET /groups/detail"], "List groups";
    GroupCreate = "group:create", MEMBER, was(ANYONE), ["POST /groups"], "Create a group, empty or from another group or its snapshot";
    GroupShow = "group:get", READER, was(OWNER), ["GET /groups/{group_id}"], "Show a group";
    GroupUpdate = "group:update", MEMBER, was(OWNER), ["PUT /groups/{group_id}"], "Change a group or the volumes in it";
    GroupProjectAttribute = "group:group_project_attribute", ADMIN, NEW, ["GET /groups/{group_id}", "GET /groups/detail"], "See the project of a group";
    GroupTypeCreate = "group:group_types:create", ADMIN, called("group:group_types_manage", ADMIN), ["POST /group_types/"], "Create a group type";
    GroupTypeUpdate = "group:group_types:update", ADMIN, called("group:group_types_manage", ADMIN), ["PUT /group_types/{group_type_id}"], "Change a group type";
    GroupTypeDelete = "group:group_types:delete", ADMIN, called("group:group_types_manage", ADMIN), ["DELETE /group_types/{group_type_id}"], "Delete a group type";
    GroupTypeSpecsAccess = "group:access_group_types_specs", ADMIN, NEW, ["GET /group_types/{group_type_id}"], "See the specs of a group type";
    GroupTypeSpecShow = "group:group_types_specs:get", ADMIN, called("group:group_types_specs", ADMIN), ["GET /group_types/{group_type_id}/group_specs/{g_spec_id}"], "Show one spec of a group type";
    GroupTypeSpecList = "group:group_types_specs:get_all", ADMIN, called("group:group_types_specs", ADMIN), ["GET /group_types/{group_type_id}/group_specs"], "List the specs of a group type";
    GroupTypeSpecCreate = "group:group_types_specs:create", ADMIN, called("group:group_types_specs", ADMIN), ["POST /group_types/{group_type_id}/group_specs"], "Set specs of a group type";
    GroupTypeSpecUpdate = "group:group_types_specs:update", ADMIN, called("group:group_types_specs", ADMIN), ["PUT /group_types/{group_type_id}/group_specs/{g_spec_id}"], "Change one spec of a group type";
    GroupTypeSpecDelete = "group:group_types_specs:delete", ADMIN, called("group:group_types_specs", ADMIN), ["DELETE /group_types/{group_type_id}/group_specs/{g_spec_id}"], "Delete one spec of a group type";
    GroupSnapshotList = "group:get_all_group_snapshots", READER, was(OWNER), ["GET /group_snapshots", "GET /group_snapshots/detail"], "List group snapshots";
    GroupSnapshotCreate = "group:create_group_snapshot", MEMBER, was(ANYONE), ["POST /group_snapshots"], "Take a snapshot of a group";
    GroupSnapshotShow = "group:get_group_snapshot", READER, was(OWNER), ["GET /group_snapshots/{group_snapshot_id}"], "Show a group snapshot";
    GroupSnapshotDelete = "group:delete_group_snapshot", MEMBER, was(OWNER), ["DELETE /group_snapshots/{group_snapshot_id}"], "Delete a group snapshot";
    GroupSnapshotUpdate = "group:update_group_snapshot", MEMBER, was(OWNER), ["PUT /group_snapshots/{group_snapshot_id}"], "Change a group snapshot (no request reaches it)";
    GroupSnapshotProjectAttribute = "group:group_snapshot_project_attribute", ADMIN, NEW, ["GET /group_snapshots/{group_snapshot_id}", "GET /group_snapshots/detail"], "See the project of a group snapshot";
    GroupSnapshotResetStatus = "group:reset_group_snapshot_status", ADMIN, NEW, ["POST /group_snapshots/{g_snapshot_id}/action (reset_status)"], "Overwrite the status of a group snapshot";
    GroupDelete = "group:delete", MEMBER, was(OWNER), ["POST /groups/{group_id}/action (delete)"], "Delete a group";
    GroupResetStatus = "group:reset_status", ADMIN, NEW, ["POST /groups/{group_id}/action (reset_status)"], "Overwrite the status of a group";
    GroupEnableReplication = "group:enable_replication", MEMBER, was(OWNER), ["POST /groups/{group_id}/action (enable_replication)"], "Start the replication of a group";
    GroupDisableReplication = "group:disable_replication", MEMBER, was(OWNER), ["POST /groups/{group_id}/action (disable_replication)"], "Stop the replication of a group";
    GroupFailover = "group:failover_replication", MEMBER, was(OWNER), ["POST /groups/{group_id}/action (failover_replication)"], "Fail a group over to its replica";
    GroupListReplicationTargets = "group:list_replication_targets", MEMBER, was(OWNER), ["POST /groups/{group_id}/action (list_replication_targets)"], "List where a group can fail over to";
    QosList = "volume_extension:qos_specs_manage:get_all", ADMIN, NEW, ["GET /qos-specs", "GET /qos-specs/{qos_id}/associations"], "List QoS specs, and what they are associated with";
    QosShow = "volume_extension:qos_specs_manage:get", ADMIN, NEW, ["GET /qos-specs/{qos_id}"], "Show QoS specs";
    QosCreate = "volume_extension:qos_specs_manage:create", ADMIN, NEW, ["POST /qos-specs"], "Create QoS specs";
    QosUpdate = "volume_extension:qos_specs_manage:update", ADMIN, NEW, ["PUT /qos-specs/{qos_id}", "GET /qos-specs/{qos_id}/disassociate_all", "GET /qos-specs/{qos_id}/associate", "GET /qos-specs/{qos_id}/disassociate"], "Change QoS specs and the types they are associated with";
    QosDelete = "volume_extension:qos_specs_manage:delete", ADMIN, NEW, ["DELETE /qos-specs/{qos_id}", "PUT /qos-specs/{qos_id}/delete_keys"], "Delete QoS specs, or keys of them";
    QuotaClassShow = "volume_extension:quota_classes:get", ADMIN, called("volume_extension:quota_classes", ADMIN), ["GET /os-quota-class-sets/{project_id}"], "Show a quota class";
    QuotaClassUpdate = "volume_extension:quota_classes:update", ADMIN, called("volume_extension:quota_classes", ADMIN), ["PUT /os-quota-class-sets/{project_id}"], "Change a quota class";
    QuotaShow = "volume_extension:quotas:show", READER, was(OWNER), ["GET /os-quota-sets/{project_id}", "GET /os-quota-sets/{project_id}/default", "GET /os-quota-sets/{project_id}?usage=True"], "Show the quotas of a project, and what it uses";
    QuotaUpdate = "volume_extension:quotas:update", ADMIN, NEW, ["PUT /os-quota-sets/{project_id}"], "Change the quotas of a project";
    QuotaDelete = "volume_extension:quotas:delete", ADMIN, NEW, ["DELETE /os-quota-sets/{project_id}"], "Set the quotas of a project back to the defaults";
    CapabilitiesShow = "volume_extension:capabilities", ADMIN, NEW, ["GET /capabilities/{host_name}"], "Show what a backend can do";
    ServiceList = "volume_extension:services:index", ADMIN, NEW, ["GET /os-services"], "List services";
    ServiceUpdate = "volume_extension:services:update", ADMIN, NEW, ["PUT /os-services/{action}"], "Enable or disable a service, and set its log levels";
    HostFreeze = "volume:freeze_host", ADMIN, NEW, ["PUT /os-services/freeze"], "Keep new work off a backend";
    HostThaw = "volume:thaw_host", ADMIN, NEW, ["PUT /os-services/thaw"], "Let new work onto a backend again";
    HostFailover = "volume:failover_host", ADMIN, NEW, ["PUT /os-services/failover_host"], "Fail a backend over to its replica";
    PoolList = "scheduler_extension:scheduler_stats:get_pools", ADMIN, NEW, ["GET /scheduler-stats/get_pools"], "List the pools of the backends and their figures";
    Hosts = "volume_extension:hosts", ADMIN, NEW, ["GET /os-hosts", "PUT /os-hosts/{host_name}", "GET /os-hosts/{host_id}"], "List, show or change hosts";
    UsedLimits = "limits_extension:used_limits", READER, was(OWNER), ["GET /limits"], "See what is used of each limit";
    VolumeListManageable = "volume_extension:list_manageable", ADMIN, NEW, ["GET /manageable_volumes", "GET /manageable_volumes/detail"], "List what a backend has that could become a volume here";
    VolumeManage = "volume_extension:volume_manage", ADMIN, NEW, ["POST /manageable_volumes"], "Take over a volume that a backend already has";
    VolumeUnmanage = "volume_extension:volume_unmanage", ADMIN, NEW, ["POST /volumes/{volume_id}/action (os-unmanage)"], "Forget a volume but leave it on its backend";
    TypeCreate = "volume_extension:type_create", ADMIN, called("volume_extension:types_manage", ADMIN), ["POST /types"], "Create a volume type";
    TypeUpdate = "volume_extension:type_update", ADMIN, called("volume_extension:types_manage", ADMIN), ["PUT /types"], "Change a volume type";
    TypeDelete = "volume_extension:type_delete", ADMIN, called("volume_extension:types_manage", ADMIN), ["DELETE /types"], "Delete a volume type";
    TypeShow = "volume_extension:type_get", READER, was(ANYONE), ["GET /types/{type_id}"], "Show a volume type";
    TypeList = "volume_extension:type_get_all", READER, was(ANYONE), ["GET /types/"], "List volume types";
    TypeExtraSpecsAccess = "volume_extension:access_types_extra_specs", READER, was(ADMIN), ["GET /types/{type_id}", "GET /types"], "See the extra specs in a volume type";
    TypeQosAccess = "volume_extension:access_types_qos_specs_id", ADMIN, NEW, ["GET /types/{type_id}", "GET /types"], "See the id of the QoS specs in a volume type";
    TypeEncryption = "volume_extension:volume_type_encryption", ADMIN, NEW, [], "The old name of the four rules below";
    TypeEncryptionCreate = "volume_extension:volume_type_encryption:create", ADMIN, was("rule:volume_extension:volume_type_encryption"), ["POST /types/{type_id}/encryption"], "Set the encryption of a volume type";
    TypeEncryptionShow = "volume_extension:volume_type_encryption:get", ADMIN, was("rule:volume_extension:volume_type_encryption"), ["GET /types/{type_id}/encryption", "GET /types/{type_id}/encryption/{key}"], "Show the encryption of a volume type";
    TypeEncryptionUpdate = "volume_extension:volume_type_encryption:update", ADMIN, was("rule:volume_extension:volume_type_encryption"), ["PUT /types/{type_id}/encryption/{encryption_id}"], "Change the encryption of a volume type";
    TypeEncryptionDelete = "volume_extension:volume_type_encryption:delete", ADMIN, was("rule:volume_extension:volume_type_encryption"), ["DELETE /types/{type_id}/encryption/{encryption_id}"], "Remove the encryption of a volume type";
    TypeAccess = "volume_extension:volume_type_access", MEMBER, was(OWNER), ["GET /types", "GET /types/{type_id}", "POST /types"], "See whether a volume type is public";
    TypeAccessAdd = "volume_extension:volume_type_access:addProjectAccess", ADMIN, NEW, ["POST /types/{type_id}/action (addProjectAccess)"], "Let a project use a private volume type";
    TypeAccessRemove = "volume_extension:volume_type_access:removeProjectAccess", ADMIN, NEW, ["POST /types/{type_id}/action (removeProjectAccess)"], "Take a private volume type from a project";
    TypeAccessList = "volume_extension:volume_type_access:get_all_for_type", ADMIN, was("volume_extension:volume_type_access"), ["GET /types/{type_id}/os-volume-type-access"], "List the projects that may use a private volume type";
    VolumeExtend = "volume:extend", MEMBER, was(OWNER), ["POST /volumes/{volume_id}/action (os-extend)"], "Grow a volume";
    VolumeExtendAttached = "volume:extend_attached_volume", MEMBER, was(OWNER), ["POST /volumes/{volume_id}/action (os-extend)"], "Grow a volume while it is attached";
    VolumeExtendCompletion = "volume_extension:volume_admin_actions:extend_volume_completion", ADMIN, NEW, ["POST /volumes/{volume_id}/action (os-extend_volume_completion)"], "Say that the host has seen a volume's new size";
    VolumeRevert = "volume:revert_to_snapshot", MEMBER, was(OWNER), ["POST /volumes/{volume_id}/action (revert)"], "Set a volume back to its latest snapshot";
    VolumeResetStatus = "volume_extension:volume_admin_actions:reset_status", ADMIN, NEW, ["POST /volumes/{volume_id}/action (os-reset_status)"], "Overwrite a volume's status";
    VolumeRetype = "volume:retype", MEMBER, was(OWNER), ["POST /volumes/{volume_id}/action (os-retype)"], "Give a volume another type";
    VolumeReadonly = "volume:update_readonly_flag", MEMBER, was(OWNER), ["POST /volumes/{volume_id}/action (os-update_readonly_flag)"], "Make a volume read-only or writable";
    VolumeForceDelete = "volume_extension:volume_admin_actions:force_delete", ADMIN, NEW, ["POST /volumes/{volume_id}/action (os-force_delete)"], "Delete a volume whatever its status, by its action";
    VolumeUploadPublic = "volume_extension:volume_actions:upload_public", ADMIN, NEW, ["POST /volumes/{volume_id}/action (os-volume_upload_image)"], "Make a public image from a volume";
    VolumeUpload = "volume_extension:volume_actions:upload_image", MEMBER, was(OWNER), ["POST /volumes/{volume_id}/action (os-volume_upload_image)"], "Make an image from a volume";
    VolumeForceDetach = "volume_extension:volume_admin_actions:force_detach", ADMIN, NEW, ["POST /volumes/{volume_id}/action (os-force_detach)"], "Detach a volume without asking its host";
    VolumeMigrate = "volume_extension:volume_admin_actions:migrate_volume", ADMIN, NEW, ["POST /volumes/{volume_id}/action (os-migrate_volume)"], "Move a volume to another backend";
    VolumeMigrateCompletion = "volume_extension:volume_admin_actions:migrate_volume_completion", ADMIN, NEW, ["POST /volumes/{volume_id}/action (os-migrate_volume_completion)"], "Finish a migration that a hypervisor copied";
    VolumeInitializeConnection = "volume_extension:volume_actions:initialize_connection", MEMBER, was(OWNER), ["POST /volumes/{volume_id}/action (os-initialize_connection)"], "Export a volume to a host";
    VolumeTerminateConnection = "volume_extension:volume_actions:terminate_connection", MEMBER, was(OWNER), ["POST /volumes/{volume_id}/action (os-terminate_connection)"], "Withdraw a volume's export to a host";
    VolumeRollDetaching = "volume_extension:volume_actions:roll_detaching", MEMBER, was(OWNER), ["POST /volumes/{volume_id}/action (os-roll_detaching)"], "Take back that a volume is being detached";
    VolumeReserve = "volume_extension:volume_actions:reserve", MEMBER, was(OWNER), ["POST /volumes/{volume_id}/action (os-reserve)"], "Reserve a volume";
    VolumeUnreserve = "volume_extension:volume_actions:unreserve", MEMBER, was(OWNER), ["POST /volumes/{volume_id}/action (os-unreserve)"], "Free a reserved volume";
    VolumeBeginDetaching = "volume_extension:volume_actions:begin_detaching", MEMBER, was(OWNER), ["POST /volumes/{volume_id}/action (os-begin_detaching)"], "Say that a volume is being detached";
    VolumeAttach = "volume_extension:volume_actions:attach", MEMBER, was(OWNER), ["POST /volumes/{volume_id}/action (os-attach)"], "Say that a volume is attached";
    VolumeDetach = "volume_extension:volume_actions:detach", MEMBER, was(OWNER), ["POST /volumes/{volume_id}/action (os-detach)"], "Say that a volume is detached";
    VolumeReimage = "volume:reimage", MEMBER, NEW, ["POST /volumes/{volume_id}/action (os-reimage)"], "Write an image over a volume that is available or in error";
    VolumeReimageReserved = "volume:reimage_reserved", MEMBER, NEW, ["POST /volumes/{volume_id}/action (os-reimage)"], "Write an image over a reserved volume";
    TransferList = "volume:get_all_transfers", READER, was(OWNER), ["GET /os-volume-transfer", "GET /os-volume-transfer/detail", "GET /volume_transfers", "GET /volume-transfers/detail"], "List volume transfers";
    TransferCreate = "volume:create_transfer", MEMBER, was(OWNER), ["POST /os-volume-transfer", "POST /volume_transfers"], "Offer a volume to another project";
    TransferShow = "volume:get_transfer", READER, was(OWNER), ["GET /os-volume-transfer/{transfer_id}", "GET /volume-transfers/{transfer_id}"], "Show a volume transfer";
    TransferAccept = "volume:accept_transfer", MEMBER, was(ANYONE), ["POST /os-volume-transfer/{transfer_id}/accept", "POST /volume-transfers/{transfer_id}/accept"], "Take an offered volume";
    TransferDelete = "volume:delete_transfer", MEMBER, was(OWNER), ["DELETE /os-volume-transfer/{transfer_id}", "DELETE /volume-transfers/{transfer_id}"], "Withdraw the offer of a volume";
    VolumeMetadataShow = "volume:get_volume_metadata", READER, was(OWNER), ["GET /volumes/{volume_id}/metadata", "GET /volumes/{volume_id}/metadata/{key}", "POST /volumes/{volume_id}/action (os-show_image_metadata)"], "Read a volume's metadata, or its image's";
    VolumeMetadataCreate = "volume:create_volume_metadata", MEMBER, was(OWNER), ["POST /volumes/{volume_id}/metadata"], "Add keys to a volume's metadata";
    VolumeMetadataUpdate = "volume:update_volume_metadata", MEMBER, was(OWNER), ["PUT /volumes/{volume_id}/metadata", "PUT /volumes/{volume_id}/metadata/{key}"], "Change a volume's metadata";
    VolumeMetadataDelete = "volume:delete_volume_metadata", MEMBER, was(OWNER), ["DELETE /volumes/{volume_id}/metadata/{key}"], "Delete a key of a volume's metadata";
    VolumeImageMetadataShow = "volume_extension:volume_image_metadata:show", READER, called("volume_extension:volume_image_metadata", OWNER), ["GET /volumes/detail", "GET /volumes/{volume_id}"], "See the image's metadata in a volume";
    VolumeImageMetadataSet = "volume_extension:volume_image_metadata:set", MEMBER, called("volume_extension:volume_image_metadata", OWNER), ["POST /volumes/{volume_id}/action (os-set_image_metadata)"], "Set the image's metadata of a volume";
    VolumeImageMetadataRemove = "volume_extension:volume_image_metadata:remove", MEMBER, called("volume_extension:volume_image_metadata", OWNER), ["POST /volumes/{volume_id}/action (os-unset_image_metadata)"], "Remove a key of the image's metadata of a volume";
    VolumeAdminMetadataUpdate = "volume:update_volume_admin_metadata", ADMIN, NEW, ["POST /volumes/{volume_id}/action (os-update_readonly_flag)", "POST /volumes/{volume_id}/action (os-attach)"], "Change what administrators note on a volume";
    TypeExtraSpecList = "volume_extension:types_extra_specs:index", READER, was(ANYONE), ["GET /types/{type_id}/extra_specs"], "List the extra specs of a volume type";
    TypeExtraSpecCreate = "volume_extension:types_extra_specs:create", ADMIN, NEW, ["POST /types/{type_id}/extra_specs"], "Set extra specs of a volume type";
    TypeExtraSpecShow = "volume_extension:types_extra_specs:show", READER, was(ANYONE), ["GET /types/{type_id}/extra_specs/{extra_spec_key}"], "Show one extra spec of a volume type";
    TypeExtraSpecReadSensitive = "volume_extension:types_extra_specs:read_sensitive", ADMIN, NEW, ["GET /types", "GET /types/{type_id}", "GET /types/{type_id}/extra_specs", "GET /types/{type_id}/extra_specs/{extra_spec_key}"], "See the extra specs that tell of the deployment";
    TypeExtraSpecUpdate = "volume_extension:types_extra_specs:update", ADMIN, NEW, ["PUT /types/{type_id}/extra_specs/{extra_spec_key}"], "Change one extra spec of a volume type";
    TypeExtraSpecDelete = "volume_extension:types_extra_specs:delete", ADMIN, NEW, ["DELETE /types/{type_id}/extra_specs/{extra_spec_key}"], "Delete one extra spec of a volume type";
    VolumeCreate = "volume:create", MEMBER, was(ANYONE), ["POST /volumes"], "Create a volume";
    VolumeCreateFromImage = "volume:create_from_image", MEMBER, was(ANYONE), ["POST /volumes"], "Create a volume from an image";
    VolumeShow = "volume:get", READER, was(OWNER), ["GET /volumes/{volume_id}"], "Show a volume";
    VolumeList = "volume:get_all", READER, was(OWNER), ["GET /volumes", "GET /volumes/detail", "GET /volumes/summary"], "List volumes, or sum them up";
    VolumeUpdate = "volume:update", MEMBER, was(OWNER), ["PUT /volumes", "POST /volumes/{volume_id}/action (os-set_bootable)"], "Rename a volume, change its description or its bootable flag";
    VolumeDelete = "volume:delete", MEMBER, was(OWNER), ["DELETE /volumes/{volume_id}"], "Delete a volume";
    VolumeDeleteForced = "volume:force_delete", ADMIN, NEW, ["DELETE /volumes/{volume_id}"], "Delete a volume whatever its status, by the force parameter";
    VolumeHostAttribute = "volume_extension:volume_host_attribute", ADMIN, NEW, ["GET /volumes/{volume_id}", "GET /volumes/detail"], "See the pool of a volume";
    VolumeTenantAttribute = "volume_extension:volume_tenant_attribute", READER, was(OWNER), ["GET /volumes/{volume_id}", "GET /volumes/detail"], "See the project of a volume";
    VolumeMigrationAttribute = "volume_extension:volume_mig_status_attribute", ADMIN, NEW, ["GET /volumes/{volume_id}", "GET /volumes/detail"], "See how a volume's migration goes";
    VolumeEncryptionMetadata = "volume_extension:volume_encryption_metadata", READER, was(OWNER), ["GET /volumes/{volume_id}/encryption", "GET /volumes/{volume_id}/encryption/{encryption_key}"], "Read how a volume is encrypted";
    VolumeMultiattach = "volume:multiattach", MEMBER, was(OWNER), ["POST /volumes"], "Create a volume that several hosts may attach";
    DefaultTypeSet = "volume_extension:default_set_or_update", ADMIN, was(ANY_ADMIN), ["PUT /default-types"], "Set a project's default volume type";
    DefaultTypeShow = "volume_extension:default_get", ADMIN, was(ANY_ADMIN), ["GET /default-types/{project-id}"], "Show a project's default volume type";
    DefaultTypeList = "volume_extension:default_get_all", ADMIN, was("role:admin and system_scope:all"), ["GET /default-types/"], "List every project's default volume type";
    DefaultTypeUnset = "volume_extension:default_unset", ADMIN, was(ANY_ADMIN), ["DELETE /default-types/{project-id}"], "Unset a project's default volume type";
}
