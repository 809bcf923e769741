//! Who calls: the strategies of `auth_strategy`.

mod htpasswd;
mod keystone;

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::Context;
use control::policy::Policy;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

pub use htpasswd::{Htpasswd, HtpasswdError};

/// The project of callers who name none.
pub const DEFAULT_PROJECT: &str = "00000000000000000000000000000001";

/// How callers say who they are.
#[derive(Debug)]
pub enum Auth {
    /// Everyone is the administrator, of the default project when no `user:project` token says otherwise.
    Open,
    /// Cinder's `noauth`: as [`Open`](Self::Open), but whoever has no token is handed one.
    NoAuth,
    /// `Authorization: Basic`, against a file of bcrypt hashes; everyone in it administers the default project.
    Basic(Htpasswd),
    /// `X-Auth-Token`, judged by OpenStack's identity service.
    Keystone(Box<::keystone::Authenticator>),
}

/// Who calls, or what they are told instead.
#[derive(Debug)]
pub enum Verdict {
    Known(Caller),
    Told(Box<Response>),
}

/// An identity.
#[derive(Debug, Clone)]
pub enum Caller {
    /// An administrator, whoever it is.
    Administrator { user_id: String, project_id: String },
    /// Somebody whom Keystone knows.
    Identified(Box<::keystone::Identity>),
}

impl Caller {
    /// The context of a request of theirs.
    pub fn context(
        self,
        headers: &HeaderMap,
        request_id: &str,
        global_request_id: Option<String>,
        policy: &Policy,
    ) -> Context {
        let mut context = match self {
            Self::Administrator { user_id, project_id } => administrator(user_id, project_id, headers),
            Self::Identified(identity) => {
                let mut context = keystone::context(*identity);
                context.is_admin = policy.is_admin(&context);
                context
            }
        };
        context.request_id = request_id.to_owned();
        context.global_request_id = global_request_id;
        context
    }
}

fn administrator(user_id: String, project_id: String, headers: &HeaderMap) -> Context {
    // An administrator's word on their roles as a service is good.
    let service_roles = text(headers, "x-service-roles").unwrap_or("");
    let service_roles =
        service_roles.split(',').map(str::trim).filter(|role| !role.is_empty()).map(str::to_owned);
    Context {
        user_id,
        project_id,
        roles: vec!["admin".into()],
        is_admin: true,
        service_roles: service_roles.collect(),
        ..Context::default()
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

impl Auth {
    /// Whether strangers are kept out: without, the service listens on loopback only.
    pub fn keeps_strangers_out(&self) -> bool {
        matches!(self, Self::Basic(_) | Self::Keystone(_))
    }

    /// What an operator should be told once.
    pub fn warnings(&self) -> &[&'static str] {
        match self {
            Self::Keystone(authenticator) => &authenticator.options().warnings,
            _ => &[],
        }
    }

    /// Judges a request. `url` is the one that was asked for.
    pub async fn judge(&self, parts: &Parts, url: &str) -> Verdict {
        let headers = &parts.headers;
        match self {
            Self::Keystone(authenticator) => keystone::judge(authenticator, parts).await,
            Self::Open | Self::NoAuth if is_too_long(headers) => Verdict::Told(Box::new(crate::raw::error(
                StatusCode::BAD_REQUEST,
                "The token names a user or project of more than 255 characters.",
                headers,
            ))),
            // Clients that must send some token send a word of their own (keystoneauth: `notused`): only a pair names a project.
            Self::Open => {
                let named = by_token(headers)
                    .filter(|_| text(headers, "x-auth-token").is_some_and(|t| t.contains(':')));
                Verdict::Known(named.unwrap_or_else(default_caller))
            }
            Self::NoAuth => by_token(headers).map_or_else(|| hand_out(headers, url), Verdict::Known),
            Self::Basic(file) => {
                let Some((user, password)) = credentials(headers) else {
                    return Verdict::Told(Box::new(unauthorized(BASIC)));
                };
                if !file.verify(&user, password).await {
                    return Verdict::Told(Box::new(unauthorized(BASIC)));
                }
                Verdict::Known(Caller::Administrator { user_id: user, project_id: DEFAULT_PROJECT.into() })
            }
        }
    }
}

fn default_caller() -> Caller {
    Caller::Administrator { user_id: "admin".into(), project_id: DEFAULT_PROJECT.into() }
}

/// Characters of a user's or project's id in the database.
const LONGEST_ID: usize = 255;

/// Whether a token that names its bearer does so with ids that fit in no column.
fn is_too_long(headers: &HeaderMap) -> bool {
    let token = text(headers, "x-auth-token").unwrap_or_default();
    token.splitn(2, ':').any(|id| id.chars().count() > LONGEST_ID)
}

/// `user:project`, or `user` who then is the project too.
fn by_token(headers: &HeaderMap) -> Option<Caller> {
    let token = text(headers, "x-auth-token")?;
    let (user, project) = token.split_once(':').unwrap_or((token, ""));
    let project = if project.is_empty() { user } else { project };
    Some(Caller::Administrator { user_id: user.into(), project_id: project.into() })
}

/// 204 with a token for whoever has none.
fn hand_out(headers: &HeaderMap, url: &str) -> Verdict {
    let user = text(headers, "x-auth-user").unwrap_or("admin");
    let project = text(headers, "x-auth-project-id").unwrap_or("admin");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
    for (name, value) in [
        ("x-auth-token", format!("{user}:{project}")),
        ("x-server-management-url", url.trim_end_matches('/').to_owned()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            out.insert(name, value);
        }
    }
    Verdict::Told(Box::new(response))
}

/// User and password of `Authorization: Basic`.
fn credentials(headers: &HeaderMap) -> Option<(String, model::Secret<String>)> {
    let (scheme, encoded) = text(headers, "authorization")?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), model::Secret::new(password.to_owned())))
}

