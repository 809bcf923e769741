//! Who asks: made by authentication, carried through every use case.

use std::sync::Arc;

use model::{Catalogue, JobId, Secret};

/// A request's identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    pub user_id: String,
    /// Empty for a token of no project; see [`Context::is_nowhere`].
    pub project_id: String,
    pub roles: Vec<String>,
    /// By the policy rule `context_is_admin`.
    pub is_admin: bool,
    /// Roles of a valid service token that came along.
    pub service_roles: Vec<String>,
    /// What the token is good for beyond its project.
    pub scope: Scope,
    /// For calls to other services in the caller's name; `None` where there is no identity service.
    pub delegation: Option<Arc<Delegation>>,
    /// `req-<uuid>`.
    pub request_id: String,
    /// The caller's own `X-OpenStack-Request-ID`.
    pub global_request_id: Option<String>,
}

/// Who makes the changes of a job that a caller asks for.
pub(crate) fn by(context: &Context, job: JobId) -> db::event::By<'_> {
    db::event::By {
        job: Some(job),
        request_id: Some(&context.request_id),
        project_id: Some(&context.project_id),
    }
}

impl Context {
    /// Whether there is nothing that the caller could own or see. To the rules, which compare projects, all callers without one
    /// would be of the same: they are kept out before.
    pub fn is_nowhere(&self) -> bool {
        self.project_id.is_empty() && !self.is_admin
    }
}

/// What a token says of domains and of the whole system; only policy rules read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// `all` for a token of the whole system.
    pub system: Option<String>,
    /// The domain of a domain's token.
    pub domain_id: Option<String>,
    /// `Some(false)` only where the identity service has an admin project and this token is of another.
    pub is_admin_project: Option<bool>,
    pub user_domain_id: Option<String>,
    pub project_domain_id: Option<String>,
    pub service: ServiceIdentity,
}

/// Whose the service token is that came along; only policy rules read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceIdentity {
    pub user_id: Option<String>,
    pub user_domain_id: Option<String>,
    pub project_id: Option<String>,
    pub project_domain_id: Option<String>,
}

/// What it takes to call another service in the caller's name. Lives as long as the request: jobs act with the service's own.
#[derive(Debug, PartialEq, Eq)]
pub struct Delegation {
    pub token: Secret<String>,
    /// Where the caller finds the other services.
    pub catalogue: Arc<Catalogue>,
}
