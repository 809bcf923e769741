//! oslo.config's INI dialect, line by line.
//!
//! - `[section]` must end its line; the name is taken as it stands.
//! - `option = value` or `option: value`, whichever mark comes first; white space around both is dropped, and so is one pair of
//!   equal quotes around the whole value.
//! - A line that starts with a blank continues the value above it with a new line, even if it looks like a comment.
//! - An empty line or a comment (`#` or `;` in the first column) ends a value.

/// What a file says, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Section {
        name: String,
        line: u32,
    },
    /// `line` is where it starts.
    Assignment {
        section: String,
        option: String,
        text: String,
        line: u32,
    },
}

/// A line that is none of the above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadLine {
    pub line: u32,
    pub problem: &'static str,
}

/// Reads a file's text.
pub(super) fn read(text: &str) -> Result<Vec<Item>, BadLine> {
    // Some editors put a byte-order mark in front; it is no part of the first line.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut items = Vec::new();
    let mut section: Option<String> = None;
    // Whether the last item is an assignment that an indented line would continue.
    let mut open = false;
    for (index, whole) in lines(text).enumerate() {
        let line = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let bad = |problem| BadLine { line, problem };
        let content = whole.trim_end();
        if content.starts_with([' ', '\t']) {
            match items.last_mut() {
                Some(Item::Assignment { text, .. }) if open => {
                    text.push('\n');
                    text.push_str(content.trim_start());
                }
                _ => return Err(bad("an indented line continues a value, and there is none above it")),
            }
            continue;
        }
        open = false;
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = content.strip_prefix('[') {
            let name = section_name(rest).map_err(bad)?;
            section = Some(name.to_owned());
            items.push(Item::Section { name: name.to_owned(), line });
            continue;
        }
        let (option, text) = assignment(content).map_err(bad)?;
        let section = section.clone().ok_or(bad("an option stands before the first [section]"))?;
        items.push(Item::Assignment { section, option: option.to_owned(), text: text.to_owned(), line });
        open = true;
    }
    Ok(items)
}

/// The lines of a text whose lines may end in LF, CR LF or CR.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

fn section_name(rest: &str) -> Result<&str, &'static str> {
    match rest.strip_suffix(']') {
        Some("") => Err("a section needs a name"),
        Some(name) => Ok(name),
        None => Err("a section's line must end with ]"),
    }
}

fn assignment(content: &str) -> Result<(&str, &str), &'static str> {
    let (option, value) =
        content.split_once(['=', ':']).ok_or("not a section, a comment or an assignment: no = or : in it")?;
    let option = option.trim();
    if option.is_empty() {
        return Err("an assignment needs an option's name");
    }
    Ok((option, unquote(value.trim())))
}

/// Drops one pair of equal quotes around a value. A lone quote is both of its ends, as for oslo.config.
fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            return if rest.is_empty() { "" } else { rest.strip_suffix(quote).unwrap_or(value) };
        }
    }
    value
}
