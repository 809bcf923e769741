//! The identity of the installation: of this database and everything that belongs to it.

use model::InstallationId;

use crate::conn::{Read, Tx};
use crate::error::{Error, Result};
use crate::sql::sql;

/// Gives the installation its identity, once and for all.
///
/// # Errors
/// The database is away.
pub(crate) async fn seed(tx: &mut Tx) -> Result<()> {
    if find(tx).await?.is_some() {
        return Ok(());
    }
    let stmt = sql("INSERT INTO installation (id, created_at) VALUES (?, {now}) {or_ignore id}");
    tx.exec(stmt.bind(InstallationId::new().to_string())).await.map(drop)
}

/// The identity; it goes wherever the database goes.
///
/// # Errors
/// The database is away, or has not been brought up to date.
pub async fn id(from: &mut impl Read) -> Result<InstallationId> {
    find(from)
        .await?
        .ok_or_else(|| Error::Unusable("the database has lost its installation's identity".into()))
}

async fn find(from: &mut impl Read) -> Result<Option<InstallationId>> {
    // Nobody makes a second one; if somebody did, all must agree on one of them.
    let row = from.row(sql("SELECT MIN(id) AS id FROM installation")).await?;
    row.map_or(Ok(None), |row| row.parse_opt("installation", "id"))
}
