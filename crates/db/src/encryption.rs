//! The encryption of volume types.

use model::encryption::ControlLocation;
use model::{Encryption, EncryptionId, TypeId};

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::sql::{Row, sql};

/// Makes a type's volumes encrypted.
///
/// # Errors
/// The database is away.
pub async fn insert(tx: &mut Tx, new: &Encryption) -> Result<()> {
    let stmt = sql("INSERT INTO encryption (created_at, deleted, encryption_id, volume_type_id, provider, \
                    control_location, cipher, key_size) VALUES ({utc}, FALSE, ?, ?, ?, ?, ?, ?)");
    let stmt = stmt.bind(new.id).bind(new.type_id).bind(&new.provider).bind(new.control_location);
    tx.exec(stmt.bind(new.cipher.as_deref()).bind(new.key_size)).await.map(drop)
}

/// What changes of a type's encryption; `None` stays.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    pub provider: Option<String>,
    pub control_location: Option<ControlLocation>,
    pub cipher: Option<Option<String>>,
    pub key_size: Option<Option<u32>>,
}

/// Changes a type's encryption; whether it has one.
///
/// # Errors
/// The database is away.
pub async fn update(tx: &mut Tx, type_id: TypeId, changes: &Changes) -> Result<bool> {
    let mut stmt = sql("UPDATE encryption SET updated_at = {utc}");
    if let Some(provider) = &changes.provider {
        stmt = stmt.push(", provider = ?").bind(provider);
    }
    if let Some(location) = changes.control_location {
        stmt = stmt.push(", control_location = ?").bind(location);
    }
    if let Some(cipher) = &changes.cipher {
        stmt = stmt.push(", cipher = ?").bind(cipher.as_deref());
    }
    if let Some(size) = changes.key_size {
        stmt = stmt.push(", key_size = ?").bind(size);
    }
    Ok(tx.exec(stmt.push(" WHERE volume_type_id = ? AND deleted = FALSE").bind(type_id)).await? > 0)
}

/// A type's encryption; `None`: its volumes are plain.
///
/// # Errors
/// The database is away.
pub async fn of_type(from: &mut impl Read, type_id: TypeId) -> Result<Option<Encryption>> {
    let stmt = sql("SELECT * FROM encryption WHERE volume_type_id = ? AND deleted = FALSE").bind(type_id);
    from.row(stmt).await?.as_ref().map(read).transpose()
}

/// Makes a type's volumes plain; whether they were not.
///
/// # Errors
/// The database is away.
pub async fn delete(tx: &mut Tx, type_id: TypeId) -> Result<bool> {
    let stmt = sql("UPDATE encryption SET deleted = TRUE, deleted_at = {utc} \
                    WHERE volume_type_id = ? AND deleted = FALSE");
    Ok(tx.exec(stmt.bind(type_id)).await? > 0)
}

fn read(row: &Row) -> Result<Encryption> {
    let id: String = row.get("encryption_id")?;
    let unreadable =
        |column, value| crate::Error::Unreadable { table: "encryption", column, id: id.clone(), value };
    let location: String = row.get("control_location")?;
    Ok(Encryption {
        id: id.parse::<EncryptionId>().map_err(|_| unreadable("encryption_id", id.clone()))?,
        type_id: row.parse("encryption", "volume_type_id")?,
        provider: row.get("provider")?,
        control_location: location.parse().map_err(|_| unreadable("control_location", location.clone()))?,
        cipher: row.get("cipher")?,
        key_size: row.get::<Option<i64>>("key_size")?.and_then(|size| u32::try_from(size).ok()),
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}
