//! One request on its way to a handler: who asks, at which version, for what.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use control::{Context, Error, error};
use http::HeaderMap;
use model::list::{ListQuery, Listed};
use serde_json::Value;
use wire::Object;
use wire::link::Links;
use wire::microversion::{Resource, Version};

use crate::edge::Edge;
use crate::fault::Fault;
use crate::list::{Listable, Reader};
use crate::query::Query;
use crate::route::Params;

static EMPTY: LazyLock<Object> = LazyLock::new(Object::new);

/// A request whose caller is known, whose version is negotiated and whose body has the right shape.
pub struct Call {
    pub edge: Arc<Edge>,
    pub context: Context,
    pub version: Version,
    pub params: Params,
    pub query: Query,
    /// The body; null when there is none.
    pub body: Value,
    pub links: Links,
    pub headers: HeaderMap,
}

impl Call {
    /// A parameter of the path; empty when the path has none of that name.
    pub fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    /// The id in the path, spelled as ids are; any other text is nobody's.
    ///
    /// # Errors
    /// 404 of that kind of thing.
    pub fn id<T: FromStr + Display>(&self, name: &str, what: error::Resource) -> Result<T, Fault> {
        let text = self.param(name);
        let id = text.parse::<T>().ok().filter(|id| id.to_string() == text);
        id.ok_or_else(|| Error::NotFound(what, text.to_owned()).into())
    }

    /// What the body holds under `key`; an empty object when that is none.
    pub fn object(&self, key: &str) -> &Object {
        self.body.get(key).and_then(Value::as_object).unwrap_or(&EMPTY)
    }

    /// The whole body; an empty object when it is none.
    pub fn whole(&self) -> &Object {
        self.body.as_object().unwrap_or(&EMPTY)
    }

    fn reader(&self) -> Reader<'_> {
        let settings = &self.edge.settings;
        Reader {
            context: &self.context,
            version: self.version,
            filters: &settings.filters,
            max_limit: settings.max_limit,
        }
    }

    /// The list that the query string asks for.
    ///
    /// # Errors
    /// 400, in Cinder's words.
    pub fn list(&self, what: &Listable) -> Result<ListQuery, Fault> {
        self.reader().read(what, &self.query)
    }

    /// The list that `query`, a part of the query string, asks for.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub fn list_by(&self, what: &Listable, query: &Query) -> Result<ListQuery, Fault> {
        self.reader().read(what, query)
    }

    /// How many items the caller wants at most.
    ///
    /// # Errors
    /// 400 when it is no number.
    pub fn limit(&self) -> Result<u32, Fault> {
        self.reader().limit(&mut self.query.clone())
    }

    /// Refuses filters that the operator did not choose.
    ///
    /// # Errors
    /// 400 naming them.
    pub fn check_filters(&self, name: &str, query: &mut Query) -> Result<(), Fault> {
        self.reader().refuse_unconfigured(name, query)
    }

    /// A page of a list as its answer: the items, a link to what follows, and the count when it was asked for.
    ///
    /// # Errors
    /// 400 when `limit` is no number; a list that was read does not fail any more.
    pub fn page<T>(
        &self,
        page: Page<'_>,
        listed: &Listed<T>,
        shape: impl Fn(&T) -> Object,
    ) -> Result<Object, Fault> {
        let lowering = page.resource.map(|resource| self.version.lowering(resource));
        let shapes: Vec<Object> = listed
            .items
            .iter()
            .map(|item| {
                let mut shape = shape(item);
                if let Some(lowering) = &lowering {
                    lowering.apply(&mut shape);
                }
                shape
            })
            .collect();
        let marker =
            shapes.last().and_then(|shape| shape.get("id")).and_then(Value::as_str).map(str::to_owned);
        let mut answer = Object::new();
        answer.insert(page.key.into(), shapes.into_iter().map(Value::Object).collect());
        let limit = u64::from(self.limit()?);
        let reached = listed.count.filter(|count| *count > 0).unwrap_or(listed.items.len() as u64) >= limit;
        if let Some(marker) = marker.filter(|_| reached) {
            answer.insert(page.links.into(), self.links.next(page.path, self.query.pairs(), &marker));
        }
        answer.extend(listed.count.map(|count| ("count".to_owned(), count.into())));
        Ok(answer)
    }

    /// A newest shape, rewritten for the caller's version.
    pub fn lower(&self, resource: Resource, mut shape: Object) -> Object {
        self.version.lowering(resource).apply(&mut shape);
        shape
    }
}

/// What the answer to a list request is made of.
#[derive(Clone, Copy)]
pub struct Page<'a> {
    /// The key of the items.
    pub key: &'a str,
    /// The key of the links.
    pub links: &'a str,
    /// The path that the next link leads to.
    pub path: &'a str,
    /// Whose shape is lowered.
    pub resource: Option<Resource>,
}
