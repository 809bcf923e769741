//! Volumes and their metadata.

use std::collections::BTreeMap;

use model::list::{ListQuery, Listed};
use model::transition::VolumeOp;
use model::{GiB, PoolRef, SnapshotId, TypeId, Volume, VolumeId, VolumeStatus};

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::key_value::KeyValues;
use crate::page::{ColumnKind, Listing};
use crate::sql::{Row, marks, sql};

/// What a new volume's row holds.
#[derive(Debug, Clone)]
pub struct NewVolume {
    /// The operation that makes it: it has the status that this shows.
    pub op: VolumeOp,
    pub id: VolumeId,
    pub user_id: String,
    pub project_id: String,
    pub size: GiB,
    pub availability_zone: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub type_id: TypeId,
    pub snapshot_id: Option<SnapshotId>,
    pub source_volid: Option<VolumeId>,
    pub bootable: bool,
    pub multiattach: bool,
    pub use_quota: bool,
    pub metadata: BTreeMap<String, String>,
    pub replication_status: Option<String>,
}

const LISTING: Listing = Listing {
    table: "volumes",
    columns: {
        use ColumnKind::{Bool, Host, Int, Text, Time};
        &[
            ("id", Text),
            ("display_name", Text),
            ("display_description", Text),
            ("status", Text),
            ("attach_status", Text),
            ("migration_status", Text),
            ("replication_status", Text),
            ("previous_status", Text),
            ("size", Int),
            ("bootable", Bool),
            ("multiattach", Bool),
            ("use_quota", Bool),
            ("shared_targets", Bool),
            ("availability_zone", Text),
            ("host", Host),
            ("cluster_name", Host),
            ("user_id", Text),
            ("project_id", Text),
            ("volume_type_id", Text),
            ("snapshot_id", Text),
            ("source_volid", Text),
            ("group_id", Text),
            ("consistencygroup_id", Text),
            ("encryption_key_id", Text),
            ("provider_id", Text),
            ("provider_location", Text),
            ("service_uuid", Text),
            ("created_at", Time),
            ("updated_at", Time),
            ("scheduled_at", Time),
            ("launched_at", Time),
            ("terminated_at", Time),
        ]
    },
    metadata: Some(Metadata::User.table()),
    also: "",
};

