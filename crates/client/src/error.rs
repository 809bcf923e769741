//! What can go wrong between a client and the service, and what to do about it.

/// A request that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint is no address that this client can use.
    #[error("{0:?} is not an endpoint: an http:// address is needed")]
    Endpoint(String),
    /// Nothing answered.
    #[error("cannot reach {endpoint}")]
    Unreachable {
        endpoint: String,
        #[source]
        source: reqwest::Error,
    },
    /// The service refused, or failed.
    #[error("{message}")]
    Refused {
        status: u16,
        /// The fault's name in the body (`badRequest`, `itemNotFound`, ...); empty when there was none.
        fault: String,
        message: String,
        request_id: Option<String>,
    },
    /// The answer is not what the contract promises.
    #[error("unexpected answer from {url}: {what}")]
    Unreadable { url: String, what: String },
    /// No resource has this name or id.
    #[error("no {kind} is called {name:?}")]
    NotFound { kind: &'static str, name: String },
    /// Several resources have this name.
    #[error("{} {kind}s are called {name:?}", ids.len())]
    Ambiguous { kind: &'static str, name: String, ids: Vec<String> },
    /// What was waited for ended badly.
    #[error("{kind} {id} is in status {status}{}", because(.reason))]
    Ended { kind: &'static str, id: String, status: String, reason: Option<String> },
    /// What was waited for did not come in time.
    #[error("{kind} {id} is still in status {status} after {seconds} s")]
    TimedOut { kind: &'static str, id: String, status: String, seconds: u64 },
    /// Several went wrong and each has been told of; this was the first.
    #[error("{0}")]
    Reported(Box<Error>),
    /// The request makes no sense as given.
    #[error("{0}")]
    Usage(String),
}

/// The result of a request.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn because(reason: &Option<String>) -> String {
    reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default()
}

impl Error {
    /// Whether the resource does not exist (any more).
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::Refused { status: 404, .. })
    }

    /// What the user can do, when there is something.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Endpoint(_) => "set --endpoint or CINDERBLOCK_ENDPOINT, as in http://127.0.0.1:8776/v3".to_owned(),
            Self::Unreachable { .. } => {
                "is the service running? `cinderblock serve` starts it; --endpoint or CINDERBLOCK_ENDPOINT says where it is"
                    .to_owned()
            }
            Self::Refused { status: 401, .. } => {
                "set --token USER:PROJECT (CINDERBLOCK_TOKEN) or --user USER:PASSWORD (CINDERBLOCK_USER)".to_owned()
            }
            Self::Refused { status: 403, .. } => "this needs another role: ask the operator".to_owned(),
            Self::Refused { status: 413, fault, .. } if fault == "overLimit" => {
                "`cinderblock quota show` tells what is used; delete something or raise it with `cinderblock quota set`"
                    .to_owned()
            }
            Self::Refused { status: 500.., request_id: Some(id), .. } => {
                format!("the service's log has more under request {id}")
            }
            Self::NotFound { kind, .. } => format!("`cinderblock {} list` shows what there is", command_of(kind)),
            Self::Ambiguous { ids, .. } => format!("use one of the ids: {}", ids.join(", ")),
            Self::Ended { kind, id, .. } => format!(
                "`cinderblock message list --resource {id}` and `cinderblock job list --resource {id}` tell why; \
                 a {kind} in error can be deleted"
            ),
            Self::TimedOut { id, .. } => {
                format!("`cinderblock job list --resource {id}` shows its progress; --timeout waits longer")
            }
            _ => return None,
        };
        Some(hint)
    }

    /// The exit code of a command that ends with this error: 1 for what has no code of its own.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Endpoint(_) => 2,
            Self::NotFound { .. } | Self::Refused { status: 404, .. } => 3,
            Self::Refused { status: 400..=499, .. } | Self::Ambiguous { .. } => 4,
            Self::Refused { .. } => 5,
            Self::Unreachable { .. } => 6,
            Self::Ended { .. } => 7,
            Self::TimedOut { .. } => 8,
            Self::Unreadable { .. } => 1,
            Self::Reported(first) => first.exit_code(),
        }
    }
}

fn command_of(kind: &str) -> &str {
    if kind == "volume type" { "type" } else { kind }
}
