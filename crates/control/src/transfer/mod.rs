//! Transfers: a project offers a volume, another one takes it with the key. Owner, snapshots and both quotas change in one
//! transaction (I6).

mod key;

use std::collections::BTreeMap;

use db::Tx;
use db::transfer::Owner;
use db::transition::Begin;
use model::list::{ListQuery, Listed};
use model::quota::Usage;
use model::transition::VolumeMove;
use model::{Secret, Snapshot, SnapshotStatus, Transfer, TransferId, Volume, VolumeId, VolumeStatus};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Resource, Result};
use crate::policy::{Action, Target};
use crate::volume::visible;
use crate::{export, quota};

pub use key::Lengths;

/// A new offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTransfer {
    pub volume_id: VolumeId,
    pub name: Option<String>,
    pub no_snapshots: bool,
    pub encrypted: Encrypted,
}

/// What becomes of an offer of an encrypted volume: older microversions do not know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encrypted {
    Allowed,
    Refused,
}

impl Cloud {
    /// A transfer whose volume the caller may know of.
    async fn transfer_for(&self, context: &Context, id: TransferId) -> Result<Transfer> {
        let found = db::transfer::get(&mut self.db.read(), id).await?;
        let mine = found.filter(|(_, project)| visible(context, project.as_deref()));
        mine.map(|(transfer, _)| transfer).ok_or_else(|| missing(id))
    }

    /// `GET /volume-transfers`.
    ///
    /// # Errors
    /// Forbidden, an unknown marker, a bad sort key.
    pub async fn transfer_list(&self, context: &Context, query: &ListQuery) -> Result<Listed<Transfer>> {
        self.policy.require(Action::TransferList, context, &Target::own(context))?;
        let listed = db::transfer::list(&mut self.db.read(), query).await;
        listed.map_err(|error| Error::of_list(error, Resource::Transfer))
    }

    /// `GET /volume-transfers/{id}`.
    ///
    /// # Errors
    /// Forbidden, or not there.
    pub async fn transfer_show(&self, context: &Context, id: TransferId) -> Result<Transfer> {
        self.policy.require(Action::TransferShow, context, &Target::own(context))?;
        self.transfer_for(context, id).await
    }

    /// `POST /volume-transfers`: the offer, and its key, which is not shown again.
    ///
    /// # Errors
    /// Forbidden, not there, or the volume or a snapshot of it is not available.
    pub async fn transfer_create(
        &self,
        context: &Context,
        wanted: NewTransfer,
    ) -> Result<(Transfer, Secret<String>)> {
        let volume = self.volume_for(context, wanted.volume_id, Action::TransferCreate).await?;
        check_offer(&volume, &wanted)?;
        let (key, lock) = key::fresh(self.settings.transfer_lengths)?;
        let new = Transfer {
            id: TransferId::new(),
            volume_id: volume.id,
            name: wanted.name,
            no_snapshots: wanted.no_snapshots,
            source_project_id: volume.project_id.clone(),
            destination_project_id: None,
            accepted: false,
            created_at: None,
        };
        let mut tx = self.db.begin().await?;
        let by = export::by(context, &volume, None);
        if db::transition::move_volume(&mut tx, volume.id, VolumeMove::Offer, by).await? != Begin::Moved {
            return Err(Error::InvalidVolume("status must be available".into()));
        }
        if !wanted.no_snapshots {
            for snapshot in db::snapshot::of_volume(&mut tx, volume.id).await? {
                if snapshot.status != SnapshotStatus::Available {
                    return Err(Error::InvalidSnapshot(format!(
                        "snapshot: {} status must be available",
                        snapshot.id
                    )));
                }
            }
        }
        db::transfer::insert(&mut tx, &new, &lock).await?;
        let made = db::transfer::get(&mut tx, new.id).await?;
        self.commit(tx).await?;
        Ok((made.map_or(new, |(transfer, _)| transfer), key))
    }

    /// `DELETE /volume-transfers/{id}`: the volume is its project's to use again.
    ///
    /// # Errors
    /// Forbidden, or not there.
    pub async fn transfer_delete(&self, context: &Context, id: TransferId) -> Result<()> {
        let transfer = self.transfer_for(context, id).await?;
        let volume = self.volume_for(context, transfer.volume_id, Action::TransferDelete).await?;
        let mut tx = self.db.begin().await?;
        if !db::transfer::withdraw(&mut tx, id).await? {
            return Err(missing(id));
        }
        let by = export::by(context, &volume, None);
        db::transition::move_volume(&mut tx, volume.id, VolumeMove::EndOffer, by).await?;
        Ok(self.commit(tx).await?)
    }

