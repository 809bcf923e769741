//! `auth_strategy = keystone`: who calls is what Keystone says of the tokens that came along.

use std::sync::Arc;

use ::keystone::{Asked, Authenticator, Identity, Rejection, Token};
use axum::response::Response;
use control::Context;
use control::context::{Delegation, Scope, ServiceIdentity};
use http::request::Parts;
use http::{HeaderValue, StatusCode};

use super::{Caller, Verdict, text, unauthorized};
use crate::raw;

/// Judges a request by its tokens.
pub(super) async fn judge(authenticator: &Authenticator, parts: &Parts) -> Verdict {
    let headers = &parts.headers;
    let asked = Asked {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        token: text(headers, "x-auth-token").or_else(|| text(headers, "x-storage-token")),
        service_token: text(headers, "x-service-token"),
    };
    match authenticator.judge(&asked).await {
        Ok(identity) => Verdict::Known(Caller::Identified(Box::new(identity))),
        Err(Rejection::Unauthorized) => Verdict::Told(Box::new(challenged(&authenticator.challenge()))),
        Err(Rejection::Unavailable) => {
            let explanation = "The Keystone service is temporarily unavailable.";
            Verdict::Told(Box::new(raw::error(StatusCode::SERVICE_UNAVAILABLE, explanation, headers)))
        }
    }
}

/// 401 with the address where a token is to be had.
fn challenged(challenge: &str) -> Response {
    // An address with control characters in it is refused at start.
    unauthorized(HeaderValue::from_str(challenge).unwrap_or(HeaderValue::from_static("Keystone")))
}

/// A caller's context without what policy says of them.
pub(super) fn context(identity: Identity) -> Context {
    let Identity { secret, token, service } = identity;
    let catalogue = Arc::clone(&token.catalogue);
    Context {
        user_id: token.user.id.clone(),
        project_id: token.project.as_ref().map(|project| project.id.clone()).unwrap_or_default(),
        roles: token.roles.clone(),
        service_roles: service.as_ref().map(|service| service.roles.clone()).unwrap_or_default(),
        scope: Scope {
            system: token.system.then(|| "all".to_owned()),
            domain_id: token.domain_id.clone(),
            is_admin_project: Some(token.is_admin_project),
            user_domain_id: token.user.domain_id.clone(),
            project_domain_id: token.project.as_ref().and_then(|project| project.domain_id.clone()),
            service: service.as_deref().map(by).unwrap_or_default(),
        },
        delegation: Some(Arc::new(Delegation { token: secret, catalogue })),
        ..Context::default()
    }
}

fn by(service: &Token) -> ServiceIdentity {
    ServiceIdentity {
        user_id: Some(service.user.id.clone()),
        user_domain_id: service.user.domain_id.clone(),
        project_id: service.project.as_ref().map(|project| project.id.clone()),
        project_domain_id: service.project.as_ref().and_then(|project| project.domain_id.clone()),
    }
}
