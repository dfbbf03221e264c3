//! The threads that run scripts, here or by asking a node daemon. They are started as they
//! are needed, up to a number.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::event::{EventfdFlags, eventfd};

use crate::daemon::inbox::Inbox;
use crate::daemon::message::Message;
use crate::engine::environment::Environment;
use crate::engine::input::Input;
use crate::engine::outcome::Outcome;
use crate::world::deadline::is_stopped;
use crate::world::failpoints;
use crate::world::flood::Flow;
use crate::world::hook::run::{Begun, Judged, Limits, Seen, Starter, begin, make_ready, run_if};
use crate::world::noded::answer::Told;
use crate::world::noded::{NodeDaemons, Request};
use crate::world::panics::caught;
use crate::world::process::guard::Claim;
use crate::world::process::priority;
use crate::world::shortage::explain;

/// One run.
#[derive(Debug)]
pub struct Work {
    /// The run's number.
    pub run: i64,
    /// The event it is for.
    pub seq: i64,
    /// What is to be run.
    pub task: Task,
    /// A process stands still for it: it begins only while that is so.
    pub claim: Option<Claim>,
}

/// What is to be run.
#[derive(Debug)]
pub enum Task {
    /// A script of this node.
    Script {
        /// What starts it.
        starter: Arc<Starter>,
        /// The script.
        script: PathBuf,
        /// How it was judged if that was a moment ago: then who hands it in may begin it. Where it is judged again, its
        /// file system may hang, and that is for a thread of its own.
        seen: Option<Seen>,
        /// Its environment.
        env: Environment,
        /// Its limits.
        limits: Limits,
        /// It, if it has begun.
        begun: Option<Begun>,
    },
    /// The scripts of another node.
    Node {
        /// The cluster's node daemons.
        daemons: NodeDaemons,
        /// What one of them is asked.
        request: Request,
    },
    /// A defect of ours.
    #[cfg(test)]
    Defect,
}

impl Work {
    /// Does it, and tells how it ended. Not even a defect of ours may leave a run without an
    /// end: its event would be under way for ever.
    fn run(self, stop: BorrowedFd<'_>, outstanding: &AtomicUsize) -> Input<'static> {
        let Self { run, seq, mut task, claim } = self;
        let ended = caught(|| task.run(stop, outstanding, claim.as_ref())).unwrap_or_else(|what| {
            static FLOW: Flow = Flow::new();
            FLOW.error(format_args!("{task}: {what}"));
            Some((Outcome::not_run(what), Vec::new()))
        });
        let Some((outcome, scripts)) = ended else { return Input::GoneOn { run, seq } };
        if outcome.postponed {
            let error = format!("{task} {}", outcome.error.unwrap_or_default());
            return Input::Postponed { run, seq, error };
        }
        match task {
            Task::Node { .. } => Input::NodeEnded { run, seq, outcome, scripts },
            _ => Input::RunEnded { run, seq, outcome },
        }
    }
}

impl Task {
    /// What starts it, if it is a script.
    fn starter(&self) -> Option<Arc<Starter>> {
        if let Self::Script { starter, .. } = self { Some(Arc::clone(starter)) } else { None }
    }

    /// Begins what needs no thread of ours to begin.
    fn begin(&mut self, claim: Option<&Claim>) {
        if let Self::Script { starter, script, seen: Some(seen), env, begun, .. } = self {
            *begun = begin(starter, script, seen, env, || is_kept(claim));
        }
    }

    /// How it ended, and how each of another node's scripts did. `None` if the process has gone on that was
    /// to stand still for it: it has not begun.
    fn run(
        &mut self,
        stop: BorrowedFd<'_>,
        outstanding: &AtomicUsize,
        claim: Option<&Claim>,
    ) -> Option<(Outcome, Vec<(String, Outcome)>)> {
        failpoints::defect("hook");
        match self {
            Self::Script { starter, script, seen, env, limits, begun, .. } => {
                let script = Judged::new(script, seen.as_ref());
                let begun = begun.take().and_then(|begun| {
                    // Somebody may wait for what has ended by now.
                    if !begun.has_ended() && outstanding.load(Ordering::Acquire) <= FEW {
                        make_next_ready(starter);
                    }
                    begun.finish(*limits, Some(stop))
                });
                let outcome =
                    begun.or_else(|| run_if(|| is_kept(claim), starter, script, env, *limits, Some(stop)))?;
                Some((outcome, Vec::new()))
            }
            Self::Node { daemons, request } => is_kept(claim).then(|| ask(daemons, request, stop)),
            #[cfg(test)]
            Self::Defect => panic!("it is one"),
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Script { script, .. } => script.display().fmt(f),
            Self::Node { request, .. } => write!(f, "the request to {}", request.address),
            #[cfg(test)]
            Self::Defect => f.write_str("the defect"),
        }
    }
}

/// Whether what a run claims, if anything, is still so.
fn is_kept(claim: Option<&Claim>) -> bool {
    claim.is_none_or(Claim::is_kept)
}

/// Has a process wait to become the next script. A defect in that costs no script that runs, and not this thread.
fn make_next_ready(starter: &Starter) {
    let _ = caught(|| make_ready(starter));
}

/// Asks a node daemon; how that ended, and how each of the node's scripts did.
fn ask(daemons: &NodeDaemons, request: &Request, stop: BorrowedFd<'_>) -> (Outcome, Vec<(String, Outcome)>) {
    let start = Instant::now();
    let result = if is_stopped(Some(stop)) { None } else { Some(daemons.run_hooks(request, Some(stop))) };
    let seconds = start.elapsed().as_secs_f64();
    match result {
        Some(Ok(Told { scripts, complaint: None })) => {
            (Outcome { code: Some(0), seconds, ..Outcome::default() }, scripts)
        }
        Some(Ok(Told { scripts, complaint: Some(what) })) => {
            let what = format!("{}: {what}", request.address);
            (Outcome { seconds, ..Outcome::not_run(what) }, scripts)
        }
        Some(Err(error)) if !is_stopped(Some(stop)) => {
            let postponed = error.is_shortage();
            (Outcome { seconds, postponed, ..Outcome::not_run(error.to_string()) }, Vec::new())
        }
        _ => (Outcome { interrupted: true, seconds, ..Outcome::default() }, Vec::new()),
    }
}

/// While more than so many are under way nothing is made ahead, and who hands them in begins none: the processors
/// are busy, and what is to save a wake-up costs more than that.
const FEW: usize = 4;

/// A worker may do the daemon's work; scripts have a stack of their own.
const STACK_SIZE: usize = 2 * 1024 * 1024;

/// The threads that run scripts.
#[derive(Debug)]
pub struct Workers {
    work: Option<Sender<Work>>,
    queue: Receiver<Work>,
    inbox: Inbox,
    /// Work that was handed in and is not done.
    outstanding: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
    max: usize,
    stop: Arc<OwnedFd>,
}

impl Workers {
    /// No threads yet, later at most `max`; what they have to say goes to `inbox`.
    ///
    /// # Errors
    /// When there is no descriptor to be had.
    pub fn new(inbox: Inbox, max: usize) -> io::Result<Self> {
        let (work, queue) = unbounded();
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let outstanding = Arc::default();
        Ok(Self { work: Some(work), queue, inbox, outstanding, threads: Vec::new(), max, stop })
    }

