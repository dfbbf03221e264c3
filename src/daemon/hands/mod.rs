//! What the daemon does things with: the queue, the processes, the journal, the runs, ways to ask. They do
//! as they are told, and say what came of it.

pub mod doors;
pub mod journal;
pub mod own_name;
pub mod processes;
pub mod queue;
pub mod runs;

use doors::Doors;
use journal::Books;
use processes::Processes;
use queue::Queue;
use runs::Runs;

use crate::daemon::threads::deaths::Deaths;
use crate::daemon::threads::outboxes::Outboxes;

/// All of them.
#[derive(Debug)]
pub struct Hands {
    /// Reads job files, lists and watches the queue.
    pub queue: Queue,
    /// Watches, stops and continues job processes.
    pub processes: Processes,
    /// Writes the journal.
    pub journal: Books,
    /// Plans and runs hooks.
    pub runs: Runs,
    /// Tells Ganeti of deaths.
    pub deaths: Deaths,
    /// Opens ways to ask the daemon.
    pub doors: Doors,
    /// Have events sent.
    pub outboxes: Outboxes,
}
