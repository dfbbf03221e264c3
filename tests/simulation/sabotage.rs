//! Engines that are broken on purpose: the judge must notice each. What the engine is told or
//! says is changed on the way, so that no broken engine has to be written.

use std::sync::Arc;

use ganeti_hookd::engine::change::Change;
use ganeti_hookd::engine::effect::Effect;
use ganeti_hookd::engine::input::{Input, Written};
use ganeti_hookd::ganeti::event::Phase;

use crate::recipe::{Fault, HERE, THERE};
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
    HearsLateOfItsTurn,
    ForgetsWhatItLeft,
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
    ];

    /// Those that two masters are needed for.
    pub const OF_TWO: &[(Sabotage, &str)] = &[
        (HearsLateOfItsTurn, "begun by one of the two"),
        (ForgetsWhatItLeft, "begun by one of the two"),
        (IsAlwaysMaster, "one master begins"),
        (HearsHalf, "begun by one of the two"),
    ];

    /// What has to go wrong besides, for it to be seen soon.
    pub fn shows_with(self) -> &'static [Fault] {
        match self {
            ForgetsRunsInANewJournal => &[Fault::Damage, Fault::Crash, Fault::ScriptHangs],
            AsksNoHistory => &[Fault::Recreate, Fault::Crash, Fault::Overflow],
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
            (GoesOnAfterStop, Input::Stop) => None,
            (AsksNoHistory, Input::Recalled { id, received, .. }) => {
                Some(Input::Recalled { id, received, told: Ok(None) })
            }
            (RunsOneScript, Input::Prepared { seq, scripts, facts }) => {
                let scripts = scripts.map(|scripts| scripts.into_iter().take(1).collect());
                Some(Input::Prepared { seq, scripts, facts })
            }
            (_, input) => Some(input),
        }
    }

    /// What is done instead of an effect.
    pub fn does(self, effect: Effect, count: u64) -> Vec<Effect> {
        match (self, effect) {
            (AsksOnceWhoIsMaster, Effect::AskMaster) if count > 20 => Vec::new(),
            (ForgetsRunsInANewJournal, Effect::WriteAnew(changes)) => {
                let is_run = |change: &&Change| matches!(change, Change::RunStart(_) | Change::RunEnd(..));
                let changes = changes.iter().filter(|change| !is_run(change)).cloned().collect();
                vec![Effect::WriteAnew(Arc::new(changes))]
            }
            (NeverContinues, Effect::Continue { .. }) => Vec::new(),
            (ContinuesAtOnce, Effect::Stop { token, job, limit, by_signal }) => {
                vec![Effect::Stop { token, job, limit, by_signal }, Effect::Continue { token, job }]
            }
            (StopsTwice, effect @ Effect::Stop { .. }) => vec![effect.clone(), effect],
            (StopsAnybody, Effect::Stop { mut token, job, limit, by_signal }) => {
                token.0 = token.0.saturating_sub(1);
                vec![Effect::Stop { token, job, limit, by_signal }]
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
            (NeverReadsTheArchive, Effect::Read { id, limit, .. }) => {
                vec![Effect::Read { id, limit, archive: false }]
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
            (ForgetsPosts, Change::RunStart(_)) => Vec::new(),
            _ => vec![change.clone()],
        }
    }
}
