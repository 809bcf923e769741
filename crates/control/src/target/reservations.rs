//! Persistent reservations in the database, so that they survive a restart of the target (APTPL).

use std::io;

use async_trait::async_trait;
use iscsi::{ReservationState, ReservationStore};
use model::VolumeId;

use crate::cloud::Cloud;

/// Where a volume's reservations are kept.
#[derive(Debug)]
pub struct Stored {
    cloud: Cloud,
    volume: VolumeId,
}

impl Stored {
    /// The store of a volume.
    pub fn new(cloud: Cloud, volume: VolumeId) -> Self {
        Self { cloud, volume }
    }
}

#[async_trait]
impl ReservationStore for Stored {
    async fn load(&self) -> io::Result<Option<ReservationState>> {
        let stored = db::export::reservations(&mut self.cloud.db.read(), &self.volume.to_string())
            .await
            .map_err(io::Error::other)?;
        stored.map(|text| serde_json::from_str(&text).map_err(io::Error::other)).transpose()
    }

    async fn store(&self, state: &ReservationState) -> io::Result<()> {
        let text = serde_json::to_string(state)?;
        let store = async {
            let mut tx = self.cloud.db.begin().await?;
            db::export::store_reservations(&mut tx, &self.volume.to_string(), Some(&text)).await?;
            self.cloud.commit(tx).await
        };
        store.await.map_err(io::Error::other)
    }
}
