//! Secrets in what Ganeti writes: private and secret OS parameters, passwords.
//!
//! A text is gone through as it is, not parsed and written anew: what is left of it is as Ganeti
//! wrote it, and secrets are found in a damaged file, too.

use std::borrow::Cow;

/// The text of a job file or of the configuration without the values of secrets: what a key
/// such as `osparams_private` names keeps its keys, and every value in it is empty.
pub fn blanked(text: &str) -> Cow<'_, str> {
    let mut scan = Scan { text, at: 0, out: String::new(), copied: 0, depth: 0, secret: None };
    while let Some(byte) = text.as_bytes().get(scan.at) {
        match byte {
            b'"' => scan.string(),
            b'{' | b'[' => {
                scan.depth += 1;
                scan.at += 1;
            }
            b'}' | b']' => {
                scan.depth = scan.depth.saturating_sub(1);
                scan.at += 1;
                scan.value_ends();
            }
            b',' | b':' => scan.at += 1,
            byte if byte.is_ascii_whitespace() => scan.at += 1,
            _ => scan.scalar(),
        }
    }
    if scan.out.is_empty() {
        return Cow::Borrowed(text);
    }
    scan.out.push_str(&text[scan.copied..]);
    Cow::Owned(scan.out)
}

/// Whether what a key names is a secret. A file's name is none.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let parts = ["private", "secret", "password", "passwd", "passphrase"];
    parts.iter().any(|part| key.contains(part)) && !key.ends_with("_file")
}

/// A text that is gone through.
struct Scan<'a> {
    text: &'a str,
    at: usize,
    out: String,
    /// So much of the text is in `out`, or is left out of it.
    copied: usize,
    depth: usize,
    /// Where the key of the secret stands that is gone through.
    secret: Option<usize>,
}

impl Scan<'_> {
    /// A string: a key, or a value.
    fn string(&mut self) {
        let begin = self.at;
        self.at = end_of_string(self.text.as_bytes(), begin);
        let text = &self.text[begin..self.at];
        let is_key = self.text[self.at..].trim_start().starts_with(':');
        if is_key {
            let key = serde_json::from_str::<Cow<'_, str>>(text).unwrap_or(Cow::Borrowed(text));
            if self.secret.is_none() && is_secret(&key) {
                self.secret = Some(self.depth);
            }
            return;
        }
        self.replace(begin, "\"\"");
        self.value_ends();
    }

    /// A number, or a word.
    fn scalar(&mut self) {
        let begin = self.at;
        let rest = &self.text[begin..];
        let is_end = |c: char| c.is_ascii_whitespace() || ",:[]{}\"".contains(c);
        self.at = begin + rest.find(is_end).unwrap_or(rest.len());
        self.replace(begin, "null");
        self.value_ends();
    }

    /// Has what stands since `begin` replaced where it is of a secret.
    fn replace(&mut self, begin: usize, blank: &str) {
        if self.secret.is_some() {
            self.out.push_str(&self.text[self.copied..begin]);
            self.out.push_str(blank);
            self.copied = self.at;
        }
    }

    fn value_ends(&mut self) {
        self.secret = self.secret.filter(|depth| self.depth > *depth);
    }
}

/// Where a string that begins at a quote has ended.
fn end_of_string(text: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            // Whatever is escaped, its first byte ends nothing; in a text there is a character.
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn values_go_and_keys_stay() {
        for (text, expected) in [
            (
                r#"{"ops": [{"input": {"osparams_private": {"key": "s3cret", "n": 7}, "x": "y"}}]}"#,
                r#"{"ops": [{"input": {"osparams_private": {"key": "", "n": null}, "x": "y"}}]}"#,
            ),
            (r#"{"osparams_secret":null,"a":1.50}"#, r#"{"osparams_secret":null,"a":1.50}"#),
            (r#"{"osparams_secret" : "a\"b\\" ,"a":"b"}"#, r#"{"osparams_secret" : "" ,"a":"b"}"#),
            (
                r#"{"osparams_priv\u0061te":["a",{"b":"c"},[true]],"d":"e"}"#,
                r#"{"osparams_priv\u0061te":["",{"b":""},[null]],"d":"e"}"#,
            ),
            (
                r#"{"osparams_private_cluster":{"os":{"k":"v"}},"vnc_password_file":"/x"}"#,
                r#"{"osparams_private_cluster":{"os":{"k":""}},"vnc_password_file":"/x"}"#,
            ),
            // Not even where the file ends in the middle of it, or is no JSON.
            (r#"{"osparams_private": {"key": "s3cr"#, r#"{"osparams_private": {"key": """#),
            (r#"{"a": NaN, "root_password": "x", "b": "c"}"#, r#"{"a": NaN, "root_password": "", "b": "c"}"#),
            ("osparams_private is a word", "osparams_private is a word"),
            ("\"", "\""),
            ("\"\\", "\"\\"),
        ] {
            assert_eq!(blanked(text), expected);
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let key = prop::sample::select(vec!["a", "osparams_private", "x\"y", "secret"]);
        let leaf = prop_oneof![any::<i32>().prop_map(Value::from), "\\PC{0,6}".prop_map(Value::from)];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..4).prop_map(|pairs| {
                    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Value>()
                }),
            ]
        })
    }

    /// The same by way of a parsed document.
    fn model(value: Value, hidden: bool) -> Value {
        match value {
            Value::Object(pairs) => {
                let pair = |(key, value): (String, Value)| {
                    let hidden = hidden || is_secret(&key);
                    (key, model(value, hidden))
                };
                pairs.into_iter().map(pair).collect()
            }
            Value::Array(items) => items.into_iter().map(|item| model(item, hidden)).collect(),
            Value::String(_) if hidden => json!(""),
            _ if hidden => Value::Null,
            value => value,
        }
    }

    proptest! {
        #[test]
        fn as_a_parser_would_do_it(value in json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let blanked: Value = serde_json::from_str(&blanked(&text.unwrap())).unwrap();
            prop_assert_eq!(blanked, model(value, false));
        }

        #[test]
        fn any_text(text in "[\"{}:,\\\\a \\PC]{0,40}") {
            let _ = blanked(&text);
        }
    }
}
