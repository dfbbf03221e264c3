//! Ganeti's locks, as luxid tells them (what `gnt-debug locks` asks for).

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::luxi;
use crate::ganeti::job::JobId;

/// What luxid is asked for of each lock (Ganeti: `query.py`, `_BuildLockFields`).
const FIELDS: [&str; 4] = ["name", "mode", "owner", "pending"];

/// The largest answer, in bytes: some 150 are said of a lock, and more of one that many wait for.
const ANSWER_LIMIT: u64 = 32 * 1024 * 1024;

/// Says that a field has a value (Ganeti: `constants.RS_NORMAL`).
const NORMAL: i64 = 0;

/// A lock that somebody has or waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Its name, e.g. `node/b60d90a4-5da0-4cd6-8f18-a500d6e6c9c4`.
    pub name: String,
    /// `exclusive` or `shared`; `None` where nobody has it.
    pub mode: Option<String>,
    /// Who has it.
    pub owners: Vec<Client>,
    /// Who waits for it, and for which mode.
    pub pending: Vec<(String, Vec<Client>)>,
}

/// Somebody who has or wants a lock: a number, or a string, as JSON (Ganeti:
/// `src/Ganeti/Locking/Locks.hs`, `ClientType`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// A job.
    Job(JobId),
    /// A program that is none, by its name.
    Other(String),
}

impl Client {
    fn parse(text: &str) -> Option<Self> {
        let other = || serde_json::from_str(text).ok().map(Self::Other);
        text.parse().ok().map(Self::Job).or_else(other)
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Vec<(i64, Value)>>,
}

/// All locks that somebody has or waits for, as luxid below Ganeti's run directory tells them.
///
/// # Errors
/// When it does not, in words.
pub fn read(ganeti_run_dir: &Path) -> Result<Vec<Lock>, String> {
    let socket = ganeti_run_dir.join(luxi::LUXID);
    let Answer { data } = luxi::ask(&socket, "Query", &json!(["lock", FIELDS, null]), ANSWER_LIMIT)?;
    let no_lock = || format!("{}: its answer is none", socket.display());
    let locks = data.into_iter().map(|row| lock(row).ok_or_else(no_lock));
    let is_used = |lock: &Lock| !lock.owners.is_empty() || !lock.pending.is_empty();
    locks.filter(|lock| lock.as_ref().map_or(true, is_used)).collect()
}

/// The lock in a row of [`FIELDS`].
fn lock(row: Vec<(i64, Value)>) -> Option<Lock> {
    let [name, mode, owners, pending] = <[_; 4]>::try_from(row).ok()?;
    let clients =
        |names: Vec<String>| names.iter().map(|name| Client::parse(name)).collect::<Option<Vec<Client>>>();
    let pending: Vec<(String, Vec<String>)> = value(pending)?.unwrap_or_default();
    Some(Lock {
        name: value(name)??,
        mode: value(mode)?,
        owners: clients(value(owners)?.unwrap_or_default())?,
        pending: pending
            .into_iter()
            .map(|(mode, names)| Some((mode, clients(names)?)))
            .collect::<Option<_>>()?,
    })
}

/// The value of a field, if it has one.
fn value<T: DeserializeOwned>((status, value): (i64, Value)) -> Option<Option<T>> {
    if status == NORMAL { serde_json::from_value(value).ok() } else { Some(None) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::world::cluster::luxi::testing::serve;

    #[test]
    fn locks_are_told_with_who_has_them_and_who_waits() {
        let dir = tempfile::tempdir().unwrap();
        // As a real 3.0.2 says it.
        let rows = r#"[[[0,"cluster/BGL"],[0,"shared"],[0,["2","3"]],[0,[]]],
            [[0,"node/[lockset]"],[0,null],[0,[]],[0,[]]],
            [[0,"node/b60d90a4"],[0,"exclusive"],[0,["2"]],[0,[["exclusive",["3"]]]]],
            [[0,"node/5da04cd6"],[0,"shared"],[0,["2","\"tool\""]],[0,[]]]]"#;
        let answer = format!(r#"{{"success":true,"result":{{"fields":[],"data":{rows}}}}}"#);
        let asked = serve(dir.path(), luxi::LUXID, vec![answer]);
        let job = |id: i64| Client::Job(JobId::try_from(id).unwrap());
        let locks = read(dir.path()).unwrap();
        assert_eq!(locks.len(), 3, "nobody has or wants the lockset");
        assert_eq!((locks[0].owners.as_slice(), &locks[0].pending[..]), (&[job(2), job(3)][..], &[][..]));
        assert_eq!((locks[1].name.as_str(), locks[1].mode.as_deref()), ("node/b60d90a4", Some("exclusive")));
        assert_eq!(locks[1].pending, [("exclusive".to_owned(), vec![job(3)])]);
        assert_eq!(locks[2].owners, [job(2), Client::Other("tool".to_owned())]);
        assert_eq!(
            asked.recv().unwrap(),
            r#"{"method":"Query","args":["lock",["name","mode","owner","pending"],null]}"#
        );
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let missing = read(dir.path()).unwrap_err();
        assert!(missing.contains("it is there on the master alone"), "{missing}");
        for (answer, says) in [
            (r#"{"success":false,"result":["X",["no\u001b[31m"]]}"#, "it says"),
            (r#"{"success":true,"result":{"data":[[[0,"a"]]]}}"#, "its answer is none"),
            (
                r#"{"success":true,"result":{"data":[[[0,"a"],[0,null],[0,["x"]],[0,[]]]]}}"#,
                "its answer is none",
            ),
            (r#"{"success":true,"result":[]}"#, "its answer is none"),
            ("{", "its answer is none"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let _asked = serve(dir.path(), luxi::LUXID, vec![answer.to_owned()]);
            let error = read(dir.path()).unwrap_err();
            assert!(error.contains(says) && !error.contains('\u{1b}'), "{error}");
        }
        fs::remove_dir_all(dir.path()).unwrap();
    }
}
