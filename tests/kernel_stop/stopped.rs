//! Who is armed and publishes is stopped in the rename, always.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ganeti_hookd::world::process::kernel_stop::{Arming, KernelStop, standing_in_rename};

use super::renamer::{CALLS, Renamer};
use super::{all_that_work, comes};

/// How often each attachment is tried.
const TRIES: usize = 50;

/// So many failures are enough.
const ENOUGH: usize = 3;

/// How long a process that has been stopped is given to go on nevertheless.
const STANDS_FOR: Duration = Duration::from_millis(3);

pub fn each_is_stopped_before_the_rename_returns() {
    let dir = tempfile::tempdir().unwrap();
    for (attachment, mut kernel) in all_that_work(dir.path()) {
        let tries = (0..TRIES).map(|number| one_try(&mut kernel, dir.path(), number));
        // Each failure takes all the patience there is.
        let failures: Vec<String> = tries.filter_map(Result::err).take(ENOUGH).collect();
        let passed = if failures.len() < ENOUGH { TRIES - failures.len() } else { 0 };
        println!("{attachment}: {passed} passed, {} failed", failures.len());
        assert!(failures.is_empty(), "{failures:#?}");
    }
}

/// A process of its own publishes a version of a job, and another one that may pass.
fn one_try(kernel: &mut KernelStop, queue: &Path, number: usize) -> Result<(), String> {
    let [new, marker] = ["new", "marker"].map(|name| queue.join(format!("{name}-{number}")));
    let job = queue.join(format!("job-{number}"));
    let _ = fs::remove_file(&job);
    let _ = fs::remove_file(&marker);
    fs::write(&new, "running").unwrap();

    let mut process = Renamer::start();
    let pid = process.pid();
    kernel.arm(pid).map_err(|reason| reason.to_string())?;
    process.rename(CALLS[number % CALLS.len()], &new, &job, &marker);
    let stands = comes(|| kernel.stands(pid));
    let in_rename = standing_in_rename(pid) || cfg!(target_arch = "aarch64");
    let published = fs::read_to_string(&job);
    let since = Instant::now();
    while since.elapsed() < STANDS_FOR && !marker.exists() {}
    let (went_on, became) = (marker.exists(), kernel.disarm(pid));
    process.go_on();
    process.wait_done();
    if !stands || !in_rename || went_on || became != Ok(Arming::Stopped) || published.is_err() {
        return Err(format!(
            "{number}: stands {stands}, {in_rename}, went on {went_on}, {became:?}, {published:?}"
        ));
    }
    // One arming gives one stop.
    fs::write(&new, "success").unwrap();
    process.rename("rename", &new, &job, &marker);
    process.wait_done();
    Ok(())
}

pub fn one_that_stands_can_be_armed_again() {
    let dir = tempfile::tempdir().unwrap();
    let [new, marker] = ["new", "marker"].map(|name| dir.path().join(name));
    let job = dir.path().join("job-18446744073709551615");
    for (_, mut kernel) in all_that_work(dir.path()) {
        let mut process = Renamer::start();
        kernel.arm(process.pid()).unwrap();
        for _ in 0..5 {
            fs::write(&new, "waiting").unwrap();
            process.rename("rename", &new, &job, &marker);
            assert!(comes(|| kernel.state(process.pid()) == Ok(Arming::Stopped)));
            assert!(comes(|| kernel.stands(process.pid())));
            kernel.arm(process.pid()).unwrap();
            assert_eq!(kernel.state(process.pid()), Ok(Arming::Armed));
            process.go_on();
            process.wait_done();
            assert!(!kernel.stands(process.pid()));
        }
        assert_eq!(kernel.disarm(process.pid()), Ok(Arming::Armed));
    }
}

pub fn both_forms_of_the_queues_path_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().canonicalize().unwrap().join("real"), dir.path().join("link"));
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let (new, marker) = (real.join("new"), dir.path().join("marker"));
    let mut kernel = KernelStop::new(&link).unwrap();
    for form in [&real, &link] {
        let mut process = Renamer::start();
        kernel.arm(process.pid()).unwrap();
        fs::write(&new, "").unwrap();
        process.rename("rename", &new, &form.join("job-7"), &marker);
        assert!(comes(|| kernel.stands(process.pid())), "{}", form.display());
        assert_eq!(kernel.disarm(process.pid()), Ok(Arming::Stopped));
    }
}
