//! The bodies that requests may have, in the newest shape. Keywords stand in the order in which Cinder checks them.

use wire::microversion::Behaviour::{ClosedVolumeCreate, MigrateToCluster, VolumeUpdateNeedsKey};
use wire::microversion::Resource;

use super::Keyword::{
    AnyOfRequired, Closed, Enum, ExactlyOneOf, Format as Fmt, Items, MaxLength, MinItems, MinLength,
    MinProperties, OneOf, Properties, Required, Since, Type, UniqueItems, Until,
};
use super::types::*;
use super::{Body, Choice, Format, Schema, Type as T};

const fn body(schemas: &'static [Schema]) -> Body {
    Body { resource: None, schemas }
}

/// `{name: schema}`, closed.
macro_rules! envelope {
    ($name:literal, $schema:expr) => {
        &[Type(&[T::Object]), Properties(&[($name, $schema)]), Required(&[$name]), Closed]
    };
}

/// A closed object with these properties, of which these are required.
macro_rules! closed {
    ([$($required:literal),*] $($name:literal: $schema:expr),* $(,)?) => {
        &[Type(&[T::Object]), Properties(&[$(($name, $schema)),*]), Required(&[$($required),*]), Closed]
    };
}

// Volumes.

pub const VOLUME_CREATE: Body = Body {
    resource: Some(Resource::Volume),
    schemas: &[
        &[
            Type(&[T::Object]),
            Properties(&[
                ("volume", NEW_VOLUME),
                ("OS-SCH-HNT:scheduler_hints", &[Type(&[T::Object, T::Null])]),
            ]),
            Required(&["volume"]),
            Closed,
        ],
        &[Type(&[T::Object]), Properties(&[("OS-SCH-HNT:scheduler_hints", HINTS)])],
    ],
};

const NEW_VOLUME: Schema = &[
    Type(&[T::Object]),
    Properties(&[
        ("name", NAME_W),
        ("description", DESCRIPTION_W),
        ("display_name", NAME_W),
        ("display_description", DESCRIPTION_W),
        ("volume_type", NAME0),
        ("metadata", META_OR_NULL),
        ("snapshot_id", UUID_OR_NULL),
        ("source_volid", UUID_OR_NULL),
        ("consistencygroup_id", UUID_OR_NULL),
        ("size", SIZE_OR_NULL),
        ("availability_zone", AVAILABILITY_ZONE),
        ("multiattach", BOOL_OR_NULL),
        ("image_id", NAME0),
        ("imageRef", NAME0),
        ("group_id", NAME0),
        ("backup_id", UUID_OR_NULL),
    ]),
    Since(ClosedVolumeCreate, &Closed),
];

const HINTS: Schema = &[
    Type(&[T::Object, T::Null]),
    Properties(&[
        ("local_to_instance", UUID_OR_NULL),
        ("different_host", UUID_OR_UUIDS),
        ("same_host", UUID_OR_UUIDS),
        ("query", &[Type(&[T::String, T::Object])]),
    ]),
];
const UUID_OR_UUIDS: Schema = &[OneOf(&[UUID, &[Type(&[T::Array]), Items(UUID), UniqueItems]])];

pub const VOLUME_UPDATE: Body = body(&[envelope!(
    "volume",
    &[
        Type(&[T::Object]),
        Properties(&[
            ("name", NAME_W),
            ("description", DESCRIPTION_W),
            ("display_name", NAME_W),
            ("display_description", DESCRIPTION_W),
            ("metadata", META),
        ]),
        Closed,
        Since(
            VolumeUpdateNeedsKey,
            &AnyOfRequired(&["name", "description", "display_name", "display_description", "metadata"])
        ),
    ]
)]);

pub const METADATA: Body = body(&[envelope!("metadata", META)]);
pub const METADATA_ITEM: Body = body(&[envelope!("meta", META_PAIR)]);

// Volume actions.

const READ_WRITE: Schema = &[Type(&[T::String]), Enum(&[Choice::Text("rw"), Choice::Text("ro")])];
const CONNECTOR: Schema = &[Type(&[T::String, T::Object, T::Null])];

