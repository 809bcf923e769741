//! Reading `cinder.conf`: oslo.config's INI dialect and the meaning of its options.
//!
//! A [`Config`] is made from the texts of the files in the order they were named and from the environment; nothing is read
//! here. Values come, in this order, from the environment (`OS_<SECTION>__<OPTION>`), the last file that has the option
//! (or an old name of it), a default that the binary supplied, and the table of known options ([`known`]). A backend's
//! section falls back to `[backend_defaults]` before the defaults. `$option`, `${option}` and `$section.option` are replaced
//! when a value is read, so that the order of files does not matter to them.

mod ini;
pub mod known;
mod substitute;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;

pub use value::FromOption;

use known::{Kind, Known};

/// The section every deployment has.
pub const DEFAULT: &str = "DEFAULT";
/// The section that backend sections fall back to.
pub const BACKEND_DEFAULTS: &str = "backend_defaults";

/// Where a value was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of a file; lines count from 1.
    File { name: String, line: u32 },
    /// An environment variable.
    Environment(String),
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Why a configuration cannot be used. The text names file, line, section and option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A line that is not oslo.config's INI.
    #[error("{file}:{line}: {problem}")]
    Syntax { file: String, line: u32, problem: &'static str },
    /// A value that does not mean anything for its option.
    #[error("{origin}: [{section}] {option}: {problem}")]
    Value { origin: Origin, section: String, option: String, problem: String },
    /// An option without which the service cannot run.
    #[error("[{section}] {option} is required")]
    Missing { section: String, option: String },
}

/// An option or a whole section that nobody reads; for one warning each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    pub origin: Origin,
    pub section: String,
    /// `None`: the section itself.
    pub option: Option<String>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.option {
            Some(option) => write!(f, "{}: unknown option {option} in [{}]", self.origin, self.section),
            None => write!(f, "{}: unknown section [{}]", self.origin, self.section),
        }
    }
}

/// An option given by an old name; for one warning each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldName {
    pub origin: Origin,
    pub section: String,
    pub old: String,
    /// The name to use: `option` or `[section] option`.
    pub new: String,
}

impl fmt::Display for OldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} in [{}] is now called {}", self.origin, self.old, self.section, self.new)
    }
}

/// One assignment of a file.
#[derive(Clone)]
struct Entry {
    file: usize,
    line: u32,
    text: String,
}

/// A section as the files spell it.
#[derive(Clone, Default)]
struct Read {
    spelling: String,
    /// Where it opens first: file and line.
    opened: (usize, u32),
    /// In the order of files and lines.
    options: BTreeMap<String, Vec<Entry>>,
}

/// A service's configuration.
#[derive(Clone, Default)]
pub struct Config {
    files: Vec<String>,
    /// By normalised name.
    sections: BTreeMap<String, Read>,
    environment: BTreeMap<String, String>,
    defaults: BTreeMap<(String, String), String>,
}

