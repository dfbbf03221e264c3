//! Having effects done. What one brings at once goes back to the engine before the next is
//! done, and so does what follows from that.

use super::Daemon;
use super::hands::Hands;
use super::hands::processes::Processes;
use crate::engine::Role;
use crate::engine::effect::{Effect, Level, Token};
use crate::engine::input::Input;
use crate::engine::topic::Topic;
use crate::ganeti::job::JobId;
use crate::world::failpoints;
use crate::world::process::guard::Claim;

impl Daemon {
    /// Gives the engine what happened, and has done what it says.
    pub(super) fn give(&mut self, input: Input<'_>) {
        let effects = self.take(input);
        let mut lists = vec![effects.into_iter()];
        while let Some(list) = lists.last_mut() {
            let Some(effect) = list.next() else {
                lists.pop();
                continue;
            };
            let more = self.perform(effect);
            if !more.is_empty() {
                lists.push(more.into_iter());
            }
        }
    }

    fn take(&mut self, input: Input<'_>) -> Vec<Effect> {
        let before = self.engine.role();
        let effects = self.engine.take(self.clocks.now(), input);
        if before == Role::Standby && self.engine.role() == Role::Master {
            failpoints::point("role.take-over");
        }
        effects
    }

    /// Has one effect done. Returns what follows from what it brings.
    fn perform(&mut self, effect: Effect) -> Vec<Effect> {
        if let Effect::Read { id, limit, archive } = effect {
            return self.read(id, limit, archive);
        }
        if effect == Effect::Watch {
            return self.watch();
        }
        self.bring(effect).map_or_else(Vec::new, |input| self.take(input))
    }

