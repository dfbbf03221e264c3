//! The feed and the API, as other programs use them.
//!
//! Where the daemon itself does not matter they are served from this process, out of a journal
//! that the test writes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "other tests use the rest of it")]
mod harness;

mod feed {
    mod answers;
    mod commits;
    mod documented;
    mod follower;
    mod http;
    mod jobs;
    mod random;
    mod served;
}
