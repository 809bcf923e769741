//! Volume types: who may see them, the default one, their specs and access lists.

use std::collections::BTreeMap;

use model::list::{Compare, Filter, ListQuery, Listed};
use model::{TypeId, VolumeType};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Resource, Result};
use crate::policy::{Action, Target};
use crate::request::{NewType, TypeVisibility, UpdateType};

/// Extra specs that ordinary users may read (api-routes-admin.md).
const USER_VISIBLE: [&str; 3] = ["multiattach", "RESKEY:availability_zones", "replication_enabled"];

impl Cloud {
    /// A type the caller may use, by id or by name.
    ///
    /// # Errors
    /// Not there, in Cinder's words for the way it was named.
    pub async fn type_by_name_or_id(&self, context: &Context, text: &str) -> Result<VolumeType> {
        let mut read = self.db.read();
        let found = match text.parse::<TypeId>() {
            Ok(id) => db::volume_type::get(&mut read, id).await?,
            Err(_) => None,
        };
        let found = match found {
            Some(kind) => Some(kind),
            None => db::volume_type::by_name(&mut read, text).await?,
        };
        let missing = || match text.parse::<TypeId>() {
            Ok(_) => Error::NotFound(Resource::VolumeType, text.to_owned()),
            Err(_) => Error::Missing(format!("Volume type with name {text} could not be found.")),
        };
        let kind = found.ok_or_else(missing)?;
        if self.may_use(context, &kind).await? { Ok(kind) } else { Err(missing()) }
    }

    async fn may_use(&self, context: &Context, kind: &VolumeType) -> Result<bool> {
        if kind.is_public || context.is_admin {
            return Ok(true);
        }
        Ok(db::volume_type::access(&mut self.db.read(), kind.id).await?.contains(&context.project_id))
    }

    /// A type by its id, whoever asks.
    ///
    /// # Errors
    /// Not there.
    pub async fn type_by_id(&self, id: TypeId) -> Result<VolumeType> {
        let kind = db::volume_type::get(&mut self.db.read(), id).await?;
        kind.ok_or_else(|| Error::NotFound(Resource::VolumeType, id.to_string()))
    }

    /// The type of volumes for which none is named.
    ///
    /// # Errors
    /// The configured one is not there: an operator's mistake.
    pub async fn default_type(&self) -> Result<VolumeType> {
        let name = &self.settings.default_type;
        let kind = db::volume_type::by_name(&mut self.db.read(), name).await?;
        kind.ok_or_else(|| {
            Error::Failed(format!(
                "default_volume_type names {name}, which does not exist; create it or correct the configuration"
            ))
        })
    }

    /// `GET /types`.
    ///
    /// # Errors
    /// Forbidden, an unknown marker, a bad sort key.
    pub async fn type_list(
        &self,
        context: &Context,
        query: &ListQuery,
        show: TypeVisibility,
    ) -> Result<Listed<VolumeType>> {
        self.policy.require(Action::TypeList, context, &Target::own(context))?;
        let mut query = query.clone();
        let access = if context.is_admin {
            let wanted = match show {
                TypeVisibility::Public => Some(true),
                TypeVisibility::Private => Some(false),
                TypeVisibility::All => None,
            };
            if let Some(public) = wanted {
                query.filters.push(Filter {
                    field: "is_public".into(),
                    compare: Compare::Equal,
                    value: public.into(),
                });
            }
            None
        } else {
            Some(context.project_id.as_str())
        };
        let mut listed = db::volume_type::list(&mut self.db.read(), &query, access)
            .await
            .map_err(|error| Error::of_list(error, Resource::VolumeType))?;
        for kind in &mut listed.items {
            self.hide_specs(context, kind);
        }
        Ok(listed)
    }

    /// Leaves of the extra specs what the caller may read.
    fn hide_specs(&self, context: &Context, kind: &mut VolumeType) {
        if !self.policy.allows(Action::TypeExtraSpecReadSensitive, context, &Target::own(context)) {
            kind.extra_specs.retain(|key, _| USER_VISIBLE.contains(&key.as_str()));
        }
    }

    /// `GET /types/{id}`.
    ///
    /// # Errors
    /// Not there (or private and not the caller's), or forbidden.
    pub async fn type_show(&self, context: &Context, id: TypeId) -> Result<VolumeType> {
        self.policy.require(Action::TypeShow, context, &Target::own(context))?;
        let mut kind = self.type_by_name_or_id(context, &id.to_string()).await?;
        self.hide_specs(context, &mut kind);
        Ok(kind)
    }

