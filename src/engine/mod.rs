//! What decides. Given versions of job files, ends of processes and the time, it says what
//! happened and what is to be done. It knows no file, process, clock, thread or database.

pub mod dispatch;
pub mod environment;
pub mod numbers;
pub mod outcome;
pub mod replay;
pub mod settings;
pub mod status;
pub mod tracker;
pub mod transitions;
pub mod views;
