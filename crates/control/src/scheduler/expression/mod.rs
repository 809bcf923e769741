//! The language of `filter_function` and `goodness_function`.
//!
//! Its grammar is Cinder's, quirks included, so that a function which operators already have decides the same here:
//!
//! - From tight to loose: function, `^`, sign, `* /`, `+ -`, `not NOT !`, comparisons (chained), `? :`, `and AND &&`,
//!   `or OR ||`, `,`. So `not 1 == 2` is `(not 1) == 2`.
//! - In `a and b and c`, `a or b or c` and `a ? b : c ? d : e` what follows the first operator has no effect.
//! - Words need no blanks (`notx` is `not x`), and any word before an operand is a function's name: `volume.size and 1` asks for a
//!   function `volume.size`, which is an error. Parentheses help.
//! - A float variable is cut to a whole number, a boolean is 1 or 0, a null is an error.
//!
//! What Cinder would compute without bound (huge powers, repeated texts, deep nesting) is an error here.

mod value;

pub use value::Datum;

use serde_json::{Map, Value};

/// How long an expression may be, in bytes.
const LENGTH: usize = 16 << 10;
/// How deep it may nest.
const DEPTH: u32 = 50;
/// How many steps its reading may take, dead ends included.
const STEPS: u32 = 200_000;

/// What an expression may refer to: `group.name`.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    pub stats: Map<String, Value>,
    pub capabilities: Map<String, Value>,
    pub volume: Map<String, Value>,
    pub extra: Map<String, Value>,
    pub qos: Map<String, Value>,
}

impl Variables {
    fn get(&self, group: &str, name: &str) -> Option<&Value> {
        let group = match group {
            "stats" => &self.stats,
            "capabilities" => &self.capabilities,
            "volume" => &self.volume,
            "extra" => &self.extra,
            "qos" => &self.qos,
            _ => return None,
        };
        group.get(name)
    }
}

/// What an expression comes to.
///
/// # Errors
/// Why it means nothing, for the explanation of a decision.
pub fn evaluate(text: &str, variables: &Variables) -> Result<Datum, String> {
    if text.len() > LENGTH {
        return Err(format!("the expression is longer than {LENGTH} bytes"));
    }
    let mut parser = Parser { text, at: 0, depth: 0, steps: STEPS };
    let node = parser.comma()?;
    parser.skip_blanks();
    match node {
        Some(node) if parser.at == text.len() => node.evaluate(variables),
        _ => {
            let rest: String = text[parser.at..].chars().take(20).collect();
            Err(if rest.is_empty() {
                "the expression ends too early".to_owned()
            } else {
                format!("the expression cannot be read from {rest:?} on")
            })
        }
    }
}

