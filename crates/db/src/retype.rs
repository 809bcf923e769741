//! Another type for a volume: what of the two types matters, and the change itself.

use model::{TypeId, VolumeId};

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::sql::sql;

/// What of a type decides whether a volume may have it, beyond its specs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traits {
    /// How its volumes are encrypted: provider, where, cipher, key size. `None`: not at all.
    pub encryption: Option<[Option<String>; 4]>,
    /// Its QoS specs.
    pub qos: Option<String>,
    /// Whether hypervisors, too, enforce these.
    pub qos_in_front: bool,
}

/// The traits of a type.
///
/// # Errors
/// The database is away.
pub async fn traits(from: &mut impl Read, id: TypeId) -> Result<Traits> {
    let encryption = from
        .row(
            sql(
                "SELECT provider, control_location, cipher, CAST(key_size AS {int}) AS bits FROM encryption \
                 WHERE volume_type_id = ? AND deleted = FALSE",
            )
            .bind(id),
        )
        .await?;
    let encryption = match encryption {
        Some(row) => {
            let bits: Option<i64> = row.get("bits")?;
            Some([
                row.get("provider")?,
                row.get("control_location")?,
                row.get("cipher")?,
                bits.map(|bits| bits.to_string()),
            ])
        }
        None => None,
    };
    let row = from
        .row(
            sql("SELECT t.qos_specs_id AS qos, q.value AS consumer FROM volume_types t \
                 LEFT JOIN quality_of_service_specs q ON q.specs_id = t.qos_specs_id AND q.\"key\" = 'consumer' \
                 AND q.deleted = FALSE WHERE t.id = ?")
            .bind(id),
        )
        .await?;
    let (qos, consumer): (Option<String>, Option<String>) = match row {
        Some(row) => (row.get("qos")?, row.get("consumer")?),
        None => (None, None),
    };
    let qos_in_front = consumer.is_some_and(|consumer| consumer != "back-end");
    Ok(Traits { encryption, qos, qos_in_front })
}

/// Gives a volume and its snapshots another type.
///
/// # Errors
/// The database is away.
pub async fn change(tx: &mut Tx, volume: VolumeId, to: TypeId, multiattach: bool) -> Result<()> {
    tx.exec(
        sql("UPDATE volumes SET volume_type_id = ?, multiattach = ?, updated_at = {utc} WHERE id = ? AND deleted = FALSE")
            .bind(to)
            .bind(multiattach)
            .bind(volume),
    )
    .await?;
    tx.exec(
        sql("UPDATE snapshots SET volume_type_id = ? WHERE volume_id = ? AND deleted = FALSE")
            .bind(to)
            .bind(volume),
    )
    .await
    .map(drop)
}