/// Values may be secrets: shows where they came from only.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("files", &self.files)
            .field("sections", &self.sections.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// A section's name as it is looked up: `DEFAULT` is itself, any other is lower case (so `[default]` is another section).
fn normalise(section: &str) -> String {
    if section == DEFAULT { DEFAULT.to_owned() } else { section.to_lowercase() }
}

/// The files of a configuration directory in the order oslo.config reads them: those named `*.conf`, sorted.
pub fn directory_order(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut files: Vec<String> =
        names.into_iter().filter(|name| name.ends_with(".conf") && !name.starts_with('.')).collect();
    files.sort();
    files
}

impl Config {
    /// Reads files, later ones over earlier ones, and the environment. Of the environment only `OS_<SECTION>__<OPTION>`
    /// is kept.
    ///
    /// # Errors
    /// The first line that is neither section, comment, assignment nor continuation.
    pub fn parse<N: AsRef<str>, T: AsRef<str>>(
        files: &[(N, T)],
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut config = Self {
            files: files.iter().map(|(name, _)| name.as_ref().to_owned()).collect(),
            environment: environment
                .into_iter()
                .filter(|(name, _)| name.starts_with("OS_") && name.contains("__"))
                .collect(),
            ..Self::default()
        };
        for (file, (name, text)) in files.iter().enumerate() {
            let lines = ini::read(text.as_ref()).map_err(|bad| ConfigError::Syntax {
                file: name.as_ref().to_owned(),
                line: bad.line,
                problem: bad.problem,
            })?;
            for item in lines {
                config.take(file, item);
            }
        }
        Ok(config)
    }

    fn take(&mut self, file: usize, item: ini::Item) {
        match item {
            ini::Item::Section { name, line } => {
                self.sections.entry(normalise(&name)).or_insert_with(|| Read {
                    spelling: name,
                    opened: (file, line),
                    options: BTreeMap::new(),
                });
            }
            ini::Item::Assignment { section, option, text, line } => {
                let read = self.sections.entry(normalise(&section)).or_default();
                read.options.entry(option).or_default().push(Entry { file, line, text });
            }
        }
    }

    /// Sets what an option is when nobody sets it: for defaults that depend on the machine or on flags. `section` may be
    /// [`BACKEND_DEFAULTS`], which every backend falls back to.
    pub fn set_default(&mut self, section: &str, option: &str, value: impl Into<String>) {
        self.defaults.insert((normalise(section), option.to_owned()), value.into());
    }

    /// A section's options; those of a section that no file has are its defaults.
    pub fn section(&self, name: &str) -> Section<'_> {
        Section { config: self, name: name.to_owned(), backend: normalise(name) == BACKEND_DEFAULTS }
    }

    /// `[DEFAULT]`.
    pub fn default_section(&self) -> Section<'_> {
        self.section(DEFAULT)
    }

    /// The options of a backend: its section, then `[backend_defaults]`, then the defaults.
    pub fn backend(&self, name: &str) -> Section<'_> {
        Section { config: self, name: name.to_owned(), backend: true }
    }

    /// The enabled backends, in the order of `enabled_backends`; none when it is not set.
    ///
    /// # Errors
    /// A name that is listed twice, that belongs to another section, or that has no section.
    pub fn backends(&self) -> Result<Vec<Section<'_>>, ConfigError> {
        let section = self.default_section();
        let names: Vec<String> = section.get("enabled_backends")?.unwrap_or_default();
        let mut seen = BTreeSet::new();
        let mut backends = Vec::new();
        for name in names.into_iter().filter(|name| !name.is_empty()) {
            let problem = if !seen.insert(normalise(&name)) {
                format!("backend {name} is listed twice")
            } else if known::is_section(&normalise(&name)) {
                format!("a backend cannot be called {name}: that section has another meaning")
            } else if !self.has_section(&name) {
                format!("backend {name} has no section [{name}]")
            } else {
                backends.push(self.backend(&name));
                continue;
            };
            return Err(section.error("enabled_backends", problem));
        }
        Ok(backends)
    }

    /// Whether a file, the environment or a supplied default says anything about a section.
    pub fn has_section(&self, name: &str) -> bool {
        let prefix = format!("OS_{}__", name.to_uppercase());
        let name = normalise(name);
        self.sections.contains_key(&name)
            || self.defaults.keys().any(|(section, _)| *section == name)
            || self.environment.keys().any(|variable| variable.starts_with(&prefix))
    }

    /// The names of the sections that files have, as the first of them spells each, sorted.
    pub fn section_names(&self) -> impl Iterator<Item = &str> {
        self.sections.values().map(|read| read.spelling.as_str())
    }

    /// What files set and nobody reads, each once, in the order of sections.
    pub fn unknown_options(&self) -> Vec<Unknown> {
        let enabled = self.enabled_names();
        let mut unknown = Vec::new();
        for (name, read) in &self.sections {
            let Some(table) = self.table_of(name, read, &enabled) else {
                unknown.push(Unknown {
                    origin: self.at(read.opened.0, read.opened.1),
                    section: read.spelling.clone(),
                    option: None,
                });
                continue;
            };
            for (option, entries) in &read.options {
                if known::find(table, option).is_none() && known::renamed(table, option).is_none() {
                    unknown.push(Unknown {
                        origin: self.origin(&entries[0]),
                        section: read.spelling.clone(),
                        option: Some(option.clone()),
                    });
                }
            }
        }
        unknown
    }

    /// The options that files give by old names, each once.
    pub fn old_names(&self) -> Vec<OldName> {
        let enabled = self.enabled_names();
        let mut old_names = Vec::new();
        for (name, read) in &self.sections {
            let Some(table) = self.table_of(name, read, &enabled) else { continue };
            for (option, entries) in &read.options {
                // A name that is also an option of its own is not an old one.
                if known::find(table, option).is_some() {
                    continue;
                }
                if let Some(renamed) = known::renamed(table, option) {
                    let new = match renamed.old_section {
                        None => renamed.option.to_owned(),
                        Some(_) => format!("{} in [{}]", renamed.option, renamed.section),
                    };
                    old_names.push(OldName {
                        origin: self.origin(&entries[0]),
                        section: read.spelling.clone(),
                        old: option.clone(),
                        new,
                    });
                }
            }
        }
        old_names
    }

    fn enabled_names(&self) -> BTreeSet<String> {
        let names: Option<Vec<String>> = self.default_section().get("enabled_backends").unwrap_or_default();
        names.unwrap_or_default().iter().map(|name| normalise(name)).collect()
    }

    /// The section whose table of known options holds for a section: a section that is enabled as a backend, or that
    /// names a driver, is a backend's.
    fn table_of<'a>(&self, name: &'a str, read: &Read, enabled: &BTreeSet<String>) -> Option<&'a str> {
        if known::is_section(name) {
            Some(name)
        } else if enabled.contains(name) || read.options.contains_key("volume_driver") {
            Some(BACKEND_DEFAULTS)
        } else {
            None
        }
    }

    fn at(&self, file: usize, line: u32) -> Origin {
        Origin::File { name: self.files[file].clone(), line }
    }

    fn origin(&self, entry: &Entry) -> Origin {
        self.at(entry.file, entry.line)
    }
}

