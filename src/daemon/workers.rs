//! The threads that run scripts. They are started as they are needed, up to a number.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::event::{EventfdFlags, eventfd};

use super::message::Message;
use crate::hook::outcome::Outcome;
use crate::hook::plan::Environment;
use crate::hook::run::{Limits, run};
use crate::process::priority;

/// One script to run.
#[derive(Debug)]
pub struct Work {
    /// The run's number.
    pub run: i64,
    /// The event it is for.
    pub seq: i64,
    /// The script.
    pub script: PathBuf,
    /// Its environment.
    pub env: Environment,
    /// Its limits.
    pub limits: Limits,
}

/// A worker needs no more than this for itself; scripts have their own.
const STACK_SIZE: usize = 256 * 1024;

/// The threads that run scripts.
#[derive(Debug)]
pub struct Workers {
    work: Option<Sender<Work>>,
    queue: Receiver<Work>,
    inbox: Sender<Message>,
    idle: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<OwnedFd>,
}

impl Workers {
    /// No threads yet; what they have to say goes to `inbox`.
    ///
    /// # Errors
    /// When there is no descriptor to be had.
    pub fn new(inbox: Sender<Message>) -> io::Result<Self> {
        let (work, queue) = unbounded();
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        Ok(Self { work: Some(work), queue, inbox, idle: Arc::default(), threads: Vec::new(), stop })
    }

    /// Has the script run, by an idle thread or a new one.
    pub fn submit(&mut self, work: Work) {
        if self.idle.load(Ordering::Acquire) <= self.queue.len()
            && let Err(error) = self.start_thread()
            && self.threads.is_empty()
        {
            let hint = "raise the limit on processes (ulimit -u, TasksMax=)";
            let outcome = Outcome::not_run(format!("no thread to run it: {error}; {hint}"));
            let _ = self.inbox.send(Message::RunEnded { run: work.run, seq: work.seq, outcome });
            return;
        }
        if let Some(sender) = &self.work {
            let _ = sender.send(work);
        }
    }

    fn start_thread(&mut self) -> io::Result<()> {
        let (queue, inbox) = (self.queue.clone(), self.inbox.clone());
        let (idle, stop) = (Arc::clone(&self.idle), Arc::clone(&self.stop));
        let builder = thread::Builder::new().name("hook".to_owned()).stack_size(STACK_SIZE);
        idle.fetch_add(1, Ordering::AcqRel);
        let started = builder.spawn(move || {
            priority::reset();
            for Work { run: id, seq, script, env, limits } in queue {
                idle.fetch_sub(1, Ordering::AcqRel);
                let outcome = run(&script, &env, limits, Some(stop.as_fd()));
                idle.fetch_add(1, Ordering::AcqRel);
                if inbox.send(Message::RunEnded { run: id, seq, outcome }).is_err() {
                    return;
                }
            }
        });
        match started {
            Ok(thread) => self.threads.push(thread),
            Err(error) => {
                self.idle.fetch_sub(1, Ordering::AcqRel);
                return Err(error);
            }
        }
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
