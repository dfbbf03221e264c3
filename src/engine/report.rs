//! What the daemon tells of itself: counters, problems, the last failures, bad files, and the
//! lines of its log.
//!
//! All text that comes from elsewhere goes through here, and leaves as plain text of one
//! line: a name or an output cannot forge a line of the log or speak to a terminal. A warning
//! that comes a thousand times a second is said a few times and then with a count ([`Flood`]); of
//! one kind are the lines that one place of the source says.

use core::panic::Location;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::change::RunStart;
use super::directories;
use super::effect::{Effect, Level};
use super::flood::Flood;
use super::input::{Landing, Past};
use super::metrics::Figures;
use super::outcome::Outcome;
use super::status::{Counters, FailedHook};
use super::topic::{MessageId, Topic};
use crate::ganeti::event::Event;
use crate::ganeti::job::{JobId, Timestamp};
use crate::ganeti::opcodes;
use crate::ganeti::text;

/// Failures that `status` shows.
const FAILURES_KEPT: usize = 10;

/// Failed scripts of one node that are named.
const NAMES_SAID: usize = 3;

/// Opcodes that are remembered as unknown; a Ganeti has about a hundred in all.
const UNKNOWN_MAX: usize = 1000;

/// Job files that are remembered as bad.
const BAD_FILES_MAX: usize = 10_000;

/// The most characters of a text from elsewhere in one line.
const LINE_MAX: usize = 4096;

/// What an operator must see to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// Who may ask the daemon.
    Api,
    /// What hooks are told of the cluster.
    ClusterConfiguration,
    /// Our own configuration.
    Configuration,
    /// A defect of ours.
    Defect,
    /// The guard.
    Guard,
    /// What scripts need.
    Hooks,
    /// A hooks directory.
    HooksDirectory,
    /// The journal.
    Journal,
    /// The journal's log.
    JournalLog,
    /// Who is master.
    Master,
    /// An outbox.
    Outbox,
    /// The job queue.
    Queue,
    /// inotify.
    Watch,
}

impl Problem {
    fn name(self) -> &'static str {
        match self {
            Self::Api => "API",
            Self::ClusterConfiguration => "cluster configuration",
            Self::Configuration => "configuration",
            Self::Defect => "defect of ganeti-hookd",
            Self::Guard => "guard",
            Self::Hooks => "hooks",
            Self::HooksDirectory => "hooks directory",
            Self::Journal => "journal",
            Self::JournalLog => "journal's log",
            Self::Master => "master",
            Self::Outbox => "outbox",
            Self::Queue => "queue",
            Self::Watch => "watch",
        }
    }
}

/// The lines that one place of the source says.
#[derive(Debug)]
struct Coming {
    level: Level,
    /// What the last one is about.
    topic: Topic,
    flood: Flood,
}

impl Coming {
    fn log(&self, line: String) -> Effect {
        Effect::Log(self.level, line, self.topic.clone())
    }
}

/// All of it.
#[derive(Debug)]
pub struct Report {
    started: Timestamp,
    queue_dir: String,
    counters: Counters,
    figures: Figures,
    problems: BTreeMap<Problem, String>,
    failures: VecDeque<FailedHook>,
    bad_files: BTreeMap<JobId, String>,
    /// Opcodes that are not in our table, as far as they have been met.
    unknown: BTreeSet<String>,
    /// Open jobs whose files are gone, as far as that has been said.
    vanished: BTreeSet<JobId>,
    lines: Vec<Effect>,
    /// What time it is, by the steady clock.
    now: Duration,
    /// How warnings and errors are coming, by the place that says them.
    floods: BTreeMap<Location<'static>, Coming>,
}

impl Report {
    /// Nothing has happened yet.
    pub fn new(started: Timestamp, queue_dir: String) -> Self {
        Self {
            started,
            queue_dir,
            counters: Counters::default(),
            figures: Figures::default(),
            problems: BTreeMap::new(),
            failures: VecDeque::new(),
            bad_files: BTreeMap::new(),
            unknown: BTreeSet::new(),
            vanished: BTreeSet::new(),
            lines: Vec::new(),
            now: Duration::ZERO,
            floods: BTreeMap::new(),
        }
    }

