//! When things go wrong: the daemon killed at any moment, a full disk, limits reached,
//! hooks and files that mean harm, a clock that steps. `docs/reliability.md` says which
//! test shows which promise.

// A release build has no fault points, and cannot be made to crash at will.
#![cfg(debug_assertions)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "the harness serves other tests too")]
mod harness;

mod crash {
    mod clock;
    mod hooks;
    mod input;
    mod kills;
    mod limits;
    mod mount;
    mod panics;
    mod points;
    mod receiver;
    mod room;
    mod standing;
    mod supervised;
}
