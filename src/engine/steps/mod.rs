//! What the engine does with an input, step by step: each file is one concern, and asks and
//! tells the owners of what it concerns. What they have is theirs alone to change.

mod commit;
mod deaths;
mod deliver;
mod hold;
mod look;
mod outbox;
mod prune;
mod ready;
mod reload;
mod rerun;
mod role;
pub(in crate::engine) mod round;
mod run;
mod stop;
mod tell;
mod watch;
