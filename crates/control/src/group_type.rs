//! Group types and their specs.

use std::collections::BTreeMap;

use model::list::{Compare, Filter, ListQuery, Listed};
use model::{GroupType, GroupTypeId};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Resource, Result};
use crate::policy::{Action, Target};
use crate::request::{TypeVisibility, UpdateType};

/// A new group type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGroupType {
    pub name: String,
    pub description: Option<String>,
    pub is_public: bool,
    pub specs: BTreeMap<String, Option<String>>,
}

impl Cloud {
    /// A group type by its id, whoever asks.
    ///
    /// # Errors
    /// Not there.
    pub async fn group_type_by_id(&self, id: GroupTypeId) -> Result<GroupType> {
        let found = db::group_type::get(&mut self.db.read(), id).await?;
        found.ok_or_else(|| Error::NotFound(Resource::GroupType, id.to_string()))
    }

    /// `GET /group_types/default`: the one that `default_group_type` names.
    ///
    /// # Errors
    /// There is none.
    pub async fn group_type_default(&self) -> Result<GroupType> {
        let found = match &self.settings.default_group_type {
            Some(name) => db::group_type::by_name(&mut self.db.read(), name).await?,
            None => None,
        };
        found.ok_or_else(|| Error::Missing("Default group type can not be found.".into()))
    }

    /// `GET /group_types`: the public ones; administrators may ask for others.
    ///
    /// # Errors
    /// An unknown marker, a bad sort key.
    pub async fn group_type_list(
        &self,
        context: &Context,
        query: &ListQuery,
        show: TypeVisibility,
    ) -> Result<Listed<GroupType>> {
        let mut query = query.clone();
        let public = match show {
            _ if !context.is_admin => Some(true),
            TypeVisibility::Public => Some(true),
            TypeVisibility::Private => Some(false),
            TypeVisibility::All => None,
        };
        query.filters = public
            .map(|public| Filter { field: "is_public".into(), compare: Compare::Equal, value: public.into() })
            .into_iter()
            .collect();
        let listed = db::group_type::list(&mut self.db.read(), &query).await;
        listed.map_err(|error| Error::of_list(error, Resource::GroupType))
    }

    /// `POST /group_types`.
    ///
    /// # Errors
    /// Forbidden, or there is one of that name.
    pub async fn group_type_create(&self, context: &Context, wanted: NewGroupType) -> Result<GroupType> {
        self.policy.require(Action::GroupTypeCreate, context, &Target::own(context))?;
        let new = GroupType {
            id: GroupTypeId::new(),
            name: wanted.name,
            description: wanted.description,
            is_public: wanted.is_public,
            specs: wanted.specs,
            created_at: None,
            updated_at: None,
        };
        let mut tx = self.db.begin().await?;
        db::unique::one_at_a_time(&mut tx).await?;
        check_name(&mut tx, &new.name, None).await?;
        db::group_type::insert(&mut tx, &new).await?;
        self.commit(tx).await?;
        self.group_type_by_id(new.id).await
    }

    /// `PUT /group_types/{id}`.
    ///
    /// # Errors
    /// Forbidden, not there, or another has the name.
    pub async fn group_type_update(
        &self,
        context: &Context,
        id: GroupTypeId,
        wanted: UpdateType,
    ) -> Result<GroupType> {
        self.policy.require(Action::GroupTypeUpdate, context, &Target::own(context))?;
        self.group_type_by_id(id).await?;
        let mut tx = self.db.begin().await?;
        let (name, description) = (wanted.name.as_deref(), wanted.description.as_deref());
        if let Some(name) = name {
            db::unique::one_at_a_time(&mut tx).await?;
            check_name(&mut tx, name, Some(id)).await?;
        }
        db::group_type::update(&mut tx, id, name, description, wanted.is_public).await?;
        self.commit(tx).await?;
        self.group_type_by_id(id).await
    }

    /// `DELETE /group_types/{id}`.
    ///
    /// # Errors
    /// Forbidden, not there, or in use.
    pub async fn group_type_delete(&self, context: &Context, id: GroupTypeId) -> Result<()> {
        self.policy.require(Action::GroupTypeDelete, context, &Target::own(context))?;
        self.group_type_by_id(id).await?;
        let mut tx = self.db.begin().await?;
        if db::group_type::in_use(&mut tx, id).await? {
            return Err(Error::Invalid("Target group type is still in use.".into()));
        }
        db::group_type::delete(&mut tx, id).await?;
        Ok(self.commit(tx).await?)
    }

    /// Reading specs: all of them (`GET /group_types/{id}/group_specs`), or for one.
    ///
    /// # Errors
    /// Forbidden, or not there.
    pub async fn group_specs(
        &self,
        context: &Context,
        id: GroupTypeId,
        action: Action,
    ) -> Result<BTreeMap<String, Option<String>>> {
        self.policy.require(action, context, &Target::own(context))?;
        Ok(self.group_type_by_id(id).await?.specs)
    }

    /// `POST /group_types/{id}/group_specs` and `PUT .../{key}`: these are set, others stay.
    ///
    /// # Errors
    /// Forbidden, or not there.
    pub async fn group_specs_set(
        &self,
        context: &Context,
        id: GroupTypeId,
        specs: &BTreeMap<String, Option<String>>,
        action: Action,
    ) -> Result<()> {
        self.policy.require(action, context, &Target::own(context))?;
        self.group_type_by_id(id).await?;
        let mut tx = self.db.begin().await?;
        for (key, value) in specs {
            db::group_type::put_spec(&mut tx, id, key, value.as_deref()).await?;
        }
        Ok(self.commit(tx).await?)
    }

    /// `DELETE /group_types/{id}/group_specs/{key}`.
    ///
    /// # Errors
    /// Forbidden, or type or key are not there.
    pub async fn group_spec_unset(&self, context: &Context, id: GroupTypeId, key: &str) -> Result<()> {
        self.policy.require(Action::GroupTypeSpecDelete, context, &Target::own(context))?;
        self.group_type_by_id(id).await?;
        let mut tx = self.db.begin().await?;
        if !db::group_type::drop_spec(&mut tx, id, key).await? {
            return Err(Error::Missing(format!("Group Type {id} has no specs with key {key}.")));
        }
        Ok(self.commit(tx).await?)
    }
}

/// Refuses a name that another type has.
async fn check_name(tx: &mut db::Tx, name: &str, own: Option<GroupTypeId>) -> Result<()> {
    match db::group_type::by_name(tx, name).await? {
        Some(other) if Some(other.id) != own => {
            Err(Error::Conflict(format!("Group Type {name} already exists.")))
        }
        _ => Ok(()),
    }
}
