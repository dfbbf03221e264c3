//! What Ganeti writes and what it means: job files, the configuration, opcodes and what
//! their hooks are given, recordings of a queue, what is secret. Pure: bytes in, values out.

pub mod about;
pub mod config;
pub mod event;
pub mod event_key;
pub mod event_name;
pub mod job;
pub mod object;
pub mod opcodes;
pub mod python_json;
pub mod recording;
pub mod secrets;
pub mod ssconf;
pub mod text;
