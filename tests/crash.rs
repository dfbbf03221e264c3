//! When things go wrong: the daemon killed at any moment, a full disk, limits reached,
//! hooks and files that mean harm, a clock that steps. `docs/reliability.md` says which
//! test shows which promise.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod harness;

mod crash {
    mod kills;
    mod points;
    mod supervised;
}
