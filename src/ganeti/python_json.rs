//! JSON as Python writes it, where a strict reader refuses it.
//!
//! Arguments that were not UTF-8 are strings with lone surrogates (Python: PEP 383), numbers may
//! be beyond what a float holds, and lists nest as deep as somebody typed them. [`read`] lets
//! each of those cost itself: what is not UTF-8 is replaced, as it is in the output of hooks; such
//! a number is a text, as Python prints it; what is too deep is left out of its object, and is
//! null in its list. Numbers that are none, and a byte order mark, are no JSON at all: [`as_json`].

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The most objects and lists around a value that is read.
const DEPTH_MAX: usize = 32;

/// What a text says.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The value; `None` when it cannot be said at all.
    pub value: Option<Value>,
    /// Whether that is not all that stands there.
    pub is_damaged: bool,
}

/// Reads the text of one value.
pub fn read(raw: &RawValue) -> Reading {
    match serde_json::from_str(raw.get()) {
        Ok(value) => Reading { value: Some(value), is_damaged: false },
        Err(_) => Reading { value: piecewise(raw, 0), is_damaged: true },
    }
}

/// A text with what Python writes and reads but JSON has not, `NaN`, `Infinity` and a byte order mark
/// (Python: `json`, simplejson), in words that JSON has; `None` where there is nothing of the kind.
pub fn as_json(text: &[u8]) -> Option<Vec<u8>> {
    const WORDS: [(&[u8], &[u8]); 2] = [(b"NaN", b"\"nan\""), (b"Infinity", b"1e999")];
    let mut rest = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut is_changed = rest.len() < text.len();
    let mut json = Vec::with_capacity(rest.len());
    while let Some(first) = rest.first() {
        let word = WORDS.iter().find(|(word, _)| rest.starts_with(word));
        let length = match first {
            b'"' => length_of_string(rest),
            _ => word.map_or(1, |(word, _)| word.len()),
        };
        json.extend_from_slice(word.map_or(&rest[..length], |(_, written)| written));
        is_changed |= word.is_some();
        rest = &rest[length..];
    }
    is_changed.then_some(json)
}

/// How long the string is that a text begins with.
fn length_of_string(text: &[u8]) -> usize {
    let mut is_escaped = false;
    let end = text.iter().skip(1).position(|byte| {
        let is_end = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |at| at + 2)
}

/// The members of an object, each as its text, in their order.
///
/// # Errors
/// When it is not an object.
pub fn members(raw: &RawValue) -> Result<Vec<(String, &RawValue)>, serde_json::Error> {
    serde_json::from_str(raw.get()).map(|Members(members)| members)
}

/// The texts of an object's members of these names; of two of one name the last, as in Python.
/// The others are skipped. There are none in what is not an object.
pub fn fields<'a, const N: usize>(raw: &'a RawValue, names: [&str; N]) -> [Option<&'a RawValue>; N] {
    Fields(names).deserialize(&mut serde_json::Deserializer::from_str(raw.get())).unwrap_or([None; N])
}

/// Reads a value that a strict reader has refused.
fn piecewise(raw: &RawValue, depth: usize) -> Option<Value> {
    let text = raw.get();
    match text.as_bytes().first()? {
        b'{' | b'[' if depth >= DEPTH_MAX => None,
        b'{' => {
            let member = |(key, raw)| Some((key, either(raw, depth + 1)?));
            Some(Value::Object(members(raw).ok()?.into_iter().filter_map(member).collect::<Map<_, _>>()))
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let item = |raw| either(raw, depth + 1).unwrap_or_default();
            Some(Value::Array(items.into_iter().map(item).collect()))
        }
        b'"' => serde_json::from_str(text).ok().map(|Lossy(text)| Value::String(text)),
        b'-' | b'0'..=b'9' => Some(Value::String(number(text))),
        _ => None,
    }
}

/// A number that no float holds, as Python prints it: its integers have no bounds.
fn number(text: &str) -> String {
    let is_integer = text.bytes().all(|b| b == b'-' || b.is_ascii_digit());
    let infinity = if text.starts_with('-') { "-inf" } else { "inf" };
    if is_integer { text } else { infinity }.to_owned()
}

fn either(raw: &RawValue, depth: usize) -> Option<Value> {
    serde_json::from_str(raw.get()).ok().or_else(|| piecewise(raw, depth))
}

/// A string in which what is not Unicode is replaced.
pub(crate) struct Lossy(pub String);