    /// `GET /types/default`.
    ///
    /// # Errors
    /// Forbidden, or there is none.
    pub async fn type_show_default(&self, context: &Context) -> Result<VolumeType> {
        self.policy.require(Action::TypeShow, context, &Target::own(context))?;
        let mut kind = self.default_type_of(&context.project_id).await?;
        self.hide_specs(context, &mut kind);
        Ok(kind)
    }

    /// `POST /types`.
    ///
    /// # Errors
    /// Forbidden, or there is one of that name.
    pub async fn type_create(&self, context: &Context, wanted: NewType) -> Result<VolumeType> {
        self.policy.require(Action::TypeCreate, context, &Target::own(context))?;
        if db::volume_type::by_name(&mut self.db.read(), &wanted.name).await?.is_some() {
            return Err(Error::Conflict(format!("Volume Type {} already exists.", wanted.name)));
        }
        let id = TypeId::new();
        let mut tx = self.db.begin().await?;
        db::volume_type::insert(&mut tx, id, &wanted.name, wanted.description.as_deref(), wanted.is_public)
            .await?;
        for (key, value) in &wanted.extra_specs {
            db::volume_type::put_spec(&mut tx, id, key, Some(value)).await?;
        }
        self.commit(tx).await?;
        self.type_by_id(id).await
    }

    /// `PUT /types/{id}`.
    ///
    /// # Errors
    /// Not there, forbidden, or another type has the name.
    pub async fn type_update(&self, context: &Context, id: TypeId, wanted: UpdateType) -> Result<VolumeType> {
        self.policy.require(Action::TypeUpdate, context, &Target::own(context))?;
        let kind = self.type_by_id(id).await?;
        if let Some(name) = &wanted.name
            && let Some(other) = db::volume_type::by_name(&mut self.db.read(), name).await?
            && other.id != id
        {
            return Err(Error::Conflict(format!("Volume Type {name} already exists.")));
        }
        let mut tx = self.db.begin().await?;
        let (name, description) = (wanted.name.as_deref(), wanted.description.as_deref());
        db::volume_type::update(&mut tx, id, name, description, wanted.is_public).await?;
        if let Some(name) = name.filter(|name| *name != kind.name) {
            db::quota::rename_type(&mut tx, &kind.name, name).await?;
        }
        self.commit(tx).await?;
        self.type_by_id(id).await
    }

    /// `DELETE /types/{id}`.
    ///
    /// # Errors
    /// Not there, forbidden, in use, the default one.
    pub async fn type_delete(&self, context: &Context, id: TypeId) -> Result<()> {
        self.policy.require(Action::TypeDelete, context, &Target::own(context))?;
        let kind = self.type_by_id(id).await?;
        if kind.name == self.settings.default_type {
            return Err(default_type(id));
        }
        let mut tx = self.db.begin().await?;
        if db::volume_type::count(&mut tx).await? <= 1 {
            return Err(Error::Invalid(format!(
                "The volume type {id} is the only currently defined volume type and cannot be deleted."
            )));
        }
        if db::default_type::is_default(&mut tx, id).await? {
            return Err(default_type(id));
        }
        if db::volume_type::in_use(&mut tx, id).await? > 0 {
            return Err(Error::Invalid("Target volume type is still in use.".into()));
        }
        db::volume_type::delete(&mut tx, id).await?;
        db::quota::forget_type(&mut tx, &kind.name).await?;
        Ok(self.commit(tx).await?)
    }

    /// `GET /types/{id}/extra_specs`.
    ///
    /// # Errors
    /// Not there, or forbidden.
    pub async fn type_specs(&self, context: &Context, id: TypeId) -> Result<BTreeMap<String, String>> {
        self.policy.require(Action::TypeExtraSpecList, context, &Target::own(context))?;
        let mut kind = self.type_by_name_or_id(context, &id.to_string()).await?;
        self.hide_specs(context, &mut kind);
        Ok(kind.extra_specs)
    }

    /// `GET /types/{id}/extra_specs/{key}`.
    ///
    /// # Errors
    /// The type or the key is not there, or forbidden.
    pub async fn type_spec(&self, context: &Context, id: TypeId, key: &str) -> Result<String> {
        self.policy.require(Action::TypeExtraSpecShow, context, &Target::own(context))?;
        let mut kind = self.type_by_name_or_id(context, &id.to_string()).await?;
        self.hide_specs(context, &mut kind);
        kind.extra_specs.remove(key).ok_or_else(|| no_spec(id, key))
    }