/// Makes the row of a volume that is `creating`.
///
/// # Errors
/// The database is away.
pub async fn insert(tx: &mut Tx, new: &NewVolume) -> Result<()> {
    tx.exec(
        sql("INSERT INTO volumes (created_at, deleted, id, user_id, project_id, size, availability_zone, status, \
             attach_status, display_name, display_description, volume_type_id, snapshot_id, source_volid, bootable, \
             multiattach, replication_status, use_quota) \
             VALUES ({utc}, FALSE, ?, ?, ?, ?, ?, ?, 'detached', ?, ?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(new.id)
        .bind(&new.user_id)
        .bind(&new.project_id)
        .bind(new.size.0)
        .bind(new.availability_zone.clone())
        .bind(new.op.rule().shows.unwrap_or(VolumeStatus::Creating))
        .bind(new.name.clone())
        .bind(new.description.clone())
        .bind(new.type_id)
        .bind(new.snapshot_id)
        .bind(new.source_volid)
        .bind(new.bootable)
        .bind(new.multiattach)
        .bind(new.replication_status.clone())
        .bind(new.use_quota),
    )
    .await?;
    for (key, value) in &new.metadata {
        put_metadata(tx, Metadata::User, new.id, key, value).await?;
    }
    Ok(())
}

/// A live volume with all that belongs to it.
///
/// # Errors
/// The database is away.
pub async fn get(from: &mut impl Read, id: VolumeId) -> Result<Option<Volume>> {
    let rows = from.rows(sql("SELECT * FROM volumes WHERE id = ? AND deleted = FALSE").bind(id)).await?;
    Ok(complete(from, rows).await?.pop())
}

/// Whether this database has ever known what a backend has under this id, and whether the row that it belonged to is deleted (the
/// tombstone that lets the reconciler act). After a migration that is the row whose `_name_id` it is. What was given up is as unknown
/// as if it had never been ours.
///
/// # Errors
/// The database is away.
pub async fn tombstone(from: &mut impl Read, id: VolumeId) -> Result<Option<bool>> {
    let named = sql(
        "SELECT deleted, previous_status FROM volumes WHERE _name_id = ? OR (id = ? AND _name_id IS NULL)",
    );
    let (mut deleted, mut given_up) = (0, false);
    let rows = from.rows(named.bind(id).bind(id)).await?;
    for row in &rows {
        if !row.get::<bool>("deleted")? {
            return Ok(Some(false));
        }
        deleted += 1;
        given_up |= row.get::<Option<String>>("previous_status")?.as_deref() == Some(GIVEN_UP);
    }
    if deleted > 0 {
        return Ok((!given_up).then_some(true));
    }
    // A row of this id that lives under another name: nothing says what this is, so that nobody may remove it.
    let row = from.row(sql("SELECT id FROM volumes WHERE id = ?").bind(id)).await?;
    Ok(row.map(|_| false))
}

/// A page of volumes, with all that belongs to them, in a fixed number of queries.
///
/// # Errors
/// A bad sort key or marker, or the database is away.
pub async fn list(from: &mut impl Read, query: &ListQuery) -> Result<Listed<Volume>> {
    let (rows, count) = LISTING.page(from, query).await?;
    Ok(Listed { items: complete(from, rows).await?, count })
}

/// Live volumes that live on `host@backend` (any pool).
///
/// # Errors
/// The database is away.
pub async fn on_backend(from: &mut impl Read, service_host: &str) -> Result<Vec<Volume>> {
    let rows = from
        .rows(
            sql(format!(
                "SELECT * FROM volumes WHERE deleted = FALSE AND (host = ? OR SUBSTR(host, 1, {}) = ?)",
                service_host.chars().count() + 1
            ))
            .bind(service_host)
            .bind(format!("{service_host}#")),
        )
        .await?;
    complete(from, rows).await
}

/// How many volumes a project (or, for `None`, all) has, and their GiB in all.
///
/// # Errors
/// The database is away.
pub async fn summary(from: &mut impl Read, project: Option<&str>) -> Result<(u64, u64)> {
    let mut stmt = sql(
        "SELECT COUNT(*) AS n, CAST(COALESCE(SUM(size), 0) AS {int}) AS total FROM volumes WHERE deleted = FALSE",
    );
    if let Some(project) = project {
        stmt = stmt.push(" AND project_id = ?").bind(project);
    }
    let Some(row) = from.row(stmt).await? else { return Ok((0, 0)) };
    Ok((row.get::<i64>("n")? as u64, row.get::<i64>("total")? as u64))
}

/// Every distinct value of every metadata key in a project (or, for `None`, in all).
///
/// # Errors
/// The database is away.
pub async fn summary_metadata(
    from: &mut impl Read,
    project: Option<&str>,
) -> Result<BTreeMap<String, Vec<String>>> {
    let mut stmt = sql(
        "SELECT DISTINCT m.\"key\" AS k, m.value AS v FROM volume_metadata m JOIN volumes o ON o.id = m.volume_id \
                        WHERE m.deleted = FALSE AND o.deleted = FALSE",
    );
    if let Some(project) = project {
        stmt = stmt.push(" AND o.project_id = ?").bind(project);
    }
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in from.rows(stmt.push(" ORDER BY k, v")).await? {
        out.entry(row.get("k")?).or_default().push(row.get::<Option<String>>("v")?.unwrap_or_default());
    }
    Ok(out)
}

async fn complete(from: &mut impl Read, rows: Vec<Row>) -> Result<Vec<Volume>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut volumes: Vec<Volume> = rows.iter().map(read).collect::<Result<_>>()?;
    let ids: Vec<VolumeId> = volumes.iter().map(|volume| volume.id).collect();
    let mut user = Metadata::User.table().texts_of(from, &ids).await?;
    let mut admin = Metadata::Admin.table().texts_of(from, &ids).await?;
    let mut image = Metadata::Image.table().texts_of(from, &ids).await?;
    let mut attachments = crate::attachment::of_volumes(from, &ids).await?;
    let types = crate::volume_type::names(from, volumes.iter().map(|volume| volume.type_id)).await?;
    for volume in &mut volumes {
        volume.metadata = user.remove(&volume.id).unwrap_or_default();
        volume.admin_metadata = admin.remove(&volume.id).unwrap_or_default();
        volume.image_metadata = image.remove(&volume.id).unwrap_or_default();
        volume.attachments = attachments.remove(&volume.id).unwrap_or_default();
        volume.type_name = types.get(&volume.type_id).cloned();
    }
    show_legacy_groups(from, &mut volumes).await?;
    Ok(volumes)
}

