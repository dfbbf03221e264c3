//! An outbox beside the engine, and its receiver: what was done is sent, in order for each object,
//! through crashes and failovers, and what is not is told.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use ganeti_hookd::engine::change::EventState;
use ganeti_hookd::engine::input::{Input, Now};
use ganeti_hookd::engine::outbox::answer::Verdict;
use ganeti_hookd::engine::outbox::course::{Course, Header};
use ganeti_hookd::engine::outbox::walk::{Desk, Parcel, walk};
use ganeti_hookd::engine::outbox_progress::Span;
use ganeti_hookd::engine::outbox_progress::{Assignment, Report};
use ganeti_hookd::engine::settings::{Outbox, Settings};

use crate::dice::Dice;
use crate::journal::{Journal, Row};
use crate::world::{Message, World};

/// The outbox of a seed, if it has one.
pub fn settings(seed: u64) -> Vec<Outbox> {
    let mut dice = Dice::of(seed, "outbox");
    if !dice.one_in(2) {
        return Vec::new();
    }
    let wanted = *dice.pick(&["[\"*\"]", "[\"*\"]", "[\"OP_INSTANCE_*\"]"]);
    let give_up = *dice.pick(&["3d", "3d", "1m"]);
    let text = format!(
        "[[outbox]]\nname = \"a\"\nurl = \"https://a/\"\nsecret-file = \"/key\"\nop-codes = {wanted}\n\
         status = [\"started\", \"succeeded\", \"failed\", \"disappeared\"]\ngive-up = \"{give_up}\"\n"
    );
    Settings::parse(&text).expect("it is well written").outboxes
}

/// The thread of the outbox, and the receiver.
#[derive(Debug)]
pub struct Sender {
    dice: Dice,
    course: Option<Course>,
    /// What it was told to do last.
    settings: Option<Outbox>,
    sends: bool,
    said: Option<Report>,
    /// The receiver fails until then.
    down_until: u64,
    /// The place it began with, in a journal.
    begun: Option<Span>,
    /// What the receiver has taken, in order: of which journal, which event, in which life.
    taken: Vec<(i64, i64, u64)>,
    /// Events that it was told it will not get; and that there may be others.
    told_missing: u64,
    told_of_loss: bool,
}

impl Sender {
    pub fn new(seed: u64) -> Self {
        Self {
            dice: Dice::of(seed, "receiver"),
            course: None,
            settings: None,
            sends: false,
            said: None,
            down_until: 0,
            begun: None,
            taken: Vec::new(),
            told_missing: 0,
            told_of_loss: false,
        }
    }

    /// The engine says who sends.
    pub fn assign(&mut self, outboxes: &[Assignment], sends: bool, journal: &Journal, now: Now) {
        let Some(Assignment { settings, progress }) = outboxes.first() else {
            (self.course, self.settings) = (None, None);
            return;
        };
        (self.settings, self.sends) = (Some(settings.clone()), sends);
        match &mut self.course {
            Some(course) if course.settings() != settings => course.reload(settings.clone()),
            Some(_) => {}
            None => {
                let course = Course::new(settings.clone(), progress.clone(), journal.span(), now);
                // Where one begins that was never heard of; once that is written it is known.
                if !journal.knows_outboxes() {
                    self.begun = Some(Span { first: journal.span().last + 1, ..journal.span() });
                }
                self.course = Some(course);
            }
        }
    }

    /// The daemon is gone, and it with it.
    pub fn dies(&mut self) {
        (self.course, self.settings, self.said, self.sends) = (None, None, None, false);
    }

    /// It does what it can.
    pub fn goes(&mut self, journal: &Journal, world: &mut World) {
        if world.is_wild() && !self.dice.one_in(3) {
            return;
        }
        if world.is_wild() && self.dice.one_in(30) {
            self.down_until = world.now + self.dice.spread(10_000, 100_000_000);
        }
        if self.sends {
            self.go(journal, world);
        }
        let Some(course) = &self.course else { return };
        let report = Report {
            progress: course.progress().clone(),
            state: course.state().to_owned(),
            trouble: course.trouble(),
            is_problem: course.is_problem(),
        };
        if self.said.as_ref() != Some(&report) {
            self.said = Some(report.clone());
            let input = Input::Outbox { name: "a".to_owned(), report: Box::new(report) };
            world.inbox.push_back(Message::Plain(input));
        }
    }

    fn go(&mut self, journal: &Journal, world: &mut World) {
        let Some(mut course) = self.course.take() else { return };
        let Ok(_) = walk(&mut course, &mut At { sender: self, journal, world });
        self.course = Some(course);
    }

