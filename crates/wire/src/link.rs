//! Links to resources and to next pages (api-routes.md 6).

use serde_json::{Value, json};

/// Where links of one request's answer point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    /// `scheme://host[:port][/prefix]`, without the version.
    base: String,
    /// The version's root: `/v3`.
    root: &'static str,
    /// The project, when the request's path named it.
    project: Option<String>,
}

impl Links {
    /// Links under `base` and `root`; with `project` in their paths when the request had it.
    pub fn new(base: impl Into<String>, root: &'static str, project: Option<String>) -> Self {
        let mut base = base.into();
        base.truncate(base.trim_end_matches('/').len());
        Self { base, root, project }
    }

    fn path(&self, root: &str, rest: &[&str]) -> String {
        let mut path = format!("{}{root}", self.base);
        for part in self.project.as_deref().iter().chain(rest) {
            path.push('/');
            path.push_str(part);
        }
        path
    }

    /// The `links` of one resource: itself, and its bookmark without a version.
    pub fn of(&self, collection: &str, id: &str) -> Value {
        json!([
            {"rel": "self", "href": self.path(self.root, &[collection, id])},
            {"rel": "bookmark", "href": self.path("", &[collection, id])},
        ])
    }

    /// The `<collection>_links` of a page that more may follow: the request again, its marker replaced.
    pub fn next(&self, collection: &str, query: &[(String, String)], marker: &str) -> Value {
        let kept = query
            .iter()
            .filter(|(key, _)| key != "marker")
            .map(|(key, value)| (key.as_str(), value.as_str()));
        let query: Vec<String> = kept
            .chain([("marker", marker)])
            .map(|(key, value)| format!("{}={}", quote(key), quote(value)))
            .collect();
        let href = format!("{}?{}", self.path(self.root, &[collection]), query.join("&"));
        json!([{"rel": "next", "href": href}])
    }

    /// The version root, as version documents link to it.
    pub fn root(&self) -> String {
        format!("{}{}/", self.base, self.root)
    }
}

/// Form encoding as Python's `quote_plus` does it.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_name_the_project_when_the_request_did() {
        let links = Links::new("http://h:1/", "/v3", Some("p".into()));
        let both = links.of("volumes", "i");
        assert_eq!(both[0]["href"], "http://h:1/v3/p/volumes/i");
        assert_eq!(both[1]["href"], "http://h:1/p/volumes/i");
        let both = Links::new("http://h:1", "/v3", None).of("volumes", "i");
        assert_eq!(both[0]["href"], "http://h:1/v3/volumes/i");
        assert_eq!(both[1]["href"], "http://h:1/volumes/i");
    }

    #[test]
    fn the_next_page_repeats_the_request_with_its_own_marker() {
        let query = [("sort", "name:asc"), ("marker", "old"), ("limit", "2"), ("name", "a b&c")];
        let query: Vec<_> = query.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let next = Links::new("http://h", "/v3", Some("p".into())).next("volumes/detail", &query, "new");
        assert_eq!(
            next[0]["href"],
            "http://h/v3/p/volumes/detail?sort=name%3Aasc&limit=2&name=a+b%26c&marker=new"
        );
    }
}
