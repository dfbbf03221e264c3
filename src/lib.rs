//! Global hooks for an unmodified Ganeti.
//!
//! A sidecar of the Ganeti master that runs hook scripts before and after every opcode,
//! also when the job process dies. The parts, and which may know which, are described
//! in `CONTRIBUTING.md`: the core decides, the edges do, the daemon owns the state.

pub mod api;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod daemon;
pub mod deadline;
pub mod dispatch;
pub mod event;
pub mod fault;
pub mod hook;
pub mod http;
pub mod job;
pub mod journal;
pub mod machine;
pub mod noded;
pub mod numbers;
pub mod opcodes;
pub mod process;
pub mod queue;
pub mod recording;
pub mod regular_file;
pub mod replay;
pub mod settings;
pub mod shortage;
pub mod signals;
pub mod status;
pub mod tracker;
pub mod unchanged;
