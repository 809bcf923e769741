//! The rules themselves, each a function over the tokens of one file.

use super::lexer::{Kind, Token, tokens};
use crate::suite::SUITES;

const MOST_FUNCTION_LINES: usize = 70;
const MOST_FILE_LINES: usize = 800;

/// Where microversions are spelled.
const MICROVERSION_HOME: &str = "crates/wire/src/microversion";
/// Where statuses are written.
const STATUS_HOME: &str = "crates/db/src/transition";
/// Tables whose status only [`STATUS_HOME`] may change.
const STATUS_TABLES: &[&str] = &["volumes", "snapshots", "backups", "volume_attachment"];

/// A call that is not made, except at home.
struct Forbidden {
    /// Words joined by `::` or a macro's name with `!`.
    call: &'static str,
    homes: &'static [&'static str],
    instead: &'static str,
}

#[rustfmt::skip] // a table reads best as a table
const FORBIDDEN: &[Forbidden] = &[
    Forbidden { call: "SystemTime::now", homes: &[],                          instead: "chrono::Utc::now, or the database's clock for what is stored" },
    Forbidden { call: "Uuid::new_v4",    homes: &["crates/model/src/id.rs", "crates/api/src/edge.rs", "crates/api/src/auth/", "crates/cinderblock/src/demo/"], instead: "the typed ids of model" },
    Forbidden { call: "thread::sleep",   homes: &["xtask/"],                  instead: "an event, or tokio::time" },
    Forbidden { call: "process::exit",   homes: &[],                          instead: "returning from main, so that guards are dropped" },
    Forbidden { call: "println!",        homes: &["crates/cinderblock/", "crates/client/src/cli", "xtask/"], instead: "tracing" },
    Forbidden { call: "eprintln!",       homes: &["crates/cinderblock/", "crates/client/src/cli", "xtask/"], instead: "tracing" },
    Forbidden { call: "todo!",           homes: &[],                          instead: "finishing it" },
    Forbidden { call: "unimplemented!",  homes: &[],                          instead: "finishing it" },
    Forbidden { call: "dbg!",            homes: &[],                          instead: "tracing" },
];

/// Checks one file; `path` is relative to the workspace.
pub fn check(path: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let tests = test_regions(path, &tokens);
    let code: Vec<_> =
        tokens.iter().filter(|token| !matches!(token.kind, Kind::Comment(_))).cloned().collect();
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > MOST_FILE_LINES {
        findings.push((lines, format!("{lines} lines in one file, of at most {MOST_FILE_LINES}")));
    }
    function_lengths(&code, &mut findings);
    microversions(path, &code, &tests, &mut findings);
    status_writes(path, &code, &tests, &mut findings);
    unowned_todos(&tokens, &mut findings);
    silent_ignores(&code, &mut findings);
    forbidden_calls(path, &code, &tests, &mut findings);
    findings.sort();
    findings.into_iter().map(|(line, what)| format!("{path}:{line}: {what}")).collect()
}

type Findings = Vec<(usize, String)>;

/// Ranges of lines that only tests compile.
fn test_regions(path: &str, tokens: &[Token]) -> Vec<std::ops::RangeInclusive<usize>> {
    if ["/tests/", "/benches/", "/examples/"].iter().any(|folder| path.contains(folder))
        || path.ends_with("/tests.rs")
    {
        return std::iter::once(1..=usize::MAX).collect();
    }
    let code: Vec<_> = tokens.iter().filter(|token| !matches!(token.kind, Kind::Comment(_))).collect();
    let mut regions = Vec::new();
    for (at, window) in code.windows(6).enumerate() {
        let is_test = window[0].is_mark('#')
            && window[1].is_mark('[')
            && window[2].is_word("cfg")
            && window[3].is_mark('(')
            && (window[4].is_word("test") || window[4].is_word("any"))
            && (window[4].is_word("test") || code[at..].iter().take(12).any(|token| token.is_word("test")));
        if !is_test {
            continue;
        }
        let rest = &code[at..];
        let end = match rest.iter().position(|token| token.is_mark('{') || token.is_mark(';')) {
            Some(open) if rest[open].is_mark('{') => closing(rest, open),
            Some(semicolon) => semicolon,
            None => rest.len() - 1,
        };
        regions.push(window[0].line..=rest[end].line);
    }
    regions
}

/// The index of the brace that closes the one at `open`; the last token when none does.
fn closing<T: std::borrow::Borrow<Token>>(tokens: &[T], open: usize) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.borrow().kind {
            Kind::Mark('{') => depth += 1,
            Kind::Mark('}') => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    tokens.len().saturating_sub(1)
}

fn in_tests(tests: &[std::ops::RangeInclusive<usize>], line: usize) -> bool {
    tests.iter().any(|region| region.contains(&line))
}

