//! Who may do what: oslo.policy's rules, Cinder's defaults, the operator's `policy.yaml`.
//!
//! A [`Policy`] is read once, at start, and then only asked. Whatever is not allowed is denied: a rule that does not exist, a
//! field that the target lacks. Files that cannot be understood, or whose rules refer to each other in a circle, are refused whole.
//!
//! Not here: which project's rows a caller sees (the database layer's filters), and the choice of the target (the API's).

mod check;
mod file;
mod rules;
mod sample;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

pub use rules::{Action, BASE, Old, Rule};
pub use sample::sample;

use crate::{Context, Error, Result};
use check::Check;

/// How long a chain of rules may be that refer to each other.
const CHAIN: usize = 32;
/// How many checks one decision may cost at most.
const COST: u64 = 100_000;

/// What is acted upon, as far as rules look at it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Target<'a> {
    pub project_id: Option<&'a str>,
    pub user_id: Option<&'a str>,
    /// Further fields, for checks that an operator writes: `%(host)s`.
    pub fields: Option<&'a serde_json::Map<String, Value>>,
}

impl<'a> Target<'a> {
    /// No object yet: the caller's own project and self.
    pub fn own(context: &'a Context) -> Self {
        Self::of(&context.project_id, &context.user_id)
    }

    /// An object of a project and a user.
    pub fn of(project_id: &'a str, user_id: &'a str) -> Self {
        Self { project_id: Some(project_id), user_id: Some(user_id), fields: None }
    }

    /// A project itself, as quota sets are.
    pub fn project(project_id: &'a str) -> Self {
        Self { project_id: Some(project_id), ..Self::default() }
    }

    /// A field as text, spelled as Python would.
    fn field(&self, name: &str) -> Option<Cow<'a, str>> {
        let plain = match name {
            "project_id" => self.project_id,
            "user_id" => self.user_id,
            _ => None,
        };
        if let Some(text) = plain {
            return Some(Cow::Borrowed(text));
        }
        Some(match self.fields?.get(name)? {
            Value::String(text) => Cow::Borrowed(text.as_str()),
            Value::Bool(true) => Cow::Borrowed("True"),
            Value::Bool(false) => Cow::Borrowed("False"),
            Value::Null => Cow::Borrowed("None"),
            other => Cow::Owned(other.to_string()),
        })
    }
}

/// `[oslo_policy]`, as far as rules go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Off: what a rule was before the present defaults still allows.
    pub enforce_new_defaults: bool,
    /// The rule of `policy.yaml`, if it has it, that stands for rules that do not exist.
    pub default_rule: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { enforce_new_defaults: true, default_rule: "default".into() }
    }
}

/// Why policy files are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("{file}: not a policy file: {problem}")]
    File { file: String, problem: String },
    #[error("{file}: rule {rule:?}: {problem}")]
    Check { file: String, rule: String, problem: String },
    #[error("policy rule {rule:?} refers to itself, through {through:?}")]
    Loop { rule: String, through: String },
    #[error("policy rule {0:?} leads through more than {CHAIN} rules")]
    Chain(String),
    #[error("policy rule {0:?} takes more than {COST} checks to decide")]
    Cost(String),
}

/// The rules in force.
#[derive(Clone)]
pub struct Policy {
    rules: HashMap<String, Check>,
    default_rule: String,
    warnings: Vec<String>,
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy").field("rules", &self.rules.len()).finish_non_exhaustive()
    }
}

impl Default for Policy {
    /// Cinder's defaults.
    fn default() -> Self {
        Self::load::<&str, &str>(&[], &Options::default()).expect("the table's rules are tested")
    }
}

impl Policy {
    /// Reads policy files, name and text, later ones over earlier ones: `policy.yaml`, then those of `policy.d` in the order of
    /// their names.
    ///
    /// # Errors
    /// The first thing that cannot be understood; see [`PolicyError`].
    pub fn load<N: AsRef<str>, T: AsRef<str>>(
        files: &[(N, T)],
        options: &Options,
    ) -> Result<Self, PolicyError> {
        let mut written = BTreeMap::new();
        for (name, text) in files {
            written.extend(file::read(name.as_ref(), text.as_ref())?);
        }
        let mut warnings = Vec::new();
        let mut rules: HashMap<String, Check> = HashMap::new();
        let registered = BASE.iter().chain(Action::ALL.iter().map(|action| action.rule()));
        for rule in registered.filter(|rule| !written.contains_key(rule.name)) {
            rules.insert(rule.name.to_owned(), in_force(rule, &written, options, &mut warnings));
        }
        rules.extend(written.iter().map(|(name, check)| (name.clone(), check.clone())));
        let mut policy = Self { rules, default_rule: options.default_rule.clone(), warnings };
        policy.warn_of_strangers(&written);
        policy.refuse_loops()?;
        Ok(policy)
    }

    /// What an operator should be told once: unknown rules, old names, references that lead nowhere.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether the caller may do this to the target.
    pub fn allows(&self, action: Action, context: &Context, target: &Target<'_>) -> bool {
        self.allows_rule(action.rule().name, context, target)
    }

