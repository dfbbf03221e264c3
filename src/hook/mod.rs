//! Hook scripts: what they get, which there are, and running them.

pub mod outcome;
pub mod plan;
pub mod run;
pub mod scripts;
pub mod views;

use crate::event::Phase;

/// The directory of the global hooks of a phase, below the hooks directory.
pub fn directory(phase: Phase) -> &'static str {
    match phase {
        Phase::Pre => "global-pre.d",
        Phase::Post => "global-post.d",
    }
}