fn function_lengths(code: &[Token], findings: &mut Findings) {
    for (at, token) in code.iter().enumerate() {
        let Some(Kind::Word(name)) = code.get(at + 1).map(|next| &next.kind) else { continue };
        if !token.is_word("fn") {
            continue;
        }
        let Some(open) = body_of(code, at) else { continue };
        let end = closing(code, open);
        let lines = code[end].line - token.line + 1;
        if lines > MOST_FUNCTION_LINES {
            findings
                .push((token.line, format!("fn {name} has {lines} lines, of at most {MOST_FUNCTION_LINES}")));
        }
    }
}

/// The opening brace of the function whose `fn` is at `at`; `None` for a declaration without a body.
fn body_of(code: &[Token], at: usize) -> Option<usize> {
    let mut depth = 0i32;
    for (index, token) in code.iter().enumerate().skip(at) {
        match token.kind {
            Kind::Mark('(' | '[') => depth += 1,
            Kind::Mark(')' | ']') => depth -= 1,
            Kind::Mark('{') if depth == 0 => return Some(index),
            Kind::Mark(';') if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// A `3.N` in a text, or `v(3, N)` and the like in code: microversions are compared in one table only.
fn microversions(
    path: &str,
    code: &[Token],
    tests: &[std::ops::RangeInclusive<usize>],
    findings: &mut Findings,
) {
    if path.starts_with(MICROVERSION_HOME) || path.starts_with("xtask/") {
        return;
    }
    for (at, token) in code.iter().enumerate() {
        if in_tests(tests, token.line) {
            continue;
        }
        let found = match &token.kind {
            Kind::Text(text) => spells_microversion(text),
            Kind::Number(number) => is_call_with_version(code, at, number),
            _ => false,
        };
        if found {
            findings.push((token.line, format!("a microversion outside {MICROVERSION_HOME}.rs")));
        }
    }
}

/// Whether the text is a `3.N`, or asks for one as the header does: `volume 3.N`.
fn spells_microversion(text: &str) -> bool {
    let number = text.rsplit_once("volume ").map_or(text, |(_, number)| number);
    let minor = number.trim().strip_prefix("3.").unwrap_or_default();
    (1..=2).contains(&minor.len()) && minor.bytes().all(|byte| byte.is_ascii_digit())
}

/// `v(3, 42)`, `Version::new(3, 42)`.
fn is_call_with_version(code: &[Token], at: usize, number: &str) -> bool {
    let is_caller = |token: &Token| match &token.kind {
        Kind::Word(word) => word == "v" || word == "new" || word.contains("ersion"),
        _ => false,
    };
    number == "3"
        && at >= 2
        && code[at - 1].is_mark('(')
        && is_caller(&code[at - 2])
        && code.get(at + 1).is_some_and(|next| next.is_mark(','))
        && matches!(code.get(at + 2).map(|next| &next.kind), Some(Kind::Number(_)))
        && code.get(at + 3).is_some_and(|next| next.is_mark(')'))
}

/// An UPDATE of a status: one place makes transitions.
fn status_writes(
    path: &str,
    code: &[Token],
    tests: &[std::ops::RangeInclusive<usize>],
    findings: &mut Findings,
) {
    if path.starts_with(STATUS_HOME) || path.starts_with("xtask/") {
        return;
    }
    for token in code {
        let Kind::Text(text) = &token.kind else { continue };
        if !in_tests(tests, token.line) && writes_status(text) {
            findings.push((token.line, format!("a status written outside {STATUS_HOME}.rs")));
        }
    }
}

fn writes_status(sql: &str) -> bool {
    let lower = sql.to_lowercase();
    let words: Vec<_> = lower.split(|char: char| !(char.is_alphanumeric() || char == '_')).collect();
    let updates = words.windows(2).any(|pair| pair[0] == "update" && STATUS_TABLES.contains(&pair[1]));
    let Some((_, assignments)) = lower.split_once(" set ").filter(|_| updates) else { return false };
    let assignments = assignments.split(" where ").next().unwrap_or_default();
    let assigned = |part: &str| part.split('=').next().map(|name| name.trim().to_owned()).unwrap_or_default();
    assignments.split(',').any(|part| matches!(assigned(part).as_str(), "status" | "attach_status"))
}

fn unowned_todos(tokens: &[Token], findings: &mut Findings) {
    for token in tokens {
        let Kind::Comment(text) = &token.kind else { continue };
        let is_todo = text
            .split(|char: char| !char.is_alphanumeric())
            .any(|word| matches!(word, "TODO" | "FIXME" | "XXX" | "HACK"));
        let names_issue =
            text.split('#').skip(1).any(|rest| rest.starts_with(|char: char| char.is_ascii_digit()));
        if is_todo && !names_issue {
            findings.push((token.line, "a TODO that names no issue (#N)".to_owned()));
        }
    }
}

/// `#[ignore]` says why, and which suite runs the test: `#[ignore = "an hour; run by full"]`.
fn silent_ignores(code: &[Token], findings: &mut Findings) {
    for (at, token) in code.iter().enumerate() {
        let is_attribute = at >= 2 && code[at - 1].is_mark('[') && code[at - 2].is_mark('#');
        if !(is_attribute && token.is_word("ignore")) {
            continue;
        }
        let reason = match code.get(at + 2).map(|next| &next.kind) {
            Some(Kind::Text(reason)) => reason.as_str(),
            _ => "",
        };
        let runner = reason.rsplit_once("run by ").map(|(_, runner)| runner.trim());
        let is_known = |runner: &str| runner == "full" || SUITES.iter().any(|suite| suite.name == runner);
        if !runner.is_some_and(is_known) {
            findings.push((
                token.line,
                "an ignored test that does not end its reason with `run by SUITE`".to_owned(),
            ));
        }
    }
}

fn forbidden_calls(
    path: &str,
    code: &[Token],
    tests: &[std::ops::RangeInclusive<usize>],
    findings: &mut Findings,
) {
    for rule in FORBIDDEN {
        if rule.homes.iter().any(|home| path.starts_with(home)) {
            continue;
        }
        for (at, token) in code.iter().enumerate() {
            if calls(code, at, rule.call) && !in_tests(tests, token.line) {
                findings
                    .push((token.line, format!("{} is not used here: {} instead", rule.call, rule.instead)));
            }
        }
    }
}

fn calls(code: &[Token], at: usize, call: &str) -> bool {
    if let Some(name) = call.strip_suffix('!') {
        return code[at].is_word(name) && code.get(at + 1).is_some_and(|next| next.is_mark('!'));
    }
    let Some((owner, method)) = call.split_once("::") else { return false };
    code[at].is_word(owner)
        && code.get(at + 1).is_some_and(|next| next.is_mark(':'))
        && code.get(at + 2).is_some_and(|next| next.is_mark(':'))
        && code.get(at + 3).is_some_and(|next| next.is_word(method))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "crates/api/src/volume.rs";

    fn count(path: &str, text: &str) -> usize {
        let findings = check(path, text);
        println!("{findings:#?}");
        findings.len()
    }

    #[test]
    fn a_function_of_71_lines_is_found_and_one_of_70_is_not() {
        let body = |lines: usize| {
            format!("fn f<T>(a: [u8; 2]) -> u8\nwhere T: Copy {{\n{}}}\n", "x();\n".repeat(lines))
        };
        assert_eq!(count(PATH, &body(67)), 0);
        assert_eq!(count(PATH, &body(68)), 1);
        assert_eq!(count(PATH, "trait T { fn f(&self); }\ntype F = fn(u8) -> u8;"), 0);
    }

    #[test]
    fn a_file_of_801_lines_is_found() {
        assert_eq!(count(PATH, &"\n".repeat(800)), 0);
        assert_eq!(count(PATH, &"\n".repeat(801)), 1);
    }

    #[test]
    fn microversions_live_in_one_file() {
        assert_eq!(count(PATH, r#"if version >= v(3, 42) || header == "volume 3.5" {}"#), 2);
        assert_eq!(count("crates/wire/src/microversion.rs", r#"v(3, 42); "3.42";"#), 0);
        assert_eq!(
            count(
                PATH,
                r#"let a = ["127.0.3.1", "13.2", "v3.0", "rpc '3.19'", "3.141"]; f(3, 4); // since 3.42"#
            ),
            0
        );
        assert_eq!(count(PATH, "#[cfg(test)]\nmod tests { fn a() { v(3, 42); } }"), 0);
        assert_eq!(count(PATH, "#[cfg(test)]\nmod tests { fn a() {} }\nfn b() { v(3, 42); }"), 1);
    }

    #[test]
    fn statuses_are_written_by_transitions_only() {
        let sql = r#"query("UPDATE volumes SET updated_at = ?, status = ? WHERE id = ?")"#;
        assert_eq!(count("crates/db/src/volume.rs", sql), 1);
        assert_eq!(count("crates/db/src/transition.rs", sql), 0);
        let other =
            r#"query("UPDATE volumes SET size = ? WHERE status = ?"); query("UPDATE jobs SET status = ?")"#;
        assert_eq!(count("crates/db/src/volume.rs", other), 0);
    }

    #[test]
    fn todos_name_their_issue_and_ignored_tests_their_runner() {
        assert_eq!(count(PATH, "// TODO: later\n// TODO(#12): later\n/// the method\n"), 1);
        let ignores = "#[ignore]\nfn a() {}\n#[ignore = \"slow\"]\nfn b() {}\n#[ignore = \"slow; run by full\"]\nfn c() {}";
        assert_eq!(count(PATH, ignores), 2);
    }

    #[test]
    fn forbidden_calls_have_homes() {
        assert_eq!(count(PATH, "println!(\"x\"); std::time::SystemTime::now(); Uuid::new_v4();"), 3);
        assert_eq!(count("crates/model/src/id.rs", "Uuid::new_v4();"), 0);
        assert_eq!(count(PATH, "#[cfg(test)] mod t { fn a() { println!(\"x\"); } }"), 0);
    }
}
