//! When what failed is tried again. Whoever waits has a clock of its own, so that nothing that
//! fails every second puts off the next try of something else.

use std::time::Duration;

/// How long after inotify, a scan, a job's file, a process or the cluster's files could not be
/// had they are tried again.
pub const LOOK: Duration = Duration::from_secs(1);

/// How long after the journal could not be written it is tried again.
pub const WRITE: Duration = Duration::from_secs(1);

/// How long after something was short that scripts need they are tried again.
pub const RUN: Duration = Duration::from_secs(1);

/// How long after a guard that did not live another one is started.
pub const GUARD: Duration = Duration::from_secs(1);
