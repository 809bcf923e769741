//! Sections such as `[keystone_authtoken]`: who a service is, where Keystone is, how it is spoken to.

use std::path::PathBuf;
use std::time::Duration;

use model::Secret;
use model::catalogue::Interface;
use model::config::{Config, ConfigError, Section};
use reqwest::Url;
use serde_json::{Value, json};

use crate::http::HttpOptions;

/// How long a request may take when no option says so.
const TIMEOUT: Duration = Duration::from_secs(10);
const RETRIES: u32 = 3;
/// The domain of names that come without one: Keystone's first.
const DEFAULT_DOMAIN: &str = "default";

/// Options that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{option} {}: {problem}", path.display())]
    File { option: &'static str, path: PathBuf, problem: String },
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

impl OptionsError {
    pub(crate) fn tls(error: reqwest::Error) -> Self {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Self::Tls(cause.to_string())
    }
}

/// A thing by its id, or by its name in a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    Id(String),
    Name { name: String, domain: Value },
}

/// Who a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    user: Named,
    password: Secret<String>,
    scope: Scope,
}

/// What a service's token is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope(Value);

/// One section's options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `auth_url`, with `/v3` at its end.
    pub auth_url: Url,
    pub login: Login,
    /// `interface`: which of Keystone's endpoints is asked about tokens.
    pub interface: Interface,
    /// `region_name`.
    pub region: Option<String>,
    pub http: HttpOptions,
}

impl Options {
    /// Reads a section; `None` when it says nothing about a login. `auth_section` may move the login to another section.
    ///
    /// # Errors
    /// The first option that is missing or cannot be used, with its place.
    pub fn read(config: &Config, section: &str) -> Result<Option<Self>, OptionsError> {
        let own = config.section(section);
        let login = text(&own, "auth_section")?.map_or_else(|| own.clone(), |name| config.section(&name));
        let kind = text(&login, "auth_type")?;
        if kind.is_none() && text(&login, "auth_url")?.is_none() {
            return Ok(None);
        }
        if !matches!(kind.as_deref(), None | Some("password" | "v3password")) {
            let kind = kind.unwrap_or_default();
            return Err(login
                .error("auth_type", format!("{kind:?} is not available; available: password"))
                .into());
        }
        let address: String = login.require("auth_url")?;
        let auth_url =
            version_3(&address).ok_or_else(|| login.error("auth_url", "it is no http or https address"))?;
        let interface = text(&own, "interface")?.unwrap_or_else(|| "internal".into());
        let interface = interface.parse().map_err(|error| own.error("interface", format!("{error}")))?;
        Ok(Some(Self {
            auth_url,
            login: Login::read(&login)?,
            interface,
            region: text(&own, "region_name")?,
            http: HttpOptions::read(&own)?,
        }))
    }
}

/// An option's text; `None` also when it is set to nothing.
fn text(section: &Section<'_>, option: &str) -> Result<Option<String>, ConfigError> {
    Ok(section.get::<String>(option)?.filter(|text| !text.is_empty()))
}

/// The address of Keystone's version 3 from what operators write: with any version at its end, or none.
pub(crate) fn version_3(address: &str) -> Option<Url> {
    let mut url = Url::parse(address.trim()).ok()?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return None;
    }
    let path = url.path().trim_end_matches('/');
    let path = ["/v3", "/v2.0"].iter().find_map(|version| path.strip_suffix(version)).unwrap_or(path);
    let path = format!("{path}/v3");
    url.set_path(&path);
    url.set_query(None);
    url.set_fragment(None);
    Some(url)
}

impl HttpOptions {
    pub(crate) fn read(section: &Section<'_>) -> Result<Self, ConfigError> {
        let path = |option: &str| Ok::<_, ConfigError>(text(section, option)?.map(PathBuf::from));
        let seconds = |option: &str| section.float_in(option, 0.001..=86_400.0);
        let timeout = match seconds("http_connect_timeout")? {
            Some(seconds) => Some(seconds),
            None => seconds("timeout")?,
        };
        let retries = section.int_in("http_request_max_retries", 0..=100)?;
        Ok(Self {
            cafile: path("cafile")?,
            insecure: section.get("insecure")?.unwrap_or(false),
            certfile: path("certfile")?,
            keyfile: path("keyfile")?,
            timeout: timeout.map_or(TIMEOUT, Duration::from_secs_f64),
            retries: retries.and_then(|retries| u32::try_from(retries).ok()).unwrap_or(RETRIES),
        })
    }
}

impl Login {
    fn read(section: &Section<'_>) -> Result<Self, ConfigError> {
        let domain = domain_of(section, "user")?;
        let user = named(section, &["user_id"], &["username"], domain)?.ok_or_else(|| {
            ConfigError::Missing { section: section.name().to_owned(), option: "username".into() }
        })?;
        let password = section.require("password")?;
        Ok(Self { user, password, scope: Scope::read(section)? })
    }

    /// The body of the request for a token.
    pub(crate) fn body(&self) -> Value {
        let mut user = self.user.json();
        if let Value::Object(user) = &mut user {
            user.insert("password".into(), Value::String(self.password.expose().clone()));
        }
        let identity = json!({"methods": ["password"], "password": {"user": user}});
        json!({"auth": {"identity": identity, "scope": self.scope.0}})
    }
}

