//! The types that request schemas share (api-routes.md 3).

use super::Keyword::{
    Closed, Enum, Format as Fmt, MaxLength, Maximum, MinLength, Minimum, OneOf, PatternProperties, Type,
};
use super::repr::is_printable;
use super::{Choice, Format, Pattern, Schema, Type as T};

/// The largest number that the database's integers hold.
const DB_MAX_INT: i64 = 0x7FFF_FFFF;

pub const TEXT: Schema = &[Type(&[T::String])];
pub const TEXT_OR_NULL: Schema = &[Type(&[T::String, T::Null])];
pub const ANY: Schema = &[];

/// Not blank, 1 to 255 characters.
pub const NAME: Schema = &[Type(&[T::String]), MinLength(1), MaxLength(255), Fmt(Format::Name)];
/// 1 to 255 characters, or null.
pub const NAME_OR_NULL: Schema = &[Type(&[T::String, T::Null]), MinLength(1), MaxLength(255)];
/// Up to 255 characters, or null.
pub const NAME0: Schema = &[Type(&[T::String, T::Null]), MinLength(0), MaxLength(255)];
/// Up to 255 characters once trimmed, or null.
pub const NAME_W: Schema = &[Type(&[T::String, T::Null]), Fmt(Format::TrimmedName)];
/// Up to 255 characters once trimmed, or null.
pub const DESCRIPTION_W: Schema = &[Type(&[T::String, T::Null]), Fmt(Format::TrimmedDescription)];
/// Up to 255 printable characters, or null.
pub const DESCRIPTION: Schema =
    &[Type(&[T::String, T::Null]), MinLength(0), MaxLength(255), super::Keyword::Pattern(PRINTABLE)];
/// Ids with commas between them.
pub const VOLUME_LIST: Schema = DESCRIPTION;
/// 1 to 255 characters.
pub const TEXT_1_255: Schema = &[Type(&[T::String]), MinLength(1), MaxLength(255)];
/// Up to 255 characters.
pub const TEXT_255: Schema = &[Type(&[T::String]), MaxLength(255)];

#[rustfmt::skip]
pub const BOOLEANS: &[Choice] = &[
    Choice::Bool(true), Choice::Text("True"), Choice::Text("TRUE"), Choice::Text("true"), Choice::Text("1"),
    Choice::Text("ON"), Choice::Text("On"), Choice::Text("on"), Choice::Text("YES"), Choice::Text("Yes"),
    Choice::Text("yes"), Choice::Text("y"), Choice::Text("t"),
    Choice::Bool(false), Choice::Text("False"), Choice::Text("FALSE"), Choice::Text("false"), Choice::Text("0"),
    Choice::Text("OFF"), Choice::Text("Off"), Choice::Text("off"), Choice::Text("NO"), Choice::Text("No"),
    Choice::Text("no"), Choice::Text("n"), Choice::Text("f"),
];
/// True or false, as such or in one of their spellings.
pub const BOOL: Schema = &[Type(&[T::Boolean, T::String]), Enum(BOOLEANS)];
pub const BOOL_OR_NULL: Schema = &[OneOf(&[NULL, BOOL])];
const NULL: Schema = &[Type(&[T::Null])];

pub const UUID: Schema = &[Type(&[T::String]), Fmt(Format::Uuid)];
pub const UUID_OR_NULL: Schema = &[OneOf(&[UUID, NULL])];

/// A number of GiB, as such or in digits.
pub const SIZE: Schema =
    &[Type(&[T::Integer, T::String]), super::Keyword::Pattern(DIGITS), Minimum(1), Maximum(DB_MAX_INT)];
pub const SIZE_OR_NULL: Schema = &[
    Type(&[T::Integer, T::String, T::Null]),
    super::Keyword::Pattern(DIGITS),
    Minimum(1),
    Maximum(DB_MAX_INT),
];
/// Bits of a key, as such or in digits, or null.
pub const KEY_SIZE: Schema =
    &[Type(&[T::String, T::Integer, T::Null]), Minimum(0), Maximum(DB_MAX_INT), Fmt(Format::KeySize)];
/// A quota, as such or in digits.
pub const LIMIT: Schema = &[
    Type(&[T::Integer, T::String]),
    super::Keyword::Pattern(DIGITS0),
    Minimum(-1),
    MinLength(1),
    Maximum(DB_MAX_INT),
];

pub const AVAILABILITY_ZONE: Schema = NAME_OR_NULL;
/// A service's host, with backend and pool.
pub const HOST: Schema =
    &[Type(&[T::String, T::Null]), MinLength(1), MaxLength(255), super::Keyword::Pattern(HOST_CHARACTERS)];

