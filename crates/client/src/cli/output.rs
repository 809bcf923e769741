//! What a command prints: tables for people, JSON for programs.

use std::io::{IsTerminal, Write};

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::{Error, Result};

/// How results are printed.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
    is_terminal: bool,
    colour: bool,
}

impl Output {
    /// Colours only on a terminal, and not with `NO_COLOR` set.
    pub fn new(json: bool) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, is_terminal, colour: is_terminal && !no_colour }
    }

    /// A list: one row an item.
    pub fn list<T: Serialize>(
        &self,
        header: &[&str],
        items: &[T],
        row: impl Fn(&T) -> Vec<String>,
    ) -> Result<()> {
        if self.json {
            return print_json(&items);
        }
        let mut table = self.table();
        table.set_header(header.iter().map(|name| Cell::new(name.to_uppercase())));
        for item in items {
            let cells = row(item).into_iter().zip(header).map(|(text, name)| self.cell(name, text));
            table.add_row(cells);
        }
        print(&format!("{}\n", trimmed(&table)))
    }

    /// One item: a row a field.
    pub fn one<T: Serialize>(&self, item: &T, fields: &[(&str, String)]) -> Result<()> {
        if self.json {
            return print_json(item);
        }
        let mut table = self.table();
        for (name, text) in fields {
            table.add_row([Cell::new(name), self.cell(name, text.clone())]);
        }
        print(&format!("{}\n", trimmed(&table)))
    }

    /// A line for people; nothing with `--json`.
    pub fn say(&self, line: &str) -> Result<()> {
        if self.json { Ok(()) } else { print(&format!("{line}\n")) }
    }

    /// Columns fit the terminal; for a file or a pipe every row stays one line.
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let arrangement =
            if self.is_terminal { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
        table.set_content_arrangement(arrangement);
        table
    }

    fn cell(&self, name: &str, text: String) -> Cell {
        let colour = if matches!(name, "status" | "state") { colour_of(&text) } else { None };
        match colour.filter(|_| self.colour) {
            Some(colour) => Cell::new(text).fg(colour),
            None => Cell::new(text),
        }
    }
}

/// Rows without the blanks that pad the last column.
fn trimmed(table: &Table) -> String {
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

fn colour_of(status: &str) -> Option<Color> {
    match status {
        "available" | "up" | "enabled" | "done" | "attached" => Some(Color::Green),
        "in-use" | "reserved" => Some(Color::Cyan),
        "down" | "failed" => Some(Color::Red),
        _ if status.starts_with("error") => Some(Color::Red),
        _ if status.ends_with("ing") || status.contains("ing-") => Some(Color::Yellow),
        _ => None,
    }
}

/// A text, or `-`.
pub fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

/// A time to the second.
pub fn seconds(time: Option<&str>) -> String {
    or_dash(time.map(|time| time.split('.').next().unwrap_or(time)))
}

/// `key=value, key=value`, or `-`.
pub fn pairs<K: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> String {
    let texts: Vec<_> =
        pairs.into_iter().map(|(key, value)| format!("{}={}", key.as_ref(), value.as_ref())).collect();
    or_dash(Some(texts.join(", ").as_str()))
}

fn print_json<T: Serialize + ?Sized>(value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value).expect("what came as JSON can be written as JSON");
    print(&format!("{text}\n"))
}

/// Prints to standard output; a reader that has gone away (`| head`) is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::Usage(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_empty_texts_show_as_a_dash() {
        assert_eq!(or_dash(None), "-");
        assert_eq!(or_dash(Some("")), "-");
        assert_eq!(pairs(Vec::<(String, String)>::new()), "-");
        assert_eq!(pairs([("a", "1"), ("b", "2")]), "a=1, b=2");
        assert_eq!(seconds(Some("2026-11-21T19:15:32.713049")), "2026-11-21T19:15:32");
    }

    #[test]
    fn statuses_under_way_and_in_error_stand_out() {
        assert_eq!(colour_of("creating"), Some(Color::Yellow));
        assert_eq!(colour_of("backing-up"), Some(Color::Yellow));
        assert_eq!(colour_of("error_deleting"), Some(Color::Red));
        assert_eq!(colour_of("available"), Some(Color::Green));
    }
}
