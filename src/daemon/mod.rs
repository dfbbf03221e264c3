//! The daemon: joins those who decide and those who do.
//!
//! Other threads send it messages. It gives them to the engine, one after the other, and has
//! done what the engine says, in order. No decision is made here.

mod clients;
mod effects;
mod hands;
mod inbox;
mod message;
mod reruns;
mod settings_file;
mod start;
pub mod threads;
mod version;
mod watchdog;

pub use settings_file::{StartError, distrusted, node_name, read_settings};
pub use start::run;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Receiver;

use crate::engine::Engine;
use crate::engine::effect::Token;
use crate::engine::input::{Input, Now, Version};
use crate::engine::status::Status;
use crate::ganeti::job::JobId;
use crate::world::api::Question;
use crate::world::api::bell::Bell;
use crate::world::{clock, failpoints};
use hands::Hands;
use inbox::Shift;
use message::Message;
use reruns::Reruns;
use version::Found;
use watchdog::Watchdog;

/// The clocks that the engine is told the time by.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    /// When the steady one stood at zero.
    begun: Instant,
}

impl Clocks {
    fn now(self) -> Now {
        Now { time: clock::now(), steady: self.begun.elapsed() }
    }
}

/// The daemon has been told to stop, and has nothing more to wait for.
struct Done;

/// What decides, what does, and what comes in.
#[derive(Debug)]
struct Daemon {
    engine: Engine,
    hands: Hands,
    inbox: Receiver<Message>,
    shift: Shift,
    clocks: Clocks,
    /// The configuration file.
    config: PathBuf,
    /// Wakes those who wait at the API.
    bell: Arc<Bell>,
    reruns: Reruns,
    watchdog: Watchdog,
    /// What the daemon does, in one line, as the engine said last.
    summary: String,
}

impl Daemon {
    /// Works until there is nothing more to do now. Returns when there will be; an error is the end.
    fn work(&mut self) -> Result<Option<Instant>, Done> {
        loop {
            failpoints::defect("main");
            self.go_on();
            if self.engine.is_done() {
                return Err(Done);
            }
            // Those that come meanwhile have their turn after what follows from these.
            let told = self.inbox.len();
            for message in self.inbox.clone().try_iter().take(told) {
                self.receive(message);
            }
            self.ping();
            if told == 0 && !self.engine.has_more() {
                self.shift.wakes_at = self.next_deadline();
                return Ok(self.shift.wakes_at);
            }
        }
    }

    /// Has the engine go on with what it has to do.
    fn go_on(&mut self) {
        self.give(Input::Quiet);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let engine = self.engine.next_deadline().and_then(|steady| self.clocks.begun.checked_add(steady));
        [engine, self.watchdog.next()].into_iter().flatten().min()
    }

    /// Tells systemd that all is well, if it is time.
    fn ping(&mut self) {
        if self.watchdog.ping() {
            // A directory above them may have been renamed, which nobody tells.
            self.check_watch();
        }
    }

    /// Gives the engine what a message says.
    fn receive(&mut self, message: Message) {
        match message {
            Message::Input(input) => {
                if matches!(input, Input::RunEnded { .. }) {
                    failpoints::point("run.told");
                }
                self.give(input);
            }
            Message::WatchLost => self.watch_lost(),
            Message::Mounts => self.check_watch(),
            Message::NameChanged => self.hands.runs.name().ask_now(),
            Message::Named(name) => self.named(name),
            Message::Exited(token) => self.exited(token),
            Message::GuardEnded => self.guard_ended(),
            Message::KernelStop(loaded) => {
                let means = loaded.map(|kernel| self.hands.processes.use_kernel_stop(*kernel));
                self.give(Input::KernelStop(means));
            }
            Message::ScanEnded { scan, result } => self.scan_ended(scan, result),
            Message::LargeRead { reading, id, found } => self.large_read(reading, id, &found),
            Message::Asked(question) => self.answer(question),
            Message::Reload => self.reload(),
            // Whoever has been woken works.
            Message::Wake => {}
            Message::Stop => self.stop(),
        }
    }

    /// What the system calls this node; where that cannot be, what was so stays so.
    fn named(&mut self, name: String) {
        let is_certain = self.hands.runs.named(name.clone());
        self.give(if is_certain { Input::Named(name) } else { Input::ClusterChanged });
    }

    fn watch_lost(&mut self) {
        self.hands.queue.watch_no_longer();
        self.give(Input::WatchLost);
    }

    /// Looks whether the watched directories are still where they were.
    fn check_watch(&mut self) {
        if self.hands.queue.is_watch_lost() {
            self.watch_lost();
        }
    }

    fn exited(&mut self, token: Token) {
        if self.hands.processes.has_ended(token) {
            failpoints::point("exit.noticed");
            self.give(Input::Exited(token));
        }
    }

    fn guard_ended(&mut self) {
        if self.hands.processes.guard_has_ended() {
            self.give(Input::Panicked("the guard has panicked".to_owned()));
        }
        self.give(Input::GuardEnded);
    }

    fn scan_ended(&mut self, scan: u64, result: Result<Option<i64>, String>) {
        self.hands.processes.look_for_owner();
        self.give(Input::ScanEnded { scan, result });
    }

    fn large_read(&mut self, reading: u64, id: JobId, found: &Found<'_>) {
        let version = match found.as_version() {
            Version::Gone => self.hands.queue.gone(),
            version => version,
        };
        self.give(Input::LargeRead { reading, id, version });
    }

    /// Answers what a client of the API asks.
    fn answer(&mut self, question: Question) {
        match question {
            Question::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Question::Metrics(reply) => {
                let metrics = self.engine.metrics(self.clocks.now(), self.status());
                let _ = reply.send(Box::new(metrics));
            }
            Question::Waiting(reply) => {
                let _ = reply.send(self.engine.waiting(self.clocks.now()));
            }
            Question::Rerun(wanted, reply) => self.rerun(wanted, reply),
            Question::Outbox(wanted, reply) => self.hands.outboxes.ask(wanted, reply),
        }
    }

    /// How things are, and which program says so.
    fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            ..self.engine.status(self.clocks.now())
        }
    }

    /// Reads the configuration again.
    fn reload(&mut self) {
        self.watchdog.reloading();
        let read = read_settings(&self.config).map_err(|error| error.to_string());
        let name = self.hands.runs.name();
        let read = read.map(|settings| {
            self.hands.doors.open(&settings.api);
            self.hands.deaths.want(settings.deaths.tell_ganeti);
            let node = name.reloaded(&settings);
            (Box::new(settings), node)
        });
        self.give(Input::Reloaded(read));
        self.watchdog.ready();
    }

    fn stop(&mut self) {
        self.watchdog.stopping();
        self.give(Input::Stop);
    }

    /// Waits for the last scripts, so that nothing of ours is left running, and has written
    /// how they ended.
    fn end(&mut self) {
        self.hands.runs.end();
        failpoints::point("stop.scripts-ended");
        while let Ok(message) = self.inbox.try_recv() {
            use Input::{NodeEnded, Outbox, RunEnded};
            if matches!(message, Message::Input(RunEnded { .. } | NodeEnded { .. } | Outbox { .. })) {
                self.receive(message);
            }
        }
        self.give(Input::Quiet);
        log::info!("stopped");
    }
}
