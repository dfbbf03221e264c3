//! Those who want an event's scripts to run again: what the engine is asked, and what they are
//! answered.

use std::collections::BTreeMap;

use crossbeam_channel::Sender;

use super::Daemon;
use crate::engine::change::Rerun;
use crate::engine::effect::NoRerun;
use crate::engine::input::{Input, Recorded};
use crate::world::api::rerun::{Accepted, Wanted};
use crate::world::failpoints;

/// Somebody who waits for an answer.
#[derive(Debug)]
struct Asker {
    reply: Sender<Result<Accepted, NoRerun>>,
    /// What it is answered if all is well; `None` where there is no such event.
    accepted: Option<Accepted>,
}

/// Those who wait for an answer.
#[derive(Debug, Default)]
pub struct Reruns {
    last: u64,
    askers: BTreeMap<u64, Asker>,
}

impl Reruns {
    fn add(&mut self, asker: Asker) -> u64 {
        self.last += 1;
        self.askers.insert(self.last, asker);
        self.last
    }

    /// The engine has an answer.
    pub fn answer(&mut self, asked: u64, result: Result<(), NoRerun>) {
        if result.is_ok() {
            failpoints::point("rerun.written");
        }
        let Some(Asker { reply, accepted }) = self.askers.remove(&asked) else { return };
        // Who asked may have gone.
        let _ = reply.send(result.and_then(|()| accepted.ok_or(NoRerun::Unknown)));
    }
}

impl Daemon {
    /// Somebody wants an event's scripts to run again.
    pub(super) fn rerun(
        &mut self,
        Wanted { name, script }: Wanted,
        reply: Sender<Result<Accepted, NoRerun>>,
    ) {
        failpoints::point("rerun.asked");
        let found = self.hands.journal.recorded(&name);
        let op_code = found.as_ref().ok().and_then(Option::as_deref).map(|found| &found.event.event.op_code);
        let scripts = op_code.map(|op_code| self.hands.runs.script_names(op_code, name.key.phase));
        let accepted = found.as_ref().ok().and_then(Option::as_deref).map(accepted);
        let asked = self.reruns.add(Asker { reply, accepted });
        self.give(Input::Rerun {
            asked,
            found,
            rerun: Rerun { script },
            scripts: scripts.unwrap_or_default(),
        });
    }
}

fn accepted(Recorded { event, runs, .. }: &Recorded) -> Accepted {
    Accepted { event: event.event.key.to_string(), id: event.event.id(), seq: event.seq, runs: *runs }
}