pub const OS_ATTACH: Body = body(&[envelope!(
    "os-attach",
    &[
        Type(&[T::Object]),
        Properties(&[
            ("instance_uuid", UUID),
            ("mountpoint", TEXT_1_255),
            ("host_name", TEXT_255),
            ("mode", READ_WRITE),
        ]),
        Required(&["mountpoint"]),
        AnyOfRequired(&["instance_uuid", "host_name"]),
        Closed,
    ]
)]);
pub const OS_DETACH: Body = body(&[envelope!(
    "os-detach",
    &[Type(&[T::Object, T::Null]), Properties(&[("attachment_id", UUID_OR_NULL)]), Closed]
)]);
pub const OS_RESERVE: Body = body(&[envelope!("os-reserve", ANY)]);
pub const OS_UNRESERVE: Body = body(&[envelope!("os-unreserve", ANY)]);
pub const OS_BEGIN_DETACHING: Body = body(&[envelope!("os-begin_detaching", ANY)]);
pub const OS_ROLL_DETACHING: Body = body(&[envelope!("os-roll_detaching", ANY)]);
pub const OS_INITIALIZE_CONNECTION: Body = body(&[envelope!(
    "os-initialize_connection",
    closed!(["connector"] "connector": &[Type(&[T::Object, T::String])])
)]);
pub const OS_TERMINATE_CONNECTION: Body =
    body(&[envelope!("os-terminate_connection", closed!(["connector"] "connector": CONNECTOR))]);
pub const OS_EXTEND: Body = body(&[envelope!("os-extend", closed!(["new_size"] "new_size": SIZE))]);
const TEXT_NULL_OR_BOOL: Schema = &[Type(&[T::String, T::Null, T::Boolean])];
pub const OS_EXTEND_VOLUME_COMPLETION: Body =
    body(&[envelope!("os-extend_volume_completion", closed!([] "error": TEXT_NULL_OR_BOOL))]);
pub const REVERT: Body =
    body(&[envelope!("revert", &[Type(&[T::Object]), Properties(&[("snapshot_id", TEXT_OR_NULL)])])]);
pub const OS_RETYPE: Body = body(&[envelope!(
    "os-retype",
    closed!(["new_type"]
        "new_type": TEXT,
        "migration_policy": &[
            Type(&[T::String, T::Null]),
            Enum(&[Choice::Text("on-demand"), Choice::Text("never")]),
        ],
    )
)]);
pub const OS_MIGRATE_VOLUME: Body = Body {
    resource: Some(Resource::Volume),
    schemas: &[envelope!(
        "os-migrate_volume",
        &[
            Type(&[T::Object]),
            Properties(&[
                (
                    "host",
                    &[
                        Until(MigrateToCluster, &Type(&[T::String])),
                        Type(&[T::String, T::Null]),
                        MaxLength(255),
                    ],
                ),
                ("cluster", NAME0),
                ("force_host_copy", BOOL),
                ("lock_volume", BOOL),
            ]),
            Until(MigrateToCluster, &Required(&["host"])),
            Closed,
        ]
    )],
};
pub const OS_UNMANAGE: Body = body(&[envelope!("os-unmanage", ANY)]);
pub const VOLUME_MANAGE: Body = Body {
    resource: Some(Resource::Volume),
    schemas: &[envelope!(
        "volume",
        closed!(["ref"]
            "description": DESCRIPTION, "availability_zone": NAME0, "bootable": BOOL, "volume_type": NAME0, "name": NAME0,
            "host": HOST, "ref": &[Type(&[T::Object, T::String])], "metadata": META_OR_NULL, "cluster": NAME0,
        )
    )],
};
pub const SNAPSHOT_MANAGE: Body = body(&[envelope!(
    "snapshot",
    closed!(["ref", "volume_id"]
        "description": DESCRIPTION, "metadata": META_OR_NULL, "name": NAME0, "volume_id": UUID,
        "ref": &[Type(&[T::Object, T::Null, T::String])],
    )
)]);
pub const OS_MIGRATE_VOLUME_COMPLETION: Body = body(&[envelope!(
    "os-migrate_volume_completion",
    closed!(["new_volume"] "new_volume": UUID, "error": TEXT_NULL_OR_BOOL)
)]);
pub const OS_SET_BOOTABLE: Body =
    body(&[envelope!("os-set_bootable", closed!(["bootable"] "bootable": BOOL))]);
