//! The options that choose events of the history.

use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::Failure;
use super::times::{Period, Zone};
use crate::ganeti::event::PostStatus;
use crate::ganeti::job::JobId;
use crate::ganeti::object::{InvalidPattern, ObjectPattern};
use crate::world::journal::Filter;

/// Which events are meant; with several options those that all of them mean.
#[derive(Clone, Debug, clap::Args)]
pub struct FilterArgs {
    /// Only events of this job
    #[arg(long, value_name = "JOB")]
    job: Option<JobId>,

    /// Only events about this object: NAME, KIND/NAME or KIND/
    ///
    /// NAME may be the first labels of the full name, web1 for web1.example.com. KIND is instance,
    /// node, cluster, group or network.
    #[arg(long, value_name = "OBJECT")]
    object: Option<ObjectPattern>,

    /// Only events of this opcode; * stands for any text
    ///
    /// In any case, with or without OP_, with _ or -: OP_INSTANCE_MIGRATE, instance-migrate, *migrate.
    #[arg(long, value_name = "OPCODE")]
    op_code: Option<OpCodePattern>,

    /// Only posts of opcodes that ended so
    #[arg(long, value_parser = status())]
    status: Option<PostStatus>,

    #[command(flatten)]
    period: Period,

    /// Only events with this text in Ganeti's reason trail, in any case
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Only events with a hook run that failed
    #[arg(long)]
    failed: bool,
}

fn status() -> impl TypedValueParser<Value = PostStatus> {
    let words = PostStatus::ALL.map(PostStatus::as_str);
    PossibleValuesParser::new(words).try_map(|word| word.parse::<PostStatus>())
}

impl FilterArgs {
    /// The filter, with times in this zone.
    ///
    /// # Errors
    /// When nothing can be meant.
    pub fn filter(&self, zone: Zone) -> Result<Filter, Failure> {
        let [since, until] = self.period.resolve(zone)?;
        Ok(Filter {
            job: self.job,
            object: self.object.clone(),
            op_code: self.op_code.clone().map(|pattern| pattern.0),
            status: self.status,
            since,
            until,
            reason: self.reason.clone(),
            failed: self.failed,
            ..Filter::default()
        })
    }
}

impl FilterArgs {
    /// What they leave out, but for the times.
    pub fn in_words(&self) -> Vec<String> {
        let words = [
            ("job", self.job.map(|job| job.to_string())),
            ("object", self.object.as_ref().map(ToString::to_string)),
            ("opcode", self.op_code.as_ref().map(|pattern| pattern.0.clone())),
            ("status", self.status.map(|status| status.as_str().to_owned())),
            ("reason", self.reason.clone()),
            ("hooks", self.failed.then(|| "failed".to_owned())),
        ];
        words.into_iter().filter_map(|(name, value)| Some(format!("only {name} {}", value?))).collect()
    }
}

/// What a command is about: a job, or an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The job of this number.
    Job(JobId),
    /// An object, as `--object` takes it.
    Object(ObjectPattern),
}

impl FromStr for Subject {
    type Err = InvalidPattern;

    /// What is a number is a job's.
    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        text.parse().map(Self::Job).or_else(|_| text.parse().map(Self::Object))
    }
}

impl Subject {
    /// Only what is about it.
    pub fn narrow(self, filter: Filter) -> Filter {
        match self {
            Self::Job(job) => Filter { job: Some(job), ..filter },
            Self::Object(object) => Filter { object: Some(object), ..filter },
        }
    }
}

/// Which opcodes are meant, as Ganeti writes them: `OP_INSTANCE_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OpCodePattern(String);

/// A text that means no opcode.
#[derive(Debug, thiserror::Error)]
#[error("an opcode is for example OP_INSTANCE_MIGRATE, instance_migrate, instance-migrate or *migrate*")]
struct InvalidOpCode;

impl FromStr for OpCodePattern {
    type Err = InvalidOpCode;

    fn from_str(text: &str) -> Result<Self, InvalidOpCode> {
        let pattern = text.to_ascii_uppercase().replace('-', "_");
        let is_of_pattern = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '*');
        if pattern.is_empty() || !pattern.chars().all(is_of_pattern) {
            return Err(InvalidOpCode);
        }
        let is_whole = pattern.starts_with("OP_") || pattern.starts_with('*');
        Ok(Self(if is_whole { pattern } else { format!("OP_{pattern}") }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opcodes_are_meant_in_any_case_and_without_op() {
        for (text, pattern) in [
            ("OP_INSTANCE_MIGRATE", "OP_INSTANCE_MIGRATE"),
            ("instance_migrate", "OP_INSTANCE_MIGRATE"),
            ("instance-*", "OP_INSTANCE_*"),
            ("op_test_delay", "OP_TEST_DELAY"),
            ("*migrate*", "*MIGRATE*"),
        ] {
            assert_eq!(text.parse::<OpCodePattern>().unwrap().0, pattern);
        }
        for bad in ["", "OP_[X]", "a b", "migrate?"] {
            assert!(bad.parse::<OpCodePattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_a_number_is_a_job() {
        assert_eq!("42".parse::<Subject>().unwrap(), Subject::Job(42.try_into().unwrap()));
        assert!(matches!("instance/42".parse::<Subject>(), Ok(Subject::Object(_))));
    }
}
