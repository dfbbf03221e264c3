//! `POST /v1/rerun?event=EVENT&script=SCRIPT`: an event's scripts are to run again.
//!
//! It changes something: it is for those only who may do more than read.

use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use serde::{Deserialize, Serialize};

use super::parameters::Parameters;
use super::problem::Problem;
use super::{Question, Reply, Sources, ask};
use crate::engine::effect::NoRerun;
use crate::ganeti::event_name::EventName;
use crate::world::http::{Answer, Request, percent_encoded};

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
        let script = self.script.as_ref().map(|script| format!("&script={}", percent_encoded(script)));
        let script = script.unwrap_or_default();
        format!("{TARGET}?event={}{script}", self.name)
    }

    fn of(request: &Request) -> Result<Self, Problem> {
        let parameters = Parameters::of(request, &["event", "script"])?;
        let Some(name) = parameters.event()? else {
            return Err(Problem::new(400, "which event? event=42.0.post").with("parameter", "event"));
        };
        Ok(Self { name, script: parameters.text("script").map(str::to_owned) })
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

/// Has it run again, as far as that can be.
pub(super) fn answer(sources: &Sources, request: &Request) -> Result<Reply, Problem> {
    let wanted = Wanted::of(request)?;
    let _place = sources.place_to_act()?;
    let answered = ask(&*sources.owner, |reply| Question::Rerun(wanted, reply))?;
    match answered.recv_timeout(WRITE_WAIT) {
        Ok(Ok(accepted)) => {
            // Strings and numbers: there is nothing in it that JSON cannot say.
            let body = serde_json::to_vec(&accepted).unwrap_or_default();
            Ok(Answer::new(200, "application/json", body).into())
        }
        Ok(Err(NoRerun::Unknown)) => Err(Problem::new(404, NoRerun::Unknown)),
        Ok(Err(NoRerun::No(why))) => Err(Problem::new(409, why)),
        Err(RecvTimeoutError::Disconnected) => Err(Problem::new(500, "the daemon is ending")),
        Err(RecvTimeoutError::Timeout) => {
            Err(Problem::new(503, "the journal does not have it yet; it runs again as soon as that has it"))
        }
    }
}
