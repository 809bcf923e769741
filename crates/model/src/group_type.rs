//! Group types: what groups of volumes are asked for by.

use std::collections::BTreeMap;

use crate::{GroupTypeId, Time};

/// A group type with its specs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupType {
    pub id: GroupTypeId,
    pub name: String,
    pub description: Option<String>,
    pub is_public: bool,
    pub specs: BTreeMap<String, Option<String>>,
    pub created_at: Option<Time>,
    pub updated_at: Option<Time>,
}

impl GroupType {
    /// Whether a spec says yes: `<is> True`, the second word in any spelling of truth.
    pub fn says_yes(&self, spec: &str) -> bool {
        self.specs.get(spec).and_then(Option::as_deref).is_some_and(crate::volume_type::is_true)
    }
}
