//! What quotas count.

/// A resource that a quota limits and its use by one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The resource: `volumes`, `gigabytes`, `volumes_<type>`, ...
    pub resource: String,
    /// How many more (or fewer, when negative) are used.
    pub delta: i64,
}

impl Usage {
    /// `delta` of `resource`.
    pub fn of(resource: impl Into<String>, delta: i64) -> Self {
        Self { resource: resource.into(), delta }
    }
}

/// One resource's limit and use in a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaLine {
    pub resource: String,
    /// -1: no limit.
    pub limit: i64,
    pub in_use: i64,
    pub reserved: i64,
}

/// Cinder's built-in limits, which a new database holds as the class `default` (quotas.md).
pub const DEFAULTS: &[(&str, i64)] = &[
    ("volumes", 10),
    ("snapshots", 10),
    ("gigabytes", 1000),
    ("per_volume_gigabytes", -1),
    ("groups", 10),
    ("backups", 10),
    ("backup_gigabytes", 1000),
];
