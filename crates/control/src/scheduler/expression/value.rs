//! Values of an expression, which behave as Python's do.

use std::cmp::Ordering;

use serde_json::Value;

/// How long a text or list may grow.
const LENGTH: usize = 64 << 10;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Datum {
    Int(i128),
    Float(f64),
    Text(String),
    Bool(bool),
    List(Vec<Datum>),
}

/// A number to compute with.
#[derive(Clone, Copy)]
enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    fn float(self) -> f64 {
        match self {
            // Exact up to 2^53, as far as Python is with floats.
            Self::Int(int) => int as f64,
            Self::Float(float) => float,
        }
    }
}

const TOO_LARGE: &str = "a number grows too large";

/// Python's `int(text)`.
fn int(text: &str) -> Option<i128> {
    digits(text)?.parse().ok()
}

/// Python's `float(text)`.
fn float(text: &str) -> Option<f64> {
    digits(text)?.parse().ok()
}

/// A number's text without blanks around it and without the single `_` that may stand between digits.
fn digits(text: &str) -> Option<String> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let placed = |(at, byte): (usize, &u8)| *byte != b'_' || (at > 0 && digit(at - 1) && digit(at + 1));
    bytes.iter().enumerate().all(placed).then(|| text.replace('_', ""))
}

impl Datum {
    /// A word, number or quoted text as it stands in an expression, or the text of a variable.
    pub(super) fn text(text: &str) -> Self {
        match (int(text), float(text)) {
            (Some(int), _) => Self::Int(int),
            (None, Some(float)) => Self::Float(float),
            (None, None) => Self::Text(text.replace(['"', '\''], "")),
        }
    }

