//! Volume types: what a user asks for by name.

use std::collections::BTreeMap;

use crate::{QosId, Time, TypeId};

/// The type that every installation has.
pub const DEFAULT_TYPE_NAME: &str = "__DEFAULT__";

/// A volume type with its extra specs.
#[derive(Debug, Clone)]
pub struct VolumeType {
    pub id: TypeId,
    pub name: String,
    pub description: Option<String>,
    pub is_public: bool,
    pub qos_specs_id: Option<QosId>,
    pub extra_specs: BTreeMap<String, String>,
    pub created_at: Option<Time>,
    pub updated_at: Option<Time>,
}

impl VolumeType {
    /// Whether a spec says yes in the way Cinder demands: exactly `<is> True` (any lenient true value).
    pub fn says_yes(&self, spec: &str) -> bool {
        self.extra_specs.get(spec).is_some_and(|value| is_true(value))
    }

    /// Whether volumes of this type may be attached more than once.
    pub fn multiattach(&self) -> bool {
        self.says_yes("multiattach")
    }
}

/// `<is> True`: two words, the second a lenient true (scheduler.md 9).
pub fn is_true(value: &str) -> bool {
    let mut words = value.split_whitespace();
    words.next() == Some("<is>")
        && words.next().is_some_and(|w| {
            ["t", "true", "on", "y", "yes", "1"].iter().any(|yes| yes.eq_ignore_ascii_case(w))
        })
        && words.next().is_none()
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_is_form_says_yes() {
        assert!(super::is_true("<is> True"));
        assert!(super::is_true("<is>  yes"));
        for no in ["True", "<is> False", "<is>", "<is> True x", "<in> True"] {
            assert!(!super::is_true(no), "{no}");
        }
    }
}
