//! An outbox beside a history that goes on, a receiver that fails, and kills.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::engine::outbox::walk::{Desk, End, Parcel, walk};
use crate::engine::outbox_progress::Gap;
use crate::ganeti::object::ObjectKind;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

fn settings() -> Outbox {
    let text =
        "[[outbox]]\nname = \"a\"\nurl = \"https://a/\"\nsecret-file = \"/key\"\nstatus = [\"succeeded\"]\n";
    crate::engine::settings::Settings::parse(text).unwrap().outboxes.remove(0)
}

/// A history, a receiver and the time, in one thread.
#[derive(Default)]
struct World {
    events: BTreeMap<i64, Header>,
    last: i64,
    journal: i64,
    seconds: u64,
    /// What the receiver does; where there is nothing, it takes what comes.
    answers: BTreeMap<i64, Verdict>,
    is_down: bool,
    /// What it has taken, in order.
    taken: Vec<i64>,
    gaps: Vec<Gap>,
    /// How often it was asked.
    asked: u32,
    dice: u64,
    /// It is interrupted after so many things.
    patience: Option<u32>,
}

impl World {
    fn new() -> Self {
        Self { journal: 7, seconds: 1_000, ..Self::default() }
    }

    fn event(&mut self, object: &str, state: EventState) -> i64 {
        self.last += 1;
        let object = Object { kind: ObjectKind::Instance, name: Some(object.to_owned()) };
        let header = Header {
            seq: self.last,
            time: self.now().time,
            op_code: "OP_X".to_owned(),
            status: Some(PostStatus::Succeeded),
            state,
            object: Some(object),
        };
        self.events.insert(self.last, header);
        self.last
    }

    fn done(&mut self, seq: i64) {
        self.events.get_mut(&seq).unwrap().state = EventState::Done;
    }

    /// Has the outbox do what it can until it waits for something.
    fn go(&mut self, course: &mut Course) -> End {
        walk(course, self).unwrap()
    }

    fn begin(&mut self, progress: Option<Progress>) -> Course {
        let span = self.span().unwrap();
        Course::new(settings(), progress, span, self.now())
    }
}

impl Desk for World {
    type Error = std::convert::Infallible;

    fn now(&self) -> Now {
        let micros = i64::try_from(self.seconds * 1_000_000).unwrap();
        Now { time: Timestamp::from_micros(micros), steady: Duration::from_secs(self.seconds) }
    }

    fn dice(&mut self) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.dice >> 33
    }

    fn span(&mut self) -> Result<Span, Self::Error> {
        let first = self.events.keys().next().copied().unwrap_or(self.last + 1);
        Ok(Span { journal: self.journal, first, last: self.last })
    }

    fn header(&mut self, seq: i64) -> Result<Option<Header>, Self::Error> {
        Ok(self.events.get(&seq).cloned())
    }

    fn headers_after(&mut self, seq: i64) -> Result<Vec<Header>, Self::Error> {
        Ok(self.events.range(seq + 1..).take(3).map(|(_, header)| header.clone()).collect())
    }

    fn send(&mut self, parcel: Parcel<'_>) -> Result<Option<Verdict>, Self::Error> {
        self.asked += 1;
        if self.is_down {
            return Ok(Some(Verdict::Failed("down".to_owned(), None)));
        }
        Ok(match parcel {
            Parcel::Gap(gap) => {
                self.gaps.push(gap.clone());
                Some(Verdict::Taken)
            }
            Parcel::Event(seq) if !self.events.contains_key(&seq) => None,
            Parcel::Event(seq) => {
                let verdict = self.answers.get(&seq).cloned().unwrap_or(Verdict::Taken);
                if verdict == Verdict::Taken {
                    self.taken.push(seq);
                }
                Some(verdict)
            }
        })
    }

    fn goes_on(&mut self, _: &Course) -> bool {
        let Some(patience) = &mut self.patience else { return true };
        *patience = patience.saturating_sub(1);
        *patience > 0
    }
}

const DONE: EventState = EventState::Done;
const PENDING: EventState = EventState::Pending;

#[test]
fn what_is_done_is_sent_once_and_in_order() {
    let mut world = World::new();
    world.event("old", DONE);
    let mut course = world.begin(None);
    assert_eq!(world.go(&mut course), End::Idle);
    assert!(world.taken.is_empty(), "a new outbox begins with what comes next");
    for _ in 0..10 {
        world.event("web1", DONE);
    }
    world.go(&mut course);
    world.go(&mut course);
    assert_eq!(world.taken, (2..=11).collect::<Vec<_>>());
}