    /// A variable's value: a number is cut to a whole one, a boolean is 1 or 0; null, lists and objects have none.
    pub(super) fn variable(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(yes) => Some(Self::Int(i128::from(*yes))),
            Value::Number(number) => match number.as_i64() {
                Some(int) => Some(Self::Int(int.into())),
                // Saturates, far above any capacity.
                None => number.as_f64().map(|float| Self::Int(float as i128)),
            },
            Value::String(text) => Some(Self::text(text)),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Python's truth: not zero, not empty.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Int(int) => *int != 0,
            Self::Float(float) => *float != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Bool(yes) => *yes,
            Self::List(items) => !items.is_empty(),
        }
    }

    fn number(&self) -> Option<Number> {
        match self {
            Self::Int(int) => Some(Number::Int(*int)),
            Self::Float(float) => Some(Number::Float(*float)),
            Self::Bool(yes) => Some(Number::Int(i128::from(*yes))),
            Self::Text(_) | Self::List(_) => None,
        }
    }

    fn numbers(&self, other: &Self, sign: &str) -> Result<(Number, Number), String> {
        match (self.number(), other.number()) {
            (Some(left), Some(right)) => Ok((left, right)),
            _ => Err(format!("{sign} does not work on {} and {}", self.kind(), other.kind())),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::Bool(_) => "a truth value",
            Self::List(_) => "a list",
        }
    }

    pub(super) fn plus(&self, other: &Self) -> Result<Self, String> {
        match (self, other) {
            (Self::Text(left), Self::Text(right)) => short(format!("{left}{right}")).map(Self::Text),
            (Self::List(left), Self::List(right)) => {
                let all: Vec<Self> = left.iter().chain(right).cloned().collect();
                if all.len() > LENGTH { Err("a list grows too long".into()) } else { Ok(Self::List(all)) }
            }
            _ => match self.numbers(other, "+")? {
                (Number::Int(left), Number::Int(right)) => {
                    left.checked_add(right).map(Self::Int).ok_or_else(|| TOO_LARGE.into())
                }
                (left, right) => Ok(Self::Float(left.float() + right.float())),
            },
        }
    }

    pub(super) fn minus(&self, other: &Self) -> Result<Self, String> {
        match self.numbers(other, "-")? {
            (Number::Int(left), Number::Int(right)) => {
                left.checked_sub(right).map(Self::Int).ok_or_else(|| TOO_LARGE.into())
            }
            (left, right) => Ok(Self::Float(left.float() - right.float())),
        }
    }

    pub(super) fn times(&self, other: &Self) -> Result<Self, String> {
        let repeated = match (self, other) {
            (Self::Text(text), count) | (count, Self::Text(text)) => {
                count.number().map(|count| (text, count))
            }
            _ => None,
        };
        if let Some((text, Number::Int(count))) = repeated {
            let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
            if text.len().saturating_mul(count) > LENGTH {
                return Err("a text grows too long".into());
            }
            return Ok(Self::Text(text.repeat(count)));
        }
        match self.numbers(other, "*")? {
            (Number::Int(left), Number::Int(right)) => {
                left.checked_mul(right).map(Self::Int).ok_or_else(|| TOO_LARGE.into())
            }
            (left, right) => Ok(Self::Float(left.float() * right.float())),
        }
    }

    /// A division never stays whole. Its divisor may be a text that is a number.
    pub(super) fn divided_by(&self, other: &Self) -> Result<Self, String> {
        let divisor = match other {
            Self::Text(text) => float(text),
            other => other.number().map(Number::float),
        };
        let (Some(dividend), Some(divisor)) = (self.number(), divisor) else {
            return Err(format!("/ does not work on {} and {}", self.kind(), other.kind()));
        };
        if divisor == 0.0 {
            return Err("division by zero".into());
        }
        Ok(Self::Float(dividend.float() / divisor))
    }

    pub(super) fn power(&self, other: &Self) -> Result<Self, String> {
        let (base, exponent) = self.numbers(other, "^")?;
        if let (Number::Int(base), Number::Int(exponent @ 0..)) = (base, exponent) {
            let exponent = u32::try_from(exponent).map_err(|_| TOO_LARGE)?;
            return base.checked_pow(exponent).map(Self::Int).ok_or_else(|| TOO_LARGE.into());
        }
        let (base, exponent) = (base.float(), exponent.float());
        if base == 0.0 && exponent < 0.0 {
            return Err("division by zero".into());
        }
        if base < 0.0 && base.is_finite() && exponent.is_finite() && exponent.fract() != 0.0 {
            return Err("a root of a negative number".into());
        }
        let result = base.powf(exponent);
        if result.is_infinite() && base.is_finite() && exponent.is_finite() {
            return Err(TOO_LARGE.into());
        }
        Ok(Self::Float(result))
    }

    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(left), Self::Text(right)) => left == right,
            (Self::List(left), Self::List(right)) => {
                left.len() == right.len() && left.iter().zip(right).all(|(left, right)| left.equals(right))
            }
            _ => match (self.number(), other.number()) {
                (Some(Number::Int(left)), Some(Number::Int(right))) => left == right,
                (Some(left), Some(right)) => left.float() == right.float(),
                _ => false,
            },
        }
    }

    /// `None`: not a number is on one side.
    fn order(&self, other: &Self, sign: &str) -> Result<Option<Ordering>, String> {
        if let (Self::Text(left), Self::Text(right)) = (self, other) {
            return Ok(Some(left.cmp(right)));
        }
        Ok(match self.numbers(other, sign)? {
            (Number::Int(left), Number::Int(right)) => Some(left.cmp(&right)),
            (left, right) => left.float().partial_cmp(&right.float()),
        })
    }

    pub(super) fn compare(&self, sign: &str, other: &Self) -> Result<bool, String> {
        Ok(match sign {
            "==" => self.equals(other),
            "!=" | "<>" => !self.equals(other),
            _ => {
                let order = self.order(other, sign)?;
                match sign {
                    "<" => order == Some(Ordering::Less),
                    "<=" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                    ">" => order == Some(Ordering::Greater),
                    _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
                }
            }
        })
    }

    /// Calls a function with this, a list being its arguments.
    pub(super) fn call(self, name: &str) -> Result<Self, String> {
        match name {
            "abs" => match self.number() {
                Some(Number::Int(int)) => int.checked_abs().map(Self::Int).ok_or_else(|| TOO_LARGE.into()),
                Some(Number::Float(float)) => Ok(Self::Float(float.abs())),
                None => Err(format!("abs does not work on {}", self.kind())),
            },
            "max" => self.extreme(Ordering::Greater, name),
            "min" => self.extreme(Ordering::Less, name),
            _ => Err(format!("there is no function {name}")),
        }
    }

    /// The first of the largest or smallest arguments; of a text, its characters are the arguments.
    fn extreme(self, wanted: Ordering, name: &str) -> Result<Self, String> {
        let items = match self {
            Self::List(items) => items,
            Self::Text(text) => text.chars().map(|c| Self::Text(c.to_string())).collect(),
            other => return Err(format!("{name} of {} alone", other.kind())),
        };
        let mut items = items.into_iter();
        let mut best = items.next().ok_or_else(|| format!("{name} of nothing"))?;
        for item in items {
            if item.order(&best, name)? == Some(wanted) {
                best = item;
            }
        }
        Ok(best)
    }
}

fn short(text: String) -> Result<String, String> {
    if text.len() > LENGTH { Err("a text grows too long".into()) } else { Ok(text) }
}
