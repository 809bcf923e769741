//! The check language of oslo.policy: parsed once, evaluated per request.
//!
//! ```text
//! check  = any                                any  = all { "or" all }        all = one { "and" one }
//! one    = "not" one | "(" any ")" | "@" | "!" | kind ":" match
//! kind   = "role" | "rule" | literal | credential, e.g. project_id or is_admin
//! match  = text in which %(name)s is the target's field "name"
//! ```
//!
//! The empty check allows. The old form, a list of lists, is an "or" of "and"s. Where the library denies what it cannot read, this
//! parser says what is wrong with it: a policy file with such a check is refused.

use crate::Context;

use super::Target;

/// How deep parentheses and `not` may nest.
const DEPTH: usize = 64;
/// How long a check may be, in bytes.
const LENGTH: usize = 64 << 10;

/// A parsed check.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Check {
    Always,
    Never,
    /// One of the caller's roles, in any case of letters.
    Role(Match),
    /// Another rule.
    Rule(String),
    /// A constant, as text.
    Literal(String, Match),
    /// A fact about the caller.
    Credential(String, Match),
    Not(Box<Check>),
    All(Vec<Check>),
    Any(Vec<Check>),
}

/// A text with the target's fields in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Match(Vec<Piece>);

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Field(String),
}

/// A fact about the caller.
enum Fact<'a> {
    Text(&'a str),
    Words(&'a [String]),
}

impl Match {
    fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                plain.push('%');
                rest = after;
                continue;
            }
            let field = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
            let Some((field, after)) =
                field.and_then(|(field, after)| after.strip_prefix('s').map(|after| (field, after)))
            else {
                return Err(format!("{text:?}: after % comes (FIELD)s, or another %"));
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Field(field.to_owned()));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// The text for a target; `None` when the target lacks a field.
    fn text(&self, target: &Target<'_>) -> Option<String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Field(field) => text.push_str(&target.field(field)?),
            }
        }
        Some(text)
    }
}

/// What `name` says of the caller; `None` when there is no such fact.
fn fact<'a>(context: &'a Context, name: &str) -> Option<Fact<'a>> {
    fn or_none(text: &Option<String>) -> Fact<'_> {
        Fact::Text(text.as_deref().unwrap_or("None"))
    }
    fn flag<'a>(yes: bool) -> Fact<'a> {
        Fact::Text(if yes { "True" } else { "False" })
    }
    let scope = &context.scope;
    Some(match name {
        "user_id" => Fact::Text(&context.user_id),
        "project_id" => Fact::Text(&context.project_id),
        "roles" => Fact::Words(&context.roles),
        "service_roles" => Fact::Words(&context.service_roles),
        "is_admin" => flag(context.is_admin),
        "is_admin_project" => flag(scope.is_admin_project.unwrap_or(true)),
        "system_scope" => or_none(&scope.system),
        "system" => Fact::Text(scope.system.as_deref()?),
        "domain_id" => or_none(&scope.domain_id),
        "user_domain_id" => or_none(&scope.user_domain_id),
        "project_domain_id" => or_none(&scope.project_domain_id),
        "service_user_id" => or_none(&scope.service.user_id),
        "service_user_domain_id" => or_none(&scope.service.user_domain_id),
        "service_project_id" => or_none(&scope.service.project_id),
        "service_project_domain_id" => or_none(&scope.service.project_domain_id),
        _ => return None,
    })
}

impl Check {
    /// Whether the caller may do this to the target. `rule` finds the check of another rule; nothing found denies.
    pub(super) fn allows<'a>(
        &'a self,
        context: &Context,
        target: &Target<'_>,
        rule: &dyn Fn(&str) -> Option<&'a Check>,
    ) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Role(wanted) => wanted.text(target).is_some_and(|wanted| {
                let wanted = wanted.to_lowercase();
                context.roles.iter().any(|role| role.to_lowercase() == wanted)
            }),
            Self::Rule(name) => rule(name).is_some_and(|check| check.allows(context, target, rule)),
            Self::Literal(literal, wanted) => wanted.text(target).is_some_and(|wanted| *literal == wanted),
            Self::Credential(name, wanted) => {
                wanted.text(target).is_some_and(|wanted| match fact(context, name) {
                    Some(Fact::Text(text)) => text == wanted,
                    Some(Fact::Words(words)) => words.contains(&wanted),
                    None => false,
                })
            }
            Self::Not(check) => !check.allows(context, target, rule),
            Self::All(checks) => checks.iter().all(|check| check.allows(context, target, rule)),
            Self::Any(checks) => checks.iter().any(|check| check.allows(context, target, rule)),
        }
    }

    /// The rules that this check refers to, with repetitions.
    pub(super) fn references(&self) -> Vec<&str> {
        match self {
            Self::Rule(name) => vec![name],
            Self::Not(check) => check.references(),
            Self::All(checks) | Self::Any(checks) => checks.iter().flat_map(Self::references).collect(),
            _ => Vec::new(),
        }
    }

    /// How many checks this is made of, references not followed.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Not(check) => 1 + check.size(),
            Self::All(checks) | Self::Any(checks) => 1 + checks.iter().map(Self::size).sum::<u64>(),
            _ => 1,
        }
    }

    /// Reads a check.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::Always);
        }
        if text.len() > LENGTH {
            return Err(format!("longer than {LENGTH} bytes"));
        }
        let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
        let check = parser.any()?;
        match parser.peek() {
            None => Ok(check),
            Some(token) => Err(format!("unexpected {token}, expected \"and\", \"or\" or the end")),
        }
    }

    /// Reads the old form: any of the items, each a check or a list of checks that must all hold. The empty list allows.
    pub(super) fn parse_list(items: &[Vec<String>]) -> Result<Self, String> {
        if items.is_empty() {
            return Ok(Self::Always);
        }
        let mut any = Vec::new();
        for item in items.iter().filter(|item| !item.is_empty()) {
            let all: Vec<Self> = item.iter().map(|text| single(text)).collect::<Result<_, _>>()?;
            any.push(joined(all, Self::All));
        }
        if any.is_empty() { Ok(Self::Never) } else { Ok(joined(any, Self::Any)) }
    }
}

