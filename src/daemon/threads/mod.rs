//! Threads that the daemon does not wait for. Each takes requests and answers by a message.

pub mod deaths;
pub mod large;
mod outbox;
pub mod outboxes;
pub mod planner;
pub mod scanner;
pub mod workers;