/// A volume of a legacy consistency group says so in the older field too.
async fn show_legacy_groups(from: &mut impl Read, volumes: &mut [Volume]) -> Result<()> {
    let mut groups: Vec<&str> = volumes.iter().filter_map(|volume| volume.group_id.as_deref()).collect();
    groups.sort_unstable();
    groups.dedup();
    let legacy = crate::volume_group::legacy_of(from, &groups).await?;
    for volume in volumes {
        if let Some(group) = volume.group_id.as_ref().filter(|group| legacy.contains(*group)) {
            volume.consistencygroup_id = Some(group.clone());
        }
    }
    Ok(())
}

/// Which kind of metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metadata {
    User,
    /// Ours and the administrators': `readonly`, `attached_mode`, ...
    Admin,
    /// Properties of the image it was made from.
    Image,
}

impl Metadata {
    const fn table(self) -> KeyValues {
        let table = match self {
            Self::User => "volume_metadata",
            Self::Admin => "volume_admin_metadata",
            Self::Image => "volume_glance_metadata",
        };
        KeyValues { table, owner: "volume_id" }
    }
}

/// Sets one key.
///
/// # Errors
/// The database is away.
pub async fn put_metadata(tx: &mut Tx, kind: Metadata, id: VolumeId, key: &str, value: &str) -> Result<()> {
    kind.table().put(tx, id, key, Some(value)).await
}

/// Removes one key; whether it was there.
///
/// # Errors
/// The database is away.
pub async fn drop_metadata(tx: &mut Tx, kind: Metadata, id: VolumeId, key: &str) -> Result<bool> {
    kind.table().remove(tx, id, key).await
}

/// Makes `wanted` the whole metadata.
///
/// # Errors
/// The database is away.
pub async fn replace_metadata(
    tx: &mut Tx,
    kind: Metadata,
    id: VolumeId,
    wanted: &BTreeMap<String, String>,
) -> Result<()> {
    kind.table().replace(tx, id, wanted).await
}

/// Sets the name and the description; a field that is `None` stays.
///
/// # Errors
/// The database is away.
pub async fn rename(
    tx: &mut Tx,
    id: VolumeId,
    name: Option<Option<&str>>,
    description: Option<Option<&str>>,
) -> Result<()> {
    if let Some(name) = name {
        tx.exec(
            sql("UPDATE volumes SET display_name = ?, updated_at = {utc} WHERE id = ? AND deleted = FALSE")
                .bind(name)
                .bind(id),
        )
        .await?;
    }
    if let Some(description) = description {
        tx.exec(
            sql("UPDATE volumes SET display_description = ?, updated_at = {utc} WHERE id = ? AND deleted = FALSE")
                .bind(description)
                .bind(id),
        )
        .await?;
    }
    Ok(())
}

/// Records where the scheduler has put a volume.
///
/// # Errors
/// The database is away.
pub async fn place(tx: &mut Tx, id: VolumeId, pool: &PoolRef, zone: &str) -> Result<()> {
    tx.exec(
        sql("UPDATE volumes SET host = ?, availability_zone = ?, scheduled_at = {utc}, updated_at = {utc} \
             WHERE id = ? AND deleted = FALSE")
        .bind(pool)
        .bind(zone)
        .bind(id),
    )
    .await
    .map(drop)
}

/// Takes a volume's place back: it is to be scheduled again.
///
/// # Errors
/// The database is away.
pub async fn unplace(tx: &mut Tx, id: VolumeId) -> Result<()> {
    tx.exec(
        sql("UPDATE volumes SET host = NULL, updated_at = {utc} WHERE id = ? AND deleted = FALSE").bind(id),
    )
    .await
    .map(drop)
}

/// Records that a volume is there and how its backend finds it.
///
/// # Errors
/// The database is away.
pub async fn launched(
    tx: &mut Tx,
    id: VolumeId,
    location: Option<&str>,
    provider_id: Option<&str>,
    service: Option<model::ServiceId>,
) -> Result<()> {
    tx.exec(
        sql("UPDATE volumes SET launched_at = {utc}, provider_location = ?, provider_id = ?, service_uuid = ?, \
             shared_targets = FALSE WHERE id = ? AND deleted = FALSE")
        .bind(location)
        .bind(provider_id)
        .bind(service)
        .bind(id),
    )
    .await
    .map(drop)
}

