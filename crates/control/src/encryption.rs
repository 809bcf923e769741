//! The encryption of volume types, and what a host is told of a volume's. Keys are the key manager's.

pub use db::encryption::Changes;
use model::encryption::ControlLocation;
use model::{Encryption, EncryptionId, TypeId, Volume, VolumeId, VolumeType};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Resource, Result};
use crate::policy::{Action, Target};

/// How a type's volumes are to be encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEncryption {
    pub provider: String,
    pub control_location: ControlLocation,
    pub cipher: Option<String>,
    /// Bits.
    pub key_size: Option<u32>,
}

impl Cloud {
    /// `GET /types/{id}/encryption`; `None`: its volumes are plain.
    ///
    /// # Errors
    /// Forbidden, or no such type.
    pub async fn encryption_show(&self, context: &Context, id: TypeId) -> Result<Option<Encryption>> {
        self.policy.require(Action::TypeEncryptionShow, context, &Target::own(context))?;
        self.type_by_id(id).await?;
        Ok(db::encryption::of_type(&mut self.db.read(), id).await?)
    }

    /// `POST /types/{id}/encryption`.
    ///
    /// # Errors
    /// Forbidden, in use, no such type, or encrypted already.
    pub async fn encryption_create(
        &self,
        context: &Context,
        type_id: TypeId,
        wanted: NewEncryption,
    ) -> Result<EncryptionId> {
        self.policy.require(Action::TypeEncryptionCreate, context, &Target::own(context))?;
        let mut tx = self.db.begin().await?;
        db::unique::one_at_a_time(&mut tx).await?;
        check_unused(&mut tx, type_id, "create").await?;
        if db::volume_type::get(&mut tx, type_id).await?.is_none() {
            return Err(Error::NotFound(Resource::VolumeType, type_id.to_string()));
        }
        if db::encryption::of_type(&mut tx, type_id).await?.is_some() {
            return Err(Error::Invalid(format!("Volume type encryption for type {type_id} already exists.")));
        }
        let new = Encryption {
            id: EncryptionId::new(),
            type_id,
            provider: wanted.provider,
            control_location: wanted.control_location,
            cipher: wanted.cipher,
            key_size: wanted.key_size,
            created_at: None,
            updated_at: None,
        };
        db::encryption::insert(&mut tx, &new).await?;
        self.commit(tx).await?;
        Ok(new.id)
    }

    /// `PUT /types/{id}/encryption/{encryption_id}`.
    ///
    /// # Errors
    /// Forbidden, no such type, in use, or plain.
    pub async fn encryption_update(&self, context: &Context, id: TypeId, changes: &Changes) -> Result<()> {
        self.policy.require(Action::TypeEncryptionUpdate, context, &Target::own(context))?;
        self.type_by_id(id).await?;
        let mut tx = self.db.begin().await?;
        check_unused(&mut tx, id, "update").await?;
        if !db::encryption::update(&mut tx, id, changes).await? {
            return Err(plain(id));
        }
        Ok(self.commit(tx).await?)
    }

    /// `DELETE /types/{id}/encryption/{encryption_id}`.
    ///
    /// # Errors
    /// Forbidden, in use, or plain.
    pub async fn encryption_delete(&self, context: &Context, id: TypeId) -> Result<()> {
        self.policy.require(Action::TypeEncryptionDelete, context, &Target::own(context))?;
        let mut tx = self.db.begin().await?;
        check_unused(&mut tx, id, "delete").await?;
        if !db::encryption::delete(&mut tx, id).await? {
            return Err(plain(id));
        }
        Ok(self.commit(tx).await?)
    }

    /// `GET /volumes/{id}/encryption`: the volume, whose key it is, and how its type encrypts.
    ///
    /// # Errors
    /// Forbidden, or not there.
    pub async fn volume_encryption(
        &self,
        context: &Context,
        id: VolumeId,
    ) -> Result<(Volume, Option<Encryption>)> {
        let volume = self.volume_for(context, id, Action::VolumeEncryptionMetadata).await?;
        let encryption = db::encryption::of_type(&mut self.db.read(), volume.type_id).await?;
        Ok((volume, encryption))
    }

    /// Refuses a new volume of an encrypted type as long as there is no key manager to make its key: it is never made plain.
    ///
    /// # Errors
    /// 400, in the words of a key manager that cannot be reached.
    pub(crate) async fn check_encryption(&self, kind: &VolumeType) -> Result<()> {
        if db::encryption::of_type(&mut self.db.read(), kind.id).await?.is_none() {
            return Ok(());
        }
        if kind.multiattach() {
            return Err(Error::InvalidVolume("Multiattach cannot be used with encrypted volumes.".into()));
        }
        Err(Error::Invalid("Key manager error".into()))
    }
}

/// No error of the type's absence: that is asked elsewhere, in Cinder's order.
async fn check_unused(tx: &mut db::Tx, id: TypeId, verb: &str) -> Result<()> {
    if db::volume_type::in_use(tx, id).await? > 0 {
        return Err(Error::Invalid(format!("Cannot {verb} encryption specs. Volume type in use.")));
    }
    Ok(())
}

fn plain(id: TypeId) -> Error {
    Error::Missing(format!("Volume type encryption for type {id} does not exist."))
}
