//! Microversions: the one place that spells and compares them (style 2.5).
//!
//! There is one shape per resource, the newest. What older callers see differently is the [`HISTORY`] table: routes, fields,
//! query parameters and behaviours, each with the version that brought it. The edge asks a negotiated [`Version`] whether it
//! [`serves`](Version::serves) a route, [`accepts`](Version::accepts) or [`shows`](Version::shows) a field, [`takes`](Version::takes) a parameter or
//! [`has`](Version::has) a behaviour; nobody else compares versions.

use std::fmt;

use serde_json::{Map, Value};

/// A negotiated version: always one that the service speaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version {
    minor: u32,
}

/// Minor version `minor` of the one major version there is.
const fn v(minor: u32) -> Version {
    Version { minor }
}

/// What version documents show as `updated`.
pub const UPDATED: &str = "2023-08-31T00:00:00Z";

/// The shapes whose fields and parameters changed over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Volume,
    VolumeSummary,
    Snapshot,
    Attachment,
    Backup,
    VolumeType,
    Limits,
    Pool,
    Service,
    Transfer,
    Cluster,
    Group,
    GroupSnapshot,
}

/// What the service does differently for older callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Boolean filters of volume lists refuse what is no boolean, instead of reading it as true.
    StrictBooleanFilters,
    /// Message lists page, sort and filter.
    MessagePaging,
    /// Volume metadata carries an `ETag` and honours `If-Match`.
    MetadataEtag,
    /// Pool lists filter at all.
    PoolFilters,
    /// Snapshots sort by `name`.
    SnapshotSortByName,
    /// List filters are checked against the operator's file.
    ConfiguredFilters,
    /// `name~` matches substrings.
    LikeFilters,
    /// Backups sort by `name`.
    BackupSortByName,
    /// Volumes grow while attached.
    ExtendInUse,
    /// Creating a volume refuses keys that it does not know.
    ClosedVolumeCreate,
    /// Updating a volume needs at least one key.
    VolumeUpdateNeedsKey,
    /// Snapshots of volumes in use need no `force`, and `force: false` is an error.
    SnapshotInUse,
    /// Lists of transfers page and sort.
    TransferPaging,
    /// Encrypted volumes are transferred.
    TransferEncrypted,
    /// Backends are frozen and failed over by the name of their cluster.
    ClusterReplication,
    /// Volumes migrate to clusters, and are managed on them, too.
    MigrateToCluster,
    /// What a cluster has that could be managed is listed.
    ManageableOfCluster,
    /// Consistency groups may lose their name and description.
    ConsistencyGroupNameless,
    /// Lists of group snapshots page, sort and filter.
    GroupSnapshotPaging,
}

