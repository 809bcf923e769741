//! What a handler answers with, and its rendering as HTTP.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::fault::Fault;

/// What a handler gives back.
pub type Outcome = Result<Answer, Fault>;

/// The names of the two request-id headers, and of the one that negotiates.
pub const COMPUTE_REQUEST_ID: HeaderName = HeaderName::from_static("x-compute-request-id");
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-openstack-request-id");
pub const API_VERSION: HeaderName = HeaderName::from_static("openstack-api-version");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=UTF-8");

/// The body of an answer.
#[derive(Debug)]
enum Content {
    Json(Value),
    /// Text that is announced as JSON without being any.
    Bare(String),
    /// Bytes built by hand: Cinder announces those as HTML and leaves `x-compute-request-id` out.
    ByHand(Vec<u8>),
}

/// An answer that went well.
#[derive(Debug)]
pub struct Answer {
    content: Content,
    /// Instead of the route's success status.
    status: Option<StatusCode>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Answer {
    fn of(content: Content) -> Self {
        Self { content, status: None, headers: Vec::new() }
    }

    /// A JSON body.
    pub fn json(body: impl Into<Value>) -> Self {
        Self::of(Content::Json(body.into()))
    }

    /// Nothing to say.
    pub fn none() -> Self {
        Self::of(Content::Bare(String::new()))
    }

    /// A text without quotes around it, announced as JSON all the same.
    pub fn text(text: String) -> Self {
        Self::of(Content::Bare(text))
    }

    /// Nothing to say, in the way of answers that Cinder builds by hand.
    pub fn bare() -> Self {
        Self::of(Content::ByHand(Vec::new()))
    }

    /// 412, without a body.
    pub fn precondition_failed() -> Self {
        Self { status: Some(StatusCode::PRECONDITION_FAILED), ..Self::bare() }
    }

    /// Bytes with their `ETag`.
    pub fn tagged(body: Vec<u8>, etag: &str) -> Self {
        let mut answer = Self::of(Content::ByHand(body));
        answer.headers.extend(HeaderValue::from_str(etag).map(|etag| (header::ETAG, etag)));
        answer
    }

    /// As HTTP; `success` is the route's status.
    pub fn render(self, success: StatusCode, request_id: &str) -> Response {
        let status = self.status.unwrap_or(success);
        let mut response = match self.content {
            Content::Json(value) => by_controller(json_body(&value), request_id),
            Content::Bare(text) => by_controller(Body::from(text), request_id),
            Content::ByHand(bytes) => {
                let mut response = Response::new(Body::from(bytes));
                response.headers_mut().insert(header::CONTENT_TYPE, HTML);
                response
            }
        };
        *response.status_mut() = status;
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl Fault {
    /// As HTTP.
    pub fn render(&self, request_id: &str) -> Response {
        let mut response = by_controller(json_body(&self.body()), request_id);
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// An answer with the headers of those that a controller gives.
fn by_controller(body: Body, request_id: &str) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(COMPUTE_REQUEST_ID, id);
    }
    response
}

fn json_body(value: &Value) -> Body {
    Body::from(value.to_string())
}
