//! What the daemon does things with: the queue, the processes, the journal, the runs. They do
//! as they are told, and say what came of it.

pub mod journal;
pub mod own_name;
pub mod processes;
pub mod queue;
pub mod runs;

use journal::Books;
use processes::Processes;
use queue::Queue;
use runs::Runs;

use super::threads::outboxes::Outboxes;

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
    /// Have events sent.
    pub outboxes: Outboxes,
}
