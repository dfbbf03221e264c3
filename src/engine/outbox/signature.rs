//! Signing as Standard Webhooks says: HMAC-SHA256 of `ID.TIMESTAMP.BODY`, by each of the secrets.

use std::fmt;

use base64ct::{Base64, Encoding};
use ring::hmac::{HMAC_SHA256, Key, sign};

/// How a secret begins.
const PREFIX: &str = "whsec_";

/// The most secrets of an outbox.
const SECRETS_MAX: usize = 8;

/// The secrets of an outbox. They are never shown.
#[derive(Clone)]
pub struct Secrets(Vec<Key>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

/// A text that holds no secrets. What stands in it is not told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSecrets {
    /// Nothing is in it.
    #[error("holds no secret; write one: (printf whsec_; openssl rand -base64 32)")]
    None,
    /// Too many are in it.
    #[error("holds more than {SECRETS_MAX} secrets; each signs, and old ones are to be taken out")]
    TooMany,
    /// A line is none.
    #[error(
        "line {0} is no secret: a line is {PREFIX} and 24 to 64 bytes in base64, as (printf whsec_; openssl rand -base64 32) writes it"
    )]
    Line(usize),
}

impl Secrets {
    /// The secrets in a text: one a line, the first signs first; empty lines and those that begin
    /// with `#` do not count.
    ///
    /// # Errors
    /// Which line is none.
    pub fn parse(text: &str) -> Result<Self, BadSecrets> {
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let secret = line.strip_prefix(PREFIX).and_then(|secret| Base64::decode_vec(secret).ok());
            let secret = secret.filter(|secret| (24..=64).contains(&secret.len()));
            keys.push(Key::new(HMAC_SHA256, &secret.ok_or(BadSecrets::Line(number))?));
        }
        match keys.len() {
            0 => Err(BadSecrets::None),
            1..=SECRETS_MAX => Ok(Self(keys)),
            _ => Err(BadSecrets::TooMany),
        }
    }

    /// The header `webhook-signature` of a message that is sent at this time, in seconds since the
    /// epoch.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
        let signature = |key: &Key| format!("v1,{}", Base64::encode_string(sign(key, &signed).as_ref()));
        self.0.iter().map(signature).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_standard() {
        // As Python's hmac and base64 make it.
        let secrets = Secrets::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signature =
            secrets.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_secret_signs_the_first_one_first() {
        let [old, new] = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"];
        let signed = |text: &str| Secrets::parse(text).unwrap().sign("id", 1, b"body");
        let both = signed(&format!("# since Monday\n{new}\n\n  {old}\n"));
        assert_eq!(both, format!("{} {}", signed(new), signed(old)));
    }

    #[test]
    fn what_is_no_secret_is_not_shown() {
        let bad = [
            ("", BadSecrets::None),
            ("# a\n\n", BadSecrets::None),
            ("secret", BadSecrets::Line(1)),
            ("whsec_c2hvcnQ=", BadSecrets::Line(1)),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nwhsec_?", BadSecrets::Line(2)),
        ];
        for (text, expected) in bad {
            let error = Secrets::parse(text).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(text.is_empty() || !error.to_string().contains("c2hvcnQ"));
        }
        let many = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n".repeat(9);
        assert_eq!(Secrets::parse(&many).unwrap_err(), BadSecrets::TooMany);
        assert_eq!(format!("{:?}", Secrets::parse(&many[..39]).unwrap()), "1 secrets");
    }
}
