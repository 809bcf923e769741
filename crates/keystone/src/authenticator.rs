//! The judgement of requests by the tokens that they carry; its meaning is keystonemiddleware's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use model::Secret;
use model::config::Config;

use crate::options::{Options, OptionsError};
use crate::session::Session;
use crate::token::Token;
use crate::validation::{Bad, Question, Validation};

/// The section of all its options.
const SECTION: &str = "keystone_authtoken";

/// `[keystone_authtoken]` beyond the login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticatorOptions {
    /// Who asks Keystone, and how.
    pub login: Options,
    /// `www_authenticate_uri`: where clients are told to log in; `auth_url` if there is none.
    pub www_authenticate_uri: String,
    /// `token_cache_time`; zero remembers nothing.
    pub cache_time: Duration,
    /// `include_service_catalog`.
    pub catalogue: bool,
    /// `service_token_roles`: any of them makes a token a service's.
    pub service_roles: Vec<String>,
    /// `service_token_roles_required`: whether a service token without such a role spoils the request.
    pub service_roles_required: bool,
    /// `service_type`: what tokens with access rules call us.
    pub service_type: Option<String>,
    /// What the operator should know, once.
    pub warnings: Vec<&'static str>,
}

impl AuthenticatorOptions {
    /// Reads `[keystone_authtoken]`.
    ///
    /// # Errors
    /// The first option that is missing or cannot be used, with its place.
    pub fn read(config: &Config) -> Result<Self, OptionsError> {
        let section = config.section(SECTION);
        let missing = || {
            section.error(
                "auth_url",
                "auth_strategy = keystone needs it, with username, password and project_name",
            )
        };
        let login = Options::read(config, SECTION)?.ok_or_else(missing)?;
        if section.get::<bool>("delay_auth_decision")?.unwrap_or(false) {
            return Err(section
                .error("delay_auth_decision", "only false is available: nobody behind it would decide")
                .into());
        }
        section.choice("enforce_token_bind", &["disabled", "permissive", "strict"])?;
        let own = |option: &str| section.get::<String>(option);
        let auth_url =
            config.section(own("auth_section")?.as_deref().unwrap_or(SECTION)).get::<String>("auth_url")?;
        let uri = own("www_authenticate_uri")?.filter(|uri| !uri.is_empty());
        if uri.as_ref().is_some_and(|uri| !uri.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"')) {
            return Err(section.error("www_authenticate_uri", "it is no address").into());
        }
        let seconds: i64 = section.get("token_cache_time")?.unwrap_or(300);
        let required = section.get("service_token_roles_required")?.unwrap_or(true);
        let mut warnings = Vec::new();
        if uri.is_none() {
            warnings.push("[keystone_authtoken] www_authenticate_uri is not set: clients are sent to auth_url, which they may not reach");
        }
        if !required {
            warnings.push("[keystone_authtoken] service_token_roles_required is false: any valid token passes as a service token");
        }
        if !section.get::<Vec<String>>("memcached_servers")?.unwrap_or_default().is_empty() {
            warnings.push(
                "[keystone_authtoken] memcached_servers is not used: each process remembers tokens by itself",
            );
        }
        if login.http.insecure {
            warnings.push(
                "[keystone_authtoken] insecure is true: anybody between here and Keystone can pose as it",
            );
        }
        Ok(Self {
            www_authenticate_uri: uri.or(auth_url).unwrap_or_else(|| login.auth_url.to_string()),
            login,
            cache_time: Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
            catalogue: section.get("include_service_catalog")?.unwrap_or(true),
            service_roles: section.get("service_token_roles")?.unwrap_or_else(|| vec!["service".into()]),
            service_roles_required: required,
            service_type: own("service_type")?.filter(|kind| !kind.is_empty()),
            warnings,
        })
    }
}

