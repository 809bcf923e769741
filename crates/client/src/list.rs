//! Lists: all pages of a collection, and resources by name.

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Client, Error, Result};

/// Items asked for at once; the service has a limit of its own (1,000 unless configured).
const PAGE: usize = 1000;
/// Items that one list call returns at most, whatever the server claims.
const MOST_ITEMS: usize = 1_000_000;

/// What a list is asked for: filters as they stand in the query, and how many items.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Query parameters such as `name=x`.
    pub filters: Vec<(String, String)>,
    /// At most this many items; `None`: all.
    pub limit: Option<usize>,
}

impl Query {
    /// Adds a filter that is there.
    #[must_use]
    pub fn filter(mut self, name: &str, value: Option<impl ToString>) -> Self {
        self.filters.extend(value.map(|value| (name.to_owned(), value.to_string())));
        self
    }

    /// Only those of this name.
    pub(crate) fn named(name: &str) -> Self {
        Self::default().filter("name", Some(name))
    }

    /// Only this many items.
    #[must_use]
    pub fn at_most(mut self, limit: Option<usize>) -> Self {
        self.limit = limit;
        self
    }
}

impl Client {
    /// All items of a collection, page by page: `path` is queried, `key` holds the items.
    pub(crate) async fn pages<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        query: &Query,
    ) -> Result<Vec<T>> {
        let most = query.limit.unwrap_or(MOST_ITEMS).min(MOST_ITEMS);
        let mut items: Vec<Value> = Vec::new();
        while items.len() < most {
            let wanted = PAGE.min(most - items.len());
            let mut request = self.v3(Method::GET, path).query("limit", wanted);
            for (name, value) in &query.filters {
                request = request.query(name, value);
            }
            let marker = items.last().and_then(|item| item.get("id")).and_then(Value::as_str);
            let (mut answer, url) = request.maybe("marker", marker).object().await?;
            let Some(Value::Array(page)) = answer.get_mut(key).map(Value::take) else {
                return Err(Error::Unreadable {
                    url: url.to_string(),
                    what: format!("no list {key:?} in it"),
                });
            };
            let has_more = !page.is_empty() && has_next_link(&answer);
            items.extend(page);
            if !has_more {
                break;
            }
        }
        items.truncate(most);
        let read = |item| serde_json::from_value(item);
        items
            .into_iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map_err(|error| Error::Unreadable { url: path.to_owned(), what: error.to_string() })
    }
}

/// `<collection>_links` holds a `next` link when there may be more. The link itself is not followed: it may name an
/// address that this client cannot reach.
fn has_next_link(answer: &Value) -> bool {
    let is_links = |(key, value): (&String, &Value)| {
        let is_next = |link: &Value| link.get("rel").and_then(Value::as_str) == Some("next");
        key.ends_with("_links") && value.as_array().is_some_and(|links| links.iter().any(is_next))
    };
    answer.as_object().is_some_and(|object| object.iter().any(is_links))
}

/// The one resource that a name or id means: `by_id` is asked only for what has the form of an id, `named` only when that is not it.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Ambiguous`], and as either request.
pub(crate) async fn find<T>(
    kind: &'static str,
    name: &str,
    by_id: impl Future<Output = Result<T>>,
    named: impl Future<Output = Result<Vec<T>>>,
    id: impl Fn(&T) -> &str,
) -> Result<T> {
    if looks_like_id(name)
        && let Some(found) = absent(by_id.await)?
    {
        return Ok(found);
    }
    pick(kind, name, named.await?, id)
}

/// Picks the one item that a name or id means.
///
/// # Errors
/// [`Error::NotFound`] and [`Error::Ambiguous`].
fn pick<T>(kind: &'static str, name: &str, found: Vec<T>, id: impl Fn(&T) -> &str) -> Result<T> {
    let ids: Vec<_> = found.iter().map(|one| id(one).to_owned()).collect();
    let mut found = found.into_iter();
    match (found.next(), ids.len()) {
        (Some(one), 1) => Ok(one),
        (None, _) => Err(Error::NotFound { kind, name: name.to_owned() }),
        (Some(_), _) => Err(Error::Ambiguous { kind, name: name.to_owned(), ids }),
    }
}

/// Whether a text has the form of an id, so that it is looked up as one first.
fn looks_like_id(text: &str) -> bool {
    text.parse::<model::VolumeId>().is_ok()
}

/// Nothing, when the error says that there is nothing.
pub(crate) fn absent<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_must_mean_exactly_one() {
        fn id<'a>(id: &'a &str) -> &'a str {
            id
        }
        assert_eq!(pick("volume", "a", vec!["1"], id).unwrap(), "1");
        assert!(matches!(pick("volume", "a", Vec::<&str>::new(), id), Err(Error::NotFound { .. })));
        match pick("volume", "a", vec!["1", "2"], id) {
            Err(Error::Ambiguous { ids, .. }) => assert_eq!(ids, ["1", "2"]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_a_next_link_asks_for_more() {
        let links =
            |rel: &str| serde_json::json!({"volumes": [], "volumes_links": [{"rel": rel, "href": "x"}]});
        assert!(has_next_link(&links("next")));
        assert!(!has_next_link(&links("self")));
        assert!(!has_next_link(&serde_json::json!({"volumes": []})));
    }
}
