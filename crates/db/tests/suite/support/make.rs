//! Things to put into a database, as the use cases of the service would.

use db::Db;
use db::event::By;
use db::transition::Outcome;
use model::transition::{BackupOp, SnapshotOp, VolumeOp};
use model::{AttachMode, AttachStatus, AttachmentId, BackupId, GiB, PoolRef, SnapshotId, TypeId, VolumeId};

/// The id of the type that every database has.
pub async fn default_type(db: &Db) -> TypeId {
    let kind = db::volume_type::by_name(&mut db.read(), model::DEFAULT_TYPE_NAME).await.unwrap();
    kind.expect("the default type").id
}

/// What a volume of 1 GiB in project `p` is made of.
pub fn a_volume(kind: TypeId) -> db::volume::NewVolume {
    db::volume::NewVolume {
        op: model::transition::VolumeOp::Create,
        id: VolumeId::new(),
        user_id: "u".into(),
        project_id: "p".into(),
        size: GiB(1),
        availability_zone: Some("nova".into()),
        name: Some("n".into()),
        description: None,
        type_id: kind,
        snapshot_id: None,
        source_volid: None,
        bootable: false,
        multiattach: false,
        use_quota: true,
        metadata: [("k".to_owned(), "v".to_owned())].into(),
        replication_status: None,
    }
}

/// Makes it, available.
pub async fn volume_of(db: &Db, new: db::volume::NewVolume) -> VolumeId {
    let mut tx = db.begin().await.unwrap();
    db::volume::insert(&mut tx, &new).await.unwrap();
    let by = By::default();
    db::transition::finish_volume(&mut tx, new.id, VolumeOp::Create, Outcome::Done, by).await.unwrap();
    tx.commit().await.unwrap();
    new.id
}

/// An available volume of 1 GiB in project `p`.
pub async fn volume(db: &Db) -> VolumeId {
    volume_of(db, a_volume(default_type(db).await)).await
}

/// An available volume on a pool.
pub async fn placed_volume(db: &Db, pool: &str, size: u32) -> VolumeId {
    let id =
        volume_of(db, db::volume::NewVolume { size: GiB(size), ..a_volume(default_type(db).await) }).await;
    let pool: PoolRef = pool.parse().unwrap();
    let mut tx = db.begin().await.unwrap();
    db::volume::place(&mut tx, id, &pool, "nova").await.unwrap();
    tx.commit().await.unwrap();
    id
}

/// What a snapshot of a volume is made of.
pub async fn a_snapshot(db: &Db, volume: VolumeId) -> db::snapshot::NewSnapshot {
    db::snapshot::NewSnapshot {
        id: SnapshotId::new(),
        volume_id: volume,
        user_id: "u".into(),
        project_id: "p".into(),
        size: GiB(1),
        name: Some("s".into()),
        description: None,
        type_id: default_type(db).await,
        use_quota: true,
        metadata: [("k".to_owned(), "v".to_owned())].into(),
    }
}

/// An available snapshot.
pub async fn snapshot(db: &Db, volume: VolumeId) -> SnapshotId {
    let new = a_snapshot(db, volume).await;
    let mut tx = db.begin().await.unwrap();
    db::snapshot::insert(&mut tx, &new).await.unwrap();
    let by = By::default();
    db::transition::finish_snapshot(&mut tx, new.id, SnapshotOp::Create, Outcome::Done, by).await.unwrap();
    tx.commit().await.unwrap();
    new.id
}

/// What a backup of a volume is made of.
pub fn a_backup(volume: VolumeId, parent: Option<BackupId>) -> db::backup::NewBackup {
    db::backup::NewBackup {
        id: BackupId::new(),
        volume_id: volume,
        snapshot_id: None,
        parent_id: parent,
        user_id: "u".into(),
        project_id: "p".into(),
        name: Some("b".into()),
        description: None,
        container: None,
        size: 1,
        host: None,
        availability_zone: None,
        data_timestamp: None,
        metadata: [("k".to_owned(), "v".to_owned())].into(),
    }
}

/// An available backup.
pub async fn backup(db: &Db, volume: VolumeId, parent: Option<BackupId>) -> BackupId {
    let new = a_backup(volume, parent);
    let mut tx = db.begin().await.unwrap();
    db::backup::insert(&mut tx, &new).await.unwrap();
    let by = By::default();
    db::transition::finish_backup(&mut tx, new.id, BackupOp::Create, Outcome::Done, by).await.unwrap();
    tx.commit().await.unwrap();
    new.id
}

/// An attachment in a status.
pub async fn attachment(db: &Db, volume: VolumeId, status: AttachStatus) -> AttachmentId {
    let id = AttachmentId::new();
    let new = db::attachment::NewAttachment {
        id,
        volume_id: volume,
        instance_uuid: Some("3b0f3f2e-1d2c-4a56-9a51-0f7b7b1c5d6e".into()),
        attached_host: None,
        mountpoint: None,
        mode: AttachMode::Unset,
        status,
    };
    let mut tx = db.begin().await.unwrap();
    db::attachment::insert(&mut tx, &new).await.unwrap();
    tx.commit().await.unwrap();
    id
}
