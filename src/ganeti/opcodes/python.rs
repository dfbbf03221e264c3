//! Values as Python prints them: Ganeti gives hooks `str(value)` of each.
//!
//! Ganeti: `lib/hooksmaster.py`, `HooksMaster._RunWrapper`.

use std::fmt::Write as _;

use serde_json::{Number, Value};

/// `str(value)` in Python. A missing value is `None`.
///
/// Objects are printed with their keys in the order of `serde_json`'s map.
pub(super) fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => repr(value),
        None => "None".to_owned(),
    }
}

/// Whether Python takes the value for true.
pub(super) fn truthy(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Bool(flag)) => *flag,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(items)) => !items.is_empty(),
    }
}

/// `True` or `False`.
pub(super) fn boolean(flag: bool) -> &'static str {
    if flag { "True" } else { "False" }
}

fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(flag) => boolean(*flag).to_owned(),
        Value::Number(number) => number_repr(number),
        Value::String(text) => string_repr(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(repr).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(items) => {
            let items: Vec<String> =
                items.iter().map(|(key, value)| format!("{}: {}", string_repr(key), repr(value))).collect();
            format!("{{{}}}", items.join(", "))
        }
    }
}

fn number_repr(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float_repr(float),
        _ => number.to_string(),
    }
}

/// The shortest digits that read back the same; an exponent below 1e-4 and from
/// 1e16 on.
fn float_repr(float: f64) -> String {
    let scientific = format!("{float:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = float.to_string();
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// Single quotes, unless the text holds those and no double quotes.
fn string_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if character == quote => {
                out.push('\\');
                out.push(character);
            }
            _ if printable(character) => out.push(character),
            _ => escape(&mut out, u32::from(character)),
        }
    }
    out.push(quote);
    out
}

fn escape(out: &mut String, code: u32) {
    // Writing to a string cannot fail.
    let _ = match code {
        0..=0xff => write!(out, "\\x{code:02x}"),
        0x100..=0xffff => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
}

/// Rust escapes for debugging what Python calls not printable, but a combining
/// mark only at the start of a text: so it is asked about the second place.
fn printable(character: char) -> bool {
    let mut text = String::from("a");
    text.push(character);
    !text.escape_debug().to_string().starts_with("a\\u") && character != '\0'
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn assert_str(expected: &str, value: &Value) {
        assert_eq!(text(Some(value)), expected);
    }

    #[test]
    fn scalars() {
        assert_eq!(text(None), "None");
        assert_str("None", &json!(null));
        assert_str("True", &json!(true));
        assert_str("False", &json!(false));
        assert_str("", &json!(""));
        assert_str("it's \n", &json!("it's \n"));
        assert_str("0", &json!(0));
        assert_str("-12", &json!(-12));
        assert_str("18446744073709551615", &json!(u64::MAX));
    }

    /// Expected values are what `python3 -c 'print(...)'` prints.
    #[test]
    fn floats() {
        for (expected, float) in [
            ("1.0", 1.0),
            ("-0.0", -0.0),
            ("20.0", 20.0),
            ("0.1", 0.1),
            ("0.0001", 0.0001),
            ("1e-05", 0.000_01),
            ("1.5e-07", 1.5e-7),
            ("123456789012345.6", 123_456_789_012_345.6),
            ("1000000000000000.0", 1e15),
            ("1e+16", 1e16),
            ("1.5e+300", 1.5e300),
        ] {
            assert_str(expected, &json!(float));
        }
    }

    #[test]
    fn collections() {
        assert_str("[]", &json!([]));
        assert_str("{}", &json!({}));
        assert_str("['a', 1, None, True, [2.0]]", &json!(["a", 1, null, true, [2.0]]));
        assert_str("{'a': 'b', 'c': {}}", &json!({"a": "b", "c": {}}));
    }

    #[test]
    fn quotes_and_escapes() {
        assert_str(r#"["it's"]"#, &json!(["it's"]));
        assert_str(r#"['"']"#, &json!(["\""]));
        assert_str(r#"['\'"']"#, &json!(["'\""]));
        assert_str(r"['a\\b\n\r\t']", &json!(["a\\b\n\r\t"]));
        assert_str(r"['\x00\x1b\x7f\xa0']", &json!(["\0\u{1b}\u{7f}\u{a0}"]));
        assert_str(r"['\u200b\ufeff']", &json!(["\u{200b}\u{feff}"]));
        assert_str(r"['\U000e0001']", &json!(["\u{e0001}"]));
        assert_str("['é ü 漢 \u{301}😀']", &json!(["é ü 漢 \u{301}😀"]));
    }

    #[test]
    fn truth() {
        for value in [json!(null), json!(0), json!(0.0), json!(""), json!([]), json!({})] {
            assert!(!truthy(Some(&value)), "{value}");
        }
        for value in [json!(1), json!(-0.5), json!("0"), json!([null]), json!({"a": 0})] {
            assert!(truthy(Some(&value)), "{value}");
        }
    }
}