#[test]
fn who_is_not_done_holds_up_its_object_and_nobody_else() {
    let mut world = World::new();
    let mut course = world.begin(None);
    let hangs = world.event("web1", PENDING);
    let other = world.event("web2", DONE);
    let same = world.event("web1", DONE);
    world.go(&mut course);
    assert_eq!(world.taken, [other]);
    world.done(hangs);
    // Also one that comes meanwhile.
    let later = world.event("web1", DONE);
    world.go(&mut course);
    assert_eq!(world.taken, [other, hangs, same, later]);
    assert!(course.progress().open.is_empty());
}

#[test]
fn an_event_that_is_run_again_is_not_sent_again() {
    let mut world = World::new();
    let mut course = world.begin(None);
    let event = world.event("web1", DONE);
    world.go(&mut course);
    world.events.get_mut(&event).unwrap().state = PENDING;
    world.go(&mut course);
    world.done(event);
    world.go(&mut course);
    assert_eq!(world.taken, [event]);
}

#[test]
fn a_refused_event_holds_nobody_up_and_can_be_sent_again() {
    let mut world = World::new();
    let mut course = world.begin(None);
    let [bad, good] = [world.event("web1", DONE), world.event("web1", DONE)];
    world.answers.insert(bad, Verdict::Refused("400".to_owned()));
    world.go(&mut course);
    assert_eq!((&world.taken[..], course.progress().parked.len(), course.state()), (&[good][..], 1, "ok"));
    assert_eq!(course.resend(None), 1);
    world.go(&mut course);
    assert_eq!(course.progress().parked.len(), 1, "it refuses it again");
    world.answers.clear();
    course.resend(None);
    world.go(&mut course);
    assert_eq!((&world.taken[..], course.progress().parked.len()), (&[good, bad][..], 0));
    course.resend(Some(good));
    world.go(&mut course);
    assert_eq!(world.taken, [good, bad, good], "any event, if somebody wants it");
}

#[test]
fn a_receiver_that_refuses_everything_is_one_that_fails() {
    let mut world = World::new();
    let mut course = world.begin(None);
    for _ in 0..PARKED_MAX + 5 {
        let seq = world.event("web1", DONE);
        world.answers.insert(seq, Verdict::Refused("404".to_owned()));
    }
    assert_eq!(world.go(&mut course), End::Waits);
    assert_eq!((course.progress().parked.len(), course.state()), (PARKED_MAX, "failing"));
    world.answers.clear();
    course.resend(None);
    world.go(&mut course);
    assert_eq!(world.taken.len(), PARKED_MAX + 5);
}

#[test]
fn who_is_gone_is_asked_nothing_until_somebody_wants_it() {
    let mut world = World::new();
    let mut course = world.begin(None);
    let event = world.event("web1", DONE);
    world.answers.insert(event, Verdict::Over("410".to_owned()));
    world.go(&mut course);
    world.seconds += DAY;
    assert_eq!((world.go(&mut course), world.asked, course.next_try()), (End::Waits, 1, None));
    assert!(course.is_problem() && course.trouble().unwrap().contains("outbox enable a"));
    // A restart does not change that.
    course = world.begin(Some(course.progress().clone()));
    world.go(&mut course);
    assert_eq!(world.asked, 1);
    world.answers.clear();
    assert!(course.enable() && !course.enable());
    world.go(&mut course);
    assert_eq!(world.taken, [event]);
}

#[test]
fn a_failure_is_tried_again_by_the_schedule_and_by_nothing_else() {
    let mut world = World::new();
    let mut course = world.begin(None);
    world.event("web1", DONE);
    world.is_down = true;
    let begin = world.seconds;
    while world.seconds < begin + 2 * DAY {
        world.go(&mut course);
        // Whatever happens meanwhile.
        world.event("web2", DONE);
        world.go(&mut course);
        world.seconds = course.next_try().unwrap().as_secs() + 1;
    }
    assert!((8..=9).contains(&world.asked), "{} times in two days", world.asked);
    assert!(course.is_problem());
    world.is_down = false;
    world.go(&mut course);
    assert_eq!(world.taken.len() as i64, world.last);
    assert_eq!((course.state(), course.trouble(), world.gaps.len()), ("ok", None, 0));
}

#[test]
fn what_is_given_up_is_told_before_anything_else() {
    let mut world = World::new();
    let mut course = world.begin(None);
    world.is_down = true;
    let lost = [world.event("web1", DONE), world.event("web2", DONE)];
    world.go(&mut course);
    world.seconds += 3 * DAY + 1;
    let kept = world.event("web1", DONE);
    world.go(&mut course);
    assert!(world.gaps.is_empty() && course.progress().gap.is_some());
    // Also after a restart.
    course = world.begin(Some(course.progress().clone()));
    world.is_down = false;
    world.go(&mut course);
    let [gap] = &world.gaps[..] else { panic!("{:?}", world.gaps) };
    assert_eq!((gap.from, gap.events, gap.is_counted), (lost[0], 2, true));
    assert_eq!(world.taken, [kept]);
    world.go(&mut course);
    assert_eq!(world.gaps.len(), 1, "told once");
}