    /// The same for a rule by its name; a rule that does not exist denies.
    pub fn allows_rule(&self, rule: &str, context: &Context, target: &Target<'_>) -> bool {
        self.find(rule).is_some_and(|check| check.allows(context, target, &|name| self.find(name)))
    }

    /// Passes if the caller may do this to the target.
    ///
    /// # Errors
    /// [`Error::Forbidden`] with the rule's name.
    pub fn require(&self, action: Action, context: &Context, target: &Target<'_>) -> Result<()> {
        if self.allows(action, context, target) {
            Ok(())
        } else {
            Err(Error::Forbidden(action.rule().name.to_owned()))
        }
    }

    /// Whether the caller is an administrator: what [`Context::is_admin`] is set to when a request comes in.
    pub fn is_admin(&self, context: &Context) -> bool {
        self.allows_rule("context_is_admin", context, &Target::own(context))
    }

    fn find(&self, rule: &str) -> Option<&Check> {
        self.rules.get(rule).or_else(|| self.rules.get(&self.default_rule))
    }

    fn warn_of_strangers(&mut self, written: &BTreeMap<String, Check>) {
        let referred: BTreeSet<&str> = self.rules.values().flat_map(Check::references).collect();
        let mut warnings = Vec::new();
        for name in written.keys() {
            let known = registered(name).is_some() || *name == self.default_rule || is_old_name(name);
            if !known && !referred.contains(name.as_str()) {
                warnings.push(format!("unknown policy rule {name:?}: nothing asks for it"));
            }
        }
        for (name, check) in written {
            for reference in check.references() {
                if self.find(reference).is_none() {
                    warnings.push(format!(
                        "policy rule {name:?} refers to {reference:?}, which does not exist: that part denies"
                    ));
                }
            }
        }
        self.warnings.extend(warnings);
    }

    /// Makes sure that every decision ends, and soon.
    fn refuse_loops(&self) -> Result<(), PolicyError> {
        let mut walk = Walk { policy: self, path: Vec::new(), done: HashMap::new() };
        let names: BTreeSet<&String> = self.rules.keys().collect();
        for name in names {
            walk.visit(name)?;
        }
        Ok(())
    }
}

/// What visiting a rule found out.
#[derive(Clone, Copy)]
struct Extent {
    chain: usize,
    cost: u64,
}

/// A walk along references.
struct Walk<'a> {
    policy: &'a Policy,
    path: Vec<&'a str>,
    done: HashMap<&'a str, Extent>,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, name: &'a str) -> Result<Extent, PolicyError> {
        // A rule that does not exist is the default rule.
        let name = if self.policy.rules.contains_key(name) { name } else { &self.policy.default_rule };
        let Some(check) = self.policy.rules.get(name) else { return Ok(Extent { chain: 0, cost: 1 }) };
        if self.path.contains(&name) {
            let through = self.path.last().copied().unwrap_or(name).to_owned();
            return Err(PolicyError::Loop { rule: name.to_owned(), through });
        }
        let extent = match self.done.get(name) {
            Some(extent) => *extent,
            None => {
                if self.path.len() == CHAIN {
                    return Err(PolicyError::Chain(self.path[0].to_owned()));
                }
                self.path.push(name);
                let mut extent = Extent { chain: 0, cost: check.size() };
                for reference in check.references() {
                    let below = self.visit(reference)?;
                    extent.chain = extent.chain.max(below.chain);
                    extent.cost = extent.cost.saturating_add(below.cost);
                }
                self.path.pop();
                extent.chain += 1;
                extent
            }
        };
        if extent.cost > COST {
            return Err(PolicyError::Cost(name.to_owned()));
        }
        if self.path.len() + extent.chain > CHAIN {
            return Err(PolicyError::Chain(self.path.first().copied().unwrap_or(name).to_owned()));
        }
        self.done.insert(name, extent);
        Ok(extent)
    }
}

fn registered(name: &str) -> Option<&'static Rule> {
    BASE.iter().find(|rule| rule.name == name).or_else(|| Action::named(name).map(Action::rule))
}

fn is_old_name(name: &str) -> bool {
    Action::ALL.iter().any(|action| action.rule().old.is_some_and(|old| old.name == Some(name)))
}

fn parsed(check: &str) -> Check {
    Check::parse(check).expect("the table's checks are tested")
}

/// The check of a registered rule that no file has under its own name.
fn in_force(
    rule: &Rule,
    written: &BTreeMap<String, Check>,
    options: &Options,
    warnings: &mut Vec<String>,
) -> Check {
    let now = parsed(rule.check);
    let Some(old) = rule.old else { return now };
    if let Some((name, check)) = old.name.and_then(|name| written.get_key_value(name)) {
        warnings.push(format!("policy rule {name:?} is an old name of {:?}: use that", rule.name));
        // The operator's wish under the old name holds, unless it is what the old default was, or only points here.
        if *check != parsed(old.check) && *check != Check::Rule(rule.name.to_owned()) {
            return check.clone();
        }
    }
    if !options.enforce_new_defaults && old.check != rule.check {
        return Check::Any(vec![now, parsed(old.check)]);
    }
    now
}

#[cfg(test)]
mod tests;
