//! Who asks: made by authentication, carried through every use case.

/// A request's identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    pub user_id: String,
    pub project_id: String,
    pub roles: Vec<String>,
    /// By the policy rule `context_is_admin`.
    pub is_admin: bool,
    /// Roles of a valid service token that came along.
    pub service_roles: Vec<String>,
    /// What the token is good for beyond its project.
    pub scope: Scope,
    /// `req-<uuid>`.
    pub request_id: String,
    /// The caller's own `X-OpenStack-Request-ID`.
    pub global_request_id: Option<String>,
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
}