/// Signs and the operands after them.
type Chain = Vec<(&'static str, Node)>;

/// A read expression.
enum Node {
    /// A number, a word or a quoted text, as it stands.
    Constant(String),
    Function(String, Box<Node>),
    Power(Box<Node>, Vec<Node>),
    /// A sign: whether it is a minus.
    Sign(bool, Box<Node>),
    Product(Box<Node>, Chain),
    Sum(Box<Node>, Chain),
    Not(Box<Node>),
    Compare(Box<Node>, Chain),
    Choice(Box<Node>, Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    List(Box<Node>, Box<Node>),
}

impl Node {
    fn evaluate(&self, variables: &Variables) -> Result<Datum, String> {
        let value = |node: &Node| node.evaluate(variables);
        match self {
            Self::Constant(text) => constant(text, variables),
            Self::Function(name, argument) => value(argument)?.call(name),
            Self::Power(first, rest) => {
                rest.iter().try_fold(value(first)?, |base, exponent| base.power(&value(exponent)?))
            }
            Self::Sign(minus, operand) => Datum::Int(if *minus { -1 } else { 1 }).times(&value(operand)?),
            Self::Product(first, rest) => rest.iter().try_fold(value(first)?, |product, (sign, operand)| {
                let operand = value(operand)?;
                if *sign == "*" { product.times(&operand) } else { product.divided_by(&operand) }
            }),
            Self::Sum(first, rest) => rest.iter().try_fold(value(first)?, |sum, (sign, operand)| {
                let operand = value(operand)?;
                if *sign == "+" { sum.plus(&operand) } else { sum.minus(&operand) }
            }),
            Self::Not(operand) => Ok(Datum::Bool(!value(operand)?.is_true())),
            Self::Compare(first, rest) => {
                let mut left = value(first)?;
                for (sign, right) in rest {
                    let right = value(right)?;
                    if !left.compare(sign, &right)? {
                        return Ok(Datum::Bool(false));
                    }
                    left = right;
                }
                Ok(Datum::Bool(true))
            }
            Self::Choice(condition, yes, no) => value(if value(condition)?.is_true() { yes } else { no }),
            // Both sides count, errors too, before one of them is the result.
            Self::And(left, right) => {
                let (left, right) = (value(left)?, value(right)?);
                Ok(if left.is_true() { right } else { left })
            }
            Self::Or(left, right) => {
                let (left, right) = (value(left)?, value(right)?);
                Ok(if left.is_true() { left } else { right })
            }
            Self::List(first, rest) => {
                let mut items = vec![value(first)?];
                match value(rest)? {
                    Datum::List(rest) => items.extend(rest),
                    single => items.push(single),
                }
                Ok(Datum::List(items))
            }
        }
    }
}

/// The value of a number, a word or a quoted text. Only a word with exactly one dot inside is a variable.
fn constant(text: &str, variables: &Variables) -> Result<Datum, String> {
    let name = |part: &str| !part.is_empty() && part.bytes().all(|b| b == b'_' || b.is_ascii_alphabetic());
    match text.split_once('.') {
        Some((group, entry)) if name(group) && name(entry) => {
            let value = variables.get(group, entry).ok_or_else(|| format!("{text} is not known"))?;
            Datum::variable(value).ok_or_else(|| format!("{text} has no value to compute with"))
        }
        _ => Ok(Datum::text(text)),
    }
}

/// Reads the text once, by trying: each level is the next tighter one and what may follow it. `None` means that
/// nothing was taken; only running out of bounds is an error at once.
struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
    steps: u32,
}

type Parsed<T> = Result<Option<T>, String>;
type Level<'a> = fn(&mut Parser<'a>) -> Parsed<Node>;

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    /// Takes the first of `signs` that stands here.
    fn sign(&mut self, signs: &[&'static str]) -> Option<&'static str> {
        let before = self.at;
        self.skip_blanks();
        let found = signs.iter().copied().find(|sign| self.rest().starts_with(sign));
        self.at = found.map_or(before, |sign| self.at + sign.len());
        found
    }

    /// Goes one level deeper for `level`.
    fn nested(&mut self, level: Level<'a>) -> Parsed<Node> {
        if self.depth == DEPTH {
            return Err(format!("the expression nests deeper than {DEPTH}"));
        }
        self.steps = self.steps.checked_sub(1).ok_or("the expression is too intricate")?;
        self.depth += 1;
        let node = level(self)?;
        self.depth -= 1;
        Ok(node)
    }

    /// `tight { sign tight }`; after a sign without an operand, neither is taken.
    fn chain(
        &mut self,
        tight: Level<'a>,
        signs: &[&'static str],
        join: fn(Box<Node>, Chain) -> Node,
    ) -> Parsed<Node> {
        let Some(first) = tight(self)? else { return Ok(None) };
        let mut rest = Vec::new();
        loop {
            let before = self.at;
            let Some(sign) = self.sign(signs) else { break };
            let Some(operand) = tight(self)? else {
                self.at = before;
                break;
            };
            rest.push((sign, operand));
        }
        Ok(Some(if rest.is_empty() { first } else { join(Box::new(first), rest) }))
    }

    /// `sign same | tight`.
    fn unary(
        &mut self,
        signs: &[&'static str],
        same: Level<'a>,
        tight: Level<'a>,
        join: fn(&'static str, Box<Node>) -> Node,
    ) -> Parsed<Node> {
        let before = self.at;
        if let Some(sign) = self.sign(signs) {
            if let Some(operand) = self.nested(same)? {
                return Ok(Some(join(sign, Box::new(operand))));
            }
            self.at = before;
        }
        tight(self)
    }

    fn comma(&mut self) -> Parsed<Node> {
        let Some(first) = self.or()? else { return Ok(None) };
        let before = self.at;
        if self.sign(&[","]).is_some() {
            if let Some(rest) = self.nested(Self::comma)? {
                return Ok(Some(Node::List(Box::new(first), Box::new(rest))));
            }
            self.at = before;
        }
        Ok(Some(first))
    }

    fn or(&mut self) -> Parsed<Node> {
        self.chain(Self::and, &["OR", "or", "||"], |left, rest| match rest.into_iter().next() {
            Some((_, right)) => Node::Or(left, Box::new(right)),
            None => *left,
        })
    }

    fn and(&mut self) -> Parsed<Node> {
        self.chain(Self::choice, &["AND", "and", "&&"], |left, rest| match rest.into_iter().next() {
            Some((_, right)) => Node::And(left, Box::new(right)),
            None => *left,
        })
    }

    fn choice(&mut self) -> Parsed<Node> {
        let Some(condition) = self.compare()? else { return Ok(None) };
        let mut first = None;
        loop {
            let before = self.at;
            let Some((yes, no)) = self.branches()? else {
                self.at = before;
                break;
            };
            first = first.or(Some((yes, no)));
        }
        Ok(Some(match first {
            Some((yes, no)) => Node::Choice(Box::new(condition), Box::new(yes), Box::new(no)),
            None => condition,
        }))
    }

    /// `? tight : tight`.
    fn branches(&mut self) -> Parsed<(Node, Node)> {
        if self.sign(&["?"]).is_none() {
            return Ok(None);
        }
        let Some(yes) = self.compare()? else { return Ok(None) };
        if self.sign(&[":"]).is_none() {
            return Ok(None);
        }
        Ok(self.compare()?.map(|no| (yes, no)))
    }

    fn compare(&mut self) -> Parsed<Node> {
        self.chain(Self::not, &["<=", "<>", "<", ">=", ">", "!=", "=="], Node::Compare)
    }

    fn not(&mut self) -> Parsed<Node> {
        self.unary(&["NOT", "not", "!"], Self::not, Self::sum, |_, operand| Node::Not(operand))
    }

    fn sum(&mut self) -> Parsed<Node> {
        self.chain(Self::product, &["+", "-"], Node::Sum)
    }

    fn product(&mut self) -> Parsed<Node> {
        self.chain(Self::signed, &["*", "/"], Node::Product)
    }

    fn signed(&mut self) -> Parsed<Node> {
        self.unary(&["+", "-"], Self::signed, Self::power, |sign, operand| Node::Sign(sign == "-", operand))
    }

    fn power(&mut self) -> Parsed<Node> {
        let Some(base) = self.function()? else { return Ok(None) };
        let mut exponents = Vec::new();
        loop {
            let before = self.at;
            if self.sign(&["^"]).is_none() {
                break;
            }
            let Some(exponent) = self.nested(Self::power)? else {
                self.at = before;
                break;
            };
            exponents.push(exponent);
        }
        Ok(Some(if exponents.is_empty() { base } else { Node::Power(Box::new(base), exponents) }))
    }

    fn function(&mut self) -> Parsed<Node> {
        let before = self.at;
        if let Some(name) = self.word() {
            if let Some(argument) = self.nested(Self::function)? {
                return Ok(Some(Node::Function(name.to_owned(), Box::new(argument))));
            }
            self.at = before;
        }
        self.operand()
    }

    fn operand(&mut self) -> Parsed<Node> {
        let before = self.at;
        if let Some(text) = self.number().or_else(|| self.word()).or_else(|| self.quoted()) {
            return Ok(Some(Node::Constant(text.to_owned())));
        }
        if self.sign(&["("]).is_some() {
            if let Some(inner) = self.nested(Self::comma)?
                && self.sign(&[")"]).is_some()
            {
                return Ok(Some(inner));
            }
            self.at = before;
        }
        Ok(None)
    }

    /// Takes `length` bytes.
    fn take(&mut self, length: usize) -> &'a str {
        let taken = &self.rest()[..length];
        self.at += length;
        taken
    }

    /// Takes the longest run of bytes that are all `of`, blanks before it aside.
    fn run(&mut self, of: fn(&u8) -> bool) -> Option<&'a str> {
        let before = self.at;
        self.skip_blanks();
        let length = self.rest().bytes().take_while(of).count();
        if length == 0 {
            self.at = before;
            return None;
        }
        Some(self.take(length))
    }

    fn word(&mut self) -> Option<&'a str> {
        self.run(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'.'))
    }

    /// Digits, or digits and a dot and digits.
    fn number(&mut self) -> Option<&'a str> {
        let whole = self.run(u8::is_ascii_digit)?;
        let start = self.at - whole.len();
        let fraction = self
            .rest()
            .strip_prefix('.')
            .map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
        if fraction > 0 {
            self.at += 1 + fraction;
        }
        Some(&self.text[start..self.at])
    }

    /// A text in quotes, which it keeps. A doubled quote or one after a backslash does not end it; a line's end does.
    fn quoted(&mut self) -> Option<&'a str> {
        let before = self.at;
        self.skip_blanks();
        let rest = self.rest();
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let mut chars = rest.char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            if c == quote {
                if chars.next_if(|(_, next)| *next == quote).is_none() {
                    return Some(self.take(at + c.len_utf8()));
                }
            } else if c == '\\' {
                match chars.next() {
                    Some((_, 'x')) => {
                        // `\x` needs a hexadecimal digit.
                        if chars.next_if(|(_, digit)| digit.is_ascii_hexdigit()).is_none() {
                            break;
                        }
                    }
                    Some(_) => {}
                    None => break,
                }
            } else if matches!(c, '\n' | '\r') {
                break;
            }
        }
        self.at = before;
        None
    }
}