    /// What time it is, by the steady clock.
    pub fn it_is(&mut self, steady: Duration) {
        self.now = steady;
        let lines = &mut self.lines;
        self.floods.retain(|_, coming| {
            lines.extend(coming.flood.passes(steady).map(|line| coming.log(line)));
            !coming.flood.is_over()
        });
    }

    /// When there is something to say even though nothing happens.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.floods.values().filter_map(|coming| coming.flood.deadline()).min()
    }

    /// Nothing may come any more: what was only counted is said.
    pub fn say_the_rest(&mut self) {
        for coming in self.floods.values_mut() {
            self.lines.extend(coming.flood.end(self.now).map(|line| coming.log(line)));
        }
    }

    /// Counts something.
    pub fn count(&mut self, what: impl FnOnce(&mut Counters)) {
        what(&mut self.counters);
    }

    /// An event was noticed, whoever runs the hooks for it.
    pub fn noticed(&mut self, event: &Event) {
        self.count(|counters| {
            counters.events += 1;
            counters.events_late += u64::from(event.late);
        });
        self.figures.noticed(event);
    }

    /// An event is this node's to deliver.
    pub fn event(&mut self, event: &Event) {
        self.figures.event(event);
    }

    /// The history tells this of the time before this start.
    pub fn recall(&mut self, past: &Past) {
        self.figures.recall(past);
    }

    /// The first script of an event starts so many seconds after its opcode's own moment.
    pub fn first_script(&mut self, event: &Event, delay: f64) {
        self.figures.first_script(event.key.phase, delay);
    }

    /// A job that was held goes on.
    pub fn held(&mut self, landing: Landing, held: Duration) {
        self.figures.held(landing, held);
    }

    /// That a job's process died is noticed so long after its end.
    pub fn death_noticed(&mut self, after: Duration) {
        self.figures.death_notice.observe(after.as_secs_f64());
    }

    /// This node has taken over from another one.
    pub fn took_over(&mut self) {
        self.figures.takeovers += 1;
    }

    /// A line for the log. Of warnings and errors there may be too many of a kind.
    #[track_caller]
    pub fn say(&mut self, level: Level, text: &str) {
        self.say_of(Topic::default(), level, text);
    }

    /// The same, and what it is about.
    #[track_caller]
    pub fn say_of(&mut self, topic: Topic, level: Level, text: &str) {
        let text = plain(text);
        if level > Level::Warning {
            return self.lines.push(Effect::Log(level, text, topic));
        }
        let new = || Coming { level, topic: Topic::default(), flood: Flood::new() };
        let coming = self.floods.entry(*Location::caller()).or_insert_with(new);
        // What was only counted is about what came before.
        self.lines.extend(coming.flood.passes(self.now).map(|line| coming.log(line)));
        coming.topic = topic;
        let lines = coming.flood.comes(self.now, text);
        self.lines.extend(lines.into_iter().map(|line| coming.log(line)));
    }

    /// The lines that have not been taken.
    pub fn take_lines(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.lines)
    }

    /// An operator must see to this. Returns whether it is another problem than before.
    pub fn problem(&mut self, problem: Problem, what: &str) -> bool {
        let what = plain(what);
        self.problems.insert(problem, what.clone()) != Some(what)
    }

    /// The same, and the log has it when there was no problem of this kind.
    #[track_caller]
    pub fn problem_once(&mut self, problem: Problem, what: &str, and: &str) {
        if !self.problems.contains_key(&problem) {
            self.say_of(Topic::of(MessageId::Problem), Level::Error, &format!("{what}; {and}"));
        }
        self.problem(problem, what);
    }

    /// That is over.
    pub fn solved(&mut self, problem: Problem) {
        self.problems.remove(&problem);
    }

    /// A file that is not a job: said once, until it is one or has another fault.
    pub fn bad_file(&mut self, id: JobId, what: &str) {
        if self.note_bad_file(id, what) {
            self.count(|counters| counters.bad_files += 1);
            let (dir, name) = (&self.queue_dir, id.file_name());
            let text = format!("{dir}/{name}: {what}; it is looked at again when it changes");
            self.say_of(Topic::of(MessageId::BadFile).job(id), Level::Error, &text);
        }
    }

    /// A job that cannot be read or judged now, but may be in a while.
    pub fn cannot_judge(&mut self, id: JobId, what: &str) {
        if self.note_bad_file(id, what) {
            let text = format!("{}: {what}; trying again every second", id.file_name());
            self.say_of(Topic::of(MessageId::BadFile).job(id), Level::Error, &text);
        }
    }

    fn note_bad_file(&mut self, id: JobId, what: &str) -> bool {
        let what = plain(what);
        if self.bad_files.get(&id) == Some(&what) {
            return false;
        }
        self.bad_files.insert(id, what);
        if self.bad_files.len() > BAD_FILES_MAX {
            self.bad_files.pop_first();
        }
        true
    }

    /// The job's file is good, or gone.
    pub fn good_file(&mut self, id: JobId) {
        self.bad_files.remove(&id);
    }

    /// An open job's file is gone, from the archive as well.
    pub fn vanished(&mut self, id: JobId) {
        if self.vanished.insert(id) {
            self.say_of(
                Topic::of(MessageId::Vanished).job(id),
                Level::Warning,
                &format!(
                    "job {id} has vanished from {} and its archive before it ended; if it does not come \
                     back, and its process is not seen to end, its outcome cannot be known and no post \
                     hook runs",
                    self.queue_dir
                ),
            );
        }
    }

    /// An open job's file is in the archive, where Ganeti puts those that have ended.
    pub fn archived_open(&mut self, id: JobId) {
        if self.vanished.insert(id) {
            self.say_of(
                Topic::of(MessageId::Vanished).job(id),
                Level::Warning,
                &format!(
                    "job {id} has not ended and is in the archive, {}/{}; if it does not come back, its \
                     outcome cannot be known and no post hook runs",
                    self.queue_dir,
                    id.archive_path().display()
                ),
            );
        }
    }

    /// Whether the file of this open job is gone.
    pub fn has_vanished(&self, id: JobId) -> bool {
        self.vanished.contains(&id)
    }

    /// It is there again, or of no interest any more.
    pub fn not_vanished(&mut self, id: JobId) {
        self.vanished.remove(&id);
    }

    /// An opcode of this type was met: of each that is not in our table it is said once.
    pub fn met(&mut self, op_code: &str) {
        if opcodes::is_known(op_code) || self.unknown.len() >= UNKNOWN_MAX {
            return;
        }
        if self.unknown.insert(op_code.to_owned()) {
            self.say_of(
                Topic::default().op_code(op_code),
                Level::Warning,
                &format!(
                    "{op_code} is not known to this version of ganeti-hookd: \
                     its hooks get the common variables and run on the master alone"
                ),
            );
        }
    }

    /// A run of an event has ended, on this node if it `is_here`.
    pub fn run_ended(&mut self, event: &Event, run: &RunStart, is_here: bool, outcome: &Outcome) {
        let (key, script, node) = (event.key, run.label(), &run.node);
        self.count(|counters| counters.runs += 1);
        self.figures.run(key.phase, &script, outcome);
        if outcome.succeeded() {
            return;
        }
        self.count(|counters| counters.runs_failed += 1);
        let what = plain(&outcome.in_words());
        let place = if is_here { String::new() } else { format!(" on {node}:") };
        let topic = Topic::of(MessageId::HookFailed).event(event);
        self.say_of(topic, Level::Warning, &format!("{key}: hook {script}{place} {what}"));
        self.failed(event, &script, node, what);
    }

    /// A node has run its scripts, or has not: one line in the log for all that failed there.
    /// `asked` is for a directory; that is no script, and counts only if it failed.
    pub fn node_ended(
        &mut self,
        event: &Event,
        asked: &RunStart,
        request: &Outcome,
        scripts: &[(String, Outcome)],
    ) {
        let (key, RunStart { node, directory, .. }) = (event.key, asked);
        self.figures.request(node, request);
        for (script, outcome) in scripts {
            self.figures.run(key.phase, &directories::label(directory, script), outcome);
        }
        let failed = |(script, outcome): &(String, Outcome)| {
            (!outcome.succeeded()).then(|| (script.clone(), plain(&outcome.in_words())))
        };
        let mut failures: Vec<(String, String)> = scripts.iter().filter_map(failed).collect();
        let request = (!request.succeeded()).then(|| (directory.to_owned(), plain(&request.in_words())));
        let ran = scripts.len() + usize::from(request.is_some());
        failures.extend(request);
        self.count(|counters| {
            counters.runs += ran as u64;
            counters.runs_failed += failures.len() as u64;
        });
        let Some(line) = in_one_line(&failures, ran) else { return };
        let topic = Topic::of(MessageId::HookFailed).event(event);
        self.say_of(topic, Level::Warning, &format!("{key}: {node}: {line}"));
        // A node with many does not push all others out.
        let first = failures.len().saturating_sub(NAMES_SAID);
        for (script, what) in failures.drain(first..) {
            self.failed(event, &script, node, what);
        }
    }

    /// Keeps a failure for `status`.
    fn failed(&mut self, event: &Event, script: &str, node: &str, what: String) {
        self.failures.push_back(FailedHook {
            event: event.key.to_string(),
            script: plain(script),
            node: plain(node),
            what,
        });
        if self.failures.len() > FAILURES_KEPT {
            self.failures.pop_front();
        }
    }

    /// When the daemon started.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What was counted and timed by opcode, script and node.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// What an operator must see to, in words.
    pub fn problems(&self) -> Vec<String> {
        self.problems.iter().map(|(problem, what)| format!("{}: {what}", problem.name())).collect()
    }

    /// The runs that failed last, the newest last.
    pub fn failures(&self) -> Vec<FailedHook> {
        self.failures.iter().cloned().collect()
    }

    /// Job files that cannot be used now, by name.
    pub fn bad_files(&self) -> BTreeMap<String, String> {
        self.bad_files.iter().map(|(id, what)| (id.file_name(), what.clone())).collect()
    }
}

