//! From a query string to a list query: page, order and the filters that a caller may use (api-routes.md 5).

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use control::Context;
use model::list::{Compare, Direction, Filter, ListQuery};
use serde_json::Value;
use wire::microversion::{Behaviour, Resource, Version};

use crate::fault::Fault;
use crate::literal::literal_or_text;
use crate::query::{Query, integer, python_int};

/// The largest integer that the database's columns hold.
pub const DB_MAX_INT: i64 = 0x7FFF_FFFF;

/// Which filters others than administrators may use, by resource, in the order of the operator's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceFilters(Vec<(String, Vec<String>)>);

impl Default for ResourceFilters {
    /// What Cinder's packages install.
    #[rustfmt::skip]
    fn default() -> Self {
        let default: [(&str, &[&str]); 9] = [
            ("volume", &["name", "status", "metadata", "bootable", "migration_status", "availability_zone", "group_id",
                         "size", "created_at", "updated_at", "consumes_quota"]),
            ("backup", &["name", "status", "volume_id"]),
            ("snapshot", &["name", "status", "volume_id", "metadata", "availability_zone", "consumes_quota"]),
            ("group", &["name"]),
            ("group_snapshot", &["name", "status", "group_id"]),
            ("attachment", &["volume_id", "status", "instance_id", "attach_status"]),
            ("message", &["resource_uuid", "resource_type", "event_id", "request_id", "message_level"]),
            ("pool", &["name", "volume_type"]),
            ("volume_type", &["is_public", "extra_specs"]),
        ];
        let owned = |(name, filters): (&str, &[&str])| {
            (name.to_owned(), filters.iter().map(|filter| (*filter).to_owned()).collect())
        };
        Self(default.into_iter().map(owned).collect())
    }
}

impl ResourceFilters {
    /// Reads the text of an operator's `resource_filters.json`.
    ///
    /// # Errors
    /// When it is no object of lists of texts.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let lists: serde_json::Map<String, Value> = serde_json::from_str(text)?;
        lists
            .into_iter()
            .map(|(name, list)| Ok((name, serde_json::from_value(list)?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Every resource with its filters.
    pub fn all(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().map(|(name, filters)| (name.as_str(), filters.as_slice()))
    }

    /// A resource's filters; none when the file does not name it.
    pub fn of(&self, resource: &str) -> &[String] {
        self.0.iter().find(|(name, _)| name == resource).map_or(&[], |(_, filters)| filters)
    }
}

/// How a resource's lists read their query.
pub struct Listable {
    /// Its name in the filters file.
    pub name: &'static str,
    /// Its name in the microversion table, where parameters came later.
    pub resource: Option<Resource>,
    /// Whether the version checks filters against the operator's file and refuses the others.
    pub checked: fn(Version) -> bool,
    /// What others than administrators may filter by before that; the rest is dropped.
    pub plain: Plain,
    /// Parameters that the database knows under another name.
    pub columns: &'static [(&'static str, &'static str)],
    /// Sorting by `name`: from the start, or since a behaviour came.
    pub sort_by_name: SortByName,
    /// Filters that are read as booleans.
    pub booleans: &'static [&'static str],
    /// Whether values are read as Python literals.
    pub literals: Literals,
    /// Parameters that came later than the lists, but before filters were checked.
    pub later: &'static [&'static str],
}

/// What others than administrators may filter by before filters were checked.
pub enum Plain {
    /// What the operator's file says.
    File,
    These(&'static [&'static str]),
    Anything,
}

fn since_configured(version: Version) -> bool {
    version.has(Behaviour::ConfiguredFilters)
}

/// Since when `sort=name` works.
pub enum SortByName {
    Always,
    Since(Behaviour),
}

/// Which filter values are read as Python literals.
pub enum Literals {
    /// All but names.
    All,
    /// These.
    Of(&'static [&'static str]),
}