    /// Has the work done, by an idle thread or a new one: while there are fewer threads than
    /// the most, none waits for another to be done, but for one that works for the daemon just now.
    /// What it has to do at once it does when there is such a thread ([`Task::begin`]), unless much
    /// else is under way.
    ///
    /// # Errors
    /// What could not begin, and why: every thread has its work, and none can be started.
    pub fn submit(&mut self, mut work: Work) -> Result<(), String> {
        let Some(sender) = self.work.clone() else { return Ok(()) };
        if self.outstanding.load(Ordering::Acquire) >= self.threads.len()
            && self.threads.len() < self.max
            && let Err(error) = self.start_thread()
        {
            return Err(format!("{} has no thread to run it: {}", work.task, explain(&error)));
        }
        if self.outstanding.fetch_add(1, Ordering::AcqRel) < FEW {
            work.task.begin(work.claim.as_ref());
        }
        let _ = sender.send(work);
        Ok(())
    }

    fn start_thread(&mut self) -> io::Result<()> {
        failpoints::refused("thread.hook")?;
        let (queue, inbox) = (self.queue.clone(), self.inbox.clone());
        let (outstanding, stop) = (Arc::clone(&self.outstanding), Arc::clone(&self.stop));
        let builder = thread::Builder::new().name("hook".to_owned()).stack_size(STACK_SIZE);
        let started = builder.spawn(move || {
            priority::reset();
            for work in &queue {
                let starter = work.task.starter();
                let ended = Message::Input(work.run(stop.as_fd(), &outstanding));
                if outstanding.fetch_sub(1, Ordering::AcqRel) > FEW {
                    inbox.send(ended);
                    continue;
                }
                priority::raise();
                inbox.hand_in_end(ended);
                priority::reset();
                if let Some(starter) = starter {
                    // What is handed in meanwhile is for another thread, and what was before goes first.
                    outstanding.fetch_add(1, Ordering::AcqRel);
                    if queue.is_empty() {
                        make_next_ready(&starter);
                    }
                    outstanding.fetch_sub(1, Ordering::AcqRel);
                }
            }
        });
        self.threads.push(started?);
        Ok(())
    }

    /// Ends the scripts that still run: SIGTERM, and SIGKILL after a short grace.
    pub fn end_scripts(&self) {
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
    }

    /// Waits for the threads to end; they do when the scripts they run have.
    pub fn join(&mut self) {
        self.work = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    fn script(path: &str) -> Task {
        let limits = Limits { timeout: Duration::from_secs(60), output: 1024 };
        let starter = Arc::new(Starter::new().unwrap());
        Task::Script {
            starter,
            script: Path::new(path).to_owned(),
            seen: None,
            env: Environment::new(),
            limits,
            begun: None,
        }
    }

    #[test]
    fn a_defect_is_the_end_of_a_run_and_of_nothing_else() {
        let (inbox, messages) = Inbox::new();
        let mut workers = Workers::new(inbox, 1).unwrap();
        for (run, task) in [(1, Task::Defect), (2, Task::Defect), (3, script("/bin/true"))] {
            workers.submit(Work { run, seq: 7, task, claim: None }).unwrap();
        }
        let ended = || match messages.recv().unwrap() {
            Message::Input(Input::RunEnded { run, seq: 7, outcome }) => (run, outcome.code, outcome.error),
            other => panic!("{other:?}"),
        };
        let defect = Some("a defect of ganeti-hookd: it is one".to_owned());
        assert_eq!(ended(), (1, None, defect.clone()));
        assert_eq!(ended(), (2, None, defect));
        assert_eq!(ended(), (3, Some(0), None));
        workers.join();
        assert_eq!(workers.outstanding.load(Ordering::Acquire), 0);
        workers.submit(Work { run: 4, seq: 7, task: Task::Defect, claim: None }).unwrap();
        assert!(workers.threads.is_empty(), "nothing begins after the end");
    }
}