/// What failed of so many hooks, by name and what is said of it, as the end of a line of the log.
fn in_one_line(failures: &[(String, String)], ran: usize) -> Option<String> {
    let (last, what) = failures.last()?;
    if failures.len() == 1 {
        return Some(format!("hook {last} {what}"));
    }
    let names: Vec<&str> = failures.iter().take(NAMES_SAID).map(|(script, _)| script.as_str()).collect();
    let (count, names) = (failures.len(), names.join(", "));
    let more = if count > NAMES_SAID { ", ..." } else { "" };
    Some(format!("{count} of {ran} hooks failed: {names}{more}; the last: {what}"))
}

/// A text as one line that says nothing to a terminal, and is not too long.
fn plain(text: &str) -> String {
    text::plain(text, LINE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pre() -> Event {
        Event {
            key: "1.0.pre".parse().unwrap(),
            received: Timestamp::default(),
            op_count: 1,
            op_code: "OP_TEST_DELAY".to_owned(),
            status: None,
            executed: true,
            late: false,
            time: Timestamp::default(),
            about: Default::default(),
        }
    }

    fn run(node: &str, script: &str) -> RunStart {
        let [node, directory, script] = [node, "global-pre.d", script].map(str::to_owned);
        RunStart { id: 1, seq: 1, node, directory, script, attempt: 1, started: Timestamp::default() }
    }

    #[test]
    fn foreign_text_is_one_plain_line() {
        let mut report = Report::new(Timestamp::default(), "/queue".to_owned());
        report.say(Level::Info, "a\nb\u{1b}[31m\u{202e}ünï");
        let lines = report.take_lines();
        assert_eq!(
            lines,
            [Effect::Log(Level::Info, "a\\nb\\u{1b}[31m\\u{202e}ünï".to_owned(), Topic::default())]
        );
        report.run_ended(&pre(), &run("n\r", "x\ny"), false, &Outcome::not_run("\u{7}"));
        let failure = &report.failures()[0];
        assert_eq!((&*failure.script, &*failure.node, &*failure.what), ("x\\ny", "n\\r", "\\u{7}"));
        assert!(plain(&"x".repeat(1_000_000)).len() < 5000);
    }

    #[test]
    fn a_kind_of_line_that_comes_too_often_is_counted_and_others_are_not() {
        let mut report = Report::new(Timestamp::default(), "/queue".to_owned());
        for number in 1..1000 {
            report.bad_file(number.try_into().unwrap(), "no good");
            report.say(Level::Info, "an event");
        }
        report.problem_once(Problem::Journal, "no room", "trying again");
        let count = |lines: &[Effect], level| {
            lines.iter().filter(|line| matches!(line, Effect::Log(other, ..) if *other == level)).count()
        };
        let lines = report.take_lines();
        assert_eq!((count(&lines, Level::Error), count(&lines, Level::Info)), (21, 999));
        assert_eq!(report.next_deadline(), Some(Duration::from_secs(10)));
        report.it_is(Duration::from_secs(10));
        let lines = report.take_lines();
        let [Effect::Log(Level::Error, line, topic)] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(*topic, Topic::of(MessageId::BadFile).job(JobId::try_from(999).unwrap()));
        assert!(
            line.contains("job-999: no good") && line.ends_with("(the last of 979 lines like it)"),
            "{line}"
        );
        assert_eq!(report.next_deadline(), None);
        report.it_is(Duration::from_secs(20));
        assert!(report.floods.is_empty());
        assert_eq!(report.counters().bad_files, 999);
    }

    #[test]
    fn a_node_is_one_line_however_many_of_its_scripts_failed() {
        let mut report = Report::new(Timestamp::default(), "/queue".to_owned());
        let good = Outcome { code: Some(0), ..Outcome::default() };
        let script = |n: usize| (format!("{n:03}"), Outcome::not_run("no"));
        let mut ended = |count, request: &Outcome| {
            let mut scripts: Vec<_> = (0..count).map(script).collect();
            scripts.push(("999".to_owned(), good.clone()));
            report.node_ended(&pre(), &run("node2", "global-pre.d"), request, &scripts);
            let lines = report.take_lines().into_iter().map(|line| match line {
                Effect::Log(Level::Warning, text, _) => text,
                other => panic!("{other:?}"),
            });
            (lines.collect::<Vec<_>>(), report.failures().len(), report.counters())
        };
        assert_eq!(ended(0, &good).0, [""; 0]);
        assert_eq!(ended(1, &good).0, ["1.0.pre: node2: hook 000 no"]);
        let (lines, failures, counters) = ended(900, &Outcome::not_run("and more"));
        assert_eq!(
            lines,
            ["1.0.pre: node2: 901 of 902 hooks failed: 000, 001, 002, ...; the last: and more"]
        );
        assert_eq!((failures, counters.runs, counters.runs_failed), (4, 905, 902));
        let three = "1.0.pre: node2: 3 of 4 hooks failed: 000, 001, 002; the last: no";
        assert_eq!(ended(3, &good).0, [three]);
    }

    #[test]
    fn what_is_said_once_is_said_again_when_it_is_another_thing() {
        let mut report = Report::new(Timestamp::default(), "/queue".to_owned());
        let id = JobId::try_from(7).unwrap();
        for what in ["a", "a", "b"] {
            report.bad_file(id, what);
        }
        assert_eq!(report.take_lines().len(), 2);
        report.good_file(id);
        report.bad_file(id, "b");
        assert_eq!((report.take_lines().len(), report.counters().bad_files), (1, 3));
    }

    #[test]
    fn whether_a_problem_is_another_than_before_is_known() {
        let mut report = Report::new(Timestamp::default(), "/queue".to_owned());
        let whether = ["a", "a", "b"].map(|what| report.problem(Problem::Api, what));
        assert_eq!(whether, [true, false, true]);
        for _ in 0..1000 {
            report.say(Level::Warning, "a warning");
        }
        assert!(report.take_lines().len() < 100, "warnings are counted, too");
    }
}
