//! The parameters of a request, and what is allowed in them.

use std::time::Duration;

use super::problem::Problem;
use crate::ganeti::event::PostStatus;
use crate::ganeti::event_name::EventName;
use crate::ganeti::job::{JobId, Timestamp};
use crate::ganeti::text::plain;
use crate::world::http::Request;
use crate::world::journal::{Cursor, Filter};

/// The longest wait, in seconds.
pub const WAIT_MAX: u64 = 60;

/// The most events in one answer of the feed.
pub const FEED_LIMIT: u32 = 1000;

/// What an object may be given as.
const OBJECT: &str = "NAME, KIND/NAME or KIND/, where KIND is instance, node, cluster, group or network";
/// Bytes of output of one event that the feed tells. As JSON they may be six times as many.
pub const OUTPUT_MAX: usize = 512 * 1024;

/// Bytes of a bad value that an error quotes.
const QUOTE_MAX: usize = 100;

/// The parameters of a request: each at most once, and none that is not known.
#[derive(Debug)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Those of this request, which may be of these names.
    ///
    /// # Errors
    /// When there is another one, or one comes twice, or they cannot be read.
    pub fn of(request: &Request, names: &[&str]) -> Result<Self, Problem> {
        let pairs = request.parameters().map_err(|what| Problem::new(400, what))?;
        for (at, (name, _)) in pairs.iter().enumerate() {
            let is_known = names.contains(&name.as_str());
            if is_known && pairs[..at].iter().all(|(other, _)| other != name) {
                continue;
            }
            let detail = match is_known {
                true => format!("the parameter {name} may be given once"),
                false => {
                    format!("there is no parameter {}; there is {}", plain(name, QUOTE_MAX), list(names))
                }
            };
            return Err(Problem::new(400, detail).with("parameter", name.as_str()));
        }
        Ok(Self(pairs))
    }

    /// A text as it is; `None` when it is not there.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter, if it is there.
    fn get<T>(
        &self,
        name: &str,
        allowed: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        read(text).map(Some).ok_or_else(|| {
            let detail =
                format!("the parameter {name} must be {allowed}, not \"{}\"", plain(text, QUOTE_MAX));
            Problem::new(400, detail).with("parameter", name)
        })
    }

    fn flag(&self, name: &str) -> Result<bool, Problem> {
        let read = |text: &str| match text {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        };
        Ok(self.get(name, "0 or 1", read)?.unwrap_or(false))
    }

    /// The name of an event; `None` when it is not there.
    ///
    /// # Errors
    /// When it is none.
    pub fn event(&self) -> Result<Option<EventName>, Problem> {
        let allowed = "an event (JOB.OPCODE.PHASE, or the id that `events --json` shows)";
        self.get("event", allowed, |text| text.parse().ok())
    }

    /// A whole number; `None` when it is not there.
    ///
    /// # Errors
    /// When it is something else.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        self.get(name, "a whole number", |text| text.parse().ok())
    }

    /// How long to wait at most.
    ///
    /// # Errors
    /// When that is no number of seconds, or too many.
    pub fn wait(&self) -> Result<Duration, Problem> {
        let read = |text: &str| text.parse().ok().filter(|seconds| *seconds <= WAIT_MAX);
        let seconds = self.get("wait", &format!("a whole number of seconds from 0 to {WAIT_MAX}"), read)?;
        Ok(Duration::from_secs(seconds.unwrap_or(0)))
    }

    fn time(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        let allowed =
            "seconds since the epoch or a time as in RFC 3339 (2026-01-31T12:00:00Z; a + is written %2B)";
        self.get(name, allowed, time)
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// A time: seconds since the epoch, or RFC 3339.
fn time(text: &str) -> Option<Timestamp> {
    /// Some 3,000 years.
    const SECONDS_MAX: f64 = 1e11;
    if let Ok(seconds) = text.parse::<f64>() {
        return Some(Timestamp::from_secs_f64(seconds)).filter(|_| seconds.abs() < SECONDS_MAX);
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_micros(time.as_microsecond()))
}

/// What is asked of the feed.
#[derive(Debug)]
pub struct FeedQuestion {
    /// From where on.
    pub after: Option<Cursor>,
    /// What is wanted of it, and how many of these.
    pub filter: Filter,
    /// As it comes, until the reader goes.
    pub is_stream: bool,
    /// How long to wait where there is nothing.
    pub wait: Duration,
}

impl FeedQuestion {
    const NAMES: [&str; 13] = [
        "after", "limit", "wait", "stream", "object", "op_code", "status", "job", "since", "until", "reason",
        "failed", "output",
    ];

    /// Reads the parameters of `/v1/events`.
    ///
    /// # Errors
    /// Which one is bad, and what is allowed.
    pub fn of(request: &Request) -> Result<Self, Problem> {
        let given = Parameters::of(request, &Self::NAMES)?;
        let is_stream = given.flag("stream")?;
        let has_end = ["limit", "wait"].into_iter().find(|name| given.text(name).is_some());
        if let Some(name) = has_end.filter(|_| is_stream) {
            let detail = format!("the parameter {name} does not go with stream=1, which has no end");
            return Err(Problem::new(400, detail).with("parameter", name));
        }
        let cursor = "a cursor of this feed, from the header Ganeti-Hookd-Cursor; without it the feed begins \
                      with the oldest event";
        Ok(Self {
            after: given.get("after", cursor, |text| text.parse().ok())?,
            filter: filter(&given)?,
            is_stream,
            wait: given.wait()?,
        })
    }
}

fn filter(given: &Parameters) -> Result<Filter, Problem> {
    let limit = |text: &str| text.parse().ok().filter(|limit| (1..=FEED_LIMIT).contains(limit));
    let limit = given.get("limit", &format!("a whole number from 1 to {FEED_LIMIT}"), limit)?;
    let status = |text: &str| text.parse::<PostStatus>().ok();
    let output = |text: &str| text.parse().ok().filter(|bytes| *bytes <= OUTPUT_MAX);
    let output = given.get("output", &format!("a whole number of bytes from 0 to {OUTPUT_MAX}"), output)?;
    Ok(Filter {
        job: given.get("job", "a job number", |text| text.parse::<JobId>().ok())?,
        object: given.get("object", OBJECT, |text| text.parse().ok())?,
        op_code: given.text("op_code").map(str::to_owned),
        status: given.get("status", "succeeded, failed or disappeared", status)?,
        since: given.time("since")?,
        until: given.time("until")?,
        reason: given.text("reason").map(str::to_owned),
        failed: given.flag("failed")?,
        limit: Some(limit.unwrap_or(FEED_LIMIT)),
        output: Some(output.unwrap_or(OUTPUT_MAX)),
        ..Filter::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(query: &str) -> Result<FeedQuestion, Problem> {
        FeedQuestion::of(&Request { target: format!("/v1/events{query}"), ..Request::default() })
    }

    fn wrong(query: &str) -> String {
        String::from_utf8(question(query).unwrap_err().answer().body).unwrap()
    }

    #[test]
    fn what_is_asked_is_read() {
        let asked = question("").unwrap();
        let all = Filter { limit: Some(FEED_LIMIT), output: Some(OUTPUT_MAX), ..Filter::default() };
        assert_eq!(
            (asked.after, asked.filter, asked.is_stream, asked.wait),
            (None, all, false, Duration::ZERO)
        );
        let asked = question(
            "?after=00000000000000ff-17&limit=5&wait=30&object=instance/web1&op_code=OP_INSTANCE_*&status=failed\
             &job=42&output=7&since=1795366412.5&until=2026-11-22T20:00:00%2B01:00&reason=kernel+update%3F&failed=1",
        )
        .unwrap();
        assert_eq!(asked.after.unwrap().to_string(), "00000000000000ff-17");
        assert_eq!((asked.is_stream, asked.wait), (false, Duration::from_secs(30)));
        let expected = Filter {
            job: Some(42.try_into().unwrap()),
            object: Some("instance/web1".parse().unwrap()),
            op_code: Some("OP_INSTANCE_*".to_owned()),
            status: Some(PostStatus::Failed),
            since: Some(Timestamp::from_micros(1_795_366_412_500_000)),
            until: Some(Timestamp::from_micros(1_795_374_000_000_000)),
            reason: Some("kernel update?".to_owned()),
            failed: true,
            limit: Some(5),
            output: Some(7),
            ..Filter::default()
        };
        assert_eq!(asked.filter, expected);
        assert!(question("?stream=1&failed=0").unwrap().is_stream);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        for (query, parameter, words) in [
            ("?colour=red", "colour", "there is after, limit, wait, "),
            ("?limit=1&limit=2", "limit", "once"),
            ("?limit=0", "limit", "from 1 to 1000, not \\\"0\\\""),
            ("?limit=1001", "limit", "from 1 to 1000"),
            ("?wait=61", "wait", "from 0 to 60"),
            ("?stream=1&wait=3", "wait", "stream=1"),
            ("?stream=yes", "stream", "0 or 1"),
            ("?after=17", "after", "Ganeti-Hookd-Cursor"),
            ("?after", "after", "Ganeti-Hookd-Cursor"),
            ("?status=success", "status", "succeeded, failed or disappeared"),
            ("?job=0", "job", "a job number"),
            ("?object=disk/web1", "object", "KIND/NAME"),
            ("?object=", "object", "KIND/NAME"),
            ("?output=1e9", "output", "from 0 to 524288"),
            ("?since=yesterday", "since", "RFC 3339"),
            ("?since=nan", "since", "RFC 3339"),
            ("?until=1e300", "until", "RFC 3339"),
            ("?until=2026-01-01T00:00:00+01:00", "until", "%2B"),
            ("?job=%1b%5b2J", "job", "not \\\"\\\\u{1b}[2J\\\""),
        ] {
            let said = wrong(query);
            assert!(
                said.contains(&format!("\"parameter\":\"{parameter}\"")) && said.contains(words),
                "{said}"
            );
            assert!(said.contains("\"status\":400"), "{said}");
        }
        for query in ["?job=%", "?job=%4", "?job=%zz", "?reason=%ff"] {
            assert!(wrong(query).contains("percent"), "{query}: {}", wrong(query));
        }
    }
}
