//! Answers from before and beside the API proper: what middleware and the router say, in the form that `Accept` asks for.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

/// A form of an error that no controller gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Html,
    Json,
    Plain,
}

/// The first form that `Accept` admits, HTML before JSON; plain text when it admits neither or is not there.
fn form(headers: &HeaderMap) -> Form {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let mut best: Option<(f32, Form)> = None;
    for form in [Form::Html, Form::Json] {
        let quality = quality(accept, form);
        if quality > 0.0 && best.is_none_or(|(q, _)| quality > q) {
            best = Some((quality, form));
        }
    }
    best.map_or(Form::Plain, |(_, form)| form)
}

/// How much `accept` wants the form; the most specific range decides.
fn quality(accept: &str, form: Form) -> f32 {
    let (full, half) = match form {
        Form::Html => ("text/html", "text/*"),
        Form::Json => ("application/json", "application/*"),
        Form::Plain => ("text/plain", "text/*"),
    };
    let mut found = (0, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or("").to_ascii_lowercase();
        let q = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        let rank = match kind.as_str() {
            k if k == full => 3,
            k if k == half => 2,
            "*/*" => 1,
            _ => 0,
        };
        if rank > found.0 {
            found = (rank, q);
        }
    }
    found.1
}

/// An error of the router or the middleware.
pub fn error(status: StatusCode, explanation: &str, request: &HeaderMap) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let code = format!("{} {title}", status.as_u16());
    let (kind, body) = match form(request) {
        Form::Json => {
            let body =
                json!({"message": format!("{explanation}<br /><br />\n\n\n"), "code": code, "title": title});
            ("application/json", body.to_string())
        }
        Form::Html => (
            "text/html; charset=UTF-8",
            format!(
                "<html>\n <head>\n  <title>{code}</title>\n </head>\n <body>\n  <h1>{code}</h1>\n  \
                 {explanation}<br /><br />\n\n\n\n </body>\n</html>"
            ),
        ),
        Form::Plain => ("text/plain; charset=UTF-8", format!("{code}\n\n{explanation}\n\n   ")),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// 404 of a path that is no route.
pub fn not_found(request: &HeaderMap) -> Response {
    error(StatusCode::NOT_FOUND, crate::fault::explanation(404), request)
}

/// The state of the service for load balancers: `None` is well, otherwise why not.
pub fn health(disabled: Option<&str>, request: &HeaderMap) -> Response {
    let reason = disabled.unwrap_or("OK");
    let json_wanted = quality(accept_of(request), Form::Json) > quality(accept_of(request), Form::Plain);
    let (kind, body) = if json_wanted {
        ("application/json", json!({"detailed": false, "reasons": [reason]}).to_string())
    } else {
        ("text/plain; charset=UTF-8", reason.to_owned())
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        if disabled.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn accept_of(request: &HeaderMap) -> &str {
    request.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form_of(accept: &'static str) -> Form {
        form(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]))
    }

    #[test]
    fn accept_chooses_the_form_of_router_errors() {
        assert_eq!(form(&HeaderMap::new()), Form::Plain);
        assert_eq!(form_of("application/json"), Form::Json);
        assert_eq!(form_of("text/html,application/json;q=0.9"), Form::Html);
        assert_eq!(form_of("text/html;q=0.1,application/json"), Form::Json);
        assert_eq!(form_of("*/*"), Form::Html);
        assert_eq!(form_of("image/png"), Form::Plain);
    }
}
