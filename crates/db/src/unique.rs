//! Names that must be unique although Cinder's schema has no constraint for them.

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::sql::sql;

/// Until `tx` ends, nobody else who calls this goes on: what is looked for and not found is not made meanwhile. It serialises on
/// the row that every database of Cinder's has; for operators' rare changes, not for users' requests.
///
/// # Errors
/// The database is away.
pub async fn one_at_a_time(tx: &mut Tx) -> Result<()> {
    let row = sql("SELECT id FROM workers WHERE resource_type = 'SENTINEL' {for_update}");
    tx.row(row).await.map(drop)
}