/// Sets the size.
///
/// # Errors
/// The database is away.
pub async fn resize(tx: &mut Tx, id: VolumeId, size: GiB) -> Result<()> {
    tx.exec(
        sql("UPDATE volumes SET size = ?, updated_at = {utc} WHERE id = ? AND deleted = FALSE")
            .bind(size.0)
            .bind(id),
    )
    .await
    .map(drop)
}

/// Marks a volume bootable or not.
///
/// # Errors
/// The database is away.
pub async fn set_bootable(tx: &mut Tx, id: VolumeId, bootable: bool) -> Result<()> {
    tx.exec(
        sql("UPDATE volumes SET bootable = ?, updated_at = {utc} WHERE id = ? AND deleted = FALSE")
            .bind(bootable)
            .bind(id),
    )
    .await
    .map(drop)
}

/// What `previous_status` says of a deleted row whose volume is still on its backend, and no longer ours.
const GIVEN_UP: &str = "unmanaged";

/// Records that a volume which is about to go was given up, not deleted.
///
/// # Errors
/// The database is away.
pub async fn given_up(tx: &mut Tx, id: VolumeId) -> Result<()> {
    let stmt = sql("UPDATE volumes SET previous_status = ? WHERE id = ? AND deleted = FALSE");
    tx.exec(stmt.bind(GIVEN_UP).bind(id)).await.map(drop)
}

/// Records when its deletion began.
///
/// # Errors
/// The database is away.
pub async fn terminated(tx: &mut Tx, id: VolumeId) -> Result<()> {
    tx.exec(sql("UPDATE volumes SET terminated_at = {utc} WHERE id = ?").bind(id)).await.map(drop)
}

fn read(row: &Row) -> Result<Volume> {
    let host: Option<String> = row.get("host")?;
    Ok(Volume {
        id: row.parse("volumes", "id")?,
        name_id: row.parse_opt("volumes", "_name_id")?,
        user_id: row.get("user_id")?,
        project_id: row.get("project_id")?,
        host: host.and_then(|host| host.parse().ok()),
        cluster_name: row.get("cluster_name")?,
        size: GiB(row.get::<Option<i64>>("size")?.unwrap_or(0).max(0) as u32),
        availability_zone: row.get("availability_zone")?,
        status: row.parse("volumes", "status")?,
        previous_status: row.get("previous_status")?,
        attach_status: row.parse_opt("volumes", "attach_status")?,
        migration_status: row.get("migration_status")?,
        replication_status: row.get("replication_status")?,
        name: row.get("display_name")?,
        description: row.get("display_description")?,
        provider_location: row.get("provider_location")?,
        provider_id: row.get("provider_id")?,
        snapshot_id: row.parse_opt("volumes", "snapshot_id")?,
        source_volid: row.parse_opt("volumes", "source_volid")?,
        type_id: row.parse("volumes", "volume_type_id")?,
        type_name: None,
        bootable: row.get::<Option<bool>>("bootable")?.unwrap_or(false),
        multiattach: row.get::<Option<bool>>("multiattach")?.unwrap_or(false),
        encryption_key_id: row.get("encryption_key_id")?,
        group_id: row.get("group_id")?,
        consistencygroup_id: row.get("consistencygroup_id")?,
        service_uuid: row.parse_opt("volumes", "service_uuid")?,
        shared_targets: row.get("shared_targets")?,
        use_quota: row.get("use_quota")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        launched_at: row.get("launched_at")?,
        metadata: BTreeMap::new(),
        admin_metadata: BTreeMap::new(),
        image_metadata: BTreeMap::new(),
        attachments: Vec::new(),
    })
}

/// Holds a volume in one of these statuses until the transaction ends; whether it is in one.
///
/// # Errors
/// The database is away.
pub async fn hold(tx: &mut Tx, id: VolumeId, statuses: &[VolumeStatus]) -> Result<bool> {
    let text = format!(
        "UPDATE volumes SET updated_at = updated_at WHERE id = ? AND deleted = FALSE AND status IN ({})",
        marks(statuses.len())
    );
    Ok(tx.exec(sql(text).bind(id).bind_all(statuses.iter().copied())).await? > 0)
}