pub const VOLUMES: Listable = Listable {
    name: "volume",
    resource: Some(Resource::Volume),
    checked: since_configured,
    plain: Plain::File,
    columns: &[("name", "display_name")],
    sort_by_name: SortByName::Always,
    booleans: &["bootable", "multiattach", "use_quota", "shared_targets", "deleted"],
    literals: Literals::All,
    later: &["glance_metadata", "group_id", "created_at", "updated_at"],
};

pub const SNAPSHOTS: Listable = Listable {
    name: "snapshot",
    resource: Some(Resource::Snapshot),
    checked: since_configured,
    plain: Plain::These(&["status", "volume_id", "name", "metadata"]),
    columns: &[("name", "display_name")],
    sort_by_name: SortByName::Since(Behaviour::SnapshotSortByName),
    booleans: &["use_quota"],
    literals: Literals::Of(&["metadata"]),
    later: &["metadata"],
};

pub const BACKUPS: Listable = Listable {
    name: "backup",
    resource: Some(Resource::Backup),
    checked: since_configured,
    plain: Plain::These(&["name", "status", "volume_id"]),
    columns: &[("name", "display_name")],
    sort_by_name: SortByName::Since(Behaviour::BackupSortByName),
    booleans: &[],
    literals: Literals::Of(&["metadata"]),
    later: &[],
};

pub const ATTACHMENTS: Listable = Listable {
    name: "attachment",
    resource: Some(Resource::Attachment),
    checked: since_configured,
    plain: Plain::These(&["volume_id", "status", "instance_id", "attach_status"]),
    columns: &[("instance_id", "instance_uuid"), ("status", "attach_status")],
    sort_by_name: SortByName::Always,
    booleans: &[],
    literals: Literals::Of(&[]),
    later: &[],
};

pub const MESSAGES: Listable = Listable {
    name: "message",
    resource: None,
    checked: since_configured,
    plain: Plain::Anything,
    columns: &[],
    sort_by_name: SortByName::Always,
    booleans: &[],
    literals: Literals::Of(&[]),
    later: &[],
};

pub const TYPES: Listable = Listable {
    name: "volume_type",
    resource: Some(Resource::VolumeType),
    checked: |version| version.takes(Resource::VolumeType, "extra_specs"),
    plain: Plain::These(&["is_public"]),
    columns: &[("extra_specs", "metadata")],
    sort_by_name: SortByName::Always,
    booleans: &[],
    literals: Literals::Of(&["metadata"]),
    later: &[],
};

pub const QOS: Listable = Listable {
    name: "qos_specs",
    resource: None,
    checked: |_| false,
    plain: Plain::These(&["id", "name", "consumer"]),
    columns: &[],
    sort_by_name: SortByName::Always,
    booleans: &[],
    literals: Literals::Of(&[]),
    later: &[],
};

pub const TRANSFERS: Listable = Listable {
    name: "transfer",
    resource: Some(Resource::Transfer),
    checked: |_| false,
    plain: Plain::Anything,
    columns: &[("name", "display_name")],
    sort_by_name: SortByName::Always,
    booleans: &["no_snapshots", "accepted"],
    literals: Literals::Of(&[]),
    later: &[],
};

pub const GROUP_TYPES: Listable = Listable {
    name: "group_type",
    resource: None,
    checked: |_| false,
    plain: Plain::These(&[]),
    columns: &[],
    sort_by_name: SortByName::Always,
    booleans: &[],
    literals: Literals::Of(&[]),
    later: &[],
};

pub const GROUPS: Listable = Listable {
    name: "group",
    resource: Some(Resource::Group),
    checked: since_configured,
    plain: Plain::Anything,
    columns: &[],
    sort_by_name: SortByName::Always,
    booleans: &[],
    literals: Literals::Of(&[]),
    later: &[],
};

pub const GROUP_SNAPSHOTS: Listable =
    Listable { name: "group_snapshot", resource: Some(Resource::GroupSnapshot), ..GROUPS };

