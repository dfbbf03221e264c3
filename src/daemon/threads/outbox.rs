//! One outbox: reads the history and sends what is to be sent. It sleeps while there is nothing to
//! send, and while it is not time to try again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::value::RawValue;

use super::outboxes::{Order, Orders};
use crate::daemon::message::Message;
use crate::engine::input::{Input, Now};
use crate::engine::outbox::answer::Verdict;
use crate::engine::outbox::course::{Course, Header};
use crate::engine::outbox::message;
use crate::engine::outbox::walk::{Desk, End, Parcel, walk};
use crate::engine::outbox_progress::{Progress, Report, Span};
use crate::engine::settings::Outbox;
use crate::ganeti::event_name::EventName;
use crate::world::api::bell::{Bell, Topic};
use crate::world::api::outbox::{Done, NotDone, Wish};
use crate::world::cluster::Cluster;
use crate::world::journal::{Filter, History, HistoryEvent, JournalError};
use crate::world::outbox::Client;
use crate::world::panics::caught;
use crate::world::{clock, failpoints};

/// Bytes of the output of an event's runs that are sent.
const OUTPUT_MAX: usize = 256 * 1024;

/// How often an outbox says how far it is, at most, as long as it has more to send.
const SAY_EVERY: Duration = Duration::from_millis(500);

/// How long after something was short that the machine has too little of it is tried again.
const SHORT: Duration = Duration::from_secs(5);

/// An outbox's thread.
pub struct Worker {
    /// What it is to do.
    pub orders: Arc<Orders>,
    /// Wakes it.
    pub bell: Arc<Bell>,
    /// Is told how far it is.
    pub inbox: Sender<Message>,
    /// Where the history is.
    pub state_dir: PathBuf,
    /// Where it is told which cluster this is.
    pub data_dir: PathBuf,
}

/// What it waits for.
enum Pause {
    /// News.
    News,
    /// Orders, or that it is then.
    Orders(Option<Duration>),
}

impl Worker {
    /// Works as long as the daemon does.
    pub fn work(self, progress: Option<Progress>) {
        let (mut course, mut said) = (None, None);
        loop {
            // Who listens before looking misses nothing.
            let bell = Arc::clone(&self.bell);
            let Ok(news) = bell.listen_to([Topic::History, Topic::Outbox].into()) else {
                std::thread::sleep(SHORT);
                continue;
            };
            let order = self.orders.lock().take();
            let pause = self.turn(&mut course, &progress, order, &mut said);
            let waited = match pause {
                Pause::News => news.ear().wait(None),
                Pause::Orders(until) => {
                    drop(news);
                    self.await_orders(until)
                }
            };
            if waited.is_err() {
                std::thread::sleep(SHORT);
            }
        }
    }

    /// Waits until something is wanted, or it is then by the steady clock.
    fn await_orders(&self, until: Option<Duration>) -> std::io::Result<()> {
        let listener = self.bell.listen(Topic::Outbox)?;
        if self.orders.lock().is_new {
            return Ok(());
        }
        let left = until.map(|until| until.saturating_sub(clock::steady()));
        listener.ear().wait(left.and_then(|left| Instant::now().checked_add(left)))
    }

    /// Does what is wanted, and sends what there is.
    fn turn(
        &self,
        kept: &mut Option<Course>,
        progress: &Option<Progress>,
        Order { settings, sends, asked, is_new, .. }: Order,
        said: &mut Option<Report>,
    ) -> Pause {
        let history = match History::open(&self.state_dir) {
            Ok(Some(history)) => history,
            // It is being put in another's place.
            Ok(None) => return Pause::Orders(Some(clock::steady() + SHORT)),
            Err(error) => return self.cannot_read(kept, &error),
        };
        let course = match kept {
            Some(course) => course,
            None => match history.outbox_span() {
                Ok(span) => kept.insert(Course::new(settings.clone(), progress.clone(), span, now())),
                Err(error) => return self.cannot_read(kept, &error),
            },
        };
        if is_new {
            // Also where they are as they were: a file may have been put right.
            course.reload(settings);
        }
        for (wish, reply) in asked {
            // Who asked may have gone.
            let _ = reply.send(grant(course, &history, wish));
        }
        let cluster = Cluster::new(&self.data_dir);
        let mut office =
            Office { worker: self, history, client: None, cluster, said, said_at: Instant::now() };
        office.say(course);
        if !sends {
            return Pause::Orders(None);
        }
        let walked = caught(|| {
            failpoints::defect("outbox");
            walk(course, &mut office)
        });
        let end = match walked {
            Ok(Ok(end)) => end,
            Ok(Err(error)) => office.fail(course, &error.to_string()),
            Err(what) => office.fail(course, &what),
        };
        office.say(course);
        match end {
            End::Idle => Pause::News,
            End::Waits => Pause::Orders(course.next_try()),
            End::Interrupted => Pause::Orders(Some(Duration::ZERO)),
        }
    }

    fn cannot_read(&self, course: &mut Option<Course>, error: &JournalError) -> Pause {
        log::debug!("outbox: {error}");
        let next = course.as_mut().map(|course| {
            course.failed(&error.to_string(), now(), dice());
            course.next_try()
        });
        Pause::Orders(next.flatten().or_else(|| Some(clock::steady() + SHORT)))
    }
}