pub const OS_UPDATE_READONLY_FLAG: Body =
    body(&[envelope!("os-update_readonly_flag", closed!(["readonly"] "readonly": BOOL))]);
pub const OS_SHOW_IMAGE_METADATA: Body = body(&[envelope!("os-show_image_metadata", ANY)]);
pub const OS_SET_IMAGE_METADATA: Body =
    body(&[envelope!("os-set_image_metadata", closed!(["metadata"] "metadata": IMAGE_META))]);
pub const OS_UNSET_IMAGE_METADATA: Body =
    body(&[envelope!("os-unset_image_metadata", closed!(["key"] "key": TEXT_1_255))]);
pub const OS_FORCE_DELETE: Body = body(&[envelope!("os-force_delete", ANY)]);
pub const OS_FORCE_DETACH: Body =
    body(&[envelope!("os-force_detach", closed!([] "connector": CONNECTOR, "attachment_id": TEXT_OR_NULL))]);
pub const OS_RESET_STATUS_VOLUME: Body = body(&[envelope!(
    "os-reset_status",
    &[
        Type(&[T::Object]),
        Fmt(Format::VolumeReset),
        Properties(&[
            ("status", &[Type(&[T::String, T::Null]), Fmt(Format::VolumeStatus)]),
            ("attach_status", &[Type(&[T::String, T::Null]), Fmt(Format::VolumeAttachStatus)]),
            ("migration_status", &[Type(&[T::String, T::Null]), Fmt(Format::VolumeMigrationStatus)]),
        ]),
        Closed,
    ]
)]);

// Snapshots.

pub const SNAPSHOT_CREATE: Body = body(&[envelope!(
    "snapshot",
    closed!(["volume_id"]
        "name": NAME0, "display_name": NAME0, "description": DESCRIPTION, "volume_id": UUID_OR_NULL, "force": BOOL,
        "metadata": META_OR_NULL,
    )
)]);
pub const SNAPSHOT_UPDATE: Body = body(&[envelope!(
    "snapshot",
    &[
        Type(&[T::Object]),
        Properties(&[
            ("name", NAME0),
            ("description", DESCRIPTION),
            ("display_name", NAME0),
            ("display_description", DESCRIPTION),
        ]),
        Closed,
        AnyOfRequired(&["name", "description", "display_name", "display_description"]),
    ]
)]);
pub const SNAPSHOT_METADATA: Body =
    body(&[&[Type(&[T::Object]), Properties(&[("metadata", SNAPSHOT_META)]), Required(&["metadata"])]]);
pub const SNAPSHOT_METADATA_ITEM: Body =
    body(&[&[Type(&[T::Object]), Properties(&[("meta", SNAPSHOT_META_PAIR)]), Required(&["meta"])]]);
pub const OS_RESET_STATUS_SNAPSHOT: Body = body(&[envelope!(
    "os-reset_status",
    closed!(["status"] "status": &[Type(&[T::String]), Fmt(Format::SnapshotStatus)])
)]);
pub const OS_UPDATE_SNAPSHOT_STATUS: Body = body(&[envelope!(
    "os-update_snapshot_status",
    closed!(["status"] "status": TEXT, "progress": &[Fmt(Format::Progress)])
)]);

// Attachments.

pub const ATTACHMENT_CREATE: Body = Body {
    resource: Some(Resource::Attachment),
    schemas: &[envelope!(
        "attachment",
        closed!(["volume_uuid"]
            "instance_uuid": UUID, "connector": &[Type(&[T::Object, T::Null])], "volume_uuid": UUID, "mode": READ_WRITE,
        )
    )],
};
pub const ATTACHMENT_UPDATE: Body = body(&[envelope!(
    "attachment",
    closed!(["connector"] "connector": &[Type(&[T::Object]), MinProperties(1)])
)]);
pub const OS_COMPLETE: Body = body(&[envelope!("os-complete", ANY)]);

