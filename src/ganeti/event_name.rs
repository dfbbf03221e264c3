//! What somebody calls an event: by its key, or exactly.

use std::fmt;
use std::str::FromStr;

use crate::ganeti::event::{Event, EventKey};
use crate::ganeti::job::Timestamp;

/// An event as somebody names it: `42.0.post`, or `CLUSTER-UUID/RECEIVED/42.0.post`, which is one
/// event only, whatever other jobs have had that number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventName {
    /// Job, opcode and phase.
    pub key: EventKey,
    /// The cluster's UUID, if it is known, and when luxid received the job.
    exact: Option<(Option<String>, Timestamp)>,
}

/// A text that names no event.
#[derive(Debug, thiserror::Error)]
#[error(
    "not an event: an event is written JOB.OPCODE.PHASE, for example 42.0.post, or as the `id` that `events --json` shows"
)]
pub struct InvalidName;

impl EventName {
    /// Whether this event is called so.
    pub fn names(&self, event: &Event) -> bool {
        let is_exact = |(cluster, received): &(Option<String>, Timestamp)| {
            (cluster.as_deref(), *received) == (event.about.cluster.as_deref(), event.received)
        };
        self.key == event.key && self.exact.as_ref().is_none_or(is_exact)
    }
}

impl FromStr for EventName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let mut parts = text.rsplitn(3, '/');
        let key = parts.next().and_then(|key| key.parse().ok()).ok_or(InvalidName)?;
        let exact = match (parts.next(), parts.next()) {
            (None, _) => None,
            (Some(received), Some(cluster)) => {
                let received = received.parse().map_err(|_| InvalidName)?;
                let cluster = Some(cluster.to_owned()).filter(|cluster| cluster != "-");
                Some((cluster, Timestamp::from_micros(received)))
            }
            (Some(_), None) => return Err(InvalidName),
        };
        Ok(Self { key, exact })
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((cluster, received)) = &self.exact {
            write!(f, "{}/{}/", cluster.as_deref().unwrap_or("-"), received.as_micros())?;
        }
        write!(f, "{}", self.key)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ganeti::about::About;

    #[test]
    fn an_id_names_one_event_and_a_key_all_of_that_name() {
        let event = |cluster: Option<&str>, received| Event {
            key: "42.0.post".parse().unwrap(),
            received: Timestamp::from_micros(received),
            op_count: 1,
            op_code: "OP_X".to_owned(),
            status: None,
            executed: true,
            late: false,
            time: Timestamp::default(),
            about: Arc::new(About { cluster: cluster.map(Into::into), ..About::default() }),
        };
        let events = [event(Some("a"), 5), event(Some("a"), 6), event(Some("b"), 5), event(None, 5)];
        for (at, one) in events.iter().enumerate() {
            let name: EventName = one.id().parse().unwrap();
            assert_eq!(name.to_string(), one.id());
            let named: Vec<usize> = (0..4).filter(|other| name.names(&events[*other])).collect();
            assert_eq!(named, [at]);
        }
        let key: EventName = "42.0.post".parse().unwrap();
        assert!(events.iter().all(|event| key.names(event)));
        assert!(!"42.0.pre".parse::<EventName>().unwrap().names(&events[0]));
        for bad in ["", "42", "5/42.0.post", "a/x/42.0.post", "a/5/42.0", "a/5/"] {
            assert!(bad.parse::<EventName>().is_err(), "{bad}");
        }
    }
}
