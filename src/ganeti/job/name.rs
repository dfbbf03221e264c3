//! Names in the queue directory (Ganeti: `pathutils.QUEUE_DIR`, `jstore.py`).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The directory of archived jobs, below the queue directory.
pub const ARCHIVE_DIR: &str = "archive";

/// The file that holds the last job number given out.
pub const SERIAL_FILE: &str = "serial";

/// Archived jobs per directory (Ganeti: `constants.JSTORE_JOBS_PER_ARCHIVE_DIRECTORY`).
const JOBS_PER_ARCHIVE_DIR: i64 = 10_000;

/// A job's number, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct JobId(i64);

/// A job number that is none.
#[derive(Debug, thiserror::Error)]
#[error("not a job number: job numbers are whole numbers from 1")]
pub struct InvalidJobId;

impl JobId {
    /// The first number that a cluster gives out.
    pub const FIRST: Self = Self(1);

    /// The number after this one, unless there is none.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    /// The job whose file has this name: `^job-[1-9][0-9]*$` and nothing else. The
    /// writers' temporary names (`job-6-3222-22.tmp`, `job-6rcjk9k5j.new`) are not.
    pub fn from_file_name(name: &[u8]) -> Option<Self> {
        let digits = name.strip_prefix(b"job-")?;
        if digits.first() == Some(&b'0') || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// The name of the job's file in the queue directory.
    pub fn file_name(self) -> String {
        format!("job-{}", self.0)
    }

    /// Where the job is archived, relative to the queue directory.
    pub fn archive_path(self) -> PathBuf {
        PathBuf::from(format!("{ARCHIVE_DIR}/{}/job-{}", self.0 / JOBS_PER_ARCHIVE_DIR, self.0))
    }

    /// The job's number.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for JobId {
    type Error = InvalidJobId;

    fn try_from(id: i64) -> Result<Self, InvalidJobId> {
        if id >= 1 { Ok(Self(id)) } else { Err(InvalidJobId) }
    }
}

impl From<JobId> for i64 {
    fn from(id: JobId) -> i64 {
        id.0
    }
}

impl FromStr for JobId {
    type Err = InvalidJobId;

    fn from_str(text: &str) -> Result<Self, InvalidJobId> {
        text.parse::<i64>().map_err(|_| InvalidJobId)?.try_into()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_final_names_are_jobs() {
        for (name, expected) in [
            ("job-1", Some(1)),
            ("job-6001", Some(6001)),
            ("job-0", None),
            ("job-01", None),
            ("job-", None),
            ("job-6rcjk9k5j.new", None),
            ("job-6-3222-22.tmp", None),
            ("job-6 ", None),
            ("job--6", None),
            ("job-+6", None),
            ("serial", None),
            ("job-99999999999999999999", None),
        ] {
            assert_eq!(JobId::from_file_name(name.as_bytes()).map(JobId::get), expected, "{name}");
        }
    }

    #[test]
    fn archive_directories_hold_ten_thousand_jobs() {
        let path = |id: i64| JobId(id).archive_path().display().to_string();
        assert_eq!(path(9_999), "archive/0/job-9999");
        assert_eq!(path(10_000), "archive/1/job-10000");
    }
}
