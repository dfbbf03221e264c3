//! Recordings: a queue's life as JSON Lines (design, section 9).

use serde::{Deserialize, Serialize};

use super::text::plain;

/// Bytes of a bad line that an error quotes.
const QUOTE_MAX: usize = 256;

/// One line of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When it happened, in seconds since the epoch.
    pub t: f64,
    /// The file, relative to the queue directory (`job-6`) or, for `config.data` and
    /// `ssconf_*`, to Ganeti's data directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The file's whole new text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Whether the file was there when the recording began.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub initial: bool,
    /// The file was renamed to this path, relative to the queue directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
    /// The file was removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// The process that `event` is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// What happened to the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
}

/// What a line of a recording says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// The file has this text now.
    Content(&'a str, &'a str),
    /// The file was renamed.
    Moved(&'a str, &'a str),
    /// The file is gone.
    Removed(&'a str),
    /// The process has ended.
    Exit(u32),
    /// Something that this version does not know.
    Other,
}

impl Line {
    /// What the line says.
    pub fn change(&self) -> Change<'_> {
        match (self.path.as_deref(), self.content.as_deref(), self.moved_to.as_deref()) {
            (Some(path), Some(content), _) => Change::Content(path, content),
            (Some(path), None, Some(to)) => Change::Moved(path, to),
            (Some(path), None, None) if self.removed => Change::Removed(path),
            _ => match (self.pid, self.event.as_deref()) {
                (Some(pid), Some("exit")) => Change::Exit(pid),
                _ => Change::Other,
            },
        }
    }
}

/// A line that is not of the format.
#[derive(Debug, thiserror::Error)]
#[error(
    "line {number} is not a line of a recording ({}); each line is one JSON object with a time \"t\"",
    plain(&.error.to_string(), QUOTE_MAX)
)]
pub struct BadLine {
    /// The line's number, from 1.
    pub number: usize,
    /// What is wrong.
    #[source]
    pub error: serde_json::Error,
}

/// Reads line number `number` (from 1) of a recording; nothing for an empty one.
///
/// # Errors
/// When the line is not a JSON object of the format.
pub fn parse_line(number: usize, text: &[u8]) -> Result<Option<Line>, BadLine> {
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(text).map(Some).map_err(|error| BadLine { number, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_changed() {
        for (text, change) in [
            (r#"{"t":1.5,"path":"job-6","content":"{}"}"#, Change::Content("job-6", "{}")),
            (
                r#"{"t":1,"path":"job-6","moved_to":"archive/0/job-6"}"#,
                Change::Moved("job-6", "archive/0/job-6"),
            ),
            (r#"{"t":1,"path":"job-6","removed":true}"#, Change::Removed("job-6")),
            (r#"{"t":1,"pid":7,"event":"exit"}"#, Change::Exit(7)),
            (r#"{"t":1,"pid":7,"event":"birth","colour":"red"}"#, Change::Other),
        ] {
            assert_eq!(parse_line(1, text.as_bytes()).unwrap().unwrap().change(), change);
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = parse_line(7, b"{\"t\":").unwrap_err().to_string();
        assert!(error.starts_with("line 7 is not"), "{error}");
        assert!(parse_line(8, b"  \n").unwrap().is_none());
        let huge = format!("{{\"t\":\"{}\"}}", "x".repeat(1_000_000));
        assert!(parse_line(9, huge.as_bytes()).unwrap_err().to_string().len() < 500);
    }
}
