//! `$option`, `${option}`, `$section.option`; `$$` and `\$` are a dollar.
//!
//! A name without a section is looked up in the value's own section, then in `[DEFAULT]`. Work is bounded: a value that refers to
//! itself, or that grows without end, is an error.

use super::known::Kind;
use super::{DEFAULT, FromOption, Section};

/// How deep one value may refer to the next.
const DEPTH: u32 = 16;
/// How many references one value may lead to in all.
const REFERENCES: u32 = 1000;

/// Replaces the references in `text`, a value of `section`.
pub(super) fn expand(section: &Section<'_>, text: &str) -> Result<String, String> {
    let mut references = REFERENCES;
    expand_to(section, text, DEPTH, &mut references)
}

fn expand_to(section: &Section<'_>, text: &str, depth: u32, references: &mut u32) -> Result<String, String> {
    if !text.contains('$') {
        return Ok(text.to_owned());
    }
    let text = text.replace("\\$", "$$");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = reference(rest) {
            if depth == 0 || *references == 0 {
                return Err(format!("the references of ${name} lead nowhere: is there a loop?"));
            }
            *references -= 1;
            out.push_str(&resolve(section, name, depth - 1, references)?);
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The name that follows a dollar, bare or in braces, and what comes after it.
fn reference(rest: &str) -> Option<(&str, &str)> {
    if let Some(braced) = rest.strip_prefix('{') {
        let (name, after) = name(braced)?;
        return Some((name, after.strip_prefix('}')?));
    }
    name(rest)
}

fn name(rest: &str) -> Option<(&str, &str)> {
    if !rest.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic()) {
        return None;
    }
    let end = rest.find(|c: char| c != '_' && c != '.' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    Some(rest.split_at(end))
}

fn resolve(section: &Section<'_>, name: &str, depth: u32, references: &mut u32) -> Result<String, String> {
    let (homes, option) = match name.split_once('.') {
        Some((other, option)) => (vec![section.config.section(other)], option),
        None => (vec![section.clone(), section.config.section(DEFAULT)], name),
    };
    for section in homes {
        if let Some(found) = section.find(option) {
            let text = expand_to(&section, found.text, depth, references)?;
            return Ok(match section.known(option).map(|known| known.kind) {
                // oslo.config puts the value in, not its spelling.
                Some(Kind::Bool) => match bool::from_option(&text) {
                    Ok(Some(true)) => "True".to_owned(),
                    Ok(Some(false)) => "False".to_owned(),
                    _ => text,
                },
                _ => text,
            });
        }
        if section.known(option).is_some() {
            return Ok(String::new());
        }
    }
    Err(format!("refers to an unknown option: ${name} (write $$ for a plain dollar)"))
}
