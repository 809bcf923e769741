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
    /// `req-<uuid>`.
    pub request_id: String,
    /// The caller's own `X-OpenStack-Request-ID`.
    pub global_request_id: Option<String>,
}