/// One consequence of a version.
#[derive(Clone, Copy)]
pub enum Effect {
    /// Below: every method of every path with this beginning is 404.
    Route(&'static str),
    /// Below: this method of this very path is 404.
    Method(&'static str, &'static str),
    /// Below: this action is 404.
    Action(&'static str, &'static str),
    /// Below: absent from answers.
    Field(Resource, &'static str),
    /// Below: unknown in requests.
    Accepts(Resource, &'static str),
    /// Below: the query parameter is not known.
    Query(Resource, &'static str),
    /// Below: the answer is rewritten to its older shape.
    Lower(Resource, fn(&mut Map<String, Value>)),
    /// Below: the service keeps its older behaviour.
    Switch(Behaviour),
}

/// One version.
pub struct Change {
    pub at: Version,
    /// In one line, for people.
    pub says: &'static str,
    pub effects: &'static [Effect],
}

use Behaviour::*;
use Effect::*;

/// Every version with what it brought, oldest first. The resources of groups and image upload
/// state their routes only, until they are served.
#[rustfmt::skip] // a table reads best as a table
pub const HISTORY: &[Change] = &[
    Change { at: v(0),  says: "the whole of API v2, and negotiation", effects: &[] },
    Change { at: v(1),  says: "visibility and protection of uploaded images", effects: &[] },
    Change { at: v(2),  says: "boolean volume filters are booleans", effects: &[Switch(StrictBooleanFilters)] },
    Change { at: v(3),  says: "user messages", effects: &[Route("/messages")] },
    Change { at: v(4),  says: "volumes filtered by image metadata", effects: &[Query(Resource::Volume, "glance_metadata")] },
    Change { at: v(5),  says: "messages in pages", effects: &[Switch(MessagePaging)] },
    Change { at: v(6),  says: "consistency groups may lose their name", effects: &[Switch(ConsistencyGroupNameless)] },
    Change { at: v(7),  says: "clusters", effects: &[Route("/clusters"), Field(Resource::Service, "cluster")] },
    Change { at: v(8),  says: "manageable volumes and snapshots", effects: &[Route("/manageable_volumes"), Route("/manageable_snapshots")] },
    Change { at: v(9),  says: "backups are updated", effects: &[Method("PUT", "/backups/{id}")] },
    Change { at: v(10), says: "volumes filtered by group", effects: &[Query(Resource::Volume, "group_id")] },
    Change { at: v(11), says: "group types", effects: &[Route("/group_types")] },
    Change { at: v(12), says: "a summary of volumes", effects: &[Route("/volumes/summary")] },
    Change { at: v(13), says: "generic volume groups", effects: &[Route("/groups"), Field(Resource::Volume, "group_id"), Accepts(Resource::Volume, "group_id")] },
    Change { at: v(14), says: "group snapshots", effects: &[Route("/group_snapshots"), Action("/groups/action", "create-from-src"), Field(Resource::Snapshot, "group_snapshot_id"),
        Field(Resource::Group, "group_snapshot_id"), Field(Resource::Group, "source_group_id")] },
    Change { at: v(15), says: "lost updates of volume metadata are refused", effects: &[Switch(MetadataEtag)] },
    Change { at: v(16), says: "migration to a cluster", effects: &[Switch(MigrateToCluster), Accepts(Resource::Volume, "cluster")] },
    Change { at: v(17), says: "manageable resources of a cluster", effects: &[Switch(ManageableOfCluster)] },
    Change { at: v(18), says: "a backup's project", effects: &[Field(Resource::Backup, "os-backup-project-attr:project_id")] },
    Change { at: v(19), says: "group snapshots are reset", effects: &[Action("/group_snapshots/{id}/action", "reset_status")] },
    Change { at: v(20), says: "groups are reset", effects: &[Action("/groups/{id}/action", "reset_status")] },
    Change { at: v(21), says: "a volume's provider id", effects: &[Field(Resource::Volume, "provider_id")] },
    Change { at: v(22), says: "snapshots filtered by metadata", effects: &[Query(Resource::Snapshot, "metadata")] },
    Change { at: v(23), says: "volumes are deleted by force", effects: &[Query(Resource::Volume, "force")] },
    Change { at: v(24), says: "workers clean up", effects: &[Route("/workers")] },
    Change { at: v(25), says: "a group's volumes", effects: &[Field(Resource::Group, "volumes")] },
    Change { at: v(26), says: "failover of clusters", effects: &[Route("/os-services/failover"), Switch(ClusterReplication),
        Field(Resource::Cluster, "replication_status"), Field(Resource::Cluster, "frozen"), Field(Resource::Cluster, "active_backend_id"),
        Query(Resource::Cluster, "replication_status"), Query(Resource::Cluster, "frozen"), Query(Resource::Cluster, "active_backend_id")] },
    Change { at: v(27), says: "attachments", effects: &[Route("/attachments")] },
    Change { at: v(28), says: "pools are filtered", effects: &[Switch(PoolFilters)] },
    Change { at: v(29), says: "group snapshots in pages", effects: &[Switch(GroupSnapshotPaging)] },
    Change { at: v(30), says: "snapshots sorted by name", effects: &[Switch(SnapshotSortByName)] },
    Change { at: v(31), says: "operators choose the filters", effects: &[Switch(ConfiguredFilters)] },
    Change { at: v(32), says: "log levels", effects: &[Route("/os-services/set-log"), Route("/os-services/get-log")] },
    Change { at: v(33), says: "the filters that operators chose", effects: &[Route("/resource_filters")] },
    Change { at: v(34), says: "filters that match substrings", effects: &[Switch(LikeFilters)] },
    Change { at: v(35), says: "pools filtered by volume type", effects: &[Query(Resource::Pool, "volume_type")] },
    Change { at: v(36), says: "metadata in the summary of volumes", effects: &[Field(Resource::VolumeSummary, "metadata")] },
    Change { at: v(37), says: "backups sorted by name", effects: &[Switch(BackupSortByName)] },
    Change { at: v(38), says: "replication of groups", effects: &[
        Action("/groups/{id}/action", "enable_replication"), Action("/groups/{id}/action", "disable_replication"),
        Action("/groups/{id}/action", "failover_replication"), Action("/groups/{id}/action", "list_replication_targets"),
        Field(Resource::Group, "replication_status")] },
    Change { at: v(39), says: "limits of another project", effects: &[Query(Resource::Limits, "project_id")] },
    Change { at: v(40), says: "volumes go back to their newest snapshot", effects: &[Action("/volumes/{id}/action", "revert")] },
    Change { at: v(41), says: "a snapshot's user", effects: &[Field(Resource::Snapshot, "user_id")] },
    Change { at: v(42), says: "volumes grow while attached", effects: &[Switch(ExtendInUse)] },
    Change { at: v(43), says: "metadata of backups", effects: &[Field(Resource::Backup, "metadata"), Accepts(Resource::Backup, "metadata")] },
    Change { at: v(44), says: "attachments are completed", effects: &[Action("/attachments/{id}/action", "os-complete")] },
    Change { at: v(45), says: "counts in lists", effects: &[
        Query(Resource::Volume, "with_count"), Query(Resource::Snapshot, "with_count"), Query(Resource::Backup, "with_count")] },
    Change { at: v(46), says: "volumes from Nova's snapshot images", effects: &[] },
    Change { at: v(47), says: "volumes from backups", effects: &[Accepts(Resource::Volume, "backup_id")] },
    Change { at: v(48), says: "shared targets and a volume's service", effects: &[Field(Resource::Volume, "shared_targets"), Field(Resource::Volume, "service_uuid")] },
    Change { at: v(49), says: "the state of backends", effects: &[Field(Resource::Service, "backend_state")] },
    Change { at: v(50), says: "multi-attach is announced", effects: &[] },
    Change { at: v(51), says: "backups in another zone", effects: &[Accepts(Resource::Backup, "availability_zone")] },
    Change { at: v(52), says: "types filtered by extra specs", effects: &[Query(Resource::VolumeType, "extra_specs")] },
    Change { at: v(53), says: "volume requests are closed", effects: &[Switch(ClosedVolumeCreate), Switch(VolumeUpdateNeedsKey)] },
    Change { at: v(54), says: "the mode of an attachment", effects: &[Accepts(Resource::Attachment, "mode")] },
    Change { at: v(55), says: "transfers without snapshots", effects: &[Field(Resource::Transfer, "no_snapshots"), Accepts(Resource::Transfer, "no_snapshots")] },
    Change { at: v(56), says: "a backup's user", effects: &[Field(Resource::Backup, "user_id")] },
    Change { at: v(57), says: "both sides of a transfer", effects: &[
        Field(Resource::Transfer, "source_project_id"), Field(Resource::Transfer, "destination_project_id"), Field(Resource::Transfer, "accepted")] },
    Change { at: v(58), says: "a group's project", effects: &[Field(Resource::Group, "project_id"), Field(Resource::GroupSnapshot, "project_id")] },
    Change { at: v(59), says: "transfers in pages", effects: &[Switch(TransferPaging)] },
    Change { at: v(60), says: "volumes filtered by time", effects: &[Query(Resource::Volume, "created_at"), Query(Resource::Volume, "updated_at")] },
    Change { at: v(61), says: "a volume's cluster", effects: &[Field(Resource::Volume, "cluster_name")] },
    Change { at: v(62), says: "default types of projects", effects: &[Route("/default-types")] },
    Change { at: v(63), says: "the id of a volume's type", effects: &[Lower(Resource::Volume, id_for_missing_type), Field(Resource::Volume, "volume_type_id")] },
    Change { at: v(64), says: "encryption keys in details", effects: &[Field(Resource::Volume, "encryption_key_id"), Field(Resource::Backup, "encryption_key_id")] },
    Change { at: v(65), says: "who consumes quota", effects: &[
        Field(Resource::Volume, "consumes_quota"), Field(Resource::Snapshot, "consumes_quota")] },
    Change { at: v(66), says: "snapshots of volumes in use", effects: &[Switch(SnapshotInUse)] },
    Change { at: v(67), says: "paths without a project", effects: &[] },
    Change { at: v(68), says: "volumes get a new image", effects: &[Action("/volumes/{id}/action", "os-reimage")] },
    Change { at: v(69), says: "nobody may know whether targets are shared", effects: &[Lower(Resource::Volume, unknown_is_shared)] },
    Change { at: v(70), says: "transfers of encrypted volumes", effects: &[Switch(TransferEncrypted)] },
    Change { at: v(71), says: "Nova reports the end of an extend", effects: &[] },
];

/// Before a type's id was shown beside its name, the id stood in for a name that could not be loaded.
fn id_for_missing_type(volume: &mut Map<String, Value>) {
    if volume.get("volume_type").is_some_and(Value::is_null)
        && let Some(id) = volume.get("volume_type_id").cloned()
    {
        volume.insert("volume_type".into(), id);
    }
}

/// Before it could be unknown, an unknown `shared_targets` was shown as true.
fn unknown_is_shared(volume: &mut Map<String, Value>) {
    if let Some(shared) = volume.get_mut("shared_targets")
        && shared.is_null()
    {
        *shared = Value::Bool(true);
    }
}

impl Version {
    /// The oldest that is spoken; what a request without the header gets.
    pub const MIN: Self = v(0);
    /// The newest.
    pub const MAX: Self = v(71);

    /// The version that brought what `matches` recognises, unless it has been there from the start.
    fn origin(matches: impl Fn(&Effect) -> bool) -> Option<Self> {
        HISTORY.iter().find(|change| change.effects.iter().any(&matches)).map(|change| change.at)
    }

    fn since(self, matches: impl Fn(&Effect) -> bool) -> bool {
        Self::origin(matches).is_none_or(|origin| self.serves(origin))
    }

    /// Since when a route, or an action on it, is served. The path is the table's: `/volumes/{id}`.
    pub fn of_route(method: &str, path: &str, action: Option<&str>) -> Self {
        let origin = |effect: &Effect| match (*effect, action) {
            (Route(start), _) => {
                path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            (Method(m, p), None) => m == method && p == path,
            (Action(p, a), Some(name)) => p == path && a == name,
            _ => false,
        };
        // The latest of all that apply: an action may be younger than its resource.
        HISTORY
            .iter()
            .rev()
            .find(|change| change.effects.iter().any(origin))
            .map_or(Self::MIN, |change| change.at)
    }

    /// Whether a route that came with `origin` is served.
    pub fn serves(self, origin: Self) -> bool {
        self.minor >= origin.minor
    }

    /// Whether requests may hold the field.
    pub fn accepts(self, resource: Resource, field: &str) -> bool {
        self.since(|effect| matches!(effect, Accepts(r, f) if *r == resource && *f == field))
    }

    /// Whether answers hold the field.
    pub fn shows(self, resource: Resource, field: &str) -> bool {
        self.since(|effect| matches!(effect, Field(r, f) if *r == resource && *f == field))
    }

    /// Whether the query parameter is known.
    pub fn takes(self, resource: Resource, parameter: &str) -> bool {
        self.since(|effect| matches!(effect, Query(r, p) if *r == resource && *p == parameter))
    }

    /// Whether the service behaves the newer way.
    pub fn has(self, behaviour: Behaviour) -> bool {
        self.since(|effect| matches!(effect, Switch(b) if *b == behaviour))
    }

    /// What turns newest shapes of `resource` into this version's.
    pub fn lowering(self, resource: Resource) -> Lowering {
        let newer = HISTORY.iter().rev().take_while(|change| !self.serves(change.at));
        let steps = newer.flat_map(|change| change.effects).filter_map(|effect| match effect {
            Field(r, field) if *r == resource => Some(Step::Drop(field)),
            Lower(r, rewrite) if *r == resource => Some(Step::Rewrite(*rewrite)),
            _ => None,
        });
        Lowering { steps: steps.collect() }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "3.{}", self.minor)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

enum Step {
    Drop(&'static str),
    Rewrite(fn(&mut Map<String, Value>)),
}

/// Rewrites answers to an older shape; empty for the newest version. Worked out once per list.
pub struct Lowering {
    steps: Vec<Step>,
}

impl Lowering {
    /// Rewrites one newest shape in place.
    pub fn apply(&self, shape: &mut Map<String, Value>) {
        for step in &self.steps {
            match step {
                Step::Drop(field) => {
                    shape.shift_remove(*field);
                }
                Step::Rewrite(rewrite) => rewrite(shape),
            }
        }
    }
}

/// Why no version could be agreed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoVersion {
    /// The header names other services only.
    #[error("no version of this service is asked for")]
    OtherService,
    /// Not `major.minor`.
    #[error("API Version String {0} is of invalid format. Must be of format MajorNum.MinorNum.")]
    Malformed(String),
    /// Well-formed but not spoken.
    #[error("Version {0} is not supported by the API. Minimum is {min} and maximum is {max}.", min = Version::MIN, max = Version::MAX)]
    Unsupported(String),
}

/// Agrees on a version from the value of `OpenStack-API-Version`.
///
/// # Errors
/// [`NoVersion`], which the edge turns into 400 or 406.
pub fn negotiate(header: Option<&str>) -> Result<Version, NoVersion> {
    let Some(header) = header else { return Ok(Version::MIN) };
    // The first element that mentions the service counts, as in Cinder; it must be exactly "volume <version>".
    let element =
        header.split(',').find(|element| element.contains("volume")).ok_or(NoVersion::OtherService)?;
    let mut words = element.split_whitespace();
    let (Some(_), Some(asked), None) = (words.next(), words.next(), words.next()) else {
        return Err(NoVersion::OtherService);
    };
    if asked == "latest" {
        return Ok(Version::MAX);
    }
    let malformed = || NoVersion::Malformed(asked.to_owned());
    let (major, minor) = asked.split_once('.').ok_or_else(malformed)?;
    if !is_number(major) || major == "0" || !is_number(minor) {
        return Err(malformed());
    }
    let version = minor.parse().ok().map(v).filter(|version| major == "3" && Version::MAX.serves(*version));
    version.ok_or_else(|| NoVersion::Unsupported(asked.to_owned()))
}

/// Digits without a leading zero, or `0` itself.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_is_complete_and_in_order() {
        let minors: Vec<u32> = HISTORY.iter().map(|change| change.at.minor).collect();
        assert_eq!(minors, (0..=Version::MAX.minor).collect::<Vec<_>>());
    }

    #[test]
    fn every_effect_holds_from_its_version_on_and_not_just_below() {
        for change in HISTORY.iter().filter(|change| change.at != Version::MIN) {
            let (at, below) = (change.at, v(change.at.minor - 1));
            for effect in change.effects {
                let seen = |version: Version| match *effect {
                    Route(path) => version.serves(Version::of_route("GET", path, None)),
                    Method(method, path) => version.serves(Version::of_route(method, path, None)),
                    Action(path, action) => version.serves(Version::of_route("POST", path, Some(action))),
                    Field(resource, field) => version.shows(resource, field),
                    Accepts(resource, field) => version.accepts(resource, field),
                    Query(resource, parameter) => version.takes(resource, parameter),
                    Switch(behaviour) => version.has(behaviour),
                    Lower(resource, _) => {
                        let rewrites =
                            |l: Lowering| l.steps.iter().filter(|s| matches!(s, Step::Rewrite(_))).count();
                        rewrites(version.lowering(resource)) < rewrites(below.lowering(resource))
                    }
                };
                assert!(seen(at), "{at} lacks an effect of its own: {}", change.says);
                assert!(!seen(below), "{below} already has: {}", change.says);
            }
        }
    }

    #[test]
    fn fields_leave_answers_exactly_below_their_version() {
        for change in HISTORY.iter().filter(|change| change.at != Version::MIN) {
            for effect in change.effects {
                let Field(resource, field) = *effect else { continue };
                let mut shape: Map<String, Value> = [(field.to_owned(), Value::Null)].into_iter().collect();
                change.at.lowering(resource).apply(&mut shape);
                assert!(shape.contains_key(field), "{field} at {}", change.at);
                v(change.at.minor - 1).lowering(resource).apply(&mut shape);
                assert!(!shape.contains_key(field), "{field} below {}", change.at);
            }
        }
    }

    #[test]
    fn older_shapes_of_a_volume_hide_what_was_unknown() {
        let newest = || {
            let shape =
                serde_json::json!({"volume_type": null, "volume_type_id": "t", "shared_targets": null});
            shape.as_object().cloned().expect("an object")
        };
        let lowered = |version: Version| {
            let mut shape = newest();
            version.lowering(Resource::Volume).apply(&mut shape);
            Value::Object(shape)
        };
        assert_eq!(
            lowered(v(69)),
            serde_json::json!({"volume_type": null, "volume_type_id": "t", "shared_targets": null})
        );
        assert_eq!(
            lowered(v(68)),
            serde_json::json!({"volume_type": null, "volume_type_id": "t", "shared_targets": true})
        );
        assert_eq!(lowered(v(62)), serde_json::json!({"volume_type": "t", "shared_targets": true}));
        assert_eq!(lowered(v(47)), serde_json::json!({"volume_type": "t"}));
    }

    #[test]
    fn routes_begin_with_their_version() {
        assert_eq!(Version::of_route("GET", "/volumes/{id}", None), Version::MIN);
        assert_eq!(Version::of_route("GET", "/volumes/summary", None), v(12));
        assert_eq!(Version::of_route("PUT", "/backups/{id}", None), v(9));
        assert_eq!(Version::of_route("GET", "/backups/{id}", None), Version::MIN);
        assert_eq!(Version::of_route("POST", "/attachments/{id}/action", Some("os-complete")), v(44));
        assert_eq!(Version::of_route("GET", "/attachments/{id}", None), v(27));
        assert_eq!(Version::of_route("GET", "/groups/detail", None), v(13));
        assert_eq!(Version::of_route("GET", "/group_types", None), v(11));
    }

    #[test]
    #[rustfmt::skip]
    fn negotiation_follows_the_header() {
        let malformed = |text: &str| Err(NoVersion::Malformed(text.into()));
        let unsupported = |text: &str| Err(NoVersion::Unsupported(text.into()));
        let cases: &[(Option<&str>, Result<Version, NoVersion>)] = &[
            (None,                               Ok(v(0))),
            (Some("volume 3.0"),                 Ok(v(0))),
            (Some("volume 3.71"),                Ok(v(71))),
            (Some("volume latest"),              Ok(v(71))),
            (Some("compute 2.1, volume 3.5"),    Ok(v(5))),
            (Some("volume  3.5 "),               Ok(v(5))),
            (Some("volumev3 3.5"),               Ok(v(5))),
            (Some("volume 3.72"),                unsupported("3.72")),
            (Some("volume 3.99999999999999"),    unsupported("3.99999999999999")),
            (Some("volume 2.0"),                 unsupported("2.0")),
            (Some("volume 4.0"),                 unsupported("4.0")),
            (Some("volume 3.x"),                 malformed("3.x")),
            (Some("volume 3"),                   malformed("3")),
            (Some("volume 3.01"),                malformed("3.01")),
            (Some("volume 03.1"),                malformed("03.1")),
            (Some("volume 0.1"),                 malformed("0.1")),
            (Some("volume 3.1.1"),               malformed("3.1.1")),
            (Some("volume -3.1"),                malformed("-3.1")),
            (Some("compute 2.1"),                Err(NoVersion::OtherService)),
            (Some("volume"),                     Err(NoVersion::OtherService)),
            (Some("volume 3.1 x"),               Err(NoVersion::OtherService)),
            (Some(""),                           Err(NoVersion::OtherService)),
        ];
        for (header, wanted) in cases {
            assert_eq!(negotiate(*header), *wanted, "{header:?}");
        }
    }
}
