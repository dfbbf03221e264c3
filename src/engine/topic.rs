//! What the lines of the log are about, for the systemd journal: its fields, and the message
//! IDs by which its catalog explains them (`packaging/ganeti-hookd.catalog`).

use crate::ganeti::event::{Event, EventKey, PostStatus};
use crate::ganeti::job::JobId;

/// What kind of line it is (systemd.journal-fields(7), `MESSAGE_ID`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageId {
    /// Something has happened in the job queue.
    Event,
    /// The process of a job has died.
    Disappeared,
    /// A hook, or a node that was to run some, has failed.
    HookFailed,
    /// A job went on before its pre hooks had ended.
    HoldTimedOut,
    /// A job was not held, or too late, for its pre hooks.
    NotHeld,
    /// The kernel does not stop jobs in the rename.
    HoldsBestEffort,
    /// The journal cannot be written.
    JournalStalled,
    /// An operator must see to something.
    Problem,
    /// A job file cannot be used.
    BadFile,
    /// The file of a job that has not ended is gone.
    Vanished,
    /// This node has become master, or is not any more.
    RoleChanged,
}

impl MessageId {
    /// All that there are.
    pub const ALL: [Self; 11] = [
        Self::Event,
        Self::Disappeared,
        Self::HookFailed,
        Self::HoldTimedOut,
        Self::NotHeld,
        Self::HoldsBestEffort,
        Self::JournalStalled,
        Self::Problem,
        Self::BadFile,
        Self::Vanished,
        Self::RoleChanged,
    ];

    /// The ID: 128 bits that are never anything else's.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "37ded92005b54b52be732e069922cb0d",
            Self::Disappeared => "b223fd36895a4c46a4d25b4bdb1db603",
            Self::HookFailed => "77eb18771a7442a6bac3926deea07c52",
            Self::HoldTimedOut => "ba14153ff6c047c4a625579cbefd8952",
            Self::NotHeld => "b515b53ea7044e13b16a09a578f5501e",
            Self::HoldsBestEffort => "2e7ba9e4ee4e43feb7799b3a9a44a12f",
            Self::JournalStalled => "d9eb0ae322f549f3bad486d6236c942b",
            Self::Problem => "d77b64a189bb4e9e873c30424f4f4282",
            Self::BadFile => "740d704100a746c48f2e6b83dd22921c",
            Self::Vanished => "578878efb2c44ebfac470a7b7f0251bb",
            Self::RoleChanged => "35e75c03819743358117aa77df4dd714",
        }
    }
}

/// What a line is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    id: Option<MessageId>,
    job: Option<JobId>,
    event: Option<EventKey>,
    op_code: Option<String>,
}

impl Topic {
    /// A line of this kind.
    pub fn of(id: MessageId) -> Self {
        Self { id: Some(id), ..Self::default() }
    }

    /// That an event was noticed.
    pub fn noticed(event: &Event) -> Self {
        let id = match event.status {
            Some(PostStatus::Disappeared) => MessageId::Disappeared,
            _ => MessageId::Event,
        };
        Self::of(id).event(event)
    }

    /// It is about this job.
    pub fn job(self, job: JobId) -> Self {
        Self { job: Some(job), ..self }
    }

    /// It is about the event of this key.
    pub fn key(self, key: EventKey) -> Self {
        Self { event: Some(key), ..self.job(key.job) }
    }

    /// It is about this event.
    pub fn event(self, event: &Event) -> Self {
        self.key(event.key).op_code(&event.op_code)
    }

    /// It is about opcodes of this type.
    pub fn op_code(self, op_code: &str) -> Self {
        Self { op_code: Some(op_code.to_owned()), ..self }
    }

    /// The journal's fields for it.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, String)> {
        [
            ("MESSAGE_ID", self.id.map(|id| id.as_str().to_owned())),
            ("GANETI_JOB", self.job.map(|job| job.to_string())),
            ("GANETI_EVENT", self.event.map(|event| event.to_string())),
            ("GANETI_OP_CODE", self.op_code.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ganeti::event::Phase;
    use crate::ganeti::job::Timestamp;

    #[test]
    fn a_line_about_an_event_has_all_that_names_it() {
        let key = EventKey { job: 7.try_into().unwrap(), op: 1, phase: Phase::Post };
        let event = Event {
            key,
            received: Timestamp::from_micros(1),
            op_count: 2,
            op_code: "OP_TEST_DELAY".to_owned(),
            status: Some(PostStatus::Disappeared),
            executed: true,
            late: false,
            time: Timestamp::from_micros(2),
            about: Default::default(),
        };
        let fields = |event: &Event| Topic::noticed(event).fields().collect::<Vec<_>>();
        let others = [("GANETI_JOB", "7"), ("GANETI_EVENT", "7.1.post"), ("GANETI_OP_CODE", "OP_TEST_DELAY")];
        let with = |id: MessageId| {
            let fields = [("MESSAGE_ID", id.as_str())].into_iter().chain(others);
            fields.map(|(name, value)| (name, value.to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(fields(&event), with(MessageId::Disappeared));
        let succeeded = Event { status: Some(PostStatus::Succeeded), ..event };
        assert_eq!(fields(&succeeded), with(MessageId::Event));
        assert_eq!(Topic::default().fields().count(), 0);
    }

    #[test]
    fn each_kind_of_line_has_an_id_of_128_bits_of_its_own() {
        let ids: std::collections::BTreeSet<_> = MessageId::ALL.map(MessageId::as_str).into_iter().collect();
        assert_eq!(ids.len(), MessageId::ALL.len());
        assert!(ids.iter().all(|id| id.len() == 32 && u128::from_str_radix(id, 16).is_ok()), "{ids:?}");
    }
}
