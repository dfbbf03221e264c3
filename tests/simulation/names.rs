//! Inputs and effects by name, and in the words of a story.

use ganeti_hookd::engine::change::Change;
use ganeti_hookd::engine::effect::Effect;
use ganeti_hookd::engine::input::{Input, Version};
use ganeti_hookd::ganeti::job::Job;

macro_rules! names {
    ($what:ident, $list:ident, $kind:ty, $($pattern:pat => $name:expr,)*) => {
        /// What it is called in the table of what was reached.
        pub fn $what(of: &$kind) -> &'static str {
            match of { $($pattern => $name,)* }
        }
        /// All of them.
        pub const $list: &[&str] = &[$($name,)*];
    };
}

names! { input_name, INPUTS, Input<'_>,
    Input::Hint(_) => "input: Hint",
    Input::Overflow => "input: Overflow",
    Input::WatchLost => "input: WatchLost",
    Input::Watched(_) => "input: Watched",
    Input::NoQueue => "input: NoQueue",
    Input::Named(_) => "input: Named",
    Input::Listed { .. } => "input: Listed",
    Input::ScanEnded { .. } => "input: ScanEnded",
    Input::Serial(_) => "input: Serial",
    Input::Version { .. } => "input: Version",
    Input::LargeRead { .. } => "input: LargeRead",
    Input::Recalled { .. } => "input: Recalled",
    Input::Found { .. } => "input: Found",
    Input::Exited(_) => "input: Exited",
    Input::Stopped { .. } => "input: Stopped",
    Input::KernelStop(_) => "input: KernelStop",
    Input::Armed { .. } => "input: Armed",
    Input::GoneOn { .. } => "input: GoneOn",
    Input::GuardStarted(_) => "input: GuardStarted",
    Input::GuardEnded => "input: GuardEnded",
    Input::Committed(_) => "input: Committed",
    Input::JournalLog(_) => "input: JournalLog",
    Input::Planned { .. } => "input: Planned",
    Input::Prepared { .. } => "input: Prepared",
    Input::RunEnded { .. } => "input: RunEnded",
    Input::NodeEnded { .. } => "input: NodeEnded",
    Input::Postponed { .. } => "input: Postponed",
    Input::ClusterChanged => "input: ClusterChanged",
    Input::Cluster(_) => "input: Cluster",
    Input::Master(_) => "input: Master",
    Input::OnlineNodes(_) => "input: OnlineNodes",
    Input::Recollected(_) => "input: Recollected",
    Input::PreHooks(_) => "input: PreHooks",
    Input::Reloaded(_) => "input: Reloaded",
    Input::Api(_) => "input: Api",
    Input::Outbox { .. } => "input: Outbox",
    Input::Panicked(_) => "input: Panicked",
    Input::Rerun { .. } => "input: Rerun",
    Input::GanetiTold { .. } => "input: GanetiTold",
    Input::Quiet => "input: Quiet",
    Input::Stop => "input: Stop",
}

names! { effect_name, EFFECTS, Effect,
    Effect::Watch => "effect: Watch",
    Effect::Scan { .. } => "effect: Scan",
    Effect::Read { .. } => "effect: Read",
    Effect::ReadLarge { .. } => "effect: ReadLarge",
    Effect::ReadSerial => "effect: ReadSerial",
    Effect::Recall { .. } => "effect: Recall",
    Effect::AskMaster => "effect: AskMaster",
    Effect::AskCluster => "effect: AskCluster",
    Effect::CountNodes => "effect: CountNodes",
    Effect::LookForPreHooks => "effect: LookForPreHooks",
    Effect::StartGuard => "effect: StartGuard",
    Effect::Find { .. } => "effect: Find",
    Effect::Unwatch(_) => "effect: Unwatch",
    Effect::LoadKernelStop => "effect: LoadKernelStop",
    Effect::Attach => "effect: Attach",
    Effect::Detach => "effect: Detach",
    Effect::Arm { .. } => "effect: Arm",
    Effect::Disarm { .. } => "effect: Disarm",
    Effect::Stop { .. } => "effect: Stop",
    Effect::Shorten { .. } => "effect: Shorten",
    Effect::Continue { .. } => "effect: Continue",
    Effect::Commit(_) => "effect: Commit",
    Effect::WriteAnew(_) => "effect: WriteAnew",
    Effect::Plan(_) => "effect: Plan",
    Effect::Prepare { .. } => "effect: Prepare",
    Effect::Start(_) => "effect: Start",
    Effect::Ask(_) => "effect: Ask",
    Effect::EndRuns => "effect: EndRuns",
    Effect::TellGaneti(_) => "effect: TellGaneti",
    Effect::Outboxes { .. } => "effect: Outboxes",
    Effect::AnswerRerun { .. } => "effect: AnswerRerun",
    Effect::Announce => "effect: Announce",
    Effect::JobEnded(_) => "effect: JobEnded",
    Effect::Recollect => "effect: Recollect",
    Effect::Ready => "effect: Ready",
    Effect::Summary(_) => "effect: Summary",
    Effect::Log(..) => "effect: Log",
}