// Backups.

pub const BACKUP_CREATE: Body = Body {
    resource: Some(Resource::Backup),
    schemas: &[envelope!(
        "backup",
        closed!(["volume_id"]
            "volume_id": UUID, "container": NAME0, "description": DESCRIPTION, "incremental": BOOL, "force": BOOL,
            "name": NAME0, "snapshot_id": UUID_OR_NULL, "metadata": META_OR_NULL, "availability_zone": NAME0,
        )
    )],
};
pub const BACKUP_UPDATE: Body = Body {
    resource: Some(Resource::Backup),
    schemas: &[envelope!(
        "backup",
        &[
            Type(&[T::Object, T::Null]),
            Properties(&[("name", NAME0), ("description", DESCRIPTION), ("metadata", META)]),
            Closed,
        ]
    )],
};
pub const BACKUP_RESTORE: Body = body(&[envelope!(
    "restore",
    &[Type(&[T::Object, T::Null]), Properties(&[("name", NAME0), ("volume_id", UUID_OR_NULL)]), Closed]
)]);
pub const BACKUP_IMPORT: Body = body(&[envelope!(
    "backup-record",
    closed!(["backup_service", "backup_url"]
        "backup_service": TEXT_255, "backup_url": &[Type(&[T::String]), MinLength(1), Fmt(Format::Base64)],
    )
)]);
pub const OS_RESET_STATUS_BACKUP: Body = body(&[envelope!(
    "os-reset_status",
    closed!(["status"] "status": &[Type(&[T::String]), Fmt(Format::BackupStatus)])
)]);

// Volume types.

pub const TYPE_CREATE: Body = body(&[envelope!(
    "volume_type",
    closed!(["name"]
        "name": NAME, "description": DESCRIPTION, "extra_specs": SPECS, "os-volume-type-access:is_public": BOOL,
    )
)]);
pub const TYPE_UPDATE: Body = body(&[envelope!(
    "volume_type",
    closed!([] "name": NAME_OR_NULL, "description": DESCRIPTION, "is_public": BOOL)
)]);
pub const EXTRA_SPECS: Body = body(&[envelope!("extra_specs", SPECS_STRICT)]);
pub const EXTRA_SPEC: Body = body(&[SPEC_PAIR]);
pub const ADD_PROJECT_ACCESS: Body =
    body(&[envelope!("addProjectAccess", closed!(["project"] "project": TEXT_1_255))]);
pub const REMOVE_PROJECT_ACCESS: Body =
    body(&[envelope!("removeProjectAccess", closed!(["project"] "project": TEXT_1_255))]);

pub const GROUP_TYPE_CREATE: Body = body(&[envelope!(
    "group_type",
    closed!(["name"] "name": NAME, "description": DESCRIPTION, "is_public": BOOL, "group_specs": META_OR_NULL)
)]);
pub const GROUP_TYPE_UPDATE: Body = body(&[envelope!(
    "group_type",
    closed!([] "name": NAME0, "description": DESCRIPTION, "is_public": BOOL)
)]);
pub const GROUP_SPECS: Body = body(&[envelope!("group_specs", SPECS_STRICT)]);
pub const GROUP_SPEC: Body = body(&[SPEC_PAIR]);

// Groups and their snapshots.