/// Legacy consistency groups and their snapshots: no filter is checked.
pub const CONSISTENCY_GROUPS: Listable = Listable { checked: |_| false, ..GROUPS };

/// What a list request is judged by.
pub struct Reader<'a> {
    pub context: &'a Context,
    pub version: Version,
    pub filters: &'a ResourceFilters,
    /// `osapi_max_limit`.
    pub max_limit: u32,
}

impl Reader<'_> {
    /// Reads a list request.
    ///
    /// # Errors
    /// 400, in Cinder's words.
    pub fn read(&self, what: &Listable, query: &Query) -> Result<ListQuery, Fault> {
        let mut rest = query.clone();
        let limit = self.limit(&mut rest)?;
        let marker = rest.take("marker").filter(|marker| !marker.is_empty());
        let offset = rest.take("offset").map_or(Ok(0), |text| integer(&text, "offset", 0, DB_MAX_INT))?;
        let sort = self.sort(what, &mut rest)?;
        let with_count = self.with_count(what, &mut rest)?;
        self.accept(what, &mut rest)?;
        let project_id = self.project(what, &mut rest)?;
        let filters = self.conditions(what, &rest)?;
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        Ok(ListQuery { project_id, filters, sort, marker, offset, limit, with_count })
    }

    /// The page's size alone: what decides whether there is a next link.
    ///
    /// # Errors
    /// 400 when it is no number.
    pub fn limit(&self, query: &mut Query) -> Result<u32, Fault> {
        let Some(text) = query.take("limit") else { return Ok(self.max_limit) };
        let bad = |why: &str| Err(Fault::bad_request(format!("limit param must be {why}")));
        match python_int(&text) {
            None => bad("an integer"),
            Some(Ok(number)) if number < 0 => bad("positive"),
            Some(Err(huge)) if huge.negative => bad("positive"),
            Some(Ok(number)) => Ok(u32::try_from(number).map_or(self.max_limit, |n| n.min(self.max_limit))),
            Some(Err(_)) => Ok(self.max_limit),
        }
    }

    fn sort(&self, what: &Listable, query: &mut Query) -> Result<Vec<(String, Direction)>, Fault> {
        if query.has("sort") && (query.has("sort_key") || query.has("sort_dir")) {
            return Err(Fault::bad_request(
                "The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter.",
            ));
        }
        let asked: Vec<(String, String)> = match query.take("sort") {
            Some(list) => {
                let parts = list.trim().split(',').map(|one| one.split_once(':').unwrap_or((one, "")));
                parts.map(|(key, dir)| (key.trim().to_owned(), dir.trim().to_owned())).collect()
            }
            None => {
                let key = query.take("sort_key").unwrap_or_else(|| "created_at".into());
                vec![(key.trim().to_owned(), query.take("sort_dir").unwrap_or_default().trim().to_owned())]
            }
        };
        let named = match what.sort_by_name {
            SortByName::Always => true,
            SortByName::Since(behaviour) => self.version.has(behaviour),
        };
        let mut sort = Vec::new();
        for (key, direction) in asked {
            let direction = match direction.as_str() {
                "" | "desc" => Direction::Descending,
                "asc" => Direction::Ascending,
                _ => {
                    let text = "Invalid input received: Unknown sort direction, must be 'desc' or 'asc'.";
                    return Err(Fault::bad_request(text));
                }
            };
            let column =
                what.columns.iter().find(|(parameter, _)| key == "name" && *parameter == "name" && named);
            sort.push((column.map_or(key, |(_, column)| (*column).to_owned()), direction));
        }
        // Equal keys follow their age, in the direction of the first key.
        if let Some((_, first)) =
            sort.first().cloned().filter(|_| !sort.iter().any(|(key, _)| key == "created_at"))
        {
            sort.push(("created_at".into(), first));
        }
        Ok(sort)
    }

    fn with_count(&self, what: &Listable, query: &mut Query) -> Result<bool, Fault> {
        let counts = matches!(what.resource, Some(Resource::Volume | Resource::Snapshot | Resource::Backup));
        match what.resource {
            Some(resource) if counts && self.version.takes(resource, "with_count") => {
                let flag = query.flag("with_count")?;
                query.take("with_count");
                Ok(flag)
            }
            _ => Ok(false),
        }
    }

    /// Refuses or drops the filters that the caller may not use, and gives the others the names of columns.
    fn accept(&self, what: &Listable, query: &mut Query) -> Result<(), Fault> {
        if (what.checked)(self.version) {
            self.refuse_unconfigured(what.name, query)?;
            if what.columns.contains(&("name", "display_name")) {
                query.rename("name~", "display_name~");
                query.rename("description~", "display_description~");
                query.rename("consumes_quota", "use_quota");
            }
        } else {
            query.retain(|key| !what.later.contains(&key) || self.takes(what, key));
            if !self.context.is_admin {
                query.retain(|key| match what.plain {
                    Plain::File => self.filters.of(what.name).iter().any(|filter| filter == key),
                    Plain::These(plain) => plain.contains(&key),
                    Plain::Anything => true,
                });
            }
        }
        for (parameter, column) in what.columns {
            query.rename(parameter, column);
        }
        Ok(())
    }

    fn takes(&self, what: &Listable, key: &str) -> bool {
        what.resource.is_none_or(|resource| self.version.takes(resource, key))
    }

    /// What the operator's file says, since it says anything.
    ///
    /// # Errors
    /// 400 naming the filters that are not allowed.
    pub fn refuse_unconfigured(&self, name: &str, query: &mut Query) -> Result<(), Fault> {
        if query.pairs().iter().any(|(key, _)| !key.is_ascii()) {
            return Err(Fault::bad_request("Filter keys can only contain ASCII characters."));
        }
        if self.context.is_admin && name != "pool" {
            return Ok(());
        }
        let configured = self.filters.of(name);
        let like = self.version.has(Behaviour::LikeFilters);
        let allowed = |key: &str| {
            configured.iter().any(|filter| filter == key || (like && filter.strip_suffix('~') == Some(key)))
        };
        let mut refused: Vec<String> =
            query.pairs().iter().map(|(key, _)| key.clone()).filter(|key| !allowed(key)).collect();
        refused.dedup();
        // Clients add it always; from others than administrators it is dropped in silence.
        if let Some(at) = refused.iter().position(|key| key == "all_tenants") {
            refused.remove(at);
            query.take("all_tenants");
        }
        if refused.is_empty() {
            return Ok(());
        }
        Err(Fault::bad_request(format!("Invalid filters {} are found in query options.", refused.join(","))))
    }

    /// Whose are listed: everybody's only for administrators who say so.
    fn project(&self, what: &Listable, query: &mut Query) -> Result<Option<String>, Fault> {
        let all = match what.name {
            "attachment" => query.take("all_tenants").is_some(),
            "backup" => {
                let text = query.take("all_tenants").unwrap_or_else(|| "0".into());
                let bad = || Fault::bad_request(format!("all_tenants must be a boolean, got '{text}'."));
                wire::read::flag_text(&text).ok_or_else(bad)?
            }
            "snapshot" => {
                query.take("all_tenants").and_then(|text| wire::read::flag_text(&text)).unwrap_or(false)
            }
            _ => {
                let flag = query.flag("all_tenants")?;
                query.take("all_tenants");
                flag
            }
        };
        let own = !(all && self.context.is_admin);
        Ok(own.then(|| self.context.project_id.clone()))
    }

    fn conditions(&self, what: &Listable, query: &Query) -> Result<Vec<Filter>, Fault> {
        let mut last: BTreeMap<&str, usize> = BTreeMap::new();
        for (at, (key, _)) in query.pairs().iter().enumerate() {
            last.insert(key, at);
        }
        let mut filters = Vec::new();
        for (at, (key, text)) in query.pairs().iter().enumerate() {
            if last.get(key.as_str()) == Some(&at) {
                self.condition(what, key, text, &mut filters)?;
            }
        }
        Ok(filters)
    }

    fn condition(
        &self,
        what: &Listable,
        key: &str,
        text: &str,
        filters: &mut Vec<Filter>,
    ) -> Result<(), Fault> {
        let mut push =
            |field: &str, compare, value| filters.push(Filter { field: field.to_owned(), compare, value });
        if let Some(column) = key.strip_suffix('~') {
            push(column, Compare::Like, Value::String(text.to_owned()));
            return Ok(());
        }
        if what.name == "volume" && matches!(key, "created_at" | "updated_at") {
            for (compare, value) in times(key, text)? {
                push(key, compare, value);
            }
            return Ok(());
        }
        let value = if what.booleans.contains(&key) {
            Value::Bool(self.boolean(key, text)?)
        } else {
            match what.literals {
                Literals::All if key != "display_name" => literal_or_text(text),
                Literals::Of(keys) if keys.contains(&key) => literal_or_text(text),
                _ => Value::String(text.to_owned()),
            }
        };
        push(key, Compare::Equal, value);
        Ok(())
    }

    fn boolean(&self, key: &str, text: &str) -> Result<bool, Fault> {
        if key == "use_quota" {
            let bad = || Fault::bad_request(format!("Value '{text}' for '{key}' is not a boolean."));
            return wire::read::flag_text(text).ok_or_else(bad);
        }
        if self.version.has(Behaviour::StrictBooleanFilters) {
            let bad = || Fault::bad_request(format!("Invalid input received: '{key} = {text}'"));
            return wire::read::flag_text(text).ok_or_else(bad);
        }
        Ok(!matches!(text, "False" | "false" | "FALSE" | ""))
    }
}

