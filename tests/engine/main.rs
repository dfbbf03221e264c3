//! The engine alone: faults that were once proved, each as the shortest story that shows it.
//!
//! A [`desk::Desk`] does what the engine wants in memory, in one thread: no process, file,
//! clock or sleep. `tests/simulation` plays long lives from seeds; here each test is one
//! thing that must never come back.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod armed;
mod compare;
mod course;
mod deaths;
mod desk;
mod directories;
mod disk;
mod held;
mod jobs;
#[path = "../simulation/journal.rs"]
#[expect(dead_code, reason = "the simulation uses the rest")]
mod journal;
mod live;
mod metrics;
mod outbox;
mod proved;
mod record;
mod rerun;
mod role;
mod settings;
mod start;
mod told;