/// What else is to be reached.
pub const MARKS: &[&str] = &[
    "a stop by the kernel",
    "an exact stop",
    "a stop in time",
    "a stop too late",
    "a pre that is told it is in time",
    "a pre that is told it is late",
    "a run that is made again after a crash",
    "an event that is adopted after a failover",
    "an event that is left to the other master",
    "a job that disappeared",
    "scripts of an opcode",
    "scripts of Ganeti's own",
    "a node that is asked for an opcode's",
    "a node that is asked for Ganeti's own",
    "an event that runs again",
    "a script that runs again alone",
    "a rerun that is refused",
    "a rerun that waits for its job",
    "a rerun that goes on after a crash",
    "a rerun that is left to the other master",
    "an event that is sent",
    "an event that is sent again after a crash",
    "an event that is sent after a failover",
    "an event that is given up",
    "a receiver that fails",
    "a job changes while a scan is compared",
    "a job is gone while a scan is compared",
    "hints are lost while a scan is compared",
    "the watch is lost while a scan is compared",
    "a process ends while a scan is compared",
    "the journal fails while a scan is compared",
    "a stop while a scan is compared",
    "the role changes while a scan is compared",
    "numbers begin again while a scan is compared",
    "a crash while a scan is compared",
];

/// What is told in the midst of comparing a scan.
pub fn while_comparing(input: &Input<'_>) -> Option<&'static str> {
    Some(match input {
        Input::Hint(_) => "a job changes while a scan is compared",
        Input::Version { version: Version::Gone | Version::Archived(_), .. } => {
            "a job is gone while a scan is compared"
        }
        Input::Overflow => "hints are lost while a scan is compared",
        Input::WatchLost => "the watch is lost while a scan is compared",
        Input::Exited(_) => "a process ends while a scan is compared",
        Input::Committed(Err(_)) => "the journal fails while a scan is compared",
        Input::Stop => "a stop while a scan is compared",
        _ => return None,
    })
}

/// Whether job numbers begin again by what is written.
pub fn is_new_cluster(effect: &Effect) -> bool {
    matches!(effect, Effect::Commit(changes) if changes.iter().any(|c| matches!(c, Change::BeganAgain(_))))
}

/// An effect in the words of a story.
pub fn described(effect: &Effect) -> String {
    let what = match effect {
        Effect::Read { id, archive, .. } => {
            format!("read job {id}{}", if *archive { " or its archive" } else { "" })
        }
        Effect::Find { token, process } => format!("find process {} as {}", process.pid, token.0),
        Effect::Stop { token, job, limit, .. } => format!("STOP {} of job {job} for {limit:?}", token.0),
        Effect::Arm { token, job } => format!("arm {} of job {job}", token.0),
        Effect::Disarm { token, job } => format!("disarm {} of job {job}", token.0),
        Effect::Shorten { token, limit } => format!("shorten {} to {limit:?}", token.0),
        Effect::Continue { token, job } => format!("CONTINUE {} of job {job}", token.0),
        Effect::Commit(changes) => format!("commit {}", changed(changes)),
        Effect::WriteAnew(changes) => format!("write anew {}", changed(changes)),
        Effect::Plan(request) => format!("plan event {} ({})", request.seq, request.event.key),
        Effect::Start(run) => format!(
            "START run {} of event {} ({} {}, attempt {}, late {})",
            run.run,
            run.seq,
            run.env.get("GANETI_HOOKD_EVENT").map_or("?", String::as_str),
            run.script.file_name().unwrap_or_default().display(),
            run.env.get("GANETI_HOOKD_ATTEMPT").map_or("?", String::as_str),
            run.env.get("GANETI_HOOKD_LATE").map_or("?", String::as_str),
        ),
        Effect::Ask(run) => format!("ASK a node, run {} of event {}", run.run, run.seq),
        Effect::Log(level, text, _) => format!("log {level:?}: {text}"),
        other => format!("{other:?}"),
    };
    format!("engine: {what}")
}

fn changed(changes: &[Change]) -> String {
    let words = changes.iter().map(|change| match change {
        Change::Job(id, tracked) => {
            let pre = if tracked.progress.pre { "+" } else { "" };
            format!("job {id} at {}{pre}", tracked.progress.next)
        }
        Change::Forget(id) => format!("forget job {id}"),
        Change::Event(seq, event, state) => format!("event {seq}: {event} ({})", state.as_str()),
        Change::EventState(seq, state) => format!("event {seq} {}", state.as_str()),
        Change::Adopt(seq) => format!("adopt {seq}"),
        Change::Late(seq) => format!("late {seq}"),
        Change::Plan(seq, _) => format!("plan {seq}"),
        Change::RunStart(run) => {
            format!("run {}/{} {} on {} attempt {}", run.seq, run.id, run.script, run.node, run.attempt)
        }
        Change::RunEnd(seq, run, ..) => format!("run {seq}/{run} ended"),
        other => format!("{other:?}"),
    });
    const SHOWN: usize = 12;
    let more =
        if changes.len() > SHOWN { format!("; and {} more", changes.len() - SHOWN) } else { String::new() };
    format!("[{}{more}]", words.take(SHOWN).collect::<Vec<_>>().join("; "))
}

/// A version in few words: `success | running(started executed)`.
pub fn words(job: &Job<'_>) -> String {
    let ops = job.ops.iter().map(|op| {
        let mut word = format!("{:?}", op.status).to_lowercase();
        for (is_set, mark) in [
            (op.started.is_some(), " started"),
            (op.executed.is_some(), " executed"),
            (op.death_detected, " death"),
        ] {
            word += if is_set { mark } else { "" };
        }
        word
    });
    ops.collect::<Vec<_>>().join(" | ")
}
