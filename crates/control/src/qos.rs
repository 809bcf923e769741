//! QoS specs and the types that refer to them. Enforcing them is the target's and the hypervisor's: connection info carries what
//! concerns the latter.

use std::collections::BTreeMap;

use db::Tx;
use model::list::{ListQuery, Listed};
use model::qos::Consumer;
use model::{QosId, QosSpecs, TypeId};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Resource, Result};
use crate::policy::{Action, Target};

/// Specs as they are sent: the key `consumer` says who enforces the others.
pub type Specs = BTreeMap<String, Option<String>>;

/// Which types stop referring to a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disassociate {
    One(TypeId),
    All,
}

/// What happens to the types that refer to a set which is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteQos {
    /// Refuse when there are any.
    IfUnused,
    /// They stop referring to it.
    Force,
}

impl Cloud {
    fn may_qos(&self, context: &Context, action: Action) -> Result<()> {
        self.policy.require(action, context, &Target::own(context))
    }

    async fn qos_by_id(&self, id: QosId) -> Result<QosSpecs> {
        let found = db::qos::get(&mut self.db.read(), id).await?;
        found.ok_or_else(|| Error::NotFound(Resource::Qos, id.to_string()))
    }

    /// `GET /qos-specs`.
    ///
    /// # Errors
    /// Forbidden, an unknown marker, a bad sort key.
    pub async fn qos_list(&self, context: &Context, query: &ListQuery) -> Result<Listed<QosSpecs>> {
        self.may_qos(context, Action::QosList)?;
        let listed = db::qos::list(&mut self.db.read(), query).await;
        listed.map_err(|error| Error::of_list(error, Resource::Qos))
    }

    /// `GET /qos-specs/{id}`.
    ///
    /// # Errors
    /// Forbidden, or not there.
    pub async fn qos_show(&self, context: &Context, id: QosId) -> Result<QosSpecs> {
        self.may_qos(context, Action::QosShow)?;
        self.qos_by_id(id).await
    }

    /// `POST /qos-specs`.
    ///
    /// # Errors
    /// Forbidden, an unknown consumer, or there is one of that name.
    pub async fn qos_create(&self, context: &Context, name: &str, mut specs: Specs) -> Result<QosSpecs> {
        self.may_qos(context, Action::QosCreate)?;
        let consumer = consumer(&mut specs)?.unwrap_or(Consumer::BackEnd);
        let new = QosSpecs { id: QosId::new(), name: name.to_owned(), consumer, specs, created_at: None };
        let mut tx = self.db.begin().await?;
        db::unique::one_at_a_time(&mut tx).await?;
        if db::qos::is_named(&mut tx, name).await? {
            return Err(Error::Conflict(format!("QoS Specs {name} already exists.")));
        }
        db::qos::insert(&mut tx, &new).await?;
        self.commit(tx).await?;
        self.qos_by_id(new.id).await
    }

    /// `PUT /qos-specs/{id}`: these are set, others stay.
    ///
    /// # Errors
    /// Forbidden, not there, an unknown consumer.
    pub async fn qos_update(&self, context: &Context, id: QosId, mut specs: Specs) -> Result<()> {
        self.may_qos(context, Action::QosUpdate)?;
        let mut tx = self.db.begin().await?;
        hold(&mut tx, id).await?;
        if let Some(consumer) = consumer(&mut specs)? {
            db::qos::set_consumer(&mut tx, id, consumer).await?;
        }
        for (key, value) in &specs {
            db::qos::put(&mut tx, id, key, value.as_deref()).await?;
        }
        Ok(self.commit(tx).await?)
    }

    /// `PUT /qos-specs/{id}/delete_keys`: all of them, or none.
    ///
    /// # Errors
    /// Forbidden, not there, or a key that is not there.
    pub async fn qos_delete_keys(&self, context: &Context, id: QosId, keys: &[String]) -> Result<()> {
        self.may_qos(context, Action::QosDelete)?;
        let mut tx = self.db.begin().await?;
        hold(&mut tx, id).await?;
        for key in keys {
            if !db::qos::drop_key(&mut tx, id, key).await? {
                return Err(Error::Missing(format!("QoS spec {id} has no spec with key {key}.")));
            }
        }
        Ok(self.commit(tx).await?)
    }

