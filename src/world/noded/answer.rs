//! What a node daemon answers.
//!
//! Promises: whatever a node says, what is made of it is bounded, and its texts are cut. A thing
//! in the answer that is no script costs itself, and is told.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::engine::outcome::Outcome;
use crate::ganeti::python_json;
use crate::ganeti::text::{cut, plain};

/// A script was not one to run (Ganeti: `constants.HKR_SKIP`).
const SKIPPED: i64 = 0;

/// A script ran and exited with 0 (Ganeti: `constants.HKR_SUCCESS`).
const SUCCEEDED: i64 = 2;

/// The most scripts of one node.
pub const SCRIPTS_MAX: usize = 1000;

/// The longest name of a script, in bytes (Linux: `NAME_MAX`).
const NAME_MAX: usize = 255;

/// Bytes that are quoted of what a node says besides outputs.
pub const QUOTE_MAX: usize = 1024;

/// What a node tells of its scripts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// Those that ran, and how each ended.
    pub scripts: Vec<(String, Outcome)>,
    /// What else it told, which is no news of a script.
    pub complaint: Option<String>,
}

/// The result in an answer to any call: `[true, RESULT]`, or `[false, "why not"]`
/// (Ganeti: `server/noded.py`, `NodeRequestHandler.HandleRequest`).
///
/// # Errors
/// Why there is no result, in the daemon's words or ours, as one line.
pub fn result(body: &[u8]) -> Result<&RawValue, String> {
    let (done, result): (bool, &RawValue) = serde_json::from_slice(body).map_err(unreadable)?;
    if done {
        return Ok(result);
    }
    let why = serde_json::from_str(result.get()).unwrap_or_else(|_| result.get().to_owned());
    Err(format!("it says: {}", plain(&readable(&why), QUOTE_MAX)))
}

fn unreadable(error: impl ToString) -> String {
    format!("its answer cannot be read: {}", plain(&error.to_string(), QUOTE_MAX))
}

/// The scripts that ran and how each ended, from the result of a call of `hooks_runner`:
/// `[["global-pre.d/10-log", 2, "output"], ...]` (Ganeti: `backend.py`,
/// `HooksRunner.RunHooks`). At most `limit` bytes of output are kept of each.
///
/// # Errors
/// When the result is no list.
pub fn scripts(result: &RawValue, limit: usize) -> Result<Told, String> {
    let entries: Vec<&RawValue> = serde_json::from_str(result.get()).map_err(unreadable)?;
    let mut told = Told::default();
    let (mut strange, mut too_many) = (Vec::new(), 0_usize);
    for entry in entries {
        match script(entry, limit) {
            Ok(None) => {}
            Ok(Some(_)) if told.scripts.len() >= SCRIPTS_MAX => too_many += 1,
            Ok(Some(script)) => told.scripts.push(script),
            Err(NoScript) => strange.push(entry),
        }
    }
    told.complaint = match (strange.first(), too_many) {
        (Some(first), _) => {
            let (count, first) = (strange.len(), plain(first.get(), NAME_MAX));
            Some(format!("its answer holds {count} entries that tell of no script, the first is {first}"))
        }
        (None, 0) => None,
        (None, _) => Some(format!("it ran {too_many} scripts more than the {SCRIPTS_MAX} that are recorded")),
    };
    Ok(told)
}

/// An entry that tells of no script.
struct NoScript;

/// The script that an entry tells of; none for one that was not to run.
fn script(entry: &RawValue, limit: usize) -> Result<Option<(String, Outcome)>, NoScript> {
    let (path, how, output): (String, i64, &RawValue) =
        serde_json::from_str(entry.get()).map_err(|_| NoScript)?;
    if how == SKIPPED {
        return Ok(None);
    }
    let name = path.rsplit('/').next().filter(|name| is_script_name(name)).ok_or(NoScript)?;
    let output = python_json::read(output).value;
    let output = output.as_ref().and_then(Value::as_str).unwrap_or_default();
    Ok(Some((name.to_owned(), outcome(how, output, limit))))
}

/// Whether Ganeti runs files of this name (Ganeti: `constants.EXT_PLUGIN_MASK`).
fn is_script_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn outcome(how: i64, output: &str, limit: usize) -> Outcome {
    let mut output = readable(output);
    let dropped = cut(&mut output, limit);
    let failed = "failed; a node daemon does not tell the exit code";
    match how {
        SUCCEEDED => Outcome { code: Some(0), output, dropped, ..Outcome::default() },
        _ => Outcome { output, dropped, ..Outcome::not_run(failed) },
    }
}

