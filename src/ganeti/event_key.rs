//! What names an event: job, opcode and phase; and how its opcode ended.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use crate::ganeti::job::JobId;

/// Before or after the opcode (Ganeti: `constants.HOOKS_PHASE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Before the opcode executes.
    Pre,
    /// After the opcode ended.
    Post,
}

impl Phase {
    /// `pre` or `post`, as in `GANETI_HOOKS_PHASE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pre => "pre",
            Self::Post => "post",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Phase {
    type Err = InvalidPhase;

    fn from_str(text: &str) -> Result<Self, InvalidPhase> {
        match text {
            "pre" => Ok(Self::Pre),
            "post" => Ok(Self::Post),
            _ => Err(InvalidPhase),
        }
    }
}

/// A text that names no phase.
#[derive(Debug, thiserror::Error)]
#[error("a phase is pre or post")]
pub struct InvalidPhase;

/// How an opcode ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PostStatus {
    /// Its status became `success`.
    Succeeded,
    /// It had started and its status became `error`; or it was canceled after its pre.
    Failed,
    /// The job process died before the opcode ended.
    Disappeared,
}

impl PostStatus {
    /// All that there are.
    pub const ALL: [Self; 3] = [Self::Succeeded, Self::Failed, Self::Disappeared];

    /// The word in `GANETI_POST_STATUS` and in the history.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Disappeared => "disappeared",
        }
    }

    /// The word that Ganeti's never-released branch used.
    pub fn upstream(self) -> &'static str {
        match self {
            Self::Succeeded => "success",
            Self::Failed => "error",
            Self::Disappeared => "disappeared",
        }
    }
}

impl FromStr for PostStatus {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(InvalidKey)
    }
}

/// What an event is about: its job, opcode and phase. Written `42.0.post`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKey {
    /// The job.
    pub job: JobId,
    /// The opcode's index in the job, from 0.
    pub op: u32,
    /// Before or after.
    pub phase: Phase,
}

/// A text that names no event.
#[derive(Debug, thiserror::Error)]
#[error("not an event: an event is written JOB.OPCODE.PHASE, for example 42.0.post")]
pub struct InvalidKey;

impl fmt::Display for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.job, self.op, self.phase)
    }
}

impl FromStr for EventKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let mut parts = text.split('.');
        let (Some(job), Some(op), Some(phase), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidKey);
        };
        Ok(Self {
            job: job.parse().map_err(|_| InvalidKey)?,
            op: op.parse().map_err(|_| InvalidKey)?,
            phase: phase.parse().map_err(|_| InvalidKey)?,
        })
    }
}

impl Serialize for EventKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let key: EventKey = "42.0.post".parse().unwrap();
        assert_eq!(key.to_string(), "42.0.post");
        for bad in ["", "42", "42.0", "42.0.during", "0.0.pre", "42.-1.pre", "42.0.pre.x"] {
            assert!(bad.parse::<EventKey>().is_err(), "{bad}");
        }
    }
}