    /// `DELETE /qos-specs/{id}`.
    ///
    /// # Errors
    /// Forbidden, not there, or in use.
    pub async fn qos_delete(&self, context: &Context, id: QosId, how: DeleteQos) -> Result<()> {
        self.may_qos(context, Action::QosDelete)?;
        let mut tx = self.db.begin().await?;
        hold(&mut tx, id).await?;
        if how == DeleteQos::IfUnused && !db::qos::types(&mut tx, id).await?.is_empty() {
            return Err(Error::Invalid("Qos specs still in use.".into()));
        }
        db::qos::disassociate(&mut tx, id, None).await?;
        db::qos::delete(&mut tx, id).await?;
        Ok(self.commit(tx).await?)
    }

    /// `GET /qos-specs/{id}/associations`.
    ///
    /// # Errors
    /// Forbidden, or not there.
    pub async fn qos_associations(&self, context: &Context, id: QosId) -> Result<Vec<(TypeId, String)>> {
        self.may_qos(context, Action::QosList)?;
        self.qos_by_id(id).await?;
        Ok(db::qos::types(&mut self.db.read(), id).await?)
    }

    /// `GET /qos-specs/{id}/associate`.
    ///
    /// # Errors
    /// Forbidden, either is not there, or the type has another set.
    pub async fn qos_associate(&self, context: &Context, id: QosId, with: TypeId) -> Result<()> {
        self.may_qos(context, Action::QosUpdate)?;
        let mut tx = self.db.begin().await?;
        hold(&mut tx, id).await?;
        if !db::qos::associate(&mut tx, id, with).await? {
            let kind = db::volume_type::get(&mut tx, with).await?;
            let kind = kind.ok_or_else(|| Error::NotFound(Resource::VolumeType, with.to_string()))?;
            let other = kind.qos_specs_id.map(|other| other.to_string()).unwrap_or_default();
            return Err(Error::InvalidVolumeType(format!(
                "Type {with} is already associated with another qos specs: {other}"
            )));
        }
        Ok(self.commit(tx).await?)
    }

    /// `GET /qos-specs/{id}/disassociate` and `disassociate_all`.
    ///
    /// # Errors
    /// Forbidden, or either is not there.
    pub async fn qos_disassociate(&self, context: &Context, id: QosId, from: Disassociate) -> Result<()> {
        self.may_qos(context, Action::QosUpdate)?;
        let mut tx = self.db.begin().await?;
        hold(&mut tx, id).await?;
        let one = match from {
            Disassociate::One(type_id) => {
                if db::volume_type::get(&mut tx, type_id).await?.is_none() {
                    return Err(Error::NotFound(Resource::VolumeType, type_id.to_string()));
                }
                Some(type_id)
            }
            Disassociate::All => None,
        };
        db::qos::disassociate(&mut tx, id, one).await?;
        Ok(self.commit(tx).await?)
    }
}

async fn hold(tx: &mut Tx, id: QosId) -> Result<()> {
    match db::qos::hold(tx, id).await? {
        true => Ok(()),
        false => Err(Error::NotFound(Resource::Qos, id.to_string())),
    }
}

/// Takes who enforces the specs out of them.
fn consumer(specs: &mut Specs) -> Result<Option<Consumer>> {
    let Some(Some(text)) = specs.remove("consumer") else { return Ok(None) };
    let unknown = || {
        let all = Consumer::ALL.iter().map(|one| format!("'{one}'")).collect::<Vec<_>>().join(", ");
        Error::Invalid(format!("Invalid qos specs: Valid consumer of QoS specs are: [{all}]"))
    };
    text.parse().map(Some).map_err(|_| unknown())
}
