//! Global hooks for an unmodified Ganeti.
//!
//! A sidecar of the Ganeti master that runs hook scripts before and after every opcode,
//! also when the job process dies. Five floors, each in a folder; a floor knows only those
//! below it (`CONTRIBUTING.md`, and `tests/arrows.rs`, which reads the folders):
//!
//! | floor | |
//! |---|---|
//! | [`cli`] | the commands |
//! | [`daemon`] | takes messages, gives them to the engine, has its effects done |
//! | [`world`] | does: files, processes, scripts, node daemons, the journal |
//! | [`engine`] | decides, and knows nothing of the world |
//! | [`ganeti`] | what Ganeti writes and means |

pub mod cli;
pub mod daemon;
pub mod engine;
pub mod ganeti;
pub mod world;
