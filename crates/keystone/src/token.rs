//! What Keystone says about a token.

use std::sync::Arc;

use model::Time;
use model::catalogue::{Catalogue, Endpoint};
use serde::Deserialize;

use crate::rules::AccessRule;

/// Whose a token is and what it is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub user: User,
    /// The project it is scoped to, if any.
    pub project: Option<Project>,
    /// The domain it is scoped to, if any.
    pub domain_id: Option<String>,
    /// Whether it is scoped to the whole system.
    pub system: bool,
    /// Names, those that other roles imply included.
    pub roles: Vec<String>,
    /// False only where Keystone has an admin project and this token is of another.
    pub is_admin_project: bool,
    pub expires_at: Time,
    /// When it was given out, if Keystone says so.
    pub issued_at: Option<Time>,
    pub catalogue: Arc<Catalogue>,
    /// The only requests it may be used for, if it is of an application credential with such rules.
    pub(crate) access_rules: Option<Vec<AccessRule>>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: String,
    pub name: String,
    pub domain_id: Option<String>,
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    pub id: String,
    pub name: String,
    pub domain_id: Option<String>,
}

#[derive(Deserialize)]
struct Document {
    token: Body,
}

#[derive(Deserialize)]
struct Body {
    user: Thing,
    project: Option<Thing>,
    domain: Option<Thing>,
    system: Option<System>,
    #[serde(default)]
    roles: Vec<Role>,
    is_admin_project: Option<bool>,
    expires_at: Time,
    issued_at: Option<Time>,
    #[serde(default)]
    catalog: Vec<Service>,
    application_credential: Option<ApplicationCredential>,
}

#[derive(Deserialize)]
struct Thing {
    id: String,
    #[serde(default)]
    name: String,
    domain: Option<DomainRef>,
}

#[derive(Deserialize)]
struct DomainRef {
    id: Option<String>,
}

#[derive(Deserialize)]
struct System {
    #[serde(default)]
    all: bool,
}

#[derive(Deserialize)]
struct Role {
    name: String,
}

#[derive(Deserialize)]
struct Service {
    #[serde(rename = "type")]
    service_type: String,
    name: Option<String>,
    #[serde(default)]
    endpoints: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    interface: String,
    region: Option<String>,
    region_id: Option<String>,
    #[serde(default)]
    url: String,
}

#[derive(Deserialize)]
struct ApplicationCredential {
    access_rules: Option<Vec<AccessRule>>,
}

impl Thing {
    fn split(self) -> (String, String, Option<String>) {
        (self.id, self.name, self.domain.and_then(|domain| domain.id))
    }
}

impl Token {
    /// Reads Keystone's answer. Of the catalogue only services whose type `keep` wants are kept.
    pub(crate) fn read(
        document: serde_json::Value,
        keep: impl Fn(&str) -> bool,
    ) -> Result<Self, serde_json::Error> {
        let Document { token } = serde_json::from_value(document)?;
        let (id, name, domain_id) = token.user.split();
        let user = User { id, name, domain_id };
        let project = token.project.map(|project| {
            let (id, name, domain_id) = project.split();
            Project { id, name, domain_id }
        });
        let kept = token.catalog.into_iter().filter(|service| keep(&service.service_type));
        Ok(Self {
            user,
            project,
            domain_id: token.domain.map(|domain| domain.id),
            system: token.system.is_some_and(|system| system.all),
            roles: token.roles.into_iter().map(|role| role.name).collect(),
            is_admin_project: token.is_admin_project.unwrap_or(true),
            expires_at: token.expires_at,
            issued_at: token.issued_at,
            catalogue: Arc::new(Catalogue::new(kept.flat_map(Service::endpoints).collect())),
            access_rules: token.application_credential.and_then(|credential| credential.access_rules),
        })
    }

    /// Whether it is no longer good.
    pub fn is_expired(&self, now: Time) -> bool {
        self.expires_at < now
    }
}

impl Service {
    fn endpoints(self) -> Vec<Endpoint> {
        let Self { service_type, name, endpoints } = self;
        let read = |address: Address| {
            // An interface that nobody knows cannot be asked for either.
            let interface = address.interface.parse().ok()?;
            let url = address.url.trim_end_matches('/').to_owned();
            let region = address.region.or(address.region_id);
            let (service_type, service_name) = (service_type.clone(), name.clone());
            (!url.is_empty()).then_some(Endpoint { service_type, service_name, region, interface, url })
        };
        endpoints.into_iter().filter_map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::catalogue::Wanted;
    use serde_json::json;

    #[test]
    fn a_project_token_with_its_catalogue_is_read() {
        let address = |interface: &str, url: &str| json!({"id": "e", "interface": interface, "region": "RegionOne", "region_id": "RegionOne", "url": url});
        let token = Token::read(
            json!({"token": {
                "methods": ["password"], "audit_ids": ["x"],
                "user": {"id": "u", "name": "me", "domain": {"id": "default", "name": "Default"}, "password_expires_at": null},
                "project": {"id": "p", "name": "mine", "domain": {"id": "default", "name": "Default"}},
                "roles": [{"id": "1", "name": "member"}, {"id": "2", "name": "reader"}],
                "expires_at": "2026-11-22T01:00:00.000000Z", "issued_at": "2026-11-22T00:00:00.000000Z",
                "catalog": [
                    {"type": "image", "name": "glance", "id": "s", "endpoints": [
                        address("public", "http://glance/"), address("odd", "http://x"), address("internal", ""),
                    ]},
                    {"type": "dns", "name": "designate", "id": "t", "endpoints": [address("public", "http://d")]},
                ],
            }}),
            |kind| kind == "image",
        )
        .unwrap();
        assert_eq!(token.roles, ["member", "reader"]);
        assert_eq!(token.project.as_ref().map(|project| project.id.as_str()), Some("p"));
        assert_eq!(token.user.domain_id.as_deref(), Some("default"));
        assert!(token.is_admin_project && !token.system && token.access_rules.is_none());
        let wanted = Wanted::parse("image:glance:publicURL", Some("RegionOne".into())).unwrap();
        assert_eq!(token.catalogue.find(&wanted), Some("http://glance"));
        assert_eq!(token.catalogue.endpoints().len(), 1);
        assert!(token.is_expired("2026-11-22T01:00:01Z".parse().unwrap()));
        assert!(!token.is_expired("2026-11-22T00:59:59Z".parse().unwrap()));
    }

    #[test]
    fn scopes_are_told_apart_and_what_is_no_token_is_refused() {
        let read = |more: serde_json::Value| {
            let mut body = json!({"user": {"id": "u"}, "expires_at": "2026-11-22T01:00:00.000000Z"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Token::read(json!({"token": body}), |_| true)
        };
        assert!(read(json!({"system": {"all": true}})).unwrap().system);
        assert!(!read(json!({"system": {}})).unwrap().system);
        assert_eq!(
            read(json!({"domain": {"id": "d", "name": "D"}})).unwrap().domain_id.as_deref(),
            Some("d")
        );
        let admin = |yes: bool| read(json!({"is_admin_project": yes})).unwrap().is_admin_project;
        assert!(admin(true) && !admin(false));
        assert!(read(json!({"expires_at": "soon"})).is_err());
        assert!(read(json!({"user": null})).is_err());
        assert!(read(json!({"roles": "admin"})).is_err());
    }
}
