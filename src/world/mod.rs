//! What does: each part knows one piece of the world (the queue directory, processes, hook
//! scripts, node daemons, the cluster's files, the journal) and decides nothing.

pub mod api;
pub mod clock;
pub mod cluster;
pub mod deadline;
pub mod failpoints;
pub mod flood;
pub mod hook;
pub mod http;
pub mod journal;
pub mod journald;
pub mod noded;
pub mod outbox;
pub mod own_files;
pub mod page;
pub mod panics;
pub mod process;
pub mod queue;
pub mod regular_file;
pub mod services;
pub mod shortage;
pub mod signals;
pub mod unchanged;
