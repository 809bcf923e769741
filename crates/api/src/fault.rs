//! Error answers: the only file that knows which HTTP status an error has (api-routes.md 4).

use control::Error;
use serde_json::{Map, Value, json};

/// An answer that refuses or reports a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The HTTP status.
    pub status: u16,
    /// For the client.
    pub message: String,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
}

impl Fault {
    fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None }
    }

    /// With the text that stands for the status when there is nothing better to say.
    pub fn generic(status: u16) -> Self {
        Self::new(status, explanation(status))
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// 403 with a text of its own.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, message)
    }

    /// 404 with a text of its own.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, message)
    }

    /// 405: the path is there, but not for this method.
    pub fn bad_method() -> Self {
        Self::new(405, "The method is not allowed for this resource.")
    }

    /// 408.
    pub fn too_slow() -> Self {
        Self::new(408, "The request took too long to arrive.")
    }

    /// 406.
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(406, message)
    }

    /// 415.
    pub fn bad_media_type() -> Self {
        Self::new(415, "Unsupported Content-Type")
    }

    /// The key under which the body says it.
    pub fn name(&self) -> &'static str {
        match self.status {
            400 => "badRequest",
            401 => "unauthorized",
            403 => "forbidden",
            404 => "itemNotFound",
            405 => "badMethod",
            409 => "conflictingRequest",
            413 => "overLimit",
            415 => "badMediaType",
            501 => "notImplemented",
            503 => "serviceUnavailable",
            _ => "computeFault",
        }
    }

    /// `{"<fault>": {"code": N, "message": "..."}}`.
    pub fn body(&self) -> Value {
        let mut inner = Map::new();
        inner.insert("code".into(), json!(self.status));
        inner.insert("message".into(), json!(self.message));
        if let Some(seconds) = self.retry_after.filter(|_| self.status == 413) {
            inner.insert("retryAfter".into(), json!(seconds.to_string()));
        }
        json!({ self.name(): inner })
    }
}

/// What a status says when nothing else does.
pub fn explanation(status: u16) -> &'static str {
    match status {
        400 => {
            "The server could not comply with the request since it is either malformed or otherwise incorrect."
        }
        401 => {
            "This server could not verify that you are authorized to access the document you requested. Either you \
             supplied the wrong credentials (e.g., bad password), or your browser does not understand how to supply the \
             credentials required."
        }
        403 => "Access was denied to this resource.",
        404 => "The resource could not be found.",
        413 => "The body of your request was too large for this server.",
        503 => "The server is currently unavailable. Please try again at a later time.",
        _ => "The server has either erred or is incapable of performing the requested operation.",
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::NotFound(..) | Error::Missing(_) => Self::new(404, text),
            Error::Invalid(_)
            | Error::InvalidVolume(_)
            | Error::InvalidSnapshot(_)
            | Error::InvalidBackup(_)
            | Error::InvalidInput(_)
            | Error::InvalidVolumeType(_) => Self::new(400, text),
            Error::Forbidden(_) => Self::new(403, text),
            Error::Conflict(_) => Self::new(409, text),
            Error::OverQuota(_) => Self { retry_after: Some(0), ..Self::new(413, text) },
            Error::Unavailable(_) => Self::new(503, text),
            Error::Failed(_) => Self::new(500, text),
            Error::Internal(source) => {
                tracing::error!(error = source.as_ref() as &dyn std::error::Error, "request failed");
                Self::generic(500)
            }
        }
    }
}

impl From<crate::schema::Refused> for Fault {
    fn from(refused: crate::schema::Refused) -> Self {
        Self::bad_request(refused.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::error::{OverQuota, Resource};

    #[test]
    #[rustfmt::skip]
    fn every_error_has_cinders_status_name_and_text() {
        let cases = [
            (Error::NotFound(Resource::Volume, "x".into()), json!({"itemNotFound": {"code": 404, "message": "Volume x could not be found."}})),
            (Error::InvalidVolume("r".into()),  json!({"badRequest": {"code": 400, "message": "Invalid volume: r"}})),
            (Error::InvalidInput("r".into()),   json!({"badRequest": {"code": 400, "message": "Invalid input received: r"}})),
            (Error::Forbidden("volume:get".into()), json!({"forbidden": {"code": 403, "message": "Policy doesn't allow volume:get to be performed."}})),
            (Error::Conflict("c".into()),       json!({"conflictingRequest": {"code": 409, "message": "c"}})),
            (Error::OverQuota(OverQuota::Snapshots { limit: 10 }), json!({"overLimit": {"code": 413, "message": "SnapshotLimitExceeded: Maximum number of snapshots allowed (10) exceeded", "retryAfter": "0"}})),
            (Error::Unavailable("u".into()),    json!({"serviceUnavailable": {"code": 503, "message": "u"}})),
            (Error::Failed("f".into()),         json!({"computeFault": {"code": 500, "message": "f"}})),
        ];
        for (error, body) in cases {
            assert_eq!(Fault::from(error).body(), body);
        }
    }

    #[test]
    fn bugs_show_no_details() {
        let fault = Fault::from(Error::Internal("password is hunter2".into()));
        assert_eq!((fault.status, fault.message.contains("hunter2")), (500, false));
    }
}
