//! The machine: whatever versions of a job come, its events are well-formed.
#![no_main]

use std::borrow::Cow;

use ganeti_hookd::ganeti::event::Phase;
use ganeti_hookd::ganeti::job::{Job, JobId, Liveness, Opcode, Status, Timestamp};
use ganeti_hookd::engine::transitions::{Progress, step};
use libfuzzer_sys::fuzz_target;

/// One opcode from two bytes.
fn opcode(status: u8, flags: u8) -> Opcode<'static> {
    let statuses = [
        Status::Queued,
        Status::Waiting,
        Status::Canceling,
        Status::Running,
        Status::Canceled,
        Status::Success,
        Status::Error,
    ];
    let time = |bit: u8| (flags & bit != 0).then_some(Timestamp::from_micros(1));
    Opcode {
        code: Cow::Borrowed("OP_TEST_DELAY"),
        status: statuses[usize::from(status) % statuses.len()],
        started: time(1),
        executed: time(2),
        ended: time(4),
        death_detected: flags & 8 != 0,
        text: Default::default(),
    }
}

/// A version of a job from bytes, with what is known of its process.
fn version(id: JobId, bytes: &[u8]) -> (Job<'static>, Liveness) {
    let liveness = match bytes.first().copied().unwrap_or_default() % 3 {
        0 => Liveness::Alive,
        1 => Liveness::Unknown,
        _ => Liveness::Dead,
    };
    let ops = bytes[1..].chunks_exact(2).map(|pair| opcode(pair[0], pair[1])).collect();
    (
        Job { id, received: Timestamp::default(), livelock: None, process_id: None, started: None, ops },
        liveness,
    )
}

fuzz_target!(|data: &[u8]| {
    let Ok(id) = JobId::try_from(1) else { return };
    let Some((&size, data)) = data.split_first() else { return };
    let size = 1 + 2 * (1 + usize::from(size % 4));
    let (mut progress, mut told) = (Progress::default(), Vec::new());
    for bytes in data.chunks_exact(size) {
        let (job, liveness) = version(id, bytes);
        let result = step(progress, &job, liveness);
        // Nothing goes back, and what is to be told is told at once.
        assert!(result.progress.next >= progress.next);
        let again = step(result.progress, &job, liveness);
        assert!(again.transitions.is_empty() && again.progress == result.progress, "{job:?}");
        progress = result.progress;
        told.extend(result.transitions);
    }
    // In order, each once: a pre only before its post, a status only after.
    for pair in told.windows(2) {
        assert!((pair[0].op, pair[0].phase) < (pair[1].op, pair[1].phase), "{told:?}");
    }
    for transition in &told {
        assert_eq!(transition.status.is_some(), transition.phase == Phase::Post, "{told:?}");
        assert!(transition.phase == Phase::Post || transition.executed, "{told:?}");
        assert!(transition.op <= progress.next, "{told:?}");
    }
    // A post says that the opcode executed exactly if its pre was told.
    for post in told.iter().filter(|transition| transition.phase == Phase::Post) {
        let pre = told.iter().any(|other| other.op == post.op && other.phase == Phase::Pre);
        assert_eq!(post.executed, pre, "{told:?}");
    }
});