#[test]
fn what_was_forgotten_or_lost_is_told() {
    let mut world = World::new();
    let mut course = world.begin(None);
    world.is_down = true;
    let first = world.event("web1", DONE);
    world.go(&mut course);
    world.events.remove(&first);
    let next = world.event("web1", DONE);
    world.is_down = false;
    world.seconds += MINUTE;
    world.go(&mut course);
    assert_eq!((&world.taken[..], world.gaps.len()), (&[next][..], 1));
    (world.journal, world.last) = (8, 0);
    world.events.clear();
    let again = world.event("web1", DONE);
    world.go(&mut course);
    assert_eq!((world.taken.last(), world.gaps.len()), (Some(&again), 2));
    assert!(!world.gaps[1].is_counted && world.gaps[1].why.contains("journal"));
}

/// What happens to an outbox.
#[derive(Clone, Debug)]
enum Act {
    /// An event about one of some objects comes, and is done or is not.
    Event(u8, bool),
    /// One of those that are not done is done.
    Done(u8),
    /// The receiver goes down or comes back.
    Down(bool),
    /// The receiver refuses one of the events.
    Refuse(u8),
    Passes(u64),
    /// The journal holds what the outbox last said.
    Commit,
    /// The daemon is killed, and starts.
    Kill,
    /// It is interrupted after so many things.
    Interrupt(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..4_u8, prop::bool::weighted(0.7)).prop_map(|(object, done)| Act::Event(object, done)),
        4 => any::<u8>().prop_map(Act::Done),
        2 => any::<bool>().prop_map(Act::Down),
        1 => any::<u8>().prop_map(Act::Refuse),
        4 => (0..6 * HOUR).prop_map(Act::Passes),
        4 => Just(Act::Commit),
        2 => Just(Act::Kill),
        1 => (1..9_u8).prop_map(Act::Interrupt),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_out_of_order_whatever_happens(acts in prop::collection::vec(act(), 0..120)) {
        let mut world = World::new();
        let mut course = world.begin(None);
        let mut kept = course.progress().clone();
        for act in acts {
            match act {
                Act::Event(object, done) => {
                    world.event(&object.to_string(), if done { DONE } else { PENDING });
                },
                Act::Done(nth) => {
                    let pending = world.events.values().filter(|event| event.state == PENDING);
                    let pending: Vec<i64> = pending.map(|event| event.seq).collect();
                    if !pending.is_empty() {
                        world.done(pending[usize::from(nth) % pending.len()]);
                    }
                }
                Act::Down(is_down) => world.is_down = is_down,
                Act::Refuse(nth) if world.last > 0 => {
                    world.answers.insert(1 + i64::from(nth) % world.last, Verdict::Refused("no".to_owned()));
                }
                Act::Refuse(_) => {}
                Act::Passes(seconds) => world.seconds += seconds,
                Act::Commit => kept = course.progress().clone(),
                Act::Kill => course = world.begin(Some(kept.clone())),
                Act::Interrupt(patience) => world.patience = Some(patience.into()),
            }
            world.go(&mut course);
            world.patience = None;
        }
        // In the end all is well.
        (world.is_down, world.answers) = (false, BTreeMap::new());
        (1..=world.last).for_each(|seq| world.done(seq));
        course.resend(None);
        world.seconds += DAY;
        prop_assert_eq!(world.go(&mut course), End::Idle);
        in_order_and_complete(&world)?;
        // Nothing that is kept grows for ever.
        let progress = course.progress();
        prop_assert!(progress.open.is_empty() && progress.parked.is_empty() && progress.gap.is_none());
    }
}

/// Every event was taken, or the receiver was told of a gap; for an object each came after those
/// before it the first time, unless it had been refused.
fn in_order_and_complete(world: &World) -> Result<(), TestCaseError> {
    let given_up: u64 = world.gaps.iter().map(|gap| gap.events).sum();
    let taken: BTreeSet<i64> = world.taken.iter().copied().collect();
    let missing = (1..=world.last).filter(|seq| !taken.contains(seq)).count() as u64;
    prop_assert!(missing <= given_up, "{missing} missing, {given_up} told");
    prop_assert_eq!(given_up > 0, !world.gaps.is_empty());
    Ok(())
}