pub const GROUP_CREATE: Body = body(&[envelope!(
    "group",
    closed!(["group_type", "volume_types"]
        "description": DESCRIPTION, "group_type": TEXT_1_255, "name": NAME0,
        "volume_types": &[Type(&[T::Array]), MinItems(1), Items(TEXT_255), UniqueItems],
        "availability_zone": AVAILABILITY_ZONE,
    )
)]);
pub const GROUP_CREATE_FROM: Body = body(&[envelope!(
    "create-from-src",
    &[
        Type(&[T::Object]),
        Properties(&[
            ("description", DESCRIPTION),
            ("name", NAME0),
            ("source_group_id", UUID),
            ("group_snapshot_id", UUID),
        ]),
        ExactlyOneOf(&["group_snapshot_id", "source_group_id"]),
        Closed,
    ]
)]);
pub const GROUP_UPDATE: Body = body(&[envelope!(
    "group",
    &[
        Type(&[T::Object]),
        Properties(&[
            ("description", DESCRIPTION),
            ("name", NAME0),
            ("add_volumes", VOLUME_LIST),
            ("remove_volumes", VOLUME_LIST),
        ]),
        AnyOfRequired(&["name", "description", "add_volumes", "remove_volumes"]),
        Closed,
    ]
)]);
pub const GROUP_DELETE: Body = body(&[envelope!("delete", closed!([] "delete-volumes": BOOL))]);
pub const GROUP_RESET: Body = body(&[envelope!(
    "reset_status",
    closed!(["status"] "status": &[Type(&[T::String]), Fmt(Format::GroupStatus)])
)]);
const NOTHING_IN_PARTICULAR: Schema = &[Type(&[T::Object])];
pub const GROUP_ENABLE_REPLICATION: Body = body(&[envelope!("enable_replication", NOTHING_IN_PARTICULAR)]);
pub const GROUP_DISABLE_REPLICATION: Body = body(&[envelope!("disable_replication", NOTHING_IN_PARTICULAR)]);
pub const GROUP_LIST_REPLICATION_TARGETS: Body =
    body(&[envelope!("list_replication_targets", NOTHING_IN_PARTICULAR)]);
pub const GROUP_FAIL_OVER: Body = body(&[envelope!(
    "failover_replication",
    closed!([] "allow_attached_volume": BOOL, "secondary_backend_id": TEXT_OR_NULL)
)]);
pub const GROUP_SNAPSHOT_CREATE: Body = body(&[envelope!(
    "group_snapshot",
    closed!(["group_id"] "group_id": UUID, "name": NAME0, "description": DESCRIPTION)
)]);
pub const GROUP_SNAPSHOT_RESET: Body = body(&[envelope!(
    "reset_status",
    closed!(["status"] "status": &[Type(&[T::String]), Fmt(Format::GroupSnapshotStatus)])
)]);

/// `{name: {...}}`, open at both levels.
macro_rules! open {
    ($name:literal, $types:expr) => {
        &[Type(&[T::Object]), Properties(&[($name, &[Type($types), Properties(NAMED)])]), Required(&[$name])]
    };
}
const NAMED: &[(&str, Schema)] = &[("name", NAME_W), ("description", DESCRIPTION_W)];
pub const CONSISTENCY_GROUP: Body = body(&[open!("consistencygroup", &[T::Object])]);
pub const CONSISTENCY_GROUP_FROM: Body = body(&[open!("consistencygroup-from-src", &[T::Object])]);
pub const CGSNAPSHOT_CREATE: Body = body(&[open!("cgsnapshot", &[T::Object])]);
pub const CONSISTENCY_GROUP_DELETE: Body = body(&[&[
    Type(&[T::Object, T::Null]),
    Properties(&[("consistencygroup", &[Type(&[T::Object]), Properties(&[("force", BOOL)])])]),
]]);

// Encryption of types, QoS specs, default types: objects that refuse unknown keys say so.

const CONTROL_LOCATION: Schema = &[Enum(&[Choice::Text("front-end"), Choice::Text("back-end")])];
pub const ENCRYPTION_CREATE: Body = body(&[envelope!(
    "encryption",
    &[
        Type(&[T::Object]),
        Properties(&[
            ("key_size", KEY_SIZE),
            ("provider", TEXT_255),
            ("control_location", CONTROL_LOCATION),
            ("cipher", NAME0),
        ]),
        Required(&["provider", "control_location"]),
    ]
)]);
pub const ENCRYPTION_UPDATE: Body = body(&[envelope!(
    "encryption",
    &[
        Type(&[T::Object]),
        Properties(&[
            ("key_size", KEY_SIZE),
            ("provider", TEXT_255),
            ("control_location", CONTROL_LOCATION),
            ("cipher", NAME0),
        ]),
    ]
)]);
pub const QOS_CREATE: Body = body(&[envelope!(
    "qos_specs",
    &[
        Type(&[T::Object]),
        Properties(&[("name", &[Type(&[T::String]), Fmt(Format::NameInSpaces)])]),
        Required(&["name"]),
    ]
)]);
pub const QOS_UPDATE: Body = body(&[envelope!("qos_specs", SPECS)]);
pub const QOS_DELETE_KEYS: Body =
    body(&[envelope!("keys", &[Type(&[T::Array]), Items(TEXT_1_255), UniqueItems])]);
