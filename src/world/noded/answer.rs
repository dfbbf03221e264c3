//! What a node daemon answers.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::engine::outcome::Outcome;

/// A script was not one to run (Ganeti: `constants.HKR_SKIP`).
const SKIPPED: i64 = 0;

/// A script ran and exited with 0 (Ganeti: `constants.HKR_SUCCESS`).
const SUCCEEDED: i64 = 2;

/// The result in an answer to any call: `[true, RESULT]`, or `[false, "why not"]`
/// (Ganeti: `server/noded.py`, `NodeRequestHandler.HandleRequest`).
///
/// # Errors
/// Why there is no result, in the daemon's words or ours.
pub fn result(body: &[u8]) -> Result<&RawValue, String> {
    let (done, result): (bool, &RawValue) =
        serde_json::from_slice(body).map_err(|error| format!("its answer cannot be read: {error}"))?;
    if done {
        return Ok(result);
    }
    let why = serde_json::from_str(result.get()).unwrap_or_else(|_| result.get().to_owned());
    Err(format!("it says: {}", readable(&why)))
}

/// The scripts that ran and how each ended, from the result of a call of `hooks_runner`:
/// `[["global-pre.d/10-log", 2, "output"], ...]` (Ganeti: `backend.py`,
/// `HooksRunner.RunHooks`). At most `limit` bytes of output are kept of each.
///
/// # Errors
/// When the result is not of that form.
pub fn scripts(result: &RawValue, limit: usize) -> Result<Vec<(String, Outcome)>, String> {
    let scripts: Vec<(String, i64, Value)> =
        serde_json::from_str(result.get()).map_err(|error| format!("its answer cannot be read: {error}"))?;
    let ran = scripts.into_iter().filter(|(_, how, _)| *how != SKIPPED);
    Ok(ran
        .map(|(path, how, output)| {
            let name = path.rsplit('/').next().unwrap_or_default().to_owned();
            (name, outcome(how, output.as_str().unwrap_or_default(), limit))
        })
        .collect())
}

fn outcome(how: i64, output: &str, limit: usize) -> Outcome {
    let mut output = readable(output);
    let kept = (0..=limit.min(output.len())).rev().find(|at| output.is_char_boundary(*at)).unwrap_or(0);
    let dropped = (output.len() - kept) as u64;
    output.truncate(kept);
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
        assert_eq!(result(br#"[false, "no\\nhooks"]"#).unwrap_err(), "it says: no\nhooks");
        assert!(result(b"[true").unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn scripts_have_their_outcomes() {
        let body = br#"[true, [["global-pre.d/10-a", 2, "fine"], ["global-pre.d/20-b", 1, "1234\\n"],
                               ["global-pre.d/notes.txt", 0, ""]]]"#;
        let scripts = scripts(result(body).unwrap(), 3).unwrap();
        assert_eq!(scripts.len(), 2);
        assert_eq!(
            (scripts[0].0.as_str(), scripts[0].1.code, scripts[0].1.output.as_str()),
            ("10-a", Some(0), "fin")
        );
        assert!(!scripts[1].1.succeeded());
        assert_eq!((scripts[1].1.code, scripts[1].1.dropped), (None, 2));
    }
}