/// What clients of [`Auth::Basic`] are asked for.
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"Block Storage API\"");

/// 401, in the words of Keystone's middleware.
fn unauthorized(challenge: HeaderValue) -> Response {
    let message = "The request you have made requires authentication.";
    let body = json!({"error": {"code": 401, "title": "Unauthorized", "message": message}});
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::WWW_AUTHENTICATE, challenge);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(pairs: &[(&'static str, &str)]) -> Parts {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        let header = |(name, value): &(&'static str, &str)| {
            (http::HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
        };
        parts.headers = pairs.iter().map(header).collect();
        parts
    }

    async fn judged(auth: &Auth, pairs: &[(&'static str, &str)]) -> Result<(String, String), Response> {
        match auth.judge(&request(pairs), "http://h/v3/p/volumes/").await {
            Verdict::Known(caller) => {
                let context = caller.context(&HeaderMap::new(), "req-1", None, &Policy::default());
                Ok((context.user_id, context.project_id))
            }
            Verdict::Told(response) => Err(*response),
        }
    }

    #[tokio::test]
    async fn without_authentication_everyone_is_somebody() {
        let who = |user: &str, project: &str| Some((user.to_owned(), project.to_owned()));
        assert_eq!(judged(&Auth::Open, &[]).await.ok(), who("admin", DEFAULT_PROJECT));
        assert_eq!(judged(&Auth::Open, &[("x-auth-token", "u:p")]).await.ok(), who("u", "p"));
        assert_eq!(
            judged(&Auth::Open, &[("x-auth-token", "notused")]).await.ok(),
            who("admin", DEFAULT_PROJECT)
        );
        assert_eq!(judged(&Auth::NoAuth, &[("x-auth-token", "u")]).await.ok(), who("u", "u"));
        assert_eq!(judged(&Auth::NoAuth, &[("x-auth-token", "u:p:q")]).await.ok(), who("u", "p:q"));
    }

    #[tokio::test]
    async fn noauth_hands_out_tokens() {
        let told = judged(&Auth::NoAuth, &[("x-auth-user", "me")]).await.expect_err("told");
        assert_eq!(told.status(), 204);
        assert_eq!(told.headers()["x-auth-token"], "me:admin");
        assert_eq!(told.headers()["x-server-management-url"], "http://h/v3/p/volumes");
    }

    #[tokio::test]
    async fn basic_admits_who_knows_the_password() {
        let hash = bcrypt::hash("secret", 4).expect("a hash");
        let file = Htpasswd::parse(&format!("# people\nme:{hash}\n")).expect("a file");
        let auth = Auth::Basic(file);
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for _ in 0..2 {
            let known = judged(&auth, &[("authorization", &basic("me:secret"))]).await;
            assert_eq!(known.ok(), Some(("me".into(), DEFAULT_PROJECT.into())));
        }
        for refused in ["me:wrong", "you:secret", "me:", "me"] {
            let told = judged(&auth, &[("authorization", &basic(refused))]).await.expect_err("told");
            assert_eq!(told.status(), 401, "{refused}");
            assert!(told.headers().contains_key(header::WWW_AUTHENTICATE));
        }
        assert!(judged(&auth, &[]).await.is_err());
        assert!(judged(&auth, &[("x-auth-token", "me:p")]).await.is_err());
        assert!(judged(&auth, &[("authorization", "Basic ???")]).await.is_err());
    }
}