#[test]
fn two_days_down_and_a_hundred_kills() {
    let mut world = World::new();
    let mut course = world.begin(None);
    let mut kept = course.progress().clone();
    world.is_down = true;
    for kill in 0..100_u64 {
        for event in 0..20_u64 {
            world.event(&format!("web{}", (kill + event) % 7), if event % 5 == 0 { PENDING } else { DONE });
        }
        let pending: Vec<i64> =
            world.events.values().filter(|event| event.state == PENDING).map(|event| event.seq).collect();
        pending.iter().skip((kill % 2) as usize * 4).for_each(|seq| world.done(*seq));
        world.go(&mut course);
        if kill % 3 == 0 {
            kept = course.progress().clone();
        }
        world.seconds += 2 * DAY / 100;
        course = world.begin(Some(kept.clone()));
    }
    // The last kills are while it catches up.
    world.is_down = false;
    (1..=world.last).for_each(|seq| world.done(seq));
    for kill in 0..100 {
        world.patience = Some(10 + kill % 30);
        world.go(&mut course);
        if kill % 4 == 0 {
            kept = course.progress().clone();
        }
        course = world.begin(Some(kept.clone()));
    }
    world.patience = None;
    assert_eq!(world.go(&mut course), End::Idle);
    let mut first = Vec::new();
    for seq in &world.taken {
        if !first.contains(seq) {
            first.push(*seq);
        }
    }
    let mut sorted = first.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=2_000).collect::<Vec<_>>(), "every event is there");
    for object in 0..7 {
        let name = format!("instance/web{object}");
        let about = |seq: &&i64| world.events[*seq].object.as_ref().unwrap().to_string() == name;
        let order: Vec<&i64> = first.iter().filter(about).collect();
        assert!(order.is_sorted(), "{name}: {order:?}");
    }
    assert!(world.gaps.is_empty());
}

#[test]
fn what_vanishes_before_it_is_done_is_told_as_a_gap() {
    let mut world = World::new();
    let mut course = world.begin(None);
    let hangs = world.event("web1", PENDING);
    let other = world.event("web2", DONE);
    world.go(&mut course);
    world.events.remove(&hangs);
    course.resend(Some(hangs));
    world.go(&mut course);
    world.go(&mut course);
    assert_eq!(world.gaps.iter().map(|gap| (gap.from, gap.events)).collect::<Vec<_>>(), [(hangs, 1)]);
    assert_eq!((&world.taken[..], course.wanted().len(), course.progress().open.len()), (&[other][..], 0, 0));
}

#[test]
fn only_so_many_are_left_open_and_all_are_sent_in_the_end() {
    let mut world = World::new();
    let mut course = world.begin(None);
    let all: Vec<i64> = (0..OPEN_MAX + 5).map(|n| world.event(&format!("web{n}"), PENDING)).collect();
    for _ in 0..2 {
        world.go(&mut course);
        assert_eq!(course.progress().open.len(), OPEN_MAX);
    }
    all.iter().for_each(|seq| world.done(*seq));
    for _ in 0..2 {
        world.go(&mut course);
    }
    assert_eq!(world.taken, all);
}

#[test]
fn what_another_node_delivers_or_nobody_wants_is_not_sent() {
    let mut world = World::new();
    let mut course = world.begin(None);
    world.event("web1", EventState::Standby);
    let failed = world.event("web2", DONE);
    world.events.get_mut(&failed).unwrap().status = Some(PostStatus::Failed);
    let wanted = world.event("web3", DONE);
    world.go(&mut course);
    assert_eq!((&world.taken[..], course.progress().unsent_since), (&[wanted][..], None));
}

#[test]
fn what_fails_here_is_tried_again_as_what_fails_there_and_at_once_by_new_settings() {
    let mut world = World::new();
    let mut course = world.begin(None);
    assert!(!course.is_problem() && course.may_send(world.now().steady));
    course.failed("the secret cannot be read", world.now(), 0);
    assert_eq!((course.state(), course.may_send(world.now().steady)), ("failing", false));
    assert_eq!(course.trouble().unwrap(), "the secret cannot be read (failed once in a row)");
    course.failed("the secret cannot be read", world.now(), 0);
    assert!(course.trouble().unwrap().ends_with("(failed 2 times in a row)") && !course.is_problem());
    let other = Outbox { name: "b".to_owned(), ..settings() };
    course.reload(other.clone());
    assert_eq!((course.state(), course.settings()), ("ok", &other));
    assert!(course.may_send(world.now().steady));
}

#[test]
fn a_history_that_begins_where_it_is_lacks_nothing() {
    let mut world = World::new();
    let mut course = world.begin(None);
    let seqs = [world.event("web1", DONE), world.event("web1", DONE)];
    world.go(&mut course);
    course.resend(Some(seqs[1]));
    let span = |first| Span { journal: world.journal, first, last: world.last };
    course.is_in(span(seqs[1] + 1), world.now());
    assert_eq!(course.wanted(), [seqs[1]], "it goes on");
    course.is_in(span(seqs[1] + 2), world.now());
    assert!(course.wanted().is_empty(), "what it was is not there any more");
}
