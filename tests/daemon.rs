//! The daemon seen from outside: the real program beside a queue that is written as
//! Ganeti writes it, real job processes, real hook scripts.
//!
//! Each test is a short story about a promise of the design. What they stand on is in
//! `harness/`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "other tests use the rest of it")]
mod harness;

mod daemon {
    mod bad_files;
    mod commands;
    mod deaths;
    mod directories;
    mod doors;
    mod environment;
    mod large;
    mod logged;
    mod nodes;
    mod opcode_directories;
    mod order;
    mod overload;
    mod own_name;
    mod permissions;
    mod rerun;
    mod restart;
    mod role;
    mod signals;
    mod table;
    mod trust;
    // A release build has no fault points.
    #[cfg(debug_assertions)]
    mod unchanged;
}