/// The text that Ganeti escaped before it sent it (Ganeti: `utils/text.py`,
/// `SafeEncode`). It does not escape the backslash, so what only looks escaped is taken
/// for it; what is no escape stays as it is.
pub fn readable(text: &str) -> String {
    let mut readable = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        readable.push_str(&rest[..at]);
        rest = &rest[at..];
        let (char, length) = unescape(rest).unwrap_or(('\\', 1));
        readable.push(char);
        rest = &rest[length..];
    }
    readable.push_str(rest);
    readable
}

/// The character that an escape at the start of `text` stands for, and its length.
fn unescape(text: &str) -> Option<(char, usize)> {
    // A carriage return is written with quotes, by a slip in Ganeti.
    for (escape, char) in [("\\n", '\n'), ("\\t", '\t'), ("\\'r'", '\r')] {
        if text.starts_with(escape) {
            return Some((char, escape.len()));
        }
    }
    let digits = match text.as_bytes().get(1)? {
        b'x' => 2,
        b'u' => 4,
        b'U' => 8,
        _ => return None,
    };
    let hex = text.get(2..2 + digits).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let char = char::from_u32(u32::from_str_radix(hex, 16).ok()?)?;
    Some((char, 2 + digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_output_is_readable() {
        for (escaped, plain) in [
            (r"one\ntwo\tthree", "one\ntwo\tthree"),
            (r"back\'r'", "back\r"),
            (r"caf\xe9 \u20ac \U0001f600", "café € 😀"),
            (r"bell\x07", "bell\x07"),
            (r"C:\dir \x4 \xzz \ud800 \", r"C:\dir \x4 \xzz \ud800 \"),
            ("", ""),
        ] {
            assert_eq!(readable(escaped), plain);
        }
    }

    #[test]
    fn the_daemons_refusal_is_told_in_its_words() {
        assert_eq!(result(br#"[true, 3]"#).unwrap().get(), "3");
        assert_eq!(result(br#"[false, "no\\nhooks"]"#).unwrap_err(), "it says: no\\nhooks");
        let long = format!("[false, \"{}\"]", "x".repeat(100_000));
        assert!(result(long.as_bytes()).unwrap_err().len() < QUOTE_MAX + 50);
        assert!(result(b"[true").unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn scripts_have_their_outcomes() {
        let body = br#"[true, [["global-pre.d/10-a", 2, "fine"], ["global-pre.d/20-b", 1, "1234\\n"],
                               ["global-pre.d/notes.txt", 0, ""]]]"#;
        let Told { scripts, complaint } = scripts(result(body).unwrap(), 3).unwrap();
        assert_eq!(complaint, None);
        assert_eq!(scripts.len(), 2);
        assert_eq!(
            (scripts[0].0.as_str(), scripts[0].1.code, scripts[0].1.output.as_str()),
            ("10-a", Some(0), "fin")
        );
        assert!(!scripts[1].1.succeeded());
        assert_eq!((scripts[1].1.code, scripts[1].1.dropped), (None, 2));
    }

    #[test]
    fn what_is_no_script_costs_itself_and_is_told() {
        let body = format!(
            r#"[["d/ok", 2, "caf\udce9"], ["d/a\nb", 2, ""], ["d/\u001b[2J", 1, ""], ["", 1, ""], ["{}", 1, ""],
                ["d/x.y", 1, ""], ["d/notes.txt", 0, ""], ["d/no-code", "2", ""], 7, ["d/last", 1, null]]"#,
            "x".repeat(256)
        );
        let told = scripts(serde_json::from_str(&body).unwrap(), 100).unwrap();
        let ran: Vec<_> = told.scripts.iter().map(|(name, outcome)| (&**name, &*outcome.output)).collect();
        assert_eq!(ran, [("ok", "caf\u{fffd}"), ("last", "")]);
        let complaint = told.complaint.unwrap();
        assert!(
            complaint.contains("7 entries that tell of no script, the first is [\"d/a\\nb\""),
            "{complaint}"
        );
        assert!(!complaint.contains('\n'));
    }

    #[test]
    fn so_many_scripts_are_recorded_and_no_more() {
        let entries = vec![r#"["d/10-a", 1, ""]"#; SCRIPTS_MAX + 5].join(",");
        let told = scripts(serde_json::from_str(&format!("[{entries}]")).unwrap(), 100).unwrap();
        assert_eq!(told.scripts.len(), SCRIPTS_MAX);
        assert!(told.complaint.unwrap().starts_with("it ran 5 scripts more than the 1000"));
    }
}
