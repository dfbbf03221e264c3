//! `POST /v1/outbox/resend?name=NAME&event=EVENT` and `POST /v1/outbox/enable?name=NAME`.
//!
//! They change something: they are for those only who may do more than read.

use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use serde::{Deserialize, Serialize};

use super::parameters::Parameters;
use super::problem::Problem;
use super::{Question, Reply, Sources, ask};
use crate::ganeti::event_name::EventName;
use crate::world::http::{Answer, Request, percent_encoded};

/// Where it is asked that events are sent again.
pub const RESEND: &str = "/v1/outbox/resend";

/// Where it is asked that anything is sent again.
pub const ENABLE: &str = "/v1/outbox/enable";

/// How long the outbox may take to hear of it: a request may be under way.
const WAIT: Duration = Duration::from_secs(25);

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// That this event is sent again, or all that were refused.
    Resend(Option<EventName>),
    /// That an outbox sends again whose receiver wanted nothing any more.
    Enable,
}

/// What somebody wants of an outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub outbox: String,
    /// What.
    pub wish: Wish,
}

/// Why it is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// There is no such outbox.
    #[error("no outbox of this name is in the daemon's configuration")]
    Unknown,
    /// This is in the way.
    #[error("{0}")]
    No(String),
}

/// It is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The outbox.
    pub outbox: String,
    /// How many events are sent again.
    pub events: usize,
    /// The receiver had wanted nothing any more.
    pub was_ended: bool,
}

impl Wanted {
    /// The path and query that ask for it.
    pub fn target(&self) -> String {
        let name = percent_encoded(&self.outbox);
        match &self.wish {
            Wish::Enable => format!("{ENABLE}?name={name}"),
            Wish::Resend(None) => format!("{RESEND}?name={name}"),
            Wish::Resend(Some(event)) => {
                format!("{RESEND}?name={name}&event={}", percent_encoded(&event.to_string()))
            }
        }
    }

    fn of(request: &Request) -> Result<Self, Problem> {
        let is_resend = request.path() == RESEND;
        let known = if is_resend { &["name", "event"][..] } else { &["name"] };
        let parameters = Parameters::of(request, known)?;
        let Some(name) = parameters.text("name") else {
            return Err(Problem::new(400, "which outbox? name=NAME").with("parameter", "name"));
        };
        let wish = if is_resend { Wish::Resend(parameters.event()?) } else { Wish::Enable };
        Ok(Self { outbox: name.to_owned(), wish })
    }
}

/// Has it done, as far as that can be.
pub(super) fn answer(sources: &Sources, request: &Request) -> Result<Reply, Problem> {
    let wanted = Wanted::of(request)?;
    let _place = sources.place_to_act()?;
    let answered = ask(&*sources.owner, |reply| Question::Outbox(wanted, reply))?;
    match answered.recv_timeout(WAIT) {
        Ok(Ok(done)) => {
            // Strings and numbers: there is nothing in it that JSON cannot say.
            let body = serde_json::to_vec(&done).unwrap_or_default();
            Ok(Answer::new(200, "application/json", body).into())
        }
        Ok(Err(NotDone::Unknown)) => Err(Problem::new(404, NotDone::Unknown)),
        Ok(Err(NotDone::No(why))) => Err(Problem::new(409, why)),
        Err(RecvTimeoutError::Disconnected) => Err(Problem::new(500, "the daemon is ending")),
        Err(RecvTimeoutError::Timeout) => {
            Err(Problem::new(503, "a request to the receiver is under way; it is done when that is over"))
        }
    }
}
