//! The default volume types that operators choose for projects.

use model::{TypeId, VolumeType};

use crate::cloud::Cloud;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::policy::{Action, Target};

impl Cloud {
    /// The type of a project's volumes for which none is named: the project's own default, else the configured one.
    ///
    /// # Errors
    /// The configured one is not there: an operator's mistake.
    pub async fn default_type_of(&self, project: &str) -> Result<VolumeType> {
        let read = &mut self.db.read();
        if let Some(id) = db::default_type::of_project(read, project).await?
            && let Some(kind) = db::volume_type::get(read, id).await?
        {
            return Ok(kind);
        }
        self.default_type().await
    }

    /// `PUT /default-types/{project}`.
    ///
    /// # Errors
    /// Forbidden, or no such type.
    pub async fn default_type_set(&self, context: &Context, project: &str, wanted: &str) -> Result<TypeId> {
        self.policy.require(Action::DefaultTypeSet, context, &Target::project(project))?;
        let kind = match self.type_by_name_or_id(context, wanted).await {
            Err(error @ (Error::NotFound(..) | Error::Missing(_))) => {
                return Err(Error::Invalid(error.to_string()));
            }
            found => found?,
        };
        let mut tx = self.db.begin().await?;
        db::default_type::set(&mut tx, project, kind.id).await?;
        self.commit(tx).await?;
        Ok(kind.id)
    }

    /// `GET /default-types/{project}`.
    ///
    /// # Errors
    /// Forbidden, or the project has none.
    pub async fn default_type_show(&self, context: &Context, project: &str) -> Result<TypeId> {
        self.policy.require(Action::DefaultTypeShow, context, &Target::project(project))?;
        let found = db::default_type::of_project(&mut self.db.read(), project).await?;
        found.ok_or_else(|| Error::Missing(format!("Default type for project {project} not found.")))
    }

    /// `GET /default-types`.
    ///
    /// # Errors
    /// Forbidden.
    pub async fn default_type_list(&self, context: &Context) -> Result<Vec<(String, TypeId)>> {
        self.policy.require(Action::DefaultTypeList, context, &Target::own(context))?;
        Ok(db::default_type::list(&mut self.db.read()).await?)
    }

    /// `DELETE /default-types/{project}`; nothing when it has none.
    ///
    /// # Errors
    /// Forbidden.
    pub async fn default_type_unset(&self, context: &Context, project: &str) -> Result<()> {
        self.policy.require(Action::DefaultTypeUnset, context, &Target::project(project))?;
        let mut tx = self.db.begin().await?;
        db::default_type::unset(&mut tx, project).await?;
        Ok(self.commit(tx).await?)
    }
}
