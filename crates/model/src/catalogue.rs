//! The service catalogue: where the services of an OpenStack cloud are.
//!
//! A list of endpoints as the identity service hands it out with a token, and the look-up in it. Reading it from JSON and
//! calling what it names are other crates' business.

use std::fmt;
use std::str::FromStr;

/// Which of a service's addresses is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interface {
    Public,
    Internal,
    Admin,
}

impl FromStr for Interface {
    type Err = CatalogInfoError;

    /// Takes `internal` and the older `internalURL`, in any case of letters.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_lowercase().trim_end_matches("url") {
            "public" => Ok(Self::Public),
            "internal" => Ok(Self::Internal),
            "admin" => Ok(Self::Admin),
            _ => Err(CatalogInfoError::Interface(text.to_owned())),
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Admin => "admin",
        })
    }
}

/// One address of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `image`, `compute`, `key-manager`.
    pub service_type: String,
    /// `glance`; some have none.
    pub service_name: Option<String>,
    pub region: Option<String>,
    pub interface: Interface,
    /// Without a `/` at its end.
    pub url: String,
}

/// What a service looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub service_type: String,
    /// Preferred among services of the type; another name is taken too.
    pub service_name: Option<String>,
    pub interface: Interface,
    /// Any, if not given.
    pub region: Option<String>,
}

/// Why an option such as `glance_catalog_info` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogInfoError {
    #[error("{0:?} is not of the form SERVICE_TYPE:SERVICE_NAME:ENDPOINT_TYPE")]
    Form(String),
    #[error("{0:?} is none of public, internal, admin")]
    Interface(String),
}

impl Wanted {
    /// Reads `image:glance:publicURL`.
    ///
    /// # Errors
    /// When it does not have three parts or the last is no interface.
    pub fn parse(catalog_info: &str, region: Option<String>) -> Result<Self, CatalogInfoError> {
        let parts: Vec<&str> = catalog_info.split(':').map(str::trim).collect();
        let [service_type, service_name, interface] = parts.as_slice() else {
            return Err(CatalogInfoError::Form(catalog_info.to_owned()));
        };
        if service_type.is_empty() {
            return Err(CatalogInfoError::Form(catalog_info.to_owned()));
        }
        Ok(Self {
            service_type: (*service_type).to_owned(),
            service_name: (!service_name.is_empty()).then(|| (*service_name).to_owned()),
            interface: interface.parse()?,
            region,
        })
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} endpoint of a service of type {}", self.interface, self.service_type)?;
        self.region.as_ref().map_or(Ok(()), |region| write!(f, " in region {region}"))
    }
}

/// All endpoints that a token's holder may know of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue(Vec<Endpoint>);

impl Catalogue {
    /// The catalogue of these endpoints, in the order in which look-ups prefer them.
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        Self(endpoints)
    }

    /// Every endpoint.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.0
    }

    /// Whether a service of this type is in it.
    pub fn has(&self, service_type: &str) -> bool {
        self.0.iter().any(|endpoint| endpoint.service_type == service_type)
    }

    /// The address that is wanted: of the service of that name if there is one, else of any of the type.
    pub fn find(&self, wanted: &Wanted) -> Option<&str> {
        let fits = |endpoint: &&Endpoint| {
            endpoint.service_type == wanted.service_type
                && endpoint.interface == wanted.interface
                && (wanted.region.is_none() || endpoint.region == wanted.region)
        };
        let named = |endpoint: &&Endpoint| {
            wanted.service_name.is_some() && endpoint.service_name == wanted.service_name
        };
        let fitting = || self.0.iter().filter(fits);
        fitting().find(named).or_else(|| fitting().next()).map(|endpoint| endpoint.url.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(service_type: &str, name: &str, region: &str, interface: Interface) -> Endpoint {
        Endpoint {
            service_type: service_type.into(),
            service_name: Some(name.into()),
            region: Some(region.into()),
            interface,
            url: format!("http://{name}.{region}/{interface}"),
        }
    }

    #[test]
    fn catalog_info_has_three_parts() {
        let wanted = Wanted::parse("image:glance:publicURL", None).unwrap();
        assert_eq!((wanted.service_type.as_str(), wanted.interface), ("image", Interface::Public));
        assert_eq!(Wanted::parse("identity::internal", None).unwrap().service_name, None);
        for bad in
            ["", "image", "image:glance", "image:glance:public:x", "image:glance:nearby", ":glance:public"]
        {
            assert!(Wanted::parse(bad, None).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn look_ups_keep_to_type_interface_and_region_and_prefer_the_name() {
        let catalogue = Catalogue::new(vec![
            endpoint("image", "other", "One", Interface::Public),
            endpoint("image", "glance", "One", Interface::Public),
            endpoint("image", "glance", "Two", Interface::Internal),
        ]);
        let find = |info: &str, region: Option<&str>| {
            let wanted = Wanted::parse(info, region.map(str::to_owned)).unwrap();
            catalogue.find(&wanted).map(str::to_owned)
        };
        assert_eq!(find("image:glance:publicURL", None).as_deref(), Some("http://glance.One/public"));
        assert_eq!(find("image:elsewhere:publicURL", None).as_deref(), Some("http://other.One/public"));
        assert_eq!(
            find("image:glance:internalURL", Some("Two")).as_deref(),
            Some("http://glance.Two/internal")
        );
        assert_eq!(find("image:glance:internalURL", Some("One")), None);
        assert_eq!(find("compute:nova:publicURL", None), None);
        assert!(catalogue.has("image") && !catalogue.has("compute"));
    }
}
