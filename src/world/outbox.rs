//! Sending what an outbox sends: the file of its secrets, and HTTPS.
//!
//! Promises: a request with its answer takes no longer than the outbox's `timeout`, and no more than
//! a little of an answer is read. No redirect is followed, no proxy but the configured one is used, and
//! the environment says nothing.

mod client;
mod reach;
mod secret_file;

pub use client::Client;
pub use reach::reach;
pub use secret_file::secrets;