/// What a look-up found.
struct Found<'a> {
    text: &'a str,
    origin: Origin,
}

/// A section's options.
#[derive(Debug, Clone)]
pub struct Section<'a> {
    config: &'a Config,
    name: String,
    backend: bool,
}

impl<'a> Section<'a> {
    /// The section's name as it was asked for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sections that are looked through, nearest first.
    fn chain(&self) -> Vec<String> {
        let own = normalise(&self.name);
        if self.backend && own != BACKEND_DEFAULTS {
            vec![own, BACKEND_DEFAULTS.to_owned()]
        } else {
            vec![own]
        }
    }

    fn known(&self, option: &str) -> Option<&'static Known> {
        let table = if self.backend { BACKEND_DEFAULTS.to_owned() } else { normalise(&self.name) };
        known::find(&table, option)
    }

    /// The names under which `option` may stand in `section`: its own, then its old ones.
    fn names(&self, section: &str, option: &str) -> Vec<(String, String)> {
        let table = if self.backend { BACKEND_DEFAULTS } else { section };
        let mut names = vec![(section.to_owned(), option.to_owned())];
        for renamed in known::old_names(table, option) {
            names.push((renamed.old_section.unwrap_or(section).to_owned(), renamed.old_option.to_owned()));
        }
        names
    }

    fn environment(&self, section: &str, option: &str) -> Option<Found<'a>> {
        let variable = format!("OS_{}__{}", section.to_uppercase(), option.to_uppercase());
        let text = self.config.environment.get(&variable)?;
        Some(Found { text, origin: Origin::Environment(variable) })
    }

    /// The entries of one option in one file, under the first of `names` that the file has.
    fn in_file(&self, file: usize, names: &[(String, String)]) -> Option<Vec<&'a Entry>> {
        names.iter().find_map(|(section, option)| {
            let entries = self.config.sections.get(section)?.options.get(option)?;
            let here: Vec<&Entry> = entries.iter().filter(|entry| entry.file == file).collect();
            (!here.is_empty()).then_some(here)
        })
    }

    fn find(&self, option: &str) -> Option<Found<'a>> {
        for section in self.chain() {
            if let Some(found) = self.environment(&section, option) {
                return Some(found);
            }
            let names = self.names(&section, option);
            for file in (0..self.config.files.len()).rev() {
                if let Some(entry) = self.in_file(file, &names).and_then(|entries| entries.last().copied()) {
                    return Some(Found { text: &entry.text, origin: self.config.origin(entry) });
                }
            }
        }
        self.default_of(option).map(|text| Found { text, origin: Origin::Default })
    }

    fn default_of(&self, option: &str) -> Option<&'a str> {
        let supplied = self
            .chain()
            .into_iter()
            .find_map(|section| self.config.defaults.get(&(section, option.to_owned())))
            .map(String::as_str);
        supplied.or_else(|| self.known(option).and_then(|known| known.default))
    }

    /// Every value of a multi-valued option, in the order of files and lines.
    fn find_all(&self, option: &str) -> Vec<Found<'a>> {
        for section in self.chain() {
            if let Some(found) = self.environment(&section, option) {
                return vec![found];
            }
            let names = self.names(&section, option);
            let found: Vec<Found<'a>> = (0..self.config.files.len())
                .filter_map(|file| self.in_file(file, &names))
                .flatten()
                .map(|entry| Found { text: &entry.text, origin: self.config.origin(entry) })
                .collect();
            if !found.is_empty() {
                return found;
            }
        }
        self.default_of(option).map(|text| Found { text, origin: Origin::Default }).into_iter().collect()
    }

    /// Where an option's value comes from; `None` when it has none.
    pub fn origin(&self, option: &str) -> Option<Origin> {
        self.find(option).map(|found| found.origin)
    }

    /// Whether somebody set the option, be it to nothing.
    pub fn is_set(&self, option: &str) -> bool {
        self.origin(option).is_some_and(|origin| origin != Origin::Default)
    }

    /// An error about an option of this section, for rules that the caller checks.
    pub fn error(&self, option: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            origin: self.origin(option).unwrap_or(Origin::Default),
            section: self.name.clone(),
            option: option.to_owned(),
            problem: problem.into(),
        }
    }

    /// An option's value, its default if nobody set it; `None` when there is neither, and for a number set to nothing.
    ///
    /// # Errors
    /// Text that is no `T`, that lies outside the option's known bounds, or that refers to an unknown option.
    pub fn get<T: FromOption>(&self, option: &str) -> Result<Option<T>, ConfigError> {
        let Some(found) = self.find(option) else { return Ok(None) };
        self.convert(option, &found)
    }

    /// An option's value, which must be there.
    ///
    /// # Errors
    /// Those of [`Section::get`], and [`ConfigError::Missing`].
    pub fn require<T: FromOption>(&self, option: &str) -> Result<T, ConfigError> {
        self.get(option)?
            .ok_or_else(|| ConfigError::Missing { section: self.name.clone(), option: option.to_owned() })
    }

    /// A whole number within `bounds`.
    ///
    /// # Errors
    /// Those of [`Section::get`], and a number outside `bounds`.
    pub fn int_in(&self, option: &str, bounds: RangeInclusive<i64>) -> Result<Option<i64>, ConfigError> {
        let number: Option<i64> = self.get(option)?;
        match number {
            Some(number) if !bounds.contains(&number) => Err(self
                .error(option, format!("{number} is not between {} and {}", bounds.start(), bounds.end()))),
            other => Ok(other),
        }
    }

    /// A number within `bounds`.
    ///
    /// # Errors
    /// Those of [`Section::get`], and a number outside `bounds`.
    pub fn float_in(&self, option: &str, bounds: RangeInclusive<f64>) -> Result<Option<f64>, ConfigError> {
        let number: Option<f64> = self.get(option)?;
        match number {
            Some(number) if !bounds.contains(&number) => Err(self
                .error(option, format!("{number} is not between {} and {}", bounds.start(), bounds.end()))),
            other => Ok(other),
        }
    }

    /// A word out of `choices`.
    ///
    /// # Errors
    /// Those of [`Section::get`], and another word.
    pub fn choice(&self, option: &str, choices: &[&str]) -> Result<Option<String>, ConfigError> {
        let word: Option<String> = self.get(option)?;
        match word {
            Some(word) if !choices.contains(&word.as_str()) => {
                Err(self.error(option, format!("{word:?} is none of: {}", choices.join(", "))))
            }
            other => Ok(other),
        }
    }

    /// Every value of an option that may be given several times; empty when there is none.
    ///
    /// # Errors
    /// Those of [`Section::get`], for each value.
    pub fn multi<T: FromOption>(&self, option: &str) -> Result<Vec<T>, ConfigError> {
        let mut values = Vec::new();
        for found in self.find_all(option) {
            values.extend(self.convert(option, &found)?);
        }
        Ok(values)
    }

    /// Every option that a file sets here, by the name it stands under, with its last value as written; for handing a
    /// section on to a driver that reads its own options.
    pub fn raw(&self) -> BTreeMap<&'a str, &'a str> {
        let mut raw = BTreeMap::new();
        for section in self.chain().iter().rev() {
            if let Some(read) = self.config.sections.get(section) {
                for (option, entries) in &read.options {
                    if let Some(last) = entries.last() {
                        raw.insert(option.as_str(), last.text.as_str());
                    }
                }
            }
        }
        raw
    }

    fn convert<T: FromOption>(&self, option: &str, found: &Found<'_>) -> Result<Option<T>, ConfigError> {
        let known = self.known(option);
        let fail = |problem: String| ConfigError::Value {
            origin: found.origin.clone(),
            section: self.name.clone(),
            option: option.to_owned(),
            problem,
        };
        let text = substitute::expand(self, found.text).map_err(fail)?;
        let shown = || match known {
            Some(known) if known.secret => "its value".to_owned(),
            _ => format!("{text:?}"),
        };
        if let Some(Kind::Int { min, max }) = known.map(|known| known.kind) {
            let number = i64::from_option(&text).map_err(|problem| fail(format!("{} {problem}", shown())))?;
            if number.is_some_and(|number| number < min || number > max) {
                return Err(fail(value::outside(&shown(), min, max)));
            }
        }
        T::from_option(&text).map_err(|problem| fail(format!("{} {problem}", shown())))
    }
}

#[cfg(test)]
mod tests;
