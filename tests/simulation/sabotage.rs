//! Engines that are broken on purpose: the judge must notice each. What the engine is told or
//! says is changed on the way, so that no broken engine has to be written.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ganeti_hookd::engine::change::{Change, EventState};
use ganeti_hookd::engine::directories::HooksPath;
use ganeti_hookd::engine::effect::{Death, Effect, Token};
use ganeti_hookd::engine::input::{Input, Landing, Now, Written};
use ganeti_hookd::engine::outcome::Outcome;
use ganeti_hookd::ganeti::event::Phase;
use ganeti_hookd::ganeti::job::{Job, JobId, Timestamp};

use crate::journal::Journal;
use crate::judge::Broken;
use crate::number;
use crate::world::files::Read;
use crate::world::{Happening, Message};

use crate::recipe::{Fault, HERE, Recipe, THERE};
use crate::world::World;

/// So late hears a node that it is master: microseconds, longer than the failover window.
const LATE: u64 = 45_000_000;

/// How an engine is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    NeverContinues,
    ContinuesAtOnce,
    StopsTwice,
    StopsAnybody,
    SaysThatNothingIsLate,
    BeginsBeforeItIsWritten,
    TakesEveryCommitForGood,
    BeginsTwice,
    TellsTwice,
    TellsAnotherEnd,
    ForgetsPosts,
    IsAlwaysMaster,
    HearsHalf,
    NeverReadsTheArchive,
    GoesOnAfterStop,
    RunsOneScript,
    ForgetsRunsInANewJournal,
    AsksNoHistory,
    AsksOnceWhoIsMaster,
    NeverRests,
    TakesAnExitForAnothers,
    BelievesADeathAtOnce,
    LooksAtOldJobsFirst,
    ContinuesLate,
    PlansInAnyOrder,
    WritesNoNumbers,
    WritesNoJobs,
    ForgetsRecentHistory,
    IgnoresOverflows,
    IgnoresALostWatch,
    MeasuresTheWindowByTheClock,
    TakesAShortageForAFailure,
    DropsWhatIsPostponed,
    ForgetsPendingInANewJournal,
    ForgetsStandbyInANewJournal,
    NumbersANewJournalAnew,
    TakesEveryStopForInTime,
    AsksNobodyWhetherAJobStands,
    TakesRunsForEndedAtOnce,
    SaysThatItIsTheFirstAttempt,
    NeverEndsRuns,
    HearsLateOfItsTurn,
    ForgetsWhatItLeft,
    TakesNewJobsForOld,
    IgnoresThatThereIsNoQueue,
    LooksInOneDirectory,
    TakesEveryPreHookForAll,
    ForgetsThatItRunsAgain,
    ForgetsRerunsInANewJournal,
    WritesNoReruns,
    LetsRerunsOvertake,
    HoldsForReruns,
    SaysThatRerunsAreInTime,
    TellsGanetiOfTheLiving,
    TellsGanetiTwice,
    ForgetsPlaces,
    ForgetsThatTheHistoryIsLost,
    ForgetsWhatIsLostWhileItCompares,
    ForgetsThatNumbersBeganAgain,
}

use Sabotage::*;