    /// Has an effect done. Returns what it brings, if it brings something at once.
    fn bring(&mut self, effect: Effect) -> Option<Input<'static>> {
        let Hands { queue, processes, journal, runs, .. } = &mut self.hands;
        Some(match effect {
            Effect::ReadSerial => Input::Serial(queue.serial()),
            Effect::Recall { id, received } => {
                Input::Recalled { id, received, told: journal.recall(id, received) }
            }
            Effect::AskMaster => Input::Master(runs.master()),
            Effect::AskCluster => Input::Cluster(runs.cluster()),
            Effect::CountNodes => Input::OnlineNodes(runs.online_nodes()),
            Effect::LookForPreHooks => Input::PreHooks(runs.pre_hooks()),
            Effect::StartGuard => Input::GuardStarted(processes.start_guard()),
            Effect::Find { token, process } => {
                Input::Found { token, presence: processes.find(token, process) }
            }
            Effect::Stop { token, job, limit, executed, by_signal } => Input::Stopped {
                token,
                job,
                result: processes.stop(token, limit, executed, by_signal, || queue.is_as_read(job)),
            },
            Effect::Arm { token, job } => {
                Input::Armed { token, result: processes.arm(token, || queue.is_as_read(job)) }
            }
            Effect::Commit(changes) => Input::Committed(journal.commit(&changes)),
            Effect::WriteAnew(changes) => Input::Committed(journal.write_anew(&changes)),
            Effect::Prepare { seq, phase, paths } => runs.prepare(seq, phase, paths),
            Effect::Start(run) => {
                let who = (run.run, run.seq, run.while_stopped);
                return begin(processes, who, |claim| runs.start(run, claim));
            }
            Effect::Ask(run) => {
                let who = (run.run, run.seq, run.while_stopped);
                return begin(processes, who, |claim| runs.ask(run, claim));
            }
            effect @ (Effect::Watch
            | Effect::Read { .. }
            | Effect::Scan { .. }
            | Effect::ReadLarge { .. }
            | Effect::Unwatch(_)
            | Effect::LoadKernelStop
            | Effect::Attach
            | Effect::Detach
            | Effect::Disarm { .. }
            | Effect::Shorten { .. }
            | Effect::Continue { .. }
            | Effect::Plan(_)
            | Effect::EndRuns
            | Effect::TellGaneti(_)
            | Effect::Outboxes { .. }
            | Effect::AnswerRerun { .. }
            | Effect::Announce
            | Effect::JobEnded(_)
            | Effect::Recollect
            | Effect::Ready
            | Effect::Summary(_)
            | Effect::Log(..)) => {
                self.tell(effect);
                return None;
            }
        })
    }

    /// Has an effect done that brings nothing, or not at once.
    fn tell(&mut self, effect: Effect) {
        let hands = &mut self.hands;
        match effect {
            Effect::Scan { scan } => hands.queue.scan(scan),
            Effect::ReadLarge { reading, id } => hands.queue.read_large(reading, id),
            Effect::Unwatch(token) => hands.processes.unwatch(token),
            Effect::LoadKernelStop => hands.processes.load_kernel_stop(),
            Effect::Attach => hands.processes.attach(),
            Effect::Detach => hands.processes.detach(),
            Effect::Disarm { token, .. } => hands.processes.disarm(token),
            Effect::Shorten { token, limit } => hands.processes.shorten(token, limit),
            Effect::Continue { token, job } => hands.processes.go_on(token, job),
            Effect::Plan(request) => hands.runs.plan(request),
            Effect::EndRuns => hands.runs.end_scripts(),
            Effect::TellGaneti(death) => hands.deaths.tell(death),
            Effect::Outboxes { outboxes, sends } => hands.outboxes.assign(outboxes, sends),
            Effect::AnswerRerun { asked, result } => self.reruns.answer(asked, result),
            Effect::Announce => self.bell.history_has_changed(),
            Effect::JobEnded(id) => self.bell.job_has_ended(id),
            Effect::Recollect => hands.journal.recollect(),
            Effect::Ready => self.ready(),
            Effect::Summary(summary) => self.summarize(summary),
            Effect::Log(level, text, topic) => log_line(log_level(level), &text, &topic),
            // The others bring something: `bring` and `perform` have them.
            _ => {}
        }
    }

    fn read(&mut self, id: JobId, limit: u64, archive: bool) -> Vec<Effect> {
        let (engine, clocks) = (&mut self.engine, self.clocks);
        self.hands
            .queue
            .read(id, limit, archive, |version| engine.take(clocks.now(), Input::Version { id, version }))
    }

    /// Has the queue watched. Where there is none, that is told first.
    fn watch(&mut self) -> Vec<Effect> {
        let result = self.hands.queue.watch();
        let mut effects = match &result {
            Err(_) if self.hands.queue.is_missing() => self.take(Input::NoQueue),
            _ => Vec::new(),
        };
        effects.extend(self.take(Input::Watched(result)));
        effects
    }

    fn ready(&mut self) {
        failpoints::point("start.before-ready");
        log::info!("ready: {}", self.summary);
        self.watchdog.ready();
    }

    fn summarize(&mut self, summary: String) {
        self.watchdog.status(&summary);
        self.summary = summary;
    }
}

/// Has a run of an event begin, unless a process is to stand still for it that does not. Tells if it
/// could not.
fn begin(
    processes: &mut Processes,
    (run, seq, while_stopped): (i64, i64, Option<Token>),
    start: impl FnOnce(Option<Claim>) -> Option<Input<'static>>,
) -> Option<Input<'static>> {
    let Some(token) = while_stopped else { return start(None) };
    failpoints::point("hold.before-claim");
    let Some(claim) = processes.claim(token) else { return Some(Input::GoneOn { run, seq }) };
    let could_not = start(Some(claim));
    if could_not.is_some() {
        processes.withdraw(token);
    }
    could_not
}

/// Logs a line with what it is about.
fn log_line(level: log::Level, text: &str, topic: &Topic) {
    let target = module_path!();
    if level > log::max_level() {
        return;
    }
    let fields: Vec<(&str, String)> = topic.fields().collect();
    let fields = fields.as_slice();
    let mut record = log::Record::builder();
    record.level(level).target(target).module_path(Some(target)).key_values(&fields);
    log::logger().log(&record.args(format_args!("{text}")).build());
}

fn log_level(level: Level) -> log::Level {
    match level {
        Level::Error => log::Level::Error,
        Level::Warning => log::Level::Warn,
        Level::Info => log::Level::Info,
        Level::Debug => log::Level::Debug,
    }
}