/// `gt:2020-01-01T00:00:00,lt:...`.
fn times(field: &str, text: &str) -> Result<Vec<(Compare, Value)>, Fault> {
    let unit = |unit: &str| {
        let (operator, time) = match unit.split_once(':') {
            Some((operator, time)) => (operator, time),
            None => (unit, unit),
        };
        let compare = match operator {
            "gt" => Compare::Greater,
            "gte" => Compare::GreaterOrEqual,
            "eq" => Compare::Equal,
            "neq" => Compare::NotEqual,
            "lt" => Compare::Less,
            "lte" => Compare::LessOrEqual,
            other => return Err(Fault::bad_request(format!("Invalid {other} operator"))),
        };
        let time = parse_time(time).ok_or_else(|| Fault::bad_request(format!("Invalid {time} value")))?;
        Ok((compare, Value::String(time.format("%Y-%m-%dT%H:%M:%S%.6f").to_string())))
    };
    debug_assert!(matches!(field, "created_at" | "updated_at"));
    text.split(',').map(unit).collect()
}

/// ISO 8601, with or without time, fraction and zone; in UTC.
fn parse_time(text: &str) -> Option<NaiveDateTime> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.naive_utc());
    }
    for zoned in ["%Y-%m-%dT%H:%M:%S%.f%z", "%Y%m%dT%H%M%S%z"] {
        if let Ok(time) = DateTime::parse_from_str(text, zoned) {
            return Some(time.naive_utc());
        }
    }
    for plain in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y%m%dT%H%M%S"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text.trim_end_matches('Z'), plain) {
            return Some(time);
        }
    }
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|date| date.and_hms_opt(0, 0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use wire::microversion::negotiate;

    fn at(minor: u32) -> Version {
        negotiate(Some(&format!("volume 3.{minor}"))).expect("a version")
    }

    fn read_as(is_admin: bool, what: &Listable, minor: u32, query: &str) -> Result<ListQuery, String> {
        let context = Context { project_id: "p".into(), is_admin, ..Context::default() };
        let filters = ResourceFilters::default();
        let reader = Reader { context: &context, version: at(minor), filters: &filters, max_limit: 1000 };
        reader.read(what, &Query::parse(query)).map_err(|fault| fault.message)
    }

    fn filters(is_admin: bool, what: &Listable, minor: u32, query: &str) -> Vec<(String, Value)> {
        let list = read_as(is_admin, what, minor, query).expect("accepted");
        list.filters.into_iter().map(|filter| (filter.field, filter.value)).collect()
    }

    #[test]
    fn pages_are_bounded_and_bad_ones_are_refused() {
        let limit = |query: &str| read_as(true, &VOLUMES, 0, query).map(|list| list.limit);
        assert_eq!(limit(""), Ok(1000));
        assert_eq!(limit("limit=7"), Ok(7));
        assert_eq!(limit("limit=0"), Ok(0));
        assert_eq!(limit("limit=5000"), Ok(1000));
        assert_eq!(limit("limit=99999999999999999999"), Ok(1000));
        let digits = |n| format!("limit={}", "9".repeat(n));
        assert_eq!(limit(&digits(4300)), Ok(1000));
        assert_eq!(
            limit(&digits(4301)),
            Err("limit param must be an integer".into()),
            "as Python refuses it"
        );
        assert_eq!(limit("limit=-99999999999999999999"), Err("limit param must be positive".into()));
        assert_eq!(limit("limit=-1"), Err("limit param must be positive".into()));
        assert_eq!(limit("limit=x"), Err("limit param must be an integer".into()));
        assert_eq!(limit("limit="), Err("limit param must be an integer".into()));
        assert_eq!(limit("offset=-1"), Err("offset must be >= 0".into()));
        assert_eq!(limit("offset=2147483648"), Err("offset must be <= 2147483647".into()));
        assert_eq!(limit("offset=x"), Err("offset must be an integer".into()));
    }

    #[test]
    fn order_comes_in_both_styles_but_not_mixed() {
        use Direction::{Ascending, Descending};
        let sort =
            |what: &Listable, minor, query: &str| read_as(true, what, minor, query).map(|list| list.sort);
        let of = |pairs: &[(&str, Direction)]| {
            Ok(pairs.iter().map(|(key, dir)| ((*key).to_owned(), *dir)).collect())
        };
        assert_eq!(sort(&VOLUMES, 0, ""), of(&[("created_at", Descending)]));
        assert_eq!(
            sort(&VOLUMES, 0, "sort=name:asc,size"),
            of(&[("display_name", Ascending), ("size", Descending), ("created_at", Ascending)])
        );
        assert_eq!(
            sort(&VOLUMES, 0, "sort_key=size&sort_dir=asc"),
            of(&[("size", Ascending), ("created_at", Ascending)])
        );
        assert!(sort(&VOLUMES, 0, "sort=name&sort_dir=asc").is_err());
        assert_eq!(
            sort(&VOLUMES, 0, "sort=name:up"),
            Err("Invalid input received: Unknown sort direction, must be 'desc' or 'asc'.".into())
        );
        // Below its version the name stays what the database does not know, and refuses.
        assert_eq!(
            sort(&SNAPSHOTS, 29, "sort=name"),
            of(&[("name", Descending), ("created_at", Descending)])
        );
        assert_eq!(
            sort(&SNAPSHOTS, 30, "sort=name"),
            of(&[("display_name", Descending), ("created_at", Descending)])
        );
    }

    #[test]
    fn filters_of_users_are_dropped_before_and_refused_since_operators_choose_them() {
        assert_eq!(filters(false, &VOLUMES, 30, "nosuch=1&name=n"), [("display_name".into(), json!("n"))]);
        assert_eq!(
            read_as(false, &VOLUMES, 31, "nosuch=1&name=n&other=2&all_tenants=1"),
            Err("Invalid filters nosuch,other are found in query options.".into())
        );
        assert_eq!(filters(true, &VOLUMES, 31, "nosuch=1"), [("nosuch".into(), json!(1))]);
        assert!(filters(false, &VOLUMES, 31, "all_tenants=1").is_empty());
        assert_eq!(
            read_as(true, &VOLUMES, 31, "n%C3%A4me=x"),
            Err("Filter keys can only contain ASCII characters.".into())
        );
    }

    #[test]
    fn parameters_that_came_later_are_dropped_before() {
        assert!(filters(true, &VOLUMES, 9, "group_id=g").is_empty());
        assert_eq!(filters(true, &VOLUMES, 10, "group_id=g"), [("group_id".into(), json!("g"))]);
        assert!(filters(true, &SNAPSHOTS, 21, "metadata={'k':'v'}").is_empty());
        assert_eq!(
            filters(true, &SNAPSHOTS, 22, "metadata={'k':'v'}"),
            [("metadata".into(), json!({"k": "v"}))]
        );
        // As an unknown filter it matches nothing, rather than being ignored.
        assert_eq!(filters(true, &VOLUMES, 44, "with_count=True"), [("with_count".into(), json!(true))]);
        let counted = read_as(true, &VOLUMES, 45, "with_count=True").expect("accepted");
        assert!(counted.with_count && counted.filters.is_empty());
        assert_eq!(
            read_as(true, &VOLUMES, 45, "with_count=perhaps"),
            Err("Value 'perhaps' for 'with_count' is not a boolean.".into())
        );
    }

    #[test]
    fn booleans_are_lenient_until_they_are_strict() {
        assert_eq!(filters(true, &VOLUMES, 1, "bootable=perhaps"), [("bootable".into(), json!(true))]);
        assert_eq!(filters(true, &VOLUMES, 1, "bootable=False"), [("bootable".into(), json!(false))]);
        assert_eq!(
            read_as(true, &VOLUMES, 2, "bootable=perhaps"),
            Err("Invalid input received: 'bootable = perhaps'".into())
        );
    }

    #[test]
    fn values_of_volume_filters_are_literals_where_they_can_be() {
        let read = filters(
            true,
            &VOLUMES,
            71,
            "size=1&status=['error','in-use']&name=1&metadata={'a':'b'}&host=h@b",
        );
        let wanted = [
            ("size", json!(1)),
            ("status", json!(["error", "in-use"])),
            ("display_name", json!("1")),
            ("metadata", json!({"a": "b"})),
            ("host", json!("h@b")),
        ];
        assert_eq!(read, wanted.map(|(key, value)| (key.to_owned(), value)));
    }

    #[test]
    fn times_compare() {
        let list =
            read_as(true, &VOLUMES, 60, "created_at=gt:2020-01-01T00:00:00,lte:2021-01-01T01:00:00%2B01:00");
        let filters = list.expect("accepted").filters;
        assert_eq!(filters[0].compare, Compare::Greater);
        assert_eq!(filters[0].value, json!("2020-01-01T00:00:00.000000"));
        assert_eq!(
            (filters[1].compare, &filters[1].value),
            (Compare::LessOrEqual, &json!("2021-01-01T00:00:00.000000"))
        );
        let error = |query: &str| read_as(true, &VOLUMES, 60, query).expect_err("refused");
        assert_eq!(error("created_at=gt:yesterday"), "Invalid yesterday value");
        assert_eq!(error("created_at=near:2020-01-01"), "Invalid near operator");
        assert!(
            read_as(true, &VOLUMES, 59, "created_at=gt:yesterday").is_err(),
            "administrators filter by any column"
        );
    }

    #[test]
    fn only_administrators_see_every_project() {
        let project =
            |is_admin, query: &str| read_as(is_admin, &VOLUMES, 0, query).expect("accepted").project_id;
        assert_eq!(project(true, "all_tenants=1"), None);
        assert_eq!(project(true, ""), Some("p".into()));
        assert_eq!(project(false, "all_tenants=1"), Some("p".into()));
        assert!(read_as(true, &BACKUPS, 0, "all_tenants=x").is_err());
    }
}
