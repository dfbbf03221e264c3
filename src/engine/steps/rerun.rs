//! Running an event's scripts again because somebody wants it (design, section 13): what was
//! stored is given to them, behind what its job still has to deliver.

use crate::engine::Engine;
use crate::engine::change::{Change, EventState, Rerun};
use crate::engine::deliveries::Delivery;
use crate::engine::effect::{Effect, Level, NoRerun};
use crate::engine::input::{Now, Recorded};
use crate::engine::settings::PreMode;
use crate::ganeti::event::Phase;
use crate::ganeti::opcodes;

impl Engine {
    /// Somebody wants an event's scripts to run again. Who asked is told when that is written.
    pub(in crate::engine) fn rerun(
        &mut self,
        now: Now,
        asked: u64,
        found: Result<Option<Box<Recorded>>, String>,
        rerun: Rerun,
        scripts: &[String],
    ) {
        match self.may_rerun(found, &rerun, scripts) {
            Ok(recorded) => self.run_again(now, asked, *recorded, rerun),
            Err(why) => self.effects.push(Effect::AnswerRerun { asked, result: Err(why) }),
        }
    }

    /// The event, if its scripts may run again now; else why not.
    fn may_rerun(
        &self,
        found: Result<Option<Box<Recorded>>, String>,
        rerun: &Rerun,
        scripts: &[String],
    ) -> Result<Box<Recorded>, NoRerun> {
        self.may_run_anything_again().map_err(NoRerun::No)?;
        let recorded = found.map_err(NoRerun::No)?.ok_or(NoRerun::Unknown)?;
        self.may_deliver_again(&recorded).map_err(NoRerun::No)?;
        self.may_run(rerun, scripts).map_err(NoRerun::No)?;
        Ok(recorded)
    }

    fn may_run_anything_again(&self) -> Result<(), String> {
        if self.life.is_stopping() {
            return Err("the daemon is stopping".to_owned());
        }
        if !self.place.is_master() {
            let master = self.place.master().unwrap_or("not known");
            return Err(format!("this node is not master; the master is {master}"));
        }
        if self.ledger.is_stalled() {
            return Err("the journal cannot be written; see `ganeti-hookd status`".to_owned());
        }
        Ok(())
    }

    fn may_deliver_again(&self, recorded: &Recorded) -> Result<(), String> {
        let (seq, event) = (recorded.event.seq, &recorded.event.event);
        let is_pending = recorded.state == EventState::Pending || self.deliveries.get(seq).is_some();
        if is_pending || self.ledger.changes_state(seq) {
            return Err("its hooks have not all ended yet; wait until they have".to_owned());
        }
        if self.settings.hooks.skips(&event.op_code) {
            return Err("hooks.skip-opcodes names its opcode".to_owned());
        }
        if event.key.phase == Phase::Pre && self.settings.hooks.pre == PreMode::Off {
            return Err("hooks.pre is \"off\"".to_owned());
        }
        if recorded.event.plan.is_none() && opcodes::hook_path(&event.op_code).is_some() {
            let why = "what its scripts are given is not stored: this node has never run hooks for it";
            return Err(why.to_owned());
        }
        Ok(())
    }

    /// Whether there is what is to run.
    fn may_run(&self, rerun: &Rerun, scripts: &[String]) -> Result<(), String> {
        let is_missing = |script: &&String| !scripts.contains(script);
        let Some(missing) = rerun.script.as_ref().filter(is_missing) else { return Ok(()) };
        let there = if scripts.is_empty() { "there is none".to_owned() } else { scripts.join(", ") };
        Err(format!("there is no script {} for it on {}; {there}", missing.escape_debug(), self.place.node()))
    }

    fn run_again(&mut self, now: Now, asked: u64, recorded: Recorded, rerun: Rerun) {
        let Recorded { event, last_run, .. } = recorded;
        let seq = event.seq;
        let what = rerun.script.as_deref().map_or_else(String::new, |script| format!(", {script} only"));
        self.report.say(Level::Info, &format!("{}: run again as somebody wants{what}", event.event.key));
        self.ledger.runs_follow(last_run);
        // What the history forgets in the same commit must not be this.
        self.ledger.record_first(Change::Rerun(seq, rerun.clone()));
        self.ledger.after(Effect::AnswerRerun { asked, result: Ok(()) });
        self.deliveries.add(seq, Delivery::again(event, rerun, now));
    }
}
