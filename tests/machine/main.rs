//! From job versions to events, whatever was seen of them (design, section 3).
//!
//! [`ganeti`] knows how Ganeti writes job files, [`model`] what a job's whole life means,
//! [`daemon`] what a daemon makes of the part that it saw. The tests bring them together:
//! at random for jobs of up to four opcodes, and for jobs of up to three in full.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod daemon;
mod exhaustive;
mod ganeti;
mod model;
mod nonsense;
mod random;