impl<'de> Deserialize<'de> for Lossy {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        // Asked for bytes, serde_json passes a lone surrogate on, as if it were a character.
        input.deserialize_bytes(LossyVisitor)
    }
}

struct LossyVisitor;

impl Visitor<'_> for LossyVisitor {
    type Value = Lossy;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Lossy, E> {
        Ok(Lossy(replaced(bytes)))
    }
}

/// One replacement for each surrogate, which has three bytes here, and each other bad byte.
fn replaced(bytes: &[u8]) -> String {
    let is_surrogate = |bad: &[u8]| matches!(bad, [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..]);
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let good = match std::str::from_utf8(rest) {
            Ok(all) => all,
            Err(error) => std::str::from_utf8(&rest[..error.valid_up_to()]).unwrap_or_default(),
        };
        text.push_str(good);
        rest = &rest[good.len()..];
        if !rest.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            rest = &rest[if is_surrogate(rest) { 3 } else { 1 }..];
        }
    }
    text
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((Lossy(key), value)) = map.next_entry()? {
            members.push((key, value));
        }
        Ok(Members(members))
    }
}

struct Fields<'n, const N: usize>([&'n str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Fields<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Fields<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(place) = map.next_key_seed(Place(&self.0))? {
            match place {
                Some(place) => found[place] = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// Which of the names a member has. A name that is not UTF-8 is none of them.
struct Place<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Option<usize>, D::Error> {
        input.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Place<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|name| name.as_bytes() == bytes))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reading(text: &str) -> Reading {
        read(serde_json::from_str(text).unwrap())
    }

    fn damaged(value: impl Into<Option<Value>>) -> Reading {
        Reading { value: value.into(), is_damaged: true }
    }

    #[test]
    fn what_a_strict_reader_reads_is_read_as_it_is() {
        let text = r#"{"a": [1, 2.5, "\ud83d\ude00", null], "a": {"b": true}}"#;
        let value = Some(serde_json::from_str(text).unwrap());
        assert_eq!(reading(text), Reading { value, is_damaged: false });
    }

    #[test]
    fn what_is_not_utf8_is_replaced() {
        assert_eq!(reading(r#""caf\udce9 \ud83d\ude00""#), damaged(json!("caf\u{fffd} 😀")));
        assert_eq!(reading(r#""\ud800\udbff x\udc00""#), damaged(json!("\u{fffd}\u{fffd} x\u{fffd}")));
        assert_eq!(
            reading(r#"{"\udc80": 1, "b": ["\udc80", 2]}"#),
            damaged(json!({"\u{fffd}": 1, "b": ["\u{fffd}", 2]}))
        );
    }

    #[test]
    fn numbers_without_bounds_are_texts() {
        assert_eq!(reading("1e400"), damaged(json!("inf")));
        assert_eq!(
            reading(r#"{"a": 1.5E+400, "b": [-1e400, 2]}"#),
            damaged(json!({"a": "inf", "b": ["-inf", 2]}))
        );
        let digits = format!("-{}", "7".repeat(400));
        assert_eq!(reading(&digits), damaged(json!(digits)));
    }

    #[test]
    fn what_is_too_deep_costs_itself() {
        let deep = format!(r#"{{"a": {}{}, "b": 1}}"#, "[".repeat(100_000), "]".repeat(100_000));
        let value = reading(&deep).value.unwrap();
        assert_eq!(value["b"], 1);
        let mut depth = 0;
        let mut inner = &value["a"];
        while let Some(next) = inner.get(0) {
            (inner, depth) = (next, depth + 1);
        }
        assert!((1..=DEPTH_MAX).contains(&depth) && inner.is_null(), "{depth}");
    }

    #[test]
    fn fields_are_found_beside_anything() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let text = format!(r#"{{"\udc80": 1e400, "b": 1, "x": {deep}, "n\u0061me": "\udc80", "b": [2]}}"#);
        let raw: &RawValue = serde_json::from_str(&text).unwrap();
        let found = fields(raw, ["name", "b", "c"]).map(|raw| raw.map(RawValue::get));
        assert_eq!(found, [Some(r#""\udc80""#), Some("[2]"), None]);
        for other in ["null", "[1]", r#""b""#, "1e400", "{}"] {
            assert!(fields(serde_json::from_str(other).unwrap(), ["b"])[0].is_none(), "{other}");
        }
    }
}