/// One check, or several under `join`.
fn joined(mut checks: Vec<Check>, join: fn(Vec<Check>) -> Check) -> Check {
    if checks.len() == 1 { checks.remove(0) } else { join(checks) }
}

/// Reads a check without operators.
fn single(text: &str) -> Result<Check, String> {
    match text {
        "@" => return Ok(Check::Always),
        "!" => return Ok(Check::Never),
        _ => {}
    }
    let (kind, wanted) =
        text.split_once(':').ok_or_else(|| format!("{text:?} is not a check: KIND:MATCH, @ or !"))?;
    match kind {
        "rule" => Ok(Check::Rule(wanted.to_owned())),
        "role" => Ok(Check::Role(Match::parse(wanted)?)),
        "http" | "https" => Err(format!("{text:?}: checks by a remote server are not supported")),
        _ => {
            let wanted = Match::parse(wanted)?;
            Ok(match literal(kind)? {
                Some(literal) => Check::Literal(literal, wanted),
                None => Check::Credential(kind.to_owned(), wanted),
            })
        }
    }
}

/// The text of a constant in Python's spelling: a quoted text, a number, a word of its own; `None` for a name.
fn literal(kind: &str) -> Result<Option<String>, String> {
    for quote in ['\'', '"'] {
        if let Some(rest) = kind.strip_prefix(quote) {
            return match rest.strip_suffix(quote) {
                Some(text) if !text.contains([quote, '\\']) => Ok(Some(text.to_owned())),
                _ => Err(format!("{kind:?} is not a quoted text")),
            };
        }
    }
    if matches!(kind, "True" | "False" | "None") {
        return Ok(Some(kind.to_owned()));
    }
    if kind.starts_with(|c: char| c.is_ascii_digit()) {
        let decimal = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let canonical = |text: &str| decimal(text) && (text == "0" || !text.starts_with('0'));
        let good = match kind.split_once('.') {
            Some((whole, part)) => canonical(whole) && decimal(part) && (part == "0" || !part.ends_with('0')),
            None => canonical(kind),
        };
        return if good { Ok(Some(kind.to_owned())) } else { Err(format!("{kind:?} is not a number")) };
    }
    Ok(None)
}

#[derive(Debug, PartialEq)]
enum Token {
    Open,
    Close,
    And,
    Or,
    Not,
    Check(Check),
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "\"(\"",
            Self::Close => "\")\"",
            Self::And => "\"and\"",
            Self::Or => "\"or\"",
            Self::Not => "\"not\"",
            Self::Check(_) => "check",
        })
    }
}

/// Splits at white space; parentheses count at the ends of a word only, for `%(x)s` has some inside.
fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    for word in text.split_whitespace() {
        let inner = word.trim_start_matches('(');
        tokens.extend((0..word.len() - inner.len()).map(|_| Token::Open));
        let core = inner.trim_end_matches(')');
        match core.to_lowercase().as_str() {
            "" => {}
            "and" => tokens.push(Token::And),
            "or" => tokens.push(Token::Or),
            "not" => tokens.push(Token::Not),
            _ => {
                let quoted = ['\'', '"']
                    .iter()
                    .any(|quote| inner.len() > 1 && inner.starts_with(*quote) && inner.ends_with(*quote));
                if quoted {
                    return Err(format!("{inner} is a text, not a check"));
                }
                tokens.push(Token::Check(single(core)?));
            }
        }
        tokens.extend((0..inner.len() - core.len()).map(|_| Token::Close));
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    /// Takes the next token if it is `token`.
    fn take(&mut self, token: &Token) -> bool {
        let there = self.peek() == Some(token);
        self.at += usize::from(there);
        there
    }

    fn any(&mut self) -> Result<Check, String> {
        let mut checks = vec![self.all()?];
        while self.take(&Token::Or) {
            checks.push(self.all()?);
        }
        Ok(joined(checks, Check::Any))
    }

    fn all(&mut self) -> Result<Check, String> {
        let mut checks = vec![self.one()?];
        while self.take(&Token::And) {
            checks.push(self.one()?);
        }
        Ok(joined(checks, Check::All))
    }

    fn one(&mut self) -> Result<Check, String> {
        if self.depth == DEPTH {
            return Err(format!("nested more than {DEPTH} deep"));
        }
        self.depth += 1;
        let check = self.one_inside()?;
        self.depth -= 1;
        Ok(check)
    }

    fn one_inside(&mut self) -> Result<Check, String> {
        if self.take(&Token::Not) {
            return Ok(Check::Not(Box::new(self.one()?)));
        }
        if self.take(&Token::Open) {
            let check = self.any()?;
            return if self.take(&Token::Close) { Ok(check) } else { Err("a \")\" is missing".into()) };
        }
        match self.tokens.get_mut(self.at) {
            Some(Token::Check(check)) => {
                self.at += 1;
                // Never looked at again: the parser does not go back.
                Ok(std::mem::replace(check, Check::Never))
            }
            Some(token) => Err(format!("unexpected {token}, expected a check")),
            None => Err("ends where a check should follow".into()),
        }
    }
}