const META_VALUE: Schema = &[Type(&[T::String]), MaxLength(255)];
const META_VALUE_OR_NULL: Schema = &[Type(&[T::String, T::Null]), MaxLength(255)];
/// User metadata.
pub const META: Schema = &[Type(&[T::Object]), PatternProperties(META_KEY, META_VALUE), Closed];
pub const META_OR_NULL: Schema =
    &[Type(&[T::Object, T::Null]), PatternProperties(META_KEY, META_VALUE), Closed];
/// Properties of an image.
pub const IMAGE_META: Schema =
    &[Type(&[T::Object]), PatternProperties(META_KEY, &[Type(&[T::String]), Fmt(Format::MysqlText)]), Closed];
/// One pair of user metadata.
pub const META_PAIR: Schema = &[
    Type(&[T::Object]),
    PatternProperties(META_KEY, META_VALUE),
    Closed,
    super::Keyword::MinProperties(1),
    super::Keyword::MaxProperties(1),
];
/// Metadata of snapshots: no slash in its keys.
pub const SNAPSHOT_META: Schema =
    &[Type(&[T::Object]), PatternProperties(SNAPSHOT_META_KEY, META_VALUE), Closed];
pub const SNAPSHOT_META_PAIR: Schema = &[
    Type(&[T::Object]),
    PatternProperties(SNAPSHOT_META_KEY, META_VALUE),
    Closed,
    super::Keyword::MinProperties(1),
    super::Keyword::MaxProperties(1),
];
/// Extra specs of a new type.
pub const SPECS: Schema = &[Type(&[T::Object]), PatternProperties(META_KEY, META_VALUE_OR_NULL), Closed];
/// Extra specs added later: neither space nor slash in their keys.
pub const SPECS_STRICT: Schema = &[Type(&[T::Object]), PatternProperties(SPEC_KEY, NAME0), Closed];
pub const SPEC_PAIR: Schema = &[
    Type(&[T::Object]),
    PatternProperties(SPEC_KEY, NAME0),
    Closed,
    super::Keyword::MinProperties(1),
    super::Keyword::MaxProperties(1),
];
pub const QUOTA_CLASS: Schema = &[Type(&[T::Object]), PatternProperties(QUOTA_KEY, LIMIT), Closed];

fn is_key(text: &str, marks: &str, longest: usize) -> bool {
    let fits = (1..=longest).contains(&text.len());
    fits && text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_:.".contains(&b) || marks.as_bytes().contains(&b))
}

const META_KEY: Pattern =
    Pattern { text: || "^[a-zA-Z0-9-_:. /]{1,255}$".into(), accepts: |text| is_key(text, " /", 255) };
const SNAPSHOT_META_KEY: Pattern =
    Pattern { text: || "^[a-zA-Z0-9-_:. ]{1,255}$".into(), accepts: |text| is_key(text, " ", 255) };
const SPEC_KEY: Pattern =
    Pattern { text: || "^[a-zA-Z0-9-_:.]{1,255}$".into(), accepts: |text| is_key(text, "", 255) };
const QUOTA_KEY: Pattern =
    Pattern { text: || "^[a-zA-Z0-9-_:. ]{1,300}$".into(), accepts: |text| is_key(text, " ", 300) };
const DIGITS: Pattern = Pattern {
    text: || "^[0-9]+$".into(),
    accepts: |text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()),
};
const DIGITS0: Pattern =
    Pattern { text: || "^[0-9]*$".into(), accepts: |text| text.bytes().all(|b| b.is_ascii_digit()) };
const HOST_CHARACTERS: Pattern = Pattern {
    text: || r"^[a-zA-Z0-9-._#@:/+\[\]]*$".into(),
    accepts: |text| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._#@:/+[]".contains(&b)),
};
const PRINTABLE: Pattern = Pattern {
    text: printable_text,
    accepts: |text| text.chars().all(|c| u16::try_from(c as u32).is_ok_and(is_printable)),
};

/// The class of printable characters spelled out, as it appears in messages.
fn printable_text() -> String {
    let mut text = String::from("^[");
    for (first, last) in super::printable::PRINTABLE {
        push_escaped(&mut text, first);
        if last != first {
            text.push('-');
            push_escaped(&mut text, last);
        }
    }
    text + "]*$"
}

fn push_escaped(text: &mut String, unit: u16) {
    let c = char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER);
    if matches!(c, ' ' | '~') {
        text.push('\\');
    }
    text.push(c);
}
