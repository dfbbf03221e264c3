//! Events that are pushed to whoever wants them (design, section 16): what is sent and when, what
//! an answer means, and how far an outbox is. Threads of their own do it.

pub mod answer;
pub mod course;
pub mod message;
pub mod schedule;
pub mod signature;
pub mod walk;
