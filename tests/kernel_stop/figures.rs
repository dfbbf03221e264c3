//! What it costs: `docs/performance.md` has the figures.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ganeti_hookd::world::process::kernel_stop::KernelStop;

use super::renamer::Renamer;
use super::{all_that_work, comes};

/// A process that is armed and never publishes: it has no such ID.
const NOBODY: u32 = u32::MAX;

pub fn figures() {
    let dir = tempfile::tempdir().unwrap();
    println!("unattached: {}", others(dir.path()));
    for (attachment, mut kernel) in all_that_work(dir.path()) {
        kernel.arm(NOBODY).unwrap();
        println!("{attachment}: {}", others(dir.path()));
        let arm = per_call(1000, || {
            kernel.arm(1).unwrap();
            assert!(kernel.disarm(1).is_ok());
        });
        println!("  arm and disarm {arm:?}; rename until it goes on {}", held(&mut kernel, dir.path()));
        kernel.disarm(NOBODY).unwrap();
        drop(kernel.take_unused());
        println!("  {}", attach_and_detach(&mut kernel));
        let made = per_call(5, || drop(KernelStop::with(dir.path(), &[attachment]).unwrap()));
        println!("  made in {made:?}; unattached again: {}", others(dir.path()));
    }
}

/// What a cheap system call and a rename cost others.
fn others(dir: &Path) -> String {
    let best = |calls, call: &mut dyn FnMut()| (0..7).map(|_| per_call(calls, &mut *call)).min().unwrap();
    let cheap = best(200_000, &mut || {
        std::hint::black_box(std::os::unix::process::parent_id());
    });
    let (one, other) = (dir.join("one"), dir.join("other"));
    fs::write(&one, "").unwrap();
    let renames = best(10_000, &mut || {
        fs::rename(&one, &other).unwrap();
        fs::rename(&other, &one).unwrap();
    });
    format!("getppid {cheap:?}, rename {:?}", renames / 2)
}

/// Both as the clock shows it, and how much of it this thread worked.
fn attach_and_detach(kernel: &mut KernelStop) -> String {
    let worked = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let (mut attach, mut detach, mut work) = (vec![], vec![], [vec![], vec![]]);
    for _ in 0..30 {
        let begin = worked();
        attach.push(per_call(1, || kernel.attach().unwrap()));
        let between = worked();
        detach.push(per_call(1, || drop(kernel.take_unused())));
        work[0].push(between - begin);
        work[1].push(worked() - between);
    }
    let [attaching, detaching] = work.map(middle);
    format!("attach {} working {attaching}, detach {} working {detaching}", middle(attach), middle(detach))
}

/// From telling a process to rename until it says that it is done, armed less unarmed:
/// who looks for the stop does so all the time and lets it go on at once.
fn held(kernel: &mut KernelStop, dir: &Path) -> String {
    let mut process = Renamer::start();
    let [new, job, marker] = ["new", "job-1", "marker"].map(|name| dir.join(name));
    let mut times = [vec![], vec![]];
    for round in 0..200 {
        let is_armed = round % 2 == 1;
        fs::write(&new, "").unwrap();
        if is_armed {
            kernel.arm(process.pid()).unwrap();
        }
        let begin = Instant::now();
        process.rename("rename", &new, &job, &marker);
        if is_armed {
            assert!(comes(|| kernel.stands(process.pid())));
            process.go_on();
        }
        process.wait_done();
        times[usize::from(is_armed)].push(begin.elapsed());
        kernel.disarm(process.pid()).unwrap();
    }
    let [unarmed, armed] = times.map(middle);
    format!("{armed}, unarmed {unarmed}")
}

/// The median, and the longest.
fn middle(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    format!("{:?} (at most {:?})", times[times.len() / 2], times[times.len() - 1])
}

fn per_call(calls: u32, mut call: impl FnMut()) -> Duration {
    let begin = Instant::now();
    (0..calls).for_each(|_| call());
    begin.elapsed() / calls
}
