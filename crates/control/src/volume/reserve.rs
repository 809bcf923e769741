//! The old style's promises: `os-reserve`, `os-unreserve`, `os-begin_detaching`, `os-roll_detaching`. One conditional update each.

use db::transition::Begin;
use model::transition::VolumeMove;
use model::{Volume, VolumeId, VolumeStatus};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::export::by;
use crate::policy::Action;

impl Cloud {
    /// `os-reserve`.
    ///
    /// # Errors
    /// Not there, forbidden, not free.
    pub async fn volume_reserve(&self, context: &Context, id: VolumeId) -> Result<()> {
        let volume = self.volume_for(context, id, Action::VolumeReserve).await?;
        let (how, expected) = if volume.multiattach {
            (VolumeMove::ReserveMulti, "available or in-use")
        } else {
            (VolumeMove::Reserve, "available")
        };
        match self.client_move(context, &volume, how).await? {
            Begin::Moved => Ok(()),
            Begin::Refused { status, .. } => Err(Error::InvalidVolume(format!(
                "Volume status must be {expected} to reserve, but the status is {status}."
            ))),
            Begin::Missing => Err(Error::InvalidVolume(format!(
                "Volume status must be {expected} to reserve, but the status is {}.",
                VolumeStatus::Deleted
            ))),
        }
    }

    /// `os-unreserve`. Nothing when it is not reserved.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn volume_unreserve(&self, context: &Context, id: VolumeId) -> Result<()> {
        let volume = self.volume_for(context, id, Action::VolumeUnreserve).await?;
        self.unreserve(context, &volume).await
    }

    /// Back from `attaching`, if it is.
    pub(crate) async fn unreserve(&self, context: &Context, volume: &Volume) -> Result<()> {
        let mut tx = self.db.begin().await?;
        db::transition::unreserve_volume(&mut tx, volume.id, by(context, volume, None)).await?;
        Ok(self.commit(tx).await?)
    }

    /// `os-begin_detaching`. Accepted without a change while the volume migrates.
    ///
    /// # Errors
    /// Not there, forbidden, not attached.
    pub async fn volume_begin_detaching(&self, context: &Context, id: VolumeId) -> Result<()> {
        let volume = self.volume_for(context, id, Action::VolumeBeginDetaching).await?;
        match self.client_move(context, &volume, VolumeMove::BeginDetaching).await? {
            Begin::Moved => Ok(()),
            _ if volume.migrating() => Ok(()),
            _ => Err(Error::InvalidVolume(
                "Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to \
                 detach."
                    .into(),
            )),
        }
    }

    /// `os-roll_detaching`. Nothing when it is not being detached.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn volume_roll_detaching(&self, context: &Context, id: VolumeId) -> Result<()> {
        let volume = self.volume_for(context, id, Action::VolumeRollDetaching).await?;
        self.client_move(context, &volume, VolumeMove::RollDetaching).await.map(drop)
    }

    async fn client_move(&self, context: &Context, volume: &Volume, how: VolumeMove) -> Result<Begin> {
        let mut tx = self.db.begin().await?;
        let moved = db::transition::move_volume(&mut tx, volume.id, how, by(context, volume, None)).await?;
        self.commit(tx).await?;
        Ok(moved)
    }
}
