//! Nobody else is stopped, and nothing is attached when nobody is meant.

use std::fs;
use std::path::Path;

use ganeti_hookd::world::process::kernel_stop::{Arming, KernelStop, MAX_ARMED};

use super::all_that_work;
use super::renamer::{CALLS, Renamer};

/// Files that are not a job's.
const OTHERS: &[&str] = &[
    "job-",
    "job-x",
    "job-1x",
    "job-1.new",
    "job-1:",
    "job-/",
    "job",
    "jobs-1",
    "serial",
    "xjob-1",
    "job-184467440737095516150",
    "archive/job-1",
    "../other/job-1",
    "./job-1",
];

pub fn who_is_not_meant_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, new) = (dir.path().join("queue"), dir.path().join("new"));
    fs::create_dir_all(queue.join("archive")).unwrap();
    fs::create_dir_all(dir.path().join("other")).unwrap();
    for (_, mut kernel) in all_that_work(&queue) {
        let (mut armed, mut other) = (Renamer::start(), Renamer::start());
        kernel.arm(armed.pid()).unwrap();
        let go = |process: &mut Renamer, call: &str, target: &Path| {
            fs::write(&new, "").unwrap();
            let _ = fs::remove_file(target);
            process.rename(call, &new, target, &dir.path().join("marker"));
            // A stopped one would never get there.
            process.wait_done();
        };
        for call in CALLS {
            go(&mut other, call, &queue.join("job-1"));
            for name in OTHERS.iter().filter(|name| !name.ends_with('/')) {
                go(&mut armed, call, &queue.join(name));
            }
        }
        assert_eq!(kernel.state(armed.pid()), Ok(Arming::Armed));
        assert_eq!(kernel.state(other.pid()), Ok(Arming::Not));
        assert_eq!(kernel.disarm(armed.pid()), Ok(Arming::Armed));
        go(&mut armed, "rename", &queue.join("job-1"));
    }
}

pub fn nothing_is_attached_while_nobody_is_armed() {
    let dir = tempfile::tempdir().unwrap();
    let mut kernel = KernelStop::new(dir.path()).unwrap();
    assert!(!kernel.is_attached());
    kernel.arm(1).unwrap();
    kernel.arm(2).unwrap();
    assert_eq!(kernel.disarm(1), Ok(Arming::Armed));
    assert!(kernel.take_unused().is_none() && kernel.is_attached());
    assert_eq!(kernel.disarm(2), Ok(Arming::Armed));
    assert_eq!(kernel.disarm(2), Ok(Arming::Not));
    drop(kernel.take_unused().unwrap());
    assert!(kernel.take_unused().is_none());
    assert!(!kernel.is_attached());
}

pub fn too_many_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut kernel = KernelStop::new(dir.path()).unwrap();
    (1..=MAX_ARMED).for_each(|pid| kernel.arm(pid).unwrap());
    let reason = kernel.arm(MAX_ARMED + 1).unwrap_err().to_string();
    assert!(reason.contains("too many"), "{reason}");
    assert_eq!(kernel.state(MAX_ARMED + 1), Ok(Arming::Not));
    kernel.disarm(1).unwrap();
    kernel.arm(MAX_ARMED + 1).unwrap();
}

pub fn a_queue_that_is_not_there_is_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let reason = KernelStop::new(&dir.path().join("nowhere")).unwrap_err().to_string();
    assert!(reason.contains("nowhere") && reason.contains("No such file"), "{reason}");
    let deep = (0..30).fold(dir.path().to_owned(), |path, _| path.join("twenty-characters-00"));
    fs::create_dir_all(&deep).unwrap();
    assert!(KernelStop::new(&deep).unwrap_err().to_string().contains("longer than"));
}