fn now() -> Now {
    Now { time: clock::now(), steady: clock::steady() }
}

/// Any number.
fn dice() -> u64 {
    let mut bytes = [0; 8];
    // Without chance it goes as well.
    let _ = SystemRandom::new().fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// Does what somebody wants.
fn grant(course: &mut Course, history: &History, wish: Wish) -> Result<Done, NotDone> {
    let outbox = course.settings().name.clone();
    if wish != Wish::Enable && course.progress().ended.is_some() {
        let why = "its receiver has said that it wants nothing any more";
        return Err(NotDone::No(format!("{why}; first: ganeti-hookd outbox enable {outbox}")));
    }
    match wish {
        Wish::Enable => Ok(Done { outbox, events: 0, was_ended: course.enable() }),
        Wish::Resend(None) => Ok(Done { outbox, events: course.resend(None), was_ended: false }),
        Wish::Resend(Some(name)) => {
            let seq = find(history, &name).map_err(|error| NotDone::No(error.to_string()))?;
            let seq =
                seq.ok_or_else(|| NotDone::No(format!("{name}: there is no such event in the history")))?;
            course.resend(Some(seq));
            Ok(Done { outbox, events: 1, was_ended: false })
        }
    }
}

/// The number of the last event of this name.
fn find(history: &History, name: &EventName) -> Result<Option<i64>, JournalError> {
    let mut found = None;
    let filter = Filter { key: Some(name.key), output: Some(0), ..Filter::default() };
    history.events(&filter, |event| {
        if name.names(&event.event) {
            found = Some(event.seq);
        }
        true
    })?;
    Ok(found)
}

/// What an outbox has at hand while it sends.
struct Office<'a> {
    worker: &'a Worker,
    history: History,
    client: Option<Client>,
    cluster: Cluster,
    /// What it has said of itself last, and when.
    said: &'a mut Option<Report>,
    said_at: Instant,
}

impl Office<'_> {
    /// Says how far it is, if that is new.
    fn say(&mut self, course: &Course) {
        let report = Report {
            progress: course.progress().clone(),
            state: course.state().to_owned(),
            trouble: course.trouble(),
            is_problem: course.is_problem(),
        };
        self.said_at = Instant::now();
        if self.said.as_ref() != Some(&report) {
            *self.said = Some(report.clone());
            let (name, report) = (course.settings().name.clone(), Box::new(report));
            let _ = self.worker.inbox.send(Message::Input(Input::Outbox { name, report }));
        }
    }

    fn fail(&mut self, course: &mut Course, why: &str) -> End {
        course.failed(why, now(), dice());
        End::Waits
    }

    /// The message of an event; `None` when it is not in the history any more.
    fn event(&self, seq: i64, settings: &Outbox) -> Result<Option<message::Message>, JournalError> {
        let output = Some(if settings.output { OUTPUT_MAX } else { 0 });
        let filter = Filter { after: seq - 1, limit: Some(1), output, ..Filter::default() };
        let mut found = None;
        self.history.events(&filter, |event| {
            found = Some(event);
            false
        })?;
        let found = found.filter(|event| event.seq == seq).map(|event| without(event, settings.output));
        let message = |event: &HistoryEvent| {
            let record = RawValue::from_string(event.to_json()).ok()?;
            Some(message::of_event(&event.event, &record, clock::rfc3339))
        };
        Ok(found.as_ref().and_then(message))
    }
}

/// An event as it is sent: what its scripts printed, and what went wrong with them, may be secret.
fn without(mut event: HistoryEvent, output: bool) -> HistoryEvent {
    if !output {
        event.runs.iter_mut().for_each(|run| (run.output, run.error) = (None, None));
    }
    event
}

impl Desk for Office<'_> {
    type Error = JournalError;

    fn now(&self) -> Now {
        now()
    }

    fn dice(&mut self) -> u64 {
        dice()
    }

    fn span(&mut self) -> Result<Span, JournalError> {
        self.history.outbox_span()
    }

    fn header(&mut self, seq: i64) -> Result<Option<Header>, JournalError> {
        self.history.outbox_header(seq)
    }

    fn headers_after(&mut self, seq: i64) -> Result<Vec<Header>, JournalError> {
        self.history.outbox_headers(seq)
    }

    fn send(&mut self, parcel: Parcel<'_>) -> Result<Option<Verdict>, JournalError> {
        let settings = self.worker.orders.lock().settings.clone();
        let message = match parcel {
            Parcel::Event(seq) => self.event(seq, &settings)?,
            Parcel::Gap(gap) => {
                let cluster = self.cluster.id();
                Some(message::of_gap(gap, cluster.as_ref().map(|id| &*id.uuid), clock::rfc3339))
            }
        };
        let Some(message) = message else { return Ok(None) };
        let client = match &self.client {
            Some(client) => client,
            None => match Client::new(&settings) {
                Ok(client) => self.client.insert(client),
                Err(why) => return Ok(Some(Verdict::Failed(why, None))),
            },
        };
        let verdict = client.send(&message).verdict();
        failpoints::point("outbox.sent");
        Ok(Some(verdict))
    }

    fn goes_on(&mut self, course: &Course) -> bool {
        if self.said_at.elapsed() >= SAY_EVERY {
            self.say(course);
        }
        let Order { is_new, .. } = &*self.worker.orders.lock();
        !is_new
    }
}