    /// `POST /volume-transfers/{id}/accept`: the volume, and unless it was offered without them its snapshots, become the caller's.
    ///
    /// # Errors
    /// Forbidden, not there, a wrong key, over quota, or the volume or a snapshot is not what it was when it was offered.
    pub async fn transfer_accept(
        &self,
        context: &Context,
        id: TransferId,
        key: &Secret<String>,
    ) -> Result<Transfer> {
        self.policy.require(Action::TransferAccept, context, &Target::own(context))?;
        let read = &mut self.db.read();
        // Whoever has the key need not be of the volume's project.
        let (transfer, _) = db::transfer::get(read, id).await?.ok_or_else(|| missing(id))?;
        let lock = db::transfer::lock_of(read, id).await?.ok_or_else(|| missing(id))?;
        if !key::opens(&lock, key) {
            let text = format!("Invalid auth key: Attempt to transfer {id} with invalid auth key.");
            return Err(Error::Invalid(text));
        }
        let volume = self.volume_again(transfer.volume_id).await?;
        if volume.consistencygroup_id.is_some() {
            return Err(Error::InvalidVolume(format!(
                "Volume {} must not be part of a consistency group.",
                volume.id
            )));
        }
        let limits = self.limits(&context.project_id).await?;
        quota::check_volume_size(volume.size, &limits)?;
        let mut tx = self.db.begin().await?;
        self.hand_over(context, &mut tx, &transfer, &volume, &limits).await?;
        self.commit(tx).await?;
        Ok(transfer)
    }

    /// Everything that changes when a transfer is accepted.
    async fn hand_over(
        &self,
        context: &Context,
        tx: &mut Tx,
        transfer: &Transfer,
        volume: &Volume,
        limits: &BTreeMap<String, i64>,
    ) -> Result<()> {
        if !db::transfer::accept(tx, transfer.id, &context.project_id).await? {
            return Err(missing(transfer.id));
        }
        let to = Owner { user: &context.user_id, project: &context.project_id };
        let by = export::by(context, volume, None);
        if db::transition::move_volume(tx, volume.id, VolumeMove::EndOffer, by).await? != Begin::Moved {
            return Err(Error::InvalidVolume(format!(
                "Transfer {}: Volume id {} expected in awaiting-transfer state.",
                transfer.id, volume.id
            )));
        }
        db::transfer::give_volume(tx, volume.id, to).await?;
        let snapshots = match transfer.no_snapshots {
            true => Vec::new(),
            false => db::snapshot::of_volume(tx, volume.id).await?,
        };
        for snapshot in &snapshots {
            if !db::transfer::give_snapshot(tx, snapshot.id, to).await? {
                return Err(Error::InvalidSnapshot(format!(
                    "Transfer {}: Snapshot {} is not in the expected available state.",
                    transfer.id, snapshot.id
                )));
            }
        }
        self.move_quota(tx, volume, &snapshots, context, limits).await
    }

    /// What the volume and its snapshots use is counted for another project.
    async fn move_quota(
        &self,
        tx: &mut Tx,
        volume: &Volume,
        snapshots: &[Snapshot],
        context: &Context,
        limits: &BTreeMap<String, i64>,
    ) -> Result<()> {
        let kind = db::volume_type::get(tx, volume.type_id).await?.map(|kind| kind.name);
        let used = |sign: i64| -> Vec<Usage> {
            let volume = volume.use_quota.then(|| quota::of_volume(volume.size, kind.as_deref(), sign));
            let snapshots = snapshots.iter().filter(|snapshot| snapshot.use_quota).flat_map(|snapshot| {
                quota::of_snapshot(
                    snapshot.volume_size,
                    kind.as_deref(),
                    self.settings.snapshot_gb_free,
                    sign,
                )
            });
            sum(volume.into_iter().flatten().chain(snapshots))
        };
        quota::take(tx, &context.project_id, &used(1), limits).await?;
        if let Some(donor) = &volume.project_id {
            quota::give_back(tx, donor, &used(-1)).await?;
        }
        Ok(())
    }
}

/// One line for each resource, so that each is asked of its limit once.
fn sum(usages: impl Iterator<Item = Usage>) -> Vec<Usage> {
    let mut total = BTreeMap::<String, i64>::new();
    for usage in usages {
        *total.entry(usage.resource).or_default() += usage.delta;
    }
    total.into_iter().map(|(resource, delta)| Usage { resource, delta }).collect()
}

fn check_offer(volume: &Volume, wanted: &NewTransfer) -> Result<()> {
    if volume.status != VolumeStatus::Available {
        return Err(Error::InvalidVolume("status must be available".into()));
    }
    if volume.group_id.is_some() || volume.consistencygroup_id.is_some() {
        return Err(Error::InvalidVolume(format!("Volume {} must not be part of a group.", volume.id)));
    }
    if volume.encryption_key_id.is_none() {
        return Ok(());
    }
    if wanted.encrypted == Encrypted::Refused {
        return Err(Error::InvalidVolume("transferring encrypted volume is not supported".into()));
    }
    if wanted.no_snapshots {
        return Err(Error::InvalidVolume(
            "transferring an encrypted volume without its snapshots is not supported".into(),
        ));
    }
    Ok(())
}

fn missing(id: TransferId) -> Error {
    Error::NotFound(Resource::Transfer, id.to_string())
}