    /// In the end the receiver has everything, or knows what it has not.
    pub fn judge(&mut self, journal: &Journal, world: &mut World) -> Result<(), String> {
        self.down_until = 0;
        let is_at_work = self.sends && self.course.is_some();
        if let Some(course) = self.course.as_mut().filter(|_| is_at_work) {
            course.resend(None);
            self.go(journal, world);
            self.go(journal, world);
            self.has_all(journal)?;
        }
        self.is_in_order(journal)
    }

    fn has_all(&self, journal: &Journal) -> Result<(), String> {
        let (Some(settings), span) = (&self.settings, journal.span()) else { return Ok(()) };
        let begin = self.begun.filter(|begun| begun.journal == span.journal).map_or(1, |begun| begun.first);
        let has = |seq: i64| self.taken.iter().any(|taken| (taken.0, taken.1) == (span.journal, seq));
        // What was another node's that one has sent: what runs again is not sent again.
        let is_owed = |row: &Row| {
            let is_wanted = settings.wants(&row.event.op_code, row.event.status);
            row.state == EventState::Done && !row.was_anothers && is_wanted
        };
        let owed = journal.events.range(begin..).filter(|(_, row)| is_owed(row));
        let missing: Vec<i64> = owed.map(|(seq, _)| *seq).filter(|seq| !has(*seq)).collect();
        match missing.len() as u64 > self.told_missing && !self.told_of_loss {
            true => Err(format!("events {missing:?} were not sent, and {} told", self.told_missing)),
            false => Ok(()),
        }
    }

    fn is_in_order(&self, journal: &Journal) -> Result<(), String> {
        let (mut last, mut seen) = (BTreeMap::new(), BTreeSet::new());
        for (of, seq, _) in self.taken.iter().filter(|(of, ..)| *of == journal.span().journal) {
            let Some(row) = journal.events.get(seq).filter(|_| seen.insert((of, seq))) else { continue };
            let Some(object) = row.event.about.object.as_ref().filter(|object| object.name.is_some()) else {
                continue;
            };
            if let Some(before) = last.insert(object.to_string(), seq).filter(|before| *before > seq) {
                return Err(format!("event {seq} of {object} was sent after event {before}"));
            }
        }
        Ok(())
    }
}

/// The outbox at work.
struct At<'a> {
    sender: &'a mut Sender,
    journal: &'a Journal,
    world: &'a mut World,
}

fn header((seq, row): (&i64, &Row)) -> Header {
    let event = &row.event;
    Header {
        seq: *seq,
        time: event.time,
        op_code: event.op_code.clone(),
        status: event.status,
        state: row.state,
        object: event.about.object.clone(),
    }
}

impl Desk for At<'_> {
    type Error = Infallible;

    fn now(&self) -> Now {
        self.world.clocks()
    }

    fn dice(&mut self) -> u64 {
        self.sender.dice.below(1_000_000)
    }

    fn span(&mut self) -> Result<Span, Infallible> {
        Ok(self.journal.span())
    }

    fn header(&mut self, seq: i64) -> Result<Option<Header>, Infallible> {
        Ok(self.journal.events.get_key_value(&seq).map(header))
    }

    fn headers_after(&mut self, seq: i64) -> Result<Vec<Header>, Infallible> {
        Ok(self.journal.events.range(seq + 1..).take(5).map(header).collect())
    }

    fn send(&mut self, parcel: Parcel<'_>) -> Result<Option<Verdict>, Infallible> {
        if self.world.now < self.sender.down_until {
            self.world.story.reach("a receiver that fails");
            return Ok(Some(Verdict::Failed("down".to_owned(), None)));
        }
        match parcel {
            Parcel::Gap(gap) => {
                self.world.story.reach("an event that is given up");
                self.sender.told_missing += gap.events;
                self.sender.told_of_loss |= !gap.is_counted;
            }
            Parcel::Event(seq) => {
                let Some(row) = self.journal.events.get(&seq) else { return Ok(None) };
                self.world.story.reach("an event that is sent");
                let (journal, life) = (self.journal.span().journal, self.world.life);
                if self.sender.taken.contains(&(journal, seq, life - 1)) {
                    self.world.story.reach("an event that is sent again after a crash");
                }
                if row.event.late && self.world.people.roles_changed > 0 {
                    self.world.story.reach("an event that is sent after a failover");
                }
                self.sender.taken.push((journal, seq, life));
            }
        }
        Ok(Some(Verdict::Taken))
    }

    fn goes_on(&mut self, _: &Course) -> bool {
        !self.world.is_wild() || !self.sender.dice.one_in(20)
    }
}
