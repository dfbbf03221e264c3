//! Watching the queue and comparing it: inotify's word, the listing of a scan, the serial.

use crate::engine::Engine;
use crate::engine::agenda::{Piece, Unfound};
use crate::engine::change::Change;
use crate::engine::effect::{Effect, Level};
use crate::engine::input::{Now, Stamp};
use crate::engine::numbers::NumbersChange;
use crate::engine::report::Problem;
use crate::ganeti::job::JobId;

impl Engine {
    pub(in crate::engine) fn overflow(&mut self) {
        self.report.count(|counters| counters.overflows += 1);
        // What they publish now may be looked at much later.
        self.effects.extend(self.holds.disarm_all());
        self.agenda.want_scan();
    }

    pub(in crate::engine) fn watch_lost(&mut self) {
        self.report.say(Level::Warning, "a watched directory was removed or replaced; watching again");
        self.agenda.watch_lost();
        self.effects.extend(self.holds.disarm_all());
    }

    pub(in crate::engine) fn watched(&mut self, now: Now, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.report.solved(Problem::Watch);
                self.agenda.is_watched_now();
                self.jobs.watch_stands(now.time);
                // Those that may bring events come first.
                let open: Vec<JobId> = self.jobs.open().collect();
                open.into_iter().for_each(|id| self.agenda.hint(id));
                self.effects.push(Effect::ReadSerial);
                self.ask_the_kernel_again();
            }
            Err(error) => {
                self.report.problem_once(Problem::Watch, &error, "trying again every second");
                self.agenda.cannot_watch(now.steady);
            }
        }
    }

    pub(in crate::engine) fn listed(&mut self, scan: u64, files: Vec<(JobId, Option<Stamp>)>) {
        if self.agenda.is_listing_by(scan) {
            for (id, stamp) in files {
                if self.jobs.is_listed(id, scan, stamp) {
                    self.agenda.found(id, self.jobs.rank(id));
                }
            }
        }
    }

    pub(in crate::engine) fn scan_ended(&mut self, now: Now, scan: u64, result: Result<Option<i64>, String>) {
        if !self.agenda.is_listing_by(scan) {
            return;
        }
        let serial = match result {
            Ok(serial) => serial,
            Err(error) => {
                self.report.problem_once(Problem::Queue, &error, "trying again every second");
                return self.agenda.scan_failed(now.steady);
            }
        };
        self.report.solved(Problem::Queue);
        self.agenda.is_listed(self.jobs.tracker().last());
        if !self.jobs.has_begun() {
            self.jobs.begin(serial);
            if serial.is_none() {
                self.agenda.serial_lacks();
            }
            self.ledger.record(Change::Numbers(self.jobs.numbers().all()));
            self.jobs.first_look().into_iter().for_each(|look| self.ledger.record(Change::FirstLook(look)));
        } else if serial < Some(self.jobs.numbers().highest()) {
            // It may be older than what has been read since: only what is read now can tell
            // that numbers have begun again, or which are missing.
            self.agenda.serial_lacks();
            self.effects.push(Effect::ReadSerial);
        } else {
            self.serial(now, serial);
        }
        self.seek_holes();
        self.round.wants.pre_hooks = true;
        self.round.wants.nodes = true;
    }

    fn seek_holes(&mut self) {
        self.agenda.seek_holes(self.jobs.numbers().highest().try_into().ok());
    }

    /// Goes on, by a piece, with what a scan has not found. What comes or goes meanwhile is hinted, as
    /// everything is that happens after the queue was listed, or costs another scan.
    pub(in crate::engine) fn compare(&mut self) {
        let Some(Piece { of, numbers, most }) = self.agenda.next_piece() else { return };
        let ids: Vec<JobId> = match of {
            Unfound::Unlisted { .. } => self.jobs.tracker().among(numbers).take(most).collect(),
            Unfound::Holes => self.jobs.numbers().holes(numbers).take(most).collect(),
        };
        for id in &ids {
            let is_unfound = match of {
                Unfound::Unlisted { scan } => self.jobs.is_unlisted(*id, scan),
                Unfound::Holes => true,
            };
            if is_unfound {
                self.agenda.found(*id, self.jobs.rank(*id));
            }
        }
        let to = ids.last().copied().filter(|_| ids.len() == most);
        if self.agenda.has_compared(of, to) {
            self.report.count(|counters| counters.scans += 1);
        }
    }

    /// Job numbers up to this one have been given out.
    pub(in crate::engine) fn serial(&mut self, now: Now, serial: Option<i64>) {
        let Some(serial) = serial else {
            // They may have been told before it can be read.
            self.record_seen_above(now);
            // Jobs may be known while no number has been accounted for yet.
            let was_known = self.jobs.numbers().highest() > 0 || !self.jobs.tracker().is_empty();
            return self.agenda.serial_is_missing(now.steady, was_known);
        };
        let lacked = self.agenda.serial_is_known();
        let (change, again) = self.jobs.serial(serial, now.time);
        // Numbers that were given out are so again for whoever reads the serial again.
        let may_wait = !again && self.jobs.is_pass_over();
        change.into_iter().for_each(|change| self.record(now, Change::Numbers(change), may_wait));
        self.record_seen_above(now);
        if lacked {
            // What a scan could not know has to be looked for.
            self.seek_holes();
        }
        if again {
            let text = format!("job numbers begin again at {serial}: the cluster was re-created");
            self.report.say(Level::Info, &text);
            self.jobs.began_again().into_iter().for_each(|time| self.ledger.record(Change::BeganAgain(time)));
            if let Some(begun) = self.jobs.trust_the_history() {
                self.ledger.record(Change::Begun(begun));
            }
            // What is being listed is compared with the new numbers; what was is not, or in part.
            if !self.agenda.is_listing() {
                self.agenda.want_scan();
            }
        }
    }

    fn record_seen_above(&mut self, now: Now) {
        let seen: Vec<_> = self.jobs.seen_above().collect();
        let may_wait = self.jobs.is_pass_over();
        seen.into_iter().for_each(|change| self.record(now, Change::Numbers(change), may_wait));
    }

    pub(in crate::engine) fn record_numbers(&mut self, changes: impl IntoIterator<Item = NumbersChange>) {
        changes.into_iter().for_each(|change| self.ledger.record(Change::Numbers(change)));
    }
}