impl Sabotage {
    /// Each, and one of the promises that it breaks.
    pub const ALL: &[(Sabotage, &str)] = &[
        (NeverContinues, "nobody stands still too long"),
        (ContinuesAtOnce, "late is said where it is late"),
        (StopsTwice, "nobody is stopped but a job process at running"),
        (StopsAnybody, "nobody is stopped but a job process at running"),
        (SaysThatNothingIsLate, "late is said where it is late"),
        (BeginsBeforeItIsWritten, "written before it begins"),
        (TakesEveryCommitForGood, "written before it begins"),
        (BeginsTwice, "at most once"),
        (TellsTwice, "each (job, opcode, phase) once"),
        (TellsAnotherEnd, "nothing invented"),
        (ForgetsPosts, "nothing lost"),
        (IsAlwaysMaster, "nothing begins in standby"),
        (HearsHalf, "nothing lost"),
        (NeverReadsTheArchive, "nothing lost"),
        (GoesOnAfterStop, "nothing begins while it stops"),
        (RunsOneScript, "nothing lost"),
        (ForgetsRunsInANewJournal, "at most once"),
        (AsksNoHistory, "each (job, opcode, phase) once"),
        (AsksOnceWhoIsMaster, "nothing begins in standby"),
        (NeverRests, "it rests when there is nothing to do"),
        (TakesAnExitForAnothers, "nothing invented"),
        (BelievesADeathAtOnce, "nothing invented"),
        (LooksAtOldJobsFirst, "live before old"),
        (ContinuesLate, "nobody stands still too long"),
        (PlansInAnyOrder, "live before old"),
        (WritesNoNumbers, "each (job, opcode, phase) once"),
        (WritesNoJobs, "nothing lost"),
        (ForgetsRecentHistory, "history is kept"),
        (IgnoresOverflows, "nothing lost"),
        (IgnoresALostWatch, "nothing lost"),
        (MeasuresTheWindowByTheClock, "nothing lost"),
        (TakesAShortageForAFailure, "nothing lost"),
        (DropsWhatIsPostponed, "everything is delivered"),
        (ForgetsPendingInANewJournal, "nothing lost"),
        (NumbersANewJournalAnew, "at most once"),
        (TakesEveryStopForInTime, "pre hooks end before the opcode executes"),
        (AsksNobodyWhetherAJobStands, "late is said where it is late"),
        (TakesRunsForEndedAtOnce, "in order"),
        (TakesRunsForEndedAtOnce, "no more scripts than workers"),
        (SaysThatItIsTheFirstAttempt, "at most once"),
        (TakesNewJobsForOld, "nothing lost"),
        (IgnoresThatThereIsNoQueue, "nothing lost"),
        (NeverEndsRuns, "SIGTERM ends the daemon within 15 s"),
        (LooksInOneDirectory, "each event has its directories"),
        (TakesEveryPreHookForAll, "nobody is stopped but a job process at running"),
        (ForgetsThatItRunsAgain, "what runs again says so"),
        (ForgetsRerunsInANewJournal, "what runs again says so"),
        (WritesNoReruns, "written before it begins"),
        (LetsRerunsOvertake, "in order"),
        (HoldsForReruns, "nobody is stopped but a job process at running"),
        (SaysThatRerunsAreInTime, "late is said where it is late"),
        (TellsGanetiOfTheLiving, "Ganeti is told of deaths alone"),
        (TellsGanetiTwice, "Ganeti is told of deaths alone"),
        (ForgetsPlaces, "what is done is sent"),
        (ForgetsThatTheHistoryIsLost, "each (job, opcode, phase) once"),
        (ForgetsWhatIsLostWhileItCompares, "nothing lost"),
        (ForgetsThatNumbersBeganAgain, "each (job, opcode, phase) once"),
    ];

    /// Those that two masters are needed for.
    pub const OF_TWO: &[(Sabotage, &str)] = &[
        (HearsLateOfItsTurn, "begun by one of the two"),
        (ForgetsWhatItLeft, "begun by one of the two"),
        (IsAlwaysMaster, "one master begins"),
        (HearsHalf, "begun by one of the two"),
        (ForgetsStandbyInANewJournal, "begun by one of the two"),
    ];

    /// A world of which the engine is broken so, and in which that is seen soon.
    pub fn in_world(self, recipe: Recipe) -> Recipe {
        let mut recipe = Recipe { sabotage: Some(self), ..recipe };
        recipe.faults.extend(self.shows_with());
        recipe.settings.deaths.tell_ganeti |= matches!(self, TellsGanetiOfTheLiving | TellsGanetiTwice);
        if self == IgnoresThatThereIsNoQueue {
            recipe.leftovers = 0;
        }
        if self == ForgetsThatNumbersBeganAgain {
            // The new cluster soon gives out the numbers of the old one.
            recipe.jobs = recipe.jobs.min(4);
        }
        if self == LooksAtOldJobsFirst {
            // Jobs begin while many others are looked at.
            (recipe.leftovers, recipe.calm) = (6_000, recipe.calm.min(5_000_000));
            recipe.pieces = (1_000, 0);
        }
        recipe
    }

    /// The first seed in whose world an engine that is broken so breaks this promise, and one that
    /// is not breaks none.
    pub fn first_noticed(
        self,
        promise: &str,
        seeds: u64,
        recipe: fn(u64) -> Recipe,
        play: fn(Recipe) -> Option<Broken>,
    ) -> Option<u64> {
        let noticed = |seed: &u64| {
            let recipe = self.in_world(recipe(*seed));
            play(recipe.clone()).is_some_and(|broken| broken.promise == promise)
                && play(Recipe { sabotage: None, ..recipe }).is_none()
        };
        let first = (0..seeds).find(noticed);
        if number("COVERAGE").is_some() {
            println!("{self:?} {promise:?}: {first:?}");
        }
        first
    }