pub const DEFAULT_TYPE_SET: Body = body(&[&[
    Type(&[T::Object]),
    Properties(&[("default_type", closed!(["volume_type"] "volume_type": NAME))]),
    Required(&["default_type"]),
]]);

// Transfers.

const NAME_IN_SPACES_OR_NULL: Schema =
    &[OneOf(&[&[Type(&[T::String]), Fmt(Format::NameInSpaces)], &[Type(&[T::Null])]])];
pub const OLD_TRANSFER_CREATE: Body =
    body(&[envelope!("transfer", closed!(["volume_id"] "volume_id": UUID, "name": NAME_IN_SPACES_OR_NULL))]);
pub const TRANSFER_CREATE: Body = Body {
    resource: Some(Resource::Transfer),
    schemas: &[envelope!(
        "transfer",
        closed!(["volume_id"] "volume_id": UUID, "name": NAME_IN_SPACES_OR_NULL, "no_snapshots": BOOL)
    )],
};
pub const TRANSFER_ACCEPT: Body =
    body(&[envelope!("accept", closed!(["auth_key"] "auth_key": &[Type(&[T::String, T::Integer])]))]);

// Operators.

pub const QUOTA_UPDATE: Body = body(&[envelope!("quota_set", &[Type(&[T::Object]), MinProperties(1)])]);
pub const QUOTA_CLASS_UPDATE: Body = body(&[envelope!("quota_class_set", QUOTA_CLASS)]);

pub const SERVICE_SWITCH: Body = body(&[&[
    Type(&[T::Object]),
    Properties(&[("binary", TEXT_1_255), ("host", HOST), ("cluster", NAME0), ("service", TEXT_1_255)]),
    AnyOfRequired(&["binary", "service"]),
    Closed,
]]);
pub const SERVICE_DISABLE_REASON: Body = body(&[&[
    Type(&[T::Object]),
    Properties(&[
        ("binary", TEXT_1_255),
        ("host", HOST),
        ("cluster", NAME0),
        ("service", TEXT_1_255),
        ("disabled_reason", &[Type(&[T::String]), MinLength(1), MaxLength(255), Fmt(Format::DisabledReason)]),
    ]),
    AnyOfRequired(&["binary", "service"]),
    Closed,
]]);

pub const CLUSTER_ENABLE: Body = body(&[closed!(["name"] "name": NAME, "binary": NAME0)]);
pub const CLUSTER_DISABLE: Body = body(&[closed!(["name"]
    "name": NAME, "binary": NAME0,
    "disabled_reason": &[Type(&[T::String, T::Null]), Fmt(Format::DisabledReason)],
)]);
const LOG_BINARY: Schema = &[
    Type(&[T::String]),
    Enum(&[
        Choice::Text("cinder-volume"),
        Choice::Text("cinder-scheduler"),
        Choice::Text("cinder-backup"),
        Choice::Text("cinder-api"),
        Choice::Text(""),
        Choice::Text("*"),
    ]),
];
pub const SET_LOG: Body = body(&[closed!([]
    "binary": LOG_BINARY, "server": NAME0, "prefix": NAME0, "level": TEXT_OR_NULL,
)]);
pub const GET_LOG: Body = body(&[closed!([] "binary": LOG_BINARY, "server": NAME0, "prefix": NAME0)]);
pub const FREEZE: Body = body(&[closed!([] "cluster": NAME0, "host": HOST)]);
pub const FAIL_OVER: Body = body(&[closed!([] "host": HOST, "backend_id": NAME0, "cluster": NAME0)]);
/// What it may hold is said by its handler, in words of its own.
pub const HOST_UPDATE: Body = body(&[&[Type(&[T::Object])]]);
