//! What follows when the journal has what it was given, and when it has not.

use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::change::{Change, EventState, RunKey, RunStart};
use crate::engine::deliveries::Delivery;
use crate::engine::effect::{Effect, Level, ScriptRun};
use crate::engine::input::{CommitError, Now, Written};
use crate::engine::ledger::Ledger;
use crate::engine::outcome::Outcome;
use crate::engine::report::Problem;
use crate::engine::topic::{MessageId, Topic};
use crate::ganeti::job::JobId;

/// From so many bytes on an operator must see to the journal's log.
const LOG_LARGE: u64 = 64 * 1024 * 1024;

impl Engine {
    /// The journal has answered.
    pub(in crate::engine) fn committed(&mut self, now: Now, result: Result<Written, CommitError>) {
        match result {
            Ok(written) => self.is_written(now, written),
            Err(CommitError { text, damaged: true }) if self.ledger.begin_anew() => {
                let text = format!("{text}; the journal is written anew, the old one is set aside");
                self.report.say(Level::Error, &text);
                let everything = self.everything(now);
                self.effects.push(Effect::WriteAnew(Arc::new(everything)));
            }
            Err(error) => self.stall(now, &error.text),
        }
    }

    fn is_written(&mut self, now: Now, written: Written) {
        let is_new_journal = self.ledger.is_writing_anew();
        if is_new_journal {
            self.jobs.history_is_lost();
        }
        let outgoing = self.ledger.committed(now.time);
        if outgoing.written.iter().any(|change| matches!(change, Change::Prune(..))) {
            self.pruning.forgot(written.more_to_prune);
        }
        // What is not in the history any more is not told again.
        written.forgotten.into_iter().for_each(|time| self.jobs.history_begins(time));
        if outgoing.was_stalled {
            self.report.say(Level::Warning, "the journal can be written again; going on");
            self.report.solved(Problem::Journal);
            self.agenda.was_delayed();
            // What was left alone meanwhile has its turn.
            self.round.goes_on();
        }
        self.count_delays(now, &outgoing.effects);
        let mut effects = outgoing.effects;
        effects.retain(|effect| self.is_still_wanted(effect));
        self.effects.extend(effects);
        if outgoing.was_stalled {
            self.resume(now);
            self.look_at_those_that_run();
        }
        // Jobs may stand still until their hooks have run; who only listens comes after them.
        for change in outgoing.written.iter() {
            if let Change::Event(_, event, _) = change {
                self.report.say_of(Topic::noticed(event), Level::Info, &event.to_string());
            }
        }
        if is_new_journal || outgoing.written.iter().any(is_news) {
            self.effects.push(Effect::Announce);
        }
        self.effects.extend(outgoing.written.iter().filter_map(ended_job).map(Effect::JobEnded));
    }

    /// How long after their opcodes' own moments the first scripts of events start: now.
    fn count_delays(&mut self, now: Now, effects: &[Effect]) {
        for effect in effects {
            let Effect::Start(ScriptRun { seq, .. }) = effect else { continue };
            let first = self.deliveries.get(*seq).filter(|delivery| delivery.is_untried());
            if let Some(event) = first.map(|delivery| &delivery.event) {
                let delay = now.time.as_secs_f64() - event.moment().as_secs_f64();
                self.report.first_script(event, delay);
            }
        }
    }

    /// The journal cannot be written: keep everything, look at nothing, start nothing, try
    /// again.
    fn stall(&mut self, now: Now, error: &str) {
        self.report.count(|counters| counters.journal_errors += 1);
        let (is_new, begun) = self.ledger.failed(now.steady);
        if is_new {
            let text = format!("{error}; no hook starts until the journal can be written, nothing is lost");
            self.report.say_of(Topic::of(MessageId::JournalStalled), Level::Error, &text);
        }
        self.effects.extend(self.holds.let_all_go());
        self.took_back(begun);
        self.report.problem(Problem::Journal, error);
    }

    /// How large the journal's log is: a reader who stands still keeps it from being cleared.
    pub(in crate::engine) fn journal_log(&mut self, size: u64) {
        if size < LOG_LARGE {
            return self.report.solved(Problem::JournalLog);
        }
        let what = format!(
            "the log has {} MiB and grows: a program that reads journal.db keeps it from being cleared; \
             find it with `fuser` and end it",
            size / (1024 * 1024)
        );
        self.report.problem_once(Problem::JournalLog, &what, "trying again every second, nothing is lost");
    }

    /// All that a later start must know.
    fn everything(&mut self, now: Now) -> Vec<Change> {
        let mut all = self.jobs.anew();
        all.extend(self.outboxes.all());
        let pending = self.deliveries.iter().map(|event| (EventState::Pending, event));
        let standby = self.deliveries.in_standby().map(|event| (EventState::Standby, event));
        for (state, (seq, delivery)) in pending.chain(standby) {
            all.push(Change::Event(seq, delivery.event.clone(), state));
            if let Some(rerun) = &delivery.rerun {
                // Before all runs: of those that have ended only such are told that count.
                all.extend([Change::Rerun(seq, rerun.clone()), Change::EventState(seq, state)]);
            }
            all.extend(delivery.view().map(|view| Change::Plan(seq, view.clone())));
            all.extend(delivery.running.values().map(|run| Change::RunStart(run.start.clone())));
            all.extend(earlier_runs(&mut self.ledger, now, seq, delivery));
        }
        all
    }
}

/// Whether the feed tells something new by this change.
fn is_news(change: &Change) -> bool {
    use Change::{Adopt, Event, EventState, Notice, Rerun, ToldGaneti};
    matches!(change, Event(..) | EventState(..) | Adopt(_) | Rerun(..) | Notice(_) | ToldGaneti(..))
}

/// The job that brings no more events by this change.
fn ended_job(change: &Change) -> Option<JobId> {
    match change {
        Change::Job(id, tracked) if !tracked.is_open() => Some(*id),
        Change::Forget(id) => Some(*id),
        _ => None,
    }
}

/// Runs of an event that are not under way. How they ended only the damaged journal says.
fn earlier_runs(ledger: &mut Ledger, now: Now, seq: i64, delivery: &Delivery) -> Vec<Change> {
    let is_running = |key: &RunKey| delivery.running.values().any(|run| run.start.key() == *key);
    let mut runs = Vec::new();
    for (key, (attempt, ended)) in &delivery.earlier {
        if is_running(key) {
            continue;
        }
        let (id, RunKey { node, directory, script }) = (ledger.next_run(), key.clone());
        let (attempt, started) = (*attempt, now.time);
        runs.push(Change::RunStart(RunStart { id, seq, node, directory, script, attempt, started }));
        if *ended {
            let outcome = Outcome::not_run("how it ended is in the journal that was set aside");
            runs.push(Change::RunEnd(seq, id, now.time, outcome));
        }
    }
    runs
}
