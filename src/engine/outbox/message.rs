//! What is sent: CloudEvents 1.0 in structured mode.
//!
//! An event has the id of its record. What Standard Webhooks calls the message's id is that with
//! `/` for each `.`: no dot may stand in it, since a dot ends it in what is signed.

use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::engine::outbox_progress::Gap;
use crate::ganeti::event::{Event, Phase, PostStatus};
use crate::ganeti::job::Timestamp;
use crate::ganeti::text::plain;

/// The content type of every message.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// The longest `subject`, in bytes, about.
const SUBJECT_MAX: usize = 1024;

/// A message that can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The header `webhook-id`.
    pub id: String,
    /// The content.
    pub body: String,
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    time: String,
    datacontenttype: &'static str,
    data: &'a RawValue,
}

impl CloudEvent<'_> {
    fn message(&self) -> Message {
        // Strings, and what is JSON already: there is nothing in it that JSON cannot say.
        let body = serde_json::to_string(self).unwrap_or_default();
        Message { id: header_id(self.id), body }
    }
}

/// The message that tells an event: `record` is its record, `rfc3339` writes a time.
pub fn of_event(event: &Event, record: &RawValue, rfc3339: impl Fn(Timestamp) -> String) -> Message {
    let id = event.id();
    let subject = event.about.object.as_ref().map(|object| plain(&object.to_string(), SUBJECT_MAX));
    CloudEvent {
        specversion: "1.0",
        id: &id,
        source: source(event.about.cluster.as_deref()),
        kind: kind(event.status),
        subject,
        time: rfc3339(moment(event)),
        datacontenttype: "application/json",
        data: record,
    }
    .message()
}

/// The message that tells that events were not sent.
pub fn of_gap(gap: &Gap, cluster: Option<&str>, rfc3339: impl Fn(Timestamp) -> String) -> Message {
    let time = |micros: Option<i64>| micros.map(|micros| rfc3339(Timestamp::from_micros(micros)));
    let data = json!({
        "reason": gap.why, "since": time(gap.since), "until": time(gap.until),
        "events": gap.events, "lost": !gap.is_counted,
    });
    let id = format!("{}/gap/{:016x}/{}", cluster.unwrap_or("-"), gap.journal, gap.from);
    of_ours("org.ganeti.hookd.gap", &id, cluster, rfc3339(Timestamp::from_micros(gap.noticed)), &data)
}

/// A message that only tries out the way.
pub fn of_ping(
    outbox: &str,
    cluster: Option<&str>,
    time: Timestamp,
    rfc3339: impl Fn(Timestamp) -> String,
) -> Message {
    let id = format!("{}/ping/{}", cluster.unwrap_or("-"), time.as_micros());
    of_ours("org.ganeti.hookd.ping", &id, cluster, rfc3339(time), &json!({"outbox": outbox}))
}

fn of_ours(
    kind: &'static str,
    id: &str,
    cluster: Option<&str>,
    time: String,
    data: &serde_json::Value,
) -> Message {
    let data = serde_json::value::to_raw_value(data).unwrap_or_default();
    CloudEvent {
        specversion: "1.0",
        id,
        source: source(cluster),
        kind,
        subject: None,
        time,
        datacontenttype: "application/json",
        data: &data,
    }
    .message()
}

fn kind(status: Option<PostStatus>) -> &'static str {
    match status {
        None => "org.ganeti.opcode.started",
        Some(PostStatus::Succeeded) => "org.ganeti.opcode.succeeded",
        Some(PostStatus::Failed) => "org.ganeti.opcode.failed",
        Some(PostStatus::Disappeared) => "org.ganeti.opcode.disappeared",
    }
}

/// When it was, by Ganeti's own clock; of a death when it was noticed.
fn moment(event: &Event) -> Timestamp {
    let told = match event.key.phase {
        Phase::Pre => event.about.executed,
        Phase::Post => event.about.ended,
    };
    told.unwrap_or(event.time)
}

/// A relative reference (RFC 3986).
fn source(cluster: Option<&str>) -> String {
    format!("/ganeti/{}", encoded(cluster.unwrap_or("-"), b"-._~"))
}

/// What stands in the header: visible ASCII without a dot.
fn header_id(id: &str) -> String {
    encoded(&id.replace('.', "/"), b"-_/")
}

/// Percent-encoded but for letters, digits and these.
fn encoded(text: &str, plain: &[u8]) -> String {
    let one = |byte: u8| match byte.is_ascii_alphanumeric() || plain.contains(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::ganeti::about::About;
    use crate::ganeti::object::{Object, ObjectKind};

    fn time(time: Timestamp) -> String {
        format!("T{}", time.as_micros())
    }

    fn event(cluster: Option<&str>, name: &str) -> Event {
        Event {
            key: "42.0.post".parse().unwrap(),
            received: Timestamp::from_micros(9),
            op_count: 1,
            op_code: "OP_INSTANCE_STARTUP".to_owned(),
            status: Some(PostStatus::Succeeded),
            executed: true,
            late: false,
            time: Timestamp::from_micros(5),
            about: Arc::new(About {
                cluster: cluster.map(Into::into),
                object: Some(Object { kind: ObjectKind::Instance, name: Some(name.to_owned()) }),
                ended: Some(Timestamp::from_micros(4)),
                ..About::default()
            }),
        }
    }

    #[test]
    fn an_event_is_a_cloud_event() {
        let record = RawValue::from_string(r#"{"job":42}"#.to_owned()).unwrap();
        let message = of_event(&event(Some("5b0c-1"), "web1"), &record, time);
        insta::assert_snapshot!(message.id, @"5b0c-1/9/42/0/post");
        insta::assert_snapshot!(message.body, @r#"{"specversion":"1.0","id":"5b0c-1/9/42.0.post","source":"/ganeti/5b0c-1","type":"org.ganeti.opcode.succeeded","subject":"instance/web1","time":"T4","datacontenttype":"application/json","data":{"job":42}}"#);
    }

    #[test]
    fn what_somebody_typed_leaves_headers_and_lines_alone() {
        let record = RawValue::from_string("{}".to_owned()).unwrap();
        let message = of_event(&event(Some("a\r\nX: y.z"), "we\u{1b}[b\n\"1"), &record, time);
        assert_eq!(message.id, "a%0D%0AX%3A%20y/z/9/42/0/post");
        let body: Value = serde_json::from_str(&message.body).unwrap();
        assert_eq!(body["source"], "/ganeti/a%0D%0AX%3A%20y.z");
        assert_eq!(body["subject"], "instance/we\\u{1b}[b\\n\"1");
        assert_eq!(body["id"], "a\r\nX: y.z/9/42.0.post");
    }

    #[test]
    fn the_time_is_ganetis() {
        let mut event = event(None, "x");
        assert_eq!(moment(&event).as_micros(), 4);
        event.about = Arc::default();
        assert_eq!(moment(&event).as_micros(), 5);
    }
}