impl Scope {
    fn read(section: &Section<'_>) -> Result<Self, ConfigError> {
        if text(section, "system_scope")?.is_some() {
            return Ok(Self(json!({"system": {"all": true}})));
        }
        let domain = domain_of(section, "project")?;
        if let Some(project) =
            named(section, &["project_id", "tenant_id"], &["project_name", "tenant_name"], domain)?
        {
            return Ok(Self(json!({"project": project.json()})));
        }
        if let Some(id) = text(section, "domain_id")? {
            return Ok(Self(json!({"domain": {"id": id}})));
        }
        if let Some(name) = text(section, "domain_name")? {
            return Ok(Self(json!({"domain": {"name": name}})));
        }
        // A token without a scope could not ask about others.
        Err(ConfigError::Missing { section: section.name().to_owned(), option: "project_name".into() })
    }
}

impl Named {
    fn json(&self) -> Value {
        match self {
            Self::Id(id) => json!({"id": id}),
            Self::Name { name, domain } => json!({"name": name, "domain": domain}),
        }
    }
}

/// A thing by the first of the ids, else of the names, that is set.
fn named(
    section: &Section<'_>,
    ids: &[&str],
    names: &[&str],
    domain: Value,
) -> Result<Option<Named>, ConfigError> {
    for option in ids {
        if let Some(id) = text(section, option)? {
            return Ok(Some(Named::Id(id)));
        }
    }
    for option in names {
        if let Some(name) = text(section, option)? {
            return Ok(Some(Named::Name { name, domain }));
        }
    }
    Ok(None)
}

/// The domain of the user's or the project's name.
fn domain_of(section: &Section<'_>, whose: &str) -> Result<Value, ConfigError> {
    for whose in [whose, "default"] {
        if let Some(id) = text(section, &format!("{whose}_domain_id"))? {
            return Ok(json!({"id": id}));
        }
        if let Some(name) = text(section, &format!("{whose}_domain_name"))? {
            return Ok(json!({"name": name}));
        }
    }
    Ok(json!({"id": DEFAULT_DOMAIN}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Result<Option<Options>, OptionsError> {
        let none = std::iter::empty::<(String, String)>();
        let config = Config::parse(&[("cinder.conf", text)], none).unwrap();
        Options::read(&config, "keystone_authtoken")
    }

    const USUAL: &str = "[keystone_authtoken]\nwww_authenticate_uri = http://ks\nauth_url = http://ks:5000\nauth_type = password\n\
         username = cinder\npassword = hunter2\nproject_name = service\nuser_domain_name = Default\nproject_domain_name = Default\n";

    #[test]
    fn the_usual_section_makes_keystones_request() {
        let options = options(USUAL).unwrap().unwrap();
        assert_eq!(options.auth_url.as_str(), "http://ks:5000/v3");
        assert_eq!(options.interface, Interface::Internal);
        assert_eq!((options.http.timeout, options.http.retries), (TIMEOUT, 3));
        let domain = json!({"name": "Default"});
        assert_eq!(
            options.login.body(),
            json!({"auth": {
                "identity": {"methods": ["password"], "password": {
                    "user": {"name": "cinder", "domain": domain, "password": "hunter2"},
                }},
                "scope": {"project": {"name": "service", "domain": domain}},
            }})
        );
        assert!(!format!("{options:?}").contains("hunter2"));
    }

    #[test]
    fn addresses_end_in_version_3_however_they_are_written() {
        for (written, read) in [
            ("http://h/identity", "http://h/identity/v3"),
            ("https://h:5000/", "https://h:5000/v3"),
            ("http://h/identity/v3/", "http://h/identity/v3"),
            ("http://h:35357/v2.0", "http://h:35357/v3"),
        ] {
            assert_eq!(version_3(written).unwrap().as_str(), read);
        }
        for bad in ["", "h:5000", "ftp://h/v3", "keystone"] {
            assert!(version_3(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        assert!(options("").unwrap().is_none());
        let without = |line: &str| {
            let kept: Vec<&str> = USUAL.lines().filter(|kept| !kept.starts_with(line)).collect();
            options(&kept.join("\n"))
        };
        for (line, named) in
            [("username", "username"), ("password", "password"), ("project_name", "project_name")]
        {
            let error = without(line).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("keystone_authtoken"), "{error}");
        }
        assert!(without("auth_type").unwrap().is_some());
        let other =
            options(&USUAL.replace("= password\nusername", "= v3oidcpassword\nusername")).unwrap_err();
        assert!(other.to_string().contains("v3oidcpassword"), "{other}");
    }

    #[test]
    fn a_login_may_stand_in_another_section() {
        let text = format!(
            "[keystone_authtoken]\nauth_section = us\ninterface = public\n{}",
            USUAL.replace("[keystone_authtoken]", "[us]")
        );
        let options = options(&text).unwrap().unwrap();
        assert_eq!(options.interface, Interface::Public);
    }
}
