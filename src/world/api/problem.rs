//! What goes wrong, as a client is told it: a problem (RFC 9457).

use std::{fmt, io};

use serde_json::{Map, Value, json};

use crate::world::http::{Answer, reason_phrase};

/// An answer that is not what was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    status: u16,
    detail: String,
    /// Members that only this kind has.
    more: Map<String, Value>,
    allow: Option<&'static str>,
}

impl Problem {
    /// A problem of this HTTP status, and what is to be said of it.
    pub fn new(status: u16, detail: impl ToString) -> Self {
        Self { status, detail: detail.to_string(), more: Map::new(), allow: None }
    }

    /// Also tells this.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// Only these methods are for this target.
    pub fn only(methods: &'static str) -> Self {
        Self { allow: Some(methods), ..Self::new(405, format!("this is for {methods} only")) }
    }

    /// Whether it is no fault of the client's.
    pub fn is_ours(&self) -> bool {
        self.status >= 500
    }

    /// As it is answered.
    pub fn answer(&self) -> Answer {
        let mut body = json!({
            "type": "about:blank",
            "title": reason_phrase(self.status),
            "status": self.status,
            "detail": self.detail,
        });
        if let Value::Object(members) = &mut body {
            members.extend(self.more.clone());
        }
        let answer = Answer::new(self.status, "application/problem+json", format!("{body}\n"));
        match self.allow {
            Some(methods) => answer.with("Allow", methods),
            None => answer,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// What is no fault of the client's.
impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::new(500, error)
    }
}
