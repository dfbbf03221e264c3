//! The queue directory: reading job files, scanning, watching.

pub mod mounts;
pub mod read;
pub mod scan;
pub mod watch;
