//! `cinderblock type`.

use clap::Subcommand;

use super::fields::{key_value, map};
use super::output::{or_dash, pairs};
use super::{Session, for_each};
use crate::volume_type::{NewVolumeType, VolumeType, VolumeTypeChange};
use crate::{Error, Query, Result};

/// The extra spec that lets volumes of a type be attached more than once.
const MULTIATTACH: (&str, &str) = ("multiattach", "<is> True");

/// What can be done with volume types.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List volume types
    #[command(visible_alias = "ls")]
    List,
    /// Show a volume type
    Show {
        /// Name or id
        volume_type: String,
    },
    /// Create a volume type
    Create {
        /// Name
        name: String,
        /// Description
        #[arg(long)]
        description: Option<String>,
        /// Let its volumes be attached to several hosts at once
        #[arg(long)]
        multiattach: bool,
        /// Extra spec, such as volume_backend_name=local (repeatable)
        #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
        property: Vec<(String, String)>,
        /// Hide it from projects that were not given access
        #[arg(long)]
        private: bool,
    },
    /// Change a volume type
    Set {
        /// Name or id
        volume_type: String,
        /// New name
        #[arg(long)]
        name: Option<String>,
        /// New description
        #[arg(long)]
        description: Option<String>,
        /// Extra spec to add or overwrite (repeatable)
        #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
        property: Vec<(String, String)>,
    },
    /// Remove extra specs of a volume type
    Unset {
        /// Name or id
        volume_type: String,
        /// Key of the extra spec (repeatable)
        #[arg(long, value_name = "KEY", required = true)]
        property: Vec<String>,
    },
    /// Delete volume types
    #[command(visible_alias = "rm")]
    Delete {
        /// Names or ids
        #[arg(required = true)]
        volume_types: Vec<String>,
    },
}

impl Command {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let client = &session.client;
        match self {
            Self::List => session.show_types(&client.volume_types(&Query::default()).await?),
            Self::Show { volume_type } => session.show_type(&client.find_volume_type(&volume_type).await?),
            Self::Create { name, description, multiattach, property, private } => {
                let mut extra_specs = map(&property);
                if multiattach {
                    extra_specs.insert(MULTIATTACH.0.to_owned(), MULTIATTACH.1.to_owned());
                }
                let wanted = NewVolumeType { name, description, is_public: !private, extra_specs };
                session.show_type(&client.create_volume_type(&wanted).await?)
            }
            Self::Set { volume_type, name, description, property } => {
                let change = VolumeTypeChange { name, description, is_public: None };
                if change.is_empty() && property.is_empty() {
                    return Err(Error::Usage(
                        "say what to change: --name, --description, --property".to_owned(),
                    ));
                }
                let id = client.find_volume_type(&volume_type).await?.id;
                if !change.is_empty() {
                    client.update_volume_type(&id, &change).await?;
                }
                if !property.is_empty() {
                    client.set_extra_specs(&id, &map(&property)).await?;
                }
                session.show_type(&client.volume_type(&id).await?)
            }
            Self::Unset { volume_type, property } => {
                let id = client.find_volume_type(&volume_type).await?.id;
                for_each(&property, async |key| client.unset_extra_spec(&id, key).await).await
            }
            Self::Delete { volume_types } => {
                for_each(&volume_types, async |name| {
                    let id = client.find_volume_type(name).await?.id;
                    client.delete_volume_type(&id).await?;
                    session.tell_deleted("volume type", name, true)
                })
                .await
            }
        }
    }
}

impl Session {
    fn show_types(&self, types: &[VolumeType]) -> Result<()> {
        self.output.list(&["id", "name", "public", "extra specs"], types, |volume_type| {
            vec![volume_type.id.clone(), volume_type.name.clone(), is_public(volume_type), specs(volume_type)]
        })
    }

    fn show_type(&self, volume_type: &VolumeType) -> Result<()> {
        let fields = [
            ("id", volume_type.id.clone()),
            ("name", volume_type.name.clone()),
            ("description", or_dash(volume_type.description.as_deref())),
            ("public", is_public(volume_type)),
            ("extra specs", specs(volume_type)),
        ];
        self.output.one(volume_type, &fields)
    }
}

fn is_public(volume_type: &VolumeType) -> String {
    if volume_type.is_public { "yes" } else { "no" }.to_owned()
}

fn specs(volume_type: &VolumeType) -> String {
    pairs(volume_type.extra_specs.iter().map(|(key, value)| (key, value.as_deref().unwrap_or_default())))
}
