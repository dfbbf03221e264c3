//! What the package brings for Prometheus and Grafana fits what the daemon really tells.
//!
//! `.ci/monitoring` has `promtool` read all of it; the tests that need it are ignored here.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "other tests use the rest of it")]
mod harness;

mod monitoring {
    mod documented;
    mod prometheus;
    mod promtool;
    mod shipped;
    mod told;
}
