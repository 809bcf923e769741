//! Tables of keys and values that belong to a row of another table: metadata and specs, all of one shape in Cinder's schema.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::str::FromStr;

use crate::conn::{Read, Tx};
use crate::error::Result;
use crate::sql::{Value, marks, sql};

/// One such table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyValues {
    pub table: &'static str,
    /// The column with the id of the row that a key belongs to.
    pub owner: &'static str,
}

/// The id of an owner.
pub(crate) trait Owner: Copy + Eq + Hash + FromStr + Into<Value> + Send {}
impl<T: Copy + Eq + Hash + FromStr + Into<Value> + Send> Owner for T {}

impl KeyValues {
    /// The keys of some owners, a null value as it is.
    ///
    /// # Errors
    /// The database is away.
    pub async fn of<Id: Owner>(
        self,
        from: &mut impl Read,
        owners: &[Id],
    ) -> Result<HashMap<Id, BTreeMap<String, Option<String>>>> {
        let Self { table, owner } = self;
        let text = format!(
            "SELECT {owner}, \"key\" AS k, value AS v FROM {table} WHERE deleted = FALSE AND {owner} IN ({})",
            marks(owners.len())
        );
        let mut found: HashMap<Id, BTreeMap<String, Option<String>>> = HashMap::new();
        for row in from.rows(sql(text).bind_all(owners.iter().copied())).await? {
            let id: Id = row.parse(table, owner)?;
            found.entry(id).or_default().insert(row.get("k")?, row.get("v")?);
        }
        Ok(found)
    }

    /// The keys of some owners, a null value as an empty one.
    ///
    /// # Errors
    /// The database is away.
    pub async fn texts_of<Id: Owner>(
        self,
        from: &mut impl Read,
        owners: &[Id],
    ) -> Result<HashMap<Id, BTreeMap<String, String>>> {
        let text = |(key, value): (String, Option<String>)| (key, value.unwrap_or_default());
        let texts = |(id, keys): (Id, BTreeMap<_, _>)| (id, keys.into_iter().map(text).collect());
        Ok(self.of(from, owners).await?.into_iter().map(texts).collect())
    }

    /// Sets one key.
    ///
    /// # Errors
    /// The database is away.
    pub async fn put<Id: Owner>(self, tx: &mut Tx, id: Id, key: &str, value: Option<&str>) -> Result<()> {
        let Self { table, owner } = self;
        let update = format!(
            "UPDATE {table} SET value = ?, updated_at = {{utc}} WHERE {owner} = ? AND \"key\" = {{exact}}? AND deleted = FALSE"
        );
        if tx.exec(sql(update).bind(value).bind(id).bind(key)).await? > 0 {
            return Ok(());
        }
        let insert = format!(
            "INSERT INTO {table} (created_at, deleted, {owner}, \"key\", value) VALUES ({{utc}}, FALSE, ?, ?, ?)"
        );
        tx.exec(sql(insert).bind(id).bind(key).bind(value)).await.map(drop)
    }

    /// Removes one key; whether it was there.
    ///
    /// # Errors
    /// The database is away.
    pub async fn remove<Id: Owner>(self, tx: &mut Tx, id: Id, key: &str) -> Result<bool> {
        let Self { table, owner } = self;
        let text = format!(
            "UPDATE {table} SET deleted = TRUE, deleted_at = {{utc}} \
             WHERE {owner} = ? AND \"key\" = {{exact}}? AND deleted = FALSE"
        );
        Ok(tx.exec(sql(text).bind(id).bind(key)).await? > 0)
    }

    /// Makes `wanted` all the keys of `id`.
    ///
    /// # Errors
    /// The database is away.
    pub async fn replace<Id: Owner>(
        self,
        tx: &mut Tx,
        id: Id,
        wanted: &BTreeMap<String, String>,
    ) -> Result<()> {
        let have = self.of(tx, &[id]).await?.remove(&id).unwrap_or_default();
        for key in have.keys().filter(|key| !wanted.contains_key(*key)) {
            self.remove(tx, id, key).await?;
        }
        for (key, value) in wanted {
            if have.get(key).and_then(Option::as_ref) != Some(value) {
                self.put(tx, id, key, Some(value)).await?;
            }
        }
        Ok(())
    }
}