    /// What has to go wrong besides.
    fn shows_with(self) -> &'static [Fault] {
        match self {
            ForgetsRunsInANewJournal => &[Fault::Damage, Fault::Crash, Fault::ScriptHangs],
            AsksNoHistory => &[Fault::Recreate, Fault::Crash, Fault::Overflow],
            BelievesADeathAtOnce | TellsGanetiTwice => &[Fault::Kill],
            LooksAtOldJobsFirst => &[Fault::Overflow],
            WritesNoNumbers | WritesNoJobs | SaysThatItIsTheFirstAttempt => &[Fault::Crash],
            IgnoresOverflows | ForgetsWhatIsLostWhileItCompares => &[Fault::Overflow],
            IgnoresALostWatch => &[Fault::WatchLost],
            MeasuresTheWindowByTheClock => &[Fault::ClockStep, Fault::Failover],
            TakesAShortageForAFailure | DropsWhatIsPostponed => &[Fault::Postponed],
            ForgetsPendingInANewJournal => &[Fault::Damage, Fault::Crash, Fault::ScriptHangs],
            ForgetsStandbyInANewJournal => &[Fault::Damage, Fault::Failover, Fault::Crash],
            NumbersANewJournalAnew => &[Fault::Damage, Fault::Crash],
            TakesEveryStopForInTime => &[Fault::NoKernelStop, Fault::LateLanding],
            AsksNobodyWhetherAJobStands => &[Fault::Admin],
            TakesNewJobsForOld => &[Fault::Recreate, Fault::CommitFails],
            IgnoresThatThereIsNoQueue => &[Fault::WatchRefused],
            NeverEndsRuns => &[Fault::Terminate, Fault::ScriptHangs],
            ForgetsWhatItLeft | ForgetsPlaces => &[Fault::Crash],
            ForgetsThatItRunsAgain => &[Fault::Rerun, Fault::Crash, Fault::ScriptHangs],
            ForgetsRerunsInANewJournal => &[Fault::Rerun, Fault::Damage, Fault::ScriptHangs],
            ForgetsThatTheHistoryIsLost => &[Fault::Recreate, Fault::Damage, Fault::Crash],
            ForgetsThatNumbersBeganAgain => {
                &[Fault::Recreate, Fault::SerialUnknown, Fault::RecallFails, Fault::Damage, Fault::Crash]
            }
            WritesNoReruns | LetsRerunsOvertake | HoldsForReruns | SaysThatRerunsAreInTime => &[Fault::Rerun],
            _ => &[],
        }
    }

    /// What the engine is told instead; `None` when it is told nothing.
    pub fn tells<'a>(self, input: Input<'a>, count: u64, world: &World) -> Option<Input<'a>> {
        match (self, input) {
            (HearsHalf, Input::Hint(_)) if count.is_multiple_of(2) => None,
            (IsAlwaysMaster, Input::Master(_)) => Some(Input::Master(Ok(Some(HERE.to_owned())))),
            (TakesEveryCommitForGood, Input::Committed(Err(_))) => {
                Some(Input::Committed(Ok(Written::default())))
            }
            (HearsLateOfItsTurn, Input::Master(Ok(Some(master)))) if master == HERE => {
                let early = world.people.heard_of > 0 && world.now < world.people.last_role_change + LATE;
                Some(Input::Master(Ok(Some(if early { THERE } else { HERE }.to_owned()))))
            }
            (GoesOnAfterStop, Input::Stop)
            | (IgnoresOverflows, Input::Overflow)
            | (IgnoresALostWatch, Input::WatchLost)
            | (IgnoresThatThereIsNoQueue, Input::NoQueue)
            | (DropsWhatIsPostponed, Input::Postponed { .. }) => None,
            (TakesAnExitForAnothers, Input::Exited(Token(token))) => Some(Input::Exited(Token(token + 1))),
            (TakesAShortageForAFailure, Input::Postponed { run, seq, error }) => {
                Some(Input::RunEnded { run, seq, outcome: Outcome::not_run(error) })
            }
            (TakesEveryStopForInTime, Input::Stopped { token, job, result: Ok(Landing::Late) }) => {
                Some(Input::Stopped { token, job, result: Ok(Landing::Early) })
            }
            (AsksNoHistory, Input::Recalled { id, received, .. }) => {
                Some(Input::Recalled { id, received, told: Ok(None) })
            }
            (TakesEveryPreHookForAll, Input::PreHooks(mut paths)) => {
                paths.insert(HooksPath::Global);
                Some(Input::PreHooks(paths))
            }
            (LetsRerunsOvertake, Input::Rerun { asked, found: Ok(Some(mut found)), rerun, scripts }) => {
                // As if it were another job's.
                let job = &mut found.event.event.key.job;
                *job = JobId::try_from(job.get() + 1_000_000).unwrap_or(*job);
                Some(Input::Rerun { asked, found: Ok(Some(found)), rerun, scripts })
            }
            (RunsOneScript, Input::Prepared { seq, scripts, facts }) => {
                let scripts = scripts.map(|scripts| scripts.into_iter().take(1).collect());
                Some(Input::Prepared { seq, scripts, facts })
            }
            (_, input) => Some(input),
        }
    }

    /// What time the engine takes it to be when it is told this.
    pub fn clocks(self, input: &Input<'_>, world: &World) -> Now {
        let Now { time, steady } = world.clocks();
        let set = Duration::from_micros(world.clock.unsigned_abs());
        let steady = match (self, input) {
            (MeasuresTheWindowByTheClock, Input::Master(Ok(_))) if world.clock > 0 => steady + set,
            _ => steady,
        };
        Now { time, steady }
    }

    /// What is read of a job's file, of which `before` was read before.
    pub fn reads(self, read: Read, before: Option<&Rc<Job<'static>>>, world: &World) -> Read {
        let (BelievesADeathAtOnce, Read::Queued(job, _), Some(before)) = (self, &read, before) else {
            return read;
        };
        let process = world.ganeti.of(job.id, job.received).and_then(|job| job.process);
        let is_dead = process.is_some_and(|at| !world.kernel.processes[at].alive);
        if is_dead && !before.is_final() { Read::Queued(Rc::clone(before), None) } else { read }
    }

    /// What a new journal has of the old one.
    pub fn writes_anew(self, old: Journal) -> Journal {
        match self {
            NumbersANewJournalAnew => Journal::default(),
            _ => old.anew(),
        }
    }

    /// What is done instead of an effect.
    pub fn does(self, effect: Effect, count: u64, world: &mut World) -> Vec<Effect> {
        match (self, effect) {
            (ContinuesLate, Effect::Continue { .. }) => {
                world.later(LATE / 10, Happening::GuardLetsGo(world.life));
                Vec::new()
            }
            (NeverEndsRuns, Effect::EndRuns) => Vec::new(),
            (LooksInOneDirectory, Effect::Prepare { seq, phase, mut paths }) => {
                paths.truncate(1);
                vec![Effect::Prepare { seq, phase, paths }]
            }
            (PlansInAnyOrder, Effect::Plan(mut request)) => {
                request.urgent = false;
                vec![Effect::Plan(request)]
            }
            (TakesRunsForEndedAtOnce, Effect::Start(run)) => {
                let outcome = Outcome { code: Some(0), ..Outcome::default() };
                let ended = Input::RunEnded { run: run.run, seq: run.seq, outcome };
                world.inbox.push_back(Message::Plain(ended));
                vec![Effect::Start(run)]
            }
            (SaysThatItIsTheFirstAttempt, Effect::Start(mut run)) => {
                run.env.insert("GANETI_HOOKD_ATTEMPT".to_owned(), "1".to_owned());
                vec![Effect::Start(run)]
            }
            (HoldsForReruns, Effect::Start(run)) if run.env.contains_key("GANETI_HOOKD_RERUN") => {
                let held = world.kernel.all_watched().next();
                let job = held.map(|(_, at)| &world.ganeti.jobs[world.kernel.processes[at].job]);
                let stop = held.zip(job).map(|((token, _), job)| Effect::Stop {
                    token,
                    job: job.job.id,
                    limit: Duration::from_secs(1),
                    by_signal: true,
                    executed: Timestamp::default(),
                });
                stop.into_iter().chain([Effect::Start(run)]).collect()
            }
            (SaysThatRerunsAreInTime, Effect::Start(mut run))
                if run.env.contains_key("GANETI_HOOKD_RERUN") =>
            {
                run.env.insert("GANETI_HOOKD_LATE".to_owned(), "no".to_owned());
                vec![Effect::Start(run)]
            }
            (ForgetsRerunsInANewJournal, Effect::WriteAnew(changes)) => {
                let is_rerun = |change: &&Change| matches!(change, Change::Rerun(..));
                let changes = changes.iter().filter(|change| !is_rerun(change)).cloned().collect();
                vec![Effect::WriteAnew(Arc::new(changes))]
            }
            (AsksNobodyWhetherAJobStands, Effect::Start(mut run)) => {
                run.while_stopped = None;
                vec![Effect::Start(run)]
            }
            (ForgetsPendingInANewJournal, Effect::WriteAnew(changes)) => {
                vec![Effect::WriteAnew(without_events(&changes, EventState::Pending))]
            }
            (ForgetsStandbyInANewJournal, Effect::WriteAnew(changes)) => {
                vec![Effect::WriteAnew(without_events(&changes, EventState::Standby))]
            }
            (AsksOnceWhoIsMaster, Effect::AskMaster) if count > 20 => Vec::new(),
            (ForgetsRunsInANewJournal, Effect::WriteAnew(changes)) => {
                let is_run = |change: &&Change| matches!(change, Change::RunStart(_) | Change::RunEnd(..));
                let changes = changes.iter().filter(|change| !is_run(change)).cloned().collect();
                vec![Effect::WriteAnew(Arc::new(changes))]
            }
            (TellsGanetiOfTheLiving, Effect::Find { token, process }) => {
                let (job, received) = (1.try_into().expect("a number"), Timestamp::default());
                let death = Death { seq: None, job, received, process: process.clone() };
                vec![Effect::Find { token, process }, Effect::TellGaneti(death)]
            }
            (TellsGanetiTwice, effect @ Effect::TellGaneti(_)) => vec![effect.clone(), effect],
            (NeverContinues, Effect::Continue { .. }) => Vec::new(),
            (ContinuesAtOnce, Effect::Stop { token, job, limit, executed, by_signal }) => {
                vec![Effect::Stop { token, job, limit, executed, by_signal }, Effect::Continue { token, job }]
            }
            (StopsTwice, effect @ Effect::Stop { .. }) => vec![effect.clone(), effect],
            (StopsAnybody, Effect::Stop { mut token, job, limit, executed, by_signal }) => {
                token.0 = token.0.saturating_sub(1);
                vec![Effect::Stop { token, job, limit, executed, by_signal }]
            }
            (ContinuesAtOnce, Effect::Start(mut run)) => {
                run.while_stopped = None;
                vec![Effect::Start(run)]
            }
            (SaysThatNothingIsLate, Effect::Start(mut run)) => {
                run.env.insert("GANETI_HOOKD_LATE".to_owned(), "no".to_owned());
                run.while_stopped = None;
                vec![Effect::Start(run)]
            }
            (BeginsTwice, effect @ Effect::Start(_)) => vec![effect.clone(), effect],
            (TakesNewJobsForOld, Effect::Read { id, limit, .. })
                if id.get() <= world.people.highest_before =>
            {
                vec![Effect::Read { id, limit, archive: false }]
            }
            (NeverReadsTheArchive, Effect::Read { id, limit, .. }) => {
                vec![Effect::Read { id, limit, archive: false }]
            }
            (ForgetsThatTheHistoryIsLost | ForgetsThatNumbersBeganAgain, Effect::WriteAnew(changes)) => {
                let changes = changes.iter().flat_map(|change| self.writes(change)).collect();
                vec![Effect::WriteAnew(Arc::new(changes))]
            }
            (_, Effect::Commit(changes)) => {
                let changes = changes.iter().flat_map(|change| self.writes(change)).collect();
                vec![Effect::Commit(Arc::new(changes))]
            }
            (_, effect) => vec![effect],
        }
    }

    fn writes(self, change: &Change) -> Vec<Change> {
        match (self, change) {
            (BeginsBeforeItIsWritten, Change::RunStart(_)) => Vec::new(),
            (TellsTwice, Change::Event(seq, event, state)) => {
                vec![change.clone(), Change::Event(seq + 1_000_000, event.clone(), *state)]
            }
            (TellsAnotherEnd, Change::Event(seq, event, state)) => {
                let mut event = event.clone();
                event.executed = !event.executed;
                vec![Change::Event(*seq, event, *state)]
            }
            (ForgetsPosts, Change::Event(_, event, _)) if event.key.phase == Phase::Post => Vec::new(),
            (ForgetsPosts, Change::RunStart(_))
            | (WritesNoNumbers, Change::Numbers(_))
            | (WritesNoJobs, Change::Job(..)) => Vec::new(),
            (WritesNoReruns, Change::Rerun(..))
            | (ForgetsThatTheHistoryIsLost, Change::HistoryLost(_))
            | (ForgetsThatNumbersBeganAgain, Change::BeganAgain(_)) => Vec::new(),
            (ForgetsRecentHistory, Change::Prune(_, most)) => {
                vec![Change::Prune(Timestamp::from_micros(i64::MAX), *most)]
            }
            _ => vec![change.clone()],
        }
    }
}

fn without_events(changes: &[Change], of: EventState) -> Arc<Vec<Change>> {
    let is_one = |change: &&Change| matches!(change, Change::Event(_, _, state) if *state == of);
    Arc::new(changes.iter().filter(|change| !is_one(change)).cloned().collect())
}