/// A request, as far as it is judged.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// `X-Auth-Token`.
    pub token: Option<&'a str>,
    /// `X-Service-Token`.
    pub service_token: Option<&'a str>,
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The token itself, for calls in the caller's name.
    pub secret: Secret<String>,
    pub token: Arc<Token>,
    /// The service that asks in the caller's name.
    pub service: Option<Arc<Token>>,
}

/// Why nobody is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// No token, or one that is not good: 401.
    Unauthorized,
    /// Keystone cannot be asked: 503.
    Unavailable,
}

/// Judges requests. Cheap to share; ask it as often as there are requests.
pub struct Authenticator {
    options: AuthenticatorOptions,
    session: Session,
    validation: Arc<Validation>,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Authenticator {
    /// An authenticator; nothing is sent before the first request is judged.
    ///
    /// # Errors
    /// When TLS cannot be set up as the options say.
    pub fn new(options: AuthenticatorOptions) -> Result<Self, OptionsError> {
        let session = Session::new(options.login.clone())?;
        let question = Question {
            session: session.clone(),
            catalogue: options.catalogue,
            service_type: options.service_type.clone(),
        };
        let validation = Arc::new(Validation::new(question, options.cache_time));
        Ok(Self { options, session, validation })
    }

    /// The service's own login.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The options it was made with.
    pub fn options(&self) -> &AuthenticatorOptions {
        &self.options
    }

    /// What `WWW-Authenticate` says beside a 401.
    pub fn challenge(&self) -> String {
        format!("Keystone uri=\"{}\"", self.options.www_authenticate_uri)
    }

    /// Who asks.
    ///
    /// # Errors
    /// Why nobody is known; see [`Rejection`].
    pub async fn judge(&self, asked: &Asked<'_>) -> Result<Identity, Rejection> {
        let service = match asked.service_token.filter(|token| !token.is_empty()) {
            Some(token) => Some(self.known(token, false).await?),
            None => None,
        };
        let trusted = service.as_ref().is_some_and(|service| self.is_service(service));
        if service.is_some() && !trusted && self.options.service_roles_required {
            tracing::info!("the service token has none of the roles in service_token_roles");
            return Err(Rejection::Unauthorized);
        }
        let secret = asked.token.map(str::trim).filter(|token| !token.is_empty());
        let Some(secret) = secret else { return Err(Rejection::Unauthorized) };
        // What a service began in a user's name it may finish when the user's token has run out meanwhile.
        let token = self.known(secret, trusted).await?;
        if !self.is_allowed(&token, asked, service.is_some()) {
            return Err(Rejection::Unauthorized);
        }
        Ok(Identity { secret: Secret::new(secret.to_owned()), token, service })
    }

    fn is_service(&self, token: &Token) -> bool {
        token.roles.iter().any(|role| self.options.service_roles.contains(role))
    }

    async fn known(&self, secret: &str, expired_will_do: bool) -> Result<Arc<Token>, Rejection> {
        let secret = secret.trim();
        match self.validation.of(secret, expired_will_do).await {
            Ok(token) if expired_will_do || !token.is_expired(Utc::now()) => Ok(token),
            Ok(_) | Err(Bad::Token) => Err(Rejection::Unauthorized),
            Err(Bad::Keystone(error)) => {
                tracing::error!(%error, "cannot validate a token");
                Err(Rejection::Unavailable)
            }
        }
    }

    /// Whether the token may be used for this request: always, but for those of application credentials with access rules.
    fn is_allowed(&self, token: &Token, asked: &Asked<'_>, by_service: bool) -> bool {
        let Some(rules) = &token.access_rules else { return true };
        let Some(own) = self.options.service_type.as_deref() else {
            tracing::warn!(
                "a token with access rules is refused: [keystone_authtoken] service_type is not set"
            );
            return false;
        };
        if !token.catalogue.has(own) {
            tracing::warn!(
                service_type = own,
                "a token with access rules is refused: its catalogue has no such service"
            );
            return false;
        }
        by_service || rules.iter().any(|rule| rule.allows(own, asked.method, asked.path))
    }
}