    /// `POST /types/{id}/extra_specs` and `PUT .../{key}`: these specs are set, others stay.
    ///
    /// # Errors
    /// Not there, forbidden, in use, or specs that contradict each other.
    pub async fn type_specs_set(
        &self,
        context: &Context,
        id: TypeId,
        specs: &BTreeMap<String, Option<String>>,
        action: Action,
    ) -> Result<()> {
        self.policy.require(action, context, &Target::own(context))?;
        let mut kind = self.type_by_id(id).await?;
        let mut tx = self.db.begin().await?;
        check_unused(&mut tx, id).await?;
        for (key, value) in specs {
            db::volume_type::put_spec(&mut tx, id, key, value.as_deref()).await?;
            kind.extra_specs.insert(key.clone(), value.clone().unwrap_or_default());
        }
        if kind.multiattach() && kind.says_yes("cacheable") {
            return Err(Error::Invalid("cacheable cannot be set with multiattach.".into()));
        }
        Ok(self.commit(tx).await?)
    }

    /// `DELETE /types/{id}/extra_specs/{key}`.
    ///
    /// # Errors
    /// The type or the key is not there, forbidden, in use.
    pub async fn type_spec_unset(&self, context: &Context, id: TypeId, key: &str) -> Result<()> {
        self.policy.require(Action::TypeExtraSpecDelete, context, &Target::own(context))?;
        self.type_by_id(id).await?;
        let mut tx = self.db.begin().await?;
        check_unused(&mut tx, id).await?;
        if !db::volume_type::drop_spec(&mut tx, id, key).await? {
            return Err(no_spec(id, key));
        }
        Ok(self.commit(tx).await?)
    }

    /// `GET /types/{id}/os-volume-type-access`.
    ///
    /// # Errors
    /// Not there, public, or forbidden.
    pub async fn type_access_list(&self, context: &Context, id: TypeId) -> Result<Vec<String>> {
        self.policy.require(Action::TypeAccessList, context, &Target::own(context))?;
        if self.type_by_id(id).await?.is_public {
            return Err(Error::Missing("Access list not available for public volume types.".into()));
        }
        Ok(db::volume_type::access(&mut self.db.read(), id).await?)
    }

    /// `addProjectAccess`.
    ///
    /// # Errors
    /// Not there, public, given already, or forbidden.
    pub async fn type_access_add(&self, context: &Context, id: TypeId, project: &str) -> Result<()> {
        self.policy.require(Action::TypeAccessAdd, context, &Target::own(context))?;
        check_private(&self.type_by_id(id).await?)?;
        let mut tx = self.db.begin().await?;
        if !db::volume_type::grant(&mut tx, id, project).await? {
            return Err(Error::Conflict(format!(
                "Volume type access for {id} / {project} combination already exists."
            )));
        }
        Ok(self.commit(tx).await?)
    }

    /// `removeProjectAccess`.
    ///
    /// # Errors
    /// Not there, public, never given, or forbidden.
    pub async fn type_access_remove(&self, context: &Context, id: TypeId, project: &str) -> Result<()> {
        self.policy.require(Action::TypeAccessRemove, context, &Target::own(context))?;
        check_private(&self.type_by_id(id).await?)?;
        let mut tx = self.db.begin().await?;
        if !db::volume_type::revoke(&mut tx, id, project).await? {
            return Err(Error::Missing(format!(
                "Volume type access not found for {id} / {project} combination."
            )));
        }
        Ok(self.commit(tx).await?)
    }
}

async fn check_unused(tx: &mut db::Tx, id: TypeId) -> Result<()> {
    if db::volume_type::in_use(tx, id).await? > 0 {
        return Err(Error::Invalid("Volume Type is currently in use.".into()));
    }
    Ok(())
}

fn check_private(kind: &VolumeType) -> Result<()> {
    if kind.is_public {
        return Err(Error::InvalidVolumeType(
            "Type access modification is not applicable to public volume type.".into(),
        ));
    }
    Ok(())
}

fn no_spec(id: TypeId, key: &str) -> Error {
    Error::Missing(format!("Volume Type {id} has no extra specs with key {key}."))
}

fn default_type(id: TypeId) -> Error {
    Error::Invalid(format!("The volume type {id} is a default volume type and cannot be deleted."))
}
