//! The options that Cinder 29 and this service know: kinds, defaults, old names, as data.
//!
//! Knowing an option is not obeying it: the tables say what an operator's existing file may contain without a warning, and what an
//! option is when nobody sets it.

mod backend;
mod renamed;
mod service;
mod shared;

pub use renamed::Renamed;

use super::{BACKEND_DEFAULTS, DEFAULT};

/// What an option's text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Str,
    /// A whole number; bounds included.
    Int {
        min: i64,
        max: i64,
    },
    /// A TCP port, 0 to 65535.
    Port,
    Float,
    Bool,
    /// Separated by commas.
    List,
    /// `key:value` pairs separated by commas.
    Dict,
    /// May be given several times.
    Multi,
    /// A [`Kind::Dict`] that may be given several times.
    MultiDict,
}

/// A known option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub name: &'static str,
    pub kind: Kind,
    /// As an operator would write it.
    pub default: Option<&'static str>,
    /// Its value must not reach a log.
    pub secret: bool,
}

/// Any whole number.
const INT: Kind = Kind::Int { min: i64::MIN, max: i64::MAX };
/// From 0 on.
const NAT: Kind = Kind::Int { min: 0, max: i64::MAX };
/// From 1 on.
const POS: Kind = Kind::Int { min: 1, max: i64::MAX };

const fn int(min: i64, max: i64) -> Kind {
    Kind::Int { min, max }
}

const fn row(name: &'static str, kind: Kind, default: &'static str) -> Known {
    Known { name, kind, default: Some(default), secret: false }
}

const fn bare(name: &'static str, kind: Kind) -> Known {
    Known { name, kind, default: None, secret: false }
}

const fn secret(known: Known) -> Known {
    Known { secret: true, ..known }
}

/// The known options of a section, by its normalised name; those of any backend are under `backend_defaults`.
pub fn of_section(section: &str) -> Option<&'static [Known]> {
    match section {
        DEFAULT => Some(service::DEFAULT),
        BACKEND_DEFAULTS => Some(backend::BACKEND),
        other => shared::SECTIONS.iter().find(|(name, _)| *name == other).map(|(_, table)| *table),
    }
}

/// Whether a section has a table: it cannot be a backend's.
pub fn is_section(section: &str) -> bool {
    of_section(section).is_some()
}

/// A known option of a section.
pub fn find(section: &str, option: &str) -> Option<&'static Known> {
    let table = of_section(section)?;
    table.binary_search_by(|known| known.name.cmp(option)).ok().map(|at| &table[at])
}

/// The old names of an option.
pub fn old_names(section: &str, option: &str) -> impl Iterator<Item = &'static Renamed> {
    renamed::RENAMED.iter().filter(move |row| row.section == section && row.option == option)
}

/// What an old name in a section stands for.
pub fn renamed(section: &str, old: &str) -> Option<&'static Renamed> {
    renamed::RENAMED
        .iter()
        .find(|row| row.old_option == old && row.old_section.unwrap_or(row.section) == section)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_their_defaults_are_of_their_kind() {
        use crate::config::FromOption;
        let sections = shared::SECTIONS.iter().map(|(name, _)| *name).chain([DEFAULT, BACKEND_DEFAULTS]);
        for section in sections {
            let table = of_section(section).expect("it is in the table");
            assert!(table.is_sorted_by(|a, b| a.name < b.name), "[{section}] is not sorted");
            for known in table {
                let Some(default) = known.default.filter(|default| !default.contains('$')) else { continue };
                let good = match known.kind {
                    Kind::Int { min, max } => {
                        i64::from_option(default).is_ok_and(|n| n.is_some_and(|n| (min..=max).contains(&n)))
                    }
                    Kind::Port => u16::from_option(default).is_ok_and(|n| n.is_some()),
                    Kind::Float => f64::from_option(default).is_ok_and(|n| n.is_some()),
                    Kind::Bool => bool::from_option(default).is_ok(),
                    Kind::Dict | Kind::MultiDict => {
                        std::collections::BTreeMap::<String, String>::from_option(default).is_ok()
                    }
                    Kind::Str | Kind::List | Kind::Multi => true,
                };
                assert!(good, "[{section}] {} = {default}", known.name);
            }
        }
    }

    #[test]
    fn every_old_name_leads_to_a_known_option() {
        for row in renamed::RENAMED {
            assert!(find(row.section, row.option).is_some(), "{row:?}");
        }
    }
}
