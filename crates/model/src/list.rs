//! What a list request asks for, freed of its HTTP spelling: page, order, filters.

use serde_json::Value;

/// Sort direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Ascending,
    Descending,
}

/// How a filter compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Equal to the value; an array value means any of its elements; null means unset.
    Equal,
    /// Case-insensitive substring (`name~=x`).
    Like,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    NotEqual,
}

/// One condition. `field` is a column name of the resource (`display_name`, not `name`), or one of the resource's
/// special fields (`metadata`: an object all of whose pairs must be there; `host`: matched by its level).
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    pub field: String,
    pub compare: Compare,
    pub value: Value,
}

/// A list request.
#[derive(Debug, Clone, PartialEq)]
pub struct ListQuery {
    /// Whose: `None` for every project (administrators only).
    pub project_id: Option<String>,
    pub filters: Vec<Filter>,
    /// Column names and directions; `id` is appended as tie breaker by the database layer.
    pub sort: Vec<(String, Direction)>,
    /// The id of the last item of the page before.
    pub marker: Option<String>,
    pub offset: u32,
    /// Already capped by `osapi_max_limit`.
    pub limit: u32,
    /// Also count what the filters match, paging aside.
    pub with_count: bool,
}

impl ListQuery {
    /// Everything of a project (`None`: of all), newest first.
    pub fn all(project_id: Option<String>) -> Self {
        Self {
            project_id,
            filters: Vec::new(),
            sort: vec![("created_at".into(), Direction::Descending)],
            marker: None,
            offset: 0,
            limit: 1000,
            with_count: false,
        }
    }
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct Listed<T> {
    pub items: Vec<T>,
    /// How many there are in all, when that was asked for.
    pub count: Option<u64>,
}
