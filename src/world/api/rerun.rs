//! `POST /v1/rerun?event=EVENT&script=SCRIPT`: an event's scripts are to run again.
//!
//! It changes something: it is for those only who may do more than read.

use std::io;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use serde::{Deserialize, Serialize};

use super::{Backend, Question, ask};
use crate::engine::effect::NoRerun;
use crate::ganeti::event_name::EventName;
use crate::world::http::Request;

/// Where it is asked for.
pub const TARGET: &str = "/v1/rerun";

/// How long the journal may take to have it.
const WRITE_WAIT: Duration = Duration::from_secs(30);

/// What somebody wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The event.
    pub name: EventName,
    /// Only this node's script of this name.
    pub script: Option<String>,
}

impl Wanted {
    /// The path and query that ask for it.
    pub fn target(&self) -> String {
        let script = self.script.as_ref().map(|script| format!("&script={script}")).unwrap_or_default();
        format!("{TARGET}?event={}{script}", self.name)
    }

    fn of(request: &Request) -> Result<Self, String> {
        let name = request.text("event").ok_or("which event? ?event=42.0.post")?;
        let name = name.parse().map_err(|error| format!("event: {error}"))?;
        Ok(Self { name, script: request.text("script").map(str::to_owned) })
    }
}

/// It will run again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The event's key.
    pub event: String,
    /// Its name for ever.
    pub id: String,
    /// Its number in the feed.
    pub seq: i64,
    /// How many runs it has had before.
    pub runs: u32,
}

/// What is wrong (RFC 9457).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// In short.
    title: String,
    /// The answer's status.
    status: u16,
    /// Why.
    pub detail: String,
}

/// The answer: its status, its type, and what it says.
pub(super) fn answer(backend: &dyn Backend, request: &Request) -> io::Result<(u16, &'static str, Vec<u8>)> {
    let wanted = match Wanted::of(request) {
        Ok(wanted) => wanted,
        Err(why) => return Ok(refused(400, "the request is not understood", why)),
    };
    let answered = ask(backend, |reply| Question::Rerun(wanted, reply))?;
    Ok(match answered.recv_timeout(WRITE_WAIT) {
        Ok(Ok(accepted)) => (200, "application/json", json(&accepted)),
        Ok(Err(NoRerun::Unknown)) => refused(404, "unknown", NoRerun::Unknown.to_string()),
        Ok(Err(NoRerun::No(why))) => refused(409, "it does not run again", why),
        Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("the daemon is ending")),
        Err(RecvTimeoutError::Timeout) => {
            let why = "the journal does not have it yet; it runs again as soon as that has it";
            refused(503, "nobody knows yet", why.to_owned())
        }
    })
}

fn refused(status: u16, title: &str, detail: String) -> (u16, &'static str, Vec<u8>) {
    let refused = Refused { title: title.to_owned(), status, detail };
    (status, "application/problem+json", json(&refused))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Strings and numbers: there is nothing in it that JSON cannot say.
    serde_json::to_vec(value).unwrap_or_default()
}
